// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Acknowledgement, CertificateId, Receipt, ReceiptBatch} from "../types/Types.sol";

/// @title Receipts on chain
/// @notice Receipt + signature + certificate (published once) [+ acknowledgement] → valid, by whom.
///
/// Which roots of trust count is each consumer's own choice, and by default none does. Without an acknowledgement a
/// receipt counts only while its certificate is valid now and not revoked; with one also later, if the quorum
/// acknowledged it before the certificate ended or was revoked.
interface IReceiptVerifier {
    /// @notice Whether a consumer takes receipts of workers under a root of trust.
    enum Acceptance {
        No,
        Yes,
        OnlyAcknowledged
    }

    /// @notice Who made a receipt.
    struct Author {
        address worker;
        address operator;
        bytes32 root;
        bool simulated;
        bytes32 digest;
    }

    /// @notice A consumer's choice changed.
    event RootChanged(address indexed consumer, bytes32 indexed root, Acceptance acceptance);

    /// @notice The signature is not by the certificate's worker.
    error WrongWorker(address signer, address worker);
    /// @notice The certificate is not valid now, and there is no acknowledgement from its time.
    error CertificateEnded(uint64 notAfter);
    /// @notice The certificate is revoked.
    error Revoked(uint64 revokedAt);
    /// @notice The receipt's time lies outside its certificate's, or in the future.
    error TimeOutOfRange(uint64 time);
    /// @notice The consumer does not accept the root of trust.
    error RootNotAccepted(bytes32 root);
    /// @notice The consumer wants an acknowledgement.
    error AcknowledgementNeeded();
    /// @notice An item of a batch names a commit that is not in it.
    error NoSuchCommit(uint256 index);

    /// @notice Chooses for the sender.
    function setRoot(bytes32 root, Acceptance acceptance) external;

    /// @notice A consumer's choice.
    function acceptanceOf(address consumer, bytes32 root) external view returns (Acceptance);

    /// @notice EIP-712 domain separator of the cluster.
    function domainSeparator() external view returns (bytes32);

    /// @notice The digest that a worker signs.
    function digestOf(Receipt calldata receipt) external view returns (bytes32);

    /// @notice Who made the receipt; reverts if it is not valid. Says nothing about whether the root counts.
    function inspect(Receipt calldata receipt, bytes calldata signature) external view returns (Author memory);

    /// @notice The same for a consumer: reverts if the receipt is not valid or its root does not count for `consumer`.
    function verify(address consumer, Receipt calldata receipt, bytes calldata signature)
        external
        view
        returns (Author memory);

    /// @notice The same with the register quorum's acknowledgement.
    function verifyAcknowledged(
        address consumer,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external view returns (Author memory);

    /// @notice The same for a receipt out of a batch of `size`, of which the worker signed the Merkle root:
    /// `ReceiptBatch(bytes32 certificate,bytes32 root,uint64 size)`, leaves `keccak256(keccak256(digest))`.
    function verifyIncluded(
        address consumer,
        Receipt calldata receipt,
        bytes32[] calldata proof,
        uint64 size,
        bytes calldata signature
    ) external view returns (Author memory);

    /// @notice A whole batch at once. Returns who made it (with the root as digest) and each receipt's digest.
    function verifyBatch(address consumer, ReceiptBatch calldata batch, bytes calldata signature)
        external
        view
        returns (Author memory author, bytes32[] memory digests);
}
