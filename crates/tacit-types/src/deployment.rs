//! The genesis document of a cluster and the deployment file that carries it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{Address, ClusterId, Digest, KeysetDigest, PolicyHash, RootId},
    jcs::{self, JcsError},
    keyset::{Keyset, padded_report_data},
    quorum::GatekeeperSet,
    time::UnixTime,
};

/// Version that this build writes.
pub const VERSION: u32 = 1;

/// Most bytes of a deployment file.
pub const MAX_BYTES: usize = 4 << 20;

/// What a cluster was founded on. Its digest is the cluster id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Genesis {
    /// Version of this document.
    pub version: u32,
    /// Name of the network; ends in `-sim` if any root is simulated.
    pub network: String,
    /// Chain id of the home chain.
    pub chain_id: u64,
    /// Contracts by name, at the addresses where they are or will be.
    pub contracts: BTreeMap<String, Address>,
    /// Keccak-256 of each contract's deployed code, by name.
    pub code_hashes: BTreeMap<String, Digest>,
    /// RPC endpoints of the home chain.
    pub rpcs: Vec<String>,
    /// Digest of the canonical attestation policy.
    pub policy: PolicyHash,
    /// Roots of trust that the policy accepts.
    pub roots: Vec<RootId>,
    /// Whether any of the roots is simulated.
    pub simulated: bool,
    /// Threshold t.
    pub threshold: u32,
    /// The initial gatekeepers in index order.
    pub gatekeepers: Vec<GenesisGatekeeper>,
    /// When the cluster was founded.
    pub time: UnixTime,
}

/// One initial gatekeeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenesisGatekeeper {
    /// Account of its chain key (the keyset's receipt key).
    pub address: Address,
    /// Digest of its keyset.
    pub keyset: KeysetDigest,
}

/// Why a genesis document or deployment was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// Not the expected JSON, or without a canonical form.
    #[error("the deployment is not readable")]
    Json(#[from] JcsError),
    /// Written by a version that this build does not know.
    #[error("the deployment has version {0}, this build reads {VERSION}")]
    Version(u32),
    /// The document contradicts itself.
    #[error("{0}")]
    Inconsistent(&'static str),
}

impl Genesis {
    /// The first gatekeeper epoch.
    pub const FIRST_EPOCH: u64 = 1;

    /// The cluster id: SHA-256 of the tag `tacit.genesis` (`tacit.genesis.sim` if any root is simulated), a zero byte and the
    /// canonical document.
    ///
    /// # Errors
    /// When the document has no canonical form or contradicts itself.
    pub fn cluster_id(&self) -> Result<ClusterId, DeploymentError> {
        self.validate()?;
        let mut hash = Sha256::new();
        hash.update(if self.simulated { b"tacit.genesis.sim\0".as_slice() } else { b"tacit.genesis\0".as_slice() });
        hash.update(jcs::to_bytes(self)?);
        Ok(ClusterId::from(<[u8; 32]>::from(hash.finalize())))
    }

    /// The gatekeeper set of the first epoch.
    pub fn gatekeeper_set(&self) -> GatekeeperSet {
        GatekeeperSet {
            epoch: Self::FIRST_EPOCH,
            threshold: self.threshold,
            members: self.gatekeepers.iter().map(|gatekeeper| gatekeeper.address).collect(),
        }
    }

    fn validate(&self) -> Result<(), DeploymentError> {
        if self.version != VERSION {
            return Err(DeploymentError::Version(self.version));
        }
        if self.simulated != self.network.ends_with("-sim") {
            return Err(DeploymentError::Inconsistent("a network's name ends in -sim exactly if a root is simulated"));
        }
        self.gatekeeper_set().validate().map_err(|_| DeploymentError::Inconsistent("not a possible gatekeeper set"))
    }
}

/// What a gatekeeper attests once the cluster's keys exist: the exact bytes that its quote commits to.
pub fn genesis_statement(cluster: ClusterId, transcript: Digest, keyset: KeysetDigest) -> String {
    format!(r#"{{"cluster":"{cluster}","keyset":"{keyset}","purpose":"tacit.genesis.v1","transcript":"{transcript}"}}"#)
}

/// Report data of a gatekeeper's genesis quote.
pub fn genesis_report_data(cluster: ClusterId, transcript: Digest, keyset: KeysetDigest) -> [u8; 64] {
    padded_report_data(genesis_statement(cluster, transcript, keyset).as_bytes())
}

/// A gatekeeper's part of the deployment: keyset, evidence over the genesis statement, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentGatekeeper {
    /// Its keyset; the digest stands in the genesis document.
    pub keyset: Keyset,
    /// Digest of the key generation's transcript.
    pub transcript: Digest,
    /// Evidence over [`genesis_report_data`], in the form of tacit-attest.
    pub evidence: serde_json::Value,
    /// Collateral for it, in the form of tacit-attest.
    pub collateral: serde_json::Value,
    /// URL of its HTTP interface.
    pub url: String,
}

/// The home chain as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentChain {
    /// RPC URL.
    pub rpc: String,
    /// `"finalized"`, `"safe"` or a number of confirmations.
    pub finality: Finality,
}

/// When a block of a chain counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Finality {
    /// By the chain's own word.
    Named(NamedFinality),
    /// After so many further blocks.
    Confirmations(u64),
}

/// A chain's own word for a block that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedFinality {
    /// The block tag `finalized`.
    Finalized,
    /// The block tag `safe`.
    Safe,
}

/// `deployment.json`: everything that a client needs to reach a cluster and to check what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// Version of this file.
    pub version: u32,
    /// The genesis document.
    pub genesis: Genesis,
    /// Its digest, for people; recomputed when read.
    pub cluster_id: ClusterId,
    /// The home chain.
    pub chain: DeploymentChain,
    /// The gatekeepers in index order.
    pub gatekeepers: Vec<DeploymentGatekeeper>,
    /// The canonical attestation policy, in the form of tacit-attest; its digest stands in the genesis document.
    pub policy: serde_json::Value,
    /// URLs of gateways.
    pub gateways: Vec<String>,
}

impl Deployment {
    /// Reads a deployment file and checks that it agrees with itself. Evidence is not judged here.
    ///
    /// # Errors
    /// When it is too large, unreadable, of another version, or contradicts itself.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DeploymentError> {
        if bytes.len() > MAX_BYTES {
            return Err(JcsError::TooLarge { limit: MAX_BYTES, found: bytes.len() }.into());
        }
        let deployment: Self = serde_json::from_slice(bytes).map_err(JcsError::from)?;
        if deployment.version != VERSION {
            return Err(DeploymentError::Version(deployment.version));
        }
        if deployment.genesis.cluster_id()? != deployment.cluster_id {
            return Err(DeploymentError::Inconsistent("the cluster id is not the digest of the genesis document"));
        }
        if deployment.gatekeepers.len() != deployment.genesis.gatekeepers.len() {
            return Err(DeploymentError::Inconsistent("not the gatekeepers of the genesis document"));
        }
        for (gatekeeper, genesis) in deployment.gatekeepers.iter().zip(&deployment.genesis.gatekeepers) {
            let digest =
                gatekeeper.keyset.digest().map_err(|_| DeploymentError::Inconsistent("a keyset has no digest"))?;
            let address = gatekeeper
                .keyset
                .receipt_address()
                .map_err(|_| DeploymentError::Inconsistent("a keyset has no chain key"))?;
            if digest != genesis.keyset || address != genesis.address {
                return Err(DeploymentError::Inconsistent(
                    "a gatekeeper's keyset is not the one of the genesis document",
                ));
            }
        }
        Ok(deployment)
    }
}
