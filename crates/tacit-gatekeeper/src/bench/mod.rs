//! Figures of a running cluster as a certified worker sees them: rows `gatekeepers.derive.cold`, `gatekeepers.ack.p50` and
//! `gatekeepers.acks_per_s`.

mod admission;

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rand::Rng as _;
use tacit_api::gatekeeper::{
    ACKNOWLEDGE, AcknowledgeAnswer, AcknowledgeOutcome, AcknowledgeRequest, LEASE, LeaseAnswer, LeaseItem,
    LeaseItemAnswer, LeaseRequest, MAX_LEASE_ITEMS, PARTIAL, PARTIAL_INFO, PartialAnswer, PartialRequest,
};
use tacit_envelope::{TransportKey, open_with};
use tacit_threshold::{
    Batch, HeldLease,
    collect::{AckCollector, LeaseCollector, Plan},
    subkeys::{Partial, combine},
};
use tacit_types::{
    CertificateId, ClusterId, Digest, FunctionId, Head, UnixTime,
    eip712::Certificate,
    quorum::GatekeeperSet,
    register::{Ack, LeaseRole, Position},
    signature::SigningKey,
};

use crate::{client::GatekeeperClient, config::Clock, error::GatekeeperError};

/// Functions in one batch of the grouped row.
pub const GROUP: usize = 128;

/// Leases taken in one request: each needs facts that the gatekeeper reads from the chain by proof, and a request has 30 s.
const TAKEN_TOGETHER: usize = 16;
const _: () = assert!(TAKEN_TOGETHER <= MAX_LEASE_ITEMS);

/// A certified worker and functions that it may hold; nobody else may hold them meanwhile.
pub struct Subject {
    /// The gatekeepers in index order.
    pub gatekeepers: Vec<GatekeeperClient>,
    /// Their set.
    pub set: GatekeeperSet,
    /// The cluster.
    pub cluster: ClusterId,
    /// The worker's receipt key.
    pub receipt_key: SigningKey,
    /// Its certificate, known to every gatekeeper.
    pub certificate: Certificate,
    /// Registered functions, at least one; the grouped row needs some hundred to show what grouping gives.
    pub functions: Vec<FunctionId>,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Median milliseconds from a fresh transport key to a function's root key, t gatekeepers asked at once.
    pub derive_cold_ms: f64,
    /// Derivations measured.
    pub derivations: usize,
    /// Median milliseconds from one commit to its quorum acknowledgement, one at a time.
    pub ack_p50_ms: f64,
    /// Acknowledgements measured one at a time.
    pub acks: usize,
    /// Quorum acknowledgements per second in groups of 128 functions.
    pub acks_per_s: f64,
    /// Acknowledgements measured in groups.
    pub grouped: usize,
}

struct Held {
    lease: HeldLease,
    position: Position,
}

