// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {StoredAnswers} from "../src/examples/StoredAnswers.sol";
import {IReceiptVerifier} from "../src/interfaces/IReceiptVerifier.sol";
import {IRequestHub} from "../src/interfaces/IRequestHub.sol";
import {ITacitConsumer} from "../src/interfaces/ITacitConsumer.sol";
import {TacitConsumer} from "../src/TacitConsumer.sol";
import {Acknowledgement, CodeHash, Kind, Outcome, Receipt, RequestId} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

/// A consumer that does what it is told in its callback.
contract Misbehaving is TacitConsumer {
    enum Way {
        Quiet,
        Revert,
        BurnGas,
        ReturnBomb,
        FulfilAgain,
        RetryAgain,
        RefundAgain,
        AskAgain
    }

    Way public way;
    bytes public again;
    uint256 public gasGiven;
    bool public reentered;

    constructor(IRequestHub hub_, bytes32[] memory roots) TacitConsumer(hub_, roots) {}

    function behave(Way way_, bytes calldata again_) external {
        (way, again) = (way_, again_);
    }

    function ask(IRequestHub.Request memory r, uint256 fee) external payable returns (RequestId) {
        return _ask(r.functionId, r.codeHash, "m", "{}", r.callbackGas, fee, r.deadline);
    }

    function _onResponse(RequestId id, bytes calldata) internal override {
        gasGiven = gasleft();
        if (way == Way.Revert) revert("no");
        if (way == Way.BurnGas) {
            while (true) gasGiven++;
        }
        if (way == Way.ReturnBomb) {
            assembly {
                revert(0, 1000000)
            }
        }
        bytes memory call = way == Way.RetryAgain
            ? abi.encodeCall(IRequestHub.retry, (id, 0))
            : way == Way.RefundAgain ? abi.encodeCall(IRequestHub.refund, (id)) : again;
        if (way >= Way.FulfilAgain) {
            (reentered,) = address(hub).call(call);
        }
    }
}

