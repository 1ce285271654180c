// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRequestHub} from "../interfaces/IRequestHub.sol";
import {IReceiptVerifier} from "../interfaces/IReceiptVerifier.sol";
import {TacitConsumer} from "../TacitConsumer.sol";
import {CodeHash, FunctionId, RequestId} from "../types/Types.sol";

/// @title StoredAnswers
/// @notice The smallest useful consumer: it asks for its owner and keeps what comes back.
contract StoredAnswers is TacitConsumer {
    /// @notice Who may ask and choose.
    address public immutable owner;
    /// @notice While paused, callbacks and publications revert.
    bool public paused;
    /// @notice The request that was answered last.
    RequestId public lastRequest;
    /// @notice Answers by request.
    mapping(RequestId => bytes) public answerOf;
    /// @notice Newest data by function and topic.
    mapping(FunctionId => mapping(string topic => bytes)) public published;

    /// @notice An answer was kept.
    event Kept(RequestId indexed id, bytes response);

    /// @notice Only the owner.
    error NotOwner(address account);
    /// @notice The contract takes nothing now.
    error IsPaused();

    modifier onlyOwner() {
        require(msg.sender == owner, NotOwner(msg.sender));
        _;
    }

    constructor(IRequestHub hub_, bytes32[] memory roots) TacitConsumer(hub_, roots) {
        owner = msg.sender;
    }

    /// @notice Asks a function; the coins sent are the fee.
    function ask(
        FunctionId functionId,
        CodeHash codeHash,
        string calldata method,
        bytes calldata input,
        uint64 callbackGas,
        uint64 deadline
    ) external payable onlyOwner returns (RequestId) {
        return _ask(functionId, codeHash, method, input, callbackGas, msg.value, deadline);
    }

    /// @notice Takes publications of a function, or no more.
    function setPublisher(FunctionId functionId, CodeHash codeHash, bool accepted) external onlyOwner {
        _setPublisher(functionId, codeHash, accepted);
    }

    /// @notice Believes workers under a root of trust, or no more.
    function setRoot(bytes32 root, IReceiptVerifier.Acceptance acceptance) external onlyOwner {
        _setRoot(root, acceptance);
    }

    /// @notice Stops and starts taking answers.
    function setPaused(bool paused_) external onlyOwner {
        paused = paused_;
    }

    /// @notice Fetches what the hub owes this contract and sends it to the owner.
    function collect() external {
        hub.withdraw(payable(owner));
    }

    function _onResponse(RequestId id, bytes calldata response) internal override {
        require(!paused, IsPaused());
        lastRequest = id;
        answerOf[id] = response;
        emit Kept(id, response);
    }

    function _onPublish(FunctionId functionId, string calldata topic, uint64, bytes calldata data) internal override {
        require(!paused, IsPaused());
        published[functionId][topic] = data;
    }
}
