// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PolicyRegistry} from "../src/PolicyRegistry.sol";
import {IPolicyRegistry} from "../src/interfaces/IPolicyRegistry.sol";
import {VM} from "./Vm.sol";

/// Governor and guardian in any order; beside the contract it keeps only when each loosening was asked for, and the timelock
/// that stood at that moment.
contract Government {
    address public constant GUARDIAN = address(0x6a);
    uint256 public constant VALUES = 3;

    PolicyRegistry public policies;
    /// The earliest moment at which an allowance of the value may count; 0 without one.
    uint256[VALUES] public mayCountFrom;
    /// The earliest moment at which a denial may end; the end of time while nobody lifted it, 0 if never denied.
    uint256[VALUES] public mayEndFrom;
    /// The same for documents.
    uint256[] public documentFrom;
    bool[] public documentVetoed;
    /// The timelock that must at least stand, the shorter one that is waiting, and until when.
    uint256 public leastTimelock = 1 days;
    uint256 private _waiting;
    uint256 private _waitingUntil = type(uint256).max;

    constructor() {
        policies = new PolicyRegistry(address(this), GUARDIAN, 1 days, 0, "", new bytes32[](0));
        documentFrom.push(block.timestamp);
        documentVetoed.push(false);
    }

    function documents() external view returns (uint256) {
        return documentFrom.length;
    }

    function allow(uint256 which) external {
        uint256 from = block.timestamp + policies.timelock();
        policies.allowMeasurement(bytes32(which % VALUES));
        uint256 present = mayCountFrom[which % VALUES];
        if (present == 0 || from < present) mayCountFrom[which % VALUES] = from;
    }

    function remove(uint256 which, bool byGuardian) external {
        if (byGuardian) VM.prank(GUARDIAN);
        try policies.removeMeasurement(bytes32(which % VALUES)) {
            mayCountFrom[which % VALUES] = 0;
        } catch {}
    }

    function deny(uint256 which, bool byGuardian) external {
        if (byGuardian) VM.prank(GUARDIAN);
        policies.deny(IPolicyRegistry.Subject.Chip, bytes32(which % VALUES));
        mayEndFrom[which % VALUES] = type(uint256).max;
    }

    function lift(uint256 which) external {
        uint256 from = block.timestamp + policies.timelock();
        try policies.liftDenial(IPolicyRegistry.Subject.Chip, bytes32(which % VALUES)) {
            mayEndFrom[which % VALUES] = from;
        } catch {}
    }

    function propose() external {
        documentFrom.push(block.timestamp + policies.timelock());
        documentVetoed.push(false);
        policies.propose(bytes32(documentFrom.length), "");
    }

    function veto(uint256 which) external {
        uint256 index = which % documentFrom.length;
        VM.prank(GUARDIAN);
        try policies.veto(index) {
            documentVetoed[index] = true;
        } catch {}
    }

    function setTimelock(uint32 seconds_) external {
        uint256 present = policies.timelock();
        uint64 wanted = uint64(seconds_) % 3 days;
        policies.setTimelock(wanted);
        if (wanted >= present) {
            (leastTimelock, _waitingUntil) = (wanted, type(uint256).max);
        } else {
            (_waiting, _waitingUntil) = (wanted, block.timestamp + present);
        }
    }

    function keep() external {
        VM.prank(GUARDIAN);
        try policies.keepTimelock() {
            _waitingUntil = type(uint256).max;
        } catch {}
    }

    function pass(uint32 seconds_) external {
        VM.warp(block.timestamp + seconds_ % 2 days);
        if (block.timestamp >= _waitingUntil) {
            (leastTimelock, _waitingUntil) = (_waiting, type(uint256).max);
        }
    }
}

contract PolicyRegistryInvariants {
    Government private _government;

    function setUp() public {
        VM.warp(1_800_000_000);
        _government = new Government();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_government);
    }

    /// A measurement counts exactly while an allowance is older than the timelock that it was asked under.
    function invariant_No_measurement_before_its_time_or_after_its_removal() public view {
        for (uint256 i = 0; i < 3; ++i) {
            uint256 from = _government.mayCountFrom(i);
            bool expected = from != 0 && block.timestamp >= from;
            require(_government.policies().isAllowed(bytes32(i)) == expected, "measurement");
        }
    }

    /// A denial holds from its second on, until a lifting is older than the timelock that it was asked under.
    function invariant_A_denial_holds_until_its_lifting_has_waited() public view {
        for (uint256 i = 0; i < 3; ++i) {
            bool denied = _government.policies().isDenied(IPolicyRegistry.Subject.Chip, bytes32(i));
            require(denied == (block.timestamp < _government.mayEndFrom(i)), "denial");
        }
    }

    /// The document that counts was proposed last among those that have waited and were not stopped.
    function invariant_The_document_has_waited() public view {
        uint256 newest = 0;
        for (uint256 i = 1; i < _government.documents(); ++i) {
            if (!_government.documentVetoed(i) && block.timestamp >= _government.documentFrom(i)) newest = i;
        }
        bytes32 expected = newest == 0 ? bytes32(0) : bytes32(newest + 1);
        require(_government.policies().current().policyHash == expected, "document");
    }

    function invariant_The_timelock_shrinks_only_after_itself() public view {
        require(_government.policies().timelock() == _government.leastTimelock(), "timelock");
    }
}
