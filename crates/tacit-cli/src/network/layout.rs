//! Where a local network keeps what, and on which ports its processes listen.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::context::write_file;

const PLAN_VERSION: u32 = 1;
/// Longest path of a Unix socket on Linux, without the closing zero.
const LONGEST_SOCKET: usize = 107;

/// What one network consists of; made once, kept in `network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Version of this file.
    pub version: u32,
    /// Name of the network; ends in `-sim`.
    pub network: String,
    /// Chain id of the local chain.
    pub chain_id: u64,
    /// Threshold t.
    pub threshold: u32,
    /// Every process that listens, by name, in the order of starting.
    pub ports: BTreeMap<String, u16>,
    /// Number of gatekeepers.
    pub gatekeepers: u32,
    /// Number of workers.
    pub workers: u32,
    /// Number of gateways.
    pub gateways: u32,
    /// Models that every worker offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Folder of the models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_folder: Option<PathBuf>,
}

impl Plan {
    /// A new plan with a free loopback port for every process.
    pub fn new(network: &str, chain_id: u64, gatekeepers: u32, threshold: u32, workers: u32) -> Result<Self> {
        let mut plan = Self {
            version: PLAN_VERSION,
            network: format!("{network}-sim"),
            chain_id,
            threshold,
            ports: BTreeMap::new(),
            gatekeepers,
            workers,
            gateways: 2,
            models: Vec::new(),
            models_folder: None,
        };
        let names: Vec<String> = std::iter::once("chain".to_owned()).chain(plan.nodes()).collect();
        plan.ports = free_ports(names)?;
        Ok(plan)
    }

    /// The same with models, which every worker offers on a port of its own.
    pub fn with_models(mut self, models: &[String], folder: &Path) -> Result<Self> {
        if !models.is_empty() {
            self.models = models.to_vec();
            self.models_folder = Some(folder.to_owned());
            // All anew and at once, so that no two are equal.
            let names = self.ports.keys().cloned();
            self.ports = free_ports(names.chain(self.worker_names().iter().map(|name| models_port(name))).collect())?;
        }
        Ok(self)
    }

    /// Names of the gatekeepers, index order.
    pub fn gatekeeper_names(&self) -> Vec<String> {
        (0..self.gatekeepers).map(|index| format!("gatekeeper-{index}")).collect()
    }

    /// Names of the workers.
    pub fn worker_names(&self) -> Vec<String> {
        (1..=self.workers).map(|number| format!("worker-{number}")).collect()
    }

    /// Names of the gateways.
    pub fn gateway_names(&self) -> Vec<String> {
        (1..=self.gateways).map(|number| format!("gateway-{number}")).collect()
    }

    /// Names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        [self.gatekeeper_names(), self.worker_names(), self.gateway_names()].concat()
    }

    /// The address on which a process listens.
    pub fn address(&self, name: &str) -> Result<std::net::SocketAddr> {
        let port = self.ports.get(name).with_context(|| format!("network.json has no port for {name}"))?;
        Ok((Ipv4Addr::LOCALHOST, *port).into())
    }

    /// The address on which a worker offers its models, if the network has any.
    pub fn models_address(&self, worker: &str) -> Result<Option<std::net::SocketAddr>> {
        if self.models.is_empty() { Ok(None) } else { self.address(&models_port(worker)).map(Some) }
    }

    /// The URL of a process.
    pub fn url(&self, name: &str) -> Result<String> {
        Ok(format!("http://{}", self.address(name)?))
    }
}

fn models_port(worker: &str) -> String {
    format!("{worker}-models")
}

/// As many free loopback ports as there are names. All are held until the last is found, so that no two are equal.
fn free_ports(names: Vec<String>) -> Result<BTreeMap<String, u16>> {
    let mut held = Vec::new();
    for name in names {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
        held.push((name, listener));
    }
    held.into_iter().map(|(name, listener)| Ok((name, listener.local_addr()?.port()))).collect()
}

