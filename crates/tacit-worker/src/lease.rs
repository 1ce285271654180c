//! Leases: taken from a quorum, renewed together, given back.

use std::{collections::BTreeMap, time::Duration};

use tacit_api::gatekeeper::{LEASE, LeaseAnswer, LeaseItem, LeaseItemAnswer, LeaseRequest, MAX_LEASE_ITEMS};
use tacit_threshold::{
    HeldLease, Refusal,
    collect::{LeaseCollector, Plan},
};
use tacit_types::{
    FunctionId, UnixTime,
    register::{Lease, LeaseRole, Position},
    signature::SigningKey,
};

use crate::{admission, certificates::Certified, gatekeepers::Gatekeepers, time::now};

/// How long further views are waited for once q have come.
const GRACE: Duration = Duration::from_millis(50);
/// Attempts to take a lease while others take it too.
const ATTEMPTS: usize = 4;

/// Why a lease could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("fewer than {needed} gatekeepers answered")]
    Quorum { needed: u32 },
    #[error("another worker holds the lease until {until}")]
    Held { until: UnixTime },
    #[error("{0}")]
    Refused(Refusal),
}

/// A lease that a quorum granted, and the position to take over from.
pub(crate) struct Taken {
    pub held: HeldLease,
    pub from: Position,
}