contract RequestHubTest is TacitTest {
    Misbehaving private _consumer;

    receive() external payable {}

    function setUp() public {
        deployTacit();
        _consumer = new Misbehaving(hub, roots());
        VM.deal(address(this), 1000 ether);
    }

    function _request(uint64 callbackGas, uint256 fee) private returns (RequestId) {
        IRequestHub.Request memory r;
        r.functionId = functionId;
        r.callbackGas = callbackGas;
        r.deadline = uint64(block.timestamp) + 600;
        return _consumer.ask{value: fee}(r, fee);
    }

    function test_The_id_is_the_hash_of_all_arguments() public {
        uint64 deadline = uint64(block.timestamp) + 600;
        RequestId id = hub.request{value: 5}(functionId, codeHash, "price", "{}", 7, 5, deadline);
        bytes32 expected = keccak256(
            abi.encode(
                block.chainid,
                address(hub),
                address(this),
                uint256(0),
                functionId,
                codeHash,
                "price",
                bytes("{}"),
                uint64(7),
                uint256(5),
                deadline
            )
        );
        require(RequestId.unwrap(id) == expected, "not the id");
        RequestId next = hub.request{value: 5}(functionId, codeHash, "price", "{}", 7, 5, deadline);
        require(next != id, "ids do not repeat");
    }

    function test_Impossible_requests() public {
        uint64 soon = uint64(block.timestamp) + 600;
        CodeHash latest = CodeHash.wrap(0);
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.FeeNotSent.selector, 2, 1));
        hub.request{value: 1}(functionId, latest, "m", "", 0, 2, soon);
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.ImpossibleDeadline.selector, block.timestamp));
        hub.request(functionId, latest, "m", "", 0, 0, uint64(block.timestamp));
        uint64 far = uint64(block.timestamp + 31 days);
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.ImpossibleDeadline.selector, far));
        hub.request(functionId, latest, "m", "", 0, 0, far);
        VM.expectRevert(IRequestHub.TooLarge.selector);
        hub.request(functionId, latest, string(new bytes(65)), "", 0, 0, soon);
        VM.expectRevert(IRequestHub.TooLarge.selector);
        hub.request(functionId, latest, "m", new bytes(32769), 0, 0, soon);
        VM.expectRevert(IRequestHub.TooLarge.selector);
        hub.request(functionId, latest, "m", "", 5_000_001, 0, soon);
    }

    function testFuzz_The_callback_gets_all_it_was_promised_or_nothing_happens(uint64 promised, uint256 given) public {
        promised = 50_000 + promised % 950_000;
        RequestId id = _request(promised, 0);
        Receipt memory receipt = answer(id, "42");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        given = 150_000 + given % 1_400_000;
        (bool done,) =
            address(hub).call{gas: given}(abi.encodeCall(IRequestHub.fulfil, (id, bytes("42"), receipt, signature)));
        IRequestHub.Status status = hub.requestOf(id).status;
        if (!done) {
            require(status == IRequestHub.Status.Open, "too little gas must change nothing");
            return;
        }
        require(status == IRequestHub.Status.Done, "with enough gas the callback succeeds");
        // The dispatch to the callback's first line costs little; the promise is what the call was given.
        require(_consumer.gasGiven() + 3_000 >= promised, "less than promised");
    }

    function testFuzz_No_behaviour_of_a_consumer_blocks_its_answer(uint8 choice) public {
        Misbehaving.Way way = Misbehaving.Way(choice % 8);
        RequestId id = _request(300_000, 1 ether);
        Receipt memory receipt = answer(id, "42");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        bytes memory again = way == Misbehaving.Way.AskAgain
            ? abi.encodeCall(
                IRequestHub.request, (functionId, CodeHash.wrap(0), "m", "", 0, 0, uint64(block.timestamp) + 60)
            )
            : abi.encodeCall(IRequestHub.fulfil, (id, bytes("42"), receipt, signature));
        _consumer.behave(way, again);
        hub.fulfil(id, "42", receipt, signature);
        bool fails = way >= Misbehaving.Way.Revert && way <= Misbehaving.Way.ReturnBomb;
        IRequestHub.Status expected = fails ? IRequestHub.Status.CallbackFailed : IRequestHub.Status.Done;
        require(hub.requestOf(id).status == expected, "status");
        require(keccak256(hub.responseOf(id)) == keccak256("42"), "the response is kept");
        require(_consumer.reentered() == (way == Misbehaving.Way.AskAgain), "no second answer from within");
        // Paid once, whatever the consumer does.
        require(hub.owed(VM.addr(OPERATOR_KEY)) == 1 ether - 0.01 ether, "operator");
        require(hub.owed(address(this)) == 0.01 ether, "deliverer's tip is capped");
        require(address(hub).balance == 1 ether, "coins wait to be fetched");

        if (!fails) return;
        hub.retry(id, 0);
        require(hub.requestOf(id).status == IRequestHub.Status.CallbackFailed, "still failing");
        _consumer.behave(Misbehaving.Way.Quiet, "");
        VM.prank(address(0xa11));
        hub.retry(id, 600_000);
        require(hub.requestOf(id).status == IRequestHub.Status.Done, "anybody may retry, with more gas");
        require(_consumer.gasGiven() > 590_000, "more gas");
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.WrongStatus.selector, id, IRequestHub.Status.Done));
        hub.retry(id, 0);
    }

    function test_Fees_are_fetched_never_sent() public {
        RequestId id = _request(0, 1 ether);
        fulfil(id, "42");
        address operator = VM.addr(OPERATOR_KEY);
        VM.prank(operator);
        hub.withdraw(payable(address(0xbeef)));
        require(address(0xbeef).balance == 0.99 ether, "operator's coins");
        VM.prank(operator);
        VM.expectRevert(IRequestHub.NothingOwed.selector);
        hub.withdraw(payable(operator));
        VM.expectRevert(IRequestHub.TransferFailed.selector);
        hub.withdraw(payable(address(functions)));
        hub.withdraw(payable(address(this)));
        require(address(hub).balance == 0, "nothing is left behind");
    }

    function testFuzz_A_response_of_another_length_or_content_is_not_the_answer(bytes memory response) public {
        RequestId id = _request(0, 0);
        if (keccak256(response) == keccak256("42")) return;
        Receipt memory receipt = answer(id, "42");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.NotTheAnswer.selector, "response"));
        hub.fulfil(id, response, receipt, signature);
    }

    function test_A_response_has_a_greatest_length() public {
        RequestId id = _request(0, 0);
        bytes memory response = new bytes(8193);
        Receipt memory receipt = answer(id, response);
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(IRequestHub.TooLarge.selector);
        hub.fulfil(id, response, receipt, signature);
    }

    function test_Only_the_hub_calls_back() public {
        VM.expectRevert(abi.encodeWithSelector(ITacitConsumer.NotTheHub.selector, address(this)));
        _consumer.onResponse(RequestId.wrap(0), "");
    }

    function test_A_request_for_one_version_is_answered_by_it_alone() public {
        uint64 deadline = uint64(block.timestamp) + 600;
        verifier.setRoot(ROOT, IReceiptVerifier.Acceptance.Yes);
        RequestId id = hub.request(functionId, CodeHash.wrap(keccak256("other")), "m", "", 0, 0, deadline);
        Receipt memory receipt = answer(id, "42");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IRequestHub.NotTheAnswer.selector, "codeHash"));
        hub.fulfil(id, "42", receipt, signature);
        id = hub.request(functionId, codeHash, "m", "", 0, 0, deadline);
        fulfil(id, "42");
    }

    function test_Publications_rise() public {
        StoredAnswers stored = new StoredAnswers(hub, roots());
        stored.setPublisher(functionId, CodeHash.wrap(0), true);
        publishTo(stored, "topic", 3, "a");
        require(keccak256(stored.published(functionId, "topic")) == keccak256("a"), "kept");
        require(stored.lastSequence(functionId, "topic") == 3, "sequence");
        Receipt memory receipt = publication(address(stored), "topic", 3, "b");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(ITacitConsumer.SequenceNotRising.selector, 3, 3));
        stored.onPublish("topic", 3, "b", receipt, signature);
        publishTo(stored, "topic", 4, "b");
        receipt = publication(address(stored), "topic", 5, "c");
        signature = signBy(WORKER_KEY + 1, receipt);
        try stored.onPublish("topic", 5, "c", receipt, signature) {
            revert("a stranger published");
        } catch {}
        require(stored.lastSequence(functionId, "topic") == 4, "a refusal changes nothing");
    }

    function _refused(ITacitConsumer consumer, Publication memory p, bytes memory signature, bytes4 expected) private {
        try consumer.onPublish(p.topic, p.sequence, p.data, p.receipt, signature) {
            revert("it was taken");
        } catch (bytes memory reason) {
            // The first four bytes are the error's name.
            require(bytes4(reason) == expected, "another refusal");
        }
    }

    struct Publication {
        string topic;
        uint64 sequence;
        bytes data;
        Receipt receipt;
    }

    function test_Every_part_of_a_publication_is_checked() public {
        StoredAnswers stored = new StoredAnswers(hub, roots());
        StoredAnswers other = new StoredAnswers(hub, roots());
        Publication memory good = Publication("topic", 7, "data", publication(address(stored), "topic", 7, "data"));
        bytes memory signature = signBy(WORKER_KEY, good.receipt);
        bytes4 refusal = ITacitConsumer.NotThePublication.selector;
        _refused(stored, good, signature, ITacitConsumer.NotAPublisher.selector);
        stored.setPublisher(functionId, CodeHash.wrap(0), true);
        other.setPublisher(functionId, CodeHash.wrap(0), true);
        _refused(other, good, signature, refusal);
        _refused(stored, Publication("topik", 7, "data", good.receipt), signature, refusal);
        _refused(stored, Publication("topic", 8, "data", good.receipt), signature, refusal);
        _refused(stored, Publication("topic", 7, "datum", good.receipt), signature, refusal);

        Publication memory changed = Publication("topic", 7, "data", publication(address(stored), "topic", 7, "data"));
        changed.receipt.kind = Kind.COMMAND;
        _refused(stored, changed, signBy(WORKER_KEY, changed.receipt), refusal);
        changed.receipt.kind = Kind.PUBLISH;
        changed.receipt.outcome = Outcome.THROWN;
        _refused(stored, changed, signBy(WORKER_KEY, changed.receipt), refusal);
        changed.receipt.outcome = Outcome.OK;
        changed.receipt.codeHash = CodeHash.wrap(keccak256("another version"));
        _refused(stored, changed, signBy(WORKER_KEY, changed.receipt), refusal);
        // Any change of the receipt without the worker's key.
        changed.receipt.codeHash = codeHash;
        changed.receipt.time += 1;
        _refused(stored, changed, signature, IReceiptVerifier.WrongWorker.selector);
        require(stored.lastSequence(functionId, "topic") == 0, "a refusal changes nothing");
        stored.onPublish("topic", 7, "data", good.receipt, signature);
        require(stored.lastSequence(functionId, "topic") == 7, "taken");
    }

    function test_A_consumer_may_want_publications_acknowledged() public {
        StoredAnswers stored = new StoredAnswers(hub, roots());
        stored.setPublisher(functionId, CodeHash.wrap(0), true);
        stored.setRoot(ROOT, IReceiptVerifier.Acceptance.OnlyAcknowledged);
        Receipt memory receipt = publication(address(stored), "topic", 1, "data");
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(IReceiptVerifier.AcknowledgementNeeded.selector));
        stored.onPublish("topic", 1, "data", receipt, signature);
        // Another receipt's acknowledgement is none.
        Acknowledgement memory other = acknowledge(blank(), 7);
        try stored.onPublishAcknowledged("topic", 1, "data", receipt, signature, other) {
            revert("it was taken");
        } catch {}
        require(stored.lastSequence(functionId, "topic") == 0, "a refusal changes nothing");
        stored.onPublishAcknowledged("topic", 1, "data", receipt, signature, acknowledge(receipt, 7));
        require(keccak256(stored.published(functionId, "topic")) == keccak256("data"), "kept");
        Acknowledgement memory again = acknowledge(receipt, 7);
        VM.expectRevert(abi.encodeWithSelector(ITacitConsumer.SequenceNotRising.selector, 1, 1));
        stored.onPublishAcknowledged("topic", 1, "data", receipt, signature, again);
    }
}
