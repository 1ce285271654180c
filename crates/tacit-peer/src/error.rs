//! What can fail between nodes.

use tacit_attest::AttestError;
use tacit_types::UnixTime;

/// Why a peer was not believed, or collateral not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// A service cannot be reached, or broke off.
    #[error("{service} cannot be reached")]
    Unreachable {
        /// Which service.
        service: &'static str,
        /// What the connection said.
        #[source]
        source: reqwest::Error,
    },
    /// A service refused.
    #[error("{service} answered with status {status}{}", hint(*status))]
    Status {
        /// Which service.
        service: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// An answer has more bytes than are read.
    #[error("{service} answered with more than {limit} bytes")]
    Oversized {
        /// Which service.
        service: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// An answer has another shape than the service promises.
    #[error("{service} answered with {what}")]
    Answer {
        /// Which service.
        service: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A service refused a moment ago and is left alone for a while.
    #[error("{service} refused a moment ago; it is asked again at {at}")]
    Waiting {
        /// Which service.
        service: &'static str,
        /// When it is asked again.
        at: UnixTime,
    },
    /// The evidence needs collateral that no service hands out.
    #[error("{0} is not published: it must come with the evidence")]
    NotPublished(&'static str),
    /// More kinds of collateral are asked for than are kept.
    #[error("more than {0} kinds of collateral are in use")]
    Full(usize),
    /// The evidence cannot be read.
    #[error(transparent)]
    Evidence(#[from] AttestError),
    /// A key or certificate of this node cannot be made.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

fn hint(status: u16) -> &'static str {
    match status {
        404 => ": it does not know this platform",
        429 => ": it is asked too often",
        _ => "",
    }
}
