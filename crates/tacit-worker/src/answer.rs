//! From a settled outcome to what leaves the worker: signature, place in the log, bundle.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tacit_api::{Problem, ProblemKind, limits::MAX_BUNDLE};
use tacit_receipt::{Bundle, Openings, QuorumConfirmation, VERSION};
use tacit_types::{
    CallId, UnixTime,
    eip712::{Outcome, Receipt},
    manifest::Body,
    register::QuorumAck,
    signature::Signature,
};

use crate::{
    commands::Stated,
    context::Context,
    held::Held,
    outcome::{Ended, Request},
};

/// The quorum's word on an outcome.
pub(crate) enum Word {
    Acknowledged(QuorumAck),
    Confirmed(QuorumConfirmation),
    /// A stale query has none; this is when a quorum last confirmed the state that it read.
    Stale(UnixTime),
}

/// What leaves the worker.
#[derive(Clone)]
pub(crate) struct Answer {
    pub call_id: CallId,
    pub outcome: Outcome,
    pub response: Bytes,
    pub format: Body,
    /// Canonical bytes, with openings: for the caller alone.
    pub bundle: Vec<u8>,
    pub receipt: Receipt,
    pub signature: Signature,
    pub acknowledgement: Option<QuorumAck>,
    pub stale_since: Option<UnixTime>,
}

/// Signs a receipt, appends it to the log and puts the bundle together.
pub(crate) async fn release(
    context: &Context,
    held: &Arc<Held>,
    request: &Request,
    ended: Ended,
    receipt: Receipt,
    word: Word,
) -> Result<Answer, Problem> {
    let stale_since = match word {
        Word::Stale(since) => Some(since),
        Word::Acknowledged(_) | Word::Confirmed(_) => None,
    };
    let bundle = conclude(context, held, &ended, receipt, word).await?;
    let started = Instant::now();
    let Bundle { receipt, signature, acknowledgement, .. } = bundle.clone();
    context.receipts.keep(request.call_id, Arc::new(bundle.clone()));
    let bundle = Bundle { openings: fitting(ended.openings(request)), ..bundle };
    context.metrics.calls_total.add(1);
    if ended.outcome != Outcome::Ok {
        context.metrics.calls_failed_total.add(1);
    }
    let encoded = bundle.encode().map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    context.metrics.release_microseconds_total.since(started);
    Ok(Answer {
        call_id: request.call_id,
        outcome: ended.outcome,
        response: ended.response,
        format: ended.format,
        bundle: encoded,
        receipt,
        signature,
        acknowledgement,
        stale_since,
    })
}

/// Releases a publication: its bundle opens the response, so that anybody who has it can deliver.
pub(crate) async fn publish(context: &Context, held: &Arc<Held>, stated: Stated) -> Result<Arc<Bundle>, Problem> {
    let Stated { waiting, receipt, acknowledgement } = stated;
    let (request, ended) = (waiting.request(held.function), waiting.ended());
    let bundle = conclude(context, held, &ended, receipt, Word::Acknowledged(acknowledgement)).await?;
    let openings = Openings { response: ended.openings(&request).response, ..Openings::default() };
    let bundle = Arc::new(Bundle { openings, ..bundle });
    context.receipts.keep(request.call_id, Arc::clone(&bundle));
    context.metrics.publications_total.add(1);
    Ok(bundle)
}

/// The bundle without openings, with the receipt's signature and its place in the log.
async fn conclude(
    context: &Context,
    held: &Arc<Held>,
    ended: &Ended,
    receipt: Receipt,
    word: Word,
) -> Result<Bundle, Problem> {
    let started = Instant::now();
    let digest = receipt.digest(context.cluster);
    let signature = context.keys.receipt.sign(digest);
    context.metrics.release_microseconds_total.since(started);
    let started = Instant::now();
    let log = context.log.append(digest).await.ok_or_else(|| {
        Problem::new(ProblemKind::StorageUnavailable, "the transparency log cannot be written")
            .with_hint("send it again with the same idempotency key")
    })?;
    context.metrics.log_microseconds_total.since(started);
    let (acknowledgement, confirmation) = match word {
        Word::Acknowledged(ack) => (Some(ack), None),
        Word::Confirmed(confirmation) => (None, Some(confirmation)),
        Word::Stale(_) => (None, None),
    };
    Ok(Bundle {
        version: VERSION,
        cluster: context.cluster,
        receipt,
        signature,
        certificate: held.certified.signed.clone(),
        openings: Openings::default(),
        effects: ended.effects.clone(),
        code: (ended.code_hash == held.version.code_hash).then(|| held.version.code.clone()),
        acknowledgement,
        confirmation,
        log: Some(log),
        evidence: None,
    })
}

/// Leaves out openings that would make the bundle larger than a bundle may be; bytes are twice as long in hex.
fn fitting(mut openings: Openings) -> Openings {
    let size = |opening: &Option<tacit_receipt::Opening>| opening.as_ref().map_or(0, |opening| opening.bytes.len() * 2);
    let room = MAX_BUNDLE / 8 * 7;
    if size(&openings.request) + size(&openings.response) > room {
        if size(&openings.request) > size(&openings.response) {
            openings.request = None;
        } else {
            openings.response = None;
        }
    }
    if size(&openings.request) + size(&openings.response) > room {
        openings.request = None;
        openings.response = None;
    }
    openings
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_receipt::Opening;

    #[test]
    fn openings_that_are_too_large_are_left_out() {
        let opening = |size| Some(Opening { salt: [1; 32].into(), bytes: vec![0; size] });
        let check = |request, response, expected: (bool, bool)| {
            let openings = Openings { request: opening(request), response: opening(response), ..Openings::default() };
            let fitting = fitting(openings);
            assert_eq!((fitting.request.is_some(), fitting.response.is_some()), expected, "{request} {response}");
        };
        check(1 << 20, 1 << 20, (true, true));
        check(8 << 20, 1 << 20, (false, true));
        check(1 << 20, 8 << 20, (true, false));
        check(8 << 20, 9 << 20, (false, false));
    }
}
