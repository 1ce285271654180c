//! Queries: concurrent, each on a snapshot of the acknowledged state that a quorum confirms before anything is released.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tacit_api::{Problem, ProblemKind};
use tacit_receipt::QuorumConfirmation;
use tacit_threshold::Refusal;
use tacit_types::{
    Digest, UnixTime,
    eip712::{Kind, Outcome, Receipt},
};

use crate::{
    confirmer::{Asked, NotConfirmed},
    context::Context,
    execute::{Admitted, ended_without_running, execute},
    held::{Acknowledged, Held, refusal_problem},
    host::{FunctionHost, View},
    outcome::{Ended, Standing},
    time::now,
};

/// Runs of one query while commits move the state; the last one holds commits back.
const ATTEMPTS: usize = 3;
/// Longest that a query waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// A query's outcome and the quorum's word on it.
pub(crate) struct Answered {
    pub ended: Ended,
    pub receipt: Receipt,
    /// None for a stale query.
    pub confirmation: Option<QuorumConfirmation>,
    /// When a quorum last confirmed the state that was read.
    pub confirmed: UnixTime,
}

/// A query on its way.
pub(crate) struct Query {
    pub admitted: Admitted,
    /// The access rule does not let this caller in.
    pub denied: bool,
    /// Least sequence that the state must have.
    pub least: u64,
}

/// Runs a query.
pub(crate) async fn answer(context: &Context, held: &Held, query: &Query) -> Result<Answered, Problem> {
    let _place = Place::take(context, held)?;
    let turn = tokio::time::timeout(TURN_TIMEOUT, held.queries.acquire()).await;
    let _turn = turn
        .map_err(|_| Problem::new(ProblemKind::Overloaded, "too many queries of this function are running"))?
        .map_err(|_| held.problem())?;
    for attempt in 1..=ATTEMPTS {
        // The last attempt holds commits back while it runs, so that a busy function answers queries too.
        let waiting = if attempt == ATTEMPTS { Some(held.gate.read().await) } else { None };
        if now() > query.admitted.deadline {
            return Err(Problem::new(ProblemKind::DeadlineExpired, "the deadline passed while the call waited"));
        }
        let acknowledged = held.acknowledged();
        if acknowledged.position.sequence < query.least {
            let detail = format!("the newest sequence is {}", acknowledged.position.sequence);
            return Err(Problem::new(ProblemKind::StateBehind, detail));
        }
        let (ended, receipt) = run(context, held, query, &acknowledged).await;
        if query.admitted.kind == Kind::StaleQuery {
            return Ok(Answered { ended, receipt, confirmation: None, confirmed: held.confirmed() });
        }
        let _still = match waiting {
            Some(waiting) => waiting,
            None => held.gate.read().await,
        };
        if held.acknowledged().position != acknowledged.position {
            continue;
        }
        let digest = receipt.digest(context.cluster);
        let started = Instant::now();
        let confirmation = confirm(context, held, &acknowledged, digest).await?;
        context.metrics.confirm_microseconds_total.since(started);
        held.set_confirmed();
        return Ok(Answered { ended, receipt, confirmation: Some(confirmation), confirmed: held.confirmed() });
    }
    Err(Problem::new(ProblemKind::Overloaded, "the state moved faster than the query could read it"))
}

async fn run(context: &Context, held: &Held, query: &Query, acknowledged: &Acknowledged) -> (Ended, Receipt) {
    let time = now();
    let Query { admitted, denied, .. } = query;
    let ended = if *denied {
        ended_without_running(
            &held.version,
            admitted.kind,
            Outcome::Denied,
            "denied",
            "this caller may not call this function",
        )
    } else {
        let view = View::Snapshot(Arc::clone(&acknowledged.snapshot));
        let host = Arc::new(FunctionHost::new(admitted.request.function, view, Arc::clone(&held.version), context));
        execute(context, &held.version, admitted, time, host).await.ended
    };
    let position = acknowledged.position;
    let standing = Standing {
        certificate: held.certified.id,
        epoch: held.certified.signed.certificate.epoch,
        fence: position.fence,
        sequence: position.sequence,
        head_before: position.head,
        head_after: position.head,
        time,
    };
    let receipt = ended.receipt(&admitted.request, &standing);
    (ended, receipt)
}

/// Gets the position confirmed; where a gatekeeper has not seen it, it is acknowledged once more first.
async fn confirm(
    context: &Context,
    held: &Held,
    acknowledged: &Acknowledged,
    receipt: Digest,
) -> Result<QuorumConfirmation, Problem> {
    let asked = || Asked {
        function: held.function,
        position: acknowledged.position,
        receipt,
        certified: Arc::clone(&held.certified),
    };
    let id = held.certified.id;
    let first = match context.confirmer.confirm(asked()).await {
        Ok(confirmation) => return Ok(confirmation),
        Err(error) => error,
    };
    let lagging = matches!(
        first,
        NotConfirmed::Refused(Refusal::Behind { .. } | Refusal::LeaseNotShown | Refusal::UnknownCertificate)
    );
    let last = if lagging {
        let again = held.asked(acknowledged.position, Digest::ZERO, true);
        let _ = context.acknowledger.acknowledge(again).await;
        match context.confirmer.confirm(asked()).await {
            Ok(confirmation) => return Ok(confirmation),
            Err(error) => error,
        }
    } else {
        first
    };
    Err(match last {
        NotConfirmed::Refused(refusal) => refusal_problem(context, id, &refusal),
        NotConfirmed::Unanswered => Problem::new(ProblemKind::QuorumUnavailable, last.to_string())
            .with_hint("no answer is released; a stale query would be answered"),
    })
}

/// A place in the function's queue of queries.
struct Place<'a>(&'a Held);

impl<'a> Place<'a> {
    fn take(context: &Context, held: &'a Held) -> Result<Self, Problem> {
        if held.queued_queries.fetch_add(1, Ordering::AcqRel) >= context.limits.queue {
            held.queued_queries.fetch_sub(1, Ordering::AcqRel);
            return Err(Problem::new(ProblemKind::Overloaded, "too many queries wait for this function"));
        }
        Ok(Self(held))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queued_queries.fetch_sub(1, Ordering::AcqRel);
    }
}
