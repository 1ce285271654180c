// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRequestHub} from "tacit/interfaces/IRequestHub.sol";
import {TacitConsumer} from "tacit/TacitConsumer.sol";
import {CodeHash, FunctionId, RequestId} from "tacit/types/Types.sol";

/// @title MedicalRegistry
/// @notice Keeps which labelled files a model was validated on. It learns a file's data root, its number of rows and whether
/// the model is right on at least 95 % of them; it never learns a row, a label or a person's result.
contract MedicalRegistry is TacitConsumer {
    /// @notice What is known of a file; `n` is zero before the function answered.
    struct Verdict {
        bool pass;
        uint16 accuracyAtLeast;
        uint64 n;
        uint64 time;
    }

    /// @notice Fewer rows say too little.
    uint256 public constant LEAST_ROWS = 100;
    /// @notice Least accuracy that counts here, in basis points.
    uint256 public constant LEAST_ACCURACY = 9_500;
    /// @notice Gas for keeping a verdict.
    uint64 public constant CALLBACK_GAS = 150_000;

    /// @notice The function that validates.
    FunctionId public immutable functionId;
    /// @notice The one version of it that counts here.
    CodeHash public immutable codeHash;

    mapping(RequestId => bytes32 dataRoot) private _asked;
    mapping(bytes32 dataRoot => Verdict) private _verdicts;

    /// @notice The verdict on a file was asked for.
    event VerdictAsked(RequestId indexed id, bytes32 indexed dataRoot);
    /// @notice A verdict was kept.
    event VerdictKept(bytes32 indexed dataRoot, bool pass, uint256 accuracyAtLeast, uint256 n);

    /// @notice This contract made no such request.
    error NotAsked(RequestId id);
    /// @notice The answer is about another file.
    error OtherFile(bytes32 asked, bytes32 found);
    /// @notice The verdict says too little to be kept.
    error TooWeak(uint256 accuracyAtLeast, uint256 n);

    /// @param roots Roots of trust whose workers count; none by default.
    constructor(IRequestHub hub_, FunctionId functionId_, CodeHash codeHash_, bytes32[] memory roots)
        TacitConsumer(hub_, roots)
    {
        functionId = functionId_;
        codeHash = codeHash_;
    }

    /// @notice Asks for the verdict on a file; anybody may, the coins sent are the fee.
    function ask(bytes32 dataRoot, uint64 deadline) external payable returns (RequestId id) {
        id = _ask(functionId, codeHash, "verdict", abi.encodePacked(dataRoot), CALLBACK_GAS, msg.value, deadline);
        _asked[id] = dataRoot;
        emit VerdictAsked(id, dataRoot);
    }

    /// @notice What is known of a file.
    function verdictOf(bytes32 dataRoot) external view returns (Verdict memory) {
        return _verdicts[dataRoot];
    }

    /// @notice Whether a model passed on a file.
    function passed(bytes32 dataRoot) external view returns (bool) {
        return _verdicts[dataRoot].pass;
    }

    function _onResponse(RequestId id, bytes calldata response) internal override {
        bytes32 asked = _asked[id];
        require(asked != 0, NotAsked(id));
        (bool pass, uint256 accuracyAtLeast, uint256 n, bytes32 dataRoot) =
            abi.decode(response, (bool, uint256, uint256, bytes32));
        require(dataRoot == asked, OtherFile(asked, dataRoot));
        require(
            accuracyAtLeast >= LEAST_ACCURACY && accuracyAtLeast <= 10_000 && n >= LEAST_ROWS && n <= type(uint64).max,
            TooWeak(accuracyAtLeast, n)
        );
        delete _asked[id];
        _verdicts[dataRoot] = Verdict({
            pass: pass, accuracyAtLeast: uint16(accuracyAtLeast), n: uint64(n), time: uint64(block.timestamp)
        });
        emit VerdictKept(dataRoot, pass, accuracyAtLeast, n);
    }
}
