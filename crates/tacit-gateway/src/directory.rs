//! Which certified workers live: certificates from the registry on the home chain, identity documents from the workers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tacit_api::{WorkerIdentity, limits::MAX_IDENTITY, rendezvous};
use tacit_ledger::{At, Ledger, LedgerError};
use tacit_types::{Address, CertificateId, ClusterId, FunctionId, UnixTime, eip712::Certificate};
use tokio::{sync::Mutex, task::JoinSet};

use crate::forward::{Upstream, read_bounded};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most workers of a cluster that are probed.
const WORKERS: usize = 256;
/// Most unexpired certificates that are remembered.
const CERTIFICATES: usize = 1_024;
/// Probes under way at the same time.
const PROBES: usize = 16;

/// A certified worker that answered its last probe.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) identity: WorkerIdentity,
    pub(crate) endpoint: String,
}

impl Worker {
    pub(crate) fn address(&self) -> Address {
        self.identity.certificate.worker
    }
}

/// A certificate that the registry holds and that is neither revoked nor over.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) id: CertificateId,
    pub(crate) worker: Address,
    pub(crate) endpoint: String,
}

#[derive(Default)]
struct State {
    published: Vec<Published>,
    live: Vec<Arc<Worker>>,
    chain_answers: bool,
}

/// What was read from the registry so far.
#[derive(Default)]
struct Registry {
    certificates: BTreeMap<CertificateId, Certificate>,
    published: Vec<Published>,
    /// The block up to which everything is read.
    block: Option<u64>,
}

/// The workers of a cluster as this gateway sees them.
pub(crate) struct Directory {
    cluster: ClusterId,
    registry: Mutex<Registry>,
    state: RwLock<State>,
}

impl Directory {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self { cluster, registry: Mutex::default(), state: RwLock::default() }
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Live workers for a function, best first.
    pub(crate) fn ordered(&self, function: FunctionId) -> Vec<Arc<Worker>> {
        rendezvous::order(function, self.state().live.iter().cloned(), |worker| worker.address())
    }

    /// The live worker with that address.
    pub(crate) fn worker(&self, address: Address) -> Option<Arc<Worker>> {
        self.state().live.iter().find(|worker| worker.address() == address).cloned()
    }

    /// All live workers.
    pub(crate) fn live(&self) -> Vec<Arc<Worker>> {
        self.state().live.clone()
    }

    /// Where a worker is said to be, whether it answers or not.
    pub(crate) fn endpoint(&self, address: Address) -> Option<String> {
        let state = self.state();
        let live = state.live.iter().find(|worker| worker.address() == address).map(|worker| worker.endpoint.clone());
        live.or_else(|| {
            state.published.iter().rev().find(|entry| entry.worker == address).map(|entry| entry.endpoint.clone())
        })
    }

    /// Whether the last look at the chain succeeded.
    pub(crate) fn chain_answers(&self) -> bool {
        self.state().chain_answers
    }

    /// A worker did not accept a connection: not to be named again before it answers a probe.
    pub(crate) fn lost(&self, address: Address) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.live.retain(|worker| worker.address() != address);
    }

    /// Looks at the registry and asks every worker in it who it is.
    pub(crate) async fn refresh(&self, ledger: &Ledger, upstream: &Upstream, now: UnixTime) {
        let read = self.read_registry(ledger, now).await;
        let chain_answers = read.is_ok();
        let published = match read {
            Ok(published) => published,
            Err(error) => {
                tracing::warn!(%error, "the home chain cannot be read; going on with the workers known so far");
                self.state().published.clone()
            }
        };
        let live = self.probe(&published, upstream, now).await;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { published, live, chain_answers };
    }

    /// Reads what the registry's final blocks added since the last time, and where each live certificate stands.
    async fn read_registry(&self, ledger: &Ledger, now: UnixTime) -> Result<Vec<Published>, LedgerError> {
        let mut registry = self.registry.lock().await;
        let block = ledger.finalized().await?;
        if registry.block == Some(block.number) {
            return Ok(registry.published.clone());
        }
        let from = registry.block.map_or(0, |read| read.saturating_add(1));
        if from <= block.number {
            let added = ledger.certificates(from, block).await?;
            registry.certificates.extend(added.into_iter().map(|entry| (entry.id, entry.certificate)));
        }
        registry.certificates.retain(|_, certificate| now <= certificate.not_after);
        while registry.certificates.len() > CERTIFICATES {
            registry.certificates.pop_first();
        }
        let mut published = Vec::new();
        for (id, certificate) in &registry.certificates {
            let revoked =
                ledger.standing(*id, At::Block(block)).await?.is_none_or(|standing| standing.revoked_at.is_some());
            let endpoint = ledger.endpoint(*id, At::Block(block)).await?;
            if !revoked && is_endpoint(&endpoint) && published.len() < WORKERS {
                let endpoint = endpoint.trim_end_matches('/').to_owned();
                published.push(Published { id: *id, worker: certificate.worker, endpoint });
            }
        }
        registry.block = Some(block.number);
        registry.published = published.clone();
        Ok(published)
    }

    async fn probe(&self, published: &[Published], upstream: &Upstream, now: UnixTime) -> Vec<Arc<Worker>> {
        let ids: HashSet<CertificateId> = published.iter().map(|entry| entry.id).collect();
        let endpoints: HashSet<&String> = published.iter().map(|entry| &entry.endpoint).collect();
        let (mut running, mut waiting) = (JoinSet::new(), endpoints.into_iter().cloned());
        let mut live = BTreeMap::new();
        loop {
            while running.len() < PROBES
                && let Some(endpoint) = waiting.next()
            {
                let upstream = upstream.clone();
                running.spawn(async move {
                    let identity = fetch_identity(&upstream, &endpoint).await;
                    (endpoint, identity)
                });
            }
            let Some(done) = running.join_next().await else { break };
            if let Ok((endpoint, Some(identity))) = done
                && ids.contains(&identity.certificate.id(self.cluster))
                && identity.certificate.is_live(now)
            {
                let worker = Arc::new(Worker { identity, endpoint });
                live.insert(worker.address(), worker);
            }
        }
        live.into_values().collect()
    }
}

/// Whether a text from the registry may be used as a base URL.
fn is_endpoint(text: &str) -> bool {
    let parsed = reqwest::Url::parse(text).ok();
    text.len() <= 256
        && parsed.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
        })
}

async fn fetch_identity(upstream: &Upstream, endpoint: &str) -> Option<WorkerIdentity> {
    let response = upstream.client().get(format!("{endpoint}/v1/identity")).timeout(PROBE_TIMEOUT).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let bytes = read_bounded(response, MAX_IDENTITY).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}
