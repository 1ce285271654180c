//! Who may serve a function: asked of gateways or workers, verified here.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tacit_api::{BlobUri, FunctionAnswer, FunctionRecord, WorkerIdentity, limits, rendezvous};
use tacit_receipt::{BundleEvidence, SignedCertificate};
use tacit_types::{
    Address, FunctionId,
    eip712::keccak,
    manifest::{self, Manifest},
};
use tacit_verify::{CertifiedWorker, VerifiedWorker};

use crate::{Client, ClientError, now};

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Functions whose workers are remembered.
const MOST_KNOWN: usize = 4_096;

/// Verified workers by function; those that one worker's own entry gave also by that entry's index.
pub(crate) type KnownWorkers = HashMap<(FunctionId, Option<usize>), Arc<Vec<Candidate>>>;

/// A way into the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Through a gateway, by its URL.
    Gateway(String),
    /// Straight to a worker, by its URL.
    Worker(String),
}

impl Entry {
    /// Through the gateway at that URL.
    pub fn gateway(url: &str) -> Self {
        Self::Gateway(url.trim_end_matches('/').to_owned())
    }

    /// Straight to the worker at that URL.
    pub fn worker(url: &str) -> Self {
        Self::Worker(url.trim_end_matches('/').to_owned())
    }

    /// The URL.
    pub fn url(&self) -> &str {
        match self {
            Self::Gateway(url) | Self::Worker(url) => url,
        }
    }
}

/// A worker that was verified a moment ago, and the claim about where it is.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The worker.
    pub worker: VerifiedWorker,
    /// Where it says that it is reached.
    pub endpoint: String,
}

impl Candidate {
    /// Account of its receipt key.
    pub fn address(&self) -> Address {
        self.worker.address()
    }
}

impl Client {
    pub(crate) fn entries(&self) -> Result<&[Entry], ClientError> {
        let entries = self.ways.entries();
        if entries.is_empty() { Err(ClientError::NoEntry) } else { Ok(entries) }
    }

    /// A function's registry entry, as the first gateway that answers tells it.
    ///
    /// # Errors
    /// As the last gateway's failure.
    pub async fn function(&self, function: FunctionId) -> Result<FunctionRecord, ClientError> {
        let ask = |entry: &Entry| {
            let url = format!("{}/v1/functions/{function}", entry.url());
            async move {
                let bytes = self.http.get(&url, limits::MAX_IDENTITY, LOOKUP_TIMEOUT).await?;
                match serde_json::from_slice::<FunctionRecord>(&bytes) {
                    Ok(record) if record.id == function => Ok(record),
                    _ => Err(ClientError::BadAnswer { url, reason: "not the function's entry".into() }),
                }
            }
        };
        self.ways.look_up(LOOKUP_TIMEOUT, is_gateway, ask).await
    }

    /// The manifest that counts for a function, checked against the registry's hash.
    ///
    /// # Errors
    /// [`ClientError::BadAnswer`] if no gateway has the manifest that the registry names.
    pub async fn manifest(&self, record: &FunctionRecord) -> Result<Manifest, ClientError> {
        let wrong = &|reason: &str| ClientError::BadAnswer { url: record.uri.clone(), reason: reason.into() };
        let uri: BlobUri = record.uri.parse().map_err(|_| wrong("the registry names no blobs"))?;
        let ask = |entry: &Entry| {
            let url = format!("{}/v1/blobs/{}", entry.url(), uri.manifest);
            async move {
                let bytes = self.http.get(&url, manifest::MAX_BYTES, LOOKUP_TIMEOUT).await?;
                if keccak(&bytes).into_bytes() != record.manifest_hash.into_bytes() {
                    return Err(wrong("not the manifest that the registry names"));
                }
                Manifest::from_canonical(&bytes).map_err(|_| wrong("the registry's manifest is not one"))
            }
        };
        self.ways.look_up(LOOKUP_TIMEOUT, is_gateway, ask).await
    }

    /// The verified workers of a function in rendezvous order, remembered from the last time.
    ///
    /// # Errors
    /// As [`Client::fetch_workers`].
    pub async fn workers(&self, function: FunctionId) -> Result<Arc<Vec<Candidate>>, ClientError> {
        match self.recall(function, None) {
            Some(workers) => Ok(workers),
            None => self.fetch_workers(function).await,
        }
    }

