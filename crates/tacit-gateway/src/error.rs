//! Why a gateway cannot start or go on.

use std::path::PathBuf;

/// Why a gateway cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The deployment file cannot be read.
    #[error("could not read the deployment file {path}")]
    ReadDeployment {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The deployment file is not one.
    #[error("{path} is not a deployment file")]
    Deployment {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: tacit_types::deployment::DeploymentError,
    },
    /// The home chain's contracts are not known from the deployment.
    #[error("the deployment does not describe a usable home chain")]
    Ledger(#[source] tacit_ledger::LedgerError),
    /// The folder for blobs cannot be used.
    #[error("could not use the blob folder {path}")]
    Blobs {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client for workers cannot be made.
    #[error("could not make the client that talks to workers")]
    Client(#[source] reqwest::Error),
}
