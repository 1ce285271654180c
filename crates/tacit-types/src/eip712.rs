//! What gatekeepers, workers and callers sign: EIP-712 structs under the domain
//! `{name: "Tacit", version: "1", salt: <cluster id>}`, without a chain id, so that a signature is valid on every chain and
//! in one cluster only.

use alloy_primitives::B256;
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{
        Address, CallId, CertificateId, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest,
        Measurement, PolicyHash, RootId,
    },
    time::UnixTime,
};

/// The EIP-712 domain of a cluster.
pub fn domain(cluster: ClusterId) -> Eip712Domain {
    Eip712Domain::new(Some("Tacit".into()), Some("1".into()), None, None, Some(cluster.into()))
}

pub(crate) fn signing_hash(message: &impl SolStruct, cluster: ClusterId) -> B256 {
    message.eip712_signing_hash(&domain(cluster))
}

mod sol {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct Certificate {
            address worker; bytes32 keyset; uint8 platform; bytes32 measurement; bytes32 chip; uint8 confidence;
            bytes32 root; bytes32 policy; bool simulated; address operator; uint64 collateralTime; uint64 notBefore;
            uint64 notAfter; uint64 epoch;
        }
        struct Receipt {
            bytes32 functionId; bytes32 codeHash; bytes32 certificate; bytes32 callId; uint8 kind; uint8 outcome;
            bytes32 method; bytes32 caller; bytes32 request; bytes32 response; uint64 sequence; bytes32 headBefore;
            bytes32 headAfter; uint64 fence; bytes32 effects; bytes32 usage; uint64 fuel; uint64 time; uint64 epoch;
        }
        struct Call {
            bytes32 functionId; bytes32 method; bytes32 body; bytes32 certificate; bytes32 nonce; uint64 deadline;
        }
        struct Endpoint { address worker; bytes32 keyset; string endpoint; uint64 notBefore; }
    }
}

/// The kind of TEE that made the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Intel SGX enclave (DCAP quote version 3).
    Sgx,
    /// Intel TDX trust domain (DCAP quote version 4 or 5).
    Tdx,
    /// AMD SEV-SNP guest.
    SevSnp,
    /// AWS Nitro enclave.
    Nitro,
}

impl Platform {
    /// The number that stands in a certificate.
    pub const fn code(self) -> u8 {
        match self {
            Self::Sgx => 1,
            Self::Tdx => 2,
            Self::SevSnp => 3,
            Self::Nitro => 4,
        }
    }

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sgx => "Intel SGX",
            Self::Tdx => "Intel TDX",
            Self::SevSnp => "AMD SEV-SNP",
            Self::Nitro => "AWS Nitro",
        }
    }
}

/// A worker certificate: what the gatekeepers found when they admitted a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// Address of the worker's receipt key.
    pub worker: Address,
    /// Digest of the worker's keyset.
    pub keyset: KeysetDigest,
    /// Kind of TEE.
    pub platform: Platform,
    /// What the machine runs.
    pub measurement: Measurement,
    /// Which chip signed.
    pub chip: ChipId,
    /// 1 (best) to 5, from TCB status and advisories.
    pub confidence: u8,
    /// Root of trust that the evidence chained to.
    pub root: RootId,
    /// Policy that the gatekeepers judged by.
    pub policy: PolicyHash,
    /// Whether the worker's or any gatekeeper's root is a simulated one.
    pub simulated: bool,
    /// Account that is paid for this worker's work.
    pub operator: Address,
    /// Issue date of the oldest collateral that was used.
    pub collateral_time: UnixTime,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// Gatekeeper epoch of the signers.
    pub epoch: u64,
}

impl Certificate {
    /// The EIP-712 digest that gatekeepers sign; also the certificate's name.
    pub fn id(&self, cluster: ClusterId) -> CertificateId {
        signing_hash(
            &sol::Certificate {
                worker: self.worker.into(),
                keyset: self.keyset.into(),
                platform: self.platform.code(),
                measurement: self.measurement.into(),
                chip: self.chip.into(),
                confidence: self.confidence,
                root: self.root.into(),
                policy: self.policy.into(),
                simulated: self.simulated,
                operator: self.operator.into(),
                collateralTime: self.collateral_time.0,
                notBefore: self.not_before.0,
                notAfter: self.not_after.0,
                epoch: self.epoch,
            },
            cluster,
        )
        .into()
    }

