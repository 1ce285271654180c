//! Acknowledgements: one task asks the gatekeepers for the commits of all functions together.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tacit_api::gatekeeper::{
    ACKNOWLEDGE, AcknowledgeAnswer, AcknowledgeOutcome, AcknowledgeRequest, CERTIFICATE, CertificateAnswer,
    CertificateRequest, MAX_SHOWN_LEASES, Version1,
};
use tacit_threshold::{Batch, HeldLease, MAX_BATCH, Refusal, collect::AckCollector};
use tacit_types::{
    Digest, FunctionId,
    register::{Ack, Position, QuorumAck},
    signature::{Signature, SigningKey},
};
use tokio::sync::{mpsc, oneshot};

use crate::{certificates::Certified, gatekeepers::Gatekeepers, metrics::Metrics, time::now};

/// Commits that wait for a round.
const QUEUE: usize = 8_192;

/// Why a position was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotAcknowledged {
    /// The lease, the certificate or the position does not count any more.
    #[error("{0}")]
    Lost(Refusal),
    /// Too few gatekeepers answered: whether the position counts is not known.
    #[error("fewer gatekeepers answered than a quorum has")]
    Unanswered,
}

/// A position to be acknowledged.
pub(crate) struct Asked {
    pub function: FunctionId,
    pub position: Position,
    /// Root over the receipts of the commit.
    pub receipts_root: Digest,
    pub certified: Arc<Certified>,
    pub lease: Arc<HeldLease>,
    /// Whether gatekeepers may not have seen that a quorum granted the lease.
    pub show_lease: bool,
}

struct Job {
    asked: Asked,
    reply: oneshot::Sender<Result<QuorumAck, NotAcknowledged>>,
}

/// Asks for acknowledgements.
#[derive(Clone)]
pub(crate) struct Acknowledger {
    sender: mpsc::Sender<Job>,
}

impl Acknowledger {
    pub fn start(gatekeepers: Gatekeepers, key: SigningKey, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let asker = Arc::new(Asker { gatekeepers, key, metrics });
        tokio::spawn(asker.run(receiver));
        Self { sender }
    }

    /// Gets one position acknowledged; its `receipt_path` is for the caller to fill in.
    pub async fn acknowledge(&self, asked: Asked) -> Result<QuorumAck, NotAcknowledged> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Job { asked, reply }).await.map_err(|_| NotAcknowledged::Unanswered)?;
        answer.await.unwrap_or(Err(NotAcknowledged::Unanswered))
    }
}

struct Asker {
    gatekeepers: Gatekeepers,
    key: SigningKey,
    metrics: Arc<Metrics>,
}

/// What one round found for each of its members.
enum RoundOutcome {
    Acknowledged(Vec<QuorumAck>),
    /// These are refused by more gatekeepers than a quorum can miss; the others may be asked for again.
    Lost(BTreeMap<usize, Refusal>),
    /// Some gatekeepers refuse these, so that no quorum accepts the whole.
    Mixed(BTreeSet<usize>),
    Unanswered,
}

impl Asker {
    async fn run(self: Arc<Self>, mut receiver: mpsc::Receiver<Job>) {
        let mut waiting: VecDeque<Job> = VecDeque::new();
        let mut received = Vec::new();
        loop {
            if waiting.is_empty() && receiver.recv_many(&mut received, MAX_BATCH).await == 0 {
                return;
            }
            while let Ok(job) = receiver.try_recv() {
                received.push(job);
                if received.len() >= QUEUE {
                    break;
                }
            }
            waiting.extend(received.drain(..));
            let round = next_round(&mut waiting);
            self.clone().settle(round).await;
        }
    }

