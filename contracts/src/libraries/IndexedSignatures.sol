// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Packed signatures of gatekeepers
/// @notice 66 bytes each: the signer's index in the set, then r, s and v. Indices rise strictly, so that nobody counts
/// twice. High-s signatures are refused.
library IndexedSignatures {
    uint256 internal constant SIZE = 66;

    /// @notice The bytes are not a whole number of signatures.
    error SignatureLength(uint256 length);
    /// @notice Indices do not rise strictly.
    error SignatureOrder();
    /// @notice A signature is not by the member with that index.
    error WrongSigner(uint256 index);

    /// @notice Number of signatures.
    function count(bytes calldata packed) internal pure returns (uint256) {
        require(packed.length % SIZE == 0, SignatureLength(packed.length));
        return packed.length / SIZE;
    }

    /// @notice The index of signature `position`, after checking that it is above `previous` (index + 1, zero for none).
    function indexAt(bytes calldata packed, uint256 position, uint256 previous) internal pure returns (uint256 index) {
        index = uint8(packed[position * SIZE]);
        require(index + 1 > previous, SignatureOrder());
    }

    /// @notice Checks that signature `position` over `digest` is by `member`.
    function requireSigner(bytes calldata packed, uint256 position, bytes32 digest, address member, uint256 index)
        internal
        pure
    {
        bytes calldata signature = packed[position * SIZE + 1:(position + 1) * SIZE];
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        require(problem == ECDSA.RecoverError.NoError && signer == member && member != address(0), WrongSigner(index));
    }
}
