// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFunctionRegistry} from "./interfaces/IFunctionRegistry.sol";
import {IReceiptVerifier} from "./interfaces/IReceiptVerifier.sol";
import {IRequestHub} from "./interfaces/IRequestHub.sol";
import {ITacitConsumer} from "./interfaces/ITacitConsumer.sol";
import {Commitments} from "./libraries/Commitments.sol";
import {Acknowledgement, CodeHash, FunctionId, Kind, Outcome, Receipt, RequestId} from "./types/Types.sol";

/// @title RequestHub
/// @notice No consumer can hold up another: each request stands alone, coins are fetched, never sent, and a failing
/// callback changes nothing but the request's status. A request is marked before its consumer is called.
contract RequestHub is IRequestHub {
    /// @notice Longest method name, in bytes.
    uint256 public constant MAX_METHOD = 64;
    /// @notice Longest input, in bytes.
    uint256 public constant MAX_INPUT = 32 * 1024;
    /// @notice Longest response, in bytes.
    uint256 public constant MAX_RESPONSE = 8 * 1024;
    /// @notice Most gas that a callback may ask for.
    uint64 public constant MAX_CALLBACK_GAS = 5_000_000;
    /// @notice How far away a deadline may be.
    uint64 public constant MAX_WAIT = 30 days;
    /// @notice Gas that the hub keeps for itself around a callback.
    uint256 public constant CALLBACK_OVERHEAD = 40_000;
    /// @notice The deliverer's part of a fee, in percent, …
    uint256 public constant TIP_PERCENT = 10;
    /// @notice … and at most this much.
    uint256 public constant MAX_TIP = 0.01 ether;

    /// @inheritdoc IRequestHub
    IReceiptVerifier public verifier;
    /// @inheritdoc IRequestHub
    IFunctionRegistry public functions;
    /// @inheritdoc IRequestHub
    mapping(address account => uint256) public owed;
    /// @inheritdoc IRequestHub
    mapping(address consumer => uint256) public nonceOf;

    mapping(RequestId => Request) private _requests;
    mapping(RequestId => bytes) private _responses;

    constructor(IReceiptVerifier verifier_, IFunctionRegistry functions_) {
        verifier = verifier_;
        functions = functions_;
    }

    /// @inheritdoc IRequestHub
    function request(
        FunctionId functionId,
        CodeHash codeHash,
        string calldata method,
        bytes calldata input,
        uint64 callbackGas,
        uint256 fee,
        uint64 deadline
    ) external payable returns (RequestId id) {
        require(msg.value == fee && fee <= type(uint128).max, FeeNotSent(fee, msg.value));
        require(deadline > block.timestamp && deadline <= block.timestamp + MAX_WAIT, ImpossibleDeadline(deadline));
        require(
            bytes(method).length <= MAX_METHOD && input.length <= MAX_INPUT && callbackGas <= MAX_CALLBACK_GAS,
            TooLarge()
        );
        // Reverts for an unknown function.
        functions.currentCode(functionId);
        uint256 nonce = nonceOf[msg.sender]++;
        id = RequestId.wrap(
            keccak256(
                abi.encode(
                    block.chainid,
                    address(this),
                    msg.sender,
                    nonce,
                    functionId,
                    codeHash,
                    method,
                    input,
                    callbackGas,
                    fee,
                    deadline
                )
            )
        );
        _requests[id] = Request({
            consumer: msg.sender,
            deadline: deadline,
            status: Status.Open,
            createdAt: uint64(block.timestamp),
            callbackGas: callbackGas,
            fee: uint128(fee),
            functionId: functionId,
            codeHash: codeHash,
            method: Commitments.method(method),
            request: Commitments.request(input)
        });
        emit Requested(id, functionId, msg.sender, nonce, codeHash, method, input, callbackGas, fee, deadline);
    }

    /// @inheritdoc IRequestHub
    function fulfil(RequestId id, bytes calldata response, Receipt calldata receipt, bytes calldata signature)
        external
    {
        Request storage asked = _open(id);
        _requireAnswer(id, asked, response, receipt);
        _close(id, asked, response, verifier.verify(asked.consumer, receipt, signature));
    }

    /// @inheritdoc IRequestHub
    function fulfilAcknowledged(
        RequestId id,
        bytes calldata response,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external {
        Request storage asked = _open(id);
        _requireAnswer(id, asked, response, receipt);
        _close(id, asked, response, verifier.verifyAcknowledged(asked.consumer, receipt, signature, acknowledgement));
    }

    /// @inheritdoc IRequestHub
    function fulfilBatch(Answer[] calldata answers, uint64 size, bytes calldata signature) external {
        for (uint256 i = 0; i < answers.length; ++i) {
            _fulfilIncluded(answers[i], size, signature);
        }
    }

    /// @inheritdoc IRequestHub
    function retry(RequestId id, uint64 callbackGas) external {
        Request storage asked = _requests[id];
        require(asked.status == Status.CallbackFailed, WrongStatus(id, asked.status));
        uint64 promised = asked.callbackGas;
        asked.status = Status.Done;
        _callBack(id, asked, _responses[id], callbackGas > promised ? callbackGas : promised);
    }

    /// @inheritdoc IRequestHub
    function refund(RequestId id) external {
        Request storage asked = _requests[id];
        require(asked.status == Status.Open, WrongStatus(id, asked.status));
        require(block.timestamp > asked.deadline, DeadlineAhead(asked.deadline));
        asked.status = Status.Refunded;
        uint256 fee = asked.fee;
        owed[asked.consumer] += fee;
        emit Refunded(id, fee);
    }

    /// @inheritdoc IRequestHub
    function withdraw(address payable to) external {
        uint256 amount = owed[msg.sender];
        require(amount != 0, NothingOwed());
        owed[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        (bool sent,) = to.call{value: amount}("");
        require(sent, TransferFailed());
    }

    /// @inheritdoc IRequestHub
    function requestOf(RequestId id) external view returns (Request memory) {
        return _requests[id];
    }

    /// @inheritdoc IRequestHub
    function responseOf(RequestId id) external view returns (bytes memory) {
        return _responses[id];
    }

    function _open(RequestId id) private view returns (Request storage asked) {
        asked = _requests[id];
        require(asked.status == Status.Open, WrongStatus(id, asked.status));
        require(block.timestamp <= asked.deadline, DeadlinePassed(asked.deadline));
    }

    function _fulfilIncluded(Answer calldata answer, uint64 size, bytes calldata signature) private {
        RequestId id = answer.id;
        Request storage asked = _requests[id];
        if (asked.status != Status.Open || block.timestamp > asked.deadline) return;
        _requireAnswer(id, asked, answer.response, answer.receipt);
        IReceiptVerifier.Author memory author =
            verifier.verifyIncluded(asked.consumer, answer.receipt, answer.proof, size, signature);
        _close(id, asked, answer.response, author);
    }

    /// Everything in the receipt that must be this request's, recomputed here.
    function _requireAnswer(RequestId id, Request storage asked, bytes calldata response, Receipt calldata receipt)
        private
        view
    {
        require(response.length <= MAX_RESPONSE, TooLarge());
        require(receipt.callId == RequestId.unwrap(id), NotTheAnswer("callId"));
        require(receipt.kind == Kind.CHAIN_REQUEST, NotTheAnswer("kind"));
        require(receipt.outcome == Outcome.OK, NotTheAnswer("outcome"));
        require(receipt.functionId == asked.functionId, NotTheAnswer("functionId"));
        require(receipt.method == asked.method, NotTheAnswer("method"));
        require(receipt.caller == Commitments.caller(asked.consumer), NotTheAnswer("caller"));
        require(receipt.request == asked.request, NotTheAnswer("request"));
        require(receipt.response == Commitments.response(response), NotTheAnswer("response"));
        require(receipt.time >= asked.createdAt, NotTheAnswer("time"));
        CodeHash wanted = asked.codeHash;
        bool counts = CodeHash.unwrap(wanted) == 0
            ? functions.countedWithin(asked.functionId, receipt.codeHash, asked.createdAt, uint64(block.timestamp))
            : receipt.codeHash == wanted;
        require(counts, NotTheAnswer("codeHash"));
    }

    function _close(RequestId id, Request storage asked, bytes calldata response, IReceiptVerifier.Author memory author)
        private
    {
        asked.status = Status.Done;
        _responses[id] = response;
        uint256 fee = asked.fee;
        if (fee != 0) {
            uint256 tip = fee * TIP_PERCENT / 100;
            if (tip > MAX_TIP) tip = MAX_TIP;
            owed[author.operator] += fee - tip;
            owed[msg.sender] += tip;
        }
        emit Answered(id, author.worker, msg.sender, author.digest, response);
        uint64 callbackGas = asked.callbackGas;
        if (callbackGas != 0) _callBack(id, asked, response, callbackGas);
    }

    /// Calls the consumer with exactly `callbackGas`. What it returns is not copied, so it cannot cost more than that.
    function _callBack(RequestId id, Request storage asked, bytes memory response, uint64 callbackGas) private {
        bytes memory data = abi.encodeCall(ITacitConsumer.onResponse, (id, response));
        address consumer = asked.consumer;
        uint256 needed = uint256(callbackGas) + CALLBACK_OVERHEAD;
        // EIP-150 keeps 1/64 back: without this a deliverer could starve the callback and have it marked as failed.
        require(gasleft() * 63 / 64 >= needed, GasTooLow(needed));
        bool success;
        assembly ("memory-safe") {
            success := call(callbackGas, consumer, 0, add(data, 32), mload(data), 0, 0)
        }
        if (!success) asked.status = Status.CallbackFailed;
        emit CalledBack(id, success);
    }
}
