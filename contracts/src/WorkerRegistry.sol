// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IFunctionRegistry} from "./interfaces/IFunctionRegistry.sol";
import {IGatekeeperSet} from "./interfaces/IGatekeeperSet.sol";
import {IQuorumVerifier} from "./interfaces/IQuorumVerifier.sol";
import {IWorkerRegistry} from "./interfaces/IWorkerRegistry.sol";
import {Digests} from "./libraries/Digests.sol";
import {Certificate, CertificateId, FunctionId} from "./types/Types.sol";

/// @title WorkerRegistry
/// @notice The owner is the governor. A lookup costs three slots: revocations of properties (chip, measurement, …) are
/// counted, and only certificates older than the last of them are checked against the lists.
contract WorkerRegistry is IWorkerRegistry, Ownable2Step {
    struct Entry {
        address worker;
        uint40 notBefore;
        uint40 notAfter;
        uint16 reserved;
        address operator;
        uint40 revokedAt;
        uint32 generation;
        bool simulated;
        bytes32 root;
        bytes32 chip;
        bytes32 measurement;
    }

    /// @notice How far a heartbeat's time may lie ahead of the block's.
    uint256 public constant MAX_AHEAD = 60;

    /// @notice The set whose epoch certificates must be of.
    IGatekeeperSet public gatekeepers;
    /// @notice Judges certificates and signed revocations.
    IQuorumVerifier public quorumVerifier;
    /// @notice Where a function's key epoch stands.
    IFunctionRegistry public functions;
    /// @notice EIP-712 domain separator of the cluster.
    bytes32 public domainSeparator;
    /// @notice Number of revocations of properties so far.
    uint32 public generation;

    mapping(CertificateId => Entry) private _entries;
    mapping(CertificateId => string) private _endpoints;
    mapping(CertificateId => Heartbeat) private _heartbeats;
    mapping(Subject => mapping(bytes32 value => uint64)) private _revokedAt;
    mapping(FunctionId => uint64) private _minKeyEpoch;

    constructor(
        address governor,
        bytes32 clusterId,
        IGatekeeperSet gatekeepers_,
        IQuorumVerifier quorumVerifier_,
        IFunctionRegistry functions_
    ) Ownable(governor) {
        domainSeparator = Digests.domainSeparator(clusterId);
        gatekeepers = gatekeepers_;
        quorumVerifier = quorumVerifier_;
        functions = functions_;
    }

    /// @inheritdoc IWorkerRegistry
    function publish(
        Certificate calldata certificate,
        bytes calldata signatures,
        string calldata endpoint,
        bytes calldata endpointSignature
    ) external returns (CertificateId id) {
        id = Digests.certificate(domainSeparator, certificate);
        Entry storage entry = _entries[id];
        if (entry.worker == address(0)) _accept(id, entry, certificate, signatures);
        if (bytes(endpoint).length != 0) _setEndpoint(id, certificate, endpoint, endpointSignature);
    }

    /// @inheritdoc IWorkerRegistry
    function standing(CertificateId id) external view returns (Standing memory) {
        Entry storage entry = _known(id);
        return Standing({
            worker: entry.worker,
            notBefore: entry.notBefore,
            notAfter: entry.notAfter,
            operator: entry.operator,
            simulated: entry.simulated,
            root: entry.root,
            revokedAt: _revocation(entry)
        });
    }

    /// @inheritdoc IWorkerRegistry
    function endpointOf(CertificateId id) external view returns (string memory) {
        return _endpoints[id];
    }

    /// @inheritdoc IWorkerRegistry
    function refresh(CertificateId id) external {
        Entry storage entry = _known(id);
        uint64 since = _revocation(entry);
        require(since == 0, CertificateRevoked(since));
        entry.generation = generation;
    }

    /// @inheritdoc IWorkerRegistry
    function heartbeat(CertificateId id, uint64 size, bytes32 root, uint64 time, bytes calldata signature) external {
        Entry storage entry = _known(id);
        uint64 since = _revocation(entry);
        require(since == 0, CertificateRevoked(since));
        require(time >= entry.notBefore && time <= entry.notAfter, CertificateExpired(entry.notAfter));
        Heartbeat storage last = _heartbeats[id];
        bool rises = time > last.time && time <= block.timestamp + MAX_AHEAD && size >= last.size;
        require(rises && (size > last.size || last.time == 0 || root == last.root), StaleHeartbeat());
        bytes32 digest = Digests.heartbeat(domainSeparator, id, size, root, time);
        require(ECDSA.recoverCalldata(digest, signature) == entry.worker, NotSignedBy(entry.worker));
        _heartbeats[id] = Heartbeat({size: size, time: time, root: root});
        emit HeartbeatReceived(id, size, root, time);
    }

    /// @inheritdoc IWorkerRegistry
    function lastHeartbeat(CertificateId id) external view returns (Heartbeat memory) {
        return _heartbeats[id];
    }

    /// @inheritdoc IWorkerRegistry
    function revoke(Subject subject, bytes32 value, FunctionId[] calldata affected) external onlyOwner {
        _revoke(subject, value, affected);
    }

    /// @inheritdoc IWorkerRegistry
    function revokeSigned(Subject subject, bytes32 value, FunctionId[] calldata affected, bytes calldata signatures)
        external
    {
        uint64 epoch = gatekeepers.epoch();
        bytes32 digest = Digests.revocation(domainSeparator, uint8(subject), value, affected, epoch);
        quorumVerifier.requireThreshold(digest, epoch, signatures);
        _revoke(subject, value, affected);
    }

    /// @inheritdoc IWorkerRegistry
    function revokedAt(Subject subject, bytes32 value) external view returns (uint64) {
        return _revokedAt[subject][value];
    }

    /// @inheritdoc IWorkerRegistry
    function minKeyEpoch(FunctionId id) external view returns (uint64) {
        return _minKeyEpoch[id];
    }

    function _accept(CertificateId id, Entry storage entry, Certificate calldata certificate, bytes calldata signatures)
        private
    {
        require(
            certificate.worker != address(0) && certificate.notBefore <= certificate.notAfter
                && certificate.notAfter <= type(uint40).max && certificate.confidence >= 1
                && certificate.confidence <= 5,
            ImpossibleCertificate()
        );
        require(block.timestamp <= certificate.notAfter, CertificateExpired(certificate.notAfter));
        quorumVerifier.requireThreshold(CertificateId.unwrap(id), certificate.epoch, signatures);
        entry.worker = certificate.worker;
        entry.notBefore = uint40(certificate.notBefore);
        entry.notAfter = uint40(certificate.notAfter);
        entry.operator = certificate.operator;
        entry.simulated = certificate.simulated;
        entry.generation = generation;
        entry.root = certificate.root;
        entry.chip = certificate.chip;
        entry.measurement = certificate.measurement;
        uint64 since = _listed(entry);
        if (_revokedAt[Subject.Certificate][CertificateId.unwrap(id)] != 0) {
            since = _revokedAt[Subject.Certificate][CertificateId.unwrap(id)];
        }
        require(since == 0, CertificateRevoked(since));
        emit CertificatePublished(id, certificate.worker, certificate.operator, certificate);
    }

    function _setEndpoint(
        CertificateId id,
        Certificate calldata certificate,
        string calldata endpoint,
        bytes calldata signature
    ) private {
        bytes32 claim = Digests.endpoint(domainSeparator, certificate, endpoint);
        address signer = ECDSA.recoverCalldata(claim, signature);
        require(signer == certificate.operator, NotSignedBy(certificate.operator));
        _endpoints[id] = endpoint;
        emit EndpointChanged(id, endpoint);
    }

    function _revoke(Subject subject, bytes32 value, FunctionId[] calldata affected) private {
        require(_revokedAt[subject][value] == 0, AlreadyRevoked(subject, value));
        uint64 time = uint64(block.timestamp);
        _revokedAt[subject][value] = time;
        if (subject == Subject.Certificate) {
            _entries[CertificateId.wrap(value)].revokedAt = uint40(time);
        } else {
            ++generation;
        }
        emit Revoked(subject, value, time);
        for (uint256 i = 0; i < affected.length; ++i) {
            FunctionId id = affected[i];
            uint64 raised = functions.keyEpoch(id) + 1;
            _minKeyEpoch[id] = raised;
            emit MinKeyEpochRaised(id, raised);
        }
    }

    function _known(CertificateId id) private view returns (Entry storage entry) {
        entry = _entries[id];
        require(entry.worker != address(0), UnknownCertificate(id));
    }

    function _revocation(Entry storage entry) private view returns (uint64 since) {
        since = entry.revokedAt;
        if (entry.generation != generation) {
            uint64 listed = _listed(entry);
            if (listed != 0 && (since == 0 || listed < since)) since = listed;
        }
    }

    /// The earliest revocation of a property of the entry.
    function _listed(Entry storage entry) private view returns (uint64 since) {
        since = _earlier(0, _revokedAt[Subject.Worker][bytes32(uint256(uint160(entry.worker)))]);
        since = _earlier(since, _revokedAt[Subject.Chip][entry.chip]);
        since = _earlier(since, _revokedAt[Subject.Measurement][entry.measurement]);
        since = _earlier(since, _revokedAt[Subject.Root][entry.root]);
    }

    function _earlier(uint64 a, uint64 b) private pure returns (uint64) {
        return a == 0 || (b != 0 && b < a) ? b : a;
    }
}
