//! Why the register refuses.

use serde::{Deserialize, Serialize};
use tacit_types::{UnixTime, register::Position};

/// Why a gatekeeper's register refused a request or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Refusal {
    /// This gatekeeper has not seen the certificate; show it with its t signatures.
    #[error("the certificate is not known here")]
    UnknownCertificate,
    /// The certificate's time has not begun.
    #[error("the certificate is not valid yet")]
    CertificateNotYetValid,
    /// The certificate's time has passed.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The certificate was revoked.
    #[error("the certificate was revoked")]
    CertificateRevoked,
    /// The function is not active in the finalised view.
    #[error("no such active function in the finalised view")]
    UnknownFunction,
    /// Another code hash counts.
    #[error("another version of the code counts")]
    CodeChanged,
    /// Another manifest counts.
    #[error("another manifest counts")]
    ManifestChanged,
    /// Another key epoch counts.
    #[error("another key epoch counts")]
    KeyEpochChanged,
    /// The lease cites a block that is not final here yet, or one long past.
    #[error("the lease's block is not near this gatekeeper's finalised block {block}")]
    Block {
        /// This gatekeeper's finalised block.
        block: u64,
    },
    /// The lease would be over already.
    #[error("the lease ends in the past")]
    LeaseOver,
    /// The lease would last too long, or longer than the certificate.
    #[error("the lease may last until {limit} at most")]
    LeaseTooLong {
        /// The latest end.
        limit: UnixTime,
    },
    /// Not above every fence promised before.
    #[error("fence {promised} is promised already")]
    FenceTooLow {
        /// The highest fence promised.
        promised: u64,
    },
    /// Farther above the highest fence promised than any honest worker goes.
    #[error("far above the highest fence promised, {promised}")]
    FenceTooHigh {
        /// The highest fence promised.
        promised: u64,
    },
    /// Another worker holds the lease.
    #[error("another worker holds the lease until {until}")]
    HeldByOther {
        /// When it may be replaced.
        until: UnixTime,
    },
    /// The asker does not hold the newest lease.
    #[error("not the holder of the newest lease, fence {promised}")]
    NotHolder {
        /// The highest fence promised.
        promised: u64,
    },
    /// This gatekeeper has not seen that a quorum granted the lease; show it.
    #[error("this gatekeeper has not seen the lease's quorum")]
    LeaseNotShown,
    /// Reader leases acknowledge nothing.
    #[error("a reader lease acknowledges nothing")]
    ReaderLease,
    /// A newer position is known.
    #[error("a newer position is known: fence {}, sequence {}", accepted.fence, accepted.sequence)]
    Stale {
        /// The newest position known here.
        accepted: Position,
    },
    /// This gatekeeper has not seen the position; have it acknowledged.
    #[error("this gatekeeper has only seen fence {}, sequence {}", accepted.fence, accepted.sequence)]
    Behind {
        /// The newest position known here.
        accepted: Position,
    },
    /// Another head was acknowledged at this very position.
    #[error("another head was acknowledged at this position")]
    Fork,
    /// The time is outside the skew bound.
    #[error("the time is too far from this gatekeeper's clock, {now}")]
    ClockSkew {
        /// This gatekeeper's clock.
        now: UnixTime,
    },
    /// Another gatekeeper epoch.
    #[error("this is gatekeeper epoch {epoch}")]
    WrongEpoch {
        /// The epoch of this set.
        epoch: u64,
    },
    /// The register or the request is full.
    #[error("too many")]
    TooMany,
}
