//! What contracts and their callers agree on beyond receipts (chain.md): ids of requests, bytes of publications, and the
//! statements that only contracts read.

use alloy_primitives::{Address as AlloyAddress, B256, U256, keccak256};
use alloy_sol_types::SolValue;

use crate::{
    eip712::signing_hash,
    formats::{Tag, commit},
    ids::{Address, CallId, CertificateId, ClusterId, CodeHash, Digest, FunctionId},
    merkle,
    time::UnixTime,
};

mod sol {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct ReceiptBatch { bytes32 certificate; bytes32 root; uint64 size; }
        struct Heartbeat { bytes32 certificate; uint64 size; bytes32 root; uint64 time; }
        struct Revocation { uint8 subject; bytes32 value; bytes32[] functions; uint64 epoch; }
        struct SetUpdate { uint64 epoch; address[] members; uint32 threshold; uint64 validUntil; }
    }
}

/// A request of a contract, as its id commits to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestArguments {
    /// The chain that the request was made on.
    pub chain_id: u64,
    /// The hub it was made through.
    pub hub: Address,
    /// The contract that asks.
    pub consumer: Address,
    /// How many requests the consumer had made before.
    pub nonce: u64,
    /// The function asked.
    pub function_id: FunctionId,
    /// The version asked for; zero for whatever counts.
    pub code_hash: CodeHash,
    /// The method's name.
    pub method: String,
    /// The request body.
    pub input: Vec<u8>,
    /// Gas that the callback gets; zero for none.
    pub callback_gas: u64,
    /// Fee in the chain's smallest coin.
    pub fee: u128,
    /// Last second at which an answer counts.
    pub deadline: UnixTime,
}

impl RequestArguments {
    /// The request's id, which is the `callId` of its answer: `k(e(uint256 chainId, address hub, address consumer, uint256
    /// nonce, bytes32 functionId, bytes32 codeHash, string method, bytes input, uint64 callbackGas, uint256 fee, uint64
    /// deadline))`.
    pub fn id(&self) -> CallId {
        let encoded = (
            U256::from(self.chain_id),
            AlloyAddress::from(self.hub),
            AlloyAddress::from(self.consumer),
            U256::from(self.nonce),
            B256::from(self.function_id),
            B256::from(self.code_hash),
            self.method.clone(),
            alloy_primitives::Bytes::from(self.input.clone()),
            self.callback_gas,
            U256::from(self.fee),
            self.deadline.0,
        )
            .abi_encode_params();
        keccak256(encoded).into()
    }

    /// Commitments to method, caller, request and (given) response in the answer's receipt: all with salt zero.
    pub fn commitments(&self, response: &[u8]) -> [Digest; 4] {
        [
            commit(Tag::Method, Digest::ZERO, self.method.as_bytes()),
            commit(Tag::Caller, Digest::ZERO, self.consumer.as_bytes()),
            commit(Tag::Request, Digest::ZERO, &self.input),
            commit(Tag::Response, Digest::ZERO, response),
        ]
    }
}

/// Most bytes of a publication's topic.
pub const MAX_TOPIC: usize = 64;
/// Most bytes of a publication's data.
pub const MAX_PUBLICATION_DATA: usize = 8 * 1024;
/// Most bytes of an encoded publication: five members, two lengths, and topic and data in whole words.
const MAX_PUBLICATION: usize = 7 * 32 + MAX_TOPIC + MAX_PUBLICATION_DATA;

/// An output of a function that is addressed to a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The contract's chain.
    pub chain_id: u64,
    /// The contract.
    pub consumer: Address,
    /// What it is about.
    pub topic: String,
    /// Strictly rising per function, chain, contract and topic, from one.
    pub sequence: u64,
    /// The output.
    pub data: Vec<u8>,
}

impl Publication {
    /// The response bytes of its `publish` receipt: `e(uint256 chainId, address consumer, string topic, uint64 sequence, bytes
    /// data)`.
    pub fn encode(&self) -> Vec<u8> {
        (
            U256::from(self.chain_id),
            AlloyAddress::from(self.consumer),
            self.topic.clone(),
            self.sequence,
            alloy_primitives::Bytes::from(self.data.clone()),
        )
            .abi_encode_params()
    }

