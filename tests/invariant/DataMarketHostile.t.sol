// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";
import { IERC1155 } from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { HookToken } from "contracts/mocks/HookToken.sol";
import { HostileReceiver } from "contracts/mocks/HostileReceiver.sol";
import { HostileRule } from "contracts/mocks/HostileRule.sol";

/// @title DataMarketHostileTest
/// @notice Code that the market calls and does not trust: tokens, rules, receivers; and calls that others carry. The table
/// in DataMarketAttacks says which row of the design each test is.
contract DataMarketHostileTest is DataMarketKit {
    bytes private constant REENTRY =
        abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
    uint256 private constant RULE_GAS = 750_000;

    /* RULES */

    /// @dev A rule that does anything but answer `true` has not said that the leaf is wrong, and costs what it may cost.
    function test_dispute__when_rule_misbehaves__is_no_fraud() public {
        HostileRule.Mode[8] memory modes = [
            HostileRule.Mode.SaysHonest,
            HostileRule.Mode.Reverts,
            HostileRule.Mode.RevertsWithBomb,
            HostileRule.Mode.Burns,
            HostileRule.Mode.AnswersTwo,
            HostileRule.Mode.AnswersShort,
            HostileRule.Mode.AnswersGas,
            HostileRule.Mode.CallsBack
        ];
        for (uint256 i = 0; i < modes.length; ++i) {
            // of its gas the rule loses a little before it looks; AnswersGas speaks where it has less than 1% less
            HostileRule hostile = new HostileRule(modes[i], address(market), RULE_GAS * 99 / 100);
            (IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure) = _judged(address(hostile));
            bytes memory data = abi.encodeCall(market.dispute, (order, disclosure));
            uint256 gas = gasleft();
            (bool success, bytes memory answer) = address(market).call{ gas: 1_000_000 }(data);
            gas -= gasleft();
            assertFalse(success, "fraud");
            assertEq(
                answer, abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), 0), "error"
            );
            assertLt(gas, RULE_GAS + 120_000, "gas");
            vm.prank(buyer);
            market.settle(order.offer, rowsOf(order));
            assertState(order, IDataMarket.OrderState.Settled);
        }
    }

    /// @dev `true` followed by 300 kB is `true`; the bytes are not copied.
    function test_dispute__when_rule_says_violated__is_fraud() public {
        HostileRule.Mode[2] memory modes = [HostileRule.Mode.SaysViolated, HostileRule.Mode.AnswersBomb];
        for (uint256 i = 0; i < modes.length; ++i) {
            HostileRule hostile = new HostileRule(modes[i], address(market), 0);
            (IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure) = _judged(address(hostile));
            market.dispute(order, disclosure);
            assertState(order, IDataMarket.OrderState.Refunded);
        }
    }

    function test_dispute__when_rule_has_no_code__is_no_fraud() public {
        (IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure) = _judged(stranger);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), 0));
        market.dispute(order, disclosure);
    }

    /// @dev Whatever the caller's limit, the rule sees the same gas or is not asked.
    function test_dispute__when_limit_of_gas_varies__gives_the_rule_the_same_gas() public {
        HostileRule hostile = new HostileRule(HostileRule.Mode.AnswersGas, address(0), RULE_GAS * 99 / 100);
        (IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure) = _judged(address(hostile));
        bytes memory data = abi.encodeCall(market.dispute, (order, disclosure));
        bytes memory honest = abi.encodeWithSelector(IDataMarket.FraudNotShown.selector, market.orderId(order), 0);
        uint256 judged;
        for (uint256 limit = 30_000; limit < 1_200_000; limit += 9001) {
            (bool success, bytes memory answer) = address(market).call{ gas: limit }(data);
            assertFalse(success, "the rule was starved");
            if (keccak256(answer) == keccak256(honest)) ++judged;
        }
        assertGt(judged, 30, "judged");
    }

    function _judged(address hostile)
        private
        returns (IDataMarket.Order memory order, IDataMarket.Disclosure memory disclosure)
    {
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = "a leaf";
        // what CallsBack asks the market for: a change of state
        bytes memory params = abi.encodeCall(market.setApprovalForAll, (stranger, true));
        DataSet memory set = sealLeaves(CONTENT_KEY, leaves, hostile, params);
        return (revealed(offerOf(set)), disclosureOf(set, 0));
    }

    /* TOKENS */

    /// @dev In the middle of a payment the token calls every function that changes something, as itself.
    function test_buy__when_token_calls_back__finds_every_entry_locked() public {
        HookToken token = _hookToken();
        IDataMarket.Offer memory offer = _offerIn(address(token));
        bytes[] memory entries = _entries(orderOf(offer, third, 9));
        for (uint256 i = 0; i < entries.length; ++i) {
            token.setHook(address(market), entries[i], false);
            uint256 calls = token.calls();
            pay(orderOf(offer, buyer, i + 1), "");
            assertEq(token.calls(), calls + 1, "the hook ran");
            assertFalse(token.lastSuccess(), "reentered");
            assertEq(token.lastAnswer(), REENTRY, "error");
        }
    }

    function test_withdraw__when_token_calls_back__finds_every_entry_locked() public {
        HookToken token = _hookToken();
        vm.prank(buyer);
        market.deposit(address(token), 1000);
        bytes[] memory entries = _entries(orderOf(_offerIn(address(token)), third, 9));
        for (uint256 i = 0; i < entries.length; ++i) {
            token.setHook(address(market), entries[i], true);
            vm.expectRevert(REENTRY);
            vm.prank(buyer);
            market.withdraw(address(token), 1, buyer);
        }
        assertEq(market.creditOf(buyer, address(token)), 1000, "credit");
    }

    /// @dev The victim's relayed purchase calls the token, which calls back: it is itself, and never the victim.
    function test_relay__when_token_calls_back_as_the_victim__is_not_the_victim() public {
        HookToken token = _hookToken();
        IDataMarket.Offer memory offer = _offerIn(address(token));
        token.setHook(address(market), abi.encodeCall(market.setApprovalForAll, (stranger, true)), false);
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        _relay(BUYER_SECRET, 1, _buyCall(order));

        assertState(order, IDataMarket.OrderState.Paid);
        assertEq(token.calls(), 1, "the hook ran");
        assertFalse(token.lastSuccess(), "reentered");
        assertFalse(market.isApprovedForAll(buyer, stranger), "approved as the victim");
        assertFalse(market.isApprovedForAll(address(token), stranger), "approved as the token");
    }

    /// @dev And it may not carry another signed call of the victim's meanwhile.
    function test_relay__when_token_relays_inside_a_relay__reverts() public {
        HookToken token = _hookToken();
        IDataMarket.Offer memory offer = _offerIn(address(token));
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(BUYER_SECRET, 2, abi.encodeCall(market.setApprovalForAll, (stranger, true)));
        token.setHook(address(market), abi.encodeCall(market.relay, (request, signature)), false);
        _relay(BUYER_SECRET, 1, _buyCall(orderOf(offer, buyer, 1)));
        assertEq(token.lastAnswer(), abi.encodeWithSelector(IRelayed.RelayNested.selector, buyer), "inside a relay");
        assertFalse(market.isNonceUsed(buyer, 2), "nonce");

        pay(orderOf(offer, buyer, 2), "");
        assertEq(token.lastAnswer(), REENTRY, "inside a direct call");
        assertFalse(market.isNonceUsed(buyer, 2), "nonce");
        market.relay(request, signature);
        assertTrue(market.isApprovedForAll(buyer, stranger), "alone it is good");
    }

    function _hookToken() private returns (HookToken token) {
        token = new HookToken();
        address[2] memory payers = [buyer, third];
        for (uint256 i = 0; i < 2; ++i) {
            token.mint(payers[i], 1e12);
            vm.prank(payers[i]);
            token.approve(address(market), type(uint256).max);
        }
    }

    function _offerIn(address token) private returns (IDataMarket.Offer memory offer) {
        offer = blobOffer();
        offer.token = token;
        listed(offer);
    }

    /// @dev Every function of the market that changes something, but `relay`, which has a lock of its own.
    function _entries(IDataMarket.Order memory order) private view returns (bytes[] memory calls) {
        DataSet memory set = blob(4);
        (uint256[] memory ids, uint256[] memory values) = (new uint256[](1), new uint256[](1));
        calls = new bytes[](18);
        calls[0] = abi.encodeCall(market.list, (order.offer, URI, SUMMARY));
        calls[1] = abi.encodeCall(market.cancel, (order.offer));
        calls[2] = _buyCall(order);
        calls[3] = abi.encodeCall(market.buyWithAuthorization, (order, "", 0, type(uint40).max, new bytes(65)));
        calls[4] = abi.encodeCall(market.reveal, (order, 1));
        calls[5] = abi.encodeCall(market.settle, (order.offer, rowsOf(order)));
        calls[6] = abi.encodeCall(market.refund, (order));
        calls[7] = abi.encodeCall(market.dispute, (order, disclosureOf(set, 0)));
        calls[8] = abi.encodeCall(market.listResale, (order.offer, order.resale, URI));
        calls[9] = abi.encodeCall(market.cancelResale, (order.resale));
        calls[10] = abi.encodeCall(market.buyResale, (order.offer, order.resale, "", address(1), 1, 1));
        calls[11] = abi.encodeCall(market.settleResale, (order.offer, order.resale, rowOf(order)));
        calls[12] = abi.encodeCall(market.deposit, (address(dollar), 1));
        calls[13] = abi.encodeCall(market.withdraw, (address(dollar), 0, stranger));
        calls[14] = abi.encodeCall(market.setApprovalForAll, (stranger, true));
        calls[15] = abi.encodeCall(market.safeTransferFrom, (buyer, stranger, 1, 1, ""));
        calls[16] = abi.encodeCall(market.safeBatchTransferFrom, (buyer, stranger, ids, values, ""));
        calls[17] = abi.encodeCall(market.cancelNonce, (1));
    }

    /* RECEIVERS */

    /// @dev A buyer that rejects data tokens used to block the whole batch: nobody asks it.
    function test_settle__when_a_buyer_rejects_tokens__settles_it_all_the_same() public {
        IDataMarket.Offer memory offer = listed(blobOffer());
        HostileReceiver receiver = _receiver();
        receiver.setRejecting(true);
        IDataMarket.Order memory rejecting = orderOf(offer, address(receiver), 1);
        IDataMarket.Order memory other = orderOf(offer, buyer, 2);
        receiver.act(address(market), _buyCall(rejecting));
        pay(other, "");
        deliver(rejecting, 1);
        deliver(other, 2);
        vm.warp(START + DISPUTE_WINDOW);
        IDataMarket.Row[] memory rows = new IDataMarket.Row[](2);
        (rows[0], rows[1]) = (rowOf(rejecting), rowOf(other));
        market.settle(offer, rows);
        assertTokens(address(receiver), offer, 1);
        assertTokens(buyer, offer, 1);
        assertEq(receiver.calls(), 0, "calls");
    }

    /// @dev Nor can a holder that rejects tokens block a refund of its resale, or a buyer the settlement.
    function test_refund__when_the_holder_rejects_tokens__gives_the_token_back() public {
        (IDataMarket.Offer memory offer, HostileReceiver receiver) = _holding();
        IDataMarket.Resale memory resale = resaleOf(offer, address(receiver));
        receiver.act(address(market), abi.encodeCall(market.listResale, (offer, resale, URI)));
        IDataMarket.Order memory order = orderOf(offer, resale, third, 2);
        pay(order, "");
        receiver.setRejecting(true);
        vm.warp(START + REVEAL_WINDOW);
        market.refund(order);
        assertTokens(address(receiver), offer, 1);
        assertCredit(third, resale.price);
    }

    /// @dev A receiver that is asked, in a transfer, calls back as itself and finds every entry locked.
    function test_safeTransferFrom__when_receiver_calls_back__finds_every_entry_locked() public {
        IDataMarket.Offer memory offer = blobOffer();
        settled(offer);
        HostileReceiver receiver = _receiver();
        bytes[] memory entries = _entries(orderOf(offer, third, 9));
        uint256 id = uint256(market.offerId(offer));
        for (uint256 i = 0; i < entries.length; ++i) {
            receiver.setHook(address(market), entries[i]);
            vm.prank(buyer);
            market.safeTransferFrom(buyer, address(receiver), id, 1, "");
            assertEq(receiver.calls(), i + 1, "the hook ran");
            assertEq(receiver.lastAnswer(), REENTRY, "error");
            receiver.setHook(address(0), "");
            receiver.act(
                address(market), abi.encodeCall(IERC1155.safeTransferFrom, (address(receiver), buyer, id, 1, ""))
            );
        }
    }

    /// @dev The victim's relayed transfer asks the receiver, which tries to approve itself as the victim.
    function test_relay__when_receiver_calls_back_as_the_victim__is_not_the_victim() public {
        IDataMarket.Offer memory offer = blobOffer();
        settled(offer);
        HostileReceiver receiver = _receiver();
        receiver.setHook(address(market), abi.encodeCall(market.setApprovalForAll, (address(receiver), true)));
        uint256 id = uint256(market.offerId(offer));
        _relay(BUYER_SECRET, 1, abi.encodeCall(IERC1155.safeTransferFrom, (buyer, address(receiver), id, 1, "")));
        assertTokens(address(receiver), offer, 1);
        assertEq(receiver.calls(), 1, "the hook ran");
        assertEq(receiver.lastAnswer(), REENTRY, "error");
        assertFalse(market.isApprovedForAll(buyer, address(receiver)), "approved as the victim");
    }

    function _receiver() private returns (HostileReceiver receiver) {
        receiver = new HostileReceiver();
        dollar.mint(address(receiver), 1e9);
        receiver.act(address(dollar), abi.encodeCall(dollar.approve, (address(market), type(uint256).max)));
    }

    /// @dev A receiver that bought a copy.
    function _holding() private returns (IDataMarket.Offer memory offer, HostileReceiver receiver) {
        offer = listed(blobOffer());
        receiver = _receiver();
        IDataMarket.Order memory order = orderOf(offer, address(receiver), 1);
        receiver.act(address(market), _buyCall(order));
        deliver(order, 1);
        receiver.act(address(market), abi.encodeCall(market.settle, (offer, rowsOf(order))));
    }

    /* RELAYED CALLS */

    /// @dev A machine without ether trades: every step is carried by a stranger.
    function test_relay__when_a_whole_trade_is_relayed__acts_as_the_signers() public {
        IDataMarket.Offer memory offer = blobOffer();
        offer.bond = 100;
        _relay(SELLER_SECRET, 1, abi.encodeCall(market.deposit, (address(dollar), 100)));
        _relay(SELLER_SECRET, 2, abi.encodeCall(market.list, (offer, URI, SUMMARY)));
        IDataMarket.Order memory order = orderOf(offer, buyer, 1);
        _relay(BUYER_SECRET, 1, _buyCall(order));
        _relay(SELLER_SECRET, 3, abi.encodeCall(market.reveal, (order, releasedKeyOf(order, 1))));
        _relay(BUYER_SECRET, 2, abi.encodeCall(market.settle, (offer, rowsOf(order))));
        _relay(SELLER_SECRET, 4, abi.encodeCall(market.withdraw, (address(dollar), PRICE, seller)));
        _relay(SELLER_SECRET, 5, abi.encodeCall(market.cancel, (offer)));

        IDataMarket.Resale memory resale = resaleOf(offer, buyer);
        _relay(BUYER_SECRET, 3, abi.encodeCall(market.listResale, (offer, resale, URI)));
        order = orderOf(offer, resale, third, 2);
        _relay(
            THIRD_SECRET,
            1,
            abi.encodeCall(market.buyResale, (offer, resale, "", order.mask, order.ephemeralX, order.ephemeralY))
        );
        _relay(BUYER_SECRET, 4, abi.encodeCall(market.reveal, (order, releasedKeyOf(order, 2))));
        _relay(THIRD_SECRET, 2, abi.encodeCall(market.settleResale, (offer, resale, rowOf(order))));
        _relay(BUYER_SECRET, 5, abi.encodeCall(market.cancelResale, (resale)));
        assertTokens(third, offer, 1);
        assertCredit(seller, 100 + 15_000);
        assertCredit(buyer, resale.price - 15_000);
    }

    /// @dev The call's own error comes through, and the signature is good for another try.
    function test_relay__when_the_call_fails__bubbles_and_keeps_the_nonce() public {
        IDataMarket.Order memory order = paid(blobOffer());
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(BUYER_SECRET, 1, abi.encodeCall(market.refund, (order)));
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, START + REVEAL_WINDOW, START));
        market.relay(request, signature);
        assertFalse(market.isNonceUsed(buyer, 1), "nonce");

        vm.warp(START + REVEAL_WINDOW);
        market.relay(request, signature);
        assertTrue(market.isNonceUsed(buyer, 1), "nonce");
        assertCredit(buyer, PRICE);
    }

    /// @dev A relayer who holds a reveal back and shows it after the refund, or the other way round, moves nothing: the
    /// state machine takes one of them. What leaks is the key, which is why a reveal goes to a relayer that one trusts.
    function test_relay__when_a_reveal_or_a_refund_is_withheld__only_one_counts() public {
        IDataMarket.Order memory order = paid(blobOffer());
        (IRelayed.SignedCall memory reveal, bytes memory revealSignature) =
            _signedCall(SELLER_SECRET, 1, abi.encodeCall(market.reveal, (order, releasedKeyOf(order, 1))));
        (IRelayed.SignedCall memory refund, bytes memory refundSignature) =
            _signedCall(SELLER_SECRET, 2, abi.encodeCall(market.refund, (order)));
        bytes32 id = market.orderId(order);

        uint256 before = vm.snapshotState();
        market.relay(refund, refundSignature);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, id, IDataMarket.OrderState.Refunded));
        market.relay(reveal, revealSignature);
        vm.revertToState(before);
        market.relay(reveal, revealSignature);
        vm.expectRevert(abi.encodeWithSelector(IDataMarket.OrderNotPaid.selector, id, IDataMarket.OrderState.Revealed));
        market.relay(refund, refundSignature);
        vm.revertToState(before);

        // withheld beyond its deadline, a reveal is worthless; and a seller can take a signed refund back in time
        vm.warp(START + REVEAL_WINDOW);
        vm.expectRevert(
            abi.encodeWithSelector(IAgreements.WindowIsOver.selector, START + REVEAL_WINDOW, START + REVEAL_WINDOW)
        );
        market.relay(reveal, revealSignature);
        vm.prank(seller);
        market.cancelNonce(2);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, seller, 2));
        market.relay(refund, refundSignature);
    }

    function _buyCall(IDataMarket.Order memory order) private view returns (bytes memory) {
        return abi.encodeCall(market.buy, (order.offer, "", order.mask, order.ephemeralX, order.ephemeralY));
    }

    function _relay(uint256 secret, uint256 nonce, bytes memory call) private {
        (IRelayed.SignedCall memory request, bytes memory signature) = _signedCall(secret, nonce, call);
        vm.prank(stranger);
        market.relay(request, signature);
    }

    function _signedCall(uint256 secret, uint256 nonce, bytes memory call)
        private
        view
        returns (IRelayed.SignedCall memory request, bytes memory signature)
    {
        request = IRelayed.SignedCall(vm.addr(secret), call, nonce, uint40(START + 90 days));
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        bytes32 structHash = keccak256(abi.encode(typeHash, request.sender, keccak256(call), nonce, request.deadline));
        signature = signEcdsa(secret, typedDigest("pyiot DataMarket", address(market), structHash));
    }
}
