#![doc = include_str!("../README.md")]

pub mod bench;
pub mod ceremony;
mod chain;
mod challenge;
mod client;
mod config;
mod desk;
mod error;
mod founding;
mod http;
mod identity;
mod journal;
mod node;
mod seal;
mod seen;
mod serving;

use std::{future::Future, net::SocketAddr, sync::Arc};

use tacit_platform::Driver;
use tokio::{sync::watch, task::JoinHandle};

pub use client::GatekeeperClient;
pub use config::{Clock, Config};
pub use error::GatekeeperError;
pub use identity::X_WING;

/// A running gatekeeper.
pub struct Gatekeeper {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    node: Arc<node::Node>,
}

impl Gatekeeper {
    /// Opens the data folder and starts to listen.
    ///
    /// # Errors
    /// When the machine gives no sealing key, the stored state does not open, or the address cannot be had.
    pub async fn start(config: Config, driver: Driver, clock: Clock) -> Result<Self, GatekeeperError> {
        let listen = config.listen;
        let node = Arc::new(node::Node::open(config, driver, clock).await?);
        let (listener, address) =
            http::listen(listen).await.map_err(|source| GatekeeperError::Listen { address: listen, source })?;
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(http::serve(listener, http::router(node.clone()), stopped));
        tracing::info!(%address, "gatekeeper listens");
        Ok(Self { address, stop, server, node })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers what is under way and ends. Nothing depends on this: what was answered is on disk.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ended = self.server.await;
        self.node.stop().await;
    }
}

/// Runs a gatekeeper until `shutdown`; `ready` gets the address that it listens on.
///
/// # Errors
/// As [`Gatekeeper::start`].
pub async fn run(
    config: Config,
    driver: Driver,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), GatekeeperError> {
    let gatekeeper = Gatekeeper::start(config, driver, Clock::system()).await?;
    ready(gatekeeper.address());
    shutdown.await;
    gatekeeper.stop().await;
    Ok(())
}
