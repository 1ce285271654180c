// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The gatekeepers of a cluster
/// @notice Chain keys in index order, the two thresholds, and how long this chain may believe in them.
interface IGatekeeperSet {
    /// @notice A set began to count.
    event SetChanged(uint64 indexed epoch, address[] members, uint32 threshold, uint64 validUntil);

    /// @notice Not a possible set: 1 ≤ t ≤ n ≤ 64, no member twice, none zero.
    error ImpossibleSet();
    /// @notice The set's time on this chain has passed.
    error SetExpired(uint64 validUntil);
    /// @notice An index outside the set.
    error NoSuchMember(uint256 index);
    /// @notice Fewer signatures than the threshold.
    error BelowThreshold(uint256 found, uint256 needed);

    /// @notice Digest of the genesis document: the cluster's name.
    function clusterId() external view returns (bytes32);

    /// @notice Gatekeeper epoch of the current set.
    function epoch() external view returns (uint64);

    /// @notice Last second at which this chain believes the current set.
    function validUntil() external view returns (uint64);

    /// @notice How many sign a certificate (t).
    function threshold() external view returns (uint32);

    /// @notice How many acknowledge a commit: q = ⌈(n + t) / 2⌉.
    function quorum() external view returns (uint32);

    /// @notice The chain keys in index order.
    function members() external view returns (address[] memory);

    /// @notice The chain keys with the given indices, and what is needed to judge signatures by them.
    function membersAt(uint256[] calldata indices)
        external
        view
        returns (address[] memory chosen, uint64 epoch_, uint32 threshold_, uint32 quorum_);

    /// @notice Moves to the next epoch's set, signed by t of the current one (EIP-712
    /// `SetUpdate(uint64 epoch,address[] members,uint32 threshold,uint64 validUntil)`); anyone may deliver it. The
    /// signatures are packed as in `IQuorumVerifier`.
    function advance(address[] calldata members_, uint32 threshold_, uint64 validUntil_, bytes calldata signatures)
        external;
}
