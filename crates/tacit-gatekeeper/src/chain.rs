//! The home chain as this gatekeeper sees it: finalised blocks only, never back, every fact proved from the block's hash.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tacit_api::{Problem, ProblemKind, gatekeeper::ChainStatus};
use tacit_ledger::{At, BlockRef, Ledger, LedgerError};
use tacit_threshold::{
    Facts, Input,
    admission::{AdmissionRefusal, Admitted},
};
use tacit_types::{
    CertificateId, Digest, FunctionId, Measurement, PolicyHash, UnixTime,
    chain::{DeniedSubject, denied_name},
    eip712::Certificate,
};

use crate::{config::Clock, desk::Desk};

/// How often the chain is asked for its newest final block.
const POLL: Duration = Duration::from_millis(250);
/// Past this age of the newest look at the chain nothing is granted or released.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Bound on a final block's own age, in seconds, where blocks come by themselves.
const MAX_BLOCK_AGE: u64 = 600;
/// Chain id of a local development chain, which makes no blocks while nothing happens.
const DEVELOPMENT_CHAIN: u64 = 31_337;
/// Functions whose facts are kept.
const MAX_CACHED: usize = 1 << 16;

/// The finalised view.
#[derive(Clone)]
pub(crate) struct ChainView {
    ledger: Ledger,
    chain_id: u64,
    clock: Clock,
    seen: Arc<RwLock<Seen>>,
}

#[derive(Default)]
struct Seen {
    head: Option<BlockRef>,
    read: Option<(Instant, UnixTime)>,
    conflict: Option<String>,
    failure: Option<String>,
    facts: HashMap<FunctionId, (u64, Option<Facts>)>,
    policy: HashMap<PolicyQuestion, (u64, bool)>,
}

/// What the policy registry is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum PolicyQuestion {
    Allowed(Measurement),
    Denied(DeniedSubject, Digest),
}

impl ChainView {
    pub(crate) fn new(ledger: Ledger, chain_id: u64, clock: Clock) -> Self {
        Self { ledger, chain_id, clock, seen: Arc::default() }
    }

