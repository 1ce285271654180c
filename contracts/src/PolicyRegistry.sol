// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IPolicyRegistry} from "./interfaces/IPolicyRegistry.sol";

/// @title PolicyRegistry
/// @notice The owner is the governor. Nothing has to be executed when a timelock ends: entries carry their time.
contract PolicyRegistry is IPolicyRegistry, Ownable2Step {
    /// @notice The longest timelock.
    uint64 public constant LONGEST_TIMELOCK = 365 days;

    uint64 private _timelock;
    uint64 private _nextTimelock;
    uint64 private _nextTimelockFrom;
    address private _guardian;
    address private _nextGuardian;
    uint64 private _nextGuardianFrom;
    Policy[] private _policies;
    mapping(bytes32 measurement => uint64) private _allowedFrom;
    mapping(Subject => mapping(bytes32 value => uint64)) private _deniedUntil;

    modifier onlyGuard() {
        require(msg.sender == owner() || msg.sender == guardian(), NotGuardian(msg.sender));
        _;
    }

    /// @param measurements Allowed from the first block on.
    constructor(
        address governor,
        address guardian_,
        uint64 timelock_,
        bytes32 policyHash,
        string memory uri,
        bytes32[] memory measurements
    ) Ownable(governor) {
        require(timelock_ <= LONGEST_TIMELOCK, TimelockTooLong(timelock_, LONGEST_TIMELOCK));
        _guardian = guardian_;
        _timelock = timelock_;
        uint64 now_ = uint64(block.timestamp);
        _policies.push(Policy({policyHash: policyHash, activeFrom: now_, vetoed: false, uri: uri}));
        emit PolicyProposed(0, policyHash, uri, now_);
        for (uint256 i = 0; i < measurements.length; ++i) {
            _allowedFrom[measurements[i]] = now_;
            emit MeasurementAllowed(measurements[i], now_);
        }
        emit TimelockChanged(timelock_, now_);
        emit GuardianChanged(guardian_, now_);
    }

    /// @inheritdoc IPolicyRegistry
    function current() external view returns (Policy memory) {
        uint256 index = _policies.length - 1;
        // The first document counts from the beginning and cannot be vetoed: the loop ends there at the latest.
        while (_policies[index].vetoed || _policies[index].activeFrom > block.timestamp) --index;
        return _policies[index];
    }

    /// @inheritdoc IPolicyRegistry
    function policyCount() external view returns (uint256) {
        return _policies.length;
    }

    /// @inheritdoc IPolicyRegistry
    function policyAt(uint256 index) external view returns (Policy memory) {
        return _policies[index];
    }

    /// @inheritdoc IPolicyRegistry
    function timelock() public view returns (uint64) {
        return _nextTimelockFrom != 0 && block.timestamp >= _nextTimelockFrom ? _nextTimelock : _timelock;
    }

    /// @inheritdoc IPolicyRegistry
    function guardian() public view returns (address) {
        return _nextGuardianFrom != 0 && block.timestamp >= _nextGuardianFrom ? _nextGuardian : _guardian;
    }

    /// @inheritdoc IPolicyRegistry
    function isAllowed(bytes32 measurement) external view returns (bool) {
        uint64 from = _allowedFrom[measurement];
        return from != 0 && block.timestamp >= from;
    }

    /// @inheritdoc IPolicyRegistry
    function isDenied(Subject subject, bytes32 value) external view returns (bool) {
        return block.timestamp < _deniedUntil[subject][value];
    }

    /// @inheritdoc IPolicyRegistry
    function propose(bytes32 policyHash, string calldata uri) external onlyOwner {
        uint64 from = _afterTimelock();
        _policies.push(Policy({policyHash: policyHash, activeFrom: from, vetoed: false, uri: uri}));
        emit PolicyProposed(_policies.length - 1, policyHash, uri, from);
    }

    /// @inheritdoc IPolicyRegistry
    function veto(uint256 index) external onlyGuard {
        require(index < _policies.length, NotWaiting(index));
        Policy storage policy = _policies[index];
        require(!policy.vetoed && policy.activeFrom > block.timestamp, NotWaiting(index));
        policy.vetoed = true;
        emit PolicyVetoed(index);
    }

    /// @inheritdoc IPolicyRegistry
    function allowMeasurement(bytes32 measurement) external onlyOwner {
        uint64 from = _afterTimelock();
        uint64 present = _allowedFrom[measurement];
        if (present != 0 && present <= from) return;
        _allowedFrom[measurement] = from;
        emit MeasurementAllowed(measurement, from);
    }

    /// @inheritdoc IPolicyRegistry
    function removeMeasurement(bytes32 measurement) external onlyGuard {
        require(_allowedFrom[measurement] != 0, NotListed());
        delete _allowedFrom[measurement];
        emit MeasurementRemoved(measurement);
    }

    /// @inheritdoc IPolicyRegistry
    function deny(Subject subject, bytes32 value) external onlyGuard {
        _deniedUntil[subject][value] = type(uint64).max;
        emit Denied(subject, value);
    }

    /// @inheritdoc IPolicyRegistry
    function liftDenial(Subject subject, bytes32 value) external onlyOwner {
        require(_deniedUntil[subject][value] == type(uint64).max, NotListed());
        uint64 ends = _afterTimelock();
        _deniedUntil[subject][value] = ends;
        emit DenialLifted(subject, value, ends);
    }

    /// @inheritdoc IPolicyRegistry
    function setTimelock(uint64 seconds_) external onlyOwner {
        require(seconds_ <= LONGEST_TIMELOCK, TimelockTooLong(seconds_, LONGEST_TIMELOCK));
        uint64 present = timelock();
        uint64 from = seconds_ >= present ? uint64(block.timestamp) : _afterTimelock();
        _timelock = present;
        _nextTimelock = seconds_;
        _nextTimelockFrom = from;
        emit TimelockChanged(seconds_, from);
    }

    /// @inheritdoc IPolicyRegistry
    function keepTimelock() external onlyGuard {
        require(_nextTimelockFrom > block.timestamp, NoTimelockWaiting());
        _nextTimelockFrom = 0;
        emit TimelockKept(_timelock);
    }

    /// @inheritdoc IPolicyRegistry
    function setGuardian(address guardian_) external onlyOwner {
        uint64 from = _afterTimelock();
        _guardian = guardian();
        _nextGuardian = guardian_;
        _nextGuardianFrom = from;
        emit GuardianChanged(guardian_, from);
    }

    function _afterTimelock() private view returns (uint64) {
        return uint64(block.timestamp) + timelock();
    }
}
