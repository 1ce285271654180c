// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Identifies a function: `keccak256(abi.encode(homeChainId, registry, owner, name))`.
type FunctionId is bytes32;

/// @notice Identifies one version of a function: `keccak256(abi.encode(keccak256(module), keccak256(JCS manifest)))`.
type CodeHash is bytes32;

/// @notice Name of a worker certificate: its EIP-712 digest.
type CertificateId is bytes32;

/// @notice Identifies a request of a contract; the `callId` of its answer's receipt.
type RequestId is bytes32;

using {sameFunction as ==, otherFunction as !=} for FunctionId global;
using {sameCode as ==, otherCode as !=} for CodeHash global;
using {sameCertificate as ==, otherCertificate as !=} for CertificateId global;
using {sameRequest as ==, otherRequest as !=} for RequestId global;

function sameFunction(FunctionId a, FunctionId b) pure returns (bool) {
    return FunctionId.unwrap(a) == FunctionId.unwrap(b);
}

function otherFunction(FunctionId a, FunctionId b) pure returns (bool) {
    return FunctionId.unwrap(a) != FunctionId.unwrap(b);
}

function sameCode(CodeHash a, CodeHash b) pure returns (bool) {
    return CodeHash.unwrap(a) == CodeHash.unwrap(b);
}

function otherCode(CodeHash a, CodeHash b) pure returns (bool) {
    return CodeHash.unwrap(a) != CodeHash.unwrap(b);
}

function sameCertificate(CertificateId a, CertificateId b) pure returns (bool) {
    return CertificateId.unwrap(a) == CertificateId.unwrap(b);
}

function otherCertificate(CertificateId a, CertificateId b) pure returns (bool) {
    return CertificateId.unwrap(a) != CertificateId.unwrap(b);
}

function sameRequest(RequestId a, RequestId b) pure returns (bool) {
    return RequestId.unwrap(a) == RequestId.unwrap(b);
}

function otherRequest(RequestId a, RequestId b) pure returns (bool) {
    return RequestId.unwrap(a) != RequestId.unwrap(b);
}

/// @notice What the gatekeepers found when they admitted a worker; they sign its EIP-712 digest.
struct Certificate {
    address worker;
    bytes32 keyset;
    uint8 platform;
    bytes32 measurement;
    bytes32 chip;
    uint8 confidence;
    bytes32 root;
    bytes32 policy;
    bool simulated;
    address operator;
    uint64 collateralTime;
    uint64 notBefore;
    uint64 notAfter;
    uint64 epoch;
}

/// @notice The signed statement about one call; the worker's receipt key signs its EIP-712 digest.
struct Receipt {
    FunctionId functionId;
    CodeHash codeHash;
    CertificateId certificate;
    bytes32 callId;
    uint8 kind;
    uint8 outcome;
    bytes32 method;
    bytes32 caller;
    bytes32 request;
    bytes32 response;
    uint64 sequence;
    bytes32 headBefore;
    bytes32 headAfter;
    uint64 fence;
    bytes32 effects;
    bytes32 usage;
    uint64 fuel;
    uint64 time;
    uint64 epoch;
}

/// @notice A register quorum's acknowledgement of the commit that a receipt belongs to. Function, fence, sequence, head
/// and epoch are the receipt's own and are not repeated.
struct Acknowledgement {
    /// Time in the acknowledged batch.
    uint64 time;
    /// Siblings from the receipt's leaf to the commit's root of receipts.
    bytes32[] receiptProof;
    /// Siblings from the acknowledgement's leaf to the batch's root.
    bytes32[] batchProof;
    /// Signatures of at least q gatekeepers over the batch (packed: index byte, then 65 bytes, rising indices).
    bytes signatures;
}

/// @notice Receipts of one worker under one signature, without what they have in common.
struct ReceiptBatch {
    FunctionId functionId;
    CodeHash codeHash;
    CertificateId certificate;
    uint8 kind;
    uint8 outcome;
    bytes32 method;
    bytes32 caller;
    uint64 fence;
    uint64 epoch;
    BatchCommit[] commits;
    BatchItem[] items;
}

/// @notice A commit of the state log that receipts of a batch belong to.
struct BatchCommit {
    uint64 sequence;
    /// Zero stands for the head after the previous commit in the list.
    bytes32 headBefore;
    bytes32 headAfter;
}

/// @notice What is one receipt's own in a batch.
struct BatchItem {
    bytes32 callId;
    bytes32 request;
    bytes32 response;
    bytes32 effects;
    bytes32 usage;
    /// Index into `commits` (bits 128 and above), fuel (64 to 127), time (0 to 63).
    uint256 figures;
}

/// @notice Numbers in `Receipt.kind`.
library Kind {
    uint8 internal constant COMMAND = 0;
    uint8 internal constant QUERY = 1;
    uint8 internal constant STALE_QUERY = 2;
    uint8 internal constant TRIGGER = 3;
    uint8 internal constant CHAIN_REQUEST = 4;
    uint8 internal constant PUBLISH = 5;
    uint8 internal constant INFERENCE = 6;
    uint8 internal constant TRAINING = 7;
}

/// @notice Numbers in `Receipt.outcome`.
library Outcome {
    uint8 internal constant OK = 0;
    uint8 internal constant THROWN = 1;
    uint8 internal constant LIMIT = 2;
    uint8 internal constant DENIED = 3;
    uint8 internal constant UNAVAILABLE = 4;
}
