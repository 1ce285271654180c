//! A function that this worker holds: how it is taken over, and what its calls share.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tacit_api::{Problem, ProblemKind};
use tacit_ledger::{At, FunctionRecord, LedgerError};
use tacit_store::{Snapshot, StoreError};
use tacit_threshold::{HeldLease, Refusal};
use tacit_types::{Address, CertificateId, Digest, FunctionId, UnixTime, register::Position};
use tokio::sync::{RwLock as AsyncRwLock, Semaphore, mpsc, watch};

use crate::{
    acknowledger::{Asked, NotAcknowledged},
    certificates::Certified,
    code::Version,
    commands::{Order, Serial},
    context::Context,
    lease::{self, LeaseError, Taken},
    root_key,
    time::now,
};

/// Why a function is not served any more.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// It is given back: idle, a newer certificate, another version. Waiting commands are still served.
    Retired,
    /// It was lost.
    Lost(Problem),
}

/// The newest state that a quorum acknowledged.
pub(crate) struct Acknowledged {
    pub position: Position,
    pub snapshot: Arc<Snapshot>,
}

/// A function that this worker holds under one lease.
pub(crate) struct Held {
    pub function: FunctionId,
    pub owner: Address,
    pub version: Arc<Version>,
    /// Number of the version.
    pub number: u64,
    pub certified: Arc<Certified>,
    pub fence: u64,
    lease: RwLock<Arc<HeldLease>>,
    orders: mpsc::Sender<Order>,
    /// Queries that run at the same time.
    pub queries: Semaphore,
    /// Queries that wait or run.
    pub queued_queries: AtomicUsize,
    acknowledged: RwLock<Arc<Acknowledged>>,
    /// When a quorum last said that the acknowledged state is the newest.
    confirmed: AtomicU64,
    /// Held for writing while the position moves, for reading while it is confirmed.
    pub gate: AsyncRwLock<()>,
    end: watch::Sender<Option<End>>,
    /// Whether everything is done and the lease given back.
    finished: watch::Sender<bool>,
    used: AtomicU64,
    checked: AtomicU64,
}

impl Held {
    /// Whether calls may be given to it.
    pub fn is_alive(&self, now: UnixTime) -> bool {
        self.end.borrow().is_none() && now < self.lease().lease.until && self.certified.is_live(now)
    }

    /// Ends it; the first reason counts.
    pub fn end(&self, reason: End) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason);
            }
            first
        });
    }

    /// Why it ended, if it did.
    pub fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Everything is done and the lease is given back, or lost.
    pub fn finish(&self) {
        self.finished.send_replace(true);
    }

    /// Waits until everything that was under way is done and the lease is given back.
    pub async fn closed(&self) {
        let mut finished = self.finished.subscribe();
        let _ = finished.wait_for(|finished| *finished).await;
    }

    pub fn lease(&self) -> Arc<HeldLease> {
        Arc::clone(&self.lease.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn renew(&self, lease: HeldLease) {
        *self.lease.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lease);
    }

    pub fn acknowledged(&self) -> Arc<Acknowledged> {
        Arc::clone(&self.acknowledged.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_acknowledged(&self, acknowledged: Acknowledged) {
        *self.acknowledged.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(acknowledged);
        self.set_confirmed();
    }

    /// A quorum said just now that the acknowledged state is the newest.
    pub fn set_confirmed(&self) {
        self.confirmed.store(now().0, Ordering::Relaxed);
    }

    pub fn confirmed(&self) -> UnixTime {
        UnixTime(self.confirmed.load(Ordering::Relaxed))
    }

    /// Gives an order to the one that carries them out one after the other.
    pub fn send(&self, order: Order) -> Result<(), Problem> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Problem::new(ProblemKind::Overloaded, "too many commands wait for this function")
            }
            mpsc::error::TrySendError::Closed(_) => {
                // Nobody serves any more, whatever the reason: the next call takes the function over again.
                self.end(End::Lost(Problem::new(ProblemKind::NotHolder, "the function is not served any more")));
                self.problem()
            }
        })
    }

    /// Why a call cannot be served any more.
    pub fn problem(&self) -> Problem {
        match self.ended() {
            Some(End::Lost(problem)) => problem,
            Some(End::Retired) => Problem::new(ProblemKind::NotHolder, "the function was given back just now"),
            None => Problem::new(ProblemKind::NotHolder, "the lease ended"),
        }
    }

    pub fn touch(&self) {
        self.used.store(now().0, Ordering::Relaxed);
    }

    pub fn idle_seconds(&self, now: UnixTime) -> u64 {
        now.0.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Whether it is time to look at the function's record again; says yes once a second.
    pub fn is_due_for_a_look(&self, now: UnixTime) -> bool {
        self.checked.fetch_max(now.0, Ordering::Relaxed) < now.0
    }

    pub fn asked(&self, position: Position, receipts_root: Digest, show_lease: bool) -> Asked {
        Asked {
            function: self.function,
            position,
            receipts_root,
            certified: Arc::clone(&self.certified),
            lease: self.lease(),
            show_lease,
        }
    }
}

