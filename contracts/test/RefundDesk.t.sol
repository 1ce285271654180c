// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {RefundDesk} from "examples/refund-desk/RefundDesk.sol";
import {ITacitConsumer} from "../src/interfaces/ITacitConsumer.sol";
import {CodeHash, Receipt, RequestId} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

/// @notice A buyer that takes no money until it is told to.
contract Reluctant {
    bool public takes;

    receive() external payable {
        require(takes, "not now");
    }

    function pay(RefundDesk desk, bytes32 order) external payable {
        desk.pay{value: msg.value}(order);
    }

    function take(RefundDesk desk) external {
        takes = true;
        desk.withdraw();
    }
}

contract RefundDeskTest is TacitTest {
    bytes32 private constant ORDER = bytes32(uint256(42));
    address private constant BUYER = address(0xb0b);

    RefundDesk private _desk;

    function setUp() public {
        deployTacit();
        _desk = new RefundDesk(hub, functionId, codeHash, roots());
        VM.deal(BUYER, 10 ether);
        VM.prank(BUYER);
        _desk.pay{value: 3 ether}(ORDER);
    }

    function test_A_refund_goes_to_whoever_paid_once() public {
        publishTo(_desk, "refund", 1, abi.encode(ORDER));
        require(BUYER.balance == 10 ether && _desk.orderOf(ORDER).refunded, "not paid back");
        VM.deal(address(_desk), 5 ether);
        publishTo(_desk, "refund", 2, abi.encode(ORDER));
        require(BUYER.balance == 10 ether && address(_desk).balance == 5 ether, "paid twice");
    }

    function test_Other_words_move_no_money() public {
        publishTo(_desk, "thanks", 1, abi.encode(ORDER));
        publishTo(_desk, "refund", 1, abi.encode(bytes32(uint256(43))));
        publishTo(_desk, "refund", 2, abi.encode(ORDER, ORDER));
        publishTo(_desk, "refund", 3, "");
        require(BUYER.balance == 7 ether && address(_desk).balance == 3 ether, "money moved");
        publishTo(_desk, "refund", 4, abi.encode(ORDER));
        require(BUYER.balance == 10 ether, "held up");
    }

    function test_An_order_is_paid_once_and_with_money() public {
        VM.expectRevert(abi.encodeWithSelector(RefundDesk.NotPayable.selector, ORDER));
        _desk.pay{value: 1}(ORDER);
        VM.expectRevert(abi.encodeWithSelector(RefundDesk.NotPayable.selector, bytes32(uint256(7))));
        _desk.pay(bytes32(uint256(7)));
    }

    function test_What_a_buyer_does_not_take_waits_for_it() public {
        Reluctant buyer = new Reluctant();
        bytes32 order = bytes32(uint256(9));
        buyer.pay{value: 2 ether}(_desk, order);
        publishTo(_desk, "refund", 1, abi.encode(order));
        require(_desk.owed(address(buyer)) == 2 ether, "not owed");
        buyer.take(_desk);
        require(address(buyer).balance == 2 ether && _desk.owed(address(buyer)) == 0, "not taken");
        VM.expectRevert(abi.encodeWithSelector(RefundDesk.NothingPaid.selector, address(this)));
        _desk.withdraw();
    }

    function test_Only_the_one_version_of_the_function_counts() public {
        RefundDesk strict = new RefundDesk(hub, functionId, CodeHash.wrap(keccak256("another version")), roots());
        Receipt memory receipt = publication(address(strict), "refund", 1, abi.encode(ORDER));
        bytes memory signature = signBy(WORKER_KEY, receipt);
        VM.expectRevert(abi.encodeWithSelector(ITacitConsumer.NotThePublication.selector, "codeHash"));
        strict.onPublish("refund", 1, abi.encode(ORDER), receipt, signature);
    }

    function test_It_asks_nobody() public {
        VM.prank(address(hub));
        VM.expectPartialRevert(RefundDesk.NeverAsked.selector);
        _desk.onResponse(RequestId.wrap(bytes32(uint256(1))), "");
    }
}
