use std::path::PathBuf;

use tacit_attest::{AttestError, PolicyError};
use tacit_ledger::LedgerError;
use tacit_platform::PlatformError;
use tacit_runtime::RuntimeError;
use tacit_store::StoreError;
use tacit_types::{deployment::DeploymentError, keyset::KeysetError};

/// Why a worker could not start or be admitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A file could not be read or written.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The deployment does not hold.
    #[error("the deployment file {path} is not usable")]
    Deployment {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DeploymentError,
    },
    /// The operator's key file holds no key.
    #[error("{0} holds no secret key (0x and 64 hex digits)")]
    OperatorKey(PathBuf),
    /// A value of the configuration is outside what is allowed.
    #[error("{key}: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is allowed.
        reason: String,
    },
    /// The machine gave no evidence.
    #[error("the machine does not attest this process")]
    Machine(#[from] PlatformError),
    /// The client that fetches collateral cannot be made.
    #[error("collateral cannot be fetched")]
    Collateral(#[source] tacit_peer::PeerError),
    /// The machine's own evidence does not hold under the cluster's policy.
    #[error("this machine's evidence does not hold under the cluster's policy")]
    Evidence(#[from] AttestError),
    /// The deployment's policy cannot be read.
    #[error("the deployment's policy is not usable")]
    Policy(#[from] PolicyError),
    /// The keyset has no canonical form.
    #[error("the keyset is not usable")]
    Keyset(#[from] KeysetError),
    /// Fewer gatekeepers than t admitted this worker.
    #[error("admitted by {admitted} gatekeepers, {needed} needed: {reasons}")]
    NotAdmitted {
        /// Signatures received.
        admitted: u32,
        /// Signatures needed.
        needed: u32,
        /// What the others said.
        reasons: String,
    },
    /// The home chain failed.
    #[error("the home chain")]
    Chain(#[from] LedgerError),
    /// The store failed.
    #[error("the store")]
    Store(#[from] StoreError),
    /// The runtime does not start.
    #[error("the runtime")]
    Runtime(#[from] RuntimeError),
    /// The HTTP client does not start.
    #[error("the HTTP client does not start")]
    Client(#[from] reqwest::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
