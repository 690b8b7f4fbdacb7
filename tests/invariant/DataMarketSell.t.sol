// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title DataMarketSellTest
/// @notice `list` and `cancel`, guard by guard, and the ids.
contract DataMarketSellTest is DataMarketKit {
    uint256 private constant P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;

    /* IDS */

    /// @dev The type strings are the design's, written a second time.
    function test_offerId__when_hashed_by_the_standard__is_the_eip712_digest() public {
        IDataMarket.Offer memory offer = blobOffer();
        bytes32 typeHash = keccak256(
            "Offer(address seller,address token,uint128 price,uint128 bond,bytes32 sealedRoot,uint32 leafCount,uint256 keyX,uint256 keyY,address rule,bytes32 ruleParamsHash,uint32 supply,uint16 royaltyBps,address audience,uint32 revealWindow,uint32 disputeWindow,uint40 expiry,bytes32 terms,uint256 salt)"
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, offer));
        assertEq(market.offerId(offer), typedDigest("pyiot DataMarket", address(market), structHash), "offer id");
    }

    function test_resaleId__when_hashed_by_the_standard__is_the_eip712_digest() public {
        IDataMarket.Resale memory resale = resaleOf(blobOffer(), buyer);
        bytes32 typeHash = keccak256(
            "Resale(bytes32 offerId,address holder,address token,uint128 price,uint40 expiry,uint256 salt)"
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, resale));
        assertEq(market.resaleId(resale), typedDigest("pyiot DataMarket", address(market), structHash), "resale id");
    }

    function test_orderId__when_sale_is_first_or_a_resale__hashes_sale_buyer_mask_and_point() public {
        IDataMarket.Offer memory offer = blobOffer();
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        bytes32 expected =
            keccak256(abi.encode(market.offerId(offer), buyer, order.mask, order.ephemeralX, order.ephemeralY));
        assertEq(market.orderId(order), expected, "first sale");

        order = orderOf(offer, resaleOf(offer, buyer), third, 2);
        expected = keccak256(
            abi.encode(market.resaleId(order.resale), third, order.mask, order.ephemeralX, order.ephemeralY)
        );
        assertEq(market.orderId(order), expected, "resale");
    }

    /// @dev A word with bits beyond its type would give the same offer a second id: each narrow field refuses them.
    function test_offerId__when_a_word_has_bits_beyond_its_type__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        uint8[11] memory fields = [0, 1, 2, 3, 5, 8, 10, 11, 12, 13, 14];
        uint8[11] memory bits = [160, 160, 128, 128, 32, 160, 32, 16, 160, 32, 32];
        for (uint256 i = 0; i < fields.length; ++i) {
            _assertDirtRefused(offer, fields[i], bits[i]);
            _assertDirtRefused(offer, fields[i], 255);
        }
        _assertDirtRefused(offer, 15, 40);
    }

    function _assertDirtRefused(IDataMarket.Offer memory offer, uint256 field, uint256 bit) private view {
        bytes memory data = abi.encodeCall(market.offerId, (offer));
        (bool success,) = address(market).staticcall(data);
        assertTrue(success, "clean");
        assembly ("memory-safe") {
            let word := add(add(data, 0x24), mul(field, 0x20))
            mstore(word, or(mload(word), shl(bit, 1)))
        }
        (success,) = address(market).staticcall(data);
        assertFalse(success, "dirty");
    }

    /* list */

    function test_list__when_offer_is_good__lists_it() public {
        IDataMarket.Offer memory offer = blobOffer();
        bytes32 id = market.offerId(offer);
        vm.expectEmit(address(market));
        emit IDataMarket.OfferListed(id, seller, bytes32(SUMMARY), offer, URI, SUMMARY);
        listed(offer);

        (bool isListed, bool isCancelled, uint32 copies) = market.offerOf(id);
        assertTrue(isListed, "listed");
        assertFalse(isCancelled, "cancelled");
        assertEq(uint256(copies), 0, "copies");
    }

    /// @dev A bundle moves: the same offer is listed with another place.
    function test_list__when_listed_before__says_so_again() public {
        IDataMarket.Offer memory offer = blobOffer();
        paid(offer);
        vm.expectEmit(address(market));
        emit IDataMarket.OfferListed(market.offerId(offer), seller, bytes32(SUMMARY), offer, "ipfs://other", SUMMARY);
        vm.prank(seller);
        market.list(offer, "ipfs://other", SUMMARY);
        assertCopies(offer, 1);
    }

    function test_list__when_caller_is_not_the_seller__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotSeller.selector, stranger, seller));
        vm.prank(stranger);
        market.list(offer, URI, SUMMARY);
    }

    function test_list__when_expiry_is_reached__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        vm.warp(offer.expiry);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleExpired.selector, offer.expiry, offer.expiry));
        vm.prank(seller);
        market.list(offer, URI, SUMMARY);

        vm.warp(offer.expiry - 1);
        listed(offer);
    }

    function test_list__when_summary_is_too_short_or_too_long__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SummaryLengthInvalid.selector, 31, 32, 1024));
        vm.prank(seller);
        market.list(offer, URI, new bytes(31));
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SummaryLengthInvalid.selector, 1025, 32, 1024));
        vm.prank(seller);
        market.list(offer, URI, new bytes(1025));
        vm.prank(seller);
        market.list(offer, URI, new bytes(1024));
    }

    function test_list__when_there_are_no_leaves__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.leafCount = 0;
        _assertInvalid(offer, abi.encodeWithSelector(IDataMarket.LeafCountTooLow.selector, 0, 1));
    }

    function test_list__when_key_is_no_point_of_the_curve__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.keyY ^= 1;
        _assertInvalid(offer, abi.encodeWithSelector(IAgreements.PublicKeyInvalid.selector, offer.keyX, offer.keyY));
    }

    /// @dev y = 1 is a point's; y = 1 + p would be the same point.
    function test_list__when_key_is_not_reduced__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.keyX = 0x1FE1E5EF3FCEB5C135AB7741333CE5A6E80D68167653F6B2B24BCBCFAAAFF507;
        offer.keyY = 1 + P;
        _assertInvalid(offer, abi.encodeWithSelector(IAgreements.PublicKeyInvalid.selector, offer.keyX, offer.keyY));
        offer.keyY = 1;
        listed(offer);
    }

    function test_list__when_royalty_is_over_half__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.royaltyBps = 5001;
        _assertInvalid(offer, abi.encodeWithSelector(IDataMarket.RoyaltyTooHigh.selector, 5001, 5000));
        offer.royaltyBps = 5000;
        listed(offer);
    }

    function test_list__when_a_window_is_out_of_bounds__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        uint32[2] memory bad = [uint32(5 minutes - 1), uint32(30 days + 1)];
        uint32[2] memory good = [uint32(5 minutes), uint32(30 days)];
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory problem =
                abi.encodeWithSelector(IAgreements.WindowOutOfBounds.selector, bad[i], 5 minutes, 30 days);
            (offer.revealWindow, offer.disputeWindow) = (bad[i], good[i]);
            _assertInvalid(offer, problem);
            (offer.revealWindow, offer.disputeWindow) = (good[i], bad[i]);
            _assertInvalid(offer, problem);
            (offer.revealWindow, offer.disputeWindow) = (good[i], good[i]);
            listed(offer);
        }
    }

    function test_list__when_offer_was_cancelled__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        bytes32 id = market.offerId(offer);
        vm.startPrank(seller);
        market.cancel(offer);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id));
        market.list(offer, URI, SUMMARY);
        vm.stopPrank();
    }

    /// @dev What `list` refuses, a sale by signature refuses for the same reason.
    function _assertInvalid(IDataMarket.Offer memory offer, bytes memory problem) private {
        vm.expectRevert(problem);
        vm.prank(seller);
        market.list(offer, URI, SUMMARY);

        bytes memory signature = signOffer(offer);
        vm.expectRevert(problem);
        vm.prank(buyer);
        market.buy(offer, signature, address(1), 1, 1);
    }

    /* cancel */

    function test_cancel__when_listed_or_not__cancels() public {
        for (uint256 i = 0; i < 2; ++i) {
            IDataMarket.Offer memory offer = blobOffer();
            if (i == 1) paid(offer);
            bytes32 id = market.offerId(offer);
            vm.expectEmit(address(market));
            emit IDataMarket.OfferCancelled(id);
            vm.prank(seller);
            market.cancel(offer);

            (bool isListed, bool isCancelled, uint32 copies) = market.offerOf(id);
            assertEq(isListed, i == 1, "listed");
            assertTrue(isCancelled, "cancelled");
            assertEq(uint256(copies), i, "copies");
        }
    }

    function test_cancel__when_caller_is_not_the_seller__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.CallerNotSeller.selector, buyer, seller));
        vm.prank(buyer);
        market.cancel(offer);
    }

    function test_cancel__when_cancelled_before__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        bytes32 id = market.offerId(offer);
        vm.startPrank(seller);
        market.cancel(offer);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleIsCancelled.selector, id));
        market.cancel(offer);
        vm.stopPrank();
    }

    /// @dev An order that is open goes on to its end.
    function test_cancel__when_an_order_is_open__leaves_it_open() public {
        IDataMarket.Offer memory offer = blobOffer();
        IDataMarket.Order memory order = paid(offer);
        vm.prank(seller);
        market.cancel(offer);
        deliver(order, 1);
        vm.prank(buyer);
        market.settle(offer, rowsOf(order));
        assertTokens(buyer, offer, 1);
        assertCredit(seller, PRICE);
    }
}