/// Takes the writer's lease of a function.
pub(crate) async fn take(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    function: FunctionId,
    seconds: u64,
) -> Result<Taken, LeaseError> {
    let mut last = LeaseError::Quorum { needed: gatekeepers.set.quorum() };
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
        let plan = match read(gatekeepers, certified, key, function).await {
            Err(LeaseError::Refused(Refusal::UnknownCertificate)) => {
                admission::show(gatekeepers, certified).await;
                last = LeaseError::Refused(Refusal::UnknownCertificate);
                continue;
            }
            other => other?,
        };
        if let Some((holder, until)) = plan.holder
            && holder != certified.id
        {
            return Err(LeaseError::Held { until });
        }
        let until = now().plus(seconds).min(certified.signed.certificate.not_after);
        let lease = plan.lease(function, certified.id, LeaseRole::Writer, until);
        match grant(gatekeepers, certified, key, lease).await {
            Ok(taken) => return Ok(taken),
            Err(LeaseError::Refused(Refusal::HeldByOther { until })) => return Err(LeaseError::Held { until }),
            Err(LeaseError::Refused(Refusal::UnknownCertificate)) => {
                admission::show(gatekeepers, certified).await;
                last = LeaseError::Refused(Refusal::UnknownCertificate);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn read(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    function: FunctionId,
) -> Result<Plan, LeaseError> {
    let needed = gatekeepers.set.quorum();
    let question = LeaseRequest::signed(gatekeepers.cluster, certified.id, vec![LeaseItem::Read(function)], key);
    let mut answers = gatekeepers.ask_all::<_, LeaseAnswer>(LEASE, &question);
    let mut views = BTreeMap::new();
    let mut refused = None;
    let mut grace: Option<tokio::time::Instant> = None;
    loop {
        let next = match grace {
            None => answers.recv().await,
            Some(until) => tokio::time::timeout_at(until, answers.recv()).await.unwrap_or_default(),
        };
        let Some((index, answer)) = next else { break };
        match answer.map(|answer| answer.items.into_iter().next()) {
            Ok(Some(LeaseItemAnswer::View(view))) => _ = views.insert(index, view),
            Ok(Some(LeaseItemAnswer::Refused(refusal))) => refused = Some(refusal),
            _ => {}
        }
        if views.len() >= needed as usize && grace.is_none() {
            grace = Some(tokio::time::Instant::now() + GRACE);
        }
    }
    if views.len() < needed as usize {
        return Err(refused.map_or(LeaseError::Quorum { needed }, LeaseError::Refused));
    }
    Plan::from_views(&gatekeepers.set, now(), &views).ok_or(LeaseError::Refused(Refusal::UnknownFunction))
}

/// Asks for a promise of this very lease.
async fn grant(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    lease: Lease,
) -> Result<Taken, LeaseError> {
    let needed = gatekeepers.set.quorum();
    let question = LeaseRequest::signed(gatekeepers.cluster, certified.id, vec![LeaseItem::Grant(lease.clone())], key);
    let certificate = certified.signed.certificate.clone();
    let mut collector = LeaseCollector::new(&gatekeepers.set, gatekeepers.cluster, lease, certificate);
    let mut answers = gatekeepers.ask_all::<_, LeaseAnswer>(LEASE, &question);
    let mut refused = None;
    while let Some((index, answer)) = answers.recv().await {
        match answer.map(|answer| answer.items.into_iter().next()) {
            Ok(Some(LeaseItemAnswer::Granted(granted))) => {
                if let Err(error) = collector.add(index, granted.signature, granted.entry.as_ref()) {
                    tracing::warn!(gatekeeper = index, %error, "a grant does not prove itself");
                }
            }
            Ok(Some(LeaseItemAnswer::Refused(refusal))) => refused = Some(refusal),
            _ => {}
        }
        if let Some((held, from)) = collector.held() {
            return Ok(Taken { held, from });
        }
    }
    Err(refused.map_or(LeaseError::Quorum { needed }, LeaseError::Refused))
}

/// What became of one renewal.
pub(crate) enum Renewal {
    /// The same lease with a later end.
    Renewed(Box<HeldLease>),
    /// More gatekeepers refused than a quorum can miss.
    Lost(Refusal),
    /// Too few answered; the old lease stands as long as it lasts.
    Unanswered,
}

/// Renews leases of one certificate together.
pub(crate) async fn renew(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    leases: Vec<Lease>,
) -> Vec<Renewal> {
    let mut renewals = Vec::with_capacity(leases.len());
    for leases in leases.chunks(MAX_LEASE_ITEMS) {
        renewals.extend(renew_some(gatekeepers, certified, key, leases).await);
    }
    renewals
}

async fn renew_some(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    leases: &[Lease],
) -> Vec<Renewal> {
    let set = &gatekeepers.set;
    let items = leases.iter().cloned().map(LeaseItem::Grant).collect();
    let question = LeaseRequest::signed(gatekeepers.cluster, certified.id, items, key);
    let certificate = &certified.signed.certificate;
    let mut collectors: Vec<_> = leases
        .iter()
        .map(|lease| LeaseCollector::new(set, gatekeepers.cluster, lease.clone(), certificate.clone()))
        .collect();
    let mut refusals: Vec<Vec<Refusal>> = vec![Vec::new(); leases.len()];
    let mut answers = gatekeepers.ask_all::<_, LeaseAnswer>(LEASE, &question);
    while let Some((index, answer)) = answers.recv().await {
        let Ok(answer) = answer else { continue };
        for ((item, collector), refusals) in answer.items.into_iter().zip(&mut collectors).zip(&mut refusals) {
            match item {
                LeaseItemAnswer::Granted(granted) => {
                    let _ = collector.add(index, granted.signature, granted.entry.as_ref());
                }
                LeaseItemAnswer::Refused(refusal) => refusals.push(refusal),
                LeaseItemAnswer::View(_) | LeaseItemAnswer::Released => {}
            }
        }
        if collectors.iter().all(|collector| collector.held().is_some()) {
            break;
        }
    }
    let spare = (set.size() - set.quorum()) as usize;
    let outcomes = collectors.into_iter().zip(refusals).map(|(collector, mut refusals)| match collector.held() {
        Some((held, _)) => Renewal::Renewed(Box::new(held)),
        None if refusals.len() > spare => refusals.pop().map_or(Renewal::Unanswered, Renewal::Lost),
        None => Renewal::Unanswered,
    });
    outcomes.collect()
}

/// Gives a lease back, so that another worker need not wait for its end.
pub(crate) async fn release(
    gatekeepers: &Gatekeepers,
    certified: &Certified,
    key: &SigningKey,
    function: FunctionId,
    fence: u64,
) {
    let items = vec![LeaseItem::Release { function_id: function, fence }];
    let question = LeaseRequest::signed(gatekeepers.cluster, certified.id, items, key);
    let mut answers = gatekeepers.ask_all::<_, LeaseAnswer>(LEASE, &question);
    while answers.recv().await.is_some() {}
}
