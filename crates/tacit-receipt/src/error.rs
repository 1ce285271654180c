use tacit_types::jcs::JcsError;
use thiserror::Error;

/// Why a bundle, a proof or a log was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The bundle is not the one canonical encoding of a bundle.
    #[error("not a receipt bundle")]
    Bundle(#[from] JcsError),
    /// The bundle has a version that this reader does not know.
    #[error("bundle version {0}, this reader knows 1")]
    Version(u32),
    /// A member of the bundle breaks a rule of its own.
    #[error("bundle member {0}")]
    Member(&'static str),
    /// The signed note is malformed.
    #[error("malformed checkpoint: {0}")]
    Note(&'static str),
    /// The checkpoint is not signed by the expected key under the expected origin.
    #[error("the checkpoint is not signed by the log's key")]
    NoteSignature,
    /// The checkpoint belongs to another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// The leaf has no place in a tree of that size.
    #[error("there is no leaf {index} in a log of {size}")]
    Index {
        /// Index asked for.
        index: u64,
        /// Size of the log.
        size: u64,
    },
    /// The inclusion proof does not lead to the checkpoint's root.
    #[error("the log proof does not lead to the checkpoint's root")]
    Inclusion,
    /// The two checkpoints are not of one append-only log.
    #[error("the later checkpoint does not continue the earlier one")]
    Consistency,
    /// A tile that the log says it wrote is not there or has the wrong length.
    #[error("log tile {0} is missing or damaged")]
    Tile(String),
    /// The tiles do not give the root that was signed.
    #[error("the log's tiles do not give the root of its checkpoint")]
    Root,
}
