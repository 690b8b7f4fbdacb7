// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsHandler as Handler } from "./PaymentChannelsHandler.sol";
import { PaymentChannelsModel as Model } from "./PaymentChannelsModel.sol";
import { TestBase, vm } from "./TestBase.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentChannelsInvariants
/// @notice PC-1 to PC-6 of the payment design, after every call of a random history, and against the handler's model.
contract PaymentChannelsInvariants is TestBase {
    PaymentChannels internal channels;
    Handler internal handler;

    function setUp() public {
        vm.warp(1_700_000_000);
        address verifier = address(new P256Verifier());
        channels = new PaymentChannels(verifier);
        handler = new Handler(channels, new PaymentChannels(verifier));
        targetContract(address(handler));

        bytes4[] memory often = new bytes4[](8);
        often[0] = Handler.deposit.selector;
        often[1] = Handler.vaultDeposit.selector;
        often[2] = Handler.fund.selector;
        often[3] = Handler.sign.selector;
        often[4] = Handler.claim.selector;
        often[5] = Handler.claimAvailable.selector;
        often[6] = Handler.settle.selector;
        often[7] = Handler.refund.selector;
        bytes4[] memory seldom = new bytes4[](10);
        seldom[0] = Handler.claimLocked.selector;
        seldom[1] = Handler.initiateWithdraw.selector;
        seldom[2] = Handler.finalizeWithdraw.selector;
        seldom[3] = Handler.vaultWithdraw.selector;
        seldom[4] = Handler.replay.selector;
        seldom[5] = Handler.strangersTry.selector;
        seldom[6] = Handler.passTime.selector;
        seldom[7] = Handler.donate.selector;
        seldom[8] = Handler.changeWallet.selector;
        seldom[9] = Handler.initiateWithdraw.selector;
        targetSelector(address(handler), often);
        targetSelector(address(handler), often);
        targetSelector(address(handler), seldom);
    }

    /// @notice PC-1 Σ(balance − claimed) + Σ(claimed − settled) + Σ vault = token balance, less what came unasked; and
    /// every purse holds what the model says.
    function invariant_PC1_theBooksAreCovered() public view {
        _checkNoSurprise();
        for (uint256 t = 0; t < 2; ++t) {
            address token = address(handler.tokens(t));
            uint256 owed = handler.donated(token);
            for (uint256 i = t; i < handler.CHANNELS(); i += 2) {
                (uint128 balance, uint128 claimed) = channels.channels(_idOf(i));
                owed += balance - claimed;
            }
            for (uint256 i = 0; i < 3; ++i) {
                (uint128 claimed, uint128 settled) = channels.receivers(handler.receivers(i), token);
                owed += claimed - settled;
            }
            for (uint256 i = 0; i < 2; ++i) {
                address payer = handler.payers(i);
                owed += channels.vaultOf(payer, token);
                assertEq(channels.vaultOf(payer, token), handler.vaultOf(payer, token), "vault");
                assertEq(DevDollar(token).balanceOf(payer), handler.purseOf(payer, token), "purse");
            }
            assertEq(DevDollar(token).balanceOf(address(channels)), owed, "what is held is what is owed");
        }
    }

    /// @notice PC-2 What is claimed only grows, never above the balance or the highest signed ceiling.
    function invariant_PC2_claimsOnlyGrowWithinBounds() public view {
        _checkNoSurprise();
        assertEq(handler.shrunk(), 0, "a claimed sum shrank");
        for (uint256 i = 0; i < handler.CHANNELS(); ++i) {
            Model.Channel memory model = handler.modelAt(i);
            (uint128 balance, uint128 claimed) = channels.channels(_idOf(i));
            assertEq(balance, model.balance, "balance");
            assertEq(claimed, model.claimed, "claimed");
            assertLe(claimed, balance, "claimed above the balance");
            assertLe(claimed, model.ceiling, "claimed above what was signed");
            assertEq(channels.refundNonce(_idOf(i)), model.refunds, "refund nonce");
        }
    }

    /// @notice PC-3 `settle` pays the receiver only: each has got what was settled to it and nothing else.
    function invariant_PC3_settlePaysTheReceiverOnly() public view {
        _checkNoSurprise();
        assertEq(handler.misdirected(), 0, "somebody else saw money move");
        for (uint256 t = 0; t < 2; ++t) {
            address token = address(handler.tokens(t));
            for (uint256 i = 0; i < 3; ++i) {
                address receiver = handler.receivers(i);
                (uint128 claimed, uint128 settled) = channels.receivers(receiver, token);
                assertEq(claimed, handler.claimedFor(receiver, token), "claimed for the receiver");
                assertEq(settled, handler.settledTo(receiver, token), "settled to the receiver");
                assertEq(DevDollar(token).balanceOf(receiver), settled, "what the receiver has");
            }
        }
    }

    /// @notice PC-4 A payer can always leave: what was announced is out when its delay is over, and what was not is out a
    /// withdrawDelay later. (What an invariant does is undone after it.)
    function invariant_PC4_aPayerCanLeave() public {
        _checkNoSurprise();
        uint256 index = handler.lastTouched();
        Scheme.ChannelConfig memory config = handler.configAt(index);
        Model.Channel memory model = handler.modelAt(index);
        uint256 before = DevDollar(config.token).balanceOf(config.payer);

        if (model.pendingAt != 0) {
            (uint128 amount, uint40 initiatedAt) = channels.pendingWithdrawals(_idOf(index));
            assertEq(amount, model.pending, "pending amount");
            assertEq(initiatedAt, model.pendingAt, "pending since");
            _leave(config, model.pendingAt + config.withdrawDelay);
        }
        (uint128 balance, uint128 claimed) = channels.channels(_idOf(index));
        if (balance > claimed) {
            vm.prank(config.payer);
            channels.initiateWithdraw(config, balance - claimed);
            _leave(config, vm.getBlockTimestamp() + config.withdrawDelay);
        }
        uint256 back = DevDollar(config.token).balanceOf(config.payer) - before;
        assertEq(back, model.balance - model.claimed, "everything unclaimed is back");
    }

    /// @notice PC-5 The outcome of `claimAvailable` for a good row does not depend on bad rows. (The handler tries the good
    /// rows alone first.)
    function invariant_PC5_badRowsSpoilNothing() public view {
        _checkNoSurprise();
        assertEq(handler.spoiled(), 0, "good rows that came out otherwise");
    }

    /// @notice PC-6 A voucher of one channel, chain or contract is worth nothing in another. (The handler replays them; the
    /// same channels on another chain and in another contract are full of money.)
    function invariant_PC6_vouchersAreOfOnePlace() public view {
        _checkNoSurprise();
        PaymentChannels twin = handler.twin();
        for (uint256 i = 0; i < handler.CHANNELS(); ++i) {
            (uint128 balance, uint128 claimed) = twin.channels(handler.idInTwin(i));
            assertGt(balance, 0, "money in another contract");
            assertEq(claimed, 0, "claimed in another contract");
            (balance, claimed) = channels.channels(handler.idOnOtherChain(i));
            assertGt(balance, 0, "money on another chain");
            assertEq(claimed, 0, "claimed on another chain");
        }
    }

    /* HELP */

    function _checkNoSurprise() private view {
        assertEq(handler.surprisingCall(), "", "a call came out other than predicted");
        assertEq(handler.surprisingAnswer(), handler.predictedProblem(), "its answer is not the predicted one");
        assertEq(handler.surprises(), 0, "surprises");
    }

    function _idOf(uint256 index) private view returns (bytes32) {
        return handler.idAt(index);
    }

    function _leave(Scheme.ChannelConfig memory config, uint256 time) private {
        if (vm.getBlockTimestamp() < time) vm.warp(time);
        vm.prank(config.payer);
        channels.finalizeWithdraw(config);
    }
}
