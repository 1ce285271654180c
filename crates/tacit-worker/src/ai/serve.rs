//! Starts the AI service: within a worker, or as a node of its own that belongs to no network.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tacit_inference::Backend;
use tacit_platform::{Driver, PlatformError};
use tacit_types::{Address, ClusterId, keyset::Keyset};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use super::{
    accounts::Accounts,
    attestation::Attestation,
    config::AiConfig,
    fields::UsedNonces,
    http::{Surface, router},
    receipts::Receipts,
    service::{Offer, Service},
    tls::TlsListener,
};
use crate::{
    config::Machine,
    error::WorkerError,
    keys::{Keys, TlsIdentity},
    metrics::Metrics,
    time::now,
    transparency::TransparencyLog,
    worker::{create, driver},
};

/// The configuration of a node that serves models and nothing else: no chain, no gatekeepers, no operator's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's own folder: receipts, the log.
    pub folder: PathBuf,
    /// The machine that attests this process.
    pub machine: Machine,
    /// The service.
    pub ai: AiConfig,
}

/// A node that serves models. Dropping it ends it.
pub struct AiNode {
    address: SocketAddr,
    keys: Arc<Keys>,
    receipts_survive: bool,
    _task: AbortOnDrop,
}

impl AiNode {
    /// Starts a node: keys are born, the address is bound, and requests are answered.
    ///
    /// # Errors
    /// When a file, the machine or the address cannot be used.
    pub async fn start(config: NodeConfig, models: Vec<Arc<dyn Backend>>) -> Result<Self, WorkerError> {
        // Another provider may be installed already; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let machine = driver(&config.machine)?;
        let keys = Arc::new(Keys::generate(now(), Some(tls_identity(&config.ai)?))?);
        create(&config.folder)?;
        let metrics = Arc::new(Metrics::default());
        // The zero cluster is that of nodes which belong to none.
        let log = TransparencyLog::start(
            config.folder.join("log"),
            ClusterId::ZERO,
            keys.address,
            keys.note.clone(),
            Arc::clone(&metrics),
        );
        let folder = config.folder.join("ai");
        let parts = Parts { config: config.ai, folder, machine, keys: Arc::clone(&keys), log, metrics, models };
        let Started { address, receipts_survive, task, .. } = start(parts).await?;
        Ok(Self { address, keys, receipts_survive, _task: AbortOnDrop(tokio::spawn(task)) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account under which its log is found.
    pub fn account(&self) -> Address {
        self.keys.address
    }

    /// Its keys.
    pub fn keyset(&self) -> &Keyset {
        &self.keys.keyset
    }

    /// The certificate that it shows, DER. Clients pin its key, which the keyset names.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.keys.ai.tls.as_ref().map(|tls| tls.certificate.as_slice())
    }

    /// Whether receipts survive a restart: not on a machine without a sealing key.
    pub const fn receipts_survive(&self) -> bool {
        self.receipts_survive
    }
}

/// A task that ends with its handle.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The key that ends TLS for the hosts that the configuration names.
///
/// # Errors
/// [`WorkerError::Config`] for a name that is none.
pub(crate) fn tls_identity(config: &AiConfig) -> Result<TlsIdentity, WorkerError> {
    let hosts = match config.hosts.as_slice() {
        [] => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        hosts => hosts.to_vec(),
    };
    let refused = |error: rcgen::Error| WorkerError::Config { key: "ai.hosts", reason: error.to_string() };
    TlsIdentity::generate(&hosts).map_err(refused)
}

/// What a service is made of.
pub(crate) struct Parts {
    pub config: AiConfig,
    /// The service's own folder.
    pub folder: PathBuf,
    pub machine: Driver,
    pub keys: Arc<Keys>,
    pub log: TransparencyLog,
    pub metrics: Arc<Metrics>,
    pub models: Vec<Arc<dyn Backend>>,
}

/// A service whose address is bound.
pub(crate) struct Started {
    pub address: SocketAddr,
    /// Whether receipts survive a restart.
    pub receipts_survive: bool,
    pub surface: Surface,
    /// Answers until it is dropped.
    pub task: BoxFuture<'static, ()>,
}

/// Binds the service's address.
pub(crate) async fn start(parts: Parts) -> Result<Started, WorkerError> {
    let Parts { config, folder, machine, keys, log, metrics, models } = parts;
    create(&folder)?;
    let file = |source| WorkerError::File { path: folder.clone(), source };
    let receipts = match machine.seal_key("ai-receipts").await {
        Ok(key) => Receipts::open(folder.join("receipts"), &key, config.keep_days, now()).map_err(file)?,
        Err(PlatformError::Unsupported { .. }) => {
            tracing::warn!("receipts end with this process: the machine has no sealing key");
            Receipts::in_memory()
        }
        Err(error) => return Err(error.into()),
    };
    let receipts_survive = receipts.survive();
    let listen = |source| WorkerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let tls = keys.ai.tls.as_ref().ok_or_else(|| WorkerError::Config {
        key: "ai.listen",
        reason: "the keyset was made without a TLS key".to_owned(),
    })?;
    let listener = TlsListener::start(listener, tls).map_err(listen)?;
    let address = axum::serve::Listener::local_addr(&listener).map_err(listen)?;
    let price =
        |name: &str| config.models.iter().find(|model| model.name == name).and_then(|model| model.price.clone());
    let offers: BTreeMap<String, Offer> = models
        .into_iter()
        .map(|backend| {
            let name = backend.identity().name.clone();
            let price = price(&name);
            (name, Offer { backend, price })
        })
        .collect();
    let service = Arc::new(Service {
        keys: Arc::clone(&keys),
        models: offers,
        accounts: Accounts::open(config.keys, folder.join("used.json")).map_err(file)?,
        receipts,
        log,
        metrics,
        places: Arc::new(Semaphore::new(config.requests)),
        nonces: UsedNonces::default(),
    });
    let attestation = Arc::new(Attestation::new(machine, keys, config.provenance));
    let surface = Surface { service, attestation };
    let router = router(surface.clone());
    let task = async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the AI service does not listen any more");
        }
    };
    Ok(Started { address, receipts_survive, surface, task: task.boxed() })
}
