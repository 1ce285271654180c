// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Certificate, CertificateId, FunctionId} from "../types/Types.sol";

/// @title Certified workers
/// @notice A certificate is checked once, with t signatures, and then looked up.
interface IWorkerRegistry {
    /// @notice What a revocation names.
    enum Subject {
        Certificate,
        Worker,
        Chip,
        Measurement,
        Root
    }

    /// @notice What a contract needs to know of a certificate.
    struct Standing {
        address worker;
        uint64 notBefore;
        uint64 notAfter;
        address operator;
        bool simulated;
        bytes32 root;
        /// Second from which it is revoked, zero if it is not.
        uint64 revokedAt;
    }

    /// @notice Last sign of life of a certificate's worker: a checkpoint of its receipt log.
    struct Heartbeat {
        uint64 size;
        uint64 time;
        bytes32 root;
    }

    /// @notice A certificate was accepted.
    event CertificatePublished(
        CertificateId indexed id, address indexed worker, address indexed operator, Certificate certificate
    );
    /// @notice A worker is reached under this URL.
    event EndpointChanged(CertificateId indexed id, string endpoint);
    /// @notice A worker's log had `size` entries with root `root`.
    event HeartbeatReceived(CertificateId indexed id, uint64 size, bytes32 root, uint64 time);
    /// @notice Everything with this property is revoked.
    event Revoked(Subject indexed subject, bytes32 indexed value, uint64 time);
    /// @notice A function's older key epochs count no more.
    event MinKeyEpochRaised(FunctionId indexed functionId, uint64 keyEpoch);

    /// @notice The certificate's fields cannot be.
    error ImpossibleCertificate();
    /// @notice The certificate's time has passed.
    error CertificateExpired(uint64 notAfter);
    /// @notice The certificate, its worker, chip, measurement or root is revoked.
    error CertificateRevoked(uint64 revokedAt);
    /// @notice No such certificate was published here.
    error UnknownCertificate(CertificateId id);
    /// @notice Not signed by the account that had to sign.
    error NotSignedBy(address account);
    /// @notice A heartbeat that is older, shorter or from the future.
    error StaleHeartbeat();
    /// @notice Already revoked.
    error AlreadyRevoked(Subject subject, bytes32 value);

    /// @notice Accepts a certificate with the signatures of t gatekeepers (packed as in `IQuorumVerifier`) and, if
    /// `endpoint` is not empty, the operator's signature over `Endpoint(address worker,bytes32 keyset,string
    /// endpoint,uint64 notBefore)`. Anyone may deliver it; a second time changes nothing but the endpoint.
    function publish(
        Certificate calldata certificate,
        bytes calldata signatures,
        string calldata endpoint,
        bytes calldata endpointSignature
    ) external returns (CertificateId id);

    /// @notice Standing of a published certificate. Reverts for an unknown one.
    function standing(CertificateId id) external view returns (Standing memory);

    /// @notice URL under which the worker is reached.
    function endpointOf(CertificateId id) external view returns (string memory);

    /// @notice Records that a certificate survived all revocations so far: looking it up then costs less. Anyone may ask.
    function refresh(CertificateId id) external;

    /// @notice Records a checkpoint signed by the worker: `Heartbeat(bytes32 certificate,uint64 size,bytes32 root,uint64 time)`.
    function heartbeat(CertificateId id, uint64 size, bytes32 root, uint64 time, bytes calldata signature) external;

    /// @notice Last checkpoint of a certificate's worker.
    function lastHeartbeat(CertificateId id) external view returns (Heartbeat memory);

    /// @notice Revokes at once and raises the minimum key epoch of the functions named; by the governor.
    function revoke(Subject subject, bytes32 value, FunctionId[] calldata functions) external;

    /// @notice The same on the word of t gatekeepers: `Revocation(uint8 subject,bytes32 value,bytes32[] functions,uint64 epoch)`.
    function revokeSigned(Subject subject, bytes32 value, FunctionId[] calldata functions, bytes calldata signatures)
        external;

    /// @notice Second from which everything with this property is revoked, zero if it is not.
    function revokedAt(Subject subject, bytes32 value) external view returns (uint64);

    /// @notice Key epochs of a function below this one are released no more.
    function minKeyEpoch(FunctionId id) external view returns (uint64);
}
