//! The one error type of this crate.

use tacit_types::quorum::QuorumError;

/// Why something that a gatekeeper or a worker said does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// No such cluster of replicated sub-keys.
    #[error("{threshold} of {count} gatekeepers is not possible with replicated sub-keys")]
    Shape {
        /// Gatekeepers, n.
        count: u32,
        /// Threshold, t.
        threshold: u32,
    },
    /// A sub-key is missing, or one is there that does not belong there.
    #[error("the sub-key of the set {0:#07b} is missing or does not belong here")]
    Subset(u8),
    /// A partial without the form or sets that it must have.
    #[error("the partial of gatekeeper {index} is not one")]
    Partial {
        /// Its maker.
        index: u32,
    },
    /// Fewer partials than t.
    #[error("{found} partials, {needed} needed")]
    TooFewPartials {
        /// Needed, t.
        needed: u32,
        /// Found.
        found: u32,
    },
    /// Gatekeepers contradict each other and too few answered to tell who lies.
    #[error("gatekeepers disagree about the sub-keys of the sets {subsets:?}")]
    Disagreement {
        /// Masks of the sets.
        subsets: Vec<u8>,
    },
    /// Too few or wrong signatures.
    #[error("the quorum's signatures do not hold")]
    Quorum(#[from] QuorumError),
    /// The certificate is not the one that the lease names.
    #[error("the certificate is not the one that the lease names")]
    LeaseCertificate,
    /// The statement is not about what the lease is about.
    #[error("the acknowledgement does not belong to its lease")]
    EntryLease,
    /// The statement is not in the batch that was signed.
    #[error("the acknowledgement is not in the batch that its worker signed")]
    EntryBatch,
    /// The batch is not signed by the lease's holder.
    #[error("the batch is not signed by the lease's holder")]
    EntrySigner,
    /// A gatekeeper's answer is not signed by it.
    #[error("the answer of gatekeeper {0} is not signed by it")]
    Answer(u32),
    /// A request is not signed by the worker that it names.
    #[error("the request is not signed by the worker's receipt key")]
    RequestSigner,
    /// A batch has no or too many members, or names a function twice, or mixes times or epochs.
    #[error("not a possible batch: {0}")]
    Batch(&'static str),
    /// A stored record that cannot be read.
    #[error("a stored record cannot be read: {0}")]
    Record(&'static str),
    /// Records contradict each other: a fence or counter would go back.
    #[error("stored records contradict each other: {0}")]
    Replay(&'static str),
}
