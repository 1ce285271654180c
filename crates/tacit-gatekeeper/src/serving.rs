//! What a founded gatekeeper does for workers.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tacit_api::{
    Problem, ProblemKind,
    gatekeeper::{
        AcknowledgeAnswer, AcknowledgeOutcome, AcknowledgeRequest, AdmitAnswer, AdmitOutcome, AdmitRequest,
        CertificateAnswer, CertificateRequest, ChallengeAnswer, ChallengeRequest, ConfirmAnswer, ConfirmRequest,
        Granted, IndexedRefusal, LeaseAnswer, LeaseItem, LeaseItemAnswer, LeaseRequest, MAX_LEASE_ITEMS,
        MAX_SHOWN_LEASES, PARTIAL_INFO, PartialAnswer, PartialRequest, Version1,
    },
};
use tacit_attest::{
    AttestError, Collateral, Evidence,
    nvidia::{GpuCollateral, GpuEvidence},
};
use tacit_envelope::{TransportPublicKey, seal_to};
use tacit_threshold::{
    HeldLease, Input, MAX_BATCH, MAX_CONFIRM, Refusal, Reply, SignedBatch, VerifiedLease,
    admission::{self, AdmissionRefusal, Demands, Proposal},
    dealing::Deal,
    subkeys::SubKeys,
};
use tacit_types::{
    CertificateId, Digest, UnixTime,
    eip712::Certificate,
    quorum::GatekeeperSet,
    register::LeaseRole,
    signature::{Signature, SigningKey},
};

use crate::{
    chain::ChainView, challenge::Challenges, config::Clock, desk::Desk, error::GatekeeperError, founding::Founded,
    seen::SeenNumbers,
};

/// Functions whose facts are read from the chain at once for one request.
const READS: usize = 16;

/// A founded gatekeeper.
pub(crate) struct Serving {
    pub(crate) index: u32,
    pub(crate) set: GatekeeperSet,
    pub(crate) demands: Arc<Demands>,
    pub(crate) transcript: Digest,
    pub(crate) deal: Deal,
    pub(crate) desk: Desk,
    pub(crate) chain: ChainView,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) last_refusal: Mutex<Option<String>>,
    pub(crate) releases: Arc<ReleaseLog>,
    clock: Clock,
    chain_key: SigningKey,
    sub_keys: SubKeys,
    challenges: Challenges,
    seen: SeenNumbers,
}

impl Serving {
    pub(crate) fn new(
        founded: Founded,
        chain_key: SigningKey,
        clock: Clock,
        desk: Desk,
        chain: ChainView,
        releases: ReleaseLog,
        seen: SeenNumbers,
    ) -> Self {
        let gatekeepers_simulated = founded.agreed.genesis.simulated;
        let demands = Demands {
            cluster: founded.cluster,
            epoch: founded.set.epoch,
            policy: founded.policy,
            gatekeepers_simulated,
        };
        Self {
            index: founded.agreed.index,
            set: founded.set,
            demands: Arc::new(demands),
            transcript: founded.transcript,
            deal: founded.deal,
            desk,
            chain,
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_refusal: Mutex::new(None),
            releases: Arc::new(releases),
            clock,
            chain_key,
            sub_keys: founded.sub_keys,
            challenges: Challenges::new(),
            seen,
        }
    }

    pub(crate) fn challenge(&self, request: &ChallengeRequest) -> Result<ChallengeAnswer, Problem> {
        let now = self.clock.now();
        let policy = self.demands.policy.hash().map_err(|error| internal(&error))?;
        let (nonce, expires) = self.challenges.give(request.keyset, now);
        Ok(ChallengeAnswer {
            version: Version1,
            index: self.index,
            nonce,
            time: now,
            expires,
            cluster: self.demands.cluster,
            epoch: self.demands.epoch,
            policy,
            simulated: self.demands.gatekeepers_simulated,
        })
    }

