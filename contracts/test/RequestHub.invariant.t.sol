// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {StoredAnswers} from "../src/examples/StoredAnswers.sol";
import {IRequestHub} from "../src/interfaces/IRequestHub.sol";
import {CodeHash, Receipt, RequestId} from "../src/types/Types.sol";
import {TacitTest} from "./TacitTest.sol";
import {VM} from "./Vm.sol";

/// Does anything that anybody may do with the hub, in any order, and remembers what came of it.
contract Everybody is TacitTest {
    StoredAnswers[2] private _consumers;
    RequestId[] public ids;
    mapping(RequestId => IRequestHub.Status) public last;
    mapping(RequestId => uint256) public answers;
    bool public wentBack;
    uint256 public paidOut;
    uint256 public paidIn;

    receive() external payable {}

    /// Once; not in the constructor, because the base calls itself.
    function begin() external {
        if (address(hub) != address(0)) return;
        deployTacit();
        _consumers[0] = new StoredAnswers(hub, roots());
        _consumers[1] = new StoredAnswers(hub, roots());
        VM.deal(address(this), 1_000_000 ether);
    }

    function theHub() external view returns (IRequestHub) {
        return hub;
    }

    function payees() external view returns (address[4] memory) {
        return [VM.addr(OPERATOR_KEY), address(this), address(_consumers[0]), address(_consumers[1])];
    }

    function count() external view returns (uint256) {
        return ids.length;
    }

    function ask(uint256 who, uint64 callbackGas, uint96 fee, uint16 wait) external {
        uint64 deadline = uint64(block.timestamp) + 1 + wait;
        RequestId id =
            _consumers[who % 2].ask{value: fee}(functionId, CodeHash.wrap(0), "m", "", callbackGas % 500_000, deadline);
        ids.push(id);
        last[id] = IRequestHub.Status.Open;
        paidIn += fee;
    }

    function answerOne(uint256 which, bytes calldata response) external {
        if (ids.length == 0) return;
        RequestId id = ids[which % ids.length];
        Receipt memory receipt = answer(id, response);
        try hub.fulfil(id, response, receipt, signBy(WORKER_KEY, receipt)) {
            ++answers[id];
        } catch {}
        _watch(id);
    }

    function retryOne(uint256 which, uint64 gasToo) external {
        if (ids.length == 0) return;
        RequestId id = ids[which % ids.length];
        try hub.retry(id, gasToo % 1_000_000) {} catch {}
        _watch(id);
    }

    function refundOne(uint256 which) external {
        if (ids.length == 0) return;
        RequestId id = ids[which % ids.length];
        try hub.refund(id) {} catch {}
        _watch(id);
    }

    function pause(uint256 who, bool paused) external {
        _consumers[who % 2].setPaused(paused);
    }

    function withdraw(uint256 who) external {
        address payee = this.payees()[who % 4];
        uint256 owed = hub.owed(payee);
        VM.prank(payee);
        try hub.withdraw(payable(address(0xdead))) {
            paidOut += owed;
        } catch {}
    }

    function pass(uint16 seconds_) external {
        VM.warp(block.timestamp + seconds_ % 4000);
    }

    /// Open → Done | CallbackFailed | Refunded, CallbackFailed → Done, and nothing else.
    function _watch(RequestId id) private {
        IRequestHub.Status before = last[id];
        IRequestHub.Status now_ = hub.requestOf(id).status;
        bool possible = now_ == before || before == IRequestHub.Status.Open
            || (before == IRequestHub.Status.CallbackFailed && now_ == IRequestHub.Status.Done);
        if (!possible) wentBack = true;
        last[id] = now_;
    }
}

contract RequestHubInvariants {
    Everybody private _everybody;

    function setUp() public {
        _everybody = new Everybody();
        _everybody.begin();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_everybody);
    }

    /// Every coin in the hub belongs to somebody, and nobody is owed a coin that is not there.
    function invariant_Coins_are_accounted_for() public view {
        IRequestHub hub = _everybody.theHub();
        uint256 sum = 0;
        address[4] memory payees = _everybody.payees();
        for (uint256 i = 0; i < 4; ++i) {
            sum += hub.owed(payees[i]);
        }
        uint256 count = _everybody.count();
        for (uint256 i = 0; i < count; ++i) {
            IRequestHub.Request memory r = hub.requestOf(_everybody.ids(i));
            if (r.status == IRequestHub.Status.Open) sum += r.fee;
        }
        require(address(hub).balance == sum, "coins without an owner, or owners without coins");
        require(_everybody.paidIn() == sum + _everybody.paidOut(), "coins made or lost");
    }

    /// A request is answered at most once and its status never goes back.
    function invariant_One_answer_each() public view {
        require(!_everybody.wentBack(), "a status went back");
        uint256 count = _everybody.count();
        for (uint256 i = 0; i < count; ++i) {
            require(_everybody.answers(_everybody.ids(i)) <= 1, "answered twice");
        }
    }
}
