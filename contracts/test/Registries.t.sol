// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFunctionRegistry} from "../src/interfaces/IFunctionRegistry.sol";
import {IPolicyRegistry} from "../src/interfaces/IPolicyRegistry.sol";
import {IReceiptVerifier} from "../src/interfaces/IReceiptVerifier.sol";
import {IWorkerRegistry} from "../src/interfaces/IWorkerRegistry.sol";
import {Commitments} from "../src/libraries/Commitments.sol";
import {Certificate, CertificateId, CodeHash, FunctionId, Receipt} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

contract RegistriesTest is TacitTest {
    struct Counted {
        bytes32 code;
        uint64 from;
    }

    Counted[] private _history;

    function setUp() public {
        deployTacit();
    }

    /// Upgrades at any distance; a plain list says what counted when.
    function testFuzz_Code_counts_from_its_activation_to_the_next(uint32[8] memory gaps, uint32 from, uint32 length)
        public
    {
        uint64 start = uint64(block.timestamp);
        FunctionId id = functions.register("model", bytes32(0), 0, "", 0);
        _history.push(Counted(CodeHash.unwrap(Commitments.codeHash(0, 0)), start));
        for (uint256 i = 0; i < gaps.length; ++i) {
            VM.warp(block.timestamp + 1 + gaps[i] % 1000);
            // Codes repeat: an owner may go back to an older version.
            bytes32 module = bytes32(uint256(gaps[i] % 3));
            functions.upgrade(id, module, 0, "");
            _history.push(Counted(CodeHash.unwrap(Commitments.codeHash(module, 0)), uint64(block.timestamp)));
        }
        uint64 first = start + from % 9000;
        uint64 last = first + length % 3000;
        for (uint256 module = 0; module < 4; ++module) {
            CodeHash code = Commitments.codeHash(bytes32(module), 0);
            bool expected = false;
            for (uint256 i = 0; i < _history.length; ++i) {
                uint64 ends = i + 1 < _history.length ? _history[i + 1].from : type(uint64).max;
                bool overlaps = _history[i].from <= last && ends > first;
                if (_history[i].code == CodeHash.unwrap(code) && overlaps) expected = true;
            }
            require(functions.countedWithin(id, code, first, last) == expected, "not what counted");
        }
    }

    function testFuzz_Names(bytes memory name) public {
        bool possible = name.length >= 1 && name.length <= 63;
        for (uint256 i = 0; i < name.length; ++i) {
            uint8 c = uint8(name[i]);
            possible = possible && ((c >= 97 && c <= 122) || (c >= 48 && c <= 57) || c == 45);
        }
        if (!possible) VM.expectRevert(IFunctionRegistry.ImpossibleName.selector);
        functions.register(string(name), 0, 0, "", 0);
    }

    function test_A_shorter_delay_waits_for_the_present_one() public {
        functions.setUpgradeDelay(functionId, 100);
        functions.upgrade(functionId, bytes32(uint256(1)), 0, "");
        uint64 activation = functions.versionAt(functionId, 1).activation;
        require(activation == block.timestamp + 100, "a longer delay counts at once");
        VM.warp(activation);
        functions.setUpgradeDelay(functionId, 0);
        functions.upgrade(functionId, bytes32(uint256(2)), 0, "");
        require(functions.versionAt(functionId, 2).activation == activation + 100, "no way around the delay");
        VM.warp(activation + 100);
        functions.upgrade(functionId, bytes32(uint256(3)), 0, "");
        require(functions.currentCode(functionId) == Commitments.codeHash(bytes32(uint256(3)), 0), "now it is short");
    }

    function testFuzz_Only_the_owner(address stranger) public {
        if (stranger == address(this)) return;
        bytes memory refusal = abi.encodeWithSelector(IFunctionRegistry.NotOwner.selector, stranger);
        VM.startPrank(stranger);
        VM.expectRevert(refusal);
        functions.upgrade(functionId, 0, 0, "");
        VM.expectRevert(refusal);
        functions.cancelUpgrade(functionId);
        VM.expectRevert(refusal);
        functions.setUpgradeDelay(functionId, 1);
        VM.expectRevert(refusal);
        functions.freeze(functionId);
        VM.expectRevert(refusal);
        functions.setSecrets(functionId, 0, 1);
        VM.expectRevert(refusal);
        functions.reset(functionId, 0);
        VM.stopPrank();
    }

    function test_Policy_loosens_late_and_tightens_at_once() public {
        bytes32 measurement = keccak256("new");
        policies.allowMeasurement(measurement);
        require(!policies.isAllowed(measurement), "too early");
        VM.warp(block.timestamp + 1 hours);
        require(policies.isAllowed(measurement), "too late");
        policies.removeMeasurement(measurement);
        require(!policies.isAllowed(measurement), "tightening waits");

        policies.deny(IPolicyRegistry.Subject.HardwareClass, keccak256("Milan"));
        require(policies.isDenied(IPolicyRegistry.Subject.HardwareClass, keccak256("Milan")), "denied");
        policies.liftDenial(IPolicyRegistry.Subject.HardwareClass, keccak256("Milan"));
        require(policies.isDenied(IPolicyRegistry.Subject.HardwareClass, keccak256("Milan")), "still denied");
        VM.warp(block.timestamp + 1 hours);
        require(!policies.isDenied(IPolicyRegistry.Subject.HardwareClass, keccak256("Milan")), "lifted");

        policies.propose(keccak256("next"), "next.json");
        policies.veto(1);
        VM.warp(block.timestamp + 2 hours);
        require(policies.current().policyHash == keccak256("policy"), "vetoed");
        policies.propose(keccak256("third"), "third.json");
        VM.warp(block.timestamp + 1 hours);
        require(policies.current().policyHash == keccak256("third"), "counts");
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotWaiting.selector, 2));
        policies.veto(2);

        policies.setTimelock(10);
        require(policies.timelock() == 1 hours, "a shorter timelock waits for the present one");
        VM.warp(block.timestamp + 1 hours);
        require(policies.timelock() == 10, "now it is short");
        policies.setTimelock(1 days);
        require(policies.timelock() == 1 days, "longer at once");
        VM.prank(address(0xbad));
        VM.expectRevert(abi.encodeWithSelector(IPolicyRegistry.NotGuardian.selector, address(0xbad)));
        policies.deny(IPolicyRegistry.Subject.Chip, 0);
    }

    function testFuzz_A_property_that_is_revoked_ends_what_has_it_and_nothing_else(uint8 choice) public {
        IWorkerRegistry.Subject subject = IWorkerRegistry.Subject(1 + choice % 4);
        Certificate memory other = certificate(VM.addr(0x7777));
        other.chip = keccak256("other chip");
        other.measurement = keccak256("other measurement");
        other.root = keccak256("other root");
        CertificateId unaffected = publish(other);
        bytes32 value = subject == IWorkerRegistry.Subject.Worker
            ? bytes32(uint256(uint160(VM.addr(WORKER_KEY))))
            : subject == IWorkerRegistry.Subject.Chip
                ? keccak256("chip")
                : subject == IWorkerRegistry.Subject.Measurement ? keccak256("measurement") : ROOT;
        Receipt memory receipt = blank();
        bytes memory signature = signBy(WORKER_KEY, receipt);
        verifier.inspect(receipt, signature);

        VM.warp(block.timestamp + 7);
        FunctionId[] memory affected = new FunctionId[](1);
        affected[0] = functionId;
        workers.revoke(subject, value, affected);
        require(workers.standing(certificateId).revokedAt == block.timestamp, "since now");
        require(workers.standing(unaffected).revokedAt == 0, "nothing else");
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.Revoked.selector, block.timestamp));
        verifier.inspect(receipt, signature);
        VM.expectRevert(abi.encodeWithSelector(IWorkerRegistry.CertificateRevoked.selector, block.timestamp));
        workers.refresh(certificateId);
        workers.refresh(unaffected);
        require(workers.standing(unaffected).revokedAt == 0, "still nothing else");
        require(functions.keyEpoch(functionId) == 2 && workers.minKeyEpoch(functionId) == 2, "a new key epoch");
        Certificate memory again = certificate(VM.addr(WORKER_KEY));
        again.notAfter += 1;
        VM.expectRevert(abi.encodeWithSelector(IWorkerRegistry.CertificateRevoked.selector, block.timestamp));
        this.publishOutside(again);
    }

    function publishOutside(Certificate calldata value) external {
        bytes32 digest = CertificateId.unwrap(this.idOf(value));
        workers.publish(value, signByGatekeepers(3, digest), "", "");
    }

    function test_A_certificate_revoked_before_it_arrives_is_refused() public {
        Certificate memory value = certificate(VM.addr(0x7778));
        CertificateId id = this.idOf(value);
        workers.revoke(IWorkerRegistry.Subject.Certificate, CertificateId.unwrap(id), new FunctionId[](0));
        VM.expectRevert(abi.encodeWithSelector(IWorkerRegistry.CertificateRevoked.selector, block.timestamp));
        this.publishOutside(value);
    }

    function test_A_receipt_counts_in_its_certificates_time() public {
        Receipt memory receipt = blank();
        bytes memory signature = signBy(WORKER_KEY, receipt);
        uint64 notAfter = workers.standing(certificateId).notAfter;
        uint64 notBefore = workers.standing(certificateId).notBefore;
        VM.warp(notAfter);
        verifier.inspect(receipt, signature);
        VM.warp(notAfter + 1);
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.CertificateEnded.selector, notAfter));
        verifier.inspect(receipt, signature);
        VM.warp(notAfter - 1000);
        receipt.time = notBefore - 1;
        signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.TimeOutOfRange.selector, notBefore - 1));
        verifier.inspect(receipt, signature);
        receipt.time = notAfter - 1000 + 60;
        verifier.inspect(receipt, signBy(WORKER_KEY, receipt));
        receipt.time += 1;
        signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.TimeOutOfRange.selector, receipt.time));
        verifier.inspect(receipt, signature);
    }

    function testFuzz_No_root_counts_by_default(address consumer, bytes32 root) public {
        require(verifier.acceptanceOf(consumer, root) == IReceiptVerifier.Acceptance.No, "none by default");
        Receipt memory receipt = blank();
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.RootNotAccepted.selector, ROOT));
        verifier.verify(consumer, receipt, signature);
        VM.prank(consumer);
        verifier.setRoot(ROOT, IReceiptVerifier.Acceptance.Yes);
        require(verifier.verify(consumer, receipt, signature).worker == VM.addr(WORKER_KEY), "by whom");
    }
}
