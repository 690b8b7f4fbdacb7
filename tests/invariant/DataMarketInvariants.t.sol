// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketHandler as Handler } from "./DataMarketHandler.sol";
import { TestBase, vm } from "./TestBase.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { DataMarket } from "contracts/market/DataMarket.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title DataMarketInvariants
/// @notice DM-1, 2, 3, 6 and 7 of the market's design after every call of a random history.
contract DataMarketInvariants is TestBase {
    uint256 private constant ACTORS = 4;
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    Handler internal handler;
    DataMarket internal market;

    function setUp() public {
        handler = new Handler();
        market = DataMarket(handler.marketAddress());
        targetContract(address(handler));
        bytes4[] memory often = new bytes4[](9);
        often[0] = Handler.sell.selector;
        often[1] = Handler.buy.selector;
        often[2] = Handler.reveal.selector;
        often[3] = Handler.settle.selector;
        often[4] = Handler.dispute.selector;
        often[5] = Handler.sellOn.selector;
        often[6] = Handler.buyResale.selector;
        often[7] = Handler.settleResale.selector;
        often[8] = Handler.passTime.selector;
        bytes4[] memory oftenest = new bytes4[](3);
        oftenest[0] = Handler.buy.selector;
        oftenest[1] = Handler.buy.selector;
        oftenest[2] = Handler.reveal.selector;
        bytes4[] memory seldom = new bytes4[](8);
        seldom[0] = Handler.list.selector;
        seldom[1] = Handler.cancel.selector;
        seldom[2] = Handler.cancelResale.selector;
        seldom[3] = Handler.refund.selector;
        seldom[4] = Handler.deposit.selector;
        seldom[5] = Handler.withdraw.selector;
        seldom[6] = Handler.donate.selector;
        seldom[7] = Handler.give.selector;
        targetSelector(address(handler), often);
        targetSelector(address(handler), often);
        targetSelector(address(handler), oftenest);
        targetSelector(address(handler), seldom);
    }

    /// @notice The contract's balance of each token is held prices, locked bonds and credits, to the unit, and what was
    /// sent to it unasked.
    function invariant_DM1_balances_cover_what_is_owed() public view {
        _assertPredicted();
        DevDollar[2] memory tokens = handler.tokens();
        uint256[2] memory owed;
        for (uint256 i = 0; i < handler.orderCount(); ++i) {
            (Handler.OrderModel memory made,) = handler.modelAt(i);
            (IDataMarket.OrderState state,) = market.orderOf(made.id);
            if (state != IDataMarket.OrderState.Paid && state != IDataMarket.OrderState.Revealed) continue;
            owed[made.token == address(tokens[0]) ? 0 : 1] += made.held;
        }
        for (uint256 i = 0; i < 2; ++i) {
            for (uint256 j = 0; j < ACTORS; ++j) {
                owed[i] += market.creditOf(handler.actor(j), address(tokens[i]));
            }
            uint256 balance = tokens[i].balanceOf(address(market));
            assertEq(balance, owed[i] + handler.donated(address(tokens[i])), "balance");
        }
    }

    /// @notice An order ends once at most and then stays as it ended; what its end pays is what the model pays, to one
    /// party.
    function invariant_DM2_orders_end_once_and_pay_one_party() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.orderCount(); ++i) {
            (Handler.OrderModel memory made,) = handler.modelAt(i);
            (IDataMarket.OrderState state, uint40 deadline) = market.orderOf(made.id);
            assertEq(uint256(state), uint256(made.state), "state");
            assertEq(uint256(deadline), made.deadline, "deadline");
            bool isEnded = state == IDataMarket.OrderState.Settled || state == IDataMarket.OrderState.Refunded;
            assertEq(made.endings, isEnded ? 1 : 0, "endings");
        }
        DevDollar[2] memory tokens = handler.tokens();
        for (uint256 i = 0; i < 2; ++i) {
            for (uint256 j = 0; j < ACTORS; ++j) {
                (address account, address token) = (handler.actor(j), address(tokens[i]));
                assertEq(market.creditOf(account, token), handler.creditModel(account, token), "credit");
            }
        }
    }

    /// @notice Where a key was revealed, κ'G − Q = M: what is left of κ' without κ is the buyer's scalar.
    function invariant_DM3_revealed_keys_fit_their_masks() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.orderCount(); ++i) {
            (Handler.OrderModel memory made, uint256 contentKey) = handler.modelAt(i);
            if (made.releasedKey == 0) continue;
            assertEq(vm.addr(addmod(made.releasedKey, N - contentKey, N)), made.mask, "mask");
        }
    }

    /// @notice Whoever comes after the deadline ends a Paid or a Revealed order.
    /// @dev One open order after every call; at a run's end all of them.
    function invariant_DM6_anyone_ends_an_order_after_its_deadline() public {
        _assertPredicted();
        uint256 count = handler.orderCount();
        for (uint256 i = 0; i < count; ++i) {
            if (_endsAfterItsDeadline((count + i * 7) % count)) return;
        }
    }

    function afterInvariant() public {
        for (uint256 i = 0; i < handler.orderCount(); ++i) {
            _endsAfterItsDeadline(i);
        }
    }

    /// @notice Tokens of an offer are its settled first sales, those in custody included; its copies never exceed its
    /// supply; its slot, and every resale's, are the model's.
    function invariant_DM7_tokens_are_settled_sales_and_copies_within_supply() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.offerCount(); ++i) {
            Handler.OfferModel memory model = handler.offerAt(i);
            uint256 held = market.balanceOf(address(market), uint256(model.id));
            for (uint256 j = 0; j < ACTORS; ++j) {
                held += market.balanceOf(handler.actor(j), uint256(model.id));
            }
            assertEq(held, model.settled, "tokens");
            (bool isListed, bool isCancelled, uint32 copies) = market.offerOf(model.id);
            assertEq(isListed, model.listed, "listed");
            assertEq(isCancelled, model.cancelled, "cancelled");
            assertEq(uint256(copies), model.copies, "copies");
            assertLe(model.settled, copies, "settled copies");
            if (model.offer.supply != 0) assertLe(copies, model.offer.supply, "supply");
        }
        for (uint256 i = 0; i < handler.resaleCount(); ++i) {
            (bytes32 id, bool listed, bool cancelled, bool taken) = handler.resaleAt(i);
            (bool isListed, bool isCancelled, bool isTaken) = market.resaleOf(id);
            assertEq(isListed, listed, "listed resale");
            assertEq(isCancelled, cancelled, "cancelled resale");
            assertEq(isTaken, taken, "taken resale");
        }
    }

    function _endsAfterItsDeadline(uint256 i) private returns (bool) {
        (Handler.OrderModel memory made,) = handler.modelAt(i);
        (IDataMarket.OrderState state, uint40 deadline) = market.orderOf(made.id);
        bool isPaid = state == IDataMarket.OrderState.Paid;
        if (!isPaid && state != IDataMarket.OrderState.Revealed) return false;
        IDataMarket.Order memory order = handler.orderAt(i);
        uint256 before = vm.snapshotState();
        if (vm.getBlockTimestamp() < deadline) vm.warp(deadline);
        IDataMarket.Row memory row = IDataMarket.Row(order.buyer, order.mask, order.ephemeralX, order.ephemeralY);
        IDataMarket.Row[] memory rows = new IDataMarket.Row[](1);
        rows[0] = row;
        vm.startPrank(address(0xA11));
        if (isPaid) market.refund(order);
        else if (order.resale.holder == address(0)) market.settle(order.offer, rows);
        else market.settleResale(order.offer, order.resale, row);
        vm.stopPrank();
        (state,) = market.orderOf(made.id);
        IDataMarket.OrderState expected = isPaid ? IDataMarket.OrderState.Refunded : IDataMarket.OrderState.Settled;
        assertEq(uint256(state), uint256(expected), "ended");
        assertTrue(vm.revertToState(before), "revert");
        return true;
    }

    function _assertPredicted() private view {
        assertEq(handler.surprisingCall(), "", "a surprising call");
        assertEq(handler.surprises(), 0, "surprises");
    }
}
