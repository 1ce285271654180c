//! Step 2: a network. Who was admitted with which measurement, and that an altered binary is refused.

use std::{
    cell::Cell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tacit_api::{StatusReport, WorkerIdentity, reports::NodeState};
use tacit_attest::Preset;
use tacit_client::{Client, Entry};
use tacit_types::{FunctionId, deployment::Deployment, eip712::Platform, ids::parse_hex, signature::SigningKey};
use tacit_verify::Judge;

use crate::{inputs::Inputs, private_ai, screen::short, tool::Tool};

/// How long the demo waits for a process to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running local network and what it was started from.
pub struct Network {
    /// The `tacit` command for it.
    pub tool: Tool,
    folder: PathBuf,
    up: Duration,
    status: StatusReport,
    folders: Cell<u32>,
}

impl Network {
    /// Starts a network below `folder`.
    pub fn start(tool: Tool, folder: &Path, inputs: &Inputs) -> Result<Self> {
        let model = private_ai::add_model(&tool, inputs)?;
        let offered: &[&str] = if model { &["--model", private_ai::MODEL] } else { &[] };
        let start = Instant::now();
        tool.run(&[&["up", "--detach"], offered].concat())?;
        let up = start.elapsed();
        let status = tool.json(&["status"])?;
        Ok(Self { tool, folder: folder.to_owned(), up, status, folders: Cell::default() })
    }

    /// Shows who is in it, and what each worker was measured as.
    pub async fn show(&self, inputs: &Inputs) -> Result<()> {
        let status = self.status()?;
        let deployment = self.deployment()?;
        let set = deployment.genesis.gatekeeper_set();
        println!(
            "2 A NETWORK   {} gatekeepers ({} hold a key, {} a register), {} workers, {} operators, {} gateways, home chain",
            set.size(),
            set.threshold,
            set.quorum(),
            status.workers.len(),
            self.operators()?,
            status.gateways.len(),
        );
        println!(
            "  up in {:.1} s, cluster {}, root {}",
            self.up.as_secs_f64(),
            short(&deployment.cluster_id),
            deployment.policy["extra_roots"][0]["name"].as_str().context("the policy names no root of its own")?,
        );
        for (number, worker) in (1..).zip(&status.workers) {
            let found = worker.measurement.with_context(|| format!("worker-{number} has no measurement"))?;
            let (signatures, platform) = self.admission(&worker.url).await?;
            let expected = self.measure(&inputs.worker_binary, platform)?;
            println!(
                "  worker-{number}  {:<11}  measured {} = the running binary    admitted by {signatures} of {}, {} needed",
                platform.name(),
                short(&found),
                set.size(),
                set.threshold,
            );
            ensure!(
                worker.state == NodeState::Ready,
                "expected that worker-{number} is ready, found {}",
                worker.state.name()
            );
            ensure!(
                found.to_string() == expected,
                "expected that worker-{number} runs {}, which measures {expected}, found {found}",
                inputs.worker_binary.display()
            );
            ensure!(
                signatures >= set.threshold as usize,
                "expected that at least {} gatekeepers admit worker-{number}, found {signatures}",
                set.threshold
            );
        }
        for gatekeeper in &status.gatekeepers {
            let state = gatekeeper.state;
            ensure!(
                state == NodeState::Ready,
                "expected that gatekeeper {} is ready, found {}",
                gatekeeper.index,
                state.name()
            );
        }
        Ok(())
    }

    /// Accounts that run workers: each has its own key.
    fn operators(&self) -> Result<usize> {
        let mut keys = BTreeSet::new();
        for number in 1..=self.status.workers.len() {
            keys.insert(std::fs::read(self.tool.network().join(format!("worker-{number}/operator.key")))?);
        }
        Ok(keys.len())
    }

    /// Gatekeepers that signed the certificate of the worker at a URL, and its platform; it holds under the client's policy.
    async fn admission(&self, url: &str) -> Result<(usize, Platform)> {
        self.client()?.through(vec![Entry::worker(url)]).fetch_workers(FunctionId::ZERO).await?;
        let identity: WorkerIdentity = reqwest::get(format!("{url}/v1/identity")).await?.json().await?;
        Ok((identity.signatures.len(), identity.certificate.platform))
    }

    /// What a simulated machine of a platform measures of a process that runs this binary.
    pub fn measure(&self, binary: &Path, platform: Platform) -> Result<String> {
        let platform = match platform {
            Platform::Sgx => "sgx",
            Platform::Tdx => "tdx",
            Platform::SevSnp => "snp",
            Platform::Nitro => bail!("there are no simulated Nitro enclaves"),
        };
        let mut command = Command::new(self.binary("tacit-simulator"));
        let output = command.args(["measure", "--platform", platform, "--executable"]).arg(binary).output()?;
        ensure!(output.status.success(), "tacit-simulator measure: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The network's own copy of a binary.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.tool.network().join("bin").join(name)
    }

    /// A worker's configuration.
    pub fn worker_config(&self, name: &str) -> Result<toml::Table> {
        let path = self.tool.network().join(name).join("config.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.parse().with_context(|| path.display().to_string())
    }

    /// The name and process of the worker at a URL.
    pub fn worker_at(&self, url: &str) -> Result<(String, u32)> {
        let status = self.status()?;
        let index = status.workers.iter().position(|worker| worker.url == url);
        let index = index.with_context(|| format!("no worker of the network is at {url}"))?;
        let pid = status.workers[index].pid.with_context(|| format!("the worker at {url} has no process here"))?;
        Ok((format!("worker-{}", index + 1), pid))
    }

    /// Waits until every worker is admitted, after some were killed.
    pub fn wait_for_workers(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.status()?.workers.iter().all(|worker| worker.state == NodeState::Ready) {
            ensure!(Instant::now() < until, "expected every worker back within {} s", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// A new folder of the demo, outside of the network's.
    pub fn new_folder(&self, name: &str) -> Result<PathBuf> {
        self.folders.set(self.folders.get() + 1);
        let folder = self.folder.join(format!("{name}-{}", self.folders.get()));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// What `tacit status` says now.
    pub fn status(&self) -> Result<StatusReport> {
        self.tool.json(&["status"])
    }

    /// The deployment file.
    pub fn deployment_path(&self) -> PathBuf {
        self.tool.network().join("deployment.json")
    }

    /// The deployment.
    pub fn deployment(&self) -> Result<Deployment> {
        let path = self.deployment_path();
        Deployment::from_json(&std::fs::read(&path)?).with_context(|| path.display().to_string())
    }

    /// The local caller's key.
    pub fn caller_key(&self) -> Result<SigningKey> {
        let text = std::fs::read_to_string(self.tool.network().join("caller.key"))?;
        Ok(SigningKey::from_bytes(&parse_hex(text.trim())?)?)
    }

    /// A client that judges by the preset `dev`, which names the deployment's simulated root, and signs with the caller's key.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.deployment()?, Judge::Preset(Preset::Dev))?.with_caller(self.caller_key()?))
    }

    /// Entries in the transparency logs of all workers, as their newest checkpoints say.
    pub async fn logged_receipts(&self) -> Result<u64> {
        let http = reqwest::Client::new();
        let mut entries = 0;
        for address in self.status()?.workers.iter().filter_map(|worker| worker.address) {
            let url = format!("{}/log/{address}/checkpoint", self.gateway(0)?);
            let answer = http.get(&url).send().await?;
            // A worker that answered nothing yet has no checkpoint.
            if answer.status().is_success() {
                let note = answer.text().await?;
                let size = note.lines().nth(1).with_context(|| format!("{url} is not a checkpoint"))?;
                entries += size.parse::<u64>().with_context(|| format!("{url} names no size"))?;
            }
        }
        Ok(entries)
    }

    /// URL of a gateway, counted from zero.
    pub fn gateway(&self, index: usize) -> Result<String> {
        let gateway = self.status.gateways.get(index).with_context(|| format!("there is no gateway {index}"))?;
        Ok(gateway.url.clone())
    }
}

/// Copies a folder. Sockets are left out: they are not on a disk.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Ends a process of the network at once; its supervisor starts it again.
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)
}

/// Asks a process to end.
pub fn terminate(pid: u32) -> Result<()> {
    signal(pid, Signal::TERM)
}

/// A process that is stopped as long as this lives: it answers nothing and drops nothing.
pub struct Pause(u32);

impl Pause {
    /// Stops a process.
    pub fn process(pid: u32) -> Result<Self> {
        signal(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // It may have been killed in between, and then there is nothing to go on.
        let _ = signal(self.0, Signal::CONT);
    }
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(id, signal).with_context(|| format!("process {pid}"))
}
