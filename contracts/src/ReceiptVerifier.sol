// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IQuorumVerifier} from "./interfaces/IQuorumVerifier.sol";
import {IReceiptVerifier} from "./interfaces/IReceiptVerifier.sol";
import {IWorkerRegistry} from "./interfaces/IWorkerRegistry.sol";
import {Commitments} from "./libraries/Commitments.sol";
import {Digests} from "./libraries/Digests.sol";
import {
    Acknowledgement,
    BatchCommit,
    BatchItem,
    CertificateId,
    CodeHash,
    FunctionId,
    Receipt,
    ReceiptBatch
} from "./types/Types.sol";

/// @title ReceiptVerifier
contract ReceiptVerifier is IReceiptVerifier {
    /// @notice How far a receipt's time may lie ahead of the block's.
    uint256 public constant MAX_AHEAD = 60;

    /// @inheritdoc IReceiptVerifier
    bytes32 public domainSeparator;
    /// @notice Looks certificates up.
    IWorkerRegistry public workers;
    /// @notice Judges acknowledgements.
    IQuorumVerifier public quorumVerifier;

    mapping(address consumer => mapping(bytes32 root => Acceptance)) private _acceptance;

    constructor(bytes32 clusterId, IWorkerRegistry workers_, IQuorumVerifier quorumVerifier_) {
        domainSeparator = Digests.domainSeparator(clusterId);
        workers = workers_;
        quorumVerifier = quorumVerifier_;
    }

    /// @inheritdoc IReceiptVerifier
    function setRoot(bytes32 root, Acceptance acceptance) external {
        _acceptance[msg.sender][root] = acceptance;
        emit RootChanged(msg.sender, root, acceptance);
    }

    /// @inheritdoc IReceiptVerifier
    function acceptanceOf(address consumer, bytes32 root) external view returns (Acceptance) {
        return _acceptance[consumer][root];
    }

    /// @inheritdoc IReceiptVerifier
    function digestOf(Receipt calldata receipt) external view returns (bytes32) {
        return Digests.receipt(domainSeparator, receipt);
    }

    /// @inheritdoc IReceiptVerifier
    function inspect(Receipt calldata receipt, bytes calldata signature) external view returns (Author memory) {
        return _direct(receipt, signature);
    }

    /// @inheritdoc IReceiptVerifier
    function verify(address consumer, Receipt calldata receipt, bytes calldata signature)
        external
        view
        returns (Author memory author)
    {
        author = _direct(receipt, signature);
        _requireAccepted(consumer, author.root, false);
    }

    /// @inheritdoc IReceiptVerifier
    function verifyAcknowledged(
        address consumer,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external view returns (Author memory author) {
        bytes32 domain = domainSeparator;
        bytes32 digest = Digests.receipt(domain, receipt);
        IWorkerRegistry.Standing memory standing = workers.standing(receipt.certificate);
        _requireTime(standing, receipt.time);
        uint64 time = acknowledgement.time;
        require(time >= standing.notBefore && time <= standing.notAfter, CertificateEnded(standing.notAfter));
        require(standing.revokedAt == 0 || time < standing.revokedAt, Revoked(standing.revokedAt));
        _requireAcknowledged(domain, digest, receipt, acknowledgement);
        author = _author(standing, digest, digest, signature);
        _requireAccepted(consumer, author.root, true);
    }

    /// @inheritdoc IReceiptVerifier
    function verifyIncluded(
        address consumer,
        Receipt calldata receipt,
        bytes32[] calldata proof,
        uint64 size,
        bytes calldata signature
    ) external view returns (Author memory author) {
        bytes32 domain = domainSeparator;
        bytes32 digest = Digests.receipt(domain, receipt);
        IWorkerRegistry.Standing memory standing = _live(receipt.certificate);
        _requireTime(standing, receipt.time);
        bytes32 root = MerkleProof.processProofCalldata(proof, Commitments.leaf(digest));
        author = _author(standing, digest, Digests.receiptBatch(domain, receipt.certificate, root, size), signature);
        _requireAccepted(consumer, author.root, false);
    }

    /// @inheritdoc IReceiptVerifier
    function verifyBatch(address consumer, ReceiptBatch calldata batch, bytes calldata signature)
        external
        view
        returns (Author memory author, bytes32[] memory digests)
    {
        bytes32 domain = domainSeparator;
        IWorkerRegistry.Standing memory standing = _live(batch.certificate);
        bytes32[] memory level;
        (digests, level) = _batchDigests(domain, standing, batch);
        bytes32 root = Commitments.merkleRoot(level);
        bytes32 signed = Digests.receiptBatch(domain, batch.certificate, root, uint64(digests.length));
        author = _author(standing, root, signed, signature);
        _requireAccepted(consumer, author.root, false);
    }

    function _direct(Receipt calldata receipt, bytes calldata signature) private view returns (Author memory) {
        bytes32 digest = Digests.receipt(domainSeparator, receipt);
        IWorkerRegistry.Standing memory standing = _live(receipt.certificate);
        _requireTime(standing, receipt.time);
        return _author(standing, digest, digest, signature);
    }

    /// A certificate that is valid now.
    function _live(CertificateId id) private view returns (IWorkerRegistry.Standing memory standing) {
        standing = workers.standing(id);
        require(block.timestamp <= standing.notAfter, CertificateEnded(standing.notAfter));
        require(standing.revokedAt == 0, Revoked(standing.revokedAt));
    }

    function _requireTime(IWorkerRegistry.Standing memory standing, uint64 time) private view {
        bool possible = time >= standing.notBefore && time <= standing.notAfter && time <= block.timestamp + MAX_AHEAD;
        require(possible, TimeOutOfRange(time));
    }

    function _author(IWorkerRegistry.Standing memory standing, bytes32 digest, bytes32 signed, bytes calldata signature)
        private
        pure
        returns (Author memory)
    {
        address signer = ECDSA.recoverCalldata(signed, signature);
        require(signer == standing.worker, WrongWorker(signer, standing.worker));
        return Author({
            worker: signer,
            operator: standing.operator,
            root: standing.root,
            simulated: standing.simulated,
            digest: digest
        });
    }

    function _requireAccepted(address consumer, bytes32 root, bool acknowledged) private view {
        Acceptance acceptance = _acceptance[consumer][root];
        require(acceptance != Acceptance.No, RootNotAccepted(root));
        require(acknowledged || acceptance == Acceptance.Yes, AcknowledgementNeeded());
    }

    function _requireAcknowledged(
        bytes32 domain,
        bytes32 digest,
        Receipt calldata receipt,
        Acknowledgement calldata acknowledgement
    ) private view {
        uint64 time = acknowledgement.time;
        bytes32 receiptsRoot = MerkleProof.processProofCalldata(acknowledgement.receiptProof, Commitments.leaf(digest));
        bytes32 ack = Digests.ack(domain, receipt, receiptsRoot, time);
        bytes32 batchRoot = MerkleProof.processProofCalldata(acknowledgement.batchProof, Commitments.leaf(ack));
        bytes32 batch = Digests.ackBatch(domain, receipt.epoch, batchRoot, time);
        quorumVerifier.requireQuorum(batch, receipt.epoch, acknowledgement.signatures);
    }

    /// Digests of the receipts of a batch, and the leaves over them. One buffer holds the receipt being hashed: word 0
    /// is the type, words 1 to 19 the members in order.
    function _batchDigests(bytes32 domain, IWorkerRegistry.Standing memory standing, ReceiptBatch calldata batch)
        private
        view
        returns (bytes32[] memory digests, bytes32[] memory leaves)
    {
        BatchCommit[] calldata commits = batch.commits;
        BatchItem[] calldata items = batch.items;
        bytes32[] memory heads = _headsBefore(commits);
        digests = new bytes32[](items.length);
        leaves = new bytes32[](items.length);
        bytes32[20] memory words = _shared(batch);
        for (uint256 i = 0; i < items.length; ++i) {
            uint256 index = items[i].figures >> 128;
            require(index < commits.length, NoSuchCommit(index));
            _requireTime(standing, uint64(items[i].figures));
            bytes32 digest = Digests.typed(domain, _structHash(words, items[i], commits[index], heads[index]));
            digests[i] = digest;
            leaves[i] = Commitments.leaf(digest);
        }
    }

    function _structHash(
        bytes32[20] memory words,
        BatchItem calldata item,
        BatchCommit calldata commit,
        bytes32 headBefore
    ) private pure returns (bytes32 structHash) {
        words[4] = item.callId;
        words[9] = item.request;
        words[10] = item.response;
        words[11] = bytes32(uint256(commit.sequence));
        words[12] = headBefore;
        words[13] = commit.headAfter;
        words[15] = item.effects;
        words[16] = item.usage;
        words[17] = bytes32(uint256(uint64(item.figures >> 64)));
        words[18] = bytes32(uint256(uint64(item.figures)));
        assembly ("memory-safe") {
            structHash := keccak256(words, 640)
        }
    }

    function _headsBefore(BatchCommit[] calldata commits) private pure returns (bytes32[] memory heads) {
        heads = new bytes32[](commits.length);
        bytes32 previous = 0;
        for (uint256 i = 0; i < commits.length; ++i) {
            bytes32 head = commits[i].headBefore;
            heads[i] = head == 0 ? previous : head;
            previous = commits[i].headAfter;
        }
    }

    function _shared(ReceiptBatch calldata batch) private pure returns (bytes32[20] memory words) {
        words[0] = Digests.RECEIPT_TYPE;
        words[1] = FunctionId.unwrap(batch.functionId);
        words[2] = CodeHash.unwrap(batch.codeHash);
        words[3] = CertificateId.unwrap(batch.certificate);
        words[5] = bytes32(uint256(batch.kind));
        words[6] = bytes32(uint256(batch.outcome));
        words[7] = batch.method;
        words[8] = batch.caller;
        words[14] = bytes32(uint256(batch.fence));
        words[19] = bytes32(uint256(batch.epoch));
    }
}
