// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {PolicyRegistry} from "../src/PolicyRegistry.sol";
import {IPolicyRegistry} from "../src/interfaces/IPolicyRegistry.sol";
import {VM} from "./Vm.sol";

contract PolicyRegistryTest {
    address private constant GUARDIAN = address(0x6a);
    uint64 private constant TIMELOCK = 2 days;
    bytes32 private constant FIRST = keccak256("first");
    bytes32 private constant VALUE = keccak256("value");

    PolicyRegistry private _policies;

    function setUp() public {
        VM.warp(1_800_000_000);
        bytes32[] memory measurements = new bytes32[](1);
        measurements[0] = FIRST;
        _policies = new PolicyRegistry(address(this), GUARDIAN, TIMELOCK, FIRST, "first.json", measurements);
    }

    function test_What_it_is_founded_with_counts_from_the_first_block() public view {
        require(_policies.current().policyHash == FIRST, "the document");
        require(_policies.isAllowed(FIRST), "the measurement");
        require(_policies.guardian() == GUARDIAN && _policies.timelock() == TIMELOCK, "guardian and timelock");
    }

    /// A loosening counts from the last second of the timelock and not one earlier.
    function testFuzz_Loosening_waits(uint64 timelock, uint64 pause) public {
        timelock = timelock % (_policies.LONGEST_TIMELOCK() + 1);
        PolicyRegistry policies = new PolicyRegistry(address(this), GUARDIAN, timelock, FIRST, "", new bytes32[](0));
        policies.deny(IPolicyRegistry.Subject.Chip, VALUE);
        policies.propose(VALUE, "next.json");
        policies.allowMeasurement(VALUE);
        policies.liftDenial(IPolicyRegistry.Subject.Chip, VALUE);
        policies.setGuardian(address(0x6b));
        if (timelock > 0) policies.setTimelock(0);
        pause = pause % (2 * timelock + 1);
        VM.warp(block.timestamp + pause);
        bool over = pause >= timelock;
        require((policies.current().policyHash == VALUE) == over, "document");
        require(policies.isAllowed(VALUE) == over, "measurement");
        require(policies.isDenied(IPolicyRegistry.Subject.Chip, VALUE) == !over, "denial");
        require((policies.guardian() == address(0x6b)) == over, "guardian");
        require(policies.timelock() == (over ? 0 : timelock), "timelock");
    }

    function testFuzz_Tightening_counts_at_once(uint8 choice, bytes32 value) public {
        IPolicyRegistry.Subject subject = IPolicyRegistry.Subject(choice % 5);
        VM.prank(GUARDIAN);
        _policies.deny(subject, value);
        require(_policies.isDenied(subject, value), "denied");
        for (uint256 i = 0; i < 5; ++i) {
            require(_policies.isDenied(IPolicyRegistry.Subject(i), value) == (i == choice % 5), "and nothing else");
        }
        VM.prank(GUARDIAN);
        _policies.removeMeasurement(FIRST);
        require(!_policies.isAllowed(FIRST), "removed");
        _policies.setTimelock(TIMELOCK + 1);
        require(_policies.timelock() == TIMELOCK + 1, "longer");
    }

    /// Each loosening has a stop that the guardian may use until the last second.
    function test_The_guardian_stops_every_loosening() public {
        _policies.deny(IPolicyRegistry.Subject.Root, VALUE);
        _policies.propose(VALUE, "next.json");
        _policies.allowMeasurement(VALUE);
        _policies.liftDenial(IPolicyRegistry.Subject.Root, VALUE);
        _policies.setTimelock(0);
        VM.warp(block.timestamp + TIMELOCK - 1);
        VM.startPrank(GUARDIAN);
        _policies.veto(1);
        _policies.removeMeasurement(VALUE);
        _policies.deny(IPolicyRegistry.Subject.Root, VALUE);
        _policies.keepTimelock();
        VM.stopPrank();
        VM.warp(block.timestamp + 10 * TIMELOCK);
        require(_policies.current().policyHash == FIRST, "document");
        require(!_policies.isAllowed(VALUE), "measurement");
        require(_policies.isDenied(IPolicyRegistry.Subject.Root, VALUE), "denial");
        require(_policies.timelock() == TIMELOCK, "timelock");
    }

    /// Whoever takes the governor's key meets the present guardian for one whole timelock, and cannot name a tame one first.
    function test_Another_guardian_waits() public {
        _policies.setGuardian(address(this));
        _policies.propose(VALUE, "worse.json");
        VM.warp(block.timestamp + TIMELOCK - 1);
        require(_policies.guardian() == GUARDIAN, "still the first");
        VM.prank(GUARDIAN);
        _policies.veto(1);
        VM.warp(block.timestamp + 1);
        require(_policies.guardian() == address(this), "now the second");
        VM.prank(GUARDIAN);
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotGuardian.selector, GUARDIAN));
        _policies.veto(1);
        // Naming a third does not bring the first back meanwhile.
        _policies.setGuardian(address(0x6c));
        require(_policies.guardian() == address(this), "the second until the third");
    }

    function test_A_shorter_timelock_cannot_be_chained() public {
        _policies.setTimelock(1 days);
        VM.warp(block.timestamp + 1 days);
        // Asking again begins the wait again.
        _policies.setTimelock(1 hours);
        VM.warp(block.timestamp + 1 days);
        require(_policies.timelock() == TIMELOCK, "the first wait does not count for the second");
        VM.warp(block.timestamp + 1 days);
        require(_policies.timelock() == 1 hours, "now");
        VM.expectRevert(IPolicyRegistry.NoTimelockWaiting.selector);
        _policies.keepTimelock();
        uint64 longest = _policies.LONGEST_TIMELOCK();
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.TimelockTooLong.selector, longest + 1, longest));
        _policies.setTimelock(longest + 1);
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.TimelockTooLong.selector, longest + 1, longest));
        new PolicyRegistry(address(this), GUARDIAN, longest + 1, FIRST, "", new bytes32[](0));
    }

    function test_What_cannot_be_stopped() public {
        VM.startPrank(GUARDIAN);
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotWaiting.selector, 0));
        _policies.veto(0);
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotWaiting.selector, 1));
        _policies.veto(1);
        VM.expectRevert(IPolicyRegistry.NotListed.selector);
        _policies.removeMeasurement(VALUE);
        VM.stopPrank();
        VM.expectRevert(IPolicyRegistry.NotListed.selector);
        _policies.liftDenial(IPolicyRegistry.Subject.Chip, VALUE);
        _policies.propose(VALUE, "");
        _policies.veto(1);
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotWaiting.selector, 1));
        _policies.veto(1);
    }

    /// The guardian tightens and stops, and nothing more; a stranger does nothing.
    function testFuzz_Who_may(address stranger) public {
        if (stranger == address(this) || stranger == GUARDIAN) return;
        address[2] memory both = [stranger, GUARDIAN];
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, both[i]);
            VM.startPrank(both[i]);
            VM.expectRevert(refusal);
            _policies.propose(VALUE, "");
            VM.expectRevert(refusal);
            _policies.allowMeasurement(VALUE);
            VM.expectRevert(refusal);
            _policies.liftDenial(IPolicyRegistry.Subject.Chip, VALUE);
            VM.expectRevert(refusal);
            _policies.setTimelock(0);
            VM.expectRevert(refusal);
            _policies.setGuardian(both[i]);
            VM.stopPrank();
        }
        bytes memory notGuardian = abi.encodeWithSelector(IPolicyRegistry.NotGuardian.selector, stranger);
        VM.startPrank(stranger);
        VM.expectRevert(notGuardian);
        _policies.veto(0);
        VM.expectRevert(notGuardian);
        _policies.removeMeasurement(FIRST);
        VM.expectRevert(notGuardian);
        _policies.deny(IPolicyRegistry.Subject.Chip, VALUE);
        VM.expectRevert(notGuardian);
        _policies.keepTimelock();
        VM.stopPrank();
    }

    function test_Each_change_is_told() public {
        uint64 from = uint64(block.timestamp) + TIMELOCK;
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.PolicyProposed(1, VALUE, "next.json", from);
        _policies.propose(VALUE, "next.json");
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.PolicyVetoed(1);
        _policies.veto(1);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.MeasurementAllowed(VALUE, from);
        _policies.allowMeasurement(VALUE);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.MeasurementRemoved(VALUE);
        _policies.removeMeasurement(VALUE);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.Denied(IPolicyRegistry.Subject.Advisory, VALUE);
        _policies.deny(IPolicyRegistry.Subject.Advisory, VALUE);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.DenialLifted(IPolicyRegistry.Subject.Advisory, VALUE, from);
        _policies.liftDenial(IPolicyRegistry.Subject.Advisory, VALUE);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.TimelockChanged(1, from);
        _policies.setTimelock(1);
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.TimelockKept(TIMELOCK);
        _policies.keepTimelock();
        VM.expectEmit(address(_policies));
        emit IPolicyRegistry.GuardianChanged(address(0x6b), from);
        _policies.setGuardian(address(0x6b));
    }
}
