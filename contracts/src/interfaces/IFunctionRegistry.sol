// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CodeHash, FunctionId} from "../types/Types.sol";

/// @title Functions, their owners and versions
/// @notice `id = keccak256(abi.encode(uint256 homeChainId, address registry, address owner, string name))`.
interface IFunctionRegistry {
    /// @notice One version. It counts from `activation` until the next one's.
    struct Version {
        CodeHash codeHash;
        bytes32 manifestHash;
        uint64 activation;
        string uri;
    }

    /// @notice A function as it stands at this block.
    struct Record {
        address owner;
        string name;
        CodeHash codeHash;
        bytes32 manifestHash;
        string uri;
        uint64 activation;
        uint64 keyEpoch;
        bool frozen;
        uint64 upgradeDelay;
        bytes32 secretsDigest;
        uint64 secretsVersion;
        uint64 resetSequence;
        uint64 resetKeyEpoch;
        uint256 versions;
    }

    /// @notice A function was deployed.
    event FunctionRegistered(FunctionId indexed id, address indexed owner, string name);
    /// @notice A version will count from `activation`.
    event VersionAdded(
        FunctionId indexed id,
        uint256 index,
        CodeHash codeHash,
        bytes32 moduleHash,
        bytes32 manifestHash,
        uint64 activation,
        string uri
    );
    /// @notice A waiting version will never count.
    event VersionCancelled(FunctionId indexed id, uint256 index);
    /// @notice No further version can come.
    event Frozen(FunctionId indexed id);
    /// @notice The delay of upgrades is another one from `activation` on.
    event UpgradeDelayChanged(FunctionId indexed id, uint64 delay, uint64 activation);
    /// @notice The owner's set of secrets is another one.
    event SecretsChanged(FunctionId indexed id, bytes32 digest, uint64 version);
    /// @notice The owner put the state back; a new key epoch begins.
    event StateReset(FunctionId indexed id, uint64 sequence, uint64 keyEpoch);

    /// @notice A name is 1 to 63 characters of a-z, 0-9 and hyphen.
    error ImpossibleName();
    /// @notice The owner has a function of that name.
    error NameTaken(FunctionId id);
    /// @notice No such function.
    error UnknownFunction(FunctionId id);
    /// @notice Only the owner.
    error NotOwner(address account);
    /// @notice The function is frozen.
    error IsFrozen();
    /// @notice A version is waiting: cancel it first.
    error VersionWaiting(uint64 activation);
    /// @notice No version is waiting.
    error NoVersionWaiting();
    /// @notice The delay is longer than 366 days.
    error DelayTooLong(uint64 delay);
    /// @notice Versions of a set of secrets rise by one.
    error SecretsVersion(uint64 expected);

    /// @notice Deploys a function of the sender; its first version counts at once.
    function register(
        string calldata name,
        bytes32 moduleHash,
        bytes32 manifestHash,
        string calldata uri,
        uint64 upgradeDelay
    ) external returns (FunctionId id);

    /// @notice Adds a version that counts after the upgrade delay.
    function upgrade(FunctionId id, bytes32 moduleHash, bytes32 manifestHash, string calldata uri) external;

    /// @notice Withdraws the waiting version.
    function cancelUpgrade(FunctionId id) external;

    /// @notice Changes the delay: longer at once, shorter after the present delay.
    function setUpgradeDelay(FunctionId id, uint64 delay) external;

    /// @notice Allows no further version, for ever.
    function freeze(FunctionId id) external;

    /// @notice Names the current set of secrets by its digest. `version` must be the last one plus one.
    function setSecrets(FunctionId id, bytes32 digest, uint64 version) external;

    /// @notice Puts the state back to an older sequence after a loss that cannot be healed; starts a new key epoch.
    function reset(FunctionId id, uint64 sequence) external;

    /// @notice The id that `owner`'s function `name` has here.
    function idOf(address owner, string calldata name) external view returns (FunctionId);

    /// @notice Everything about a function at this block.
    function record(FunctionId id) external view returns (Record memory);

    /// @notice One version.
    function versionAt(FunctionId id, uint256 index) external view returns (Version memory);

    /// @notice Code that counts at this block.
    function currentCode(FunctionId id) external view returns (CodeHash);

    /// @notice Whether `codeHash` counted at some second from `from` to `to` (both included).
    function countedWithin(FunctionId id, CodeHash codeHash, uint64 from, uint64 to) external view returns (bool);

    /// @notice Key epoch of the function's root key.
    function keyEpoch(FunctionId id) external view returns (uint64);
}
