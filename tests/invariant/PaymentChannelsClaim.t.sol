// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsKit, PaymentMessages } from "./PaymentChannelsKit.sol";
import { vm } from "./TestBase.sol";
import { Panic } from "@openzeppelin/contracts/utils/Panic.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";

/// @title PaymentChannelsClaimTest
/// @notice `claim`, `claimWithSignature`, `claimAvailable`, `claimLocked`, `settle`, and who may sign vouchers.
contract PaymentChannelsClaimTest is PaymentChannelsKit {
    bytes32 private constant PREIMAGE = keccak256("the key of one reading");

    /* CLAIM */

    function test_claim__when_signed__booksToTheReceiver() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        _expectChannel(config, 100, 60);
        _expectOwed(receiver, address(dollar), 60, 0);

        _claim(_row(config, 100, 70, AUTHORIZER_KEY));
        _expectChannel(config, 100, 70);
        _expectOwed(receiver, address(dollar), 70, 0);
        assertEq(dollar.balanceOf(receiver), 0, "claims move no money");
    }

    function test_claim__when_signed__emitsTheDifference() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 75));
        vm.expectEmit(address(channels));
        emit Scheme.Claimed(_id(config), claimer, 15, 75);
        vm.prank(claimer);
        channels.claim(rows);
    }

    function test_claim__when_batchIsEmpty__reverts() public {
        vm.expectRevert(Scheme.EmptyBatch.selector);
        channels.claim(new Scheme.VoucherClaim[](0));
    }

    function test_claim__when_callerIsNotTheReceiversSide__reverts() public {
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 60));
        address[3] memory others = [stranger, payer, authorizer];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(Scheme.NotAuthorizedToClaim.selector);
            channels.claim(rows);
        }
    }

    function test_claim__when_noMoreThanBefore__doesNothing() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        vm.recordLogs();
        _claim(_row(config, 60));
        _claim(_row(config, 59));
        assertEq(vm.getRecordedLogs().length, 0, "logs");
        _expectChannel(config, 100, 60);
    }

    function test_claim__when_aboveTheCeiling__reverts() public {
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 60, 61, AUTHORIZER_KEY));
        vm.prank(receiver);
        vm.expectRevert(Scheme.ClaimExceedsCeiling.selector);
        channels.claim(rows);
    }

    function test_claim__when_aboveTheBalance__reverts() public {
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 101));
        vm.prank(receiver);
        vm.expectRevert(Scheme.ClaimExceedsBalance.selector);
        channels.claim(rows);
    }

    function test_claim__when_signedByAnother__reverts() public {
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 60, 60, PAYER_KEY));
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(rows);
    }

    function test_claim__when_oneRowIsBad__claimsNone() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60), _row(config, 70, 70, PAYER_KEY));
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(rows);
        _expectChannel(config, 100, 0);
    }

    function test_claim__when_receiversTotalWouldOverflow__reverts() public {
        Scheme.VoucherClaim memory row = _overflowing();
        vm.prank(receiver);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", Panic.UNDER_OVERFLOW));
        channels.claim(_rows(row));
    }

    /* CLAIM WITH SIGNATURE */

    function test_claimWithSignature__when_authorizerSigned__claimsForAnyone() public {
        Scheme.ChannelConfig memory config = _open(100);
        (Scheme.VoucherClaim[] memory rows, bytes memory signature) = _batch(config, CLAIMER_KEY);
        vm.expectEmit(address(channels));
        emit Scheme.Claimed(_id(config), stranger, 30, 30);
        vm.prank(stranger);
        channels.claimWithSignature(rows, signature);
        _expectChannel(config, 100, 60);
    }

    function test_claimWithSignature__when_authorizerIsAContract__asksIt() public {
        Scheme.ChannelConfig memory config = _config();
        PaymentTestWallet wallet = new PaymentTestWallet(claimer);
        config.receiverAuthorizer = address(wallet);
        _deposit(config, 100);
        (Scheme.VoucherClaim[] memory rows, bytes memory signature) = _batch(config, CLAIMER_KEY);
        channels.claimWithSignature(rows, signature);
        _expectChannel(config, 100, 60);

        wallet.behave(PaymentTestWallet.Manner.SayNo);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_claimWithSignature__when_batchIsEmpty__reverts() public {
        vm.expectRevert(Scheme.EmptyBatch.selector);
        channels.claimWithSignature(new Scheme.VoucherClaim[](0), "");
    }

    function test_claimWithSignature__when_theReceiverSignedInstead__reverts() public {
        (Scheme.VoucherClaim[] memory rows, bytes memory signature) = _batch(_open(100), RECEIVER_KEY);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_claimWithSignature__when_aRowWasChanged__reverts() public {
        (Scheme.VoucherClaim[] memory rows, bytes memory signature) = _batch(_open(100), CLAIMER_KEY);
        rows[1].totalClaimed = 59;
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimWithSignature(rows, signature);
    }

    function test_claimWithSignature__when_aRowHasAnotherAuthorizer__reverts() public {
        Scheme.ChannelConfig memory other = _config(1);
        other.receiverAuthorizer = stranger;
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 30), _row(other, 30));
        bytes memory signature = signEcdsa(CLAIMER_KEY, PaymentMessages.claimBatch(address(channels), rows));
        vm.expectRevert(Scheme.NotReceiverAuthorizer.selector);
        channels.claimWithSignature(rows, signature);
    }

    /* CLAIM AVAILABLE */

    function test_claimAvailable__when_signed__claimsAndSaysSo() public {
        Scheme.ChannelConfig memory config = _open(100);
        _expectOutcome(_claimAvailable(_row(config, 60)), IPaymentChannels.ClaimOutcome.Claimed);
        _expectChannel(config, 100, 60);
        _expectOwed(receiver, address(dollar), 60, 0);
    }

    function test_claimAvailable__when_aboveTheBalance__claimsTheBalance() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 150));
        vm.expectEmit(address(channels));
        emit Scheme.Claimed(_id(config), receiver, 100, 100);
        vm.prank(receiver);
        _expectOutcome(channels.claimAvailable(rows)[0], IPaymentChannels.ClaimOutcome.ClaimedInPart);
        _expectChannel(config, 100, 100);

        _expectOutcome(_claimAvailable(_row(config, 150)), IPaymentChannels.ClaimOutcome.BalanceExhausted);
        _deposit(config, 70);
        _expectOutcome(_claimAvailable(_row(config, 150)), IPaymentChannels.ClaimOutcome.Claimed);
        _expectChannel(config, 170, 150);
    }

    function test_claimAvailable__when_aRowIsBad__saysWhyInTheLogsToo() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60, 60, PAYER_KEY), _row(config, 50));
        vm.expectEmit(address(channels));
        emit IPaymentChannels.ClaimSkipped(_id(config), receiver, IPaymentChannels.ClaimOutcome.SignatureInvalid);
        vm.expectEmit(address(channels));
        emit Scheme.Claimed(_id(config), receiver, 50, 50);
        vm.prank(receiver);
        IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(rows);
        _expectOutcome(outcomes[0], IPaymentChannels.ClaimOutcome.SignatureInvalid);
        _expectOutcome(outcomes[1], IPaymentChannels.ClaimOutcome.Claimed);
    }

    function test_claimAvailable__when_numbersAreWrong__saysWhich() public {
        Scheme.ChannelConfig memory config = _open(100);
        _expectOutcome(
            _claimAvailable(_row(config, 60, 61, AUTHORIZER_KEY)), IPaymentChannels.ClaimOutcome.CeilingExceeded
        );
        _expectOutcome(_claimAvailable(_row(_config(7), 1)), IPaymentChannels.ClaimOutcome.BalanceExhausted);
        _claim(_row(config, 60));
        _expectOutcome(_claimAvailable(_row(config, 60)), IPaymentChannels.ClaimOutcome.AlreadyClaimed);
        _expectOutcome(_claimAvailable(_row(config, 0)), IPaymentChannels.ClaimOutcome.AlreadyClaimed);
    }

    function test_claimAvailable__when_callerIsNotTheReceiversSide__refusesTheRow() public {
        Scheme.VoucherClaim[] memory rows = _rows(_row(_open(100), 60));
        vm.prank(stranger);
        _expectOutcome(channels.claimAvailable(rows)[0], IPaymentChannels.ClaimOutcome.NotAuthorized);
        _expectChannel(_config(), 100, 0);
    }

    function test_claimAvailable__when_receiversTotalWouldOverflow__refusesTheRow() public {
        _expectOutcome(_claimAvailable(_overflowing()), IPaymentChannels.ClaimOutcome.ReceiverTotalExceeded);
        _expectOutcome(_claimAvailable(_row(_config(2), 1)), IPaymentChannels.ClaimOutcome.Claimed);
    }

    function test_claimAvailable__when_batchIsEmpty__reverts() public {
        vm.expectRevert(Scheme.EmptyBatch.selector);
        channels.claimAvailable(new Scheme.VoucherClaim[](0));
    }

    /* CLAIM LOCKED */

    function test_claimLocked__when_thePreimageFits__claimsAndPublishesIt() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory row = _lockedRow(config, 60, PREIMAGE);
        vm.expectEmit(address(channels));
        emit IPaymentChannels.LockOpened(_id(config), keccak256(abi.encodePacked(PREIMAGE)), PREIMAGE);
        vm.expectEmit(address(channels));
        emit Scheme.Claimed(_id(config), receiver, 60, 60);
        vm.prank(receiver);
        channels.claimLocked(row, PREIMAGE);
        _expectChannel(config, 100, 60);
        _expectOwed(receiver, address(dollar), 60, 0);
    }

    function test_claimLocked__when_callerIsNotTheReceiversSide__reverts() public {
        Scheme.VoucherClaim memory row = _lockedRow(_open(100), 60, PREIMAGE);
        vm.prank(payer);
        vm.expectRevert(Scheme.NotAuthorizedToClaim.selector);
        channels.claimLocked(row, PREIMAGE);
    }

    function test_claimLocked__when_noMoreThanBefore__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        Scheme.VoucherClaim memory row = _lockedRow(config, 60, PREIMAGE);
        vm.prank(receiver);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.NothingToClaim.selector, _id(config), uint128(60)));
        channels.claimLocked(row, PREIMAGE);
    }

    function test_claimLocked__when_aboveCeilingOrBalance__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory row = _lockedRow(config, 60, PREIMAGE);
        row.totalClaimed = 61;
        vm.prank(receiver);
        vm.expectRevert(Scheme.ClaimExceedsCeiling.selector);
        channels.claimLocked(row, PREIMAGE);

        row = _lockedRow(config, 101, PREIMAGE);
        vm.prank(receiver);
        vm.expectRevert(Scheme.ClaimExceedsBalance.selector);
        channels.claimLocked(row, PREIMAGE);
    }

    function test_claimLocked__when_thePreimageDoesNotFit__reverts() public {
        Scheme.VoucherClaim memory row = _lockedRow(_open(100), 60, PREIMAGE);
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimLocked(row, keccak256("another key"));
    }

    function test_claimLocked__when_itIsAPlainVoucherOrTheOtherWay__reverts() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory plain = _row(config, 60);
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimLocked(plain, PREIMAGE);

        Scheme.VoucherClaim[] memory locked = _rows(_lockedRow(config, 60, PREIMAGE));
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(locked);
    }

    /* WHO SIGNS */

    function test_claim__when_thereIsNoAuthorizer__takesThePayersSignature() public {
        Scheme.ChannelConfig memory config = _config();
        config.payerAuthorizer = address(0);
        _deposit(config, 100);
        _claim(_row(config, 60, 60, PAYER_KEY));
        _expectChannel(config, 100, 60);

        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 70));
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(rows);
    }

    function test_claim__when_thePayerIsAContract__asksIt() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        _claim(_row(config, 60));
        _expectOutcome(_claimAvailable(_row(config, 70)), IPaymentChannels.ClaimOutcome.Claimed);
        _expectChannel(config, 100, 70);

        wallet.behave(PaymentTestWallet.Manner.SayNo);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 80));
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(rows);
        _expectOutcome(_claimAvailable(rows[0]), IPaymentChannels.ClaimOutcome.SignatureInvalid);
    }

    function test_claim__when_thePayerSignsWithP256__takesIt() public {
        Scheme.ChannelConfig memory config = _p256Config();
        _deposit(config, 100);
        _claim(_p256Row(config, 60));
        _expectOutcome(_claimAvailable(_p256Row(config, 70)), IPaymentChannels.ClaimOutcome.Claimed);
        _expectChannel(config, 100, 70);
    }

    function test_claimLocked__when_thePayerSignsWithP256__takesIt() public {
        Scheme.ChannelConfig memory config = _p256Config();
        _deposit(config, 100);
        bytes32 lock = keccak256(abi.encodePacked(PREIMAGE));
        bytes32 digest = PaymentMessages.lockedVoucher(address(channels), _id(config), 60, lock);
        Scheme.VoucherClaim memory row = Scheme.VoucherClaim(
            Scheme.Voucher(config, 60), bytes.concat(_deviceSigner(), signP256(DEVICE_KEY, digest)), 60
        );
        vm.prank(receiver);
        channels.claimLocked(row, PREIMAGE);
        _expectChannel(config, 100, 60);
    }

    function test_claim__when_theP256SignatureIsBad__reverts() public {
        Scheme.ChannelConfig memory config = _p256Config();
        _deposit(config, 100);
        Scheme.VoucherClaim memory good = _p256Row(config, 60);
        for (uint256 i = 0; i < 6; ++i) {
            Scheme.VoucherClaim[] memory rows = _rows(good);
            rows[0].signature = _spoiledP256(good.signature, i);
            vm.prank(receiver);
            vm.expectRevert(Scheme.InvalidSignature.selector);
            channels.claim(rows);
            vm.prank(receiver);
            _expectOutcome(channels.claimAvailable(rows)[0], IPaymentChannels.ClaimOutcome.SignatureInvalid);
        }
    }

    function test_claim__when_theP256SignerHasAnotherVerifier__reverts() public {
        (uint256 x, uint256 y) = vm.publicKeyP256(DEVICE_KEY);
        bytes memory signer = abi.encodePacked(stranger, x, y);
        Scheme.ChannelConfig memory config = _config();
        config.payerAuthorizer = address(bytes20(keccak256(signer)));
        _deposit(config, 100);
        bytes32 digest = PaymentMessages.voucher(address(channels), _id(config), 60);
        Scheme.VoucherClaim[] memory rows = _rows(
            Scheme.VoucherClaim(Scheme.Voucher(config, 60), bytes.concat(signer, signP256(DEVICE_KEY, digest)), 60)
        );
        vm.prank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claim(rows);
    }

    function testFuzz_claimAvailable__when_theSignatureIsGarbage__neverReverts(bytes memory garbage, uint256 length)
        public
    {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory row = _row(config, 60);
        row.signature = garbage;
        _expectOutcome(_claimAvailable(row), IPaymentChannels.ClaimOutcome.SignatureInvalid);
        row.signature = new bytes(bound(length, 0, 300));
        _expectOutcome(_claimAvailable(row), IPaymentChannels.ClaimOutcome.SignatureInvalid);
        _expectChannel(config, 100, 0);
    }

    /* SETTLE */

    function test_settle__when_claimed__paysTheReceiverOnce() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        vm.expectEmit(address(channels));
        emit Scheme.Settled(receiver, address(dollar), stranger, 60);
        vm.prank(stranger);
        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), 60, "paid");
        _expectOwed(receiver, address(dollar), 60, 60);

        _claim(_row(config, 100));
        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), 100, "paid in all");
        assertEq(dollar.balanceOf(address(channels)), 0, "held");
    }

    function test_settle__when_nothingIsOwed__doesNothing() public {
        _open(100);
        vm.recordLogs();
        channels.settle(receiver, address(dollar));
        channels.settle(stranger, address(0));
        assertEq(vm.getRecordedLogs().length, 0, "logs");
    }

    /* HELP */

    /// @dev Two rows of one channel, claimed 30 and 60, and a signature over both.
    function _batch(Scheme.ChannelConfig memory config, uint256 key)
        private
        view
        returns (Scheme.VoucherClaim[] memory rows, bytes memory signature)
    {
        rows = _rows(_row(config, 30), _row(config, 60));
        signature = signEcdsa(key, PaymentMessages.claimBatch(address(channels), rows));
    }

    /// @dev A row that would bring the receiver's total to 2^128; 2^128 - 2 is claimed before, and channel 2 has one unit.
    function _overflowing() private returns (Scheme.VoucherClaim memory) {
        dollar.mint(payer, type(uint128).max);
        _deposit(_config(1), type(uint128).max - 1);
        _claim(_row(_config(1), type(uint128).max - 1));
        _deposit(_config(2), 5);
        return _row(_config(2), 2);
    }

    function _spoiledP256(bytes memory good, uint256 how) private pure returns (bytes memory bad) {
        bad = bytes.concat(good);
        if (how == 0) bad[147] = bytes1(uint8(bad[147]) ^ 1);
        if (how == 1) bad[20] = bytes1(uint8(bad[20]) ^ 1);
        if (how == 2) bad[0] = bytes1(uint8(bad[0]) ^ 1);
        if (how == 3) bad = bytes.concat(good, hex"00");
        if (how == 4) {
            assembly ("memory-safe") {
                mstore(bad, 147)
            }
        }
        if (how == 5) {
            assembly ("memory-safe") {
                let s := add(bad, 0x94)
                mstore(s, sub(0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551, mload(s)))
            }
        }
    }
}
