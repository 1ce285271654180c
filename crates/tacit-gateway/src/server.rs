//! Starts a gateway: listens within bounds, keeps looking at registry and workers, stops when told.

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tacit_ledger::{Addresses, Ledger, LedgerError};
use tacit_types::{UnixTime, deployment::Deployment};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tower::ServiceExt as _;

use crate::{
    Config, GatewayError,
    blobs::Blobs,
    directory::Directory,
    forward::Upstream,
    functions::Functions,
    limiter::Limiter,
    metrics::Metrics,
    routes::{App, body_units, router},
};

/// Longest that the head of a request may take, and that a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 32 << 10;
/// Most header fields of a request.
const HEAD_FIELDS: usize = 64;
/// Longest that one read of the home chain may take.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long requests under way may take once the gateway is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    connections: usize,
    router: axum::Router,
    watcher: JoinHandle<()>,
}

impl Gateway {
    /// Reads the deployment, opens the blob folder, listens and begins to look for workers.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn start(config: &Config) -> Result<Self, GatewayError> {
        let path = &config.deployment;
        let bytes =
            std::fs::read(path).map_err(|source| GatewayError::ReadDeployment { path: path.clone(), source })?;
        let deployment =
            Deployment::from_json(&bytes).map_err(|source| GatewayError::Deployment { path: path.clone(), source })?;
        let ledger = connect(&deployment).map_err(GatewayError::Ledger)?;
        let folder = config.data.join("blobs");
        let blobs =
            Blobs::open(&folder, config.blob_quota).map_err(|source| GatewayError::Blobs { path: folder, source })?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| GatewayError::Listen { address: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| GatewayError::Listen { address: config.listen, source })?;
        let app = Arc::new(App {
            cluster: deployment.cluster_id,
            network: deployment.genesis.network.clone(),
            simulated: deployment.genesis.simulated,
            directory: Directory::new(deployment.cluster_id),
            functions: Functions::default(),
            peers: peers(config, &deployment, address),
            deployment: Bytes::from(bytes),
            ledger,
            blobs,
            upstream: Upstream::new().map_err(GatewayError::Client)?,
            limiter: Limiter::new(config.requests_per_second, config.burst),
            metrics: Metrics::new(),
            body_memory: Arc::new(Semaphore::new(body_units(config.body_memory))),
        });
        let watcher = tokio::spawn(watch(app.clone(), Duration::from_millis(config.probe_milliseconds.max(50))));
        Ok(Self { listener, address, connections: config.connections, router: router(app), watcher })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done; requests under way get a few seconds to end.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        tracing::info!(address = %self.address, "the gateway listens");
        serve(self.listener, self.router, self.connections, stop).await;
        self.watcher.abort();
    }
}

/// Starts a gateway and serves until the process is told to end.
///
/// # Errors
/// [`GatewayError`].
pub async fn run(config: Config) -> Result<(), GatewayError> {
    let gateway = Gateway::start(&config).await?;
    gateway.serve(told_to_end()).await;
    Ok(())
}

fn connect(deployment: &Deployment) -> Result<Ledger, LedgerError> {
    let addresses = Addresses::from_map(&deployment.genesis.contracts)?;
    Ok(Ledger::connect(&deployment.chain.rpc, addresses, deployment.chain.finality)?.with_timeout(CHAIN_TIMEOUT))
}

async fn told_to_end() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The other gateways: those of the configuration and of the deployment, without this one.
fn peers(config: &Config, deployment: &Deployment, own: SocketAddr) -> Vec<String> {
    let own = format!("http://{own}");
    let mut peers: Vec<String> = Vec::new();
    for url in config.peers.iter().chain(&deployment.gateways) {
        let url = url.trim_end_matches('/');
        if url != own && !peers.iter().any(|peer| peer == url) {
            peers.push(url.to_owned());
        }
    }
    peers
}

async fn watch(app: Arc<App>, pause: Duration) {
    loop {
        app.directory.refresh(&app.ledger, &app.upstream, now()).await;
        tokio::time::sleep(pause).await;
    }
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs()))
}

/// HTTP/1.1 with bounds on heads, on idle time and on the number of connections.
async fn serve(listener: TcpListener, router: axum::Router, connections: usize, stop: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(connections.max(1)));
    let mut running = JoinSet::new();
    let (ending, told) = tokio::sync::watch::channel(false);
    tokio::pin!(stop);
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.expect("the slots are never closed"),
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors or a connection that is gone: neither ends the gateway.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (router, mut told) = (router.clone(), told.clone());
        running.spawn(async move {
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(peer);
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES)
                .max_headers(HEAD_FIELDS)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = told.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(slot);
        });
        while running.try_join_next().is_some() {}
    }
    let _ = ending.send(true);
    let _ = tokio::time::timeout(GRACE, async { while running.join_next().await.is_some() {} }).await;
}
