//! Confirmations: one task asks the gatekeepers whether the positions that queries read are still the newest. The round's
//! nonce is the root of the queries' receipts, so the gatekeepers countersign these as well.

use std::{collections::BTreeMap, sync::Arc};

use tacit_api::gatekeeper::{CONFIRM, ConfirmAnswer, ConfirmRequest};
use tacit_receipt::{QuorumConfirmation, SignedConfirmation, query_nonce};
use tacit_threshold::{MAX_CONFIRM, Refusal, collect::ConfirmCollector};
use tacit_types::{
    Digest, FunctionId, merkle,
    register::{Position, confirmation_leaf},
    signature::SigningKey,
};
use tokio::sync::{mpsc, oneshot};

use crate::{certificates::Certified, gatekeepers::Gatekeepers, metrics::Metrics};

/// Queries that wait for a round.
const QUEUE: usize = 8_192;
/// Rounds that are under way at the same time.
const ROUNDS: usize = 4;

/// Why a query's position was not confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotConfirmed {
    /// The position is not the newest, or the lease does not count any more.
    #[error("{0}")]
    Refused(Refusal),
    /// Too few gatekeepers answered.
    #[error("fewer gatekeepers answered than a quorum has")]
    Unanswered,
}

/// A query's position and receipt.
pub(crate) struct Asked {
    pub function: FunctionId,
    pub position: Position,
    pub receipt: Digest,
    pub certified: Arc<Certified>,
}

struct Job {
    asked: Asked,
    reply: oneshot::Sender<Result<QuorumConfirmation, NotConfirmed>>,
}

/// Asks for confirmations.
#[derive(Clone)]
pub(crate) struct Confirmer {
    sender: mpsc::Sender<Job>,
}

impl Confirmer {
    pub fn start(gatekeepers: Gatekeepers, key: SigningKey, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(Arc::new(Asker { gatekeepers, key, metrics }), receiver));
        Self { sender }
    }

    /// Gets a position confirmed in a round that begins after this is called.
    pub async fn confirm(&self, asked: Asked) -> Result<QuorumConfirmation, NotConfirmed> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Job { asked, reply }).await.map_err(|_| NotConfirmed::Unanswered)?;
        answer.await.unwrap_or(Err(NotConfirmed::Unanswered))
    }
}

struct Asker {
    gatekeepers: Gatekeepers,
    key: SigningKey,
    metrics: Arc<Metrics>,
}

async fn run(asker: Arc<Asker>, mut receiver: mpsc::Receiver<Job>) {
    let places = Arc::new(tokio::sync::Semaphore::new(ROUNDS));
    let mut waiting = Vec::new();
    loop {
        // Taken first, so that what arrives while all rounds are under way goes into one next round.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        if receiver.recv_many(&mut waiting, MAX_CONFIRM).await == 0 {
            return;
        }
        let mut by_certificate: BTreeMap<_, Vec<Job>> = BTreeMap::new();
        for job in waiting.drain(..) {
            by_certificate.entry(job.asked.certified.id).or_default().push(job);
        }
        let asker = Arc::clone(&asker);
        tokio::spawn(async move {
            let _place = place;
            for jobs in by_certificate.into_values() {
                asker.settle(jobs).await;
            }
        });
    }
}

/// What gatekeepers said of one position: who signed it, and why others did not.
#[derive(Default)]
struct Found {
    signatures: Vec<SignedConfirmation>,
    refusal: Option<Refusal>,
}

impl Asker {
    async fn settle(&self, jobs: Vec<Job>) {
        let round = Round::new(&jobs);
        let found = self.ask(&round, &jobs).await;
        let quorum = self.gatekeepers.set.quorum() as usize;
        for (index, job) in jobs.into_iter().enumerate() {
            let Some(found) = found.get(round.places[index]) else { continue };
            let answer = if found.signatures.len() >= quorum {
                Ok(round.confirmation(index, self.gatekeepers.set.epoch, &found.signatures))
            } else if let Some(refusal) = &found.refusal {
                Err(NotConfirmed::Refused(refusal.clone()))
            } else {
                self.metrics.quorum_failures_total.add(1);
                Err(NotConfirmed::Unanswered)
            };
            let _ = job.reply.send(answer);
        }
    }

