// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { DataMarket } from "contracts/market/DataMarket.sol";

/// @title DataMarketAttacksTest
/// @notice The attack list of the market's design: which test each row is, and the tests between seller and buyer.
/// @dev Files: A this one, F DataMarketFraud, H DataMarketHostile, M DataMarketMoney, B DataMarketBuy, R DataMarketResell,
/// S DataMarketSell, K KeyRelease.
///
/// a buyer contract that rejects tokens            H test_settle__when_a_buyer_rejects_tokens__settles_it_all_the_same
///                                                 H test_refund__when_the_holder_rejects_tokens__gives_the_token_back
/// a full supply at a reveal or a settlement       A test_reveal__when_supply_is_full__goes_through_to_the_settlement
/// E off the curve                                 A test_refund__when_point_or_mask_is_garbage__is_the_sellers_at_once
/// a mask that does not fit E                      A the same
/// the victim's authorization with another E       A test_buyWithAuthorization__when_anything_is_changed__reverts
/// a broker who copies Q and replays κ′            A test_reveal__when_a_broker_replays_the_key__reverts
/// a supply blocked by unrevealable orders         A test_refund__when_orders_block_the_supply__frees_it_at_once
/// κ + n                                           F test_dispute__when_content_key_has_n_added__reverts
/// κ′ ≥ n                                          A test_reveal__when_key_has_n_added__reverts; K test…n_is_added…
/// Q off the curve, Q not reduced                  S test_list__when_key_is_no_point_of_the_curve__reverts
///                                                 S test_list__when_key_is_not_reduced__reverts (both: and buy)
/// mask 0                                          B, R test_buy…__when_mask_is_zero__reverts; K test…mask_is_zero…
/// κ reused for a second root                      A test_dispute__when_key_is_used_for_two_roots__judges_each_by_its_own
///                                                 (a seller's own loss; its SDK draws κ anew for every root)
/// code at the device's address after the sale     F test_dispute__when_code_is_put_at_the_devices_address__…
/// a rotated or revoked device after the sale      F test_dispute__when_device_is_rotated_or_revoked_after_the_sale__…
/// a leaf too large to dispute                     F test_dispute__when_leaf_is_as_large_as_buyers_take__…
///                                                 F test_dispute__when_the_largest_reading_is_forged__…
/// garbage ciphertext                              F test_dispute__when_ciphertext_is_garbage__refunds
/// wrong leaf under the right root                 F test_dispute__when_leaf_is_wrong_under_the_right_root__refunds
/// a leaf signed by another device                 F test_dispute__when_leaf_is_signed_by_another_device__refunds
/// a gap, a duplicate, a reorder                   F test_dispute__when_sequence_has_a_gap_a_duplicate_or_a_reorder__…
/// time or value out of range                      F test_dispute__when_time_…, test_dispute__when_value_is_out_of_range__…
/// dispute of an honest leaf                       F test_dispute__when_leaf_is_honest__reverts
/// proof for the wrong index                       F test_dispute__when_proof_is_for_another_index__reverts
/// inner node passed as a leaf                     F test_dispute__when_an_inner_node_is_passed_as_a_leaf__reverts
/// κ′ replayed for another order                   A test_reveal__when_key_is_of_another_order__reverts
/// reveal and refund around the same second        A test_reveal_refund__when_second_is_the_deadlines__one_of_them_goes
/// settle and dispute around the same second       A test_settle_dispute__when_second_is_the_deadlines__one_of_them_goes
/// a buyer or a seller or both who never answer    A test_settle__when_buyer_never_answers__…,
///                                                 A test_refund__when_seller_or_both_never_answer__…
/// reverting, burning, reentering rule             H test_dispute__when_rule_misbehaves__is_no_fraud
///   and a rule starved by the caller              H test_dispute__when_limit_of_gas_varies__…, F …starves_the_rule…
/// reentering token                                H test_buy__when_token_calls_back__…, test_withdraw__when_token_calls…
/// reentering receiver                             H test_safeTransferFrom__when_receiver_calls_back__…
/// fee-on-transfer, false-returning tokens         M test_buy__when_token_takes_a_fee__…, …returns_false__…, …swallows…
/// replay on another chain or contract             A test_buy__when_signature_is_for_another_chain_or_contract__reverts
/// a Resale sold twice                             R test_buyResale__when_taken__reverts
/// a Resale by one who holds no token any more     R test_buyResale__when_holder_has_no_token_any_more__reverts
/// a stranger who lists with a false title         S test_list__when_caller_is_not_the_seller__reverts; A
///                                                 test_list__when_a_stranger_copies_an_offer__is_another_offer
/// (`file://` addresses are the SDK's to refuse)
/// a supply race                                   A test_buy__when_two_race_for_the_last_copy__the_second_pays_nothing
/// calls back as the victim                        H test_relay__when_token_…, test_relay__when_receiver_calls_back_as…
/// a relay inside a relay                          H test_relay__when_token_relays_inside_a_relay__reverts
/// a failed call that must not burn the nonce      H test_relay__when_the_call_fails__bubbles_and_keeps_the_nonce
/// a withheld reveal or refund                     H test_relay__when_a_reveal_or_a_refund_is_withheld__only_one_counts
contract DataMarketAttacksTest is DataMarketKit {
    uint256 private constant HOME_CHAIN = 31_337;

    /* KEYS */

    /// @dev The broker offers the honest seller's ciphertext with the honest Q, lets the victim order from it, orders with
    /// the victim's E and mask itself, and hopes that the seller's κ′ fits the victim's order: sale and buyer are in m.
    function test_reveal__when_a_broker_replays_the_key__reverts() public {
        IDataMarket.Offer memory honest = listed(blobOffer());
        IDataMarket.Offer memory copied = abi.decode(abi.encode(honest), (IDataMarket.Offer));
        (copied.seller, copied.price) = (third, 10 * PRICE);
        listed(copied);
        IDataMarket.Order memory victims = orderOf(copied, buyer, 5);
        pay(victims, "");

        IDataMarket.Order memory brokers = orderOf(honest, third, 6);
        (brokers.mask, brokers.ephemeralX, brokers.ephemeralY) = (victims.mask, victims.ephemeralX, victims.ephemeralY);
        pay(brokers, "");
        // the seller computes the mask for its own sale and this buyer, sees that it is another, and gives it back
        assertNotEq(
            bytes32(uint256(uint160(vm.addr(maskScalarOf(brokers, 5))))),
            bytes32(uint256(uint160(victims.mask))),
            "mask"
        );
        // and if it did not look: the κ' that fits its sale and buyer is none for the victim's order
        uint256 releasedKey = releasedKeyOf(brokers, 5);
        _assertKeyRefused(victims, third, releasedKey);
        _assertKeyRefused(brokers, seller, releasedKey);
    }

    function test_reveal__when_key_is_of_another_order__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Order memory first = orderOf(offer, buyer, 1);
        IDataMarket.Order memory second = orderOf(offer, third, 2);
        IDataMarket.Order memory again = orderOf(offer, buyer, 3);
        pay(first, "");
        pay(second, "");
        pay(again, "");
        uint256 releasedKey = releasedKeyOf(first, 1);
        vm.prank(seller);
        market.reveal(first, releasedKey);
        _assertKeyRefused(second, seller, releasedKey);
        _assertKeyRefused(again, seller, releasedKey);
    }

    function test_reveal__when_key_has_n_added__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        // m is chosen so that κ + m mod n is small and leaves room for n in 256 bits
        uint256 m = addmod(99, SECP256K1_N - CONTENT_KEY, SECP256K1_N);
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        order.mask = vm.addr(m);
        pay(order, "");
        _assertKeyRefused(order, seller, 99 + SECP256K1_N);
        _assertKeyRefused(order, seller, SECP256K1_N);
        vm.prank(seller);
        market.reveal(order, 99);
        assertState(order, IDataMarket.OrderState.Revealed);
    }

    /// @dev Two offers with one κ: who has bought one reads both. A dispute judges each by its own root.
    function test_dispute__when_key_is_used_for_two_roots__judges_each_by_its_own() public {
        DataSet memory honest = blob(4);
        DataSet memory lying = blob(4);
        lying.leafHashes[1] = keccak256("a lie");
        commit(lying, 1);
        IDataMarket.Order memory order = revealed(offerOf(honest));
        vm.expectRevert(
            abi.encodeWithSelector(IDataMarket.LeafNotInRoot.selector, lying.sealedHashes[1], order.offer.sealedRoot)
        );
        market.dispute(order, disclosureOf(lying, 1));
        order = revealed(offerOf(lying));
        market.dispute(order, disclosureOf(lying, 1));
        assertState(order, IDataMarket.OrderState.Refunded);
    }

    function _assertKeyRefused(IDataMarket.Order memory order, address caller, uint256 releasedKey) private {
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.ReleasedKeyInvalid.selector, market.orderId(order)));
        vm.prank(caller);
        market.reveal(order, releasedKey);
    }

    /* ORDERS NOBODY CAN REVEAL */

    /// @dev (5, 5) lies on a curve y² = x³ − 100 whose small subgroups would draw κ out of `κ·E`, piece by piece. The
    /// contract does not look at E; the seller's SDK does, and gives the order back without revealing anything.
    function test_refund__when_point_or_mask_is_garbage__is_the_sellers_at_once() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        uint256[2][3] memory points = [[uint256(5), 5], [uint256(0), 0], [type(uint256).max, type(uint256).max]];
        for (uint256 i = 0; i < 3; ++i) {
            IDataMarket.Order memory order = orderOf(offer, buyer, i + 1);
            (order.ephemeralX, order.ephemeralY) = (points[i][0], points[i][1]);
            pay(order, "");
            vm.prank(seller);
            market.refund(order);
            assertState(order, IDataMarket.OrderState.Refunded);
        }
        IDataMarket.Order memory unfit = orderOf(offer, buyer, 9);
        unfit.mask = vm.addr(0xBAD);
        pay(unfit, "");
        _assertKeyRefused(unfit, seller, releasedKeyOf(unfit, 9));
        vm.prank(seller);
        market.refund(unfit);
        assertCredit(buyer, 4 * PRICE);
        assertCopies(offer, 0);
    }

    /// @dev Supply and bonds are all taken by orders that fit no key; a moment later they are free again.
    function test_refund__when_orders_block_the_supply__frees_it_at_once() public {
        IDataMarket.Offer memory offer = blobOffer();
        (offer.supply, offer.bond) = (3, 10);
        fundBond(seller, 30);
        listed(offer);
        IDataMarket.Order[] memory blocking = new IDataMarket.Order[](3);
        for (uint256 i = 0; i < 3; ++i) {
            blocking[i] = orderOf(offer, third, i + 1);
            blocking[i].mask = address(uint160(i + 1));
            pay(blocking[i], "");
        }
        assertCredit(seller, 0);
        IDataMarket.Order memory order = orderOf(offer, buyer, 9);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SupplyExhausted.selector, market.offerId(offer), 3));
        pay(order, "");

        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(seller);
            market.refund(blocking[i]);
        }
        assertCredit(seller, 30);
        pay(order, "");
        deliver(order, 9);
        assertState(order, IDataMarket.OrderState.Revealed);
    }

    /* SUPPLY */

    /// @dev The last copy is sold: what was ordered before is revealed and settled all the same.
    function test_reveal__when_supply_is_full__goes_through_to_the_settlement() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.supply = 2;
        listed(offer);
        IDataMarket.Order memory first = orderOf(offer, buyer, 1);
        IDataMarket.Order memory second = orderOf(offer, third, 2);
        pay(first, "");
        pay(second, "");
        vm.prank(seller);
        market.cancel(offer);
        vm.warp(START + REVEAL_WINDOW - 1);
        deliver(first, 1);
        deliver(second, 2);
        vm.warp(block.timestamp + DISPUTE_WINDOW);
        IDataMarket.Row[] memory rows = new IDataMarket.Row[](2);
        (rows[0], rows[1]) = (rowOf(first), rowOf(second));
        market.settle(offer, rows);
        assertTokens(buyer, offer, 1);
        assertTokens(third, offer, 1);
        assertCopies(offer, 2);
    }

    function test_buy__when_two_race_for_the_last_copy__the_second_pays_nothing() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.supply = 1;
        listed(offer);
        IDataMarket.Order memory late = orderOf(offer, third, 2);
        bytes memory authorization = authorize(late, THIRD_SECRET);
        pay(orderOf(offer, buyer, 1), "");
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SupplyExhausted.selector, market.offerId(offer), 1));
        payWithAuthorization(late, authorization);
        assertEq(dollar.balanceOf(third), 1e12, "paid nothing");
        assertFalse(dollar.authorizationState(third, market.orderId(late)), "nonce");
    }

    /* SIGNATURES */

    /// @dev The authorization's nonce is the order id: sale, buyer, mask and both coordinates of E are what was signed.
    function test_buyWithAuthorization__when_anything_is_changed__reverts() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        IDataMarket.Offer memory other = listed(blobOffer());
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        bytes memory signature = authorize(order, BUYER_SECRET);
        for (uint256 i = 0; i < 5; ++i) {
            IDataMarket.Order memory changed = orderOf(offer, buyer, 1);
            if (i == 0) changed.ephemeralX ^= 1;
            if (i == 1) changed.ephemeralY ^= 1;
            if (i == 2) changed.mask = vm.addr(0xBAD);
            if (i == 3) changed.offer = other;
            if (i == 4) changed.buyer = third;
            vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
            vm.prank(stranger);
            payWithAuthorization(changed, signature);
        }
        // nor can it be taken to the token past the market
        bytes32 nonce = market.orderId(order);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(market)));
        vm.prank(stranger);
        dollar.receiveWithAuthorization(buyer, address(market), PRICE, 0, type(uint40).max, nonce, signature);
        payWithAuthorization(order, signature);
        assertState(order, IDataMarket.OrderState.Paid);
    }

    /// @dev Offers, resales and relayed calls are signed for one chain and one contract.
    function test_buy__when_signature_is_for_another_chain_or_contract__reverts() public {
        IDataMarket.Offer memory offer = blobOffer();
        bytes memory here = signOffer(offer);
        DataMarket twin = new DataMarket();
        vm.prank(buyer);
        dollar.approve(address(twin), PRICE);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, twin.offerId(offer), seller));
        vm.prank(buyer);
        twin.buy(offer, here, address(1), 1, 1);

        IRelayed.SignedCall memory request =
            IRelayed.SignedCall(buyer, abi.encodeCall(market.cancelNonce, (7)), 1, uint40(START + 1));
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)"),
                request.sender,
                keccak256(request.call),
                request.nonce,
                request.deadline
            )
        );
        bytes memory signedCall = signEcdsa(BUYER_SECRET, typedDigest("pyiot DataMarket", address(market), structHash));
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, buyer));
        twin.relay(request, signedCall);

        vm.chainId(HOME_CHAIN + 1);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, buyer));
        market.relay(request, signedCall);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SaleNotOffered.selector, market.offerId(offer), seller));
        vm.prank(buyer);
        market.buy(offer, here, address(1), 1, 1);
        vm.chainId(HOME_CHAIN);
        market.relay(request, signedCall);
        pay(orderOf(offer, buyer, 1), here);
    }

    /// @dev Another title makes other terms, other terms another offer, and only its seller lists an offer.
    function test_list__when_a_stranger_copies_an_offer__is_another_offer() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        bytes32 id = market.offerId(offer);
        offer.seller = stranger;
        listed(offer);
        assertNotEq(market.offerId(offer), id, "offer id");
        // the stranger does not know κ: its buyers get their money back
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        pay(order, "");
        vm.warp(START + REVEAL_WINDOW);
        market.refund(order);
        assertCredit(buyer, PRICE);
    }

    /* THE SAME SECOND */

    function test_reveal_refund__when_second_is_the_deadlines__one_of_them_goes() public {
        for (uint256 i = 0; i < 3; ++i) {
            vm.warp(START);
            IDataMarket.Order memory order = paid(blobOffer());
            uint256 deadline = START + REVEAL_WINDOW;
            uint256 now_ = deadline + i - 1;
            uint256 releasedKey = releasedKeyOf(order, 1);
            vm.warp(now_);
            bool isOver = now_ >= deadline;
            if (!isOver) vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, now_));
            vm.prank(stranger);
            market.refund(order);
            if (isOver) {
                assertState(order, IDataMarket.OrderState.Refunded);
                continue;
            }
            vm.prank(seller);
            market.reveal(order, releasedKey);
            assertState(order, IDataMarket.OrderState.Revealed);
        }
    }

    function test_settle_dispute__when_second_is_the_deadlines__one_of_them_goes() public {
        DataSet memory set = blob(4);
        set.sealedLeaves[0][0] ^= 0x01;
        commit(set, 0);
        for (uint256 i = 0; i < 3; ++i) {
            vm.warp(START);
            IDataMarket.Order memory order = revealed(offerOf(set));
            uint256 deadline = START + DISPUTE_WINDOW;
            uint256 now_ = deadline + i - 1;
            vm.warp(now_);
            vm.prank(stranger);
            market.settle(order.offer, rowsOf(order));
            bool isOver = now_ >= deadline;
            assertState(order, isOver ? IDataMarket.OrderState.Settled : IDataMarket.OrderState.Revealed);
            bytes memory problem = abi.encodeWithSelector(
                IDataMarket.OrderNotRevealed.selector, market.orderId(order), IDataMarket.OrderState.Settled
            );
            if (isOver) vm.expectRevert(problem);
            market.dispute(order, disclosureOf(set, 0));
            assertState(order, isOver ? IDataMarket.OrderState.Settled : IDataMarket.OrderState.Refunded);
        }
    }

    /* SILENCE */

    function test_settle__when_buyer_never_answers__pays_the_seller() public {
        IDataMarket.Order memory order = revealed(blobOffer());
        vm.warp(START + 3650 days);
        vm.prank(stranger);
        market.settle(order.offer, rowsOf(order));
        assertCredit(seller, PRICE);
        assertTokens(buyer, order.offer, 1);
    }

    function test_refund__when_seller_or_both_never_answer__pays_the_buyer() public {
        IDataMarket.Order memory order = paid(blobOffer());
        vm.warp(START + 3650 days);
        vm.prank(stranger);
        market.refund(order);
        assertCredit(buyer, PRICE);
    }
}
