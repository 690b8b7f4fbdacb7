// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { IERC20Errors } from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";
import { ContractWallet } from "contracts/mocks/ContractWallet.sol";

/// @title DepositEscrowOpenTest
/// @notice `open`, `openWithAuthorization` and `refund`, guard by guard.
contract DepositEscrowOpenTest is DepositEscrowKit {
    uint40 private constant HAND_OVER = uint40(START + 1 hours + GRACE);

    /* open */

    function test_open__when_signed__holds_fee_cap_and_deposit() public {
        I.Rental memory rental = rentalOf(termsOf());
        vm.expectEmit(address(escrow));
        emit I.RentalOpened(
            idOf(rental),
            owner,
            renter,
            escrow.termsId(rental.terms),
            rental.mask,
            rental.ephemeralX,
            rental.ephemeralY,
            HAND_OVER
        );
        bytes32 id = open(rental, signTerms(rental.terms));

        assertEq(id, idOf(rental), "rental id");
        assertEq(id, escrow.rentalId(rental), "rental id by the contract");
        assertRental(rental, I.RentalState.Opened, HAND_OVER, PRICE, 0);
        assertEq(dollar.balanceOf(address(escrow)), PRICE, "held");
        assertEq(dollar.balanceOf(renter), PURSE - PRICE, "paid");
        assertTrue(escrow.isNonceUsed(owner, rental.terms.salt), "salt");
        assertCredit(owner, 0);
        assertCredit(renter, 0);
    }

    function test_open__when_the_slot_ends_before_the_grace__ends_the_hand_over_with_it() public {
        I.Terms memory terms = termsOf();
        (terms.end, terms.grace) = (terms.start + 60, 1 days);
        assertRental(opened(terms), I.RentalState.Opened, terms.end, PRICE, 0);
    }

    function test_open__when_the_slot_has_begun__goes_through_until_the_grace_is_over() public {
        I.Terms memory terms = termsOf();
        vm.warp(terms.start + GRACE - 1);
        opened(terms);
        terms = termsOf();
        vm.warp(terms.start + GRACE);
        I.Rental memory rental = rentalOf(terms);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, HAND_OVER, HAND_OVER));
        open(rental, signTerms(terms));
    }

    function test_open__when_everything_is_free__takes_nothing() public {
        I.Terms memory terms = termsOf();
        (terms.fee, terms.rate, terms.meterCap, terms.deposit) = (0, 0, 0, 0);
        assertRental(opened(terms), I.RentalState.Opened, HAND_OVER, 0, 0);
        assertEq(dollar.balanceOf(renter), PURSE, "paid");
    }

    function test_open__when_amounts_are_the_greatest__holds_their_sum() public {
        I.Terms memory terms = termsOf();
        (terms.fee, terms.meterCap, terms.deposit) = (type(uint96).max, type(uint96).max, type(uint96).max);
        dollar.mint(renter, 3 * uint256(type(uint96).max));
        assertRental(opened(terms), I.RentalState.Opened, HAND_OVER, 3 * uint256(type(uint96).max), 0);
    }

    function test_open__when_owner_is_a_contract__asks_it_for_the_signature() public {
        I.Terms memory terms = termsOf();
        terms.owner = address(new ContractWallet(owner));
        I.Rental memory rental = rentalOf(terms);
        bytes memory wrong = signEcdsa(STRANGER_SECRET, escrow.termsId(terms));
        vm.expectRevert(abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(terms), terms.owner));
        open(rental, wrong);

        open(rental, signTerms(terms));
        assertRental(rental, I.RentalState.Opened, HAND_OVER, PRICE, 0);
    }

    /// @dev An account with a key and code (EIP-7702): the key still signs.
    function test_open__when_owner_has_a_key_and_code__takes_its_key() public {
        vm.etch(owner, hex"fe");
        assertRental(opened(), I.RentalState.Opened, HAND_OVER, PRICE, 0);
    }

    function test_open__when_renter_is_a_contract__pays_from_it() public {
        ContractWallet wallet = new ContractWallet(renter);
        I.Rental memory rental = rentalOf(termsOf(), address(wallet), 1);
        dollar.mint(address(wallet), PRICE);
        bytes memory call = abi.encodeCall(
            escrow.open, (rental.terms, signTerms(rental.terms), rental.mask, rental.ephemeralX, rental.ephemeralY)
        );
        vm.startPrank(renter);
        wallet.act(address(dollar), abi.encodeCall(dollar.approve, (address(escrow), PRICE)));
        wallet.act(address(escrow), call);
        vm.stopPrank();
        assertRental(rental, I.RentalState.Opened, HAND_OVER, PRICE, 0);
        assertEq(dollar.balanceOf(address(wallet)), 0, "paid");
    }

    function test_open__when_renter_is_the_owner__reverts() public {
        I.Rental memory rental = rentalOf(termsOf(), owner, 1);
        endow(owner);
        vm.expectRevert(abi.encodeWithSelector(I.RenterIsOwner.selector, owner));
        open(rental, signTerms(rental.terms));
    }

    function test_open__when_mask_is_zero__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        rental.mask = address(0);
        vm.expectRevert(IAgreements.MaskIsZero.selector);
        open(rental, signTerms(rental.terms));
    }

    function test_open__when_the_slot_has_no_length_or_is_too_far__reverts() public {
        I.Terms memory terms = termsOf();
        terms.end = terms.start;
        _assertRefused(terms, abi.encodeWithSelector(I.SlotInvalid.selector, terms.start, terms.end, START + 400 days));
        terms.end = uint40(START + 400 days + 1);
        _assertRefused(terms, abi.encodeWithSelector(I.SlotInvalid.selector, terms.start, terms.end, START + 400 days));
        (terms.start, terms.end) = (type(uint40).max - 1, type(uint40).max);
        _assertRefused(terms, abi.encodeWithSelector(I.SlotInvalid.selector, terms.start, terms.end, START + 400 days));
        (terms.start, terms.end) = (uint40(START), uint40(START + 400 days));
        opened(terms);
    }

    function test_open__when_grace_is_longer_than_a_day__reverts() public {
        I.Terms memory terms = termsOf();
        terms.grace = 1 days + 1;
        _assertRefused(terms, abi.encodeWithSelector(I.GraceTooLong.selector, 1 days + 1, 1 days));
        terms.grace = 1 days;
        opened(terms);
    }

    function test_open__when_a_window_is_out_of_bounds__reverts() public {
        uint32[3] memory windows;
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < 5; ++j) {
                windows = [uint32(10 minutes), uint32(30 days), uint32(10 minutes)];
                windows[i] = [uint32(0), 10 minutes - 1, 30 days + 1, type(uint32).max, 30 days][j];
                I.Terms memory terms = termsOf();
                (terms.claimWindow, terms.replyWindow, terms.rulingWindow) = (windows[0], windows[1], windows[2]);
                if (j == 4) opened(terms);
                else _assertRefused(terms, _windowError(windows[i]));
            }
        }
    }

    function test_open__when_the_access_key_is_no_point__reverts() public {
        I.Terms memory terms = termsOf();
        terms.keyY ^= 1;
        _assertRefused(terms, abi.encodeWithSelector(IAgreements.PublicKeyInvalid.selector, terms.keyX, terms.keyY));
        (terms.keyX, terms.keyY) = (0, 0);
        _assertRefused(terms, abi.encodeWithSelector(IAgreements.PublicKeyInvalid.selector, 0, 0));
    }

    function test_open__when_terms_are_not_signed_by_the_owner__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory problem = abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(rental.terms), owner);
        bytes memory strange = signEcdsa(STRANGER_SECRET, escrow.termsId(rental.terms));
        vm.expectRevert(problem);
        open(rental, strange);
        vm.expectRevert(problem);
        open(rental, "");
        bytes memory signature = signTerms(rental.terms);
        ++rental.terms.deposit;
        problem = abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(rental.terms), owner);
        vm.expectRevert(problem);
        open(rental, signature);
    }

    /// @dev Nobody's signature is not address 0's.
    function test_open__when_owner_is_zero__reverts() public {
        I.Terms memory terms = termsOf();
        terms.owner = address(0);
        I.Rental memory rental = rentalOf(terms);
        vm.expectRevert(abi.encodeWithSelector(I.TermsNotSigned.selector, escrow.termsId(terms), address(0)));
        open(rental, new bytes(65));
    }

    function test_open__when_salt_was_used_or_cancelled__reverts() public {
        I.Rental memory rental = opened();
        I.Rental memory second = rentalOf(rental.terms, renter, 2);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, rental.terms.salt));
        open(second, signTerms(rental.terms));

        I.Rental memory third = rentalOf(termsOf());
        vm.prank(owner);
        escrow.cancelNonce(third.terms.salt);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, third.terms.salt));
        open(third, signTerms(third.terms));
    }

    function test_open__when_renter_cannot_pay__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        vm.prank(renter);
        dollar.approve(address(escrow), PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), PRICE - 1, PRICE)
        );
        open(rental, signTerms(rental.terms));
        assertFalse(escrow.isNonceUsed(owner, rental.terms.salt), "salt");
    }

    /// @dev A word with bits beyond its type would give the same terms a second id.
    function test_open__when_a_word_has_bits_beyond_its_type__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory call = abi.encodeCall(
            escrow.open, (rental.terms, signTerms(rental.terms), rental.mask, rental.ephemeralX, rental.ephemeralY)
        );
        bytes memory view_ = abi.encodeCall(escrow.termsId, (rental.terms));
        uint8[14] memory words = [0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 14, 15, 16, 20];
        uint8[14] memory widths = [160, 160, 96, 96, 96, 96, 160, 40, 40, 32, 32, 32, 32, 160];
        for (uint256 i = 0; i < 14; ++i) {
            _assertRefusesBit(call, words[i], widths[i]);
            if (words[i] < 19) _assertRefusesBit(view_, words[i], widths[i]);
        }
        vm.prank(renter);
        (bool done,) = address(escrow).call(call);
        assertTrue(done, "the clean call");
    }

    function _assertRefusesBit(bytes memory call, uint256 word, uint256 width) private {
        bytes memory dirty = bytes.concat(call);
        uint256 bit = 1 << width;
        assembly ("memory-safe") {
            let place := add(dirty, add(0x24, mul(word, 0x20)))
            mstore(place, or(mload(place), bit))
        }
        vm.prank(renter);
        (bool ok, bytes memory answer) = address(escrow).call(dirty);
        assertFalse(ok, "a dirty word went through");
        assertEq(answer.length, 0, "answer");
    }

    function _assertRefused(I.Terms memory terms, bytes memory problem) private {
        I.Rental memory rental = rentalOf(terms);
        vm.expectRevert(problem);
        open(rental, signTerms(terms));
    }

    function _windowError(uint256 window) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAgreements.WindowOutOfBounds.selector, window, 10 minutes, 30 days);
    }

    /* openWithAuthorization */

    function test_openWithAuthorization__when_renter_signed__anyone_opens() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory signature = authorize(rental, RENTER_SECRET);
        bytes memory terms = signTerms(rental.terms);
        vm.expectEmit(address(escrow));
        emit I.RentalOpened(
            idOf(rental),
            owner,
            renter,
            escrow.termsId(rental.terms),
            rental.mask,
            rental.ephemeralX,
            rental.ephemeralY,
            HAND_OVER
        );
        vm.prank(stranger);
        bytes32 id = escrow.openWithAuthorization(rental, terms, 0, type(uint40).max, signature);

        assertEq(id, idOf(rental), "rental id");
        assertRental(rental, I.RentalState.Opened, HAND_OVER, PRICE, 0);
        assertEq(dollar.balanceOf(renter), PURSE - PRICE, "paid");
        assertTrue(dollar.authorizationState(renter, id), "authorization");
    }

    function test_openWithAuthorization__when_signature_has_another_length__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        vm.expectRevert(abi.encodeWithSelector(IAgreements.AuthorizationLengthInvalid.selector, 64, 65));
        openSigned(rental, new bytes(64));
    }

    function test_openWithAuthorization__when_renter_is_the_owner_or_mask_is_zero__reverts() public {
        I.Rental memory rental = rentalOf(termsOf(), owner, 1);
        vm.expectRevert(abi.encodeWithSelector(I.RenterIsOwner.selector, owner));
        openSigned(rental, new bytes(65));
        rental = rentalOf(termsOf());
        rental.mask = address(0);
        vm.expectRevert(IAgreements.MaskIsZero.selector);
        openSigned(rental, new bytes(65));
    }

    function test_openWithAuthorization__when_another_signed__reverts() public {
        I.Rental memory rental = rentalOf(termsOf());
        bytes memory signature = authorize(rental, STRANGER_SECRET);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        openSigned(rental, signature);
    }

    function test_openWithAuthorization__when_terms_were_opened__reverts() public {
        I.Rental memory rental = opened();
        I.Rental memory second = rentalOf(rental.terms, renter, 2);
        bytes memory signature = authorize(second, RENTER_SECRET);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, rental.terms.salt));
        openSigned(second, signature);
    }

    /* refund */

    function test_refund__when_owner_asks__returns_everything_at_once() public {
        I.Rental memory rental = opened();
        vm.expectEmit(address(escrow));
        emit I.RentalRefunded(idOf(rental));
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(renter, address(dollar), PRICE);
        vm.prank(owner);
        escrow.refund(rental);
        assertClosed(rental);
        assertCredit(renter, PRICE);
        assertCredit(owner, 0);
    }

    function test_refund__when_deadline_is_reached__is_for_anyone() public {
        I.Rental memory rental = opened();
        vm.warp(HAND_OVER - 1);
        bytes memory early = abi.encodeWithSelector(IAgreements.WindowIsOpen.selector, HAND_OVER, HAND_OVER - 1);
        vm.expectRevert(early);
        vm.prank(stranger);
        escrow.refund(rental);
        vm.expectRevert(early);
        vm.prank(renter);
        escrow.refund(rental);
        vm.warp(HAND_OVER);
        vm.prank(stranger);
        escrow.refund(rental);
        assertClosed(rental);
        assertCredit(renter, PRICE);
    }

    function test_refund__when_handed_over_or_checked_in__is_for_the_owner() public {
        for (uint256 i = 0; i < 2; ++i) {
            I.Rental memory rental = i == 0 ? active() : checkedIn();
            vm.warp(START + 10 days);
            bytes memory problem = stateError(rental, I.RentalState.Opened);
            vm.expectRevert(problem);
            vm.prank(renter);
            escrow.refund(rental);
            vm.warp(START);
            vm.prank(owner);
            escrow.refund(rental);
            assertClosed(rental);
            assertCredit(renter, (i + 1) * PRICE);
        }
        assertCredit(owner, 0);
    }

    function test_refund__when_never_opened_or_too_late__reverts() public {
        _assertNotRefundable(rentalOf(termsOf()));
        _assertNotRefundable(checkedOut());
        _assertNotRefundable(claimed(1));
        _assertNotRefundable(disputed(1));
        I.Rental memory rental = opened();
        vm.prank(owner);
        escrow.refund(rental);
        _assertNotRefundable(rental);
    }

    function _assertNotRefundable(I.Rental memory rental) private {
        bytes memory problem = stateError(rental, I.RentalState.CheckedIn);
        vm.expectRevert(problem);
        vm.prank(owner);
        escrow.refund(rental);
    }
}
