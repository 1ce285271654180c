// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Deployment} from "../script/Deployment.sol";
import {FunctionRegistry} from "../src/FunctionRegistry.sol";
import {GatekeeperSet} from "../src/GatekeeperSet.sol";
import {EcdsaQuorumVerifier} from "../src/EcdsaQuorumVerifier.sol";
import {IRequestHub} from "../src/interfaces/IRequestHub.sol";
import {ITacitConsumer} from "../src/interfaces/ITacitConsumer.sol";
import {Commitments} from "../src/libraries/Commitments.sol";
import {Digests} from "../src/libraries/Digests.sol";
import {PolicyRegistry} from "../src/PolicyRegistry.sol";
import {ReceiptVerifier} from "../src/ReceiptVerifier.sol";
import {RequestHub} from "../src/RequestHub.sol";
import {
    Acknowledgement,
    Certificate,
    CertificateId,
    CodeHash,
    FunctionId,
    Kind,
    Outcome,
    Receipt,
    RequestId
} from "../src/types/Types.sol";
import {WorkerRegistry} from "../src/WorkerRegistry.sol";
import {VM} from "./Vm.sol";

/// @title TacitTest
/// @notice Base of forge tests of consumers: a cluster with real contracts, four gatekeepers, one certified worker and
/// one function, whose answers the test makes up.
///
/// ```solidity
/// contract MyTest is TacitTest {
///     MyConsumer consumer;
///     function setUp() public {
///         deployTacit();
///         consumer = new MyConsumer(hub, roots(), functionId);
///     }
///     function test_it_uses_the_answer() public {
///         RequestId id = consumer.ask();
///         fulfil(id, bytes('{"usd":42}'));
///         require(consumer.price() == 42);
///     }
/// }
/// ```
abstract contract TacitTest {
    bytes32 internal constant CLUSTER = keccak256("test cluster");
    bytes32 internal constant ROOT = keccak256("test root");
    uint256 internal constant WORKER_KEY = 0x7001;
    uint256 internal constant OPERATOR_KEY = 0x7002;
    uint256 internal constant FIRST_GATEKEEPER_KEY = 0x7100;
    uint32 internal constant GATEKEEPERS = 4;
    uint32 internal constant THRESHOLD = 2;

    GatekeeperSet internal gatekeepers;
    EcdsaQuorumVerifier internal quorumVerifier;
    PolicyRegistry internal policies;
    WorkerRegistry internal workers;
    FunctionRegistry internal functions;
    ReceiptVerifier internal verifier;
    RequestHub internal hub;
    FunctionId internal functionId;
    CodeHash internal codeHash;
    CertificateId internal certificateId;

    /// @notice Deploys everything; call it first in `setUp`.
    function deployTacit() internal {
        VM.warp(1_800_000_000);
        address[] memory members = new address[](GATEKEEPERS);
        for (uint256 i = 0; i < GATEKEEPERS; ++i) {
            members[i] = VM.addr(FIRST_GATEKEEPER_KEY + i);
        }
        bytes32[] memory measurements = new bytes32[](1);
        measurements[0] = keccak256("measurement");
        Deployment.Contracts memory c = Deployment.deploy(
            address(this),
            Deployment.Parameters({
                clusterId: CLUSTER,
                gatekeepers: members,
                threshold: THRESHOLD,
                epoch: 1,
                validUntil: uint64(block.timestamp) + 365 days,
                governor: address(this),
                guardian: address(this),
                timelock: 1 hours,
                policyHash: keccak256("policy"),
                policyUri: "policy.json",
                measurements: measurements
            })
        );
        (gatekeepers, quorumVerifier, policies, workers) = (c.gatekeepers, c.quorumVerifier, c.policies, c.workers);
        (functions, verifier, hub) = (c.functions, c.verifier, c.hub);
        certificateId = publish(certificate(VM.addr(WORKER_KEY)));
        functionId = functions.register("my-function", keccak256("module"), keccak256("manifest"), "", 0);
        codeHash = Commitments.codeHash(keccak256("module"), keccak256("manifest"));
    }

    /// @notice The root of trust of the test's worker, for a consumer's constructor.
    function roots() internal pure returns (bytes32[] memory list) {
        list = new bytes32[](1);
        list[0] = ROOT;
    }

    /// @notice Answers a request as the function would, and delivers it.
    function fulfil(RequestId id, bytes memory response) internal {
        Receipt memory receipt = answer(id, response);
        hub.fulfil(id, response, receipt, signBy(WORKER_KEY, receipt));
    }

    /// @notice Publishes to a consumer as the function would, and delivers it.
    function publishTo(ITacitConsumer consumer, string memory topic, uint64 sequence, bytes memory data) internal {
        Receipt memory receipt = publication(address(consumer), topic, sequence, data);
        consumer.onPublish(topic, sequence, data, receipt, signBy(WORKER_KEY, receipt));
    }

    /// @notice A receipt for the answer to a request.
    function answer(RequestId id, bytes memory response) internal view returns (Receipt memory receipt) {
        IRequestHub.Request memory asked = hub.requestOf(id);
        receipt = blank();
        receipt.callId = RequestId.unwrap(id);
        receipt.kind = Kind.CHAIN_REQUEST;
        receipt.method = asked.method;
        receipt.caller = Commitments.caller(asked.consumer);
        receipt.request = asked.request;
        receipt.response = Commitments.response(response);
    }

    /// @notice A receipt for a publication.
    function publication(address consumer, string memory topic, uint64 sequence, bytes memory data)
        internal
        view
        returns (Receipt memory receipt)
    {
        receipt = blank();
        receipt.kind = Kind.PUBLISH;
        receipt.response = Commitments.response(Commitments.publication(block.chainid, consumer, topic, sequence, data));
    }

    /// @notice A receipt of the worker, now, for nothing in particular.
    function blank() internal view returns (Receipt memory receipt) {
        receipt.functionId = functionId;
        receipt.codeHash = codeHash;
        receipt.certificate = certificateId;
        receipt.outcome = Outcome.OK;
        receipt.sequence = 1;
        receipt.headAfter = keccak256("head");
        receipt.fence = 1;
        receipt.fuel = 1;
        receipt.time = uint64(block.timestamp);
        receipt.epoch = 1;
    }

    /// @notice Signs a receipt.
    function signBy(uint256 key, Receipt memory receipt) internal view returns (bytes memory) {
        return signBy(key, verifier.digestOf(receipt));
    }

    /// @notice Signs a digest.
    function signBy(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @notice Signatures of the gatekeepers whose bits are set, packed.
    function signByGatekeepers(uint256 bits, bytes32 digest) internal pure returns (bytes memory packed) {
        for (uint256 i = 0; i < GATEKEEPERS; ++i) {
            if (bits >> i & 1 == 1) {
                packed = abi.encodePacked(packed, uint8(i), signBy(FIRST_GATEKEEPER_KEY + i, digest));
            }
        }
    }

    /// @notice The acknowledgement of a commit with this one receipt, by the gatekeepers whose bits are set.
    function acknowledge(Receipt memory receipt, uint256 bits) internal view returns (Acknowledgement memory value) {
        value.time = uint64(block.timestamp);
        bytes32 domain = Digests.domainSeparator(CLUSTER);
        bytes32 ack = this.ackOf(receipt, Commitments.leaf(verifier.digestOf(receipt)), value.time);
        bytes32 batch = Digests.ackBatch(domain, receipt.epoch, Commitments.leaf(ack), value.time);
        value.signatures = signByGatekeepers(bits, batch);
    }

    /// @notice Digest of the acknowledgement of a receipt's commit.
    function ackOf(Receipt calldata receipt, bytes32 receiptsRoot, uint64 time) external pure returns (bytes32) {
        return Digests.ack(Digests.domainSeparator(CLUSTER), receipt, receiptsRoot, time);
    }

    /// @notice A certificate that would be accepted.
    function certificate(address worker) internal view returns (Certificate memory value) {
        value.worker = worker;
        value.keyset = keccak256("keyset");
        value.platform = 2;
        value.measurement = keccak256("measurement");
        value.chip = keccak256("chip");
        value.confidence = 1;
        value.root = ROOT;
        value.policy = keccak256("policy");
        value.simulated = true;
        value.operator = VM.addr(OPERATOR_KEY);
        value.collateralTime = uint64(block.timestamp) - 1 days;
        value.notBefore = uint64(block.timestamp) - 1 hours;
        value.notAfter = uint64(block.timestamp) + 1 days;
        value.epoch = 1;
    }

    /// @notice Publishes a certificate with two gatekeepers' signatures.
    function publish(Certificate memory value) internal returns (CertificateId) {
        bytes32 digest = CertificateId.unwrap(this.idOf(value));
        return workers.publish(value, signByGatekeepers(3, digest), "", "");
    }

    /// @notice Id of a certificate.
    function idOf(Certificate calldata value) external pure returns (CertificateId) {
        return Digests.certificate(Digests.domainSeparator(CLUSTER), value);
    }
}
