// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {GatekeeperSet} from "../src/GatekeeperSet.sol";
import {IGatekeeperSet} from "../src/interfaces/IGatekeeperSet.sol";
import {IQuorumVerifier} from "../src/interfaces/IQuorumVerifier.sol";
import {Commitments} from "../src/libraries/Commitments.sol";
import {IndexedSignatures} from "../src/libraries/IndexedSignatures.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

contract QuorumTest is TacitTest {
    function setUp() public {
        deployTacit();
    }

    function testFuzz_Exactly_enough_members_pass(bytes32 digest, uint8 bits) public {
        bits = bits & 15;
        uint256 found = 0;
        for (uint256 i = 0; i < 4; ++i) {
            found += bits >> i & 1;
        }
        bytes memory packed = signByGatekeepers(bits, digest);
        if (found < 2) VM.expectRevert(abi.encodeWithSelector(IQuorumVerifier.TooFewSignatures.selector, found, 2));
        quorumVerifier.requireThreshold(digest, 1, packed);
        if (found < 3) VM.expectRevert(abi.encodeWithSelector(IQuorumVerifier.TooFewSignatures.selector, found, 3));
        quorumVerifier.requireQuorum(digest, 1, packed);
    }

    function testFuzz_Any_changed_byte_is_refused(bytes32 digest, uint8 position, uint8 change) public view {
        bytes memory packed = signByGatekeepers(5, digest);
        uint256 index = uint256(position) % packed.length;
        if (change == 0) change = 1;
        packed[index] = bytes1(uint8(packed[index]) ^ change);
        try quorumVerifier.requireThreshold(digest, 1, packed) {
            revert("an altered signature passed");
        } catch {}
    }

    function test_Nobody_counts_twice() public {
        bytes32 digest = keccak256("x");
        bytes memory one = signByGatekeepers(1, digest);
        VM.expectRevert(IndexedSignatures.SignatureOrder.selector);
        quorumVerifier.requireThreshold(digest, 1, abi.encodePacked(one, one));
        bytes memory two = signByGatekeepers(2, digest);
        VM.expectRevert(IndexedSignatures.SignatureOrder.selector);
        quorumVerifier.requireThreshold(digest, 1, abi.encodePacked(two, one));
        quorumVerifier.requireThreshold(digest, 1, abi.encodePacked(one, two));
    }

    function test_The_other_s_is_refused() public {
        bytes32 digest = keccak256("x");
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(FIRST_GATEKEEPER_KEY, digest);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory high = abi.encodePacked(uint8(0), r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        VM.expectRevert(abi.encodeWithSelector(IndexedSignatures.WrongSigner.selector, 0));
        quorumVerifier.requireThreshold(digest, 1, abi.encodePacked(high, signByGatekeepers(2, digest)));
    }

    function test_Lengths_indices_epochs_and_time() public {
        bytes32 digest = keccak256("x");
        bytes memory good = signByGatekeepers(3, digest);
        VM.expectRevert(abi.encodeWithSelector(IndexedSignatures.SignatureLength.selector, good.length + 1));
        quorumVerifier.requireThreshold(digest, 1, abi.encodePacked(good, uint8(0)));
        bytes memory outside = abi.encodePacked(good, uint8(4), signBy(FIRST_GATEKEEPER_KEY, digest));
        VM.expectRevert(abi.encodeWithSelector(IGatekeeperSet.NoSuchMember.selector, 4));
        quorumVerifier.requireThreshold(digest, 1, outside);
        VM.expectRevert(abi.encodeWithSelector(IQuorumVerifier.OtherEpoch.selector, 1, 2));
        quorumVerifier.requireThreshold(digest, 2, good);
        VM.expectRevert(abi.encodeWithSelector(IQuorumVerifier.TooFewSignatures.selector, 0, 2));
        quorumVerifier.requireThreshold(digest, 1, "");
        uint64 until = gatekeepers.validUntil();
        VM.warp(until);
        quorumVerifier.requireThreshold(digest, 1, good);
        VM.warp(until + 1);
        VM.expectRevert(abi.encodeWithSelector(IGatekeeperSet.SetExpired.selector, until));
        quorumVerifier.requireThreshold(digest, 1, good);
    }

    function testFuzz_Two_quorums_share_t_members(uint8 size, uint8 threshold) public {
        size = size % 20 + 1;
        threshold = threshold % size + 1;
        address[] memory members = new address[](size);
        for (uint160 i = 0; i < size; ++i) {
            members[i] = address(i + 1);
        }
        GatekeeperSet set = new GatekeeperSet(0, members, threshold, 1, uint64(block.timestamp));
        uint256 quorum = set.quorum();
        require(2 * quorum >= uint256(size) + threshold && quorum <= size, "not a register quorum");
        require(2 * (quorum - 1) < uint256(size) + threshold, "larger than needed");
    }

    function test_Impossible_sets() public {
        address[] memory members = new address[](2);
        members[0] = address(1);
        VM.expectRevert(IGatekeeperSet.ImpossibleSet.selector);
        new GatekeeperSet(0, members, 1, 1, uint64(block.timestamp));
        members[1] = address(1);
        VM.expectRevert(IGatekeeperSet.ImpossibleSet.selector);
        new GatekeeperSet(0, members, 1, 1, uint64(block.timestamp));
        members[1] = address(2);
        VM.expectRevert(IGatekeeperSet.ImpossibleSet.selector);
        new GatekeeperSet(0, members, 0, 1, uint64(block.timestamp));
        VM.expectRevert(IGatekeeperSet.ImpossibleSet.selector);
        new GatekeeperSet(0, members, 3, 1, uint64(block.timestamp));
        VM.expectRevert(IGatekeeperSet.ImpossibleSet.selector);
        new GatekeeperSet(0, new address[](65), 3, 1, uint64(block.timestamp));
    }

    function testFuzz_A_root_is_what_proofs_of_its_leaves_lead_to(bytes32 seed, uint8 size) public pure {
        size = size % 70 + 1;
        bytes32[] memory leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            leaves[i] = Commitments.leaf(keccak256(abi.encode(seed, i)));
        }
        uint256 chosen = uint256(seed) % size;
        bytes32[] memory proof = _proof(leaves, chosen);
        bytes32 leaf = leaves[chosen];
        require(MerkleProof.verify(proof, Commitments.merkleRoot(leaves), leaf), "the proof does not hold");
    }

    function _proof(bytes32[] memory leaves, uint256 index) private pure returns (bytes32[] memory proof) {
        bytes32[] memory level = leaves;
        uint256 length = 0;
        bytes32[] memory path = new bytes32[](8);
        while (level.length > 1) {
            if (index ^ 1 < level.length) path[length++] = level[index ^ 1];
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i = 0; i < next.length; ++i) {
                next[i] = 2 * i + 1 < level.length ? _pair(level[2 * i], level[2 * i + 1]) : level[2 * i];
            }
            (level, index) = (next, index / 2);
        }
        proof = new bytes32[](length);
        for (uint256 i = 0; i < length; ++i) {
            proof[i] = path[i];
        }
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }
}
