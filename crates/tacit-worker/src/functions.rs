//! The functions that this worker holds: taken when called, renewed together, given back when idle.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tacit_api::{Problem, ProblemKind};
use tacit_ledger::At;
use tacit_types::FunctionId;

use crate::{
    context::Context,
    held::{self, End, Held, refusal_problem},
    lease::{self, Renewal},
    time::now,
};

/// How long a failed take-over is the answer to further calls.
const FAILURE_STANDS: Duration = Duration::from_millis(200);
/// Longest that the end of an earlier lease of this worker is waited for.
const CLOSING: Duration = Duration::from_secs(20);

/// All functions that are or were held. Shared.
#[derive(Clone)]
pub(crate) struct Functions {
    context: Arc<Context>,
    slots: Arc<Mutex<HashMap<FunctionId, Arc<Slot>>>>,
    /// Whether this worker is ending and takes nothing over any more.
    ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct Slot {
    /// Locked while the function is taken over.
    held: tokio::sync::Mutex<Option<Arc<Held>>>,
    /// The same, readable without waiting.
    current: Mutex<Option<Arc<Held>>>,
    failure: Mutex<Option<(tokio::time::Instant, Problem)>>,
}

impl Slot {
    fn alive(&self) -> Option<Arc<Held>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|held| held.is_alive(now())).cloned()
    }

    fn set(&self, held: Option<Arc<Held>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn recent_failure(&self) -> Option<Problem> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(until, _)| *until > tokio::time::Instant::now()).map(|(_, problem)| problem.clone())
    }

    fn fail(&self, problem: &Problem) {
        let until = tokio::time::Instant::now() + FAILURE_STANDS;
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, problem.clone()));
    }
}

impl Functions {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, slots: Arc::default(), ending: Arc::default() }
    }

    /// The function, taken over if it is not held.
    pub async fn obtain(&self, function: FunctionId) -> Result<Arc<Held>, Problem> {
        let slot = self.slot(function)?;
        if self.ending.load(Ordering::Acquire) {
            return Err(Problem::new(ProblemKind::NotHolder, "this worker is ending"));
        }
        let held = match slot.alive() {
            Some(held) => held,
            None => self.take_over(&slot, function).await?,
        };
        held.touch();
        self.look(&held);
        Ok(held)
    }

    fn slot(&self, function: FunctionId) -> Result<Arc<Slot>, Problem> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&function) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= self.context.limits.functions {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.alive().is_some());
        }
        if slots.len() >= self.context.limits.functions {
            let idle = slots.values().filter_map(|slot| slot.alive()).max_by_key(|held| held.idle_seconds(now()));
            if let Some(idle) = idle {
                idle.end(End::Retired);
            }
            return Err(Problem::new(ProblemKind::Overloaded, "this worker holds as many functions as it may"));
        }
        Ok(Arc::clone(slots.entry(function).or_default()))
    }

    async fn take_over(&self, slot: &Arc<Slot>, function: FunctionId) -> Result<Arc<Held>, Problem> {
        // On a task of its own: a caller that goes away must not leave a take-over half done.
        let (this, slot) = (self.clone(), Arc::clone(slot));
        let task = tokio::spawn(async move {
            let mut place = slot.held.lock().await;
            if let Some(held) = slot.alive() {
                return Ok(held);
            }
            if let Some(problem) = slot.recent_failure() {
                return Err(problem);
            }
            if let Some(old) = place.take() {
                slot.set(None);
                old.end(End::Retired);
                let _ = tokio::time::timeout(CLOSING, old.closed()).await;
            }
            match held::take_over(&this.context, function).await {
                Ok(held) => {
                    *place = Some(Arc::clone(&held));
                    slot.set(Some(Arc::clone(&held)));
                    Ok(held)
                }
                Err(problem) => {
                    slot.fail(&problem);
                    Err(problem)
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(Problem::new(ProblemKind::Internal, "the take-over broke off")))
    }

    /// Every function that is held and alive.
    pub fn held(&self) -> Vec<Arc<Held>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter_map(|slot| slot.alive()).collect()
    }

    /// Looks, at most once a second and behind the call's back, whether another version counts.
    fn look(&self, held: &Arc<Held>) {
        if !held.is_due_for_a_look(now()) {
            return;
        }
        let (context, held) = (Arc::clone(&self.context), Arc::clone(held));
        tokio::spawn(async move {
            // A chain that does not answer changes nothing: the lease says what runs.
            if let Ok(Some(record)) = context.ledger.function(held.function, At::Final).await {
                let lease = held.lease();
                if record.code_hash != held.version.code_hash || record.key_epoch != lease.lease.key_epoch {
                    tracing::info!(function = %held.function, "another version or key epoch counts");
                    held.end(End::Retired);
                }
            }
        });
    }

    /// Renews leases for ever, and gives back what is idle or stands under an old certificate.
    pub async fn keep(self) {
        let period = Duration::from_millis(self.context.limits.lease_seconds.saturating_mul(1_000) / 3);
        let mut ticks = tokio::time::interval(period.max(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let time = now();
        let newest = self.context.certificates.newest(time).map(|certified| certified.id);
        let mut by_certificate: BTreeMap<_, Vec<Arc<Held>>> = BTreeMap::new();
        let all = self.held();
        self.context.metrics.functions_held.set(all.len() as u64);
        for held in all {
            let outdated = newest.is_some_and(|newest| newest != held.certified.id);
            if outdated || held.idle_seconds(time) > self.context.limits.idle_seconds {
                held.end(End::Retired);
            } else if self.context.certificates.live(held.certified.id, time).is_none() {
                held.end(End::Lost(Problem::new(ProblemKind::NotCertified, "the certificate does not count any more")));
            } else {
                by_certificate.entry(held.certified.id).or_default().push(held);
            }
        }
        for held in by_certificate.into_values() {
            self.renew_together(held).await;
        }
    }

    async fn renew_together(&self, all: Vec<Arc<Held>>) {
        let Some(certified) = all.first().map(|held| Arc::clone(&held.certified)) else { return };
        let until = now().plus(self.context.limits.lease_seconds).min(certified.signed.certificate.not_after);
        let leases = all.iter().map(|held| {
            let mut lease = held.lease().lease.clone();
            lease.until = lease.until.max(until);
            lease
        });
        let outcomes =
            lease::renew(&self.context.gatekeepers, &certified, &self.context.keys.receipt, leases.collect()).await;
        for (held, outcome) in all.into_iter().zip(outcomes) {
            match outcome {
                Renewal::Renewed(lease) => held.renew(*lease),
                Renewal::Unanswered => {}
                Renewal::Lost(refusal) => {
                    use tacit_threshold::Refusal;
                    let changed =
                        matches!(refusal, Refusal::CodeChanged | Refusal::ManifestChanged | Refusal::KeyEpochChanged);
                    let end = if changed {
                        End::Retired
                    } else {
                        End::Lost(refusal_problem(&self.context, certified.id, &refusal))
                    };
                    held.end(end);
                }
            }
        }
    }

    /// Ends everything at once: the certificate does not count any more.
    pub fn lose_all(&self, problem: &Problem) {
        for held in self.held() {
            held.end(End::Lost(problem.clone()));
        }
    }

    /// Gives everything back and waits for it, so that other workers need not wait for leases to end.
    pub async fn give_back(&self) {
        self.ending.store(true, Ordering::Release);
        let all = self.held();
        for held in &all {
            held.end(End::Retired);
        }
        for held in all {
            let _ = tokio::time::timeout(CLOSING, held.closed()).await;
        }
    }
}
