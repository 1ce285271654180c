// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Acknowledgement, CodeHash, FunctionId, Receipt, RequestId} from "../types/Types.sol";

/// @title A contract that functions talk to
interface ITacitConsumer {
    /// @notice A publication was taken.
    event Published(FunctionId indexed functionId, bytes32 indexed topicHash, uint64 sequence, bytes32 digest);
    /// @notice Publications of a function count from now on, or no more. Zero code stands for whatever version counts.
    event PublisherChanged(FunctionId indexed functionId, CodeHash codeHash, bool accepted);

    /// @notice Only the hub calls back.
    error NotTheHub(address account);
    /// @notice Publications of this function do not count here.
    error NotAPublisher(FunctionId functionId);
    /// @notice The publication's sequence is not above the last one of this function and topic.
    error SequenceNotRising(uint64 last, uint64 found);
    /// @notice The receipt is not the one of this publication.
    error NotThePublication(string field);

    /// @notice The hub delivers the answer to a request.
    function onResponse(RequestId id, bytes calldata response) external;

    /// @notice Any relayer delivers a publication: the receipt's response commits to
    /// `abi.encode(uint256 chainId, address consumer, string topic, uint64 sequence, bytes data)`.
    function onPublish(
        string calldata topic,
        uint64 sequence,
        bytes calldata data,
        Receipt calldata receipt,
        bytes calldata signature
    ) external;

    /// @notice As `onPublish`, with the register quorum's acknowledgement: for consumers that accept a root only with it.
    function onPublishAcknowledged(
        string calldata topic,
        uint64 sequence,
        bytes calldata data,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external;

    /// @notice Sequence of the last publication of a function under a topic, zero for none.
    function lastSequence(FunctionId functionId, string calldata topic) external view returns (uint64);
}
