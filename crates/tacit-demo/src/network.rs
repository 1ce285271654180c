//! Step 2: a network. Who was admitted with which measurement, and that an altered binary is refused.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tacit_api::{StatusReport, reports::NodeState};
use tacit_attest::Preset;
use tacit_client::Client;
use tacit_types::{deployment::Deployment, ids::parse_hex, signature::SigningKey};
use tacit_verify::Judge;

use crate::{screen::short, tool::Tool};

/// A running local network and what it was started from.
pub struct Network {
    /// The `tacit` command for it.
    pub tool: Tool,
    project: PathBuf,
    folder: PathBuf,
    status: StatusReport,
}

impl Network {
    /// Starts a network below `folder` and shows who is in it.
    pub fn start(tool: Tool, project: &Path, folder: &Path) -> Result<Self> {
        let start = Instant::now();
        tool.run(&["up", "--detach"])?;
        let up = start.elapsed();
        let status: StatusReport = tool.json(&["status"])?;
        let network = Self { tool, project: project.to_owned(), folder: folder.to_owned(), status };
        let deployment = network.deployment()?;
        let set = deployment.genesis.gatekeeper_set();
        println!(
            "2 A NETWORK   {} gatekeepers ({} hold a key, {} a register), {} workers, {} operators, {} gateways, home chain    up in {:.1} s, cluster {} ({})",
            set.size(),
            set.threshold,
            set.quorum(),
            network.status.workers.len(),
            network.status.workers.len(),
            network.status.gateways.len(),
            up.as_secs_f64(),
            short(&deployment.cluster_id),
            deployment.genesis.network,
        );
        for (number, worker) in network.status.workers.iter().enumerate() {
            let measurement = worker.measurement.context("a worker without a measurement is ready")?;
            println!(
                "  worker-{}  measured {} = the running binary, guest image inside      admitted",
                number + 1,
                short(&measurement)
            );
            ensure!(worker.state == NodeState::Ready, "worker-{} is {}", number + 1, worker.state.name());
        }
        let gatekeepers = &network.status.gatekeepers;
        ensure!(gatekeepers.iter().all(|gatekeeper| gatekeeper.state == NodeState::Ready), "a gatekeeper is not ready");
        Ok(network)
    }

    /// What `tacit status` says now.
    pub fn status(&self) -> Result<StatusReport> {
        self.tool.json(&["status"])
    }

    /// The project's folder.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// The demo's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The example that the demo runs.
    pub fn example(&self) -> PathBuf {
        self.project.join("examples/medical-check")
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

/// Ends a process of the network at once; its supervisor starts it again.
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)
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