    pub(crate) async fn admit(&self, request: AdmitRequest) -> Result<AdmitAnswer, Problem> {
        let nonce = request.nonce;
        let outcome = match self.judge_admission(request).await {
            Err(problem) => {
                self.challenges.give_back(nonce);
                return Err(problem);
            }
            Ok(Ok(signature)) => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
                AdmitOutcome::Admitted(signature)
            }
            Ok(Err(refusal)) => {
                if refusal != AdmissionRefusal::Nonce {
                    self.challenges.give_back(nonce);
                }
                tracing::warn!(%refusal, "admission refused");
                self.refused.fetch_add(1, Ordering::Relaxed);
                *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.to_string());
                AdmitOutcome::Refused(refusal)
            }
        };
        Ok(AdmitAnswer { version: Version1, index: self.index, outcome })
    }

    async fn judge_admission(&self, request: AdmitRequest) -> Result<Result<Signature, AdmissionRefusal>, Problem> {
        let now = self.clock.now();
        if !self.challenges.take(request.nonce, request.certificate.keyset, now) {
            return Ok(Err(AdmissionRefusal::Nonce));
        }
        let nonce = request.nonce;
        let proposal = match proposal(request) {
            Ok(proposal) => proposal,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (demands, seen) = (self.demands.clone(), self.seen.clone());
        let judged = tokio::task::spawn_blocking(move || {
            let admitted = admission::verify(&demands, now, nonce, &seen.present(), &proposal);
            // Durable before anything is signed: a restart forgets nothing that an answer rested on.
            let noted = admitted.as_ref().map_or(Ok(()), |admitted| seen.note(admitted.seen()));
            noted.map(|()| admitted).map_err(|error| internal(&error))
        });
        let admitted = match judged.await.map_err(|error| internal(&error))?? {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let policy = self.demands.policy.hash().map_err(|error| internal(&error))?;
        if let Some(refusal) = self.chain.policy_refusal(policy, &admitted).await? {
            return Ok(Err(refusal));
        }
        let certificate = admitted.certificate();
        let id = certificate.id(self.demands.cluster);
        if let Some(since) = self.chain.revoked(id, certificate).await? {
            let what = format!("the worker, its chip, measurement or root (since {since})");
            return Ok(Err(AdmissionRefusal::Revoked { what }));
        }
        match self.one(Input::Certified(certificate.clone())).await? {
            Reply::Noted => Ok(Ok(self.chain_key.sign(Digest::from(id.into_bytes())))),
            Reply::Refused(Refusal::TooMany) => Err(Problem::new(ProblemKind::Overloaded, "too many certificates")),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn certificate(&self, request: CertificateRequest) -> Result<CertificateAnswer, Problem> {
        let id = request.certificate.id(self.demands.cluster);
        let digest = Digest::from(id.into_bytes());
        self.set.verify(digest, &request.signatures, self.set.threshold).map_err(|error| bad_signature(&error))?;
        let refused = match self.desk.certificate(id) {
            Some(known) if known.revoked => Some(Refusal::CertificateRevoked),
            Some(_) => None,
            None if self.chain.revoked(id, &request.certificate).await?.is_some() => Some(Refusal::CertificateRevoked),
            None => match self.one(Input::Certified(request.certificate)).await? {
                Reply::Noted => None,
                Reply::Refused(refusal) => Some(refusal),
                other => return Err(unexpected(&other)),
            },
        };
        Ok(CertificateAnswer { version: Version1, index: self.index, refused })
    }

    pub(crate) async fn partial(&self, request: PartialRequest) -> Result<PartialAnswer, Problem> {
        let cluster = self.demands.cluster;
        let denied = |refusal: &Refusal| Problem::new(ProblemKind::NotHolder, refusal.to_string());
        let now = self.clock.now();
        let lease = &request.lease.lease;
        let said = (request.function_id, request.certificate, request.fence, request.key_epoch);
        if said != (lease.function_id, lease.certificate, lease.fence, lease.key_epoch) {
            return Err(Problem::new(ProblemKind::InvalidRequest, "the lease is about something else"));
        }
        let certificate = self.known(request.certificate).map_err(|refusal| denied(&refusal))?;
        self.check_signer(request.signature, request.statement(cluster), &certificate)?;
        let verified = self.verify_leases(vec![request.lease.clone()]).await?;
        let facts = self.chain.facts(request.function_id).await?.ok_or_else(|| denied(&Refusal::UnknownFunction))?;
        if lease.code_hash != facts.code_hash {
            return Err(denied(&Refusal::CodeChanged));
        }
        if lease.manifest_hash != facts.manifest_hash {
            return Err(denied(&Refusal::ManifestChanged));
        }
        if request.key_epoch != facts.key_epoch {
            return Err(denied(&Refusal::KeyEpochChanged));
        }
        if self.chain.revoked(request.certificate, &certificate).await?.is_some() {
            return Err(denied(&Refusal::CertificateRevoked));
        }
        match lease.role {
            LeaseRole::Writer => {
                self.desk.ask(verified.into_iter().map(Input::Hold).collect()).await?;
                let (function, fence) = (request.function_id, request.fence);
                let holds = self.desk.check_holder(function, request.certificate, fence).await?;
                holds.map_err(|refusal| denied(&refusal))?;
            }
            LeaseRole::Reader if lease.until <= now => return Err(denied(&Refusal::LeaseOver)),
            LeaseRole::Reader if !certificate.is_live(now) => return Err(denied(&Refusal::CertificateExpired)),
            LeaseRole::Reader => {}
        }
        let public = TransportPublicKey::parse(&request.transport_key)
            .map_err(|error| Problem::new(ProblemKind::InvalidRequest, format!("transport key: {error}")))?;
        self.releases.append(now, &request).await?;
        let partial = self.sub_keys.partial(request.function_id, request.key_epoch);
        let context = request.statement(cluster);
        let sealed = seal_to(&mut rand::rng(), &public, PARTIAL_INFO, context.as_ref(), &partial.to_secret_bytes())
            .map_err(|error| internal(&error))?;
        let signature = self.chain_key.sign(PartialAnswer::statement(&request, cluster, self.index, &sealed));
        Ok(PartialAnswer { version: Version1, index: self.index, sealed: sealed.into(), signature })
    }

    pub(crate) async fn lease(&self, request: LeaseRequest) -> Result<LeaseAnswer, Problem> {
        if request.items.is_empty() || request.items.len() > MAX_LEASE_ITEMS {
            let detail = format!("1 to {MAX_LEASE_ITEMS} items are taken at once");
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        }
        let count = request.items.len();
        let time = self.clock.now();
        let answer = |items| LeaseAnswer { version: Version1, index: self.index, time, items };
        let certificate = match self.known(request.certificate) {
            Ok(certificate) => certificate,
            Err(refusal) => return Ok(answer(vec![LeaseItemAnswer::Refused(refusal); count])),
        };
        let cluster = self.demands.cluster;
        self.check_signer(request.signature, request.statement(cluster), &certificate)?;
        let inputs = stream::iter(request.items.clone()).map(|item| self.lease_input(item, request.certificate));
        let inputs = inputs.buffered(READS).try_collect().await?;
        let items = self.desk.ask(inputs).await?.into_iter().map(|reply| match reply {
            Reply::View(view) => Ok(LeaseItemAnswer::View(view)),
            Reply::Granted { lease, entry } => {
                let signature = self.chain_key.sign(lease.digest(cluster));
                Ok(LeaseItemAnswer::Granted(Box::new(Granted { signature, entry: entry.map(|entry| *entry) })))
            }
            Reply::Noted => Ok(LeaseItemAnswer::Released),
            Reply::Refused(refusal) => Ok(LeaseItemAnswer::Refused(refusal)),
            other => Err(unexpected(&other)),
        });
        Ok(answer(items.collect::<Result<_, Problem>>()?))
    }

    async fn lease_input(&self, item: LeaseItem, certificate: CertificateId) -> Result<Input, Problem> {
        Ok(match item {
            // What is known is told without a chain as well; nothing is granted without one.
            LeaseItem::Read(function) => {
                let facts = self.chain.facts(function).await.ok().flatten();
                Input::Read { function, facts }
            }
            LeaseItem::Grant(lease) if lease.certificate != certificate => {
                return Err(Problem::new(ProblemKind::InvalidRequest, "a lease for another certificate"));
            }
            LeaseItem::Grant(lease) => {
                let facts = self.chain.facts(lease.function_id).await?;
                Input::Grant { lease, facts }
            }
            LeaseItem::Release { function_id, fence } => Input::Release { function: function_id, certificate, fence },
        })
    }

    pub(crate) async fn acknowledge(&self, request: AcknowledgeRequest) -> Result<AcknowledgeAnswer, Problem> {
        if request.acks.is_empty() || request.acks.len() > MAX_BATCH || request.leases.len() > MAX_SHOWN_LEASES {
            let detail =
                format!("1 to {MAX_BATCH} acknowledgements and at most {MAX_SHOWN_LEASES} leases are taken at once");
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        }
        let cluster = self.demands.cluster;
        let time = self.clock.now();
        let answer = |outcome| AcknowledgeAnswer { version: Version1, index: self.index, time, outcome };
        let mut inputs = Vec::with_capacity(1 + request.leases.len());
        let shown = self.verify_leases(request.leases).await?;
        let mut certificate = self.known(request.certificate);
        for lease in shown {
            let held = lease.held();
            if held.lease.certificate != request.certificate {
                return Err(Problem::new(ProblemKind::InvalidRequest, "a lease of another certificate"));
            }
            if certificate == Err(Refusal::UnknownCertificate) {
                // Shown for the first time, by a quorum that knew it; the chain may have revoked it since.
                certificate = match self.chain.revoked(request.certificate, &held.certificate).await? {
                    None => Ok(Arc::new(held.certificate.clone())),
                    Some(_) => Err(Refusal::CertificateRevoked),
                };
            }
            inputs.push(Input::Hold(lease));
        }
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(refusal) => return Ok(answer(AcknowledgeOutcome::Refused(refusal))),
        };
        let batch = match SignedBatch::verify(cluster, &certificate, request.acks, request.signature) {
            Ok(batch) => batch,
            Err(error @ tacit_threshold::ThresholdError::RequestSigner) => return Err(bad_signature(&error)),
            Err(error) => return Err(Problem::new(ProblemKind::InvalidRequest, error.to_string())),
        };
        inputs.push(Input::Acknowledge(batch));
        let outcome = match self.desk.ask(inputs).await?.pop() {
            Some(Reply::Acknowledged(batch)) => {
                AcknowledgeOutcome::Acknowledged(self.chain_key.sign(batch.digest(cluster)))
            }
            Some(Reply::NotAcknowledged(refused)) => AcknowledgeOutcome::InTheWay(indexed(refused)),
            Some(Reply::Refused(refusal)) => AcknowledgeOutcome::Refused(refusal),
            other => return Err(unexpected(&other)),
        };
        Ok(answer(outcome))
    }

    pub(crate) async fn confirm(&self, request: ConfirmRequest) -> Result<ConfirmAnswer, Problem> {
        let count = request.positions.len();
        if count == 0 || count > MAX_CONFIRM {
            let detail = format!("1 to {MAX_CONFIRM} positions are taken at once");
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        }
        let cluster = self.demands.cluster;
        let answer =
            |time, signature, refused| ConfirmAnswer { version: Version1, index: self.index, time, signature, refused };
        let all = |refusal: &Refusal| (0..count).map(|index| (index, refusal.clone())).collect();
        let certificate = match self.known(request.certificate) {
            Ok(certificate) => certificate,
            Err(refusal) => return Ok(answer(self.clock.now(), None, indexed(all(&refusal)))),
        };
        self.check_signer(request.signature, request.statement(cluster), &certificate)?;
        let positions = request.positions.iter().map(|asked| (asked.function_id, asked.position)).collect();
        let input = Input::Confirm { certificate: request.certificate, nonce: request.nonce, positions };
        match self.one(input).await? {
            Reply::Confirmed { confirmation: Some(confirmation), refused } => {
                let signature = self.chain_key.sign(confirmation.digest(cluster));
                Ok(answer(confirmation.time, Some(signature), indexed(refused)))
            }
            Reply::Confirmed { confirmation: None, refused } => Ok(answer(self.clock.now(), None, indexed(refused))),
            Reply::Refused(refusal) => Ok(answer(self.clock.now(), None, indexed(all(&refusal)))),
            other => Err(unexpected(&other)),
        }
    }

    async fn one(&self, input: Input) -> Result<Reply, Problem> {
        self.desk.ask(vec![input]).await?.pop().ok_or_else(|| internal(&"no reply"))
    }

    fn known(&self, id: CertificateId) -> Result<Arc<Certificate>, Refusal> {
        let known = self.desk.certificate(id).ok_or(Refusal::UnknownCertificate)?;
        if known.revoked { Err(Refusal::CertificateRevoked) } else { Ok(known.certificate) }
    }

    fn check_signer(&self, signature: Signature, statement: Digest, certificate: &Certificate) -> Result<(), Problem> {
        if signature.recover(statement).ok() == Some(certificate.worker) {
            Ok(())
        } else {
            Err(bad_signature(&"the request is not signed by the worker's receipt key"))
        }
    }

    async fn verify_leases(&self, leases: Vec<HeldLease>) -> Result<Vec<VerifiedLease>, Problem> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let (set, cluster) = (self.set.clone(), self.demands.cluster);
        let verify = move || leases.into_iter().map(|lease| lease.verify(&set, cluster)).collect::<Result<Vec<_>, _>>();
        let verified = tokio::task::spawn_blocking(verify).await.map_err(|error| internal(&error))?;
        verified.map_err(|error| bad_signature(&error))
    }
}

/// What a request carries, read.
fn proposal(request: AdmitRequest) -> Result<Proposal, AdmissionRefusal> {
    let evidence_refused = |error: AttestError| AdmissionRefusal::Evidence { detail: error.to_string() };
    let gpus_refused = |error: AttestError| AdmissionRefusal::Gpus { detail: error.to_string() };
    let gpus = request.gpus.map(|shown| {
        let evidence = GpuEvidence::from_json(shown.evidence.to_string().as_bytes())?;
        Ok((evidence, GpuCollateral::from_json(shown.collateral.to_string().as_bytes())?))
    });
    Ok(Proposal {
        certificate: request.certificate,
        keyset: request.keyset,
        evidence: Evidence::from_json(request.evidence.to_string().as_bytes()).map_err(evidence_refused)?,
        collateral: Collateral::from_json(request.collateral.to_string().as_bytes()).map_err(evidence_refused)?,
        gpus: gpus.transpose().map_err(gpus_refused)?,
        endpoint: request.endpoint,
        operator_signature: request.operator_signature,
    })
}

fn indexed(refused: Vec<(usize, Refusal)>) -> Vec<IndexedRefusal> {
    let narrow = |at| u32::try_from(at).expect("batches have at most 1,024 members");
    refused.into_iter().map(|(at, refusal)| IndexedRefusal { at: narrow(at), refusal }).collect()
}

fn bad_signature(error: &impl std::fmt::Display) -> Problem {
    Problem::new(ProblemKind::BadSignature, error.to_string())
}

fn internal(error: &impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "internal failure");
    Problem::new(ProblemKind::Internal, "see this gatekeeper's log")
}

