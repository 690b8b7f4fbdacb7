// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { PaymentChannelsKit, PaymentMessages } from "./PaymentChannelsKit.sol";
import { vm } from "./TestBase.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IPaymentChannels } from "contracts/interfaces/IPaymentChannels.sol";
import { IPaymentChannelsScheme as Scheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { ExactTransfer } from "contracts/libraries/ExactTransfer.sol";
import { PaymentTestToken } from "contracts/mocks/PaymentTestToken.sol";
import { PaymentTestWallet } from "contracts/mocks/PaymentTestWallet.sol";
import { PaymentChannels } from "contracts/payment/PaymentChannels.sol";

/// @title PaymentChannelsAttacksTest
/// @notice Every attack of the payment design that takes place on chain.
/// @dev
/// | attack | who | test |
/// | --- | --- | --- |
/// | over-claim: one unit above ceiling or balance, one voucher twice | receiver | test_attack__when_receiverOverclaims__… |
/// | withdraw race: leave before the receiver has claimed | payer | test_attack__when_payerRacesTheClaim__… |
/// | voucher, refund, batch of another channel | receiver | test_attack__when_replayedInAnotherChannel__… |
/// | voucher, refund, relayed call of another chain or contract | anyone | …OnAnotherChain…, …InAnotherContract… |
/// | stale voucher with a garbage signature | receiver | test_attack__when_staleVoucherHasAGarbageSignature__… |
/// | voucher over the balance | payer | test_attack__when_voucherIsOverTheBalance__… |
/// | high s, v of 0 or 1, signature too short or long | receiver | test_attack__when_signatureIsMalleated__… |
/// | code at the address of the payer's key | payer | test_attack__when_codeIsPutAtTheAuthorizer__… |
/// | a collector or token that calls back | its author | test_attack__when_collectorReenters__…, …tokenReenters… |
/// | a token that calls back as the signer of a relayed call | its author | test_attack__when_tokenActsAsTheRelayedSigner__… |
/// | a collector that pays with the contract's own money | its author | test_attack__when_collectorPaysFromAVault__… |
/// | a token with a fee, that moves nothing, that says no | its issuer | test_attack__when_tokenTakesAFee__…, …Lies… |
/// | a fee from the sender drains others of that token, and no other token | its issuer | …takesTheSendersFee… |
/// | refund and withdrawal together | both | test_attack__when_refundAndWithdrawalMeet__… |
/// | small withdrawal by the authorizer to keep the payer in | authorizer | test_attack__when_authorizerWithdrawsADrop__… |
/// | dirt above an address in the config, for a channel whose id nobody else computes | payer | …configIsDirty… |
/// | amounts 0, 1, 2^128-1 | anyone | testFuzz_attack__when_amountsAreExtreme__… |
/// | bad rows among a hundred | payers | test_attack__when_threeOfAHundredRowsAreBad__… |
/// | ERC-1271 payer that burns gas, returns a bomb, answers badly | payer | test_attack__when_walletBurnsGas__…, …Bombs… |
/// | too little gas to make a good ERC-1271 voucher look bad | relayer | testFuzz_attack__when_gasIsShort__… |
/// | ERC-1271 payer that takes its voucher back | payer | test_attack__when_walletTakesItsVoucherBack__… |
/// | preimage seen in the pool and used by another, or twice | anyone | test_attack__when_preimageIsCopied__… |
contract PaymentChannelsAttacksTest is PaymentChannelsKit {
    bytes4 private constant REENTRANT = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;

    /* OVER-CLAIMS AND RACES */

    function test_attack__when_receiverOverclaims__getsWhatWasSignedAndIsThere() public {
        Scheme.ChannelConfig memory config = _open(100);
        _expectClaimReverts(_row(config, 60, 61, AUTHORIZER_KEY), Scheme.ClaimExceedsCeiling.selector);
        _expectClaimReverts(_row(config, 101), Scheme.ClaimExceedsBalance.selector);
        _claim(_row(config, 60));
        _claim(_row(config, 60));
        channels.settle(receiver, address(dollar));
        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), 60, "paid");
    }

    function test_attack__when_payerRacesTheClaim__hasToWaitOutTheDelay() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(payer);
        channels.initiateWithdraw(config, 100);
        vm.warp(block.timestamp + DELAY - 1);
        vm.prank(payer);
        vm.expectRevert(Scheme.WithdrawDelayNotElapsed.selector);
        channels.finalizeWithdraw(config);
        _claim(_row(config, 60));

        vm.warp(block.timestamp + 1);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        _expectChannel(config, 60, 60);
        assertEq(dollar.balanceOf(payer), PURSE - 60, "the payer's purse");
    }

    function test_attack__when_receiverSleepsThroughTheDelay__canClaimNoMore() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(payer);
        channels.initiateWithdraw(config, 70);
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        channels.finalizeWithdraw(config);
        _expectClaimReverts(_row(config, 60), Scheme.ClaimExceedsBalance.selector);
        _expectOutcome(_claimAvailable(_row(config, 60)), IPaymentChannels.ClaimOutcome.ClaimedInPart);
        _expectChannel(config, 30, 30);
    }

    function test_attack__when_voucherIsOverTheBalance__isWorthTheBalance() public {
        Scheme.ChannelConfig memory config = _open(100);
        Scheme.VoucherClaim memory row = _row(config, type(uint128).max);
        _expectClaimReverts(row, Scheme.ClaimExceedsBalance.selector);
        _expectOutcome(_claimAvailable(row), IPaymentChannels.ClaimOutcome.ClaimedInPart);
        _expectChannel(config, 100, 100);
        _expectOutcome(_claimAvailable(row), IPaymentChannels.ClaimOutcome.BalanceExhausted);
    }

    function test_attack__when_staleVoucherHasAGarbageSignature__changesNothing() public {
        Scheme.ChannelConfig memory config = _open(100);
        _claim(_row(config, 60));
        Scheme.VoucherClaim memory stale = _row(config, 60);
        stale.signature = hex"deadbeef";
        vm.recordLogs();
        _claim(stale);
        assertEq(vm.getRecordedLogs().length, 0, "logs");
        _expectOutcome(_claimAvailable(stale), IPaymentChannels.ClaimOutcome.AlreadyClaimed);
        _expectChannel(config, 100, 60);
        stale.voucher.maxClaimableAmount = 70;
        stale.totalClaimed = 61;
        _expectClaimReverts(stale, Scheme.InvalidSignature.selector);
    }

    function test_attack__when_refundAndWithdrawalMeet__payEachUnitOnce() public {
        for (uint128 refunded = 0; refunded <= 100; refunded += 10) {
            Scheme.ChannelConfig memory config = _config(refunded + 1);
            _deposit(config, 100);
            _claim(_row(config, 20));
            vm.prank(payer);
            channels.initiateWithdraw(config, 50);
            if (refunded != 0) {
                vm.prank(receiver);
                channels.refund(config, refunded);
            }
            uint128 back = refunded > 80 ? 80 : refunded;
            vm.warp(vm.getBlockTimestamp() + DELAY);
            vm.prank(payer);
            if (refunded >= 50) vm.expectRevert(Scheme.WithdrawalNotPending.selector);
            channels.finalizeWithdraw(config);
            _expectChannel(config, refunded >= 50 ? 100 - back : 50, 20);
        }
    }

    function test_attack__when_authorizerWithdrawsADrop__thePayerLeavesAfterIt() public {
        Scheme.ChannelConfig memory config = _open(100);
        vm.prank(authorizer);
        channels.initiateWithdraw(config, 1);
        vm.warp(block.timestamp + DELAY);
        vm.startPrank(payer);
        channels.finalizeWithdraw(config);
        channels.initiateWithdraw(config, 99);
        vm.warp(block.timestamp + DELAY);
        channels.finalizeWithdraw(config);
        assertEq(dollar.balanceOf(payer), PURSE, "everything is back");
    }

    /* REPLAYS */

    function test_attack__when_replayedInAnotherChannel__isWorthNothing() public {
        Scheme.ChannelConfig memory config = _open(100);
        for (uint256 i = 0; i < 5; ++i) {
            Scheme.ChannelConfig memory other = _config();
            if (i == 0) other.salt = bytes32(uint256(1));
            if (i == 1) other.withdrawDelay = DELAY + 1;
            if (i == 2) other.receiverAuthorizer = receiver;
            if (i == 3) (other.payer, other.receiver) = (stranger, receiver);
            if (i == 4) other.receiver = stranger;
            _fill(stranger);
            _deposit(other, 100);
            Scheme.VoucherClaim memory row = _row(config, 60);
            row.voucher.channel = other;
            vm.prank(other.receiver);
            vm.expectRevert(Scheme.InvalidSignature.selector);
            channels.claim(_rows(row));
        }
        bytes memory signature = signEcdsa(CLAIMER_KEY, PaymentMessages.refund(address(channels), _id(config), 0, 10));
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.refundWithSignature(_config(1), 10, 0, signature);
    }

    function test_attack__when_replayedOnAnotherChain__isWorthNothing() public {
        _replay(channels, true);
    }

    function test_attack__when_replayedInAnotherContract__isWorthNothing() public {
        _replay(new PaymentChannels(address(verifier)), false);
    }

    function test_attack__when_signatureIsMalleated__isRefused() public {
        Scheme.VoucherClaim memory row = _row(_open(100), 60);
        bytes memory good = row.signature;
        (bytes32 r, bytes32 s) = abi.decode(good, (bytes32, bytes32));
        uint8 v = uint8(good[64]);
        bytes[6] memory bad = [
            abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), v == 27 ? uint8(28) : uint8(27)),
            abi.encodePacked(r, s, v - 27),
            abi.encodePacked(r, s),
            abi.encodePacked(r, bytes32(uint256(s) | (uint256(v - 27) << 255))),
            abi.encodePacked(good, hex"00"),
            bytes("")
        ];
        for (uint256 i = 0; i < bad.length; ++i) {
            row.signature = bad[i];
            _expectClaimReverts(row, Scheme.InvalidSignature.selector);
            _expectOutcome(_claimAvailable(row), IPaymentChannels.ClaimOutcome.SignatureInvalid);
        }
    }

    function test_attack__when_codeIsPutAtTheAuthorizer__theKeyAloneDecides() public {
        Scheme.ChannelConfig memory config = _open(100);
        PaymentTestWallet wallet = new PaymentTestWallet(payer);
        wallet.behave(PaymentTestWallet.Manner.SayYes);
        vm.etch(authorizer, address(wallet).code);
        PaymentTestWallet(authorizer).behave(PaymentTestWallet.Manner.SayYes);
        _expectClaimReverts(_row(config, 50, 50, PAYER_KEY), Scheme.InvalidSignature.selector);
        PaymentTestWallet(authorizer).behave(PaymentTestWallet.Manner.SayNo);
        _claim(_row(config, 60));
        _expectChannel(config, 100, 60);
    }

    function test_attack__when_preimageIsCopied__servesTheReceiverOnce() public {
        Scheme.ChannelConfig memory config = _open(100);
        bytes32 preimage = "k";
        Scheme.VoucherClaim memory row = _lockedRow(config, 60, preimage);
        vm.prank(stranger);
        vm.expectRevert(Scheme.NotAuthorizedToClaim.selector);
        channels.claimLocked(row, preimage);
        vm.startPrank(receiver);
        channels.claimLocked(row, preimage);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.NothingToClaim.selector, _id(config), uint128(60)));
        channels.claimLocked(row, preimage);
        row.voucher.maxClaimableAmount = 61;
        row.totalClaimed = 61;
        vm.expectRevert(Scheme.InvalidSignature.selector);
        channels.claimLocked(row, preimage);
    }

    /* HOSTILE COLLECTORS AND TOKENS */

    function test_attack__when_collectorReenters__isRefusedAtEveryEntrance() public {
        _fill(address(collector));
        collector.approve(address(dollar), address(channels));
        bytes[] memory calls = _entrances(_config(), address(collector));
        for (uint256 i = 0; i < calls.length; ++i) {
            collector.callBack(address(channels), calls[i]);
            _deposit(_config(), 10);
            _expectRefusal(collector.hasSucceeded(), collector.answer());
        }
        _expectChannel(_config(), uint128(10 * calls.length), 0);
        assertEq(channels.vaultOf(address(collector), address(dollar)), 0, "credited twice");
    }

    function test_attack__when_collectorPaysFromAVault__isRefused() public {
        _fill(address(collector));
        vm.startPrank(address(collector));
        dollar.approve(address(channels), 100);
        channels.vaultDeposit(address(dollar), 100);
        vm.stopPrank();
        collector.bring(-100);
        collector.callBack(
            address(channels), abi.encodeCall(channels.vaultWithdraw, (address(dollar), 100, address(channels)))
        );
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        _deposit(_config(), 100);
        assertEq(channels.vaultOf(address(collector), address(dollar)), 100, "vault");
    }

    function test_attack__when_tokenReenters__isRefusedAtEveryEntrance() public {
        (PaymentTestToken token, Scheme.ChannelConfig memory config) = _tokenChannel(1000);
        vm.prank(receiver);
        channels.claim(_rows(_row(config, 100)));
        bytes[] memory calls = _entrances(config, address(collector));
        for (uint256 i = 0; i < calls.length; ++i) {
            token.callBack(address(channels), calls[i]);
            vm.prank(payer);
            channels.vaultDeposit(address(token), 10);
            _expectRefusal(token.hasSucceeded(), token.answer());
            vm.prank(payer);
            channels.vaultWithdraw(address(token), 10, payer);
            _expectRefusal(token.hasSucceeded(), token.answer());
            vm.prank(receiver);
            channels.refund(config, 1);
            _expectRefusal(token.hasSucceeded(), token.answer());
        }
        channels.settle(receiver, address(token));
        _expectRefusal(token.hasSucceeded(), token.answer());
        assertEq(token.balanceOf(receiver), 100, "paid once");
    }

    function test_attack__when_tokenActsAsTheRelayedSigner__isTheTokenStill() public {
        (PaymentTestToken token, Scheme.ChannelConfig memory config) = _tokenChannel(100);
        (IRelayed.SignedCall memory inner, bytes memory innerSignature) =
            _signedCall(PAYER_KEY, abi.encodeCall(channels.vaultWithdraw, (address(token), 5, payer)), 2);
        bytes[3] memory calls = [
            abi.encodeCall(channels.initiateWithdraw, (config, 1)),
            abi.encodeCall(channels.cancelNonce, (9)),
            abi.encodeCall(channels.relay, (inner, innerSignature))
        ];
        bytes[3] memory answers = [
            abi.encodePacked(REENTRANT),
            abi.encodePacked(REENTRANT),
            abi.encodeWithSelector(IRelayed.RelayNested.selector, payer)
        ];
        for (uint256 i = 0; i < 3; ++i) {
            token.callBack(address(channels), calls[i]);
            (IRelayed.SignedCall memory request, bytes memory signature) =
                _signedCall(PAYER_KEY, abi.encodeCall(channels.vaultDeposit, (address(token), 10)), 10 + i);
            channels.relay(request, signature);
            assertFalse(token.hasSucceeded(), "the call back went through");
            assertEq(token.answer(), answers[i], "its error");
        }
        assertFalse(channels.isNonceUsed(payer, 2), "nonce of the nested call");
        assertFalse(channels.isNonceUsed(payer, 9), "cancelled nonce");
    }

    function test_attack__when_tokenTakesAFee__isRefusedOnTheWayIn() public {
        (PaymentTestToken token, Scheme.ChannelConfig memory config) = _tokenChannel(100);
        token.behave(PaymentTestToken.Behaviour.FeeFromReceiver);
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        channels.deposit(config, 50, address(collector), "");
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), int256(49), uint256(50))
        );
        channels.vaultDeposit(address(token), 50);

        _claim(_row(config, 60));
        channels.settle(receiver, address(token));
        assertEq(token.balanceOf(receiver), 59, "the receiver bears the fee");
        assertEq(token.balanceOf(address(channels)), 40, "held");
    }

    function test_attack__when_tokenTakesTheSendersFee__ruinsItsOwnUsersOnly() public {
        Scheme.ChannelConfig memory ours = _open(100);
        (PaymentTestToken token, Scheme.ChannelConfig memory theirs) = _tokenChannel(100);
        token.behave(PaymentTestToken.Behaviour.FeeFromSender);
        _claim(_row(theirs, 60));
        channels.settle(receiver, address(token));
        assertEq(token.balanceOf(address(channels)), 39, "one short");

        _claim(_row(ours, 100));
        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), 100, "paid in full");
    }

    function test_attack__when_tokenLies__isRefused() public {
        (PaymentTestToken token, Scheme.ChannelConfig memory config) = _tokenChannel(100);
        token.behave(PaymentTestToken.Behaviour.MoveNothing);
        vm.expectRevert(Scheme.DepositCollectionFailed.selector);
        channels.deposit(config, 50, address(collector), "");
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(ExactTransfer.TransferNotExact.selector, address(token), int256(0), uint256(50))
        );
        channels.vaultDeposit(address(token), 50);

        token.behave(PaymentTestToken.Behaviour.ReturnFalse);
        _claim(_row(config, 60));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        channels.settle(receiver, address(token));
        _expectOwed(receiver, address(token), 60, 0);
    }

    /* CONTRACT WALLETS */

    function test_attack__when_walletBurnsGas__costsItsBoundAndNoOther() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        _open(100);
        wallet.behave(PaymentTestWallet.Manner.BurnGas);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60), _row(_config(), 60));
        vm.prank(receiver);
        uint256 before = gasleft();
        IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(rows);
        assertLe(before - gasleft(), 200_000, "gas of both rows");
        _expectOutcome(outcomes[0], IPaymentChannels.ClaimOutcome.SignatureInvalid);
        _expectOutcome(outcomes[1], IPaymentChannels.ClaimOutcome.Claimed);
    }

    function test_attack__when_walletBombs__isRefusedAlone() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        _open(100);
        PaymentTestWallet.Manner[5] memory manners = [
            PaymentTestWallet.Manner.RevertBomb,
            PaymentTestWallet.Manner.AnswerShort,
            PaymentTestWallet.Manner.AnswerDirty,
            PaymentTestWallet.Manner.SayNo,
            PaymentTestWallet.Manner.BurnGas
        ];
        for (uint128 i = 0; i < manners.length; ++i) {
            wallet.behave(manners[i]);
            Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60), _row(_config(), 10 + i));
            vm.prank(receiver);
            IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(rows);
            _expectOutcome(outcomes[0], IPaymentChannels.ClaimOutcome.SignatureInvalid);
            _expectOutcome(outcomes[1], IPaymentChannels.ClaimOutcome.Claimed);
        }
    }

    /// @notice A long answer that begins with yes is a yes, and costs its sender alone.
    function test_attack__when_walletReturnsABomb__paysForItItself() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        wallet.behave(PaymentTestWallet.Manner.ReturnBomb);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60));
        vm.prank(receiver);
        uint256 before = gasleft();
        IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(rows);
        assertLe(before - gasleft(), 180_000, "gas");
        _expectOutcome(outcomes[0], IPaymentChannels.ClaimOutcome.Claimed);
    }

    /// @notice Whatever gas a relayer gives, a wallet that needs nearly all of its 100,000 is heard in full or not at all.
    function testFuzz_attack__when_gasIsShort__aGoodVoucherIsNeverCalledBad(uint256 gas_) public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        wallet.spend(98_500);
        gas_ = bound(gas_, 90_000, 190_000);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60));
        vm.prank(receiver);
        try channels.claimAvailable{ gas: gas_ }(rows) returns (IPaymentChannels.ClaimOutcome[] memory outcomes) {
            bool isTooLow = outcomes[0] == IPaymentChannels.ClaimOutcome.GasTooLow;
            assertTrue(isTooLow || outcomes[0] == IPaymentChannels.ClaimOutcome.Claimed, "outcome");
            _expectChannel(config, 100, isTooLow ? 0 : 60);
        } catch (bytes memory problem) {
            assertEq(problem.length, 0, "out of gas");
            _expectChannel(config, 100, 0);
        }
    }

    function test_attack__when_gasIsShort__theRowIsRefusedBeforeTheWalletIsAsked() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        wallet.behave(PaymentTestWallet.Manner.BurnGas);
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60));
        vm.prank(receiver);
        _expectOutcome(channels.claimAvailable{ gas: 100_000 }(rows)[0], IPaymentChannels.ClaimOutcome.GasTooLow);
    }

    function test_attack__when_walletTakesItsVoucherBack__theReceiverWasWarned() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory config) = _walletChannel(100);
        Scheme.VoucherClaim memory row = _row(config, 60);
        wallet.behave(PaymentTestWallet.Manner.SayNo);
        _expectClaimReverts(row, Scheme.InvalidSignature.selector);
        wallet.behave(PaymentTestWallet.Manner.Truthful);
        _claim(row);
        _expectChannel(config, 100, 60);
    }

    /* NUMBERS */

    /// @notice The config is hashed as it lies in calldata: a word that is no address, or no uint40, must not get in.
    function test_attack__when_configIsDirty__isRefused() public {
        for (uint256 field = 0; field < 6; ++field) {
            bytes memory call = abi.encodeCall(channels.deposit, (_config(), 10, address(collector), ""));
            call[4 + 32 * field] = 0x01;
            (bool ok, bytes memory answer) = address(channels).call(call);
            assertFalse(ok, "taken");
            assertEq(answer.length, 0, "refused as malformed");
        }
    }

    function test_attack__when_threeOfAHundredRowsAreBad__theRestIsClaimedAsIfTheyWereNot() public {
        (PaymentTestWallet wallet, Scheme.ChannelConfig memory burner) = _walletChannel(100);
        wallet.behave(PaymentTestWallet.Manner.BurnGas);
        Scheme.VoucherClaim[] memory rows = new Scheme.VoucherClaim[](100);
        for (uint256 i = 0; i < 100; ++i) {
            Scheme.ChannelConfig memory config = _config(i + 1);
            _deposit(config, 100);
            rows[i] = _row(config, uint128(10 + i));
        }
        rows[0] = _row(burner, 60);
        rows[41].signature = rows[42].signature;
        rows[99].totalClaimed = 110;
        vm.prank(receiver);
        IPaymentChannels.ClaimOutcome[] memory outcomes = channels.claimAvailable(rows);

        uint128 sum;
        for (uint128 i = 0; i < 100; ++i) {
            IPaymentChannels.ClaimOutcome expected =
                i > 90 ? IPaymentChannels.ClaimOutcome.ClaimedInPart : IPaymentChannels.ClaimOutcome.Claimed;
            if (i == 0 || i == 41) expected = IPaymentChannels.ClaimOutcome.SignatureInvalid;
            if (i == 99) expected = IPaymentChannels.ClaimOutcome.CeilingExceeded;
            _expectOutcome(outcomes[i], expected);
            uint128 claimed = expected > IPaymentChannels.ClaimOutcome.ClaimedInPart ? 0 : i > 90 ? 100 : 10 + i;
            _expectChannel(rows[i].voucher.channel, 100, claimed);
            sum += claimed;
        }
        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), sum, "one transfer for all");
    }

    function testFuzz_attack__when_amountsAreExtreme__nothingIsMadeOrLost(uint256 seed) public {
        uint128[4] memory extremes = [0, 1, type(uint128).max - 1, type(uint128).max];
        uint128 amount = extremes[seed % 4];
        uint128 ceiling = extremes[(seed >> 8) % 4];
        uint128 back = extremes[(seed >> 16) % 4];
        dollar.mint(payer, uint256(type(uint128).max) * 2);
        uint256 purse = dollar.balanceOf(payer);
        if (amount == 0) vm.expectRevert(Scheme.ZeroDeposit.selector);
        _deposit(_config(), amount);

        IPaymentChannels.ClaimOutcome outcome = _claimAvailable(_row(_config(), ceiling));
        uint128 claimed = ceiling < amount ? ceiling : amount;
        if (ceiling == 0) _expectOutcome(outcome, IPaymentChannels.ClaimOutcome.AlreadyClaimed);
        else if (amount == 0) _expectOutcome(outcome, IPaymentChannels.ClaimOutcome.BalanceExhausted);
        else if (ceiling > amount) _expectOutcome(outcome, IPaymentChannels.ClaimOutcome.ClaimedInPart);
        else _expectOutcome(outcome, IPaymentChannels.ClaimOutcome.Claimed);

        vm.prank(receiver);
        if (back == 0) vm.expectRevert(Scheme.ZeroRefund.selector);
        channels.refund(_config(), back);
        uint128 refunded = back < amount - claimed ? back : amount - claimed;
        _expectChannel(_config(), amount - refunded, claimed);

        channels.settle(receiver, address(dollar));
        assertEq(dollar.balanceOf(receiver), claimed, "paid");
        assertEq(dollar.balanceOf(payer), purse - amount + refunded, "the payer's purse");
    }

    /* HELP */

    function _expectClaimReverts(Scheme.VoucherClaim memory row, bytes4 problem) private {
        Scheme.VoucherClaim[] memory rows = _rows(row);
        vm.prank(receiver);
        vm.expectRevert(problem);
        channels.claim(rows);
    }

    /// @dev Signs voucher, locked voucher, batch, refund and relayed call for `channels` here and now, and hands them to
    /// `target` here or on another chain, where the same money lies.
    function _replay(PaymentChannels target, bool elsewhere) private {
        Scheme.ChannelConfig memory config = _config();
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 60));
        Scheme.VoucherClaim memory locked = _lockedRow(config, 60, "k");
        bytes memory batch = signEcdsa(CLAIMER_KEY, PaymentMessages.claimBatch(address(channels), rows));
        bytes memory refund = signEcdsa(CLAIMER_KEY, PaymentMessages.refund(address(channels), _id(config), 0, 10));
        (IRelayed.SignedCall memory request, bytes memory signature) =
            _signedCall(PAYER_KEY, abi.encodeCall(channels.cancelNonce, (1)), 2);

        if (elsewhere) vm.chainId(block.chainid + 1);
        target.deposit(config, 100, address(collector), "");
        vm.startPrank(receiver);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        target.claim(rows);
        _expectOutcome(target.claimAvailable(rows)[0], IPaymentChannels.ClaimOutcome.SignatureInvalid);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        target.claimLocked(locked, "k");
        vm.expectRevert(Scheme.InvalidSignature.selector);
        target.claimWithSignature(rows, batch);
        vm.expectRevert(Scheme.InvalidSignature.selector);
        target.refundWithSignature(config, 10, 0, refund);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.SignedCallSignatureInvalid.selector, payer));
        target.relay(request, signature);
    }

    /// @dev A channel in a token that is still honest; payer and collector may be asked for more.
    function _tokenChannel(uint128 amount)
        private
        returns (PaymentTestToken token, Scheme.ChannelConfig memory config)
    {
        token = new PaymentTestToken();
        token.mint(payer, PURSE);
        vm.startPrank(payer);
        token.approve(address(collector), type(uint256).max);
        token.approve(address(channels), type(uint256).max);
        vm.stopPrank();
        config = _config();
        config.token = address(token);
        _deposit(config, amount);
    }

    /// @dev A call to every function that changes state.
    function _entrances(Scheme.ChannelConfig memory config, address collector_)
        private
        view
        returns (bytes[] memory calls)
    {
        Scheme.VoucherClaim[] memory rows = _rows(_row(config, 1));
        calls = new bytes[](15);
        calls[0] = abi.encodeCall(channels.deposit, (config, 1, collector_, ""));
        calls[1] = abi.encodeCall(channels.vaultDeposit, (config.token, 1));
        calls[2] = abi.encodeCall(channels.vaultWithdraw, (config.token, 1, payer));
        calls[3] = abi.encodeCall(channels.fund, (_one(config), _one(1)));
        calls[4] = abi.encodeCall(channels.claim, (rows));
        calls[5] = abi.encodeCall(channels.claimWithSignature, (rows, ""));
        calls[6] = abi.encodeCall(channels.claimAvailable, (rows));
        calls[7] = abi.encodeCall(channels.claimLocked, (rows[0], "k"));
        calls[8] = abi.encodeCall(channels.settle, (receiver, config.token));
        calls[9] = abi.encodeCall(channels.initiateWithdraw, (config, 1));
        calls[10] = abi.encodeCall(channels.finalizeWithdraw, (config));
        calls[11] = abi.encodeCall(channels.refund, (config, 1));
        calls[12] = abi.encodeCall(channels.refundWithSignature, (config, 1, 0, ""));
        calls[13] = abi.encodeCall(channels.cancelNonce, (1));
        bytes[] memory inner = new bytes[](1);
        inner[0] = calls[1];
        calls[14] = abi.encodeCall(channels.multicall, (inner));
    }

    function _expectRefusal(bool hasSucceeded, bytes memory answer) private pure {
        assertFalse(hasSucceeded, "reentered");
        assertEq(answer, abi.encodePacked(REENTRANT), "the lock's error");
    }
}
