// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { ContractWallet } from "contracts/mocks/ContractWallet.sol";

/// @title DataMarketBuyTest
/// @notice `buy` and `buyWithAuthorization` of first sales, guard by guard.
contract DataMarketBuyTest is DataMarketKit {
    /* buy */

    function test_buy__when_listed__holds_the_price_and_a_copy() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        uint40 deadline = uint40(START + REVEAL_WINDOW);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderPaid(
            market.orderId(order),
            market.offerId(offer),
            buyer,
            order.mask,
            order.ephemeralX,
            order.ephemeralY,
            deadline
        );
        bytes32 id = pay(order, "");

        assertEq(id, market.orderId(order), "order id");
        assertOrder(id, IDataMarket.OrderState.Paid, deadline);
        assertCopies(offer, 1);
        assertTokens(buyer, offer, 0);
        assertEq(dollar.balanceOf(address(market)), PRICE, "held");
        assertEq(dollar.balanceOf(buyer), 1e12 - PRICE, "paid");
        assertCredit(buyer, 0);
        assertCredit(seller, 0);
    }

    /// @dev A private sale: nothing is in the logs before.
    function test_buy__when_signed_and_not_listed__goes_through() public {
        IDataMarket.Offer memory offer = blobOffer();
        pay(orderOf(offer, buyer, 1), signOffer(offer));
        (bool isListed,, uint32 copies) = market.offerOf(market.offerId(offer));
        assertFalse(isListed, "listed");
        assertEq(uint256(copies), 1, "copies");
    }

    function test_buy__when_seller_is_a_contract__asks_it_for_the_signature() public {
        ContractWallet wallet = new ContractWallet(seller);
        IDataMarket.Offer memory offer = blobOffer();
        offer.seller = address(wallet);
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        bytes memory wrong = signEcdsa(STRANGER_SECRET, market.offerId(offer));
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, market.offerId(offer), address(wallet))
        );
        pay(order, wrong);

        pay(order, signEcdsa(SELLER_SECRET, market.offerId(offer)));
        assertState(order, IDataMarket.OrderState.Paid);
    }

    function test_buy__when_buyer_is_a_contract__pays_from_it() public {
        ContractWallet wallet = new ContractWallet(buyer);
        IDataMarket.Offer memory offer = listed(blobOffer());
        dollar.mint(address(wallet), PRICE);
        vm.startPrank(buyer);
        wallet.act(address(dollar), abi.encodeCall(dollar.approve, (address(market), PRICE)));
        wallet.act(address(market), abi.encodeCall(market.buy, (offer, "", address(7), 1, 2)));
        vm.stopPrank();
        assertEq(dollar.balanceOf(address(wallet)), 0, "paid");
    }

    /// @dev A seller's own copy is a sale like any other.
    function test_buy__when_buyer_is_the_seller__goes_through() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, seller, 1);
        pay(order, "");
        deliver(order, 1);
        vm.prank(seller);
        market.settle(offer, rowsOf(order));
        assertTokens(seller, offer, 1);
        assertCredit(seller, PRICE);
    }

    function test_buy__when_price_is_zero__takes_nothing() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.price = 0;
        IDataMarket.Order memory order = settled(offer);
        assertState(order, IDataMarket.OrderState.Settled);
        assertEq(dollar.balanceOf(address(market)), 0, "held");
        assertTokens(buyer, offer, 1);
    }

    function test_buy__when_bond_is_set__locks_it_from_the_sellers_credit() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.bond = 70_000;
        listed(offer);
        fundBond(seller, 100_000);
        vm.expectEmit(address(market));
        emit IDataMarket.BondLocked(seller, address(dollar), 70_000);
        pay(orderOf(offer, buyer, 1), "");
        assertCredit(seller, 30_000);
        assertEq(dollar.balanceOf(address(market)), PRICE + 100_000, "held");
    }

    function test_buy__when_order_was_refunded__can_be_tried_again_with_another_point() public {
        IDataMarket.Offer memory offer = blobOffer();
        IDataMarket.Order memory order = paid(offer);
        vm.prank(seller);
        market.refund(order);
        pay(orderOf(offer, buyer, 2), "");
        assertCopies(offer, 1);
    }

    function test_buy__when_offer_is_expired__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.warp(offer.expiry);
        _assertRefused(offer, "", abi.encodeWithSelector(IDataMarket.SaleExpired.selector, offer.expiry, offer.expiry));

        vm.warp(offer.expiry - 1);
        pay(orderOf(offer, buyer, 1), "");
    }

    function test_buy__when_audience_is_another__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.audience = third;
        listed(offer);
        _assertRefused(offer, "", abi.encodeWithSelector(IDataMarket.BuyerNotInAudience.selector, buyer, third));

        pay(orderOf(offer, third, 1), "");
    }

    function test_buy__when_offer_is_cancelled__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.prank(seller);
        market.cancel(offer);
        bytes32 id = market.offerId(offer);
        _assertRefused(offer, signOffer(offer), abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id));
    }

    function test_buy__when_supply_is_taken__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.supply = 2;
        listed(offer);
        IDataMarket.Order memory first = orderOf(offer, buyer, 1);
        pay(first, "");
        pay(orderOf(offer, third, 2), "");
        bytes32 id = market.offerId(offer);
        _assertRefused(offer, "", abi.encodeWithSelector(IDataMarket.SupplyExhausted.selector, id, 2));

        vm.prank(seller);
        market.refund(first);
        pay(orderOf(offer, third, 3), "");
    }

    function test_buy__when_neither_listed_nor_signed__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        bytes32 id = market.offerId(offer);
        bytes memory problem = abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, id, seller);
        _assertRefused(offer, "", problem);
        _assertRefused(offer, signEcdsa(STRANGER_SECRET, id), problem);
        _assertRefused(offer, signEcdsa(SELLER_SECRET, bytes32(uint256(id) ^ 1)), problem);
    }

    function test_buy__when_bond_is_not_covered__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.bond = 70_000;
        listed(offer);
        fundBond(seller, 69_999);
        _assertRefused(
            offer, "", abi.encodeWithSelector(ICredits.CreditTooLow.selector, seller, address(dollar), 69_999, 70_000)
        );
    }

    function test_buy__when_mask_is_zero__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.expectRevert(abi.encodeWithSelector(IAgreements.MaskIsZero.selector));
        vm.prank(buyer);
        market.buy(offer, "", address(0), 1, 2);
    }

    function test_buy__when_order_was_made__reverts_whatever_became_of_it() public {
        IDataMarket.Order memory order = paid(blobOffer());
        _assertMade(order, IDataMarket.OrderState.Paid);
        deliver(order, 1);
        _assertMade(order, IDataMarket.OrderState.Revealed);
        vm.prank(buyer);
        market.settle(order.offer, rowsOf(order));
        _assertMade(order, IDataMarket.OrderState.Settled);

        order = paid(blobOffer());
        vm.prank(seller);
        market.refund(order);
        _assertMade(order, IDataMarket.OrderState.Refunded);
    }

    function test_buy__when_allowance_or_balance_is_short__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.prank(buyer);
        dollar.approve(address(market), PRICE - 1);
        _assertRefused(
            offer,
            "",
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(market), PRICE - 1, PRICE)
        );
        assertCopies(offer, 0);
    }

    function _assertRefused(IDataMarket.Offer memory offer, bytes memory signature, bytes memory problem) private {
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        vm.expectRevert(problem);
        pay(order, signature);
    }

    function _assertMade(IDataMarket.Order memory order, IDataMarket.OrderState state) private {
        bytes32 id = market.orderId(order);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderAlreadyMade.selector, id, state));
        pay(order, "");
    }

    /* buyWithAuthorization */

    function test_buyWithAuthorization__when_anyone_carries_it__orders_and_pays() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        bytes32 id = market.orderId(order);
        bytes memory signature = authorize(order, BUYER_SECRET);
        uint40 deadline = uint40(START + REVEAL_WINDOW);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderPaid(
            id, market.offerId(offer), buyer, order.mask, order.ephemeralX, order.ephemeralY, deadline
        );
        vm.prank(stranger);
        assertEq(payWithAuthorization(order, signature), id, "order id");

        assertOrder(id, IDataMarket.OrderState.Paid, deadline);
        assertCopies(offer, 1);
        assertEq(dollar.balanceOf(address(market)), PRICE, "held");
        assertEq(dollar.balanceOf(buyer), 1e12 - PRICE, "paid");
        assertTrue(dollar.authorizationState(buyer, id), "nonce");
    }

    function test_buyWithAuthorization__when_signed_and_not_listed__goes_through() public {
        IDataMarket.Offer memory offer = blobOffer();
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        market.buyWithAuthorization(order, signOffer(offer), 0, type(uint40).max, authorize(order, BUYER_SECRET));
        assertState(order, IDataMarket.OrderState.Paid);
    }

    function test_buyWithAuthorization__when_signature_is_not_65_bytes__reverts() public {
        IDataMarket.Order memory order = orderOf(listed(blobOffer()), buyer, 1);
        uint256[3] memory lengths = [uint256(0), 64, 66];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IAgreements.AuthorizationLengthInvalid.selector, lengths[i], 65));
            payWithAuthorization(order, new bytes(lengths[i]));
        }
    }

    /// @dev The guards of `buy`, which both share: one of each kind.
    function test_buyWithAuthorization__when_buy_would_refuse__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.audience = third;
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        bytes memory signature = authorize(order, BUYER_SECRET);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.BuyerNotInAudience.selector, buyer, third));
        payWithAuthorization(order, signature);

        offer.audience = address(0);
        order = orderOf(offer, buyer, 1);
        signature = authorize(order, BUYER_SECRET);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, market.offerId(offer), seller));
        payWithAuthorization(order, signature);

        listed(offer);
        payWithAuthorization(order, signature);
        bytes32 id = market.orderId(order);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderAlreadyMade.selector, id, IDataMarket.OrderState.Paid));
        payWithAuthorization(order, signature);
    }

    function test_buyWithAuthorization__when_buyer_is_nobody_or_the_market__reverts() public {
        address[2] memory nobody = [address(0), address(market)];
        IDataMarket.Offer memory offer = listed(blobOffer());
        for (uint256 i = 0; i < 2; ++i) {
            IDataMarket.Order memory order = orderOf(offer, nobody[i], 1);
            vm.expectRevert(abi.encodeWithSelector(IDataMarket.BuyerInvalid.selector, nobody[i]));
            payWithAuthorization(order, new bytes(65));
        }
    }

    function test_buyWithAuthorization__when_signer_is_not_the_buyer__reverts() public {
        IDataMarket.Order memory order = orderOf(listed(blobOffer()), buyer, 1);
        bytes memory signature = authorize(order, STRANGER_SECRET);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        payWithAuthorization(order, signature);
    }

    function test_buyWithAuthorization__when_authorization_is_over__reverts() public {
        IDataMarket.Order memory order = orderOf(listed(blobOffer()), buyer, 1);
        bytes memory signature = authorize(order, BUYER_SECRET);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        market.buyWithAuthorization(order, "", 0, START, signature);
        vm.warp(type(uint40).max - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.SaleExpired.selector, START + 365 days, type(uint40).max - 1)
        );
        payWithAuthorization(order, signature);
    }
}
