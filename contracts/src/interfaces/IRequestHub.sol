// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFunctionRegistry} from "./IFunctionRegistry.sol";
import {IReceiptVerifier} from "./IReceiptVerifier.sol";
import {Acknowledgement, CodeHash, FunctionId, Receipt, RequestId} from "../types/Types.sol";

/// @title A contract asks, a function answers
interface IRequestHub {
    /// @notice Where a request stands.
    enum Status {
        None,
        Open,
        /// Answered; the callback, if one was asked for, succeeded.
        Done,
        /// Answered; the callback failed and anybody may retry it.
        CallbackFailed,
        Refunded
    }

    /// @notice A request. The texts are in the event; their commitments are here, so that a storage proof binds them.
    struct Request {
        address consumer;
        uint64 deadline;
        Status status;
        uint64 createdAt;
        uint64 callbackGas;
        uint128 fee;
        FunctionId functionId;
        /// Zero for whatever version counts.
        CodeHash codeHash;
        bytes32 method;
        bytes32 request;
    }

    /// @notice One answer of a batch.
    struct Answer {
        RequestId id;
        bytes response;
        Receipt receipt;
        bytes32[] proof;
    }

    /// @notice A consumer asks.
    event Requested(
        RequestId indexed id,
        FunctionId indexed functionId,
        address indexed consumer,
        uint256 nonce,
        CodeHash codeHash,
        string method,
        bytes input,
        uint64 callbackGas,
        uint256 fee,
        uint64 deadline
    );
    /// @notice A request was answered. `digest` names the receipt.
    event Answered(
        RequestId indexed id, address indexed worker, address indexed deliverer, bytes32 digest, bytes response
    );
    /// @notice The consumer was called back.
    event CalledBack(RequestId indexed id, bool success);
    /// @notice The deadline passed and the fee belongs to the consumer again.
    event Refunded(RequestId indexed id, uint256 fee);
    /// @notice An account took what it is owed.
    event Withdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice The coins sent are not the fee named.
    error FeeNotSent(uint256 fee, uint256 sent);
    /// @notice The deadline is past or more than 30 days away.
    error ImpossibleDeadline(uint64 deadline);
    /// @notice Method, input, response or callback gas is above its limit.
    error TooLarge();
    /// @notice The request is not in the state that this needs.
    error WrongStatus(RequestId id, Status status);
    /// @notice The deadline has passed.
    error DeadlinePassed(uint64 deadline);
    /// @notice The deadline has not passed.
    error DeadlineAhead(uint64 deadline);
    /// @notice A field of the receipt is not that of an answer to this request.
    error NotTheAnswer(string field);
    /// @notice Too little gas to give the callback all it was promised.
    error GasTooLow(uint256 needed);
    /// @notice Nothing is owed.
    error NothingOwed();
    /// @notice The coins could not be sent.
    error TransferFailed();

    /// @notice Asks. `codeHash` zero stands for whatever version counts; `callbackGas` zero for no callback. The id is
    /// `keccak256(abi.encode(uint256 chainId, address hub, address consumer, uint256 nonce, bytes32 functionId, bytes32
    /// codeHash, string method, bytes input, uint64 callbackGas, uint256 fee, uint64 deadline))`.
    function request(
        FunctionId functionId,
        CodeHash codeHash,
        string calldata method,
        bytes calldata input,
        uint64 callbackGas,
        uint256 fee,
        uint64 deadline
    ) external payable returns (RequestId id);

    /// @notice Delivers the answer; anybody may.
    function fulfil(RequestId id, bytes calldata response, Receipt calldata receipt, bytes calldata signature) external;

    /// @notice Delivers the answer with the register quorum's acknowledgement.
    function fulfilAcknowledged(
        RequestId id,
        bytes calldata response,
        Receipt calldata receipt,
        bytes calldata signature,
        Acknowledgement calldata acknowledgement
    ) external;

    /// @notice Delivers answers of one worker under one signature (`ReceiptBatch`). Requests that are not open any more
    /// are passed over; a wrong answer reverts the whole.
    function fulfilBatch(Answer[] calldata answers, uint64 size, bytes calldata signature) external;

    /// @notice Calls the consumer of an answered request again, with at least the gas it asked for; anybody may.
    function retry(RequestId id, uint64 callbackGas) external;

    /// @notice Gives the fee of an unanswered request back after its deadline; anybody may.
    function refund(RequestId id) external;

    /// @notice Sends the sender what it is owed.
    function withdraw(address payable to) external;

    /// @notice Judges the receipts.
    function verifier() external view returns (IReceiptVerifier);

    /// @notice Says which code counts.
    function functions() external view returns (IFunctionRegistry);

    /// @notice A request.
    function requestOf(RequestId id) external view returns (Request memory);

    /// @notice The answer of a request, empty before.
    function responseOf(RequestId id) external view returns (bytes memory);

    /// @notice Number of requests that a consumer has made: the next one's nonce.
    function nonceOf(address consumer) external view returns (uint256);

    /// @notice Coins that an account may withdraw.
    function owed(address account) external view returns (uint256);
}
