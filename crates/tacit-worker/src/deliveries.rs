//! Publications on their way to their contracts: in the order of their sequences, until they are seen final there.
//!
//! What waits stands in the function's committed state, so it moves with the function; a reminder in the open store leads
//! another worker to it when the one that held it is gone. Nothing here is trusted: the contract checks every publication.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tacit_api::{Problem, ProblemKind};
use tacit_ledger::{At, LedgerError};
use tacit_receipt::Bundle;
use tacit_types::{FunctionId, UnixTime};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    answer::publish,
    calls::Calls,
    commands::{Committed, Order, Stated},
    context::Context,
    held::Held,
    publications::{Lane, Waiting, any_waiting, waiting},
    time::now,
    turns::Turns,
};

/// How often what waits is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// How often reminders are looked at.
const REMINDERS_PERIOD: Duration = Duration::from_secs(2);
/// Lanes that are delivered at the same time.
const MOST_RUNNING: usize = 16;
/// Lanes whose setbacks are remembered.
const MOST_SETBACKS: usize = 16_384;
/// Seconds that a call has for releasing the receipts of what it published, before somebody else states them.
const RELEASE: u64 = 5;
/// First and longest time between two tries of one lane, in seconds.
const RETRY: (u64, u64) = (1, 60);
/// A publication that its contract refuses is given up after this many tries of one worker, …
const TRIES: u32 = 5;
/// … and when it has waited for this many seconds.
const PATIENCE: u64 = 3_600;
/// Gas that a contract gets for one publication: enough to store the largest.
const MOST_GAS: u64 = 8_000_000;
/// Functions that are taken over in one look at the reminders.
const MOST_TAKEN: usize = 32;
/// Seconds between two tries to take a function over whose holder is not known to end sooner, at least and at most.
const TAKE_RETRY: (u64, u64) = (2, 60);

type Place = (FunctionId, Lane);

/// Why a lane did not come to its end.
#[derive(Debug)]
enum Setback {
    /// The first publication that is left was refused by its contract, or there is none that takes any.
    Refused(String),
    /// Something else stands in the way: the chain, the quorum, the lease, a receipt that is about to be released.
    Later(String),
}

impl From<Problem> for Setback {
    fn from(problem: Problem) -> Self {
        Self::Later(problem.to_string())
    }
}

#[derive(Default, Clone, Copy)]
struct Setbacks {
    /// Refusals of the publication with this sequence.
    sequence: u64,
    refusals: u32,
    tries: u32,
    next: UnixTime,
}

/// Delivers what functions publish that this worker holds.
pub(crate) struct Deliveries {
    calls: Calls,
    running: JoinSet<(Place, u64, Result<(), Setback>)>,
    under_way: HashSet<Place>,
    /// Lanes that wait for their next try.
    setbacks: HashMap<Place, Setbacks>,
}

impl Deliveries {
    pub fn new(calls: Calls) -> Self {
        Self { calls, running: JoinSet::new(), under_way: HashSet::new(), setbacks: HashMap::new() }
    }

    /// Delivers for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.begin(),
                Some(ended) = self.running.join_next() => self.end(ended),
            }
        }
    }

    /// Begins every lane that is due.
    fn begin(&mut self) {
        let time = now();
        for held in self.calls.functions.held() {
            let mut lanes: BTreeMap<Lane, Vec<Waiting>> = BTreeMap::new();
            for one in waiting(&held.acknowledged().snapshot) {
                lanes.entry(one.lane()).or_default().push(one);
            }
            for (lane, waiting) in lanes {
                let place = (held.function, lane);
                let Some(first) = waiting.first().map(|first| first.publication.sequence) else { continue };
                let setbacks = self.setbacks.get(&place).copied().unwrap_or_default();
                if self.running.len() >= MOST_RUNNING || self.under_way.contains(&place) || setbacks.next > time {
                    continue;
                }
                let refusals = if setbacks.sequence == first { setbacks.refusals } else { 0 };
                self.under_way.insert(place.clone());
                let (context, held) = (Arc::clone(&self.calls.context), Arc::clone(&held));
                self.running.spawn(async move {
                    let delivery = Delivery { context: &context, held: &held, lane: &place.1, refusals };
                    let result = delivery.deliver(waiting).await;
                    (place, first, result)
                });
            }
        }
    }

    fn end(&mut self, ended: Result<(Place, u64, Result<(), Setback>), tokio::task::JoinError>) {
        let Ok((place, sequence, result)) = ended else {
            // Which one it was is not known; what waits is found again.
            self.under_way.clear();
            return;
        };
        self.under_way.remove(&place);
        let setback = match result {
            Ok(()) => {
                self.setbacks.remove(&place);
                return;
            }
            Err(setback) => setback,
        };
        if self.setbacks.len() >= MOST_SETBACKS {
            let time = now();
            self.setbacks.retain(|_, setbacks| setbacks.next > time);
        }
        let (function, Lane { consumer, topic, .. }) = &place;
        let mut setbacks = self.setbacks.get(&place).copied().unwrap_or_default();
        if setbacks.sequence != sequence {
            setbacks = Setbacks { sequence, ..Setbacks::default() };
        }
        match &setback {
            Setback::Refused(reason) => {
                setbacks.refusals = setbacks.refusals.saturating_add(1);
                tracing::info!(%function, %consumer, topic, sequence, reason, "a publication was refused by its contract");
            }
            Setback::Later(reason) => {
                tracing::debug!(%function, %consumer, topic, sequence, reason, "a publication waits");
            }
        }
        setbacks.tries = setbacks.tries.saturating_add(1);
        setbacks.next = now().plus(pause(setbacks.tries));
        self.setbacks.insert(place, setbacks);
    }
}