/// The folder of a local network.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout below `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The network's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The network's own copies of the binaries: what it was founded with is what its policy names.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Output of every process.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The simulated vendor: root key, authorities, collateral.
    pub fn root(&self) -> PathBuf {
        self.folder.join("simulated-vendor")
    }

    /// The root certificate of the simulated vendor of Intel's form.
    pub fn root_certificate(&self) -> PathBuf {
        self.root().join("root.der")
    }

    /// The root certificate of the simulated vendor of AMD's form, where the network has one.
    pub fn amd_root_certificate(&self) -> PathBuf {
        self.root().join("amd/ark.der")
    }

    /// The chain's snapshots.
    pub fn chain(&self) -> PathBuf {
        self.folder.join("chain")
    }

    /// What a client of the network's models needs: where they are, whom to believe, the key.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// A node's folder.
    pub fn node(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A node's configuration.
    pub fn config(&self, name: &str) -> PathBuf {
        self.node(name).join("config.toml")
    }

    /// A node's data.
    pub fn data(&self, name: &str) -> PathBuf {
        self.node(name).join("data")
    }

    /// The key of a worker's operator.
    pub fn operator_key(&self, name: &str) -> PathBuf {
        self.node(name).join("operator.key")
    }

    /// A simulated chip's folder: its id and sealing secret.
    pub fn chip(&self, name: &str) -> PathBuf {
        self.node(name).join("chip")
    }

    /// The Unix socket of a node's simulated chip.
    pub fn socket(&self, name: &str) -> Result<PathBuf> {
        let path = self.node(name).join("chip.sock");
        if path.as_os_str().len() > LONGEST_SOCKET {
            bail!("{} is too long for a Unix socket; choose a shorter folder with --dir", path.display());
        }
        Ok(path)
    }

    /// Makes the folders of a plan.
    pub fn create(&self, plan: &Plan) -> Result<()> {
        let nodes = plan.nodes();
        let mut folders = vec![self.folder.join("bin"), self.logs(), self.chain()];
        folders.extend(nodes.iter().flat_map(|name| [self.data(name), self.chip(name)]));
        for folder in folders {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("could not make the folder {}", folder.display()))?;
        }
        Ok(())
    }

    /// Reads `network.json`, if there is one.
    pub fn read_plan(&self) -> Result<Option<Plan>> {
        let path = self.folder.join("network.json");
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("could not read {}", path.display()))?,
        };
        let plan: Plan =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not readable", path.display()))?;
        if plan.version != PLAN_VERSION {
            bail!("{} has version {}, this build reads {PLAN_VERSION}", path.display(), plan.version);
        }
        Ok(Some(plan))
    }

    /// Writes `network.json`.
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        write_file(&self.folder.join("network.json"), &serde_json::to_vec_pretty(plan)?, 0o644)
    }

    /// Writes a node's configuration.
    pub fn write_config(&self, name: &str, config: &impl Serialize) -> Result<()> {
        let text = toml::to_string_pretty(config).with_context(|| format!("the configuration of {name}"))?;
        write_file(&self.config(name), text.as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_its_own_port() {
        let plan = Plan::new("local", 31_337, 4, 2, 2).unwrap();
        assert_eq!(plan.nodes().len(), 8);
        let distinct: std::collections::BTreeSet<u16> = plan.ports.values().copied().collect();
        assert_eq!(distinct.len(), 9);
        assert!(plan.url("worker-2").unwrap().starts_with("http://127.0.0.1:"));
        assert!(plan.url("worker-3").is_err());
    }

    #[test]
    fn models_have_ports_of_their_own() {
        let plain = Plan::new("local", 31_337, 4, 2, 2).unwrap();
        assert_eq!(plain.models_address("worker-1").unwrap(), None);
        let plan = plain.with_models(&["small".to_owned()], Path::new("/models")).unwrap();
        let distinct: std::collections::BTreeSet<u16> = plan.ports.values().copied().collect();
        assert_eq!(distinct.len(), 11);
        assert!(plan.models_address("worker-2").unwrap().is_some());
    }

    #[test]
    fn a_plan_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(layout.read_plan().unwrap(), None);
        let plan = Plan::new("local", 31_337, 4, 2, 2).unwrap();
        layout.create(&plan).unwrap();
        layout.write_plan(&plan).unwrap();
        assert_eq!(layout.read_plan().unwrap(), Some(plan));
    }

    #[test]
    fn a_socket_path_that_linux_refuses_is_refused_with_a_hint() {
        let error = Layout::new(Path::new(&format!("/{}", "x".repeat(120)))).socket("worker-1").unwrap_err();
        assert!(error.to_string().contains("--dir"));
    }
}
