// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IGatekeeperSet} from "./interfaces/IGatekeeperSet.sol";
import {IQuorumVerifier} from "./interfaces/IQuorumVerifier.sol";
import {IndexedSignatures} from "./libraries/IndexedSignatures.sol";

/// @title EcdsaQuorumVerifier
/// @notice The form of `IQuorumVerifier` that works on every chain. Signatures are packed, 66 bytes each: the signer's
/// index in the set, then r, s and v; indices rise strictly.
contract EcdsaQuorumVerifier is IQuorumVerifier {
    using IndexedSignatures for bytes;

    /// @notice The set whose members sign.
    IGatekeeperSet public gatekeepers;

    constructor(IGatekeeperSet gatekeepers_) {
        gatekeepers = gatekeepers_;
    }

    /// @inheritdoc IQuorumVerifier
    function requireThreshold(bytes32 digest, uint64 epoch, bytes calldata signatures) external view {
        (uint256 found, uint32 threshold,) = _verify(digest, epoch, signatures);
        require(found >= threshold, TooFewSignatures(found, threshold));
    }

    /// @inheritdoc IQuorumVerifier
    function requireQuorum(bytes32 digest, uint64 epoch, bytes calldata signatures) external view {
        (uint256 found,, uint32 quorum) = _verify(digest, epoch, signatures);
        require(found >= quorum, TooFewSignatures(found, quorum));
    }

    function _verify(bytes32 digest, uint64 epoch, bytes calldata signatures)
        private
        view
        returns (uint256 found, uint32 threshold, uint32 quorum)
    {
        found = signatures.count();
        uint256[] memory indices = new uint256[](found);
        uint256 above = 0;
        for (uint256 i = 0; i < found; ++i) {
            indices[i] = signatures.indexAt(i, above);
            above = indices[i] + 1;
        }
        address[] memory signers;
        uint64 current;
        (signers, current, threshold, quorum) = gatekeepers.membersAt(indices);
        require(epoch == current, OtherEpoch(current, epoch));
        for (uint256 i = 0; i < found; ++i) {
            signatures.requireSigner(i, digest, signers[i], indices[i]);
        }
    }
}