    /// The newest final block, if it is fresh enough to act on.
    pub(crate) fn head(&self) -> Result<BlockRef, Problem> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let unavailable = |detail: String| Problem::new(ProblemKind::ChainUnavailable, detail);
        if let Some(conflict) = &seen.conflict {
            return Err(unavailable(conflict.clone()));
        }
        let (Some(head), Some((read, _))) = (seen.head, seen.read) else {
            let failure = seen.failure.clone().unwrap_or_else(|| "it has not answered yet".into());
            return Err(unavailable(failure));
        };
        if read.elapsed() > MAX_AGE {
            let failure = seen.failure.clone().unwrap_or_default();
            return Err(unavailable(format!("last read {} s ago: {failure}", read.elapsed().as_secs())));
        }
        let age = self.clock.now().0.saturating_sub(head.time.0);
        if self.chain_id != DEVELOPMENT_CHAIN && age > MAX_BLOCK_AGE {
            return Err(unavailable(format!(
                "its newest final block is {age} s old, at most {MAX_BLOCK_AGE} are allowed"
            )));
        }
        Ok(head)
    }

    /// What the chain says about a function, or nothing if it is not active. A function that is not known yet may have been
    /// registered since the last look, so the chain is looked at again before it is called unknown.
    pub(crate) async fn facts(&self, function: FunctionId) -> Result<Option<Facts>, Problem> {
        let head = self.head()?;
        if let Some(facts) = self.facts_at(head, function).await? {
            return Ok(Some(facts));
        }
        self.saw(self.ledger.finalized().await.map_err(|error| problem(&error))?);
        let newest = self.head()?;
        if newest.number == head.number { Ok(None) } else { self.facts_at(newest, function).await }
    }

    async fn facts_at(&self, head: BlockRef, function: FunctionId) -> Result<Option<Facts>, Problem> {
        let cached = self.seen.read().unwrap_or_else(PoisonError::into_inner).facts.get(&function).copied();
        if let Some((block, facts)) = cached
            && block == head.number
        {
            return Ok(facts);
        }
        let record = self.ledger.prove_function(function, head).await.map_err(|error| problem(&error))?;
        let facts = record.map(|record| Facts {
            code_hash: record.code_hash,
            manifest_hash: record.manifest_hash,
            key_epoch: record.key_epoch.max(record.min_key_epoch),
            block_number: head.number,
        });
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.facts.len() >= MAX_CACHED {
            seen.facts.clear();
        }
        seen.facts.insert(function, (head.number, facts));
        Ok(facts)
    }

    /// Why the home chain's policy, as of the newest final block, does not let a machine in. Loosening counts there only once its
    /// timelock has passed at that block, tightening at once.
    pub(crate) async fn policy_refusal(
        &self,
        held: PolicyHash,
        admitted: &Admitted,
    ) -> Result<Option<AdmissionRefusal>, Problem> {
        let head = self.head()?;
        let current = self.ledger.policy(At::Block(head)).await.map_err(|error| problem(&error))?;
        if current.policy != held {
            return Ok(Some(AdmissionRefusal::PolicyReplaced { found: current.policy.to_string() }));
        }
        let class = admitted.hardware_class().name();
        let mut questions = questions(admitted.certificate());
        questions.push((PolicyQuestion::Denied(DeniedSubject::HardwareClass, denied_name(class)), class.to_owned()));
        for advisory in admitted.advisories() {
            let question = PolicyQuestion::Denied(DeniedSubject::Advisory, denied_name(advisory));
            questions.push((question, advisory.clone()));
        }
        Ok(self.refused_by_policy(head, questions).await?.map(|what| AdmissionRefusal::NotAccepted { what }))
    }

    /// The first of these that the policy registry does not accept at a block.
    async fn refused_by_policy(
        &self,
        head: BlockRef,
        questions: Vec<(PolicyQuestion, String)>,
    ) -> Result<Option<String>, Problem> {
        for (question, what) in questions {
            let known = self.seen.read().unwrap_or_else(PoisonError::into_inner).policy.get(&question).copied();
            let accepted = match known {
                Some((block, accepted)) if block == head.number => accepted,
                _ => self.ask_policy(head, question).await?,
            };
            if !accepted {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    async fn ask_policy(&self, head: BlockRef, question: PolicyQuestion) -> Result<bool, Problem> {
        let answer = match question {
            PolicyQuestion::Allowed(measurement) => self.ledger.is_allowed(measurement, At::Block(head)).await,
            PolicyQuestion::Denied(subject, value) => {
                self.ledger.is_denied(subject, value, At::Block(head)).await.map(|denied| !denied)
            }
        };
        let accepted = answer.map_err(|error| problem(&error))?;
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.policy.len() >= MAX_CACHED {
            seen.policy.clear();
        }
        seen.policy.insert(question, (head.number, accepted));
        Ok(accepted)
    }

    /// Since when a certificate, or something that it names, is revoked; what the policy registry does not accept any more is
    /// revoked as of the newest final block.
    pub(crate) async fn revoked(
        &self,
        id: CertificateId,
        certificate: &Certificate,
    ) -> Result<Option<UnixTime>, Problem> {
        let head = self.head()?;
        let revoked = self.ledger.revocation_of(id, certificate, At::Block(head)).await;
        if let Some(since) = revoked.map_err(|error| problem(&error))? {
            return Ok(Some(since));
        }
        Ok(self.refused_by_policy(head, questions(certificate)).await?.map(|_| head.time))
    }

    /// For the status page.
    pub(crate) fn status(&self) -> Option<ChainStatus> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let (head, (_, read)) = (seen.head?, seen.read?);
        Some(ChainStatus { block: head.number, hash: head.hash, time: head.time, read })
    }

    /// Follows the chain until the desk's last other copy is gone; revokes in the register what the chain revokes.
    pub(crate) async fn follow(self, desk: Desk) {
        let mut judged = None;
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.ledger.finalized().await {
                Err(error) => {
                    let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
                    if seen.failure.is_none() {
                        tracing::warn!(%error, "the home chain cannot be read");
                    }
                    seen.failure = Some(error.to_string());
                    continue;
                }
                Ok(head) => self.saw(head),
            }
            let Ok(head) = self.head() else { continue };
            let known = desk.certificates();
            if judged == Some((head.number, known.len())) {
                continue;
            }
            if self.judge_certificates(&desk, known.clone()).await {
                judged = Some((head.number, known.len()));
            }
        }
    }

    fn saw(&self, head: BlockRef) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = seen.head {
            if head.number == before.number && head.hash != before.hash {
                let conflict = format!(
                    "two final blocks {}: {} and {}; this gatekeeper stops",
                    head.number, before.hash, head.hash
                );
                tracing::error!(conflict, "the home chain contradicts itself");
                seen.conflict = Some(conflict);
                return;
            }
            if head.number < before.number {
                // Behind what was final: a restored or another node. It is not believed, so the view grows old.
                seen.failure = Some(format!("its final block went back from {} to {}", before.number, head.number));
                return;
            }
        }
        seen.head = Some(head);
        seen.read = Some((Instant::now(), self.clock.now()));
        seen.failure = None;
    }

    async fn judge_certificates(&self, desk: &Desk, known: Vec<(CertificateId, crate::desk::Known)>) -> bool {
        let now = self.clock.now();
        for (id, known) in known {
            if known.revoked || known.certificate.not_after < now {
                continue;
            }
            match self.revoked(id, &known.certificate).await {
                Ok(None) => {}
                Ok(Some(since)) => {
                    tracing::warn!(certificate = %id, %since, "revoked");
                    if desk.ask(vec![Input::Revoked(id)]).await.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// What of a certificate the policy registry may not accept, and how that is called.
fn questions(certificate: &Certificate) -> Vec<(PolicyQuestion, String)> {
    let denied = |subject, bytes: [u8; 32]| PolicyQuestion::Denied(subject, Digest::from(bytes));
    let Certificate { measurement, chip, root, .. } = certificate;
    vec![
        (PolicyQuestion::Allowed(*measurement), format!("measurement {measurement}, which it does not list")),
        (denied(DeniedSubject::Measurement, measurement.into_bytes()), format!("measurement {measurement}")),
        (denied(DeniedSubject::Chip, chip.into_bytes()), format!("chip {chip}")),
        (denied(DeniedSubject::Root, root.into_bytes()), format!("root {root}")),
    ]
}

fn problem(error: &LedgerError) -> Problem {
    Problem::new(ProblemKind::ChainUnavailable, error.to_string())
}
