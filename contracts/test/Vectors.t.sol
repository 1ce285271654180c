// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Commitments} from "../src/libraries/Commitments.sol";
import {Digests} from "../src/libraries/Digests.sol";
import {Certificate, CertificateId, CodeHash, FunctionId, Receipt} from "../src/types/Types.sol";
import {VM} from "./Vm.sol";

/// @notice The shared vectors, as Rust and TypeScript check them.
contract VectorsTest {
    string private _eip712;
    string private _formats;
    string private _merkle;
    bytes32 private _domain;

    function setUp() public {
        _eip712 = VM.readFile("../vectors/eip712.json");
        _formats = VM.readFile("../vectors/formats.json");
        _merkle = VM.readFile("../vectors/merkle.json");
        _domain = Digests.domainSeparator(VM.parseJsonBytes32(_eip712, ".domain.salt"));
    }

    function test_Receipt() public view {
        string memory path = _struct("Receipt");
        Receipt memory r;
        r.functionId = FunctionId.wrap(_word(path, "functionId"));
        r.codeHash = CodeHash.wrap(_word(path, "codeHash"));
        r.certificate = CertificateId.wrap(_word(path, "certificate"));
        r.callId = _word(path, "callId");
        r.kind = uint8(_number(path, "kind"));
        r.outcome = uint8(_number(path, "outcome"));
        r.method = _word(path, "method");
        r.caller = _word(path, "caller");
        r.request = _word(path, "request");
        r.response = _word(path, "response");
        r.sequence = _number(path, "sequence");
        r.headBefore = _word(path, "headBefore");
        r.headAfter = _word(path, "headAfter");
        r.fence = _number(path, "fence");
        r.effects = _word(path, "effects");
        r.usage = _word(path, "usage");
        r.fuel = _number(path, "fuel");
        r.time = _number(path, "time");
        r.epoch = _number(path, "epoch");
        _same(this.receipt(_domain, r), _digest(path));
    }

    function test_Certificate() public view {
        string memory path = _struct("Certificate");
        Certificate memory c;
        c.worker = VM.parseJsonAddress(_eip712, string.concat(path, ".message.worker"));
        c.keyset = _word(path, "keyset");
        c.platform = uint8(_number(path, "platform"));
        c.measurement = _word(path, "measurement");
        c.chip = _word(path, "chip");
        c.confidence = uint8(_number(path, "confidence"));
        c.root = _word(path, "root");
        c.policy = _word(path, "policy");
        c.simulated = VM.parseJsonBool(_eip712, string.concat(path, ".message.simulated"));
        c.operator = VM.parseJsonAddress(_eip712, string.concat(path, ".message.operator"));
        c.collateralTime = _number(path, "collateralTime");
        c.notBefore = _number(path, "notBefore");
        c.notAfter = _number(path, "notAfter");
        c.epoch = _number(path, "epoch");
        _same(this.certificate(_domain, c), _digest(path));
    }

    function test_Endpoint() public view {
        string memory path = _struct("Endpoint");
        Certificate memory c;
        c.worker = VM.parseJsonAddress(_eip712, string.concat(path, ".message.worker"));
        c.keyset = _word(path, "keyset");
        c.notBefore = _number(path, "notBefore");
        string memory url = VM.parseJsonString(_eip712, string.concat(path, ".message.endpoint"));
        _same(this.endpoint(_domain, c, url), _digest(path));
    }

    function test_Ack() public view {
        string memory path = _struct("Ack");
        Receipt memory r;
        r.epoch = _number(path, "epoch");
        r.functionId = FunctionId.wrap(_word(path, "functionId"));
        r.fence = _number(path, "fence");
        r.sequence = _number(path, "sequence");
        r.headAfter = _word(path, "head");
        _same(this.ack(_domain, r, _word(path, "receiptsRoot"), _number(path, "time")), _digest(path));
    }

    function test_Batches_heartbeat_revocation_and_succession() public view {
        string memory path = _struct("AckBatch");
        _same(
            Digests.ackBatch(_domain, _number(path, "epoch"), _word(path, "root"), _number(path, "time")), _digest(path)
        );
        path = _struct("ReceiptBatch");
        CertificateId id = CertificateId.wrap(_word(path, "certificate"));
        _same(Digests.receiptBatch(_domain, id, _word(path, "root"), _number(path, "size")), _digest(path));
        path = _struct("Heartbeat");
        id = CertificateId.wrap(_word(path, "certificate"));
        _same(
            Digests.heartbeat(_domain, id, _number(path, "size"), _word(path, "root"), _number(path, "time")),
            _digest(path)
        );
        path = _struct("Revocation");
        bytes32[] memory list = VM.parseJsonBytes32Array(_eip712, string.concat(path, ".message.functions"));
        FunctionId[] memory ids = new FunctionId[](list.length);
        for (uint256 i = 0; i < list.length; ++i) {
            ids[i] = FunctionId.wrap(list[i]);
        }
        _same(
            this.revocation(
                _domain, uint8(_number(path, "subject")), _word(path, "value"), ids, _number(path, "epoch")
            ),
            _digest(path)
        );
        path = _struct("SetUpdate");
        address[] memory members = VM.parseJsonAddressArray(_eip712, string.concat(path, ".message.members"));
        _same(
            this.setUpdate(
                _domain,
                _number(path, "epoch"),
                members,
                uint32(_number(path, "threshold")),
                _number(path, "validUntil")
            ),
            _digest(path)
        );
    }

    function test_Identifiers_and_commitments() public view {
        string memory f = _formats;
        FunctionId id = Commitments.functionId(
            VM.parseJsonUint(f, ".functionId.chainId"),
            VM.parseJsonAddress(f, ".functionId.registry"),
            VM.parseJsonAddress(f, ".functionId.owner"),
            VM.parseJsonString(f, ".functionId.name")
        );
        _same(FunctionId.unwrap(id), VM.parseJsonBytes32(f, ".functionId.digest"));
        CodeHash code = Commitments.codeHash(
            keccak256(bytes(VM.parseJsonString(f, ".codeHash.module"))),
            keccak256(bytes(VM.parseJsonString(f, ".codeHash.manifest")))
        );
        _same(CodeHash.unwrap(code), VM.parseJsonBytes32(f, ".codeHash.digest"));
        bytes memory encoded = Commitments.publication(
            VM.parseJsonUint(f, ".publication.chainId"),
            VM.parseJsonAddress(f, ".publication.consumer"),
            VM.parseJsonString(f, ".publication.topic"),
            uint64(VM.parseJsonUint(f, ".publication.sequence")),
            bytes(VM.parseJsonString(f, ".publication.data"))
        );
        _same(keccak256(encoded), keccak256(VM.parseJsonBytes(f, ".publication.encoded")));
        _same(Commitments.response(encoded), VM.parseJsonBytes32(f, ".publication.response"));
    }

    function test_Merkle_trees() public view {
        bytes32[] memory values = VM.parseJsonBytes32Array(_merkle, ".values");
        bytes32[] memory leaves = VM.parseJsonBytes32Array(_merkle, ".leaves");
        for (uint256 i = 0; i < values.length; ++i) {
            _same(Commitments.leaf(values[i]), leaves[i]);
        }
        for (uint256 size = 0; size <= leaves.length; ++size) {
            bytes32[] memory level = new bytes32[](size);
            for (uint256 i = 0; i < size; ++i) {
                level[i] = leaves[i];
            }
            string memory path = string.concat(".trees[", VM.toString(size), "]");
            require(VM.parseJsonUint(_merkle, string.concat(path, ".size")) == size, "order of the trees");
            _same(Commitments.merkleRoot(level), VM.parseJsonBytes32(_merkle, string.concat(path, ".root")));
        }
    }

    // Digests take calldata.

    function receipt(bytes32 domain, Receipt calldata r) external pure returns (bytes32) {
        return Digests.receipt(domain, r);
    }

    function certificate(bytes32 domain, Certificate calldata c) external pure returns (bytes32) {
        return CertificateId.unwrap(Digests.certificate(domain, c));
    }

    function endpoint(bytes32 domain, Certificate calldata c, string calldata url) external pure returns (bytes32) {
        return Digests.endpoint(domain, c, url);
    }

    function ack(bytes32 domain, Receipt calldata r, bytes32 root, uint64 time) external pure returns (bytes32) {
        return Digests.ack(domain, r, root, time);
    }

    function revocation(bytes32 domain, uint8 subject, bytes32 value, FunctionId[] calldata ids, uint64 epoch)
        external
        pure
        returns (bytes32)
    {
        return Digests.revocation(domain, subject, value, ids, epoch);
    }

    function setUpdate(bytes32 domain, uint64 epoch, address[] calldata members, uint32 threshold, uint64 validUntil)
        external
        pure
        returns (bytes32)
    {
        return Digests.setUpdate(domain, epoch, members, threshold, validUntil);
    }

    /// Path of the struct with this name: the order in the file is not part of the format.
    function _struct(string memory name) private view returns (string memory) {
        for (uint256 i = 0; i < 64; ++i) {
            string memory path = string.concat(".structs[", VM.toString(i), "]");
            string memory found = VM.parseJsonString(_eip712, string.concat(path, ".primaryType"));
            if (keccak256(bytes(found)) == keccak256(bytes(name))) return path;
        }
        revert("no such struct");
    }

    function _word(string memory path, string memory member) private view returns (bytes32) {
        return VM.parseJsonBytes32(_eip712, string.concat(path, ".message.", member));
    }

    function _number(string memory path, string memory member) private view returns (uint64) {
        return uint64(VM.parseJsonUint(_eip712, string.concat(path, ".message.", member)));
    }

    function _digest(string memory path) private view returns (bytes32) {
        return VM.parseJsonBytes32(_eip712, string.concat(path, ".digest"));
    }

    function _same(bytes32 found, bytes32 expected) private pure {
        require(found == expected, "not the digest of the vector");
    }
}
