//! What a service answered: the checks of section 9.3.

use serde_json::Value;
use tacit_receipt::aci::{AciError, AciReceipt, BareDigest, PrefixedDigest, Serving, Session, UpstreamOutcome};
use tacit_types::UnixTime;
use tacit_types::keyset::ACI_KEY_ID;

use super::{TranscriptLog, VerifiedService};
use crate::anchor::chain_text;
use crate::report::Steps;
use crate::{Report, StepName, VerifyError};

/// Seconds by which a service's clock may be ahead.
const SKEW: u64 = 300;

/// One request and its answer, with what is said about them.
pub struct Exchange<'a> {
    /// The receipt.
    pub receipt: &'a AciReceipt,
    /// The request's bytes, as the service processed them: of a sealed request the restored body.
    pub request: &'a [u8],
    /// The response's bytes as they came over the wire.
    pub response: &'a [u8],
    /// The session that the receipt cites, of an aggregator.
    pub session: Option<&'a Session>,
    /// Sessions of which one had to serve; none for any.
    pub pinned: &'a [BareDigest],
    /// The receipt's place in the service's log.
    pub log: Option<&'a TranscriptLog>,
}

impl VerifiedService {
    /// Reports every check about one answer of this service; `now` is the latest time at which it can have been served. The
    /// service's own checks are not repeated.
    pub fn report_exchange(&self, exchange: &Exchange<'_>, now: UnixTime) -> Report {
        let mut steps = Steps::default();
        record_exchange(&mut steps, self, exchange, now);
        let mut report = steps.report(true);
        report.root = Some(self.evidence.root_name().to_owned());
        report
    }
}

pub(super) fn record_exchange(steps: &mut Steps, service: &VerifiedService, exchange: &Exchange<'_>, now: UnixTime) {
    let receipt = exchange.receipt;
    let aci = |error: AciError| VerifyError::Aci(chain_text(&error));
    // Tacit's services sign with a key that has no other role; others name their keys as they like.
    let role = match receipt.inference() {
        Some(_) if receipt.key_id() != ACI_KEY_ID => {
            Err(VerifyError::Mismatch("signed by a key that has another role"))
        }
        _ => Ok(()),
    };
    let signature = role.and_then(|()| receipt.check_signature(&service.keyset).map_err(aci));
    steps.record(StepName::AciSignature, signature);
    steps.record(StepName::AciReceiptKeyset, check_keyset(service, receipt, now));
    let holds = |hash: PrefixedDigest, bytes: &[u8], text| {
        if hash == PrefixedDigest::of(bytes) { Ok(()) } else { Err(VerifyError::Mismatch(text)) }
    };
    let text = "the request is not the receipt's";
    steps.record(StepName::AciRequest, holds(receipt.received(), exchange.request, text));
    let text = "the response is not the receipt's";
    steps.record(StepName::AciResponse, holds(receipt.returned(), exchange.response, text));
    let cited = steps.record(StepName::AciUpstream, check_upstream(service.serving, receipt));
    if let Some(Some(id)) = cited {
        steps.record(StepName::AciSession, check_session(exchange, id));
    }
    if let Some(inference) = receipt.inference() {
        let stated = stated_usage(exchange.response);
        let same = stated.is_none_or(|(prompt, completion)| {
            (prompt, completion) == (inference.usage.prompt_tokens, inference.usage.completion_tokens)
        });
        let other = VerifyError::Mismatch("the response states another usage than the receipt");
        steps.record(StepName::Inference, if same { Ok(()) } else { Err(other) });
    }
    match (exchange.log, receipt.inference()) {
        (Some(log), _) => drop(steps.record(StepName::Log, check_log(service, receipt, log))),
        // Tacit's services log every receipt; others may have no log.
        (None, Some(_)) => {
            let missing = VerifyError::Missing("the proof that the receipt stands in the log");
            steps.record::<()>(StepName::Log, Err(missing));
        }
        (None, None) => {}
    }
}

/// `receipt-2`, and that it was served while the keys were valid, as far as the service's clock says.
fn check_keyset(service: &VerifiedService, receipt: &AciReceipt, now: UnixTime) -> Result<(), VerifyError> {
    receipt.check_keyset(service.digest).map_err(|error| VerifyError::Aci(chain_text(&error)))?;
    if receipt.served_at() >= service.keyset.not_after {
        return Err(VerifyError::Time("the receipt was served after the keys were over"));
    }
    if receipt.served_at() > now.plus(SKEW) {
        return Err(VerifyError::Time("the receipt was served in the future"));
    }
    Ok(())
}

/// `upstream-1`. Gives the session that is cited, of an aggregator.
fn check_upstream(serving: Serving, receipt: &AciReceipt) -> Result<Option<BareDigest>, VerifyError> {
    let mut upstreams = receipt.upstreams().peekable();
    match (serving, upstreams.peek()) {
        (Serving::Direct, None) => Ok(None),
        (Serving::Direct, Some(_)) => {
            Err(VerifyError::Mismatch("a service that runs the model itself records an upstream"))
        }
        (Serving::Aggregator, None) => Err(VerifyError::Mismatch("an aggregator's receipt records no upstream")),
        (Serving::Aggregator, Some(_)) => {
            let verified = upstreams.find_map(|upstream| match upstream.outcome {
                UpstreamOutcome::Verified { session_id } if upstream.required => Some(session_id),
                _ => None,
            });
            let unverified = VerifyError::Mismatch("the receipt records an upstream that did not have to be verified");
            verified.map(Some).ok_or(unverified)
        }
    }
}

/// `upstream-2`.
fn check_session(exchange: &Exchange<'_>, cited: BareDigest) -> Result<(), VerifyError> {
    if !exchange.pinned.is_empty() && !exchange.pinned.contains(&cited) {
        return Err(VerifyError::Mismatch("the cited session is none of those that had to serve"));
    }
    let session = exchange.session.ok_or(VerifyError::Missing("the session that the receipt cites"))?;
    let served_at = exchange.receipt.served_at();
    session.check(cited, served_at).map_err(|error| VerifyError::Aci(chain_text(&error)))
}

fn check_log(service: &VerifiedService, receipt: &AciReceipt, log: &TranscriptLog) -> Result<(), VerifyError> {
    let refuse = |error: &dyn std::error::Error| VerifyError::Log(chain_text(error));
    if service.origin.as_ref().is_some_and(|origin| *origin != log.origin) {
        return Err(VerifyError::Log("the log is not that of the certified worker".to_owned()));
    }
    let note_key = service.keyset.note_key().map_err(|error| refuse(&error))?;
    log.proof.verify(receipt.digest(), &log.origin, &note_key).map_err(|error| refuse(&error)).map(drop)
}

/// Prompt and completion tokens that a response states: in its own `usage`, or in the last one of a stream. Nothing where it
/// states none.
fn stated_usage(response: &[u8]) -> Option<(u64, u64)> {
    if response.trim_ascii_start().starts_with(b"{") {
        return usage_in(response);
    }
    let text = std::str::from_utf8(response).ok()?;
    let chunks = text.lines().rev().filter_map(|line| line.strip_prefix("data:"));
    chunks.map(str::as_bytes).find_map(usage_in)
}

fn usage_in(json: &[u8]) -> Option<(u64, u64)> {
    let body: Value = serde_json::from_slice(json).ok()?;
    let usage = body.get("usage")?;
    let completion = usage.get("completion_tokens").map_or(Some(0), Value::as_u64)?;
    Some((usage.get("prompt_tokens")?.as_u64()?, completion))
}