    /// Asks until every job of a round has its answer. Gatekeepers accept a batch as a whole or not at all, so what stands
    /// in the way is asked for on its own.
    async fn settle(self: Arc<Self>, round: Vec<Job>) {
        let mut rounds = VecDeque::from([round]);
        while let Some(mut round) = rounds.pop_front() {
            match self.ask(&round).await {
                RoundOutcome::Acknowledged(acks) => {
                    for (job, ack) in round.into_iter().zip(acks) {
                        let _ = job.reply.send(Ok(ack));
                    }
                }
                RoundOutcome::Lost(refusals) => {
                    let mut rest = Vec::new();
                    for (index, job) in round.into_iter().enumerate() {
                        match refusals.get(&index) {
                            Some(refusal) => _ = job.reply.send(Err(NotAcknowledged::Lost(refusal.clone()))),
                            None => rest.push(job),
                        }
                    }
                    if !rest.is_empty() {
                        rounds.push_back(rest);
                    }
                }
                RoundOutcome::Mixed(indices) if round.len() > 1 => {
                    for index in indices.into_iter().rev() {
                        rounds.push_back(vec![round.remove(index)]);
                    }
                    if !round.is_empty() {
                        rounds.push_front(round);
                    }
                }
                RoundOutcome::Mixed(_) | RoundOutcome::Unanswered => {
                    self.metrics.quorum_failures_total.add(1);
                    for job in round {
                        let _ = job.reply.send(Err(NotAcknowledged::Unanswered));
                    }
                }
            }
        }
    }

    async fn ask(self: &Arc<Self>, round: &[Job]) -> RoundOutcome {
        let Some(first) = round.first() else { return RoundOutcome::Acknowledged(Vec::new()) };
        let (cluster, set) = (self.gatekeepers.cluster, Arc::clone(&self.gatekeepers.set));
        let time = now();
        let acks = round.iter().map(|Job { asked, .. }| Ack {
            epoch: set.epoch,
            function_id: asked.function,
            fence: asked.position.fence,
            sequence: asked.position.sequence,
            head: asked.position.head,
            receipts_root: asked.receipts_root,
            time,
        });
        let batch = match Batch::new(cluster, acks.collect()) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "an impossible batch of acknowledgements");
                return RoundOutcome::Unanswered;
            }
        };
        self.metrics.acknowledgement_rounds_total.add(1);
        let certified = Arc::clone(&first.asked.certified);
        let leases: Arc<Vec<Arc<HeldLease>>> = Arc::new(round.iter().map(|job| Arc::clone(&job.asked.lease)).collect());
        let show: Arc<BTreeSet<usize>> = Arc::new(
            round.iter().enumerate().filter(|(_, job)| job.asked.show_lease).map(|(index, _)| index).collect(),
        );
        let signature = batch.sign(cluster, certified.id, &self.key);
        let (sender, mut answers) = mpsc::channel(set.members.len().max(1));
        for index in self.gatekeepers.indices() {
            let question = Question {
                asker: Arc::clone(self),
                acks: batch.acks().to_vec(),
                signature,
                certified: Arc::clone(&certified),
                leases: Arc::clone(&leases),
                show: Arc::clone(&show),
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = sender.send((index, question.ask(index).await)).await;
            });
        }
        drop(sender);
        let mut collector = AckCollector::new(&set, cluster, batch);
        let mut refusals: BTreeMap<usize, Vec<Refusal>> = BTreeMap::new();
        while let Some((index, outcome)) = answers.recv().await {
            match outcome {
                Some(AcknowledgeOutcome::Acknowledged(signature)) if collector.add(index, signature).is_ok() => {}
                Some(AcknowledgeOutcome::Acknowledged(_)) => {
                    tracing::warn!(gatekeeper = index, "its acknowledgement is not signed by it");
                }
                Some(AcknowledgeOutcome::InTheWay(in_the_way)) => {
                    for refused in in_the_way.into_iter().filter(|refused| (refused.at as usize) < round.len()) {
                        refusals.entry(refused.at as usize).or_default().push(refused.refusal);
                    }
                }
                Some(AcknowledgeOutcome::Refused(refusal)) => {
                    for index in 0..round.len() {
                        refusals.entry(index).or_default().push(refusal.clone());
                    }
                }
                None => {}
            }
            if let Some(acks) = collector.acknowledged() {
                return RoundOutcome::Acknowledged(acks);
            }
        }
        let spare = (set.size() - set.quorum()) as usize;
        let mut lost = BTreeMap::new();
        for (index, given) in &refusals {
            if given.iter().filter(|refusal| is_final(refusal)).count() > spare
                && let Some(refusal) = given.iter().find(|refusal| is_final(refusal))
            {
                lost.insert(*index, refusal.clone());
            }
        }
        if !lost.is_empty() {
            RoundOutcome::Lost(lost)
        } else if refusals.is_empty() || refusals.len() == round.len() {
            RoundOutcome::Unanswered
        } else {
            RoundOutcome::Mixed(refusals.into_keys().collect())
        }
    }
}

