// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IGatekeeperSet} from "./interfaces/IGatekeeperSet.sol";
import {Digests} from "./libraries/Digests.sol";
import {IndexedSignatures} from "./libraries/IndexedSignatures.sol";

/// @title GatekeeperSet
/// @notice The cluster id is in storage, not in the code: the genesis document whose digest it is names the code's hash.
contract GatekeeperSet is IGatekeeperSet {
    using IndexedSignatures for bytes;

    uint256 private constant MAX_MEMBERS = 64;

    /// @inheritdoc IGatekeeperSet
    bytes32 public clusterId;
    /// @inheritdoc IGatekeeperSet
    uint64 public epoch;
    /// @inheritdoc IGatekeeperSet
    uint64 public validUntil;
    /// @inheritdoc IGatekeeperSet
    uint32 public threshold;
    /// @inheritdoc IGatekeeperSet
    uint32 public quorum;

    address[] private _members;

    constructor(bytes32 clusterId_, address[] memory members_, uint32 threshold_, uint64 epoch_, uint64 validUntil_) {
        clusterId = clusterId_;
        _become(members_, threshold_, epoch_, validUntil_);
    }

    /// @inheritdoc IGatekeeperSet
    function members() external view returns (address[] memory) {
        return _members;
    }

    /// @inheritdoc IGatekeeperSet
    function membersAt(uint256[] calldata indices)
        external
        view
        returns (address[] memory chosen, uint64 epoch_, uint32 threshold_, uint32 quorum_)
    {
        require(block.timestamp <= validUntil, SetExpired(validUntil));
        chosen = new address[](indices.length);
        uint256 size = _members.length;
        for (uint256 i = 0; i < indices.length; ++i) {
            require(indices[i] < size, NoSuchMember(indices[i]));
            chosen[i] = _members[indices[i]];
        }
        return (chosen, epoch, threshold, quorum);
    }

    /// @inheritdoc IGatekeeperSet
    function advance(address[] calldata members_, uint32 threshold_, uint64 validUntil_, bytes calldata signatures)
        external
    {
        require(block.timestamp <= validUntil, SetExpired(validUntil));
        uint64 next = epoch + 1;
        bytes32 digest = Digests.setUpdate(Digests.domainSeparator(clusterId), next, members_, threshold_, validUntil_);
        uint256 found = signatures.count();
        require(found >= threshold, BelowThreshold(found, threshold));
        uint256 above = 0;
        for (uint256 i = 0; i < found; ++i) {
            uint256 index = signatures.indexAt(i, above);
            require(index < _members.length, NoSuchMember(index));
            signatures.requireSigner(i, digest, _members[index], index);
            above = index + 1;
        }
        _become(members_, threshold_, next, validUntil_);
    }

    function _become(address[] memory members_, uint32 threshold_, uint64 epoch_, uint64 validUntil_) private {
        uint256 size = members_.length;
        require(size >= 1 && size <= MAX_MEMBERS && threshold_ >= 1 && threshold_ <= size, ImpossibleSet());
        require(validUntil_ >= block.timestamp, SetExpired(validUntil_));
        for (uint256 i = 0; i < size; ++i) {
            require(members_[i] != address(0), ImpossibleSet());
            for (uint256 j = 0; j < i; ++j) {
                require(members_[i] != members_[j], ImpossibleSet());
            }
        }
        _members = members_;
        epoch = epoch_;
        threshold = threshold_;
        quorum = (uint32(size) + threshold_ + 1) / 2;
        validUntil = validUntil_;
        emit SetChanged(epoch_, members_, threshold_, validUntil_);
    }
}
