//! What the register signs: leases, acknowledgements and confirmations (trust.md §6).

use serde::{Deserialize, Serialize};

use crate::{
    eip712::signing_hash,
    ids::{CertificateId, ClusterId, CodeHash, Digest, FunctionId, Head, ManifestHash},
    merkle,
    quorum::IndexedSignature,
    time::UnixTime,
};

mod sol {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct Lease {
            bytes32 functionId; bytes32 certificate; uint8 role; uint64 fence; bytes32 codeHash; bytes32 manifestHash;
            uint64 keyEpoch; uint64 blockNumber; uint64 until;
        }
        struct Ack {
            uint64 epoch; bytes32 functionId; uint64 fence; uint64 sequence; bytes32 head; bytes32 receiptsRoot; uint64 time;
        }
        struct AckBatch { uint64 epoch; bytes32 root; uint64 time; }
        struct Confirmation { uint64 epoch; bytes32 root; bytes32 nonce; uint64 time; }
    }
}

/// Whether a lease may change state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaseRole {
    /// The one writer of a function.
    Writer,
    /// Reads and replays; acknowledges nothing.
    Reader,
}

impl LeaseRole {
    /// The number that stands in a lease.
    pub const fn code(self) -> u8 {
        match self {
            Self::Writer => 0,
            Self::Reader => 1,
        }
    }
}

/// The right of one certified worker to run one function until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// The function.
    pub function_id: FunctionId,
    /// The worker's certificate.
    pub certificate: CertificateId,
    /// Writer or reader.
    pub role: LeaseRole,
    /// Above every fence promised before.
    pub fence: u64,
    /// Code that the worker must run.
    pub code_hash: CodeHash,
    /// Manifest that the worker must run it under.
    pub manifest_hash: ManifestHash,
    /// Key epoch of the function's root key.
    pub key_epoch: u64,
    /// Finalised block of the home chain at which these were read.
    pub block_number: u64,
    /// When a silent holder may be replaced.
    pub until: UnixTime,
}

impl Lease {
    /// The EIP-712 digest that gatekeepers sign.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Lease {
                functionId: self.function_id.into(),
                certificate: self.certificate.into(),
                role: self.role.code(),
                fence: self.fence,
                codeHash: self.code_hash.into(),
                manifestHash: self.manifest_hash.into(),
                keyEpoch: self.key_epoch,
                blockNumber: self.block_number,
                until: self.until.0,
            },
            cluster,
        )
        .into()
    }
}

/// A position in a function's state log. Positions are ordered by fence, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// Fence of the lease under which it was acknowledged.
    pub fence: u64,
    /// Sequence of the commit; zero before the first.
    pub sequence: u64,
    /// Head of the log at that sequence.
    pub head: Head,
}

impl Position {
    /// Before the first commit.
    pub const START: Self = Self { fence: 0, sequence: 0, head: Head::ZERO };

    /// The pair that orders positions.
    pub const fn order(&self) -> (u64, u64) {
        (self.fence, self.sequence)
    }
}

/// The statement that one commit is the newest of its function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ack {
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// The function.
    pub function_id: FunctionId,
    /// Fence of the writer's lease.
    pub fence: u64,
    /// Sequence of the commit.
    pub sequence: u64,
    /// Head after the commit.
    pub head: Head,
    /// Merkle root of the digests of the receipts in the commit; zero for none.
    pub receipts_root: Digest,
    /// The worker's clock.
    pub time: UnixTime,
}

impl Ack {
    /// The EIP-712 digest of this statement; batches are Merkle trees over these.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Ack {
                epoch: self.epoch,
                functionId: self.function_id.into(),
                fence: self.fence,
                sequence: self.sequence,
                head: self.head.into(),
                receiptsRoot: self.receipts_root.into(),
                time: self.time.0,
            },
            cluster,
        )
        .into()
    }

    /// The position that is acknowledged.
    pub const fn position(&self) -> Position {
        Position { fence: self.fence, sequence: self.sequence, head: self.head }
    }
}

/// Merkle root over the digests of the receipts that one commit holds.
pub fn receipts_root(receipts: &[Digest]) -> Digest {
    merkle::root(&receipts.iter().map(|digest| merkle::leaf(*digest)).collect::<Vec<_>>())
}

/// What a gatekeeper signs for a batch of acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckBatch {
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// Merkle root over the leaves of the acks' digests ([`merkle::leaf`]), in the order of the request.
    pub root: Digest,
    /// The worker's clock, equal to `time` of every ack in the batch.
    pub time: UnixTime,
}

impl AckBatch {
    /// The EIP-712 digest that gatekeepers sign.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(&sol::AckBatch { epoch: self.epoch, root: self.root.into(), time: self.time.0 }, cluster).into()
    }
}

/// A quorum's acknowledgement of one commit, as it travels in a receipt bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuorumAck {
    /// The statement.
    pub ack: Ack,
    /// Siblings from the statement's leaf to the batch's root.
    pub batch_path: Vec<Digest>,
    /// The batch.
    pub batch: AckBatch,
    /// Signatures of at least q gatekeepers over the batch.
    pub signatures: Vec<IndexedSignature>,
    /// Siblings from the receipt's leaf to `ack.receipts_root`.
    pub receipt_path: Vec<Digest>,
}

/// What a gatekeeper signs when it confirms that positions are the newest it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confirmation {
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// Merkle root over [`confirmation_leaf`] of the positions confirmed, in the order of the request.
    pub root: Digest,
    /// The asker's nonce: the round began after the calls arrived.
    pub nonce: Digest,
    /// The gatekeeper's clock.
    pub time: UnixTime,
}

impl Confirmation {
    /// The EIP-712 digest that gatekeepers sign.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Confirmation {
                epoch: self.epoch,
                root: self.root.into(),
                nonce: self.nonce.into(),
                time: self.time.0,
            },
            cluster,
        )
        .into()
    }
}

/// The leaf of one confirmed position: `k(k(e(bytes32 functionId, uint64 fence, uint64 sequence, bytes32 head)))`.
pub fn confirmation_leaf(function: FunctionId, position: &Position) -> Digest {
    let mut encoded = [0; 128];
    encoded[..32].copy_from_slice(function.as_bytes());
    encoded[56..64].copy_from_slice(&position.fence.to_be_bytes());
    encoded[88..96].copy_from_slice(&position.sequence.to_be_bytes());
    encoded[96..].copy_from_slice(position.head.as_bytes());
    merkle::leaf_of(&encoded)
}
