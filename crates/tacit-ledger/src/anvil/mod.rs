//! The local chain: anvil, found, started, watched, and kept on disk.
//!
//! anvil has no consensus: a block counts as final two blocks later. The supervisor takes a snapshot of every block that
//! holds a transaction and mines the two empty blocks only when the snapshot is durable, so nothing final is ever lost and
//! an idle chain does not grow.

mod binary;
mod process;
mod rpc;
mod snapshot;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tacit_types::Address;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub use binary::AnvilSearch;

use self::{process::Process, rpc::LocalRpc, snapshot::Snapshots};
use crate::error::LedgerError;

/// How the local chain is run.
#[derive(Debug, Clone)]
pub struct AnvilConfig {
    /// The anvil binary ([`AnvilSearch::find`]).
    pub binary: PathBuf,
    /// Folder of the chain: snapshot, log, last port.
    pub directory: PathBuf,
    /// Loopback port; `None` takes the last one again if it is free, else any.
    pub port: Option<u16>,
    /// Id of a new chain; a restored one keeps its own.
    pub chain_id: u64,
}

/// A running local chain. Dropping it ends the process; [`Anvil::stop`] does so in order.
pub struct Anvil {
    url: String,
    port: u16,
    pid: Arc<AtomicU32>,
    restarts: watch::Receiver<u64>,
    commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
}

enum Command {
    Fund { account: Address, amount: u128, done: oneshot::Sender<Result<(), LedgerError>> },
    Stop,
}

/// What the supervisor's task holds.
struct Supervisor {
    config: AnvilConfig,
    port: u16,
    process: Process,
    rpc: LocalRpc,
    snapshots: Snapshots,
    /// Number of the newest block that needs no further empty blocks on top.
    settled: u64,
    pid: Arc<AtomicU32>,
    restarts: watch::Sender<u64>,
    /// Held as long as this supervisor lives: a folder has one.
    _lock: std::fs::File,
}

/// How often the supervisor looks for new blocks.
const LOOK: Duration = Duration::from_millis(20);
/// How long anvil may take to answer after its start.
const START: Duration = Duration::from_secs(30);
/// Empty blocks after which a block counts as final with one slot in an epoch.
const EMPTY_BLOCKS: u64 = 2;

impl Anvil {
    /// Starts the chain kept in the configured folder, or a new one, and watches it until it is stopped or dropped.
    ///
    /// An anvil process that an earlier supervisor left behind in the same folder is saved from, then ended.
    ///
    /// # Errors
    /// [`LedgerError::LocalChain`] when the process or the folder does not work, [`LedgerError::Unreachable`] when anvil does
    /// not answer.
    pub async fn start(config: AnvilConfig) -> Result<Self, LedgerError> {
        tokio::fs::create_dir_all(&config.directory)
            .await
            .map_err(|source| LedgerError::LocalChain { action: "has no folder", source })?;
        let lock = process::lock(&config.directory)?;
        let snapshots = Snapshots::new(&config.directory);
        process::end_orphan(&config.directory, &snapshots).await?;
        let port = process::choose_port(&config).await?;
        let (process, rpc) = launch(&config, port, &snapshots).await?;
        let pid = Arc::new(AtomicU32::new(process.pid()));
        let (restarts_sender, restarts) = watch::channel(0);
        let mut supervisor = Supervisor {
            config,
            port,
            process,
            rpc,
            snapshots,
            settled: 0,
            pid: Arc::clone(&pid),
            restarts: restarts_sender,
            _lock: lock,
        };
        supervisor.settle(true).await?;
        let url = supervisor.rpc.url().to_owned();
        let (commands, inbox) = mpsc::channel(16);
        let task = tokio::spawn(supervisor.run(inbox));
        Ok(Self { url, port, pid, restarts, commands, task: Some(task) })
    }

