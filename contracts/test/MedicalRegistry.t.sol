// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MedicalRegistry} from "examples/medical-check/MedicalRegistry.sol";
import {IRequestHub} from "../src/interfaces/IRequestHub.sol";
import {ITacitConsumer} from "../src/interfaces/ITacitConsumer.sol";
import {CodeHash, Receipt, RequestId} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";

contract MedicalRegistryTest is TacitTest {
    /// What `node examples/medical-check/reference.mjs file --salt 1111…11` prints.
    bytes32 private constant DATA_ROOT = 0x64aa1b56c60f4433bedcf2ee9c9fd5c8ceb3d95ad0bb88e78a170a48d2b61141;
    bytes private constant ANSWER = hex"0000000000000000000000000000000000000000000000000000000000000001"
        hex"000000000000000000000000000000000000000000000000000000000000251c"
        hex"00000000000000000000000000000000000000000000000000000000000000ab"
        hex"64aa1b56c60f4433bedcf2ee9c9fd5c8ceb3d95ad0bb88e78a170a48d2b61141";

    MedicalRegistry private _registry;

    function setUp() public {
        deployTacit();
        _registry = new MedicalRegistry(hub, functionId, codeHash, roots());
    }

    function _ask() private returns (RequestId) {
        return _registry.ask(DATA_ROOT, uint64(block.timestamp) + 600);
    }

    function _requireStatus(RequestId id, IRequestHub.Status expected) private view {
        require(hub.requestOf(id).status == expected, "another status");
    }

    function _refused(bytes memory response) private {
        RequestId id = _ask();
        fulfil(id, response);
        _requireStatus(id, IRequestHub.Status.CallbackFailed);
        require(_registry.verdictOf(DATA_ROOT).n == 0 && !_registry.passed(DATA_ROOT), "kept");
    }

    function test_A_verdict_is_kept() public {
        RequestId id = _ask();
        require(!_registry.passed(DATA_ROOT), "passed before the answer");
        fulfil(id, ANSWER);
        _requireStatus(id, IRequestHub.Status.Done);
        MedicalRegistry.Verdict memory verdict = _registry.verdictOf(DATA_ROOT);
        require(verdict.pass && verdict.accuracyAtLeast == 9_500 && verdict.n == 171, "not the verdict");
        require(verdict.time == block.timestamp && _registry.passed(DATA_ROOT), "not kept now");
    }

    function test_A_file_that_failed_is_kept_as_failed() public {
        RequestId id = _ask();
        fulfil(id, abi.encode(false, 9_500, 171, DATA_ROOT));
        _requireStatus(id, IRequestHub.Status.Done);
        require(_registry.verdictOf(DATA_ROOT).n == 171 && !_registry.passed(DATA_ROOT), "not failed");
    }

    function test_Answers_that_say_too_little_are_refused() public {
        _refused(abi.encode(true, 9_500, 99, DATA_ROOT));
        _refused(abi.encode(true, 9_499, 171, DATA_ROOT));
        _refused(abi.encode(true, 10_001, 171, DATA_ROOT));
        _refused(abi.encode(true, 9_500, uint256(type(uint64).max) + 1, DATA_ROOT));
        _refused(abi.encode(true, 9_500, 171, keccak256("another file")));
        _refused(abi.encode(true, 9_500, 171));
        _refused(abi.encode(uint256(2), 9_500, 171, DATA_ROOT));
        _refused("");
    }

    function test_A_callback_that_failed_is_not_kept_later_either() public {
        RequestId id = _ask();
        fulfil(id, abi.encode(true, 9_500, 171, keccak256("another file")));
        hub.retry(id, 0);
        _requireStatus(id, IRequestHub.Status.CallbackFailed);
        require(!_registry.passed(DATA_ROOT), "kept");
    }

    function test_Nobody_but_the_hub_delivers() public {
        RequestId id = _ask();
        try _registry.onResponse(id, ANSWER) {
            revert("taken");
        } catch (bytes memory reason) {
            require(bytes4(reason) == ITacitConsumer.NotTheHub.selector, "another error");
        }
    }

    function test_Another_version_of_the_function_does_not_count() public {
        RequestId id = _ask();
        Receipt memory receipt = answer(id, ANSWER);
        receipt.codeHash = CodeHash.wrap(keccak256("another version"));
        bytes memory signature = signBy(WORKER_KEY, receipt);
        try hub.fulfil(id, ANSWER, receipt, signature) {
            revert("taken");
        } catch (bytes memory reason) {
            require(bytes4(reason) == IRequestHub.NotTheAnswer.selector, "another error");
        }
    }

    function test_Without_an_accepted_root_nothing_counts() public {
        MedicalRegistry strict = new MedicalRegistry(hub, functionId, codeHash, new bytes32[](0));
        RequestId id = strict.ask(DATA_ROOT, uint64(block.timestamp) + 600);
        Receipt memory receipt = answer(id, ANSWER);
        bytes memory signature = signBy(WORKER_KEY, receipt);
        try hub.fulfil(id, ANSWER, receipt, signature) {
            revert("taken");
        } catch {}
        require(!strict.passed(DATA_ROOT), "kept");
    }
}
