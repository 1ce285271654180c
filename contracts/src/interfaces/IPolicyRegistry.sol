// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The attestation policy of a cluster
/// @notice Loosening waits for the timelock and can be stopped meanwhile; tightening counts at once. The governor loosens; the
/// governor and the guardian tighten and stop. Each loosening has its stop: `veto` for a document, `removeMeasurement` for a
/// measurement, `deny` for a denial that ends, `keepTimelock` for a shorter timelock. Another guardian waits as well, so that
/// whoever takes the governor's key meets the guardian for one whole timelock.
/// @dev Gatekeepers read this at final blocks. What a deny list holds: a measurement, chip or root as the certificate has it;
/// keccak256 of a hardware class's or an advisory's name as the policy document writes it (`epyc-milan`, `INTEL-SA-01421`).
interface IPolicyRegistry {
    /// @notice One policy document.
    struct Policy {
        bytes32 policyHash;
        uint64 activeFrom;
        bool vetoed;
        string uri;
    }

    /// @notice What a deny entry names.
    enum Subject {
        Measurement,
        Chip,
        Root,
        HardwareClass,
        Advisory
    }

    /// @notice A policy document will count from `activeFrom`.
    event PolicyProposed(uint256 indexed index, bytes32 policyHash, string uri, uint64 activeFrom);
    /// @notice A waiting policy document will never count.
    event PolicyVetoed(uint256 indexed index);
    /// @notice A measurement counts from `activeFrom`.
    event MeasurementAllowed(bytes32 indexed measurement, uint64 activeFrom);
    /// @notice A measurement stopped counting.
    event MeasurementRemoved(bytes32 indexed measurement);
    /// @notice An entry of a deny list counts at once.
    event Denied(Subject indexed subject, bytes32 indexed value);
    /// @notice An entry of a deny list ends at `endsAt`.
    event DenialLifted(Subject indexed subject, bytes32 indexed value, uint64 endsAt);
    /// @notice The timelock changes at `activeFrom`.
    event TimelockChanged(uint64 timelock, uint64 activeFrom);
    /// @notice A timelock that was about to become shorter stays as it is.
    event TimelockKept(uint64 timelock);
    /// @notice Who may veto changes at `activeFrom`.
    event GuardianChanged(address indexed guardian, uint64 activeFrom);

    /// @notice Only the governor or the guardian.
    error NotGuardian(address account);
    /// @notice There is no waiting policy document with that index.
    error NotWaiting(uint256 index);
    /// @notice The entry is not in the list.
    error NotListed();
    /// @notice Nothing could be loosened in a lifetime.
    error TimelockTooLong(uint64 timelock, uint64 longest);
    /// @notice No shorter timelock is waiting.
    error NoTimelockWaiting();

    /// @notice The policy document that counts now.
    function current() external view returns (Policy memory);

    /// @notice Number of documents ever proposed.
    function policyCount() external view returns (uint256);

    /// @notice One document.
    function policyAt(uint256 index) external view returns (Policy memory);

    /// @notice Seconds between a loosening and its effect.
    function timelock() external view returns (uint64);

    /// @notice Who may veto and tighten besides the governor.
    function guardian() external view returns (address);

    /// @notice Whether machines with this measurement may be admitted now.
    function isAllowed(bytes32 measurement) external view returns (bool);

    /// @notice Whether a deny list holds the value now.
    function isDenied(Subject subject, bytes32 value) external view returns (bool);

    /// @notice Proposes another policy document.
    function propose(bytes32 policyHash, string calldata uri) external;

    /// @notice Stops a waiting policy document.
    function veto(uint256 index) external;

    /// @notice Allows a measurement after the timelock.
    function allowMeasurement(bytes32 measurement) external;

    /// @notice Removes a measurement at once; the guardian may do it too.
    function removeMeasurement(bytes32 measurement) external;

    /// @notice Denies at once; the guardian may do it too.
    function deny(Subject subject, bytes32 value) external;

    /// @notice Ends a denial after the timelock; denying again stops it.
    function liftDenial(Subject subject, bytes32 value) external;

    /// @notice Changes the timelock: longer at once, shorter after the present one.
    function setTimelock(uint64 seconds_) external;

    /// @notice Stops a timelock from becoming shorter; the guardian may do it too.
    function keepTimelock() external;

    /// @notice Names who may veto and tighten besides the governor, after the timelock.
    function setGuardian(address guardian_) external;
}
