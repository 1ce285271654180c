// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRequestHub} from "tacit/interfaces/IRequestHub.sol";
import {TacitConsumer} from "tacit/TacitConsumer.sol";
import {CodeHash, FunctionId, RequestId} from "tacit/types/Types.sol";

/// @title RefundDesk
/// @notice Holds what buyers paid, and pays an order back when a function publishes that its buyer has reason to complain. It
/// never learns what the buyer wrote. Money can only go to whoever paid it, once.
contract RefundDesk is TacitConsumer {
    /// @notice What is known of an order.
    struct Order {
        address buyer;
        uint96 price;
        bool refunded;
    }

    /// @notice The topic under which refunds are published.
    string public constant TOPIC = "refund";
    /// @notice Gas that a buyer's account gets to take its money.
    uint256 public constant STIPEND = 30_000;

    mapping(bytes32 order => Order) private _orders;

    /// @notice What could not be paid out and waits for its owner.
    mapping(address buyer => uint256) public owed;

    /// @notice An order was paid.
    event Paid(bytes32 indexed order, address indexed buyer, uint256 price);
    /// @notice An order was paid back; `taken` is false where the money waits in `owed`.
    event Refunded(bytes32 indexed order, address indexed buyer, uint256 price, bool taken);
    /// @notice A publication about no order that could be paid back.
    event Ignored(bytes data);

    /// @notice An order is paid once, with some money.
    error NotPayable(bytes32 order);
    /// @notice There is nothing to withdraw, or it could not be paid out.
    error NothingPaid(address account);
    /// @notice This contract asks nobody.
    error NeverAsked(RequestId id);

    /// @param functionId The function whose word counts.
    /// @param codeHash The one version of it that counts.
    /// @param roots Roots of trust whose workers count; none by default.
    constructor(IRequestHub hub_, FunctionId functionId, CodeHash codeHash, bytes32[] memory roots)
        TacitConsumer(hub_, roots)
    {
        _setPublisher(functionId, codeHash, true);
    }

    /// @notice Pays for an order.
    function pay(bytes32 order) external payable {
        bool fits = msg.value > 0 && msg.value <= type(uint96).max;
        require(fits && _orders[order].buyer == address(0), NotPayable(order));
        _orders[order] = Order({buyer: msg.sender, price: uint96(msg.value), refunded: false});
        emit Paid(order, msg.sender, msg.value);
    }

    /// @notice Takes what could not be paid out.
    function withdraw() external {
        uint256 amount = owed[msg.sender];
        owed[msg.sender] = 0;
        bool taken = false;
        if (amount > 0) (taken,) = msg.sender.call{value: amount}("");
        require(taken, NothingPaid(msg.sender));
    }

    /// @notice What is known of an order.
    function orderOf(bytes32 order) external view returns (Order memory) {
        return _orders[order];
    }

    function _onPublish(FunctionId, string calldata topic, uint64, bytes calldata data) internal override {
        bytes32 order = data.length == 32 ? bytes32(data) : bytes32(0);
        Order storage found = _orders[order];
        bool isRefund = keccak256(bytes(topic)) == keccak256(bytes(TOPIC)) && data.length == 32;
        // What is published cannot be taken back: refusing it would only hold up what follows.
        if (!isRefund || found.buyer == address(0) || found.refunded) {
            emit Ignored(data);
            return;
        }
        found.refunded = true;
        (address buyer, uint256 price) = (found.buyer, found.price);
        (bool taken,) = buyer.call{value: price, gas: STIPEND}("");
        if (!taken) owed[buyer] += price;
        emit Refunded(order, buyer, price, taken);
    }

    function _onResponse(RequestId id, bytes calldata) internal pure override {
        revert NeverAsked(id);
    }
}