/// One lane of one function, delivered once.
struct Delivery<'a> {
    context: &'a Context,
    held: &'a Arc<Held>,
    lane: &'a Lane,
    /// How often the first publication was refused before.
    refusals: u32,
}

impl Delivery<'_> {
    /// Delivers what waits, in order, and takes out of the state what is done.
    async fn deliver(&self, waiting: Vec<Waiting>) -> Result<(), Setback> {
        let mut done = Vec::new();
        let result = self.deliver_in_order(waiting, &mut done).await;
        if !done.is_empty() {
            let (reply, answer) = oneshot::channel();
            self.held.send(Order::Settle { names: done, reply })?;
            answer.await.map_err(|_| self.held.problem())??;
        }
        result
    }

    async fn deliver_in_order(&self, waiting: Vec<Waiting>, done: &mut Vec<String>) -> Result<(), Setback> {
        let function = self.held.function;
        let Lane { consumer, topic, .. } = self.lane;
        let seen = self.context.ledger.last_sequence(*consumer, function, topic, At::Final).await.map_err(setback);
        let mut refusals = self.refusals;
        for one in waiting {
            let sequence = one.publication.sequence;
            let delivered = match &seen {
                // Delivered by whomever, or superseded by a later one.
                Ok(last) if sequence <= *last => Ok(()),
                Ok(_) => self.deliver_one(&one).await,
                Err(Setback::Refused(reason)) => Err(Setback::Refused(reason.clone())),
                Err(Setback::Later(reason)) => Err(Setback::Later(reason.clone())),
            };
            match delivered {
                Ok(()) => done.push(one.key().name),
                Err(Setback::Refused(reason)) if is_given_up(refusals + 1, one.time, now()) => {
                    self.context.metrics.publications_dropped_total.add(1);
                    tracing::warn!(
                        %function, %consumer, topic, sequence, reason,
                        "a publication is given up; anybody who has its bundle can still deliver it"
                    );
                    done.push(one.key().name);
                }
                Err(setback) => return Err(setback),
            }
            // Those behind the first have tries of their own.
            refusals = 0;
        }
        Ok(())
    }

    /// Delivers one publication and waits until that is final; with the acknowledgement where the contract asks for it.
    async fn deliver_one(&self, one: &Waiting) -> Result<(), Setback> {
        let bundle = self.bundle(one).await?;
        let Bundle { receipt, signature, acknowledgement, .. } = &*bundle;
        let writer = &self.context.writer.clone().with_most_gas(MOST_GAS);
        let delivered = match (writer.publish(&one.publication, receipt, signature, None).await, acknowledgement) {
            (Err(error), Some(ack))
                if error.refusal().is_some_and(|refusal| refusal.name == "AcknowledgementNeeded") =>
            {
                writer.publish(&one.publication, receipt, signature, Some(ack)).await
            }
            (result, _) => result,
        };
        match delivered {
            Ok(outcome) => {
                self.context.metrics.publications_delivered_total.add(1);
                tracing::info!(
                    function = %self.held.function, consumer = %one.publication.consumer, topic = one.publication.topic,
                    sequence = one.publication.sequence, gas = outcome.gas, "a publication is delivered"
                );
                Ok(())
            }
            // Somebody else delivered it or a later one; it is done when that is final.
            Err(error) if error.refusal().is_some_and(|refusal| refusal.name == "SequenceNotRising") => {
                Err(Setback::Later(error.to_string()))
            }
            Err(error) => Err(setback(error)),
        }
    }

    /// The publication's bundle: as its call released it, or stated once more under the own fence.
    async fn bundle(&self, one: &Waiting) -> Result<Arc<Bundle>, Setback> {
        let call = one.request(self.held.function).call_id;
        let live = |bundle: &Arc<Bundle>| self.context.certificates.live(bundle.receipt.certificate, now()).is_some();
        if let Some(bundle) = self.context.receipts.recent(call).filter(live) {
            return Ok(bundle);
        }
        if one.fence == self.held.fence && now() < one.time.plus(RELEASE) {
            return Err(Setback::Later("its call is about to release its receipt".to_owned()));
        }
        let (reply, answer) = oneshot::channel();
        self.held.send(Order::State { name: one.key().name, reply })?;
        let Committed { receipt, acknowledgement, .. } = answer.await.map_err(|_| self.held.problem())??;
        let stated = Stated { waiting: one.clone(), receipt, acknowledgement };
        Ok(publish(self.context, self.held, stated).await?)
    }
}

