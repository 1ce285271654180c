use std::error::Error as _;

use tacit_types::{FunctionId, ids::IdError};

/// Why state could not be loaded, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store ends before the position that a quorum acknowledged.
    #[error("state rolled back: store ends at {store_ends}, quorum acknowledged {acknowledged}")]
    RolledBack {
        /// Highest sequence for which the store has an object.
        store_ends: u64,
        /// Sequence that the quorum acknowledged.
        acknowledged: u64,
    },
    /// An object in the middle of the log is missing.
    #[error("state incomplete: the object of sequence {sequence} is missing, quorum acknowledged {acknowledged}")]
    Missing {
        /// Sequence without an object.
        sequence: u64,
        /// Sequence that the quorum acknowledged.
        acknowledged: u64,
    },
    /// An object is shorter or longer than it says.
    #[error("state damaged: the object {sequence}.{fence} is torn ({found} of {expected} bytes)")]
    Torn {
        /// Sequence in the object's name.
        sequence: u64,
        /// Fence in the object's name.
        fence: u64,
        /// Bytes that the object should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// An object belongs to another function.
    #[error("state swapped: the object {sequence}.{fence} belongs to function {found}")]
    OtherFunction {
        /// Sequence in the object's name.
        sequence: u64,
        /// Fence in the object's name.
        fence: u64,
        /// Function that the object names.
        found: FunctionId,
    },
    /// An object is another one than its name says.
    #[error("state swapped: the object named {sequence}.{fence} is {found_sequence}.{found_fence}")]
    Misplaced {
        /// Sequence in the object's name.
        sequence: u64,
        /// Fence in the object's name.
        fence: u64,
        /// Sequence in the object.
        found_sequence: u64,
        /// Fence in the object.
        found_fence: u64,
    },
    /// No object of this sequence continues to the acknowledged head.
    #[error(
        "state altered: no object of sequence {sequence} leads to the head that the quorum acknowledged at {acknowledged}"
    )]
    Altered {
        /// The sequence.
        sequence: u64,
        /// Sequence that the quorum acknowledged.
        acknowledged: u64,
    },
    /// The object is the acknowledged one, but the key does not open it.
    #[error("the state key of key epoch {key_epoch} does not open the object {sequence}.{fence}")]
    WrongKey {
        /// Key epoch named by the object.
        key_epoch: u64,
        /// Sequence of the object.
        sequence: u64,
        /// Fence of the object.
        fence: u64,
    },
    /// There is no state key for a key epoch that the log needs.
    #[error("no state key for key epoch {0}")]
    NoKey(u64),
    /// The commit was sealed by a version that this build does not read.
    #[error("the commit of sequence {sequence} is not readable: {reason}")]
    Payload {
        /// Sequence of the commit.
        sequence: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another writer stored an object under the same fence: this log must not be used any more.
    #[error("another writer stored the object {sequence}.{fence}")]
    Fenced {
        /// Sequence of the object.
        sequence: u64,
        /// Fence of the object.
        fence: u64,
    },
    /// It is not known whether the commit is durable: the log must be opened again under a new fence.
    #[error("it is not known whether the object {sequence}.{fence} was stored")]
    Uncertain {
        /// Sequence of the object.
        sequence: u64,
        /// Fence of the object.
        fence: u64,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
    /// An earlier append failed in a way after which this log may not be used.
    #[error("the log was closed by an earlier failure and must be opened again under a new fence")]
    Closed,
    /// The log was opened for reading: no fence to write under.
    #[error("the log has no fence to write under")]
    NoFence,
    /// A fence that is not above the last one.
    #[error("fence {asked} is not above fence {current}")]
    Fence {
        /// Fence in use.
        current: u64,
        /// Fence asked for.
        asked: u64,
    },
    /// No room on the disk.
    #[error("the disk is full")]
    DiskFull(#[source] object_store::Error),
    /// The store failed.
    #[error("the store failed")]
    Backend(#[from] object_store::Error),
    /// The local folder failed.
    #[error("the folder {path} is not usable")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A commit, key, value or blob is too large.
    #[error("{what} has {found} bytes, at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// The function's state would grow past its quota.
    #[error("state of {needed} bytes exceeds the quota of {quota} bytes")]
    Quota {
        /// Bytes allowed.
        quota: u64,
        /// Bytes that the write needs in all.
        needed: u64,
    },
    /// A blob's bytes do not have its digest.
    #[error("the blob {0} has other bytes than its digest says")]
    Blob(tacit_types::Digest),
    /// A name that is not an identifier.
    #[error("not an identifier")]
    Id(#[from] IdError),
}

impl StoreError {
    /// Whether the log is unharmed and the same append may be tried again.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull(_) | Self::Backend(_) | Self::TooLarge { .. } | Self::Quota { .. })
    }
}

/// Whether the cause of a failure is a full disk or a used-up quota of the file system.
pub(crate) fn is_disk_full(error: &object_store::Error) -> bool {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        cause = current.source();
    }
    false
}
