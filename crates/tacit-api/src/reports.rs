//! What the commands print with `--json`. The field names are part of the interface.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_types::{Address, CallId, ClusterId, CodeHash, FunctionId, Measurement, eip712::Outcome};

/// `tacit deploy --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeployReport {
    /// The function.
    pub function: FunctionId,
    /// Its name.
    pub name: String,
    /// Number of this version, counted from 1.
    pub version: u64,
    /// Code and manifest.
    pub code_hash: CodeHash,
    /// Where it is called.
    pub url: String,
}

/// `tacit call --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallReport {
    /// The call.
    pub call_id: CallId,
    /// How it ended.
    pub outcome: Outcome,
    /// The response: JSON as it is, other text as a string, other bytes as `0x` and hex digits.
    pub response: Value,
    /// The receipt bundle.
    pub receipt: Value,
}

/// `tacit status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusReport {
    /// Name of the network.
    pub network: String,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The home chain.
    pub chain: ChainStatus,
    /// The gateways.
    pub gateways: Vec<GatewayStatus>,
    /// The gatekeepers in index order.
    pub gatekeepers: Vec<GatekeeperStatus>,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
}

/// The home chain's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainStatus {
    /// RPC URL.
    pub rpc: String,
    /// Its process, if this machine runs it.
    pub pid: Option<u32>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayStatus {
    /// Its URL.
    pub url: String,
    /// Its process, if this machine runs it.
    pub pid: Option<u32>,
}

/// A gatekeeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatekeeperStatus {
    /// Its index in the set.
    pub index: u32,
    /// Its URL.
    pub url: String,
    /// Its process, if this machine runs it.
    pub pid: Option<u32>,
    /// What it does now.
    pub state: NodeState,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerStatus {
    /// Address of its receipt key, once it has been admitted.
    pub address: Option<Address>,
    /// Its URL.
    pub url: String,
    /// Its process, if this machine runs it.
    pub pid: Option<u32>,
    /// What it does now.
    pub state: NodeState,
    /// What it runs, once it has been admitted.
    pub measurement: Option<Measurement>,
}

/// What a node does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// It is reached and does not serve yet.
    Starting,
    /// It serves.
    Ready,
    /// It is not reached.
    Unreachable,
}

impl NodeState {
    /// The word that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
        }
    }
}