/// A function's record in the newest final block.
pub(crate) async fn record(context: &Context, function: FunctionId) -> Result<FunctionRecord, Problem> {
    match context.ledger.function(function, At::Final).await {
        Ok(Some(record)) => Ok(record),
        Ok(None) => {
            Err(Problem::new(ProblemKind::UnknownFunction, format!("{function} is not registered in a final block")))
        }
        Err(error) => Err(chain_problem(&error)),
    }
}

/// Takes a function over: lease, root key, state up to exactly the acknowledged position, acknowledged again under the own
/// fence.
pub(crate) async fn take_over(context: &Arc<Context>, function: FunctionId) -> Result<Arc<Held>, Problem> {
    let certified = context
        .certificates
        .newest(now())
        .ok_or_else(|| Problem::new(ProblemKind::NotCertified, "this worker has no live certificate"))?;
    let record = record(context, function).await?;
    let version = context.loader.load(&record).await?;
    let key = &context.keys.receipt;
    let taken = lease::take(&context.gatekeepers, &certified, key, function, context.limits.lease_seconds)
        .await
        .map_err(|error| lease_problem(context, certified.id, &error))?;
    context.metrics.leases_taken_total.add(1);
    let fence = taken.held.lease.fence;
    match serve(context, &record, version, &certified, taken).await {
        Ok(held) => {
            tracing::info!(%function, fence, sequence = held.acknowledged().position.sequence, "taken over");
            Ok(held)
        }
        Err(problem) => {
            tracing::warn!(%function, fence, %problem, "cannot be served here");
            let (context, certified) = (Arc::clone(context), Arc::clone(&certified));
            tokio::spawn(async move {
                lease::release(&context.gatekeepers, &certified, &context.keys.receipt, function, fence).await;
            });
            Err(problem)
        }
    }
}

async fn serve(
    context: &Arc<Context>,
    record: &FunctionRecord,
    version: Arc<Version>,
    certified: &Arc<Certified>,
    taken: Taken,
) -> Result<Arc<Held>, Problem> {
    let Taken { held: lease, from } = taken;
    let (function, fence, key_epoch) = (record.id, lease.lease.fence, lease.lease.key_epoch);
    if lease.lease.code_hash != version.code_hash {
        return Err(Problem::new(
            ProblemKind::ChainUnavailable,
            "gatekeepers and this worker see different versions yet",
        ));
    }
    let mut log =
        root_key::open_state(&context.gatekeepers, &context.keys.receipt, &lease, Arc::clone(&context.state), from)
            .await?;
    log.write_under(fence, key_epoch).map_err(|error| store_problem(&error))?;
    let position = log.position().ok_or_else(|| Problem::new(ProblemKind::Internal, "the log has no fence"))?;
    let lease = Arc::new(lease);
    let asked = Asked {
        function,
        position,
        receipts_root: Digest::ZERO,
        certified: Arc::clone(certified),
        lease: Arc::clone(&lease),
        show_lease: true,
    };
    context
        .acknowledger
        .acknowledge(asked)
        .await
        .map_err(|error| not_acknowledged_problem(context, certified.id, &error))?;
    let manifest = &version.code.manifest;
    let concurrency = usize::try_from(manifest.limits.concurrency).unwrap_or(usize::MAX);
    let (orders, receiver) = mpsc::channel(context.limits.queue);
    let (end, ending) = watch::channel(None);
    let acknowledged = Acknowledged { position, snapshot: Arc::new(log.snapshot()) };
    let held = Arc::new(Held {
        function,
        owner: record.owner,
        number: record.versions,
        version,
        certified: Arc::clone(certified),
        fence,
        lease: RwLock::new(lease),
        orders,
        queries: Semaphore::new(concurrency),
        queued_queries: AtomicUsize::new(0),
        acknowledged: RwLock::new(Arc::new(acknowledged)),
        confirmed: AtomicU64::new(now().0),
        gate: AsyncRwLock::new(()),
        end,
        finished: watch::Sender::new(false),
        used: AtomicU64::new(now().0),
        checked: AtomicU64::new(now().0),
    });
    match tokio::time::timeout(Duration::from_secs(10), log.collect()).await {
        Ok(Ok(0)) => {}
        Ok(Ok(deleted)) => tracing::info!(%function, deleted, "objects that cannot count were removed"),
        Ok(Err(error)) => tracing::warn!(%function, %error, "the state's folder cannot be tidied"),
        Err(_) => tracing::warn!(%function, "the state's folder is slow"),
    }
    tokio::spawn(Serial::new(Arc::clone(context), Arc::clone(&held), log).run(receiver, ending));
    Ok(held)
}

