//! The one error type of this crate.

use std::path::PathBuf;

/// Why a gatekeeper cannot start or a cluster cannot be founded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatekeeperError {
    /// The configuration cannot be read.
    #[error("configuration: {0}")]
    Config(String),
    /// A file or folder of the gatekeeper does not work.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A sealed file does not open: another machine's, another code's, or altered.
    #[error("{path} does not open under this machine's and this code's sealing key")]
    Sealed {
        /// Which.
        path: PathBuf,
    },
    /// A stored file opens but does not make sense.
    #[error("{path}: {reason}")]
    Stored {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The machine gives no evidence or key.
    #[error("this machine gives no evidence or key")]
    Platform(#[from] tacit_platform::PlatformError),
    /// The client that fetches collateral cannot be made.
    #[error("collateral cannot be fetched")]
    Collateral(#[from] tacit_peer::PeerError),
    /// The home chain's addresses cannot be used.
    #[error("the home chain of the genesis document cannot be used")]
    Ledger(#[from] tacit_ledger::LedgerError),
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A gatekeeper cannot be reached.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A gatekeeper answered with a problem.
    #[error("{url} refuses: {problem}")]
    Refused {
        /// Which.
        url: String,
        /// Its words.
        problem: Box<tacit_api::Problem>,
    },
    /// A gatekeeper's answer cannot be read or contradicts the others.
    #[error("{url} answers with {what}")]
    Answer {
        /// Which.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The genesis document that the parts make is not possible.
    #[error("no possible genesis: {0}")]
    Genesis(String),
    /// Another process of this gatekeeper runs already.
    #[error("{path} is in use by another process")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}
