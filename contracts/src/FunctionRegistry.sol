// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFunctionRegistry} from "./interfaces/IFunctionRegistry.sol";
import {IWorkerRegistry} from "./interfaces/IWorkerRegistry.sol";
import {Commitments} from "./libraries/Commitments.sol";
import {CodeHash, FunctionId} from "./types/Types.sol";

/// @title FunctionRegistry
/// @notice Nobody but a function's owner changes anything about it. Versions carry the second from which they count, so
/// nothing has to be executed when a delay ends.
contract FunctionRegistry is IFunctionRegistry {
    /// Read by storage proof: the order of members is part of the interface.
    struct Entry {
        address owner;
        uint64 keyEpoch;
        bool frozen;
        uint64 upgradeDelay;
        uint64 nextDelay;
        uint64 nextDelayFrom;
        uint64 secretsVersion;
        bytes32 secretsDigest;
        uint64 resetSequence;
        uint64 resetKeyEpoch;
        string name;
        Version[] versions;
    }

    uint64 private constant MAX_DELAY = 366 days;
    uint64 private constant FIRST_KEY_EPOCH = 1;

    mapping(FunctionId => Entry) private _entries;
    /// @notice Where revocations raise minimum key epochs.
    IWorkerRegistry public workers;

    constructor(IWorkerRegistry workers_) {
        workers = workers_;
    }

    modifier onlyFunctionOwner(FunctionId id) {
        address owner = _known(id).owner;
        require(msg.sender == owner, NotOwner(msg.sender));
        _;
    }

    /// @inheritdoc IFunctionRegistry
    function register(
        string calldata name,
        bytes32 moduleHash,
        bytes32 manifestHash,
        string calldata uri,
        uint64 upgradeDelay
    ) external returns (FunctionId id) {
        _requireName(bytes(name));
        require(upgradeDelay <= MAX_DELAY, DelayTooLong(upgradeDelay));
        id = Commitments.functionId(block.chainid, address(this), msg.sender, name);
        Entry storage entry = _entries[id];
        require(entry.owner == address(0), NameTaken(id));
        entry.owner = msg.sender;
        entry.keyEpoch = FIRST_KEY_EPOCH;
        entry.upgradeDelay = upgradeDelay;
        entry.name = name;
        emit FunctionRegistered(id, msg.sender, name);
        _addVersion(id, entry, moduleHash, manifestHash, uri, 0);
    }

    /// @inheritdoc IFunctionRegistry
    function upgrade(FunctionId id, bytes32 moduleHash, bytes32 manifestHash, string calldata uri)
        external
        onlyFunctionOwner(id)
    {
        Entry storage entry = _entries[id];
        require(!entry.frozen, IsFrozen());
        uint64 waiting = _waiting(entry);
        require(waiting == 0, VersionWaiting(waiting));
        _addVersion(id, entry, moduleHash, manifestHash, uri, _delay(entry));
    }

    /// @inheritdoc IFunctionRegistry
    function cancelUpgrade(FunctionId id) external onlyFunctionOwner(id) {
        Entry storage entry = _entries[id];
        require(_waiting(entry) != 0, NoVersionWaiting());
        entry.versions.pop();
        emit VersionCancelled(id, entry.versions.length);
    }

    /// @inheritdoc IFunctionRegistry
    function setUpgradeDelay(FunctionId id, uint64 delay) external onlyFunctionOwner(id) {
        require(delay <= MAX_DELAY, DelayTooLong(delay));
        Entry storage entry = _entries[id];
        uint64 present = _delay(entry);
        uint64 from = uint64(block.timestamp) + (delay >= present ? 0 : present);
        entry.upgradeDelay = present;
        entry.nextDelay = delay;
        entry.nextDelayFrom = from;
        emit UpgradeDelayChanged(id, delay, from);
    }

    /// @inheritdoc IFunctionRegistry
    function freeze(FunctionId id) external onlyFunctionOwner(id) {
        Entry storage entry = _entries[id];
        require(!entry.frozen, IsFrozen());
        uint64 waiting = _waiting(entry);
        require(waiting == 0, VersionWaiting(waiting));
        entry.frozen = true;
        emit Frozen(id);
    }

    /// @inheritdoc IFunctionRegistry
    function setSecrets(FunctionId id, bytes32 digest, uint64 version) external onlyFunctionOwner(id) {
        Entry storage entry = _entries[id];
        uint64 expected = entry.secretsVersion + 1;
        require(version == expected, SecretsVersion(expected));
        entry.secretsDigest = digest;
        entry.secretsVersion = version;
        emit SecretsChanged(id, digest, version);
    }

    /// @inheritdoc IFunctionRegistry
    function reset(FunctionId id, uint64 sequence) external onlyFunctionOwner(id) {
        Entry storage entry = _entries[id];
        uint64 next = keyEpoch(id) + 1;
        entry.keyEpoch = next;
        entry.resetSequence = sequence;
        entry.resetKeyEpoch = next;
        emit StateReset(id, sequence, next);
    }

    /// @inheritdoc IFunctionRegistry
    function idOf(address owner, string calldata name) external view returns (FunctionId) {
        return Commitments.functionId(block.chainid, address(this), owner, name);
    }

    /// @inheritdoc IFunctionRegistry
    function record(FunctionId id) external view returns (Record memory) {
        Entry storage entry = _known(id);
        Version storage version = entry.versions[_currentIndex(entry)];
        return Record({
            owner: entry.owner,
            name: entry.name,
            codeHash: version.codeHash,
            manifestHash: version.manifestHash,
            uri: version.uri,
            activation: version.activation,
            keyEpoch: keyEpoch(id),
            frozen: entry.frozen,
            upgradeDelay: _delay(entry),
            secretsDigest: entry.secretsDigest,
            secretsVersion: entry.secretsVersion,
            resetSequence: entry.resetSequence,
            resetKeyEpoch: entry.resetKeyEpoch,
            versions: entry.versions.length
        });
    }

    /// @inheritdoc IFunctionRegistry
    function versionAt(FunctionId id, uint256 index) external view returns (Version memory) {
        return _known(id).versions[index];
    }

    /// @inheritdoc IFunctionRegistry
    function currentCode(FunctionId id) external view returns (CodeHash) {
        Entry storage entry = _known(id);
        return entry.versions[_currentIndex(entry)].codeHash;
    }

    /// @inheritdoc IFunctionRegistry
    function countedWithin(FunctionId id, CodeHash codeHash, uint64 from, uint64 to) external view returns (bool) {
        Version[] storage versions = _known(id).versions;
        uint256 index = versions.length;
        // Newest first, and no further than the version that counted at `from`.
        while (index > 0) {
            Version storage version = versions[--index];
            uint64 start = version.activation;
            if (start <= to && version.codeHash == codeHash) return true;
            if (start <= from) return false;
        }
        return false;
    }

    /// @inheritdoc IFunctionRegistry
    function keyEpoch(FunctionId id) public view returns (uint64) {
        uint64 own = _known(id).keyEpoch;
        uint64 minimum = workers.minKeyEpoch(id);
        return own < minimum ? minimum : own;
    }

    function _addVersion(
        FunctionId id,
        Entry storage entry,
        bytes32 moduleHash,
        bytes32 manifestHash,
        string calldata uri,
        uint64 delay
    ) private {
        CodeHash codeHash = Commitments.codeHash(moduleHash, manifestHash);
        uint64 activation = uint64(block.timestamp) + delay;
        uint256 index = entry.versions.length;
        entry.versions.push(Version({codeHash: codeHash, manifestHash: manifestHash, activation: activation, uri: uri}));
        emit VersionAdded(id, index, codeHash, moduleHash, manifestHash, activation, uri);
    }

    function _known(FunctionId id) private view returns (Entry storage entry) {
        entry = _entries[id];
        require(entry.owner != address(0), UnknownFunction(id));
    }

    function _delay(Entry storage entry) private view returns (uint64) {
        return entry.nextDelayFrom != 0 && block.timestamp >= entry.nextDelayFrom ? entry.nextDelay : entry.upgradeDelay;
    }

    /// Activation of the waiting version, zero for none.
    function _waiting(Entry storage entry) private view returns (uint64) {
        uint64 activation = entry.versions[entry.versions.length - 1].activation;
        return activation > block.timestamp ? activation : 0;
    }

    function _currentIndex(Entry storage entry) private view returns (uint256) {
        return entry.versions.length - (_waiting(entry) == 0 ? 1 : 2);
    }

    function _requireName(bytes calldata name) private pure {
        require(name.length >= 1 && name.length <= 63, ImpossibleName());
        for (uint256 i = 0; i < name.length; ++i) {
            bytes1 character = name[i];
            bool possible =
                (character >= "a" && character <= "z") || (character >= "0" && character <= "9") || character == "-";
            require(possible, ImpossibleName());
        }
    }
}