/// A chain failure as callers see it.
pub(crate) fn chain_problem(error: &LedgerError) -> Problem {
    Problem::new(ProblemKind::ChainUnavailable, error.to_string())
        .with_hint("functions that this worker holds are still served")
}

/// A lease failure as callers see it.
pub(crate) fn lease_problem(context: &Context, certificate: CertificateId, error: &LeaseError) -> Problem {
    match error {
        LeaseError::Held { until } => {
            let wait = u32::try_from(until.0.saturating_sub(now().0).clamp(1, 120)).unwrap_or(120);
            Problem::new(ProblemKind::NotHolder, format!("another worker holds it, at least until {until}"))
                .with_retry_after(wait)
        }
        LeaseError::Quorum { .. } => {
            Problem::new(ProblemKind::QuorumUnavailable, error.to_string()).with_hint("nothing was run; try again")
        }
        LeaseError::Refused(refusal) => refusal_problem(context, certificate, refusal),
    }
}

/// A failed acknowledgement as callers see it.
pub(crate) fn not_acknowledged_problem(
    context: &Context,
    certificate: CertificateId,
    error: &NotAcknowledged,
) -> Problem {
    match error {
        NotAcknowledged::Lost(refusal) => refusal_problem(context, certificate, refusal),
        NotAcknowledged::Unanswered => Problem::new(ProblemKind::QuorumUnavailable, error.to_string())
            .with_hint("no answer is released; send it again with the same idempotency key"),
    }
}

/// A gatekeeper's refusal as callers see it. A revoked certificate is forgotten, which silences the worker.
pub(crate) fn refusal_problem(context: &Context, certificate: CertificateId, refusal: &Refusal) -> Problem {
    let kind = match refusal {
        Refusal::CertificateRevoked => {
            context.certificates.remove(certificate);
            ProblemKind::NotCertified
        }
        Refusal::CertificateExpired | Refusal::CertificateNotYetValid | Refusal::UnknownCertificate => {
            ProblemKind::NotCertified
        }
        Refusal::UnknownFunction => ProblemKind::UnknownFunction,
        Refusal::HeldByOther { .. }
        | Refusal::NotHolder { .. }
        | Refusal::FenceTooLow { .. }
        | Refusal::Stale { .. }
        | Refusal::Fork => ProblemKind::NotHolder,
        _ => ProblemKind::QuorumUnavailable,
    };
    Problem::new(kind, refusal.to_string())
}

/// A store failure as callers see it.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::RolledBack { .. } => Problem::new(ProblemKind::StateRolledBack, error.to_string())
            .with_hint("give the store back what it lost; only the owner may reset the function to an older sequence"),
        StoreError::DiskFull(_) => Problem::new(ProblemKind::StorageUnavailable, error.to_string())
            .with_hint("the command did not run and nothing was lost"),
        _ => Problem::new(ProblemKind::StorageUnavailable, error.to_string()),
    }
}
