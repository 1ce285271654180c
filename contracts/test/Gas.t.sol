// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {StoredAnswers} from "../src/examples/StoredAnswers.sol";
import {IReceiptVerifier} from "../src/interfaces/IReceiptVerifier.sol";
import {Commitments} from "../src/libraries/Commitments.sol";
import {Digests} from "../src/libraries/Digests.sol";
import {
    BatchCommit,
    BatchItem,
    Certificate,
    CertificateId,
    CodeHash,
    Kind,
    Receipt,
    ReceiptBatch,
    RequestId
} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

/// @notice One call each, for the gas snapshot. Everything is made ready in `setUp`; what whole transactions cost is
/// measured against a node by the tests of tacit-ledger.
contract GasTest is TacitTest {
    StoredAnswers private _consumer;
    RequestId private _id;
    Receipt private _answer;
    Receipt private _publication;
    bytes private _answerSignature;
    bytes private _publicationSignature;
    Certificate private _certificate;
    bytes private _certificateSignatures;
    ReceiptBatch private _batch;
    bytes private _batchSignature;

    function setUp() public {
        deployTacit();
        _consumer = new StoredAnswers(hub, roots());
        _consumer.setPublisher(functionId, CodeHash.wrap(0), true);
        verifier.setRoot(ROOT, IReceiptVerifier.Acceptance.Yes);
        _id = _consumer.ask(functionId, CodeHash.wrap(0), "price", "{}", 200_000, uint64(block.timestamp) + 600);
        _answer = answer(_id, "42");
        _answerSignature = signBy(WORKER_KEY, _answer);
        _publication = publication(address(_consumer), "price", 1, "42");
        _publicationSignature = signBy(WORKER_KEY, _publication);
        _certificate = certificate(VM.addr(0x7779));
        _certificateSignatures = signByGatekeepers(3, CertificateId.unwrap(this.idOf(_certificate)));
        _prepareBatch();
    }

    function test_verify() public view {
        verifier.verify(address(this), _answer, _answerSignature);
    }

    function test_verify_batch_of_64() public view {
        verifier.verifyBatch(address(this), _batch, _batchSignature);
    }

    function test_fulfil() public {
        hub.fulfil(_id, "42", _answer, _answerSignature);
    }

    function test_on_publish() public {
        _consumer.onPublish("price", 1, "42", _publication, _publicationSignature);
    }

    function test_publish_certificate() public {
        workers.publish(_certificate, _certificateSignatures, "", "");
    }

    function test_register_function() public {
        functions.register("another", keccak256("module"), keccak256("manifest"), "blob:1", 0);
    }

    function _prepareBatch() private {
        Receipt memory receipt = blank();
        receipt.kind = Kind.CHAIN_REQUEST;
        _batch.functionId = functionId;
        _batch.codeHash = codeHash;
        _batch.certificate = certificateId;
        _batch.kind = Kind.CHAIN_REQUEST;
        _batch.fence = receipt.fence;
        _batch.epoch = receipt.epoch;
        bytes32[] memory leaves = new bytes32[](64);
        for (uint256 i = 0; i < 64; ++i) {
            receipt.callId = keccak256(abi.encode("call", i));
            receipt.request = keccak256(abi.encode("request", i));
            receipt.response = keccak256(abi.encode("response", i));
            receipt.effects = keccak256(abi.encode("effects", i));
            receipt.usage = keccak256(abi.encode("usage", i));
            receipt.sequence = uint64(1000 + i);
            receipt.headBefore = keccak256(abi.encode("head", i));
            receipt.headAfter = keccak256(abi.encode("head", i + 1));
            leaves[i] = Commitments.leaf(verifier.digestOf(receipt));
            bytes32 before = i == 0 ? receipt.headBefore : bytes32(0);
            _batch.commits.push(BatchCommit(receipt.sequence, before, receipt.headAfter));
            uint256 figures = i << 128 | uint256(receipt.fuel) << 64 | receipt.time;
            _batch.items
                .push(
                    BatchItem(
                        receipt.callId, receipt.request, receipt.response, receipt.effects, receipt.usage, figures
                    )
                );
        }
        bytes32 root = Commitments.merkleRoot(leaves);
        bytes32 domain = verifier.domainSeparator();
        _batchSignature = signBy(WORKER_KEY, Digests.receiptBatch(domain, certificateId, root, 64));
    }
}