/// Takes the jobs of one round: of one certificate, each function once, in the order in which they came.
fn next_round(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let mut round: Vec<Job> = Vec::new();
    let mut later = VecDeque::new();
    let mut functions = BTreeSet::new();
    while let Some(job) = waiting.pop_front() {
        let fits = round.len() < MAX_BATCH
            && round.first().is_none_or(|first| first.asked.certified.id == job.asked.certified.id)
            && functions.insert(job.asked.function);
        if fits { round.push(job) } else { later.push_back(job) }
    }
    *waiting = later;
    round
}

/// Whether asking the same again cannot help.
fn is_final(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::CertificateRevoked
            | Refusal::CertificateExpired
            | Refusal::NotHolder { .. }
            | Refusal::ReaderLease
            | Refusal::Stale { .. }
            | Refusal::Fork
            | Refusal::WrongEpoch { .. }
    )
}

/// One batch as one gatekeeper is asked for it, with what it may not have seen yet.
struct Question {
    asker: Arc<Asker>,
    acks: Vec<Ack>,
    signature: Signature,
    certified: Arc<Certified>,
    leases: Arc<Vec<Arc<HeldLease>>>,
    show: Arc<BTreeSet<usize>>,
}

impl Question {
    async fn ask(&self, index: u32) -> Option<AcknowledgeOutcome> {
        let mut outcome = self.send(index, &self.show).await?;
        if matches!(outcome, AcknowledgeOutcome::Refused(Refusal::UnknownCertificate)) {
            self.show_certificate(index).await;
            outcome = self.send(index, &self.show).await?;
        }
        // At most as many tries as it takes to show every lease of the batch.
        for _ in 0..=self.acks.len().div_ceil(MAX_SHOWN_LEASES) {
            let AcknowledgeOutcome::InTheWay(in_the_way) = &outcome else { break };
            let unseen: BTreeSet<usize> = in_the_way
                .iter()
                .filter(|refused| refused.refusal == Refusal::LeaseNotShown)
                .map(|refused| refused.at as usize)
                .collect();
            if unseen.is_empty() {
                break;
            }
            outcome = self.send(index, &unseen).await?;
        }
        Some(outcome)
    }

    async fn send(&self, index: u32, show: &BTreeSet<usize>) -> Option<AcknowledgeOutcome> {
        let shown = show.iter().filter_map(|index| self.leases.get(*index)).take(MAX_SHOWN_LEASES);
        let question = AcknowledgeRequest {
            version: Version1,
            certificate: self.certified.id,
            acks: self.acks.clone(),
            leases: shown.map(|lease| (**lease).clone()).collect(),
            signature: self.signature,
        };
        match self.asker.gatekeepers.ask::<_, AcknowledgeAnswer>(index, ACKNOWLEDGE, &question).await {
            Ok(answer) => Some(answer.outcome),
            Err(error) => {
                tracing::debug!(gatekeeper = index, %error, "no acknowledgement");
                None
            }
        }
    }

    async fn show_certificate(&self, index: u32) {
        let question = CertificateRequest {
            version: Version1,
            certificate: self.certified.signed.certificate.clone(),
            signatures: self.certified.signed.signatures.clone(),
        };
        let _ = self.asker.gatekeepers.ask::<_, CertificateAnswer>(index, CERTIFICATE, &question).await;
    }
}
