//! Why there is no proven answer.

use std::path::PathBuf;

use tacit_envelope::EnvelopeError;
use tacit_receipt::{
    ReceiptError,
    aci::{AciError, PrefixedDigest},
};
use tacit_verify::{Report, Verdict, VerifyError};

/// Why there is no proven answer. No text quotes a request, an answer or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AiError {
    /// The node's address is not usable.
    #[error("the node's address is neither an https URL nor that of a gateway's models, http(s)://GATEWAY/ai")]
    Url,
    /// TLS cannot be set up.
    #[error("could not set up TLS")]
    Tls(#[source] rustls::Error),
    /// No HTTP client could be made.
    #[error("could not make an HTTP client")]
    Http(#[source] reqwest::Error),
    /// The node cannot be reached, or the connection broke.
    #[error("could not reach {host}")]
    Unreachable {
        /// The node.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The gateway knows no worker that runs models.
    #[error("the gateway knows no worker that runs models")]
    NoWorker,
    /// The node does not answer in time.
    #[error("the node did not answer in time")]
    Silent,
    /// The node has no such document.
    #[error("the node answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The node answered something else than was asked for.
    #[error("the node did not answer properly: {0}")]
    BadAnswer(&'static str),
    /// A document of the node's cannot be read.
    #[error("a document of the node's cannot be read")]
    Document(#[from] AciError),
    /// The vendor's collateral could not be had.
    #[error("could not fetch the collateral of the node's evidence")]
    Collateral(#[from] tacit_peer::PeerError),
    /// The evidence cannot be read.
    #[error("the node's evidence cannot be read")]
    Evidence(#[from] VerifyError),
    /// The node does not hold under the policy.
    #[error("the node does not hold under the policy: {}", .0.verdict_line())]
    Node(Box<Report>),
    /// The keyset has no key that is needed.
    #[error("the node's keyset is not usable")]
    Keyset(#[source] tacit_types::keyset::KeysetError),
    /// The request cannot be sealed.
    #[error("the request cannot be sealed")]
    Seal(#[source] EnvelopeError),
    /// The node refused outside the seal: nobody vouches for its words.
    #[error("the node refused with {status} outside the seal; the outcome is unknown")]
    Unsealed {
        /// The HTTP status.
        status: u16,
    },
    /// The answer does not open.
    #[error("the answer does not open: it was altered or cut off on the way")]
    Tampered(#[source] EnvelopeError),
    /// The answer broke off.
    #[error("the answer broke off before its end")]
    Cut {
        /// Why.
        #[source]
        source: Box<AiError>,
        /// Where its receipt is kept, if the node gave one.
        stored: Option<PathBuf>,
    },
    /// There is no receipt where there must be one.
    #[error("the node answered and gave no receipt")]
    NoReceipt,
    /// The receipt does not hold.
    #[error("the receipt does not hold: {}", .0.verdict_line())]
    Receipt(Box<Report>),
    /// The receipt is about another exchange.
    #[error("the receipt is about something else: {0}")]
    OtherExchange(&'static str),
    /// The model is not one of those that may answer.
    #[error("the model or adapter {found} is none of those that may answer")]
    Model {
        /// Digest of the model or adapter.
        found: PrefixedDigest,
    },
    /// The node offers no such model, or does not say which it is.
    #[error("the node does not say which model it would answer with")]
    UnknownModel,
    /// The log is not a continuation of what it was.
    #[error("the node's log is not a continuation of the log that was seen before")]
    Log(#[source] ReceiptError),
    /// A file of the store.
    #[error("could not use {path}")]
    Store {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The proxy cannot listen.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The request is not one that can be sent.
    #[error("{0}")]
    Request(&'static str),
}

impl AiError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } | Self::Silent => "is the node up? start one with `tacit serve`",
            Self::Node(report) if report.verdict == Verdict::Simulated => {
                "the hardware root is a simulated one; `--policy dev` accepts the root that the node's folder names"
            }
            Self::Node(_) => "nothing was sent; `tacit verify` explains each step of a saved report",
            Self::Receipt(_) | Self::OtherExchange(_) | Self::Log(_) => {
                "do not rely on the answer; the transcript in the store is evidence of it"
            }
            Self::Model { .. } => "compare with the digest in `tacit model list`",
            Self::Cut { .. } => "ask again; what was used so far stands in the receipt",
            _ => return None,
        })
    }

    /// The verdict behind a refusal.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Node(report) | Self::Receipt(report) => Some(report.verdict),
            Self::Tampered(_)
            | Self::NoReceipt
            | Self::OtherExchange(_)
            | Self::Model { .. }
            | Self::Log(_)
            | Self::Document(_)
            | Self::Evidence(_) => Some(Verdict::Refused),
            _ => None,
        }
    }

    /// Whether nothing of the request can have reached the node.
    pub(super) fn was_not_sent(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_connect())
    }
}