    /// URL of its JSON-RPC, on loopback.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Process id of anvil; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Acquire)
    }

    /// Counts how often anvil had to be started again.
    pub fn restarts(&self) -> watch::Receiver<u64> {
        self.restarts.clone()
    }

    /// Sets an account's balance, in the chain's smallest coin. Local coins have no value.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn fund(&self, account: Address, amount: u128) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        let command = Command::Fund { account, amount, done };
        let stopped = || LedgerError::Unreachable { rpc: self.url.clone(), reason: "it was stopped".into() };
        self.commands.send(command).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Takes a last snapshot and ends the process.
    pub async fn stop(mut self) {
        // The task may have ended by itself; then there is nothing to stop.
        let _ = self.commands.send(Command::Stop).await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Starts anvil on `port`, waits until it answers and restores the snapshot, if there is one.
async fn launch(config: &AnvilConfig, port: u16, snapshots: &Snapshots) -> Result<(Process, LocalRpc), LedgerError> {
    let mut process = Process::spawn(config, port)?;
    let rpc = LocalRpc::new(port)?;
    let until = tokio::time::Instant::now() + START;
    while rpc.block_number().await.is_err() {
        if let Some(status) = process.exited() {
            let source =
                std::io::Error::other(format!("anvil ended with {status}; see anvil.log in the chain's folder"));
            return Err(LedgerError::LocalChain { action: "did not start", source });
        }
        if tokio::time::Instant::now() >= until {
            return Err(LedgerError::Unreachable { rpc: rpc.url().to_owned(), reason: "anvil does not answer".into() });
        }
        tokio::time::sleep(LOOK).await;
    }
    if let Some(state) = snapshots.load().await? {
        rpc.load_state(&state).await?;
    }
    process.record(&config.directory, port)?;
    Ok((process, rpc))
}

impl Supervisor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                status = self.process.ended() => {
                    tracing::warn!(%status, "anvil ended; starting it again");
                    self.restart().await;
                }
                command = inbox.recv() => match command {
                    Some(Command::Fund { account, amount, done }) => {
                        // Nobody waits for the answer any more: the account is funded all the same.
                        let _ = done.send(self.fund(account, amount).await);
                    }
                    Some(Command::Stop) | None => break,
                },
                _ = look.tick() => {
                    if let Err(error) = self.settle(false).await {
                        tracing::debug!(%error, "the local chain did not answer");
                    }
                }
            }
        }
        if let Err(error) = self.snapshots.save(&self.rpc).await {
            tracing::warn!(%error, "no last snapshot of the local chain");
        }
        self.process.end(&self.config.directory).await;
    }

    /// Makes whatever is new durable, then final.
    async fn settle(&mut self, after_start: bool) -> Result<(), LedgerError> {
        let mut newest = self.rpc.block_number().await?;
        if newest == self.settled && !after_start {
            return Ok(());
        }
        loop {
            self.snapshots.save(&self.rpc).await?;
            let mut expected = newest;
            for _ in 0..EMPTY_BLOCKS {
                self.rpc.mine().await?;
                expected += 1;
                newest = self.rpc.block_number().await?;
                if newest != expected {
                    break;
                }
            }
            if newest == expected {
                self.settled = newest;
                return Ok(());
            }
            // A transaction came between: its block has no snapshot yet.
        }
    }

    async fn fund(&mut self, account: Address, amount: u128) -> Result<(), LedgerError> {
        self.rpc.set_balance(account, amount).await?;
        // A block of its own, so that the balance is part of a state root and of a snapshot.
        self.rpc.mine().await?;
        self.settle(false).await
    }

    async fn restart(&mut self) {
        let mut pause = Duration::from_millis(50);
        loop {
            match launch(&self.config, self.port, &self.snapshots).await {
                Ok((process, rpc)) => {
                    self.pid.store(process.pid(), Ordering::Release);
                    self.process = process;
                    self.rpc = rpc;
                    self.settled = 0;
                    match self.settle(true).await {
                        Ok(()) => {
                            self.restarts.send_modify(|count| *count += 1);
                            return;
                        }
                        Err(error) => tracing::warn!(%error, "the restored chain does not answer"),
                    }
                }
                Err(error) => tracing::warn!(%error, "anvil could not be started again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Path of the log that anvil writes.
pub fn log_file(directory: &Path) -> PathBuf {
    directory.join("anvil.log")
}