    /// Reads what [`Self::encode`] wrote, within [`MAX_TOPIC`] and [`MAX_PUBLICATION_DATA`]; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_PUBLICATION {
            return None;
        }
        type Members = (U256, AlloyAddress, String, u64, alloy_primitives::Bytes);
        let (chain_id, consumer, topic, sequence, data) = <Members as SolValue>::abi_decode_params(bytes).ok()?;
        if topic.len() > MAX_TOPIC || data.len() > MAX_PUBLICATION_DATA {
            return None;
        }
        let chain_id = u64::try_from(chain_id).ok()?;
        let found = Self { chain_id, consumer: consumer.into(), topic, sequence, data: data.to_vec() };
        // One encoding for one publication.
        (found.encode() == bytes).then_some(found)
    }

    /// The receipt's `response`: a commitment to [`Self::encode`] with salt zero.
    pub fn response(&self) -> Digest {
        commit(Tag::Response, Digest::ZERO, &self.encode())
    }
}

/// The EIP-712 digest that a worker signs once for many receipts:
/// `ReceiptBatch(bytes32 certificate,bytes32 root,uint64 size)`, root over the leaves of the receipts' digests in order.
pub fn receipt_batch_digest(certificate: CertificateId, receipts: &[Digest], cluster: ClusterId) -> Digest {
    let root = merkle::root(&receipts.iter().map(|digest| merkle::leaf(*digest)).collect::<Vec<_>>());
    let batch = sol::ReceiptBatch { certificate: certificate.into(), root: root.into(), size: receipts.len() as u64 };
    signing_hash(&batch, cluster).into()
}

/// A worker's sign of life on the ledger: a checkpoint of its receipt log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The worker's certificate.
    pub certificate: CertificateId,
    /// Number of entries in its log.
    pub size: u64,
    /// Root of its log.
    pub root: Digest,
    /// The worker's clock.
    pub time: UnixTime,
}

impl Heartbeat {
    /// The EIP-712 digest that the worker's receipt key signs.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        let heartbeat = sol::Heartbeat {
            certificate: self.certificate.into(),
            size: self.size,
            root: self.root.into(),
            time: self.time.0,
        };
        signing_hash(&heartbeat, cluster).into()
    }
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationSubject {
    /// One certificate.
    Certificate,
    /// All certificates of one receipt key.
    Worker,
    /// All certificates of one chip.
    Chip,
    /// All certificates of one measurement.
    Measurement,
    /// All certificates under one root of trust.
    Root,
}

impl RevocationSubject {
    /// The number that contracts know it by.
    pub const fn code(self) -> u8 {
        match self {
            Self::Certificate => 0,
            Self::Worker => 1,
            Self::Chip => 2,
            Self::Measurement => 3,
            Self::Root => 4,
        }
    }
}

/// What an entry of the policy registry's deny lists names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeniedSubject {
    /// Code, by its measurement.
    Measurement,
    /// A chip.
    Chip,
    /// A root of trust.
    Root,
    /// A hardware class, by its name: see [`denied_name`].
    HardwareClass,
    /// A vendor's advisory, by its name.
    Advisory,
}

impl DeniedSubject {
    /// The number that contracts know it by.
    pub const fn code(self) -> u8 {
        match self {
            Self::Measurement => 0,
            Self::Chip => 1,
            Self::Root => 2,
            Self::HardwareClass => 3,
            Self::Advisory => 4,
        }
    }
}

/// The value under which a deny list holds a name: Keccak-256 of it, as policies write it (`epyc-milan`, `INTEL-SA-01421`).
pub fn denied_name(name: &str) -> Digest {
    crate::eip712::keccak(name.as_bytes())
}

/// A revocation that gatekeepers sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What `value` is.
    pub subject: RevocationSubject,
    /// The value revoked (a worker's address is padded on the left).
    pub value: Digest,
    /// Functions whose key epoch must rise.
    pub functions: Vec<FunctionId>,
    /// Gatekeeper epoch of the signers.
    pub epoch: u64,
}

