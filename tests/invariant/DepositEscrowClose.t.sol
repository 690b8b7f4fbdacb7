// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { ContractWallet } from "contracts/mocks/ContractWallet.sol";

/// @title DepositEscrowCloseTest
/// @notice `close` in every state, `withdraw`, `cancelNonce`, and every call relayed.
contract DepositEscrowCloseTest is DepositEscrowKit {
    uint256 private constant CHARGE = uint256(FEE) + 10 * uint256(RATE);
    uint256 private constant UNUSED = uint256(METER_CAP) - 10 * uint256(RATE);
    uint96 private constant CLAIM = 20_000_000;
    uint256 private constant CHECK_OUT = START + 3 hours + 1 days;

    /* close */

    function test_close__when_never_handed_over__refunds() public {
        I.Rental memory rental = opened();
        _assertClosableFrom(rental, START + 1 hours + GRACE);
        vm.expectEmit(address(escrow));
        emit I.RentalRefunded(idOf(rental));
        _close(rental);
        assertClosed(rental);
        assertCredit(renter, PRICE);
        assertCredit(owner, 0);
    }

    function test_close__when_never_checked_in__returns_everything() public {
        I.Rental memory rental = active();
        _assertClosableFrom(rental, CHECK_OUT);
        _assertEnds(rental, renter, PRICE);
        assertCredit(renter, PRICE);
        assertCredit(owner, 0);
    }

    function test_close__when_never_checked_out__pays_the_fee_and_opens_the_claim_window() public {
        I.Rental memory rental = checkedIn();
        _assertClosableFrom(rental, CHECK_OUT);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(owner, address(dollar), FEE);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(renter, address(dollar), METER_CAP);
        vm.expectEmit(address(escrow));
        emit I.CheckOutMissed(idOf(rental), FEE, uint40(CHECK_OUT + CLAIM_WINDOW));
        _close(rental);
        assertRental(rental, I.RentalState.CheckedOut, CHECK_OUT + CLAIM_WINDOW, DEPOSIT, 0);
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
        assertCredit(owner, FEE);
        assertCredit(renter, METER_CAP + DEPOSIT - CLAIM);
    }

    function test_close__when_nobody_claims__returns_the_deposit() public {
        I.Rental memory rental = checkedOut();
        _assertClosableFrom(rental, START + CLAIM_WINDOW);
        _assertEnds(rental, renter, DEPOSIT);
        assertCredit(renter, UNUSED + DEPOSIT);
        assertCredit(owner, CHARGE);
    }

    function test_close__when_renter_is_silent__pays_the_claim() public {
        I.Rental memory rental = claimed(CLAIM);
        _assertClosableFrom(rental, START + REPLY_WINDOW);
        _assertEnds(rental, owner, CLAIM);
        assertCredit(owner, CHARGE + CLAIM);
    }

    function test_close__when_arbiter_is_silent__returns_the_claim() public {
        I.Rental memory rental = disputed(CLAIM);
        _assertClosableFrom(rental, START + RULING_WINDOW);
        _assertEnds(rental, renter, CLAIM);
        assertCredit(owner, CHARGE);
        assertCredit(renter, UNUSED + DEPOSIT);
    }

    function test_close__when_nothing_is_held__reverts() public {
        _assertNotOpen(rentalOf(termsOf()), I.RentalState.None);
        I.Rental memory rental = opened();
        vm.prank(owner);
        escrow.refund(rental);
        _assertNotOpen(rental, I.RentalState.Closed);
    }

    /// @dev Nobody closes a second before, whoever he is.
    function _assertClosableFrom(I.Rental memory rental, uint256 deadline) private {
        vm.warp(deadline - 1);
        address[4] memory callers = [owner, renter, arbiter, stranger];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, deadline, deadline - 1));
            vm.prank(callers[i]);
            escrow.close(rental);
        }
        vm.warp(deadline);
    }

    function _assertEnds(I.Rental memory rental, address recipient, uint256 amount) private {
        vm.expectEmit(address(escrow));
        emit I.RentalClosed(idOf(rental), recipient, amount);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(recipient, address(dollar), amount);
        _close(rental);
        assertClosed(rental);
        _assertNotOpen(rental, I.RentalState.Closed);
    }

    function _assertNotOpen(I.Rental memory rental, I.RentalState state) private {
        vm.expectRevert(abi.encodeWithSelector(I.RentalNotOpen.selector, idOf(rental), state));
        _close(rental);
    }

    function _close(I.Rental memory rental) private {
        vm.prank(stranger);
        escrow.close(rental);
    }

    /* withdraw */

    function test_withdraw__when_credit_covers_it__pays_anywhere() public {
        checkedOut();
        vm.expectEmit(address(escrow));
        emit ICredits.Withdrawn(owner, address(dollar), CHARGE - 1, stranger);
        vm.prank(owner);
        escrow.withdraw(address(dollar), CHARGE - 1, stranger);
        assertEq(dollar.balanceOf(stranger), CHARGE - 1, "paid");
        assertEq(dollar.balanceOf(address(escrow)), PRICE - CHARGE + 1, "held");
        assertCredit(owner, 1);
    }

    function test_withdraw__when_credit_does_not_cover_it__reverts() public {
        checkedOut();
        vm.expectRevert(
            abi.encodeWithSelector(ICredits.CreditTooLow.selector, owner, address(dollar), CHARGE, CHARGE + 1)
        );
        vm.prank(owner);
        escrow.withdraw(address(dollar), CHARGE + 1, owner);
    }

    function test_withdraw__when_recipient_is_nobody_or_the_escrow__reverts() public {
        checkedOut();
        address[2] memory recipients = [address(0), address(escrow)];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ICredits.RecipientInvalid.selector, recipients[i]));
            vm.prank(owner);
            escrow.withdraw(address(dollar), 1, recipients[i]);
        }
    }

    /* cancelNonce */

    function test_cancelNonce__when_owner_takes_an_offer_back__is_used_up() public {
        I.Terms memory terms = termsOf();
        vm.expectEmit(address(escrow));
        emit IRelayed.NonceCancelled(owner, terms.salt);
        vm.prank(owner);
        escrow.cancelNonce(terms.salt);
        assertTrue(escrow.isNonceUsed(owner, terms.salt), "used");
        assertFalse(escrow.isNonceUsed(owner, terms.salt + 1), "the next");
        assertFalse(escrow.isNonceUsed(renter, terms.salt), "another's");
    }

    function test_cancelNonce__when_used__reverts() public {
        I.Rental memory rental = opened();
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, rental.terms.salt));
        vm.prank(owner);
        escrow.cancelNonce(rental.terms.salt);
    }

    /* relay */

    /// @dev A whole dispute without ether: every call is signed by its party and carried by a stranger.
    function test_relay__when_every_call_is_signed__runs_a_rental_to_its_ruling() public {
        I.Rental memory rental = rentalOf(termsOf());
        relay(
            RENTER_SECRET,
            abi.encodeCall(
                escrow.open, (rental.terms, signTerms(rental.terms), rental.mask, rental.ephemeralX, rental.ephemeralY)
            ),
            1000
        );
        relay(OWNER_SECRET, abi.encodeCall(escrow.handOver, (rental, releasedKeyOf(rental))), 1000);
        I.CheckIn memory entered = checkInOf(rental);
        relay(STRANGER_SECRET, abi.encodeCall(escrow.checkIn, (rental, entered, signerBytes(), signIn(entered))), 1000);
        I.CheckOut memory left = checkOutOf(rental, 10);
        relay(RENTER_SECRET, abi.encodeCall(escrow.checkOut, (rental, left, signerBytes(), signOut(left))), 1001);
        relay(OWNER_SECRET, abi.encodeCall(escrow.claim, (rental, CLAIM, EVIDENCE)), 1001);
        relay(RENTER_SECRET, abi.encodeCall(escrow.reject, (rental)), 1002);
        relay(ARBITER_SECRET, abi.encodeCall(escrow.rule, (rental, CLAIM)), 1000);
        relay(OWNER_SECRET, abi.encodeCall(escrow.withdraw, (address(dollar), CHARGE + CLAIM, owner)), 1002);
        assertClosed(rental);
        assertEq(dollar.balanceOf(owner), CHARGE + CLAIM, "the owner's");
        assertCredit(renter, UNUSED + DEPOSIT - CLAIM);
    }

    function test_relay__when_what_ends_a_rental_is_signed__ends_it() public {
        I.Rental memory rental = opened();
        relay(OWNER_SECRET, abi.encodeCall(escrow.refund, (rental)), 1000);
        assertClosed(rental);
        rental = claimed(CLAIM);
        relay(RENTER_SECRET, abi.encodeCall(escrow.accept, (rental)), 1001);
        assertClosed(rental);
        rental = checkedOut();
        relay(OWNER_SECRET, abi.encodeCall(escrow.waive, (rental)), 1003);
        assertClosed(rental);
        rental = opened();
        vm.warp(rental.terms.end);
        relay(STRANGER_SECRET, abi.encodeCall(escrow.close, (rental)), 1001);
        assertClosed(rental);
        relay(OWNER_SECRET, abi.encodeCall(escrow.cancelNonce, (7000)), 1004);
        assertTrue(escrow.isNonceUsed(owner, 7000), "cancelled");
    }

    function test_relay__when_signed_payment_is_relayed_too__opens() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory paid = authorize(rental, RENTER_SECRET);
        relay(
            STRANGER_SECRET,
            abi.encodeCall(escrow.openWithAuthorization, (rental, signTerms(rental.terms), 0, type(uint40).max, paid)),
            1
        );
        assertRental(rental, I.RentalState.Opened, START + 1 hours + GRACE, PRICE, 0);
    }

    /// @dev The renter's word is not the owner's, and a stranger's is nobody's.
    function test_relay__when_another_party_signed__reverts_and_keeps_the_nonce() public {
        I.Rental memory rental = checkedOut();
        (IRelayed.SignedCall memory request, bytes memory signature) =
            signedCall(RENTER_SECRET, renter, abi.encodeCall(escrow.waive, (rental)), 1);
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotOwner.selector, renter, owner));
        escrow.relay(request, signature);
        assertFalse(escrow.isNonceUsed(renter, 1), "nonce");
    }

    /// @dev Owner, renter and arbiter may all be contracts.
    function test_relay__when_parties_are_contracts__asks_them() public {
        ContractWallet wallet = new ContractWallet(owner);
        I.Terms memory terms = termsOf();
        (terms.owner, terms.arbiter) = (address(wallet), address(new ContractWallet(arbiter)));
        I.Rental memory rental = opened(terms);
        _relayFor(OWNER_SECRET, terms.owner, abi.encodeCall(escrow.handOver, (rental, releasedKeyOf(rental))), 500);
        sayOut(rental, checkOutOf(rental, 10));
        _relayFor(OWNER_SECRET, terms.owner, abi.encodeCall(escrow.claim, (rental, CLAIM, EVIDENCE)), 501);
        vm.prank(renter);
        escrow.reject(rental);
        _relayFor(ARBITER_SECRET, terms.arbiter, abi.encodeCall(escrow.rule, (rental, 1)), 500);
        assertClosed(rental);
        assertCredit(terms.owner, CHARGE + 1);
    }

    function _relayFor(uint256 secret, address account, bytes memory call, uint256 nonce) private {
        (IRelayed.SignedCall memory request, bytes memory signature) = signedCall(secret, account, call, nonce);
        vm.prank(stranger);
        escrow.relay(request, signature);
    }
}
