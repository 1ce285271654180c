//! The anvil process: flags, port, and what an earlier supervisor may have left running.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::{AnvilConfig, log_file, rpc::LocalRpc, snapshot::Snapshots};
use crate::error::LedgerError;

/// What is written beside the chain about the process that serves it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// Clock ticks after boot at which the process began: tells it from a later one with the same number.
    began: u64,
    port: u16,
}

pub(super) struct Process {
    child: Child,
    pid: u32,
}

fn record_file(directory: &Path) -> PathBuf {
    directory.join("anvil.json")
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> LedgerError {
    move |source| LedgerError::LocalChain { action, source }
}

impl Process {
    pub(super) fn spawn(config: &AnvilConfig, port: u16) -> Result<Self, LedgerError> {
        let log = fs::File::create(log_file(&config.directory)).map_err(failed("cannot write its log"))?;
        let child = Command::new(&config.binary)
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--chain-id", &config.chain_id.to_string()])
            .args(["--hardfork", "osaka", "--slots-in-an-epoch", "1", "--preserve-historical-states"])
            // No account with a key that everybody knows.
            .args(["--accounts", "0", "--quiet"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("could not start anvil"))?;
        let pid = child.id().ok_or_else(|| failed("could not start anvil")(io::ErrorKind::NotFound.into()))?;
        Ok(Self { child, pid })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status if it has ended.
    pub(super) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Notes the process beside the chain.
    pub(super) fn record(&self, directory: &Path, port: u16) -> Result<(), LedgerError> {
        let record = Record { pid: self.pid, began: began(self.pid).unwrap_or(0), port };
        let text = serde_json::to_string(&record).map_err(io::Error::other).map_err(failed("cannot be noted"))?;
        fs::write(record_file(directory), text).map_err(failed("cannot be noted"))
    }

    pub(super) async fn end(&mut self, directory: &Path) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
        if let Some(mut record) = read_record(directory) {
            record.pid = 0;
            if let Ok(text) = serde_json::to_string(&record) {
                let _ = fs::write(record_file(directory), text);
            }
        }
    }
}

/// Takes the folder for this supervisor; the lock goes with the file.
pub(super) fn lock(directory: &Path) -> Result<fs::File, LedgerError> {
    let file = fs::File::create(directory.join("anvil.lock")).map_err(failed("cannot lock its folder"))?;
    file.try_lock().map_err(io::Error::from).map_err(failed("is already run by another process"))?;
    Ok(file)
}

fn read_record(directory: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(record_file(directory)).ok()?).ok()
}

/// When a process began, from `/proc`; nothing where there is none or it only waits to be reaped.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields after it are plain. State is field 3, start time field 22.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Saves from, then ends, the process that an earlier supervisor of this folder left behind.
pub(super) async fn end_orphan(directory: &Path, snapshots: &Snapshots) -> Result<(), LedgerError> {
    let Some(record) = read_record(directory) else { return Ok(()) };
    if record.pid == 0 || began(record.pid) != Some(record.began) {
        return Ok(());
    }
    tracing::warn!(pid = record.pid, "an anvil of an earlier run still serves this folder; ending it");
    if let Err(error) = snapshots.save(&LocalRpc::new(record.port)?).await {
        tracing::warn!(%error, "it could not be saved from; the last snapshot counts");
    }
    if let Some(pid) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::KILL).map_err(|error| failed("cannot be ended")(error.into()))?;
    }
    for _ in 0..250 {
        if began(record.pid) != Some(record.began) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Err(failed("cannot be ended")(io::ErrorKind::TimedOut.into()))
}

/// Longest wait for a port that is in use: a connection of anybody's may have it for its own end for a moment, and so may an
/// anvil that was killed: it counts as ended with its first thread, and its sockets are closed with its last.
const PORT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The configured port, or the last one if it is free, or any free one.
pub(super) async fn choose_port(config: &AnvilConfig) -> Result<u16, LedgerError> {
    let free = |port: u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
    };
    if let Some(port) = config.port {
        let until = tokio::time::Instant::now() + PORT_PATIENCE;
        loop {
            match free(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                result => return result.map_err(failed("cannot have its port")),
            }
        }
    }
    let last = read_record(&config.directory).map_or(0, |record| record.port);
    free(last).or_else(|_| free(0)).map_err(failed("finds no free port"))
}

#[cfg(test)]
mod tests {
    use super::{super::AnvilSearch, *};

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let own = std::process::id();
        assert!(began(own).is_some());
        assert_eq!(began(own), began(own));
        assert_eq!(began(u32::MAX), None);
    }

    #[tokio::test]
    async fn a_port_that_is_let_go_in_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let config =
            AnvilConfig { binary: "anvil".into(), directory: folder.path().into(), port: Some(port), chain_id: 5 };
        let mut choice = Box::pin(choose_port(&config));
        let taken = tokio::time::timeout(std::time::Duration::from_millis(10), &mut choice).await;
        assert!(taken.is_err(), "it is in use");
        drop(listener);
        assert_eq!(choice.await.unwrap(), port);
    }

    #[tokio::test]
    async fn what_an_earlier_supervisor_left_is_saved_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let binary = AnvilSearch::from_environment().find().expect("run `make bootstrap`, or `npm ci` in contracts/");
        let config = AnvilConfig { binary, directory: folder.path().into(), port: None, chain_id: 5 };
        let snapshots = Snapshots::new(folder.path());
        let port = choose_port(&config).await.unwrap();
        let (process, rpc) = super::super::launch(&config, port, &snapshots).await.unwrap();
        rpc.mine().await.unwrap();
        assert!(snapshots.load().await.unwrap().is_none());
        let (pid, start) = (process.pid(), began(process.pid()));
        // As after kill -9 of the supervisor: nobody ends the child.
        let mut child = process.child;
        let reaper = std::thread::spawn(move || {
            while child.try_wait().unwrap().is_none() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        end_orphan(folder.path(), &snapshots).await.unwrap();
        assert_ne!(began(pid), start);
        assert!(snapshots.load().await.unwrap().is_some());
        reaper.join().unwrap();
        // A second time there is nothing to end.
        end_orphan(folder.path(), &snapshots).await.unwrap();
    }
}
