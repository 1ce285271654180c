//! Starts a worker and keeps it certified.

use std::{fs, future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tacit_api::{Problem, ProblemKind, limits};
use tacit_inference::Backend;
use tacit_ledger::{Addresses, At, Ledger, LedgerError};
use tacit_platform::{Driver, GuestSocket};
use tacit_runtime::{CompiledCache, Engine, EngineConfig, egress::Network};
use tacit_store::{Blobs, Reminders, open_local};
use tacit_types::{Address, deployment::Deployment, signature::SigningKey};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use crate::{
    acknowledger::Acknowledger,
    admission::{Applicant, parse_key, renewal_time, wait_until},
    ai,
    calls::Calls,
    certificates::{Certificates, Certified},
    chain_requests::ChainRequests,
    code::Loader,
    config::{Machine, WorkerConfig},
    confirmer::Confirmer,
    context::Context,
    deliveries::{Deliveries, Reminded},
    error::WorkerError,
    evidence::EvidenceSource,
    functions::Functions,
    gatekeepers::Gatekeepers,
    http::{Surface, router},
    keys::Keys,
    metrics::Metrics,
    nonces::Nonces,
    receipts::Receipts,
    time::now,
    transparency::TransparencyLog,
    under_way::UnderWay,
};

/// Nonces that are remembered at the same time.
const NONCES: usize = 262_144;
/// First and longest time between two tries to be admitted.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// How often the chain is asked whether this worker was revoked.
const REVOCATION_PERIOD: Duration = Duration::from_secs(3);

/// A worker that listens and asks for admission.
pub struct Worker {
    address: SocketAddr,
    account: Address,
    functions: Functions,
    context: Arc<Context>,
    tasks: JoinSet<()>,
}

impl Worker {
    /// Starts a worker: keys are born, the address is bound, and admission is asked for until it is given.
    ///
    /// # Errors
    /// When a file, the machine, the runtime or the address cannot be used. Not being admitted is no error here: it is
    /// tried again, and `/readyz` says so.
    pub async fn start(config: WorkerConfig) -> Result<Self, WorkerError> {
        Self::start_with(config, Vec::new()).await
    }

    /// As [`Worker::start`], with the models that `config.ai` names.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn start_with(config: WorkerConfig, models: Vec<Arc<dyn Backend>>) -> Result<Self, WorkerError> {
        check(&config)?;
        // Another provider may be installed already; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let deployment = read_deployment(&config.deployment)?;
        let operator = read_operator(&config.operator_key)?;
        let machine = driver(&config.machine)?;
        let evidence = EvidenceSource::new(&config, machine.clone())?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| WorkerError::Listen { address: config.listen, source })?;
        let address = listener.local_addr().map_err(|source| WorkerError::Listen { address: config.listen, source })?;
        let endpoint = config.endpoint.clone().unwrap_or_else(|| format!("http://{address}"));
        let tls = config.ai.as_ref().map(ai::tls_identity).transpose()?;
        let keys = Arc::new(Keys::generate(now(), tls)?);
        let mut context = context(&config, deployment, &operator, &machine, Arc::clone(&keys)).await?;
        let ai = match config.ai.clone() {
            Some(ai) => Some(
                ai::start(ai::Parts {
                    config: ai,
                    folder: config.folder.join("ai"),
                    machine: machine.clone(),
                    keys: Arc::clone(&keys),
                    log: context.log.clone(),
                    metrics: Arc::clone(&context.metrics),
                    models,
                })
                .await?,
            ),
            None => None,
        };
        context.models = ai.as_ref().map(|ai| Arc::clone(&ai.surface.service));
        let context = Arc::new(context);
        let functions = Functions::new(Arc::clone(&context));
        let calls = Calls {
            context: Arc::clone(&context),
            functions: functions.clone(),
            nonces: Arc::new(Nonces::new(NONCES)),
            under_way: Arc::new(UnderWay::new()),
        };
        let surface = Surface {
            calls: calls.clone(),
            places: Arc::new(Semaphore::new(config.limits.calls)),
            ai: ai.as_ref().map(|ai| ai::Relayed::new(ai.surface.clone())),
        };
        let mut tasks = JoinSet::new();
        if let Some(ai) = ai {
            tracing::info!(address = %ai.address, "models are offered");
            tasks.spawn(ai.task);
        }
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router(surface)).await {
                tracing::error!(%error, "the worker does not listen any more");
            }
        });
        tasks.spawn(functions.clone().keep());
        tasks.spawn(Deliveries::new(calls.clone()).run());
        tasks.spawn(Reminded::new(calls.clone()).run());
        tasks.spawn(ChainRequests::new(calls, config.folder.join("requests.block")).run());
        tasks.spawn(evidence.renewed().keep_renewing(now));
        let candidate =
            Candidate { context: Arc::clone(&context), functions: functions.clone(), evidence, operator, endpoint };
        tasks.spawn(candidate.keep_certified());
        tracing::info!(%address, account = %keys.address, "worker started");
        Ok(Self { address, account: keys.address, functions, context, tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account of its receipt key.
    pub const fn account(&self) -> Address {
        self.account
    }

    /// Waits until the worker has a certificate.
    pub async fn certified(&self) {
        while self.context.certificates.newest(now()).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives back what it holds, so that other workers need not wait, and ends.
    pub async fn stop(mut self) {
        self.functions.give_back().await;
        self.tasks.shutdown().await;
    }
}

/// Runs a worker with the models that `config.ai` names until `stop` is done.
///
/// # Errors
/// As [`Worker::start`].
pub async fn run(
    config: WorkerConfig,
    models: Vec<Arc<dyn Backend>>,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let worker = Worker::start_with(config, models).await?;
    stop.await;
    worker.stop().await;
    Ok(())
}

fn check(config: &WorkerConfig) -> Result<(), WorkerError> {
    let limits = &config.limits;
    let refuse = |key, reason: &str| Err(WorkerError::Config { key, reason: reason.to_owned() });
    if !(5..=120).contains(&limits.lease_seconds) {
        return refuse("limits.lease_seconds", "from 5 to 120");
    }
    if !(1..=65_536).contains(&limits.calls) || !(1..=65_536).contains(&limits.queue) {
        return refuse("limits.calls and limits.queue", "from 1 to 65536");
    }
    if !(1..=1 << 20).contains(&limits.functions) || !(1..=4_096).contains(&limits.sandboxes) {
        return refuse("limits.functions and limits.sandboxes", "at least 1, at most 1048576 and 4096");
    }
    Ok(())
}

async fn context(
    config: &WorkerConfig,
    deployment: Deployment,
    operator: &SigningKey,
    machine: &Driver,
    keys: Arc<Keys>,
) -> Result<Context, WorkerError> {
    let cluster = deployment.cluster_id;
    let metrics = Arc::new(Metrics::default());
    let urls = deployment.gatekeepers.iter().map(|gatekeeper| gatekeeper.url.clone()).collect();
    let gatekeepers = Gatekeepers::new(cluster, deployment.genesis.gatekeeper_set(), urls)?;
    let addresses = Addresses::from_map(&deployment.genesis.contracts)?;
    let ledger = Ledger::connect(&deployment.chain.rpc, addresses, deployment.chain.finality)?;
    let writer = ledger.writer(operator)?;
    create(&config.folder)?;
    let cache = match machine.seal_key("compiled").await {
        Ok(key) => Some(CompiledCache::new(config.folder.join("compiled"), *key.expose())),
        Err(error) => {
            tracing::info!(%error, "compiled code is not kept: this machine has no sealing key");
            None
        }
    };
    let concurrency = config.limits.sandboxes;
    let engine = tokio::task::spawn_blocking(move || {
        Engine::new(EngineConfig { concurrency, cache, ..EngineConfig::default() })
    });
    let engine = engine
        .await
        .map_err(|error| WorkerError::File { path: config.folder.clone(), source: std::io::Error::other(error) })??;
    let blobs = Blobs::new(open_local(&config.folder.join("blobs"))?, limits::MAX_BLOB);
    let state = open_local(&config.store)?;
    let gateways = if config.gateways.is_empty() { deployment.gateways.clone() } else { config.gateways.clone() };
    Ok(Context {
        acknowledger: Acknowledger::start(gatekeepers.clone(), keys.receipt.clone(), Arc::clone(&metrics)),
        confirmer: Confirmer::start(gatekeepers.clone(), keys.receipt.clone(), Arc::clone(&metrics)),
        log: TransparencyLog::start(
            config.folder.join("log"),
            cluster,
            keys.address,
            keys.note.clone(),
            Arc::clone(&metrics),
        ),
        receipts: Receipts::start(config.folder.join("receipts")),
        loader: Loader::new(engine.clone(), blobs, gateways)?,
        reminders: Reminders::new(Arc::clone(&state)),
        state,
        network: Arc::new(Network::internet()),
        certificates: Certificates::default(),
        models: None,
        limits: config.limits.clone(),
        cluster,
        deployment,
        keys,
        gatekeepers,
        engine,
        ledger,
        writer,
        metrics,
    })
}

/// The machine that attests this process.
pub(crate) fn driver(machine: &Machine) -> Result<Driver, WorkerError> {
    match machine {
        Machine::GuestAgent { socket } => Ok(Driver::GuestSocket(GuestSocket::new(socket))),
        Machine::Kernel { root } => Driver::find(root).ok_or_else(|| WorkerError::Config {
            key: "machine",
            reason: "this machine has neither sys/kernel/config/tsm/report nor dev/sev-guest nor dev/attestation; \
                     `tacit worker check` says what is missing"
                .to_owned(),
        }),
    }
}

pub(crate) fn create(folder: &Path) -> Result<(), WorkerError> {
    fs::create_dir_all(folder).map_err(|source| WorkerError::File { path: folder.to_owned(), source })
}

fn read_deployment(path: &Path) -> Result<Deployment, WorkerError> {
    let bytes = fs::read(path).map_err(|source| WorkerError::File { path: path.to_owned(), source })?;
    Deployment::from_json(&bytes).map_err(|source| WorkerError::Deployment { path: path.to_owned(), source })
}

fn read_operator(path: &Path) -> Result<SigningKey, WorkerError> {
    let text = fs::read_to_string(path).map_err(|source| WorkerError::File { path: path.to_owned(), source })?;
    parse_key(&zeroize::Zeroizing::new(text)).ok_or_else(|| WorkerError::OperatorKey(path.to_owned()))
}

/// Asks for admission and renewal.
struct Candidate {
    context: Arc<Context>,
    functions: Functions,
    evidence: EvidenceSource,
    operator: SigningKey,
    endpoint: String,
}

impl Candidate {
    async fn keep_certified(self) {
        let mut wait = RETRY.0;
        loop {
            match self.admit().await {
                Ok(certified) => {
                    wait = RETRY.0;
                    self.context.metrics.admissions_total.add(1);
                    tracing::info!(certificate = %certified.id, until = %certified.signed.certificate.not_after, "admitted");
                    self.watch(&certified).await;
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "not admitted, will ask again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn admit(&self) -> Result<Arc<Certified>, WorkerError> {
        let context = &self.context;
        let applicant = Applicant {
            keys: &context.keys,
            gatekeepers: &context.gatekeepers,
            deployment: &context.deployment,
            evidence: &self.evidence,
            operator: &self.operator,
            endpoint: &self.endpoint,
        };
        let certified = applicant.admit().await?;
        Ok(context.certificates.add(certified, now()))
    }

    /// Publishes a certificate, watches for its revocation, and returns when it is time for another.
    async fn watch(&self, certified: &Certified) {
        let renewal = renewal_time(&certified.signed.certificate);
        let mut published = false;
        loop {
            if !published {
                published = self.publish(certified).await;
            }
            if now() >= renewal {
                return;
            }
            let pause = if published { REVOCATION_PERIOD } else { Duration::from_millis(500) };
            tokio::time::sleep(pause.min(wait_until(renewal))).await;
            let live = self.context.certificates.live(certified.id, now()).is_some();
            if !live || self.is_revoked(certified).await {
                self.context.certificates.remove(certified.id);
                let problem = Problem::new(ProblemKind::NotCertified, "the worker's certificate was revoked");
                self.functions.lose_all(&problem);
                tracing::error!(certificate = %certified.id, "revoked: nothing is answered any more");
                return;
            }
        }
    }

    async fn is_revoked(&self, certified: &Certified) -> bool {
        let certificate = &certified.signed.certificate;
        let revoked = self.context.ledger.revocation_of(certified.id, certificate, At::Latest).await;
        matches!(revoked, Ok(Some(_)))
    }

    async fn publish(&self, certified: &Certified) -> bool {
        let signed = &certified.signed;
        let endpoint = Some((certified.endpoint.as_str(), &certified.operator_signature));
        match self.context.writer.publish_certificate(&signed.certificate, &signed.signatures, endpoint).await {
            Ok(outcome) => {
                tracing::info!(certificate = %certified.id, block = outcome.block, "certificate published");
                true
            }
            Err(error @ LedgerError::Refused(_)) => {
                tracing::error!(error = %chain(&error), "the chain refuses the certificate");
                true
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the certificate is not published yet");
                false
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}