    /// The verified workers that a call can be sealed to when it goes this way: a worker's own entry takes only what is sealed
    /// to that worker.
    pub(crate) async fn candidates(
        &self,
        way: usize,
        function: FunctionId,
    ) -> Result<Arc<Vec<Candidate>>, ClientError> {
        match &self.entries()?[way] {
            Entry::Gateway(_) => self.workers(function).await,
            entry @ Entry::Worker(_) => match self.recall(function, Some(way)) {
                Some(workers) => Ok(workers),
                None => Ok(self.remember(function, Some(way), self.fetch_workers_from(entry, function).await?)),
            },
        }
    }

    /// Asks for the function's workers and verifies them. The order is computed here; a gateway can hide a worker and
    /// cannot put one first. A way that is silent is not waited for.
    ///
    /// # Errors
    /// [`ClientError::NoWorker`] if none holds under the policy; else the last entry's failure.
    pub async fn fetch_workers(&self, function: FunctionId) -> Result<Arc<Vec<Candidate>>, ClientError> {
        let ask = |entry| self.fetch_workers_from(entry, function);
        let workers = self.ways.look_up(LOOKUP_TIMEOUT, |_| true, ask).await?;
        Ok(self.remember(function, None, workers))
    }

    async fn fetch_workers_from(&self, entry: &Entry, function: FunctionId) -> Result<Vec<Candidate>, ClientError> {
        let identities = match entry {
            Entry::Gateway(url) => {
                let url = format!("{url}/f/{function}");
                let bytes = self.http.get(&url, limits::MAX_FUNCTION_ANSWER, LOOKUP_TIMEOUT).await?;
                let answer: FunctionAnswer = serde_json::from_slice(&bytes)
                    .map_err(|error| ClientError::BadAnswer { url: url.clone(), reason: error.to_string() })?;
                if answer.function.id != function || answer.workers.len() > limits::MAX_WORKERS {
                    return Err(ClientError::BadAnswer { url, reason: "not the workers of this function".into() });
                }
                answer.workers
            }
            Entry::Worker(url) => {
                let url = format!("{url}/v1/identity");
                let bytes = self.http.get(&url, limits::MAX_IDENTITY, LOOKUP_TIMEOUT).await?;
                let identity = serde_json::from_slice(&bytes)
                    .map_err(|error| ClientError::BadAnswer { url, reason: error.to_string() })?;
                vec![identity]
            }
        };
        let (mut verified, mut refused) = (Vec::new(), None);
        for identity in identities {
            let endpoint = identity.endpoint.clone();
            match self.verifier.verify_worker(&certified(identity), now()) {
                Ok(worker) => verified.push(Candidate { worker, endpoint }),
                Err(report) => refused = refused.or(Some(report)),
            }
        }
        match refused {
            Some(report) if verified.is_empty() => Err(ClientError::NoWorker { function, report }),
            _ if verified.is_empty() => {
                Err(ClientError::BadAnswer { url: entry.url().to_owned(), reason: "no worker at all".into() })
            }
            _ => Ok(rendezvous::order(function, verified, Candidate::address)),
        }
    }

    fn recall(&self, function: FunctionId, way: Option<usize>) -> Option<Arc<Vec<Candidate>>> {
        let known = self.known().get(&(function, way)).cloned()?;
        known.iter().all(|one| one.worker.certificate().is_live(now())).then_some(known)
    }

    fn remember(&self, function: FunctionId, way: Option<usize>, workers: Vec<Candidate>) -> Arc<Vec<Candidate>> {
        let workers = Arc::new(workers);
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert((function, way), Arc::clone(&workers));
        workers
    }

    pub(crate) fn forget_workers(&self, function: FunctionId) {
        let ways = (0..self.ways.entries().len()).map(Some);
        let mut known = self.known();
        ways.chain([None]).for_each(|way| _ = known.remove(&(function, way)));
    }

    fn known(&self) -> MutexGuard<'_, KnownWorkers> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a way leads through a gateway.
pub(crate) fn is_gateway(entry: &Entry) -> bool {
    matches!(entry, Entry::Gateway(_))
}

/// The verifier's form of an identity document.
pub(crate) fn certified(identity: WorkerIdentity) -> CertifiedWorker {
    CertifiedWorker {
        certificate: SignedCertificate {
            certificate: identity.certificate,
            keyset: identity.keyset,
            signatures: identity.signatures,
        },
        evidence: Some(BundleEvidence {
            evidence: identity.evidence,
            collateral: identity.collateral,
            nonce: identity.nonce,
        }),
    }
}