fn unexpected(reply: &impl std::fmt::Debug) -> Problem {
    tracing::error!(?reply, "the register gave another kind of reply");
    Problem::new(ProblemKind::Internal, "see this gatekeeper's log")
}

/// Every release of a key, in a file that only grows: one JSON line each, with the digest of the line before.
pub(crate) struct ReleaseLog {
    state: Arc<Mutex<Releases>>,
}

struct Releases {
    file: File,
    last: Digest,
    count: u64,
}

impl ReleaseLog {
    /// Opens the log in a folder; a torn last line is cut off.
    pub(crate) fn open(folder: &Path) -> Result<Self, GatekeeperError> {
        let path = folder.join("releases.log");
        let failed = |source| GatekeeperError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(failed)?;
        }
        let (mut last, mut count) = (Digest::ZERO, 0);
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            (last, count) = (Digest::from(<[u8; 32]>::from(Sha256::digest(line))), count + 1);
        }
        Ok(Self { state: Arc::new(Mutex::new(Releases { file, last, count })) })
    }

    /// Releases so far.
    pub(crate) fn count(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Writes one release; durable on return.
    async fn append(&self, now: UnixTime, request: &PartialRequest) -> Result<(), Problem> {
        let line = serde_json::json!({
            "version": 1, "time": now, "function": request.function_id, "keyEpoch": request.key_epoch,
            "certificate": request.certificate, "fence": request.fence, "nonce": request.nonce,
        });
        let state = self.state.clone();
        let write = move || {
            let mut releases = state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut line = line;
            line["previous"] = releases.last.to_string().into();
            let text = format!("{line}\n");
            let before = releases.file.metadata()?.len();
            if let Err(error) = releases.file.write_all(text.as_bytes()).and_then(|()| releases.file.sync_data()) {
                releases.file.set_len(before)?;
                return Err(error);
            }
            releases.last = Digest::from(<[u8; 32]>::from(Sha256::digest(text.as_bytes())));
            releases.count += 1;
            Ok(())
        };
        let written: std::io::Result<()> =
            tokio::task::spawn_blocking(write).await.map_err(|error| internal(&error))?;
        written.map_err(|error| {
            let detail = format!("the release log's disk refuses: {}", error.kind());
            Problem::new(ProblemKind::StorageUnavailable, detail)
        })
    }
}