/// Measures for about `time` in all.
///
/// # Errors
/// When a gatekeeper cannot be reached or refuses what it should grant.
pub async fn run(subject: &Subject, time: Duration) -> Result<Figures, GatekeeperError> {
    let mut held = take_all(subject).await?;
    let third = time / 3;

    let mut derivations = Vec::new();
    let until = Instant::now() + third;
    while derivations.is_empty() || Instant::now() < until {
        let number = derivations.len() % held.len();
        derivations.push(derive(subject, &held[number].lease).await?);
    }

    let mut acks = Vec::new();
    let until = Instant::now() + third;
    while acks.is_empty() || Instant::now() < until {
        acks.push(acknowledge(subject, &mut held[..1], false).await?);
    }

    let (begun, mut grouped) = (Instant::now(), 0);
    while grouped == 0 || begun.elapsed() < third {
        futures::future::try_join_all(held.chunks_mut(GROUP).map(|group| acknowledge(subject, group, false))).await?;
        grouped += held.len();
    }
    let acks_per_s = grouped as f64 / begun.elapsed().as_secs_f64();
    Ok(Figures {
        derive_cold_ms: median(&mut derivations),
        derivations: derivations.len(),
        ack_p50_ms: median(&mut acks),
        acks: acks.len(),
        acks_per_s,
        grouped,
    })
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

fn refused(client: &GatekeeperClient, what: impl std::fmt::Debug) -> GatekeeperError {
    GatekeeperError::Answer { url: client.url().to_owned(), what: format!("{what:?}") }
}

fn id(subject: &Subject) -> CertificateId {
    subject.certificate.id(subject.cluster)
}

fn now() -> UnixTime {
    Clock::system().now()
}

async fn lease_items(subject: &Subject, items: Vec<LeaseItem>) -> Result<Vec<Vec<LeaseItemAnswer>>, GatekeeperError> {
    let request = LeaseRequest::signed(subject.cluster, id(subject), items, &subject.receipt_key);
    let ask = subject.gatekeepers.iter().map(|client| client.post::<LeaseAnswer>(LEASE, &request));
    Ok(futures::future::try_join_all(ask).await?.into_iter().map(|answer| answer.items).collect())
}

async fn take_all(subject: &Subject) -> Result<Vec<Held>, GatekeeperError> {
    let mut held = Vec::with_capacity(subject.functions.len());
    for functions in subject.functions.chunks(TAKEN_TOGETHER) {
        let views = lease_items(subject, functions.iter().copied().map(LeaseItem::Read).collect()).await?;
        let mut leases = Vec::with_capacity(functions.len());
        for (number, function) in functions.iter().enumerate() {
            let mut of_function = std::collections::BTreeMap::new();
            for (index, items) in (0u32..).zip(&views) {
                if let Some(LeaseItemAnswer::View(view)) = items.get(number) {
                    of_function.insert(index, view.clone());
                }
            }
            let plan = Plan::from_views(&subject.set, now(), &of_function)
                .ok_or_else(|| GatekeeperError::Genesis(format!("function {function} is not known to a quorum")))?;
            leases.push(plan.lease(*function, id(subject), LeaseRole::Writer, now().plus(100)));
        }
        let granted = lease_items(subject, leases.iter().cloned().map(LeaseItem::Grant).collect()).await?;
        for (number, lease) in leases.into_iter().enumerate() {
            let mut collector = LeaseCollector::new(&subject.set, subject.cluster, lease, subject.certificate.clone());
            for ((index, client), items) in (0u32..).zip(&subject.gatekeepers).zip(&granted) {
                match items.get(number) {
                    Some(LeaseItemAnswer::Granted(granted)) => collector
                        .add(index, granted.signature, granted.entry.as_ref())
                        .map_err(|error| refused(client, error))?,
                    other => return Err(refused(client, other)),
                }
            }
            let (lease, position) =
                collector.held().ok_or_else(|| GatekeeperError::Genesis("no quorum granted the lease".into()))?;
            held.push(Held { lease, position });
        }
    }
    for group in held.chunks_mut(GROUP) {
        acknowledge(subject, group, true).await?;
    }
    Ok(held)
}

/// Adopts (with the leases shown) or advances the positions of a group and waits for all gatekeepers; returns the time until a
/// quorum had answered.
async fn acknowledge(subject: &Subject, group: &mut [Held], adopt: bool) -> Result<Duration, GatekeeperError> {
    let (begun, time) = (Instant::now(), now());
    let acks = group.iter_mut().map(|held| {
        if !adopt {
            let mut head = [0; 32];
            rand::rng().fill_bytes(&mut head);
            held.position = Position { sequence: held.position.sequence + 1, head: Head::from(head), ..held.position };
        }
        Ack {
            epoch: subject.set.epoch,
            function_id: held.lease.lease.function_id,
            fence: held.lease.lease.fence,
            sequence: held.position.sequence,
            head: held.position.head,
            receipts_root: Digest::ZERO,
            time,
        }
    });
    let batch =
        Batch::new(subject.cluster, acks.collect()).map_err(|error| GatekeeperError::Genesis(error.to_string()))?;
    let leases = if adopt { group.iter().map(|held| held.lease.clone()).collect() } else { Vec::new() };
    let request = AcknowledgeRequest::signed(subject.cluster, id(subject), &batch, leases, &subject.receipt_key);
    let mut collector = AckCollector::new(&subject.set, subject.cluster, batch);
    let mut answers: FuturesUnordered<_> = (0u32..)
        .zip(&subject.gatekeepers)
        .map(|(index, client)| {
            let request = &request;
            async move { (index, client, client.post::<AcknowledgeAnswer>(ACKNOWLEDGE, request).await) }
        })
        .collect();
    let mut quorum = None;
    while let Some((index, client, answer)) = answers.next().await {
        match answer?.outcome {
            AcknowledgeOutcome::Acknowledged(signature) => {
                collector.add(index, signature).map_err(|error| refused(client, error))?;
            }
            other => return Err(refused(client, other)),
        }
        if quorum.is_none() && collector.acknowledged().is_some() {
            quorum = Some(begun.elapsed());
        }
    }
    quorum.ok_or_else(|| GatekeeperError::Genesis("no quorum acknowledged".into()))
}

async fn derive(subject: &Subject, lease: &HeldLease) -> Result<Duration, GatekeeperError> {
    let begun = Instant::now();
    let transport = TransportKey::generate(&mut rand::rng());
    let mut nonce = [0; 32];
    rand::rng().fill_bytes(&mut nonce);
    let public = transport.public().encode();
    let request =
        PartialRequest::signed(subject.cluster, lease.clone(), Digest::from(nonce), public, &subject.receipt_key);
    let statement = request.statement(subject.cluster);
    let asked = subject.gatekeepers.iter().take(subject.set.threshold as usize);
    let answers =
        futures::future::try_join_all(asked.clone().map(|client| client.post::<PartialAnswer>(PARTIAL, &request)))
            .await?;
    let mut partials = Vec::with_capacity(answers.len());
    for ((client, member), answer) in asked.zip(&subject.set.members).zip(answers) {
        answer.verify(&request, subject.cluster, *member).map_err(|error| refused(client, error))?;
        let opened = open_with(&transport, PARTIAL_INFO, statement.as_ref(), &answer.sealed)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| refused(client, error))?;
        partials.push(Partial::from_secret_bytes(answer.index, &opened).map_err(|error| refused(client, error))?);
    }
    let (function, key_epoch) = (request.function_id, request.key_epoch);
    combine(subject.cluster, function, key_epoch, subject.set.size(), subject.set.threshold, &partials)
        .map_err(|error| GatekeeperError::Genesis(error.to_string()))?;
    Ok(begun.elapsed())
}
