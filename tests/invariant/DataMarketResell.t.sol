// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC1155 } from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title DataMarketResellTest
/// @notice The order machine once more, between a holder and the next buyer, guard by guard.
contract DataMarketResellTest is DataMarketKit {
    uint128 private constant RESALE_PRICE = 300_001;
    uint128 private constant ROYALTY = 15_000;

    /* listResale */

    function test_listResale__when_holder_lists__lists_it_again_and_again() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _held();
        bytes32 id = market.resaleId(resale);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectEmit(address(market));
            emit IDataMarket.ResaleListed(id, resale.offerId, buyer, resale, URI);
            vm.prank(buyer);
            market.listResale(offer, resale, URI);
        }
        (bool isListed, bool isCancelled, bool isTaken) = market.resaleOf(id);
        assertTrue(isListed, "listed");
        assertFalse(isCancelled, "cancelled");
        assertFalse(isTaken, "taken");
    }

    function test_listResale__when_caller_is_not_the_holder__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _held();
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotHolder.selector, seller, buyer));
        vm.prank(seller);
        market.listResale(offer, resale, URI);
    }

    function test_listResale__when_expiry_is_reached__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _held();
        vm.warp(resale.expiry);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleExpired.selector, resale.expiry, resale.expiry));
        vm.prank(buyer);
        market.listResale(offer, resale, URI);
    }

    function test_listResale__when_offer_is_another__reverts() public {
        (, IDataMarket.Resale memory resale) = _held();
        IDataMarket.Offer memory other = blobOffer();
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.ResaleOfOtherOffer.selector, resale.offerId, market.offerId(other))
        );
        vm.prank(buyer);
        market.listResale(other, resale, URI);
    }

    function test_listResale__when_holder_has_no_token__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Resale memory resale = resaleOf(offer, buyer);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.HolderHasNoToken.selector, buyer, resale.offerId));
        vm.prank(buyer);
        market.listResale(offer, resale, URI);
    }

    function test_listResale__when_cancelled__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _held();
        bytes32 id = market.resaleId(resale);
        vm.startPrank(buyer);
        market.cancelResale(resale);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id));
        market.listResale(offer, resale, URI);
        vm.stopPrank();
    }

    /* cancelResale */

    function test_cancelResale__when_holder_cancels__cancels() public {
        (, IDataMarket.Resale memory resale) = _held();
        vm.expectEmit(address(market));
        emit IDataMarket.ResaleCancelled(market.resaleId(resale));
        vm.prank(buyer);
        market.cancelResale(resale);
        (, bool isCancelled,) = market.resaleOf(market.resaleId(resale));
        assertTrue(isCancelled, "cancelled");
    }

    function test_cancelResale__when_caller_is_not_the_holder__reverts() public {
        (, IDataMarket.Resale memory resale) = _held();
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotHolder.selector, stranger, buyer));
        vm.prank(stranger);
        market.cancelResale(resale);
    }

    function test_cancelResale__when_cancelled_before__reverts() public {
        (, IDataMarket.Resale memory resale) = _held();
        bytes32 id = market.resaleId(resale);
        vm.startPrank(buyer);
        market.cancelResale(resale);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id));
        market.cancelResale(resale);
        vm.stopPrank();
    }

    /* buyResale */

    function test_buyResale__when_listed__takes_price_and_token_into_custody() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        IDataMarket.Order memory order = orderOf(offer, resale, third, 2);
        uint40 deadline = uint40(START + REVEAL_WINDOW);
        bytes32 id = market.orderId(order);
        bytes32 saleId = market.resaleId(resale);
        vm.expectEmit(address(market));
        emit IERC1155.TransferSingle(third, buyer, address(market), uint256(resale.offerId), 1);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderPaid(id, saleId, third, order.mask, order.ephemeralX, order.ephemeralY, deadline);
        assertEq(pay(order, ""), id, "order id");

        assertOrder(id, IDataMarket.OrderState.Paid, deadline);
        (,, bool isTaken) = market.resaleOf(saleId);
        assertTrue(isTaken, "taken");
        assertTokens(buyer, offer, 0);
        assertTokens(address(market), offer, 1);
        assertEq(dollar.balanceOf(third), 1e12 - RESALE_PRICE, "paid");
        assertCopies(offer, 1);
    }

    /// @dev Expiry, cancellation, audience and supply of the offer bind the first sale alone.
    function test_buyResale__when_offer_has_ended__goes_through() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.supply = 1;
        offer.audience = buyer;
        offer.expiry = uint40(START + 1 days);
        settled(offer);
        vm.prank(seller);
        market.cancel(offer);
        vm.warp(START + 2 days);
        IDataMarket.Resale memory resale = resaleOf(offer, buyer);
        pay(orderOf(offer, resale, third, 2), signEcdsa(BUYER_SECRET, market.resaleId(resale)));
        assertTokens(address(market), offer, 1);
    }

    function test_buyResale__when_offer_is_another__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        offer.royaltyBps = 0;
        IDataMarket.Order memory order;
        (order.offer, order.resale, order.buyer, order.mask) = (offer, resale, third, address(1));
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.ResaleOfOtherOffer.selector, resale.offerId, market.offerId(offer))
        );
        pay(order, "");
    }

    function test_buyResale__when_expiry_is_reached__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        vm.warp(resale.expiry);
        _assertRefused(
            offer, resale, "", abi.encodeWithSelector(IDataMarket.SaleExpired.selector, resale.expiry, resale.expiry)
        );
        vm.warp(resale.expiry - 1);
        pay(orderOf(offer, resale, third, 2), "");
    }

    function test_buyResale__when_cancelled__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        vm.prank(buyer);
        market.cancelResale(resale);
        bytes32 id = market.resaleId(resale);
        _assertRefused(
            offer, resale, signEcdsa(BUYER_SECRET, id), abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id)
        );
    }

    /// @dev While an order is open, and for ever once it is settled, even if the holder has more tokens.
    function test_buyResale__when_taken__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        IDataMarket.Order memory order = resold(offer);
        pay(orderOf(offer, buyer, 9), "");
        IDataMarket.Order memory another = orderOf(offer, buyer, 9);
        deliver(another, 9);
        vm.prank(buyer);
        market.settle(offer, rowsOf(another));
        assertTokens(buyer, offer, 1);

        bytes memory problem = abi.encodeWithSelector(IDataMarket.ResaleIsTaken.selector, market.resaleId(order.resale));
        _assertRefused(offer, order.resale, "", problem);
        deliver(order, 2);
        vm.prank(third);
        market.settleResale(offer, order.resale, rowOf(order));
        _assertRefused(offer, order.resale, "", problem);
    }

    function test_buyResale__when_neither_listed_nor_signed__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _held();
        bytes32 id = market.resaleId(resale);
        bytes memory problem = abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, id, buyer);
        _assertRefused(offer, resale, "", problem);
        _assertRefused(offer, resale, signEcdsa(SELLER_SECRET, id), problem);
        pay(orderOf(offer, resale, third, 2), signEcdsa(BUYER_SECRET, id));
    }

    function test_buyResale__when_holder_has_no_token_any_more__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        vm.prank(buyer);
        market.safeTransferFrom(buyer, stranger, uint256(resale.offerId), 1, "");
        _assertRefused(
            offer, resale, "", abi.encodeWithSelector(IDataMarket.HolderHasNoToken.selector, buyer, resale.offerId)
        );
    }

    function test_buyResale__when_mask_is_zero__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        vm.expectRevert(abi.encodeWithSelector(IAgreements.MaskIsZero.selector));
        vm.prank(third);
        market.buyResale(offer, resale, "", address(0), 1, 2);
    }

    function test_buyWithAuthorization__when_sale_is_a_resale__orders_and_pays() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        IDataMarket.Order memory order = orderOf(offer, resale, third, 2);
        payWithAuthorization(order, authorize(order, THIRD_SECRET));
        assertState(order, IDataMarket.OrderState.Paid);
        assertTokens(address(market), offer, 1);
        assertEq(dollar.balanceOf(third), 1e12 - RESALE_PRICE, "paid");
    }

    function test_buyWithAuthorization__when_resale_is_of_another_offer__reverts() public {
        (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) = _listedResale();
        offer.seller = stranger;
        IDataMarket.Order memory order;
        (order.offer, order.resale, order.buyer, order.mask) = (offer, resale, third, address(1));
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.ResaleOfOtherOffer.selector, resale.offerId, market.offerId(offer))
        );
        payWithAuthorization(order, new bytes(65));
    }

    /* reveal */

    function test_reveal__when_sale_is_a_resale__is_the_holders() public {
        IDataMarket.Order memory order = resold(blobOffer());
        uint256 releasedKey = releasedKeyOf(order, 2);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotHolder.selector, seller, buyer));
        vm.prank(seller);
        market.reveal(order, releasedKey);

        deliver(order, 2);
        assertOrder(market.orderId(order), IDataMarket.OrderState.Revealed, START + DISPUTE_WINDOW);
    }

    /* settleResale */

    function test_settleResale__when_window_is_over__pays_royalty_and_holder_and_moves_the_token() public {
        IDataMarket.Order memory order = resold(blobOffer());
        deliver(order, 2);
        uint256 sellers = market.creditOf(seller, address(dollar));
        vm.warp(START + DISPUTE_WINDOW);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderSettled(market.orderId(order));
        vm.expectEmit(address(market));
        emit ICredits.Credited(seller, address(dollar), ROYALTY);
        vm.expectEmit(address(market));
        emit ICredits.Credited(buyer, address(dollar), RESALE_PRICE - ROYALTY);
        vm.expectEmit(address(market));
        emit IERC1155.TransferSingle(stranger, address(market), third, uint256(order.resale.offerId), 1);
        vm.prank(stranger);
        market.settleResale(order.offer, order.resale, rowOf(order));

        assertState(order, IDataMarket.OrderState.Settled);
        assertCredit(seller, sellers + ROYALTY);
        assertCredit(buyer, RESALE_PRICE - ROYALTY);
        assertTokens(third, order.offer, 1);
        assertTokens(address(market), order.offer, 0);
    }

    /// @dev The royalty is rounded down and the two shares always make the price.
    function testFuzz_settleResale__when_price_and_royalty_are_any__splits_the_price(uint128 price, uint16 royaltyBps)
        public
    {
        IDataMarket.Offer memory offer = blobOffer();
        offer.royaltyBps = uint16(bound(royaltyBps, 0, 5000));
        settled(offer);
        IDataMarket.Resale memory resale = resaleOf(offer, buyer);
        resale.price = price;
        dollar.mint(third, price);
        IDataMarket.Order memory order = orderOf(offer, resale, third, 2);
        pay(order, signEcdsa(BUYER_SECRET, market.resaleId(resale)));
        deliver(order, 2);
        vm.prank(third);
        market.settleResale(offer, resale, rowOf(order));
        uint256 royalty = market.creditOf(seller, address(dollar)) - PRICE;
        assertEq(royalty, uint256(price) * offer.royaltyBps / 10_000, "royalty");
        assertCredit(buyer, price - royalty);
    }

    function test_settleResale__when_offer_is_another__reverts() public {
        IDataMarket.Order memory order = resold(blobOffer());
        deliver(order, 2);
        order.offer.royaltyBps = 5000;
        bytes32 other = market.offerId(order.offer);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.ResaleOfOtherOffer.selector, order.resale.offerId, other));
        vm.prank(third);
        market.settleResale(order.offer, order.resale, rowOf(order));
    }

    function test_settleResale__when_order_is_not_revealed__reverts() public {
        IDataMarket.Order memory order = resold(blobOffer());
        vm.expectRevert(
            abi.encodeWithSelector(
                IDataMarket.OrderNotRevealed.selector, market.orderId(order), IDataMarket.OrderState.Paid
            )
        );
        vm.prank(third);
        market.settleResale(order.offer, order.resale, rowOf(order));
    }

    function test_settleResale__when_window_is_open_for_others__reverts() public {
        IDataMarket.Order memory order = resold(blobOffer());
        deliver(order, 2);
        uint256 deadline = START + DISPUTE_WINDOW;
        vm.warp(deadline - 1);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, deadline - 1));
        vm.prank(buyer);
        market.settleResale(order.offer, order.resale, rowOf(order));
        vm.prank(third);
        market.settleResale(order.offer, order.resale, rowOf(order));
        assertState(order, IDataMarket.OrderState.Settled);
    }

    /// @dev `settle` knows first sales alone.
    function test_settle__when_order_is_of_a_resale__skips_it() public {
        IDataMarket.Order memory order = resold(blobOffer());
        deliver(order, 2);
        vm.warp(START + DISPUTE_WINDOW);
        market.settle(order.offer, rowsOf(order));
        assertState(order, IDataMarket.OrderState.Revealed);
    }

    /* refund and dispute */

    function test_refund__when_sale_is_a_resale__gives_price_and_token_back_and_opens_it_again() public {
        IDataMarket.Order memory order = resold(blobOffer());
        vm.prank(buyer);
        market.refund(order);
        assertCredit(third, RESALE_PRICE);
        assertTokens(buyer, order.offer, 1);
        assertTokens(address(market), order.offer, 0);
        assertCopies(order.offer, 1);
        (,, bool isTaken) = market.resaleOf(market.resaleId(order.resale));
        assertFalse(isTaken, "taken");

        pay(orderOf(order.offer, order.resale, third, 3), "");
        assertTokens(address(market), order.offer, 1);
    }

    function test_refund__when_resale_is_not_the_sellers_to_give_back__reverts() public {
        IDataMarket.Order memory order = resold(blobOffer());
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, START + REVEAL_WINDOW, START));
        vm.prank(seller);
        market.refund(order);
        vm.warp(START + REVEAL_WINDOW);
        vm.prank(stranger);
        market.refund(order);
        assertTokens(buyer, order.offer, 1);
    }

    function test_dispute__when_sale_is_a_resale__gives_price_and_token_back() public {
        DataSet memory set = blob(4);
        set.sealedLeaves[3][5] ^= 0x80;
        commit(set, 3);
        IDataMarket.Order memory order = resold(offerOf(set));
        deliver(order, 2);
        market.dispute(order, disclosureOf(set, 3));
        assertState(order, IDataMarket.OrderState.Refunded);
        assertCredit(third, RESALE_PRICE);
        assertTokens(buyer, order.offer, 1);
        assertTokens(address(market), order.offer, 0);
        assertCopies(order.offer, 1);
    }

    /* HELP */

    function _held() private returns (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) {
        offer = blobOffer();
        settled(offer);
        resale = resaleOf(offer, buyer);
    }

    function _listedResale() private returns (IDataMarket.Offer memory offer, IDataMarket.Resale memory resale) {
        (offer, resale) = _held();
        vm.prank(buyer);
        market.listResale(offer, resale, URI);
    }

    function _assertRefused(
        IDataMarket.Offer memory offer,
        IDataMarket.Resale memory resale,
        bytes memory signature,
        bytes memory problem
    ) private {
        IDataMarket.Order memory order = orderOf(offer, resale, third, 77);
        vm.expectRevert(problem);
        pay(order, signature);
    }
}
