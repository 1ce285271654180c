// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CodeHash, FunctionId, RequestId} from "../types/Types.sol";

/// @title Commitments
/// @notice How identifiers and the hashes inside a receipt are made. The salt is zero where a contract recomputes them.
library Commitments {
    function functionId(uint256 homeChainId, address registry, address owner, string memory name)
        internal
        pure
        returns (FunctionId)
    {
        return FunctionId.wrap(keccak256(abi.encode(homeChainId, registry, owner, name)));
    }

    function codeHash(bytes32 moduleHash, bytes32 manifestHash) internal pure returns (CodeHash) {
        return CodeHash.wrap(keccak256(abi.encode(moduleHash, manifestHash)));
    }

    function method(string memory name) internal pure returns (bytes32) {
        return keccak256(abi.encode("method", bytes32(0), keccak256(bytes(name))));
    }

    function caller(address account) internal pure returns (bytes32) {
        return keccak256(abi.encode("caller", bytes32(0), keccak256(abi.encodePacked(account))));
    }

    function request(bytes memory input) internal pure returns (bytes32) {
        return keccak256(abi.encode("request", bytes32(0), keccak256(input)));
    }

    function response(bytes memory output) internal pure returns (bytes32) {
        return keccak256(abi.encode("response", bytes32(0), keccak256(output)));
    }

    /// @notice The response bytes of a `publish` receipt.
    function publication(uint256 chainId, address consumer, string memory topic, uint64 sequence, bytes memory data)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(chainId, consumer, topic, sequence, data);
    }

    /// @notice A leaf of a Merkle tree over 32-byte values.
    function leaf(bytes32 value) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0, value)
            mstore(0, keccak256(0, 32))
            hash := keccak256(0, 32)
        }
    }

    /// @notice Root over `level` in its order, zero for none; an odd node at the end of a level moves up unchanged.
    /// Overwrites `level`.
    function merkleRoot(bytes32[] memory level) internal pure returns (bytes32 root) {
        assembly ("memory-safe") {
            let count := mload(level)
            let base := add(level, 32)
            for {} gt(count, 1) {} {
                let half := shr(1, count)
                let source := base
                let target := base
                for { let end := add(base, shl(5, half)) } lt(target, end) {} {
                    let left := mload(source)
                    let right := mload(add(source, 32))
                    let swap := lt(right, left)
                    mstore(shl(5, swap), left)
                    mstore(shl(5, iszero(swap)), right)
                    mstore(target, keccak256(0, 64))
                    source := add(source, 64)
                    target := add(target, 32)
                }
                if and(count, 1) {
                    mstore(target, mload(source))
                    half := add(half, 1)
                }
                count := half
            }
            if count { root := mload(base) }
        }
    }
}
