// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Did enough gatekeepers sign this?
interface IQuorumVerifier {
    /// @notice Fewer signatures than needed.
    error TooFewSignatures(uint256 found, uint256 needed);
    /// @notice Signed under another gatekeeper epoch than the current one.
    error OtherEpoch(uint64 current, uint64 signed);

    /// @notice Reverts unless t gatekeepers of the current set, whose epoch is `epoch`, signed `digest`. Every
    /// signature given must hold.
    function requireThreshold(bytes32 digest, uint64 epoch, bytes calldata signatures) external view;

    /// @notice Reverts unless q gatekeepers of the current set, whose epoch is `epoch`, signed `digest`.
    function requireQuorum(bytes32 digest, uint64 epoch, bytes calldata signatures) external view;
}
