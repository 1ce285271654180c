//! What a worker says about itself and what a gateway says about a function. Both are claims: the caller verifies them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_types::{
    Address, CodeHash, Digest, FunctionId, ManifestHash, UnixTime, eip712::Certificate, keyset::Keyset,
    quorum::IndexedSignature,
};

/// Version of the documents in this module.
pub const VERSION: u32 = 1;

/// A worker's identity document, the answer of `GET /v1/identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerIdentity {
    /// Version of this document.
    pub version: u32,
    /// The worker certificate.
    pub certificate: Certificate,
    /// Gatekeepers' signatures over the certificate's digest, in index order.
    pub signatures: Vec<IndexedSignature>,
    /// The keyset that the certificate names.
    pub keyset: Keyset,
    /// The nonce that the evidence commits to beside the keyset, if any.
    pub nonce: Option<Digest>,
    /// Evidence over the keyset, in the form of tacit-attest.
    pub evidence: Value,
    /// Collateral for it, in the form of tacit-attest.
    pub collateral: Value,
    /// URL under which the worker is reached.
    pub endpoint: String,
}

impl WorkerIdentity {
    /// Whether it runs models: only then does it end TLS for anybody.
    pub fn runs_models(&self) -> bool {
        !self.keyset.tls_public_keys.is_empty()
    }
}

/// The workers that run models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AiWorkers {
    /// Version of this document.
    pub version: u32,
    /// Addresses of their receipt keys.
    pub workers: Vec<Address>,
}

/// A function as the registry on the home chain describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionRecord {
    /// The function.
    pub id: FunctionId,
    /// Its owner.
    pub owner: Address,
    /// Its name, unique per owner.
    pub name: String,
    /// Number of versions.
    pub versions: u64,
    /// Code and manifest that count.
    pub code_hash: CodeHash,
    /// Keccak-256 of the canonical manifest that counts.
    pub manifest_hash: ManifestHash,
    /// Where module and manifest are: see [`crate::BlobUri`].
    pub uri: String,
    /// Since when this version counts.
    pub activation: UnixTime,
    /// Key epoch of the function's root key.
    pub key_epoch: u64,
    /// Whether no further version can come.
    pub frozen: bool,
    /// Seconds between the announcement of a version and its activation.
    pub upgrade_delay: u64,
    /// SHA-256 of the current sealed set of secrets; zero for none.
    pub secrets_digest: Digest,
    /// Version of the current set of secrets; zero for none.
    pub secrets_version: u64,
}

/// The answer of `GET /f/{id}`: who may serve the function, in the order in which to try them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionAnswer {
    /// Version of this document.
    pub version: u32,
    /// The function.
    pub function: FunctionRecord,
    /// Live certified workers in rendezvous order, at most [`crate::limits::MAX_WORKERS`].
    pub workers: Vec<WorkerIdentity>,
}
