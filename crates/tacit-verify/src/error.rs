use tacit_attest::AttestError;
use tacit_types::quorum::QuorumError;
use tacit_types::{ChipId, ClusterId, Measurement, RootId};
use thiserror::Error;

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file is not one that can be read.
    #[error("{0}")]
    Unreadable(String),
    /// There is nothing to trust.
    #[error("no deployment is known for cluster {0}; hint: pass --deployment FILE from a source that you trust")]
    NoAnchor(ClusterId),
    /// The deployment is of another cluster.
    #[error("the file is of cluster {found}, the deployment of cluster {expected}")]
    OtherCluster {
        /// The deployment's.
        expected: ClusterId,
        /// The file's.
        found: ClusterId,
    },
    /// The deployment contradicts itself.
    #[error("the deployment is not usable: {0}")]
    Anchor(String),
    /// A gatekeeper's genesis quote is refused.
    #[error("gatekeeper {index}: {source}")]
    Gatekeeper {
        /// Its index.
        index: usize,
        /// Why.
        source: AttestError,
    },
    /// Gatekeepers attest different key generations.
    #[error("gatekeeper {0} attests another key generation than the first")]
    Transcript(usize),
    /// Too few or wrong signatures.
    #[error("{what}: {source}")]
    Quorum {
        /// Over what.
        what: &'static str,
        /// Why.
        source: QuorumError,
    },
    /// The statement is of an epoch whose gatekeepers the deployment does not name.
    #[error("gatekeeper epoch {found}, the deployment names epoch {expected}")]
    Epoch {
        /// The deployment's.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// Two members that belong together do not fit.
    #[error("{0}")]
    Mismatch(&'static str),
    /// The policy does not name the root.
    #[error("root {0} is not one that the policy names")]
    Root(RootId),
    /// The policy does not name the measurement.
    #[error("measurement {0} is not one that the policy names")]
    Measurement(Measurement),
    /// The chip is denied.
    #[error("chip {0} is denied by the policy")]
    Chip(ChipId),
    /// Nobody vouches well enough for where the chip is.
    #[error("location grade {found}, the policy demands {minimum}")]
    Location {
        /// The grade that the policy lists for the chip; 0 without.
        found: u8,
        /// The least grade.
        minimum: u8,
    },
    /// The class of hardware is denied.
    #[error("{0} is denied by the policy")]
    Class(String),
    /// Confidence is too low.
    #[error("confidence {found}, the policy demands {limit} or better (1 is best)")]
    Confidence {
        /// The certificate's.
        found: u8,
        /// The policy's.
        limit: u8,
    },
    /// Collateral was too old when the certificate was issued.
    #[error("collateral was {found} s old at admission, the policy allows {limit} s")]
    CollateralAge {
        /// Age in seconds.
        found: u64,
        /// Limit in seconds.
        limit: u64,
    },
    /// The signature is not by the certified key.
    #[error("not signed by the certified receipt key")]
    ReceiptSignature,
    /// A time lies where it cannot.
    #[error("{0}")]
    Time(&'static str),
    /// Nobody but the worker says when.
    #[error("unproven in time: the certificate has expired and no quorum countersigned")]
    Unproven,
    /// The log refuses.
    #[error("{0}")]
    Log(String),
    /// Evidence is refused.
    #[error(transparent)]
    Evidence(#[from] AttestError),
    /// An ACI document is refused.
    #[error("{0}")]
    Aci(String),
    /// Something needed is not in the file: not a refusal.
    #[error("missing: {0}")]
    Missing(&'static str),
}
