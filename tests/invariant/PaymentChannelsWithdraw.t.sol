// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsKit, PaymentMessages } from "./PaymentChannelsKit.sol";
import { Vm, vm } from "./TestBase.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";

/// @title PaymentChannelsWithdrawTest
/// @notice The ways back: `initiateWithdraw`, `finalizeWithdraw`, `refund`, `refundWithSignature`; and `multicall`, `relay`.
contract PaymentChannelsWithdrawTest is PaymentChannelsKit {
    /* INITIATE */

    function test_initiateWithdraw__when_payersSideAsks__notesIt() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.expectEmit(address(channels));
        emit Scheme.WithdrawInitiated(_id(config), 40, uint40(block.timestamp + DELAY));
        vm.prank(payer);
        channels.initiateWithdraw(config, 40);
        _expectPending(config, 40, block.timestamp);

        Scheme.ChannelConfig memory other = _config(1);
        _deposit(other, 10);
        vm.prank(authorizer);
        channels.initiateWithdraw(other, 10);
        _expectPending(other, 10, block.timestamp);
    }

    function test_initiateWithdraw__when_callerIsNotThePayersSide__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidChannel.selector);
        channels.initiateWithdraw(config, 40);
    }

    function test_initiateWithdraw__when_amountIsZero__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(payer);
        vm.expectRevert(Scheme.NothingToWithdraw.selector);
        channels.initiateWithdraw(config, 0);
    }

    function test_initiateWithdraw__when_oneIsPending__reverts() public {
        Scheme.ChannelConfig memory config = _initiated(40);
        vm.prank(payer);
        vm.expectRevert(Scheme.WithdrawalAlreadyPending.selector);
        channels.initiateWithdraw(config, 1);
    }

    function test_initiateWithdraw__when_moreThanIsUnclaimed__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        vm.startPrank(payer);
        vm.expectRevert(Scheme.WithdrawAmountExceedsAvailable.selector);
        channels.initiateWithdraw(config, 41);
        channels.initiateWithdraw(config, 40);
    }

    /* FINALIZE */

    function test_finalizeWithdraw__when_theDelayIsOver__paysThePayer() public {
        Scheme.ChannelConfig memory config = _initiated(40);
        vm.warp(block.timestamp + DELAY);
        vm.expectEmit(address(channels));
        emit Scheme.WithdrawFinalized(_id(config), authorizer, 40);
        vm.prank(authorizer);
        channels.finalizeWithdraw(config);

        _expectChannel(config, 60, 0);
        _expectPending(config, 0, 0);
        assertEq(dollar.balanceOf(payer), PURSE - 60, "the payer's purse");
        assertEq(dollar.balanceOf(authorizer), 0, "the authorizer's purse");
    }

    function test_finalizeWithdraw__when_everythingLeaves__emitsClosed() public {
        Scheme.ChannelConfig memory config = _initiated(100);
        vm.warp(block.timestamp + DELAY);
        vm.expectEmit(address(channels));
        emit Scheme.ChannelClosed(_id(config), config);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        _expectChannel(config, 0, 0);
    }

    function test_finalizeWithdraw__when_callerIsNotThePayersSide__reverts() public {
        Scheme.ChannelConfig memory config = _initiated(40);
        vm.warp(block.timestamp + DELAY);
        vm.prank(receiver);
        vm.expectRevert(Scheme.NotAuthorizedToFinalizeWithdraw.selector);
        channels.finalizeWithdraw(config);
    }

    function test_finalizeWithdraw__when_noneIsPending__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(payer);
        vm.expectRevert(Scheme.WithdrawalNotPending.selector);
        channels.finalizeWithdraw(config);
    }

    function test_finalizeWithdraw__when_itIsASecondTooEarly__reverts() public {
        Scheme.ChannelConfig memory config = _initiated(40);
        vm.warp(block.timestamp + DELAY - 1);
        vm.prank(payer);
        vm.expectRevert(Scheme.WithdrawDelayNotElapsed.selector);
        channels.finalizeWithdraw(config);
    }

    function test_finalizeWithdraw__when_claimsLeftLess__paysWhatIsLeft() public {
        Scheme.ChannelConfig memory config = _initiated(80);
        _claim(_row(config, 60));
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        _expectChannel(config, 60, 60);
        assertEq(dollar.balanceOf(payer), PURSE - 60, "the payer's purse");
    }

    function test_finalizeWithdraw__when_claimsLeftNothing__endsItWithoutATransfer() public {
        Scheme.ChannelConfig memory config = _initiated(80);
        _claim(_row(config, 100));
        vm.warp(block.timestamp + DELAY);
        vm.expectEmit(address(channels));
        emit Scheme.WithdrawFinalized(_id(config), payer, 0);
        vm.recordLogs();
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        assertEq(vm.getRecordedLogs().length, 1, "logs");
        _expectPending(config, 0, 0);
    }

    /* REFUND */

    function test_refund__when_receiversSideGivesBack__paysThePayer() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.expectEmit(address(channels));
        emit Scheme.Refunded(_id(config), claimer, 30);
        vm.prank(claimer);
        channels.refund(config, 30);
        _expectChannel(config, 70, 0);
        assertEq(channels.refundNonce(_id(config)), 1, "nonce");
        assertEq(dollar.balanceOf(payer), PURSE - 70, "the payer's purse");

        vm.prank(receiver);
        channels.refund(config, 1);
        assertEq(channels.refundNonce(_id(config)), 2, "nonce");
    }

    function test_refund__when_moreThanIsUnclaimed__givesBackWhatThereIs() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        vm.prank(receiver);
        channels.refund(config, type(uint128).max);
        _expectChannel(config, 60, 60);
        assertEq(dollar.balanceOf(payer), PURSE - 60, "the payer's purse");
    }

    function test_refund__when_everythingLeaves__emitsClosed() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.expectEmit(address(channels));
        emit Scheme.ChannelClosed(_id(config), config);
        vm.prank(receiver);
        channels.refund(config, 100);
    }

    function test_refund__when_nothingIsLeft__raisesTheNonceAlone() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 100));
        vm.recordLogs();
        vm.prank(receiver);
        channels.refund(config, 5);
        assertEq(vm.getRecordedLogs().length, 0, "logs");
        assertEq(channels.refundNonce(_id(config)), 1, "nonce");
    }

    function test_refund__when_callerIsNotTheReceiversSide__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(payer);
        vm.expectRevert(Scheme.NotAuthorizedToRefund.selector);
        channels.refund(config, 1);
    }

    function test_refund__when_amountIsZero__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(receiver);
        vm.expectRevert(Scheme.ZeroRefund.selector);
        channels.refund(config, 0);
    }

    /* REFUND WITH SIGNATURE */

    function test_refundWithSignature__when_authorizerSigned__refundsForAnyone() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.expectEmit(address(channels));
        emit Scheme.Refunded(_id(config), stranger, 30);
        vm.prank(stranger);
        channels.refundWithSignature(config, 30, 0, _refundSignature(config, 0, 30, CLAIMER_KEY));
        _expectChannel(config, 70, 0);
        channels.refundWithSignature(config, 30, 1, _refundSignature(config, 1, 30, CLAIMER_KEY));
        _expectChannel(config, 40, 0);
    }

    function test_refundWithSignature__when_authorizerIsAContract__asksIt() public {
        Scheme.ChannelConfig memory config = _config();
        config.receiverAuthorizer = address(new PaymentTestWallet(claimer));
        _deposit(config, 100);
        channels.refundWithSignature(config, 30, 0, _refundSignature(config, 0, 30, CLAIMER_KEY));
        _expectChannel(config, 70, 0);
    }

    function test_refundWithSignature__when_theNonceIsNotTheNext__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes memory signature = _refundSignature(config, 0, 30, CLAIMER_KEY);
        channels.refundWithSignature(config, 30, 0, signature);
        vm.expectRevert(Scheme.InvalidRefundNonce.selector);
        channels.refundWithSignature(config, 30, 0, signature);
        signature = _refundSignature(config, 2, 30, CLAIMER_KEY);
        vm.expectRevert(Scheme.InvalidRefundNonce.selector);
        channels.refundWithSignature(config, 30, 2, signature);
    }

    function test_refundWithSignature__when_aDirectRefundCameFirst__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes memory signature = _refundSignature(config, 0, 30, CLAIMER_KEY);
        vm.prank(receiver);
        channels.refund(config, 1);
        vm.expectRevert(Scheme.InvalidRefundNonce.selector);
        channels.refundWithSignature(config, 30, 0, signature);
    }

    function test_refundWithSignature__when_signedByAnotherOrForAnotherAmount__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes memory signature = _refundSignature(config, 0, 30, RECEIVER_KEY);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.refundWithSignature(config, 30, 0, signature);
        signature = _refundSignature(config, 0, 30, CLAIMER_KEY);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.refundWithSignature(config, 31, 0, signature);
    }

    function test_refundWithSignature__when_amountIsZero__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes memory signature = _refundSignature(config, 0, 0, CLAIMER_KEY);
        vm.expectRevert(Scheme.ZeroRefund.selector);
        channels.refundWithSignature(config, 0, 0, signature);
    }

    /* LEFT OPEN BY THE SCHEME: see docs/decisions/0031 */

    function test_refund__when_aWithdrawalIsPending__lessensOrEndsIt() public {
        Scheme.ChannelConfig memory config = _initiated(80);
        uint256 since = vm.getBlockTimestamp();
        vm.warp(since + 100);
        vm.prank(receiver);
        channels.refund(config, 79);
        _expectPending(config, 1, since);
        vm.prank(receiver);
        channels.refund(config, 1);
        _expectPending(config, 0, 0);
        _expectChannel(config, 20, 0);

        vm.prank(payer);
        channels.initiateWithdraw(config, 20);
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        assertEq(dollar.balanceOf(payer), PURSE, "everything is back");
    }

    function test_deposit__when_theChannelIsDrained__goesOnWhereItWas() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 100));
        vm.recordLogs();
        _deposit(config, 50);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            assertTrue(logs[i].topics[0] != Scheme.ChannelCreated.selector, "not created again");
        }
        _expectChannel(config, 150, 100);
        _claim(_row(config, 120));
        _expectChannel(config, 150, 120);
    }

    function test_deposit__when_theChannelWasClosed__isCreatedAgainAndOldVouchersAreGood() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory old = _row(config, 60);
        vm.prank(receiver);
        channels.refund(config, 100);

        vm.expectEmit(address(channels));
        emit Scheme.ChannelCreated(_id(config), config);
        _deposit(config, 70);
        assertEq(channels.refundNonce(_id(config)), 1, "the nonce goes on");
        _claim(old);
        _expectChannel(config, 70, 60);
    }

    function test_deposit__when_aWithdrawalIsPending__leavesItPending() public {
        Scheme.ChannelConfig memory config = _initiated(100);
        uint256 since = vm.getBlockTimestamp();
        _deposit(config, 50);
        _expectPending(config, 100, since);
        vm.warp(since + DELAY);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        _expectChannel(config, 50, 0);
    }

    /* BATCHES AND RELAYED CALLS */

    function test_multicall__when_aFacilitatorClaimsAndRefunds__doesBoth() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60));
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(
            channels.claimWithSignature,
            (rows, signEcdsa(CLAIMER_KEY, PaymentMessages.claimBatch(address(channels), rows)))
        );
        calls[1] =
            abi.encodeCall(channels.refundWithSignature, (config, 40, 0, _refundSignature(config, 0, 40, CLAIMER_KEY)));
        vm.prank(stranger);
        channels.multicall(calls);
        _expectChannel(config, 60, 60);
        assertEq(dollar.balanceOf(payer), PURSE - 60, "the payer's purse");
    }

    function test_multicall__when_onePartFails__undoesAllAndPassesItsErrorOn() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(channels.refund, (config, 40));
        calls[1] = abi.encodeCall(channels.refund, (config, 0));
        vm.prank(receiver);
        vm.expectRevert(Scheme.ZeroRefund.selector);
        channels.multicall(calls);
        _expectChannel(config, 100, 0);
    }

    function test_relay__when_signed__actsAsTheSigner() public {
        _relay(PAYER_KEY, abi.encodeCall(channels.vaultDeposit, (address(dollar), 100)), 1);
        _relay(PAYER_KEY, abi.encodeCall(channels.fund, (_one(_config()), _one(80))), 2);
        _relay(RECEIVER_KEY, abi.encodeCall(channels.claimAvailable, (_rows(_row(_config(), 30)))), 1);
        _relay(CLAIMER_KEY, abi.encodeCall(channels.claimLocked, (_lockedRow(_config(), 40, "k"), "k")), 1);
        _relay(PAYER_KEY, abi.encodeCall(channels.initiateWithdraw, (_config(), 40)), 3);
        _relay(PAYER_KEY, abi.encodeCall(channels.vaultWithdraw, (address(dollar), 20, payer)), 4);
        _expectChannel(_config(), 80, 40);
        _expectPending(_config(), 40, block.timestamp);
        assertEq(dollar.balanceOf(payer), PURSE - 80, "the payer's purse");
    }

    function test_relay__when_itIsAMulticall__reverts() public {
        bytes[] memory calls = new bytes[](1);
        calls[0] = abi.encodeCall(channels.vaultDeposit, (address(dollar), 100));
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(PAYER_KEY, abi.encodeCall(channels.multicall, (calls)), 1);
        vm.expectRevert(IPaymentChannels.MulticallInRelay.selector);
        channels.relay(request, signature);
        assertFalse(channels.isNonceUsed(payer, 1), "the nonce is unused");
    }

    function test_relay__when_itIsInsideAMulticall__actsAsTheSignerOfEach() public {
        bytes[] memory calls = new bytes[](2);
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(PAYER_KEY, abi.encodeCall(channels.vaultDeposit, (address(dollar), 100)), 1);
        calls[0] = abi.encodeCall(channels.relay, (request, signature));
        calls[1] = abi.encodeCall(channels.vaultWithdraw, (address(dollar), 100, stranger));
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(IPaymentChannels.VaultTooLow.selector, stranger, address(dollar), uint256(0), 100)
        );
        channels.multicall(calls);
    }

    function test_cancelNonce__when_called__keepsTheSignedCallFromBeingRelayed() public {
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(PAYER_KEY, abi.encodeCall(channels.vaultDeposit, (address(dollar), 100)), 7);
        vm.prank(payer);
        channels.cancelNonce(7);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, payer, uint256(7)));
        channels.relay(request, signature);
    }

    /* HELP */

    /// @dev A channel with 100 in it, `amount` of it being withdrawn.
    function _initiated(uint128 amount) private returns (Scheme.ChannelConfig memory config) {
        config = _open(100);
        vm.prank(payer);
        channels.initiateWithdraw(config, amount);
    }

    function _refundSignature(Scheme.ChannelConfig memory config, uint256 nonce, uint128 amount, uint256 key)
        private
        view
        returns (bytes memory)
    {
        return signEcdsa(key, PaymentMessages.refund(address(channels), _id(config), nonce, amount));
    }

    function _relay(uint256 key, bytes memory call, uint256 nonce) private {
        (IRelayed.SignedCall memory request, bytes memory signature) = _signedCall(key, call, nonce);
        vm.prank(stranger);
        channels.relay(request, signature);
    }
}
