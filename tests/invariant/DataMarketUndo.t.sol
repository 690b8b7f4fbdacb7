// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title DataMarketUndoTest
/// @notice `refund` and `dispute` of first sales, guard by guard.
contract DataMarketUndoTest is DataMarketKit {
    uint128 private constant BOND = 70_000;

    /* refund */

    function test_refund__when_deadline_is_reached__gives_everything_back() public {
        IDataMarket.Order memory order = _paidWithBond();
        bytes32 id = market.orderId(order);
        uint256 deadline = START + REVEAL_WINDOW;
        vm.warp(deadline);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderRefunded(id);
        vm.expectEmit(address(market));
        emit ICredits.Credited(seller, address(dollar), BOND);
        vm.expectEmit(address(market));
        emit ICredits.Credited(buyer, address(dollar), PRICE);
        vm.prank(stranger);
        market.refund(order);

        assertOrder(id, IDataMarket.OrderState.Refunded, deadline);
        assertCopies(order.offer, 0);
        assertCredit(seller, BOND);
        assertCredit(buyer, PRICE);
        assertTokens(buyer, order.offer, 0);
    }

    /// @dev A buyer with a mask that fits no E must not lock copy and bond until the deadline.
    function test_refund__when_seller_gives_it_back__needs_no_deadline() public {
        IDataMarket.Order memory order = _paidWithBond();
        vm.prank(seller);
        market.refund(order);
        assertState(order, IDataMarket.OrderState.Refunded);
        assertCredit(seller, BOND);
        assertCredit(buyer, PRICE);
    }

    function test_refund__when_order_is_not_paid__reverts() public {
        IDataMarket.Order memory order = orderOf(listed(blobOffer()), buyer, 1);
        _assertNotPaid(order, IDataMarket.OrderState.None);
        pay(order, "");
        deliver(order, 1);
        vm.warp(START + REVEAL_WINDOW + DISPUTE_WINDOW);
        _assertNotPaid(order, IDataMarket.OrderState.Revealed);
        market.settle(order.offer, rowsOf(order));
        _assertNotPaid(order, IDataMarket.OrderState.Settled);
        order = orderOf(order.offer, buyer, 2);
        pay(order, "");
        vm.prank(seller);
        market.refund(order);
        _assertNotPaid(order, IDataMarket.OrderState.Refunded);
    }

    function test_refund__when_window_is_open_for_others__reverts() public {
        IDataMarket.Order memory order = paid(blobOffer());
        uint256 deadline = START + REVEAL_WINDOW;
        vm.warp(deadline - 1);
        address[2] memory others = [buyer, stranger];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, deadline - 1));
            vm.prank(others[i]);
            market.refund(order);
        }
    }

    function _assertNotPaid(IDataMarket.Order memory order, IDataMarket.OrderState state) private {
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, market.orderId(order), state));
        vm.prank(seller);
        market.refund(order);
    }

    function _paidWithBond() private returns (IDataMarket.Order memory) {
        return paid(_withBond(blob(4)));
    }

    function _withBond(DataSet memory set) private returns (IDataMarket.Offer memory offer) {
        offer = offerOf(set);
        offer.bond = BOND;
        fundBond(seller, BOND);
    }

    /* dispute */

    function test_dispute__when_a_leaf_is_garbage__pays_price_and_bond_to_the_buyer() public {
        DataSet memory set = _garbled(2);
        IDataMarket.Order memory order = revealed(_withBond(set));
        bytes32 id = market.orderId(order);
        vm.expectEmit(address(market));
        emit IDataMarket.OrderDisputed(id, 2);
        vm.expectEmit(address(market));
        emit ICredits.Credited(buyer, address(dollar), PRICE + BOND);
        vm.prank(stranger);
        market.dispute(order, disclosureOf(set, 2));

        assertOrder(id, IDataMarket.OrderState.Refunded, START + DISPUTE_WINDOW);
        assertCredit(buyer, PRICE + BOND);
        assertCredit(seller, 0);
        assertCredit(stranger, 0);
        assertTokens(buyer, order.offer, 0);
    }

    /// @dev A seller who was caught has one copy less to sell.
    function test_dispute__when_won__keeps_the_copy() public {
        DataSet memory set = _garbled(0);
        IDataMarket.Offer memory offer = offerOf(set);
        offer.supply = 1;
        IDataMarket.Order memory order = revealed(offer);
        market.dispute(order, disclosureOf(set, 0));
        assertCopies(offer, 1);
        order = orderOf(offer, third, 3);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.SupplyExhausted.selector, market.offerId(offer), 1));
        pay(order, "");
    }

    function test_dispute__when_order_is_not_revealed__reverts() public {
        DataSet memory set = _garbled(0);
        IDataMarket.Offer memory offer = listed(offerOf(set));
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        _assertNotRevealed(order, set, IDataMarket.OrderState.None);
        pay(order, "");
        _assertNotRevealed(order, set, IDataMarket.OrderState.Paid);
        deliver(order, 1);
        vm.prank(buyer);
        market.settle(offer, rowsOf(order));
        _assertNotRevealed(order, set, IDataMarket.OrderState.Settled);
        order = orderOf(offer, buyer, 2);
        pay(order, "");
        deliver(order, 2);
        market.dispute(order, disclosureOf(set, 0));
        _assertNotRevealed(order, set, IDataMarket.OrderState.Refunded);
    }

    function test_dispute__when_deadline_is_reached__reverts() public {
        DataSet memory set = _garbled(0);
        IDataMarket.Order memory order = revealed(offerOf(set));
        uint256 deadline = START + DISPUTE_WINDOW;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        market.dispute(order, disclosureOf(set, 0));

        vm.warp(deadline - 1);
        market.dispute(order, disclosureOf(set, 0));
    }

    function test_dispute__when_content_key_is_another__reverts() public {
        DataSet memory set = _garbled(0);
        IDataMarket.Order memory order = revealed(offerOf(set));
        uint256[3] memory keys = [CONTENT_KEY + 1, 0, SECP256K1_N - CONTENT_KEY];
        for (uint256 i = 0; i < 3; ++i) {
            set.contentKey = keys[i];
            vm.expectRevert(abi.encodeWithSelector(IDataMarket.ContentKeyInvalid.selector, market.orderId(order)));
            market.dispute(order, disclosureOf(set, 0));
        }
    }

    function test_dispute__when_index_is_not_below_the_count__reverts() public {
        DataSet memory set = _garbled(0);
        IDataMarket.Order memory order = revealed(offerOf(set));
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, 0);
        disclosure.index = 4;
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.LeafIndexTooHigh.selector, 4, 4));
        market.dispute(order, disclosure);
        disclosure.index = type(uint256).max;
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.LeafIndexTooHigh.selector, type(uint256).max, 4));
        market.dispute(order, disclosure);
    }

    function test_dispute__when_leaf_is_not_in_the_root__reverts() public {
        DataSet memory set = blob(4);
        IDataMarket.Order memory order = revealed(offerOf(set));
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, 1);
        disclosure.sealedLeaf[0] ^= 0x01;
        bytes32 sealedHash = _sealedHash(disclosure);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.LeafNotInRoot.selector, sealedHash, order.offer.sealedRoot));
        market.dispute(order, disclosure);
    }

    function test_dispute__when_leaf_of_a_blob_is_honest__reverts() public {
        DataSet memory set = blob(4);
        IDataMarket.Order memory order = revealed(offerOf(set));
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), i));
            market.dispute(order, disclosureOf(set, i));
        }
    }

    /// @dev The preimage counts only once the leaf's hash is right; then it must be the promised one.
    function test_dispute__when_rule_params_are_others__reverts_unless_the_hash_is_wrong() public {
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = "a leaf that a rule would judge";
        DataSet memory set = sealLeaves(CONTENT_KEY, leaves, address(rule), "promised");
        IDataMarket.Order memory order = revealed(offerOf(set));
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, 0);
        disclosure.ruleParams = "others";
        vm.expectRevert(
            abi.encodeWithSelector(
                IDataMarket.RuleParamsInvalid.selector, keccak256("others"), order.offer.ruleParamsHash
            )
        );
        market.dispute(order, disclosure);

        set.leafHashes[0] = keccak256("something else");
        commit(set, 0);
        order = revealed(offerOf(set));
        disclosure = disclosureOf(set, 0);
        disclosure.ruleParams = "others";
        market.dispute(order, disclosure);
        assertState(order, IDataMarket.OrderState.Refunded);
    }

    /// @dev Any length from nothing to several blocks: what is sealed honestly decrypts to its hash on chain.
    function testFuzz_dispute__when_leaf_has_any_length__judges_it_by_its_hash(bytes memory leaf, bool lies) public {
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = leaf;
        DataSet memory set = sealLeaves(CONTENT_KEY, leaves, address(0), "");
        if (lies) set.leafHashes[0] = keccak256(abi.encodePacked(leaf, uint8(0)));
        commit(set, 0);
        IDataMarket.Order memory order = revealed(offerOf(set));
        if (!lies) {
            vm.expectRevert(abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), 0));
        }
        market.dispute(order, disclosureOf(set, 0));
        assertState(order, lies ? IDataMarket.OrderState.Refunded : IDataMarket.OrderState.Revealed);
    }

    function _assertNotRevealed(IDataMarket.Order memory order, DataSet memory set, IDataMarket.OrderState state)
        private
    {
        IDataMarket.Disclosure memory disclosure = disclosureOf(set, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderNotRevealed.selector, market.orderId(order), state));
        market.dispute(order, disclosure);
    }

    function _garbled(uint256 index) private pure returns (DataSet memory set) {
        set = blob(4);
        set.sealedLeaves[index][0] ^= 0x01;
        commit(set, index);
    }

    function _sealedHash(IDataMarket.Disclosure memory disclosure) private pure returns (bytes32) {
        return
            keccak256(abi.encode(uint256(0), disclosure.index, keccak256(disclosure.sealedLeaf), disclosure.leafHash));
    }
}
