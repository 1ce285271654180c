//! The way out: HTTPS to the hosts that a manifest allows, and to nothing else.
//!
//! Each stop of an exchange is checked anew: the scheme, the host against the manifest, and every address that the
//! name resolves to against [`address::refusal`]. The connection then goes to exactly the address that was checked, so a
//! name that answers differently a moment later gains nothing.

pub mod address;
mod exchange;
mod network;
mod policy;

use std::sync::Arc;
use std::time::Duration;

pub use network::{Dial, Network, Resolve, Stream};
pub use policy::AllowList;

use crate::host::{FetchRequest, FetchResponse, HostError};

/// Bounds of one exchange, redirects included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressLimits {
    /// Bytes of a request body.
    pub request: usize,
    /// Bytes of a response body.
    pub response: usize,
    /// Bytes of all header fields of a request or of a response.
    pub headers: usize,
    /// Header fields of a request or of a response.
    pub header_count: usize,
    /// Redirects that are followed.
    pub redirects: usize,
    /// Time of the whole exchange.
    pub timeout: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            request: 4 << 20,
            response: 8 << 20,
            headers: 64 << 10,
            header_count: 100,
            redirects: 10,
            timeout: Duration::from_secs(20),
        }
    }
}

/// Why an exchange was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The URL cannot be read.
    #[error("the URL \"{0}\" is not valid")]
    Url(String),
    /// The URL is not https.
    #[error("egress refused: {0}: only https leaves a function")]
    Scheme(String),
    /// The URL names another port.
    #[error("egress refused: {host}: port {port} is not 443")]
    Port {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
    },
    /// The URL carries a user name or password.
    #[error("egress refused: {0}: the URL holds a user name or password; use a header")]
    Credentials(String),
    /// The manifest does not allow the host.
    #[error(
        "egress refused: the manifest does not allow \"{host}\"; to allow it, write in tacit.toml under [egress]: {line}"
    )]
    NotAllowed {
        /// The host asked for.
        host: String,
        /// The line that would allow it.
        line: String,
    },
    /// The host resolves to an address that no function may reach.
    #[error("egress refused: {host} is {address}, {reason}, which no manifest can allow")]
    Address {
        /// The host asked for.
        host: String,
        /// What it resolved to.
        address: std::net::IpAddr,
        /// Which range that is.
        reason: &'static str,
    },
    /// The name does not resolve.
    #[error("{host} does not resolve")]
    Resolve {
        /// The host asked for.
        host: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// No connection.
    #[error("{host} cannot be reached")]
    Connect {
        /// The host asked for.
        host: String,
        /// What the network said.
        #[source]
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("the exchange with {host} broke off")]
    Http {
        /// The host asked for.
        host: String,
        /// What the client said.
        #[source]
        source: hyper::Error,
    },
    /// The request cannot be sent as it is.
    #[error("the request is not valid: {0}")]
    Request(&'static str),
    /// A redirect where none was wanted, or one too many, or one to nowhere.
    #[error("redirect refused: {0}")]
    Redirect(&'static str),
    /// Something is larger than allowed.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Bytes or fields allowed.
        limit: usize,
    },
    /// It took too long.
    #[error("{host} did not answer within {seconds} s")]
    Timeout {
        /// The host asked for.
        host: String,
        /// The bound.
        seconds: u64,
    },
}

impl From<EgressError> for HostError {
    fn from(error: EgressError) -> Self {
        use std::error::Error as _;
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            EgressError::Scheme(_)
            | EgressError::Port { .. }
            | EgressError::Credentials(_)
            | EgressError::NotAllowed { .. }
            | EgressError::Address { .. } => Self::Denied(text),
            EgressError::Url(_) | EgressError::Request(_) => Self::Invalid(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// The way out of one function.
#[derive(Clone)]
pub struct Egress {
    allow: AllowList,
    limits: EgressLimits,
    network: Arc<Network>,
}

impl Egress {
    /// The way out for a function whose manifest allows `allow`, over `network`, which many functions share.
    pub fn new(allow: AllowList, limits: EgressLimits, network: Arc<Network>) -> Self {
        Self { allow, limits, network }
    }

    /// Carries out one exchange.
    ///
    /// # Errors
    /// Refuses what the manifest or the address ranges forbid, and fails when the other side does.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, EgressError> {
        exchange::run(self, request).await
    }
}