/// Whether a publication that was refused so often is given up.
fn is_given_up(refusals: u32, published: UnixTime, now: UnixTime) -> bool {
    refusals >= TRIES && now > published.plus(PATIENCE)
}

/// Seconds between two tries: twice as many each time, up to a bound.
fn pause(tries: u32) -> u64 {
    RETRY.0.checked_shl(tries.saturating_sub(1)).unwrap_or(RETRY.1).clamp(RETRY.0, RETRY.1)
}

/// A refusal of the contract, or of what stands in its place, counts; what may be different the next time does not.
fn setback(error: LedgerError) -> Setback {
    match error {
        LedgerError::Refused(_)
        | LedgerError::Answer(_)
        | LedgerError::Failed { .. }
        | LedgerError::TooMuchGas { .. } => Setback::Refused(error.to_string()),
        _ => Setback::Later(error.to_string()),
    }
}

/// Takes functions over whose publications wait and that nobody holds.
pub(crate) struct Reminded {
    calls: Calls,
    turns: Turns,
    /// When each function was seen first, and when it is tried next.
    seen: HashMap<FunctionId, (UnixTime, UnixTime)>,
}

impl Reminded {
    pub fn new(calls: Calls) -> Self {
        let turns = Turns::new(calls.context.keys.address);
        Self { calls, turns, seen: HashMap::new() }
    }

    /// Looks at the reminders for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(REMINDERS_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(reason) = self.look().await {
                tracing::debug!(%reason, "reminders of publications cannot be looked at");
            }
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let time = now();
        if self.calls.context.certificates.newest(time).is_none() {
            return Ok(());
        }
        let mut functions = self.calls.context.reminders.functions().await.map_err(|error| error.to_string())?;
        self.seen.retain(|function, _| functions.contains(function));
        for held in self.calls.functions.held() {
            functions.remove(&held.function);
            self.seen.remove(&held.function);
        }
        if functions.is_empty() {
            return Ok(());
        }
        self.turns.read(&self.calls.context.ledger).await.map_err(|error| error.to_string())?;
        let mut taken = 0;
        for function in functions {
            let (first, next) = *self.seen.entry(function).or_insert((time, time));
            if taken >= MOST_TAKEN || next > time || first.plus(self.turns.wait(function)) > time {
                continue;
            }
            taken += 1;
            let wait = match self.calls.functions.obtain(function).await {
                Ok(held) => {
                    self.nothing_waits(&held).await;
                    TAKE_RETRY.1
                }
                Err(problem) => {
                    tracing::debug!(%function, %problem, "publications wait in a function that cannot be taken over");
                    let least = if problem.kind == ProblemKind::UnknownFunction { TAKE_RETRY.1 } else { TAKE_RETRY.0 };
                    u64::from(problem.retry_after.unwrap_or(0)).clamp(least, TAKE_RETRY.1)
                }
            };
            self.seen.insert(function, (first, now().plus(wait)));
        }
        Ok(())
    }

    /// Takes away a reminder without anything behind it.
    async fn nothing_waits(&self, held: &Held) {
        if any_waiting(&held.acknowledged().snapshot) {
            return;
        }
        let (reply, answer) = oneshot::channel();
        if held.send(Order::Settle { names: Vec::new(), reply }).is_ok() {
            let _ = answer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_given_up_only_when_it_was_refused_often_and_long() {
        let (published, late) = (UnixTime(1_000), UnixTime(1_001 + PATIENCE));
        assert!(is_given_up(TRIES, published, late));
        assert!(!is_given_up(TRIES - 1, published, late));
        assert!(!is_given_up(u32::MAX, published, UnixTime(1_000 + PATIENCE)));
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<u64> = (0..9).map(pause).collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), 60);
        assert_eq!(pause(64), 60);
    }

    #[test]
    fn what_the_contract_says_counts_and_what_the_way_there_says_does_not() {
        let unreachable = LedgerError::Unreachable { rpc: String::new(), reason: String::new() };
        assert!(matches!(setback(unreachable), Setback::Later(_)));
        assert!(matches!(setback(LedgerError::TooMuchGas { most: 1 }), Setback::Refused(_)));
        assert!(matches!(setback(LedgerError::Answer("lastSequence")), Setback::Refused(_)));
    }
}