impl Revocation {
    /// The EIP-712 digest that t gatekeepers sign.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        let revocation = sol::Revocation {
            subject: self.subject.code(),
            value: self.value.into(),
            functions: self.functions.iter().map(|id| B256::from(*id)).collect(),
            epoch: self.epoch,
        };
        signing_hash(&revocation, cluster).into()
    }
}

/// The EIP-712 digest that t gatekeepers sign to hand over to the set of the next epoch:
/// `SetUpdate(uint64 epoch,address[] members,uint32 threshold,uint64 validUntil)`.
pub fn set_update_digest(next: &crate::quorum::GatekeeperSet, valid_until: UnixTime, cluster: ClusterId) -> Digest {
    let update = sol::SetUpdate {
        epoch: next.epoch,
        members: next.members.iter().map(|member| AlloyAddress::from(*member)).collect(),
        threshold: next.threshold,
        validUntil: valid_until.0,
    };
    signing_hash(&update, cluster).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> RequestArguments {
        RequestArguments {
            chain_id: 31337,
            hub: Address::from([1; 20]),
            consumer: Address::from([2; 20]),
            nonce: 3,
            function_id: FunctionId::from([4; 32]),
            code_hash: CodeHash::ZERO,
            method: "price".into(),
            input: b"{}".to_vec(),
            callback_gas: 100_000,
            fee: 5,
            deadline: UnixTime(1_800_000_000),
        }
    }

    #[test]
    fn the_id_of_a_request_covers_every_argument() {
        let id = arguments().id();
        let check = |change: fn(&mut RequestArguments)| {
            let mut other = arguments();
            change(&mut other);
            assert_ne!(other.id(), id);
        };
        check(|a| a.chain_id += 1);
        check(|a| a.hub = Address::ZERO);
        check(|a| a.consumer = Address::ZERO);
        check(|a| a.nonce += 1);
        check(|a| a.function_id = FunctionId::ZERO);
        check(|a| a.code_hash = CodeHash::from([1; 32]));
        check(|a| a.method.push('s'));
        check(|a| a.input.push(b' '));
        check(|a| a.callback_gas += 1);
        check(|a| a.fee += 1);
        check(|a| a.deadline = a.deadline.plus(1));
    }

    #[test]
    fn the_response_of_a_publication_covers_every_part() {
        let publication = Publication {
            chain_id: 1,
            consumer: Address::from([2; 20]),
            topic: "t".into(),
            sequence: 1,
            data: vec![1],
        };
        let response = publication.response();
        let check = |change: fn(&mut Publication)| {
            let mut other = publication.clone();
            change(&mut other);
            assert_ne!(other.response(), response);
        };
        check(|p| p.chain_id += 1);
        check(|p| p.consumer = Address::ZERO);
        check(|p| p.topic.push('x'));
        check(|p| p.sequence += 1);
        check(|p| p.data.push(0));
    }

    #[test]
    fn a_publication_reads_back_from_its_one_encoding() {
        let publication = |topic: usize, data: usize| Publication {
            chain_id: 1,
            consumer: Address::from([2; 20]),
            topic: "t".repeat(topic),
            sequence: 1,
            data: vec![1; data],
        };
        for (topic, data) in [(1, 0), (33, 33), (MAX_TOPIC, MAX_PUBLICATION_DATA)] {
            let publication = publication(topic, data);
            assert_eq!(Publication::decode(&publication.encode()), Some(publication));
        }
        for (topic, data) in [(1, MAX_PUBLICATION_DATA + 1), (MAX_TOPIC + 1, 0), (MAX_TOPIC, MAX_PUBLICATION_DATA + 1)]
        {
            assert_eq!(Publication::decode(&publication(topic, data).encode()), None);
        }
        let good = publication(2, 3).encode();
        for length in 0..good.len() {
            assert_eq!(Publication::decode(&good[..length]), None);
        }
        assert_eq!(Publication::decode(&[good.clone(), vec![0; 32]].concat()), None);
        for place in 0..good.len() {
            let mut altered = good.clone();
            altered[place] ^= 1;
            // Another publication, or none: never the same, and never with bytes that nobody looks at.
            assert_ne!(Publication::decode(&altered), Publication::decode(&good), "{place}");
        }
    }
}
