//! A worker process that the network did not start: somebody else's, with what an attacker has in his hands.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tacit_client::{Candidate, Client, Entry};
use tacit_types::FunctionId;

use crate::network::terminate;

/// How long a process may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// What a worker's log says when it has a certificate.
pub const ADMITTED: &str = "admitted certificate=";

/// A child process that ends with this.
pub struct Owned(Child);

impl Owned {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let shown = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("could not start {shown}"))?))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running worker of a stranger.
pub struct Stranger {
    process: Owned,
    url: String,
    log: PathBuf,
}

impl Stranger {
    /// Starts `binary` as a worker with a worker's configuration, on a port of its own, logging to `folder`.
    pub fn start(binary: &Path, mut config: toml::Table, folder: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr())?;
        let url = format!("http://{address}");
        config.insert("listen".into(), address.to_string().into());
        config.insert("endpoint".into(), url.clone().into());
        // The port of the models is taken, and no attack needs them.
        config.remove("ai");
        let path = folder.join("stranger.toml");
        std::fs::write(&path, toml::to_string(&config)?)?;
        let log = folder.join("stranger.log");
        let mut command = Command::new(binary);
        command.args(["worker", "run", "--config"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log)?);
        Ok(Self { process: Owned::start(&mut command)?, url, log })
    }

    /// The first line of its log that holds one of these texts.
    pub fn says(&mut self, texts: &[&str]) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.process.0.try_wait()?;
            let log = std::fs::read_to_string(&self.log)?;
            // The last line may be half written.
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().find(|line| texts.iter().any(|text| line.contains(text))) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                bail!("expected a worker that says one of {texts:?}, found that it ended with {status}:\n{log}");
            }
            ensure!(Instant::now() < until, "expected a worker that says one of {texts:?}, found:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The worker as a client finds it when it asks the process itself. It holds under the client's policy.
    pub async fn candidate(&self, client: Client, function: FunctionId) -> Result<Candidate> {
        let workers = client.through(vec![Entry::worker(&self.url)]).fetch_workers(function).await?;
        workers.first().cloned().context("the process says nothing of itself")
    }

    /// Asks it to end, so that it gives back what it holds, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        terminate(self.process.0.id())?;
        let until = Instant::now() + GRACE;
        while self.process.0.try_wait()?.is_none() {
            ensure!(Instant::now() < until, "expected that the worker ends within {} s", GRACE.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