    /// Whether `now` lies in the certificate's life.
    pub fn is_live(&self, now: UnixTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// What kind of execution a receipt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// May change state.
    Command,
    /// Reads state that a quorum confirmed to be the newest.
    Query,
    /// Reads state that may be old; the caller asked for it.
    StaleQuery,
    /// Started by a clock, a web hook or an event.
    Trigger,
    /// Asked for by a contract.
    ChainRequest,
    /// An output addressed to a contract, without a request.
    Publish,
    /// An AI inference.
    Inference,
    /// A training run.
    Training,
}

impl Kind {
    /// The number that stands in a receipt.
    pub const fn code(self) -> u8 {
        match self {
            Self::Command => 0,
            Self::Query => 1,
            Self::StaleQuery => 2,
            Self::Trigger => 3,
            Self::ChainRequest => 4,
            Self::Publish => 5,
            Self::Inference => 6,
            Self::Training => 7,
        }
    }
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The method returned.
    Ok,
    /// The method threw.
    Thrown,
    /// A limit was reached.
    Limit,
    /// The caller or the operation was not allowed.
    Denied,
    /// Something outside the function could not be reached.
    Unavailable,
}

impl Outcome {
    /// The number that stands in a receipt.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Thrown => 1,
            Self::Limit => 2,
            Self::Denied => 3,
            Self::Unavailable => 4,
        }
    }
}

/// An execution receipt: the signed statement about one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// The function that ran.
    pub function_id: FunctionId,
    /// The code and manifest that ran.
    pub code_hash: CodeHash,
    /// Certificate of the worker.
    pub certificate: CertificateId,
    /// The call.
    pub call_id: CallId,
    /// Kind of execution.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// Commitment to the method's name: [`crate::formats::commit`] with tag `method`.
    pub method: Digest,
    /// Commitment to the caller.
    pub caller: Digest,
    /// Commitment to the request body.
    pub request: Digest,
    /// Commitment to the response body.
    pub response: Digest,
    /// Sequence of the commit (commands) or of the state that was read (queries).
    pub sequence: u64,
    /// Head of the state log before the call.
    pub head_before: Head,
    /// Head of the state log after the call; equal to `head_before` for queries.
    pub head_after: Head,
    /// Fence of the lease under which it ran.
    pub fence: u64,
    /// Merkle root of the effects, zero for none.
    pub effects: Digest,
    /// Hash of the usage vector, ticket and price; zero where nothing is billed.
    pub usage: Digest,
    /// Fuel used.
    pub fuel: u64,
    /// The worker's clock.
    pub time: UnixTime,
    /// Gatekeeper epoch.
    pub epoch: u64,
}

impl Receipt {
    /// The EIP-712 digest that the worker's receipt key signs.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Receipt {
                functionId: self.function_id.into(),
                codeHash: self.code_hash.into(),
                certificate: self.certificate.into(),
                callId: self.call_id.into(),
                kind: self.kind.code(),
                outcome: self.outcome.code(),
                method: self.method.into(),
                caller: self.caller.into(),
                request: self.request.into(),
                response: self.response.into(),
                sequence: self.sequence,
                headBefore: self.head_before.into(),
                headAfter: self.head_after.into(),
                fence: self.fence,
                effects: self.effects.into(),
                usage: self.usage.into(),
                fuel: self.fuel,
                time: self.time.0,
                epoch: self.epoch,
            },
            cluster,
        )
        .into()
    }
}

/// A caller's authentication of one call, signed inside the seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAuthorization {
    /// The function called.
    pub function_id: FunctionId,
    /// Keccak-256 of the method's name.
    pub method: Digest,
    /// Keccak-256 of the body.
    pub body: Digest,
    /// Certificate of the worker that the call was sealed to.
    pub certificate: CertificateId,
    /// The call's nonce.
    pub nonce: Digest,
    /// Last second at which the call may begin.
    pub deadline: UnixTime,
}

impl CallAuthorization {
    /// The EIP-712 digest that the caller signs.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Call {
                functionId: self.function_id.into(),
                method: self.method.into(),
                body: self.body.into(),
                certificate: self.certificate.into(),
                nonce: self.nonce.into(),
                deadline: self.deadline.0,
            },
            cluster,
        )
        .into()
    }
}

/// An operator's claim of a worker and its endpoint, signed by the operator's account at admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointClaim {
    /// Address of the worker's receipt key.
    pub worker: Address,
    /// Digest of the worker's keyset.
    pub keyset: KeysetDigest,
    /// URL under which the worker is reached.
    pub endpoint: String,
    /// Equal to the certificate's `not_before`.
    pub not_before: UnixTime,
}

impl EndpointClaim {
    /// The EIP-712 digest that the operator signs.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        signing_hash(
            &sol::Endpoint {
                worker: self.worker.into(),
                keyset: self.keyset.into(),
                endpoint: self.endpoint.clone(),
                notBefore: self.not_before.0,
            },
            cluster,
        )
        .into()
    }
}

/// Keccak-256.
pub fn keccak(bytes: &[u8]) -> Digest {
    alloy_primitives::keccak256(bytes).into()
}