    /// Asks every gatekeeper, until a quorum signed every position or all have answered.
    async fn ask(&self, round: &Round, jobs: &[Job]) -> Vec<Found> {
        let Some(first) = jobs.first() else { return Vec::new() };
        let (cluster, set) = (self.gatekeepers.cluster, &self.gatekeepers.set);
        self.metrics.confirmation_rounds_total.add(1);
        let question =
            ConfirmRequest::signed(cluster, first.asked.certified.id, round.nonce, &round.positions, &self.key);
        let mut collector = ConfirmCollector::new(set, cluster, round.nonce, round.positions.clone());
        let mut answers = self.gatekeepers.ask_all::<_, ConfirmAnswer>(CONFIRM, &question);
        let mut found: Vec<Found> = round.positions.iter().map(|_| Found::default()).collect();
        while let Some((index, answer)) = answers.recv().await {
            let Ok(answer) = answer else { continue };
            let refused: BTreeMap<usize, Refusal> =
                answer.refused.iter().map(|refused| (refused.at as usize, refused.refusal.clone())).collect();
            let listed: Vec<_> = refused.iter().map(|(place, refusal)| (*place, refusal.clone())).collect();
            let signed = answer.signature.map(|signature| (answer.time, signature));
            if listed.len() != answer.refused.len() || collector.add(index, signed, &listed).is_err() {
                tracing::warn!(gatekeeper = index, "its confirmation does not hold");
                continue;
            }
            if let Some((time, signature)) = signed {
                let with: Vec<usize> = (0..found.len()).filter(|place| !refused.contains_key(place)).collect();
                let leaves: Vec<Digest> = with.iter().map(|place| round.leaves[*place]).collect();
                for (at, place) in with.into_iter().enumerate() {
                    let path = merkle::proof(&leaves, at).unwrap_or_default();
                    found[place].signatures.push(SignedConfirmation { index, time, path, signature });
                }
            }
            for (place, refusal) in refused {
                found[place].refusal = Some(refusal);
            }
            if collector.is_complete() {
                break;
            }
        }
        for position in &mut found {
            position.signatures.sort_by_key(|signed| signed.index);
        }
        found
    }
}

/// The positions of one round, each once, and what every job needs of it.
struct Round {
    positions: Vec<(FunctionId, Position)>,
    leaves: Vec<Digest>,
    /// Place of each job's position.
    places: Vec<usize>,
    receipt_leaves: Vec<Digest>,
    nonce: Digest,
}

impl Round {
    fn new(jobs: &[Job]) -> Self {
        let mut positions: Vec<(FunctionId, Position)> = Vec::new();
        let mut known = std::collections::HashMap::new();
        let mut places = Vec::with_capacity(jobs.len());
        for Job { asked, .. } in jobs {
            let place = *known.entry((asked.function, asked.position)).or_insert_with(|| {
                positions.push((asked.function, asked.position));
                positions.len() - 1
            });
            places.push(place);
        }
        let receipts: Vec<Digest> = jobs.iter().map(|job| job.asked.receipt).collect();
        Self {
            leaves: positions.iter().map(|(function, position)| confirmation_leaf(*function, position)).collect(),
            receipt_leaves: receipts.iter().map(|receipt| merkle::leaf(*receipt)).collect(),
            nonce: query_nonce(&receipts),
            positions,
            places,
        }
    }

    fn confirmation(&self, index: usize, epoch: u64, signatures: &[SignedConfirmation]) -> QuorumConfirmation {
        QuorumConfirmation {
            epoch,
            nonce: self.nonce,
            receipt_path: merkle::proof(&self.receipt_leaves, index).unwrap_or_default(),
            signatures: signatures.to_vec(),
        }
    }
}
