// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IReceiptVerifier} from "./interfaces/IReceiptVerifier.sol";
import {IRequestHub} from "./interfaces/IRequestHub.sol";
import {ITacitConsumer} from "./interfaces/ITacitConsumer.sol";
import {Commitments} from "./libraries/Commitments.sol";
import {Acknowledgement, CodeHash, FunctionId, Kind, Outcome, Receipt, RequestId} from "./types/Types.sol";

/// @title TacitConsumer
/// @notice Base of contracts that ask functions, or that functions publish to. A child names the roots of trust whose
/// workers it believes, overrides `_onResponse` and `_onPublish`, and asks with `_ask`.
abstract contract TacitConsumer is ITacitConsumer {
    struct Publisher {
        bool accepted;
        CodeHash codeHash;
    }

    /// @notice The hub that requests go through.
    IRequestHub public immutable hub;
    /// @notice Judges publications.
    IReceiptVerifier public immutable verifier;

    mapping(FunctionId => Publisher) private _publishers;
    mapping(FunctionId => mapping(bytes32 topicHash => uint64)) private _lastSequence;

    /// @param roots Roots of trust whose workers count; none by default.
    constructor(IRequestHub hub_, bytes32[] memory roots) {
        hub = hub_;
        verifier = hub_.verifier();
        for (uint256 i = 0; i < roots.length; ++i) {
            _setRoot(roots[i], IReceiptVerifier.Acceptance.Yes);
        }
    }

    /// @notice Fees of unanswered requests come back here.
    receive() external payable {}

    /// @inheritdoc ITacitConsumer
    function onResponse(RequestId id, bytes calldata response) external {
        require(msg.sender == address(hub), NotTheHub(msg.sender));
        _onResponse(id, response);
    }

    /// @inheritdoc ITacitConsumer
    function onPublish(
        string calldata topic,
        uint64 sequence,
        bytes calldata data,
        Receipt calldata receipt,
        bytes calldata signature
    ) external {
        _requirePublication(receipt, topic, sequence, data);
        _advance(receipt.functionId, keccak256(bytes(topic)), sequence);
        _take(topic, sequence, data, receipt.functionId, verifier.verify(address(this), receipt, signature).digest);
    }

    /// @inheritdoc ITacitConsumer
    function onPublishAcknowledged(
        string calldata topic,
        uint64 sequence,
        bytes calldata data,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external {
        _requirePublication(receipt, topic, sequence, data);
        _advance(receipt.functionId, keccak256(bytes(topic)), sequence);
        bytes32 digest = verifier.verifyAcknowledged(address(this), receipt, signature, acknowledgement).digest;
        _take(topic, sequence, data, receipt.functionId, digest);
    }

    /// @inheritdoc ITacitConsumer
    function lastSequence(FunctionId functionId, string calldata topic) external view returns (uint64) {
        return _lastSequence[functionId][keccak256(bytes(topic))];
    }

    /// @notice What the contract does with an answer.
    function _onResponse(RequestId id, bytes calldata response) internal virtual;

    /// @notice What the contract does with a publication; by default nothing.
    function _onPublish(FunctionId functionId, string calldata topic, uint64 sequence, bytes calldata data)
        internal
        virtual {}

    /// @notice Asks a function. `codeHash` zero stands for whatever version counts.
    function _ask(
        FunctionId functionId,
        CodeHash codeHash,
        string memory method,
        bytes memory input,
        uint64 callbackGas,
        uint256 fee,
        uint64 deadline
    ) internal returns (RequestId) {
        return hub.request{value: fee}(functionId, codeHash, method, input, callbackGas, fee, deadline);
    }

    /// @notice Chooses whether workers under a root of trust count here.
    function _setRoot(bytes32 root, IReceiptVerifier.Acceptance acceptance) internal {
        verifier.setRoot(root, acceptance);
    }

    /// @notice Chooses whether publications of a function count here; `codeHash` zero for whatever version counts.
    function _setPublisher(FunctionId functionId, CodeHash codeHash, bool accepted) internal {
        _publishers[functionId] = Publisher({accepted: accepted, codeHash: codeHash});
        emit PublisherChanged(functionId, codeHash, accepted);
    }

    function _requirePublication(Receipt calldata receipt, string calldata topic, uint64 sequence, bytes calldata data)
        private
        view
    {
        bytes memory publication = Commitments.publication(block.chainid, address(this), topic, sequence, data);
        FunctionId functionId = receipt.functionId;
        Publisher memory publisher = _publishers[functionId];
        require(publisher.accepted, NotAPublisher(functionId));
        require(receipt.kind == Kind.PUBLISH, NotThePublication("kind"));
        require(receipt.outcome == Outcome.OK, NotThePublication("outcome"));
        require(receipt.response == Commitments.response(publication), NotThePublication("response"));
        bool counts = CodeHash.unwrap(publisher.codeHash) == 0
            ? hub.functions().countedWithin(functionId, receipt.codeHash, receipt.time, uint64(block.timestamp))
            : receipt.codeHash == publisher.codeHash;
        require(counts, NotThePublication("codeHash"));
    }

    function _take(string calldata topic, uint64 sequence, bytes calldata data, FunctionId functionId, bytes32 digest)
        private
    {
        emit Published(functionId, keccak256(bytes(topic)), sequence, digest);
        _onPublish(functionId, topic, sequence, data);
    }

    function _advance(FunctionId functionId, bytes32 topicHash, uint64 sequence) private {
        uint64 last = _lastSequence[functionId][topicHash];
        require(sequence > last, SequenceNotRising(last, sequence));
        _lastSequence[functionId][topicHash] = sequence;
    }
}
