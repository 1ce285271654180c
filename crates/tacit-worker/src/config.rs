//! How a worker is set up.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use tacit_peer::Endpoints;

use crate::ai::AiConfig;

/// The configuration file of a worker. Relative paths are taken from the folder in which the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// URL under which clients and gateways reach the worker; `http://` and the bound address without it.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// This worker's own folder: transparency logs, receipts, compiled code, blobs.
    pub folder: PathBuf,
    /// Folder of the functions' state, which the workers of a network share. Everything in it is sealed.
    pub store: PathBuf,
    /// The deployment file.
    pub deployment: PathBuf,
    /// File with the operator's secret key, `0x` and 64 hex digits.
    pub operator_key: PathBuf,
    /// The machine that attests this process.
    pub machine: Machine,
    /// Where collateral for this machine is fetched; without it the machine hands it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Endpoints>,
    /// The machine's GPUs, where it shows any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// The models that it offers to people and to functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai: Option<AiConfig>,
    /// Where modules and manifests are fetched; the deployment's gateways without it.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Bounds.
    #[serde(default)]
    pub limits: WorkerLimits,
}

/// How the machine's GPUs attest themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpus {
    /// A program with its first arguments: it gets a nonce as its last one and prints what the GPUs sign over it, see
    /// [`tacit_platform::GpuCommand`].
    pub command: Vec<String>,
    /// Files with the vendor's reference manifests of driver and VBIOS.
    #[serde(default)]
    pub manifests: Vec<PathBuf>,
}

/// The machine that attests this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Machine {
    /// A guest agent on a Unix socket: dstack's, or that of a simulated machine.
    GuestAgent {
        /// The socket.
        socket: PathBuf,
    },
    /// What this very process is offered: Gramine's files, the kernel's report interface, or the SEV-SNP guest's device.
    Kernel {
        /// Root of the file system that they are looked for in.
        root: PathBuf,
    },
}

/// Bounds on what a worker takes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerLimits {
    /// Calls that are in the worker at the same time; more get 429.
    pub calls: usize,
    /// Calls that wait for one function; more get 429.
    pub queue: usize,
    /// Functions that are held at the same time; idle ones give way.
    pub functions: usize,
    /// Sandboxes that run at the same time.
    pub sandboxes: u32,
    /// Seconds that a lease lasts, 5 to 120: how long a function waits for another worker if this one dies.
    pub lease_seconds: u64,
    /// Seconds without a call after which a function is given back.
    pub idle_seconds: u64,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self { calls: 1_024, queue: 256, functions: 4_096, sandboxes: 128, lease_seconds: 15, idle_seconds: 600 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        listen = "127.0.0.1:0"
        folder = "worker-1"
        store = "store"
        deployment = "deployment.json"
        operator_key = "operator.key"
        machine = { kind = "guest-agent", socket = "machine/agent.sock" }
    "#;

    #[test]
    fn the_example_names_every_setting_at_its_default() {
        let example: WorkerConfig = toml::from_str(include_str!("../../../deploy/worker.toml")).unwrap();
        assert_eq!(example.limits, WorkerLimits::default());
        let ai = example.ai.unwrap();
        assert_eq!(ai.models[0].engine, tacit_inference::EngineSettings::default());
        assert!(ai.keys[0].tokens.is_some() && ai.models[0].price.is_some());
    }

    #[test]
    fn defaults_are_filled_in_and_unknown_keys_refused() {
        let config: WorkerConfig = toml::from_str(SMALL).unwrap();
        assert_eq!((config.limits, config.endpoint), (WorkerLimits::default(), None));
        let more = "collateral = { pccs = \"https://pccs.example/\" }\ngpus = { command = [\"tool\"] }";
        let config: WorkerConfig = toml::from_str(&format!("{SMALL}\n{more}")).unwrap();
        let collateral = config.collateral.unwrap();
        assert_eq!(collateral.pccs.as_str(), "https://pccs.example/");
        assert_eq!(collateral.kds, Endpoints::default().kds);
        assert_eq!(config.gpus.unwrap().command, ["tool"]);
        let check =
            |more: &str| assert!(toml::from_str::<WorkerConfig>(&format!("{SMALL}\n{more}")).is_err(), "{more}");
        check("verify = false");
        check("collateral = { pccs = \"nowhere\" }");
        check("collateral = { pcs = \"https://pccs.example/\" }");
        check("gpus = { manifests = [] }");
        check("[limits]\ncall = 3");
        check("machine = { kind = \"none\" }");
    }
}
