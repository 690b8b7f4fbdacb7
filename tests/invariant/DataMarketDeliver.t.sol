// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC1155 } from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title DataMarketDeliverTest
/// @notice `reveal` and `settle`, guard by guard.
contract DataMarketDeliverTest is DataMarketKit {
    /* reveal */

    function test_reveal__when_key_is_right__opens_the_dispute_window() public {
        IDataMarket.Order memory order = paid(blobOffer());
        bytes32 id = market.orderId(order);
        uint256 releasedKey = releasedKeyOf(order, 1);
        vm.warp(START + 100);
        uint40 deadline = uint40(START + 100 + DISPUTE_WINDOW);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderRevealed(id, releasedKey, deadline);
        vm.prank(seller);
        market.reveal(order, releasedKey);

        assertOrder(id, IDataMarket.OrderState.Revealed, deadline);
        assertCopies(order.offer, 1);
        assertTokens(buyer, order.offer, 0);
        assertCredit(seller, 0);
    }

    /// @dev The buyer takes its scalar off again and holds the content key.
    function testFuzz_reveal__when_buyer_unmasks_it__is_the_content_key(uint256 ephemeral) public {
        ephemeral = bound(ephemeral, 1, SECP256K1_N - 1);
        IDataMarket.Order memory order = orderOf(listed(blobOffer()), buyer, ephemeral);
        pay(order, "");
        uint256 releasedKey = releasedKeyOf(order, ephemeral);
        vm.prank(seller);
        market.reveal(order, releasedKey);
        uint256 m = maskScalarOf(order, ephemeral);
        assertEq(addmod(releasedKey, SECP256K1_N - m, SECP256K1_N), CONTENT_KEY, "content key");
    }

    function test_reveal__when_caller_is_not_the_seller__reverts() public {
        IDataMarket.Order memory order = paid(blobOffer());
        uint256 releasedKey = releasedKeyOf(order, 1);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotSeller.selector, buyer, seller));
        vm.prank(buyer);
        market.reveal(order, releasedKey);
    }

    function test_reveal__when_key_is_another__reverts() public {
        IDataMarket.Order memory order = paid(blobOffer());
        uint256 releasedKey = releasedKeyOf(order, 1);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.ReleasedKeyInvalid.selector, market.orderId(order)));
        vm.prank(seller);
        market.reveal(order, releasedKey - 1);
    }

    function test_reveal__when_order_is_not_paid__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        _assertNotPaid(order, IDataMarket.OrderState.None);
        pay(order, "");
        deliver(order, 1);
        _assertNotPaid(order, IDataMarket.OrderState.Revealed);
        vm.prank(buyer);
        market.settle(offer, rowsOf(order));
        _assertNotPaid(order, IDataMarket.OrderState.Settled);
        order = paid(blobOffer());
        vm.prank(seller);
        market.refund(order);
        _assertNotPaid(order, IDataMarket.OrderState.Refunded);
    }

    function test_reveal__when_deadline_is_reached__reverts() public {
        IDataMarket.Order memory order = paid(blobOffer());
        uint256 deadline = START + REVEAL_WINDOW;
        uint256 releasedKey = releasedKeyOf(order, 1);
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        vm.prank(seller);
        market.reveal(order, releasedKey);

        vm.warp(deadline - 1);
        deliver(order, 1);
    }

    function _assertNotPaid(IDataMarket.Order memory order, IDataMarket.OrderState state) private {
        uint256 releasedKey = releasedKeyOf(order, 1);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, market.orderId(order), state));
        vm.prank(seller);
        market.reveal(order, releasedKey);
    }

    /* settle */

    function test_settle__when_window_is_over__pays_the_seller_and_mints() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.bond = 70_000;
        fundBond(seller, 70_000);
        IDataMarket.Order memory order = revealed(offer);
        bytes32 id = market.orderId(order);
        uint256 deadline = START + DISPUTE_WINDOW;
        vm.warp(deadline);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderSettled(id);
        vm.expectEmit(address(market));
        emit IERC1155.TransferSingle(stranger, address(0), buyer, uint256(market.offerId(offer)), 1);
        vm.expectEmit(address(market));
        emit ICredits.Credited(seller, address(dollar), PRICE + 70_000);
        vm.prank(stranger);
        market.settle(offer, rowsOf(order));

        assertOrder(id, IDataMarket.OrderState.Settled, deadline);
        assertTokens(buyer, offer, 1);
        assertCredit(seller, PRICE + 70_000);
        assertCopies(offer, 1);
    }

    function test_settle__when_buyer_agrees__needs_no_deadline() public {
        IDataMarket.Order memory order = revealed(blobOffer());
        vm.prank(buyer);
        market.settle(order.offer, rowsOf(order));
        assertState(order, IDataMarket.OrderState.Settled);
    }

    function test_settle__when_window_is_open__skips_the_row() public {
        IDataMarket.Order memory order = revealed(blobOffer());
        vm.warp(START + DISPUTE_WINDOW - 1);
        address[2] memory others = [seller, stranger];
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(others[i]);
            market.settle(order.offer, rowsOf(order));
            assertState(order, IDataMarket.OrderState.Revealed);
        }
        assertCredit(seller, 0);
        vm.warp(START + DISPUTE_WINDOW);
        vm.prank(stranger);
        market.settle(order.offer, rowsOf(order));
        assertState(order, IDataMarket.OrderState.Settled);
    }

    /// @dev Whatever is in between: a row twice, an order of nobody, one that is paid, one that was refunded.
    function test_settle__when_some_rows_cannot_be_settled__settles_the_others() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order[] memory orders = new IDataMarket.Order[](5);
        for (uint256 i = 0; i < 5; ++i) {
            orders[i] = orderOf(offer, i % 2 == 0 ? buyer : third, i + 1);
            if (i != 1) pay(orders[i], "");
        }
        deliver(orders[0], 1);
        deliver(orders[4], 5);
        vm.prank(seller);
        market.refund(orders[3]);
        vm.warp(START + DISPUTE_WINDOW);

        IDataMarket.Row[] memory rows = new IDataMarket.Row[](7);
        for (uint256 i = 0; i < 5; ++i) {
            rows[i] = rowOf(orders[i]);
        }
        rows[5] = rows[0];
        rows[6] = rows[4];
        vm.prank(stranger);
        market.settle(offer, rows);

        assertState(orders[0], IDataMarket.OrderState.Settled);
        assertState(orders[1], IDataMarket.OrderState.None);
        assertState(orders[2], IDataMarket.OrderState.Paid);
        assertState(orders[3], IDataMarket.OrderState.Refunded);
        assertState(orders[4], IDataMarket.OrderState.Settled);
        assertCredit(seller, 2 * PRICE);
        assertTokens(buyer, offer, 2);
        assertTokens(third, offer, 0);
        assertCopies(offer, 3);
    }

    /// @dev One buyer's agreement is not another's.
    function test_settle__when_buyer_agrees_for_another__skips_that_row() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        pay(order, "");
        deliver(order, 1);
        vm.prank(third);
        market.settle(offer, rowsOf(order));
        assertState(order, IDataMarket.OrderState.Revealed);
    }

    function test_settle__when_rows_are_none__does_nothing() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.recordLogs();
        market.settle(offer, new IDataMarket.Row[](0));
        assertEq(vm.getRecordedLogs().length, 0, "events");
    }
}
