// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";

/// @title DepositEscrowClaimTest
/// @notice `claim`, `accept`, `reject`, `rule` and `waive`, guard by guard.
contract DepositEscrowClaimTest is DepositEscrowKit {
    /// @dev Ten units are charged at every check-out of these tests.
    uint256 private constant CHARGE = uint256(FEE) + 10 * uint256(RATE);
    uint256 private constant UNUSED = uint256(METER_CAP) - 10 * uint256(RATE);
    uint96 private constant CLAIM = 20_000_000;

    /* claim */

    function test_claim__when_in_the_window__returns_the_rest_and_opens_the_reply_window() public {
        I.Rental memory rental = checkedOut();
        vm.warp(START + CLAIM_WINDOW - 1);
        uint40 deadline = uint40(START + CLAIM_WINDOW - 1 + REPLY_WINDOW);
        vm.expectEmit(address(escrow));
        emit I.DepositClaimed(idOf(rental), CLAIM, EVIDENCE, deadline);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(renter, address(dollar), DEPOSIT - CLAIM);
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
        assertRental(rental, I.RentalState.Claimed, deadline, CLAIM, CLAIM);
        assertCredit(renter, UNUSED + DEPOSIT - CLAIM);
        assertCredit(owner, CHARGE);
    }

    function test_claim__when_one_unit_or_all_is_claimed__goes_through() public {
        assertRental(claimed(1), I.RentalState.Claimed, START + REPLY_WINDOW, 1, 1);
        assertRental(claimed(DEPOSIT), I.RentalState.Claimed, START + REPLY_WINDOW, DEPOSIT, DEPOSIT);
    }

    function test_claim__when_caller_is_not_the_owner__reverts() public {
        I.Rental memory rental = checkedOut();
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotOwner.selector, arbiter, owner));
        vm.prank(arbiter);
        escrow.claim(rental, CLAIM, EVIDENCE);
    }

    function test_claim__when_not_checked_out__reverts() public {
        I.Rental[6] memory rentals = [rentalOf(termsOf()), opened(), active(), checkedIn(), claimed(1), disputed(1)];
        for (uint256 i = 0; i < 6; ++i) {
            bytes memory problem = stateError(rentals[i], I.RentalState.CheckedOut);
            vm.expectRevert(problem);
            vm.prank(owner);
            escrow.claim(rentals[i], CLAIM, EVIDENCE);
        }
    }

    function test_claim__when_window_is_over__reverts() public {
        I.Rental memory rental = checkedOut();
        uint256 deadline = START + CLAIM_WINDOW;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
    }

    function test_claim__when_it_is_nothing_or_over_the_deposit__reverts() public {
        I.Rental memory rental = checkedOut();
        uint96[3] memory amounts = [0, DEPOSIT + 1, type(uint96).max];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(I.ClaimOutOfBounds.selector, amounts[i], DEPOSIT));
            vm.prank(owner);
            escrow.claim(rental, amounts[i], EVIDENCE);
        }
    }

    /* accept */

    function test_accept__when_renter_agrees__pays_the_claim() public {
        I.Rental memory rental = claimed(CLAIM);
        vm.expectEmit(address(escrow));
        emit I.ClaimAccepted(idOf(rental), CLAIM);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(owner, address(dollar), CLAIM);
        vm.prank(renter);
        escrow.accept(rental);
        assertClosed(rental);
        assertCredit(owner, CHARGE + CLAIM);
        assertCredit(renter, UNUSED + DEPOSIT - CLAIM);
    }

    /* reject */

    function test_reject__when_renter_disagrees__opens_the_ruling_window() public {
        I.Rental memory rental = claimed(CLAIM);
        vm.warp(START + 100);
        uint40 deadline = uint40(START + 100 + RULING_WINDOW);
        vm.expectEmit(address(escrow));
        emit I.ClaimRejected(idOf(rental), deadline);
        vm.prank(renter);
        escrow.reject(rental);
        assertRental(rental, I.RentalState.Disputed, deadline, CLAIM, CLAIM);
    }

    function test_answer__when_caller_is_not_the_renter__reverts() public {
        I.Rental memory rental = claimed(CLAIM);
        bytes memory problem = abi.encodeWithSelector(I.CallerNotRenter.selector, owner, renter);
        vm.startPrank(owner);
        vm.expectRevert(problem);
        escrow.accept(rental);
        vm.expectRevert(problem);
        escrow.reject(rental);
        vm.stopPrank();
    }

    function test_answer__when_nothing_is_claimed__reverts() public {
        I.Rental[6] memory rentals = [rentalOf(termsOf()), opened(), active(), checkedIn(), checkedOut(), disputed(1)];
        for (uint256 i = 0; i < 6; ++i) {
            bytes memory problem = stateError(rentals[i], I.RentalState.Claimed);
            vm.startPrank(renter);
            vm.expectRevert(problem);
            escrow.accept(rentals[i]);
            vm.expectRevert(problem);
            escrow.reject(rentals[i]);
            vm.stopPrank();
        }
    }

    function test_answer__when_window_is_over__reverts() public {
        I.Rental memory rental = claimed(CLAIM);
        uint256 deadline = START + REPLY_WINDOW;
        vm.warp(deadline);
        bytes memory problem = abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline);
        vm.startPrank(renter);
        vm.expectRevert(problem);
        escrow.accept(rental);
        vm.expectRevert(problem);
        escrow.reject(rental);
        vm.warp(deadline - 1);
        escrow.reject(rental);
        vm.stopPrank();
    }

    /* rule */

    function test_rule__when_arbiter_awards_a_part__splits_the_claim() public {
        I.Rental memory rental = disputed(CLAIM);
        vm.expectEmit(address(escrow));
        emit I.ClaimRuled(idOf(rental), 15_000_000);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(owner, address(dollar), 15_000_000);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(renter, address(dollar), CLAIM - 15_000_000);
        vm.prank(arbiter);
        escrow.rule(rental, 15_000_000);
        assertClosed(rental);
        assertCredit(owner, CHARGE + 15_000_000);
        assertCredit(renter, UNUSED + DEPOSIT - 15_000_000);
    }

    function test_rule__when_arbiter_awards_nothing_or_all__pays_one_party() public {
        I.Rental memory rental = disputed(CLAIM);
        vm.prank(arbiter);
        escrow.rule(rental, 0);
        assertCredit(owner, CHARGE);
        assertCredit(renter, UNUSED + DEPOSIT);
        rental = disputed(CLAIM);
        vm.prank(arbiter);
        escrow.rule(rental, CLAIM);
        assertClosed(rental);
        assertCredit(owner, 2 * CHARGE + CLAIM);
        assertCredit(renter, 2 * UNUSED + 2 * uint256(DEPOSIT) - CLAIM);
    }

    function test_rule__when_caller_is_not_the_arbiter__reverts() public {
        I.Rental memory rental = disputed(CLAIM);
        address[3] memory callers = [owner, renter, stranger];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(I.CallerNotArbiter.selector, callers[i], arbiter));
            vm.prank(callers[i]);
            escrow.rule(rental, CLAIM);
        }
    }

    function test_rule__when_nothing_is_disputed__reverts() public {
        I.Rental[6] memory rentals = [rentalOf(termsOf()), opened(), active(), checkedIn(), checkedOut(), claimed(1)];
        for (uint256 i = 0; i < 6; ++i) {
            bytes memory problem = stateError(rentals[i], I.RentalState.Disputed);
            vm.expectRevert(problem);
            vm.prank(arbiter);
            escrow.rule(rentals[i], 0);
        }
    }

    function test_rule__when_window_is_over__reverts() public {
        I.Rental memory rental = disputed(CLAIM);
        uint256 deadline = START + RULING_WINDOW;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IAgreements.WindowIsOver.selector, deadline, deadline));
        vm.prank(arbiter);
        escrow.rule(rental, CLAIM);
        vm.warp(deadline - 1);
        vm.prank(arbiter);
        escrow.rule(rental, CLAIM);
    }

    function test_rule__when_award_is_over_the_claim__reverts() public {
        I.Rental memory rental = disputed(CLAIM);
        vm.expectRevert(abi.encodeWithSelector(I.AwardTooHigh.selector, CLAIM + 1, CLAIM));
        vm.prank(arbiter);
        escrow.rule(rental, CLAIM + 1);
    }

    /* waive */

    function test_waive__when_checked_out__releases_the_deposit_at_once() public {
        I.Rental memory rental = checkedOut();
        vm.expectEmit(address(escrow));
        emit I.ClaimWaived(idOf(rental), DEPOSIT);
        vm.expectEmit(address(escrow));
        emit ICredits.Credited(renter, address(dollar), DEPOSIT);
        vm.prank(owner);
        escrow.waive(rental);
        assertClosed(rental);
        assertCredit(renter, UNUSED + DEPOSIT);
        assertCredit(owner, CHARGE);
    }

    function test_waive__when_claimed_or_disputed__gives_the_claim_back_whatever_the_time() public {
        for (uint256 i = 0; i < 4; ++i) {
            vm.warp(START);
            I.Rental memory rental = i < 2 ? claimed(CLAIM) : disputed(CLAIM);
            if (i % 2 == 1) vm.warp(START + 30 days);
            vm.expectEmit(address(escrow));
            emit I.ClaimWaived(idOf(rental), CLAIM);
            vm.prank(owner);
            escrow.waive(rental);
            assertClosed(rental);
            assertCredit(renter, (i + 1) * (UNUSED + DEPOSIT));
        }
    }

    function test_waive__when_caller_is_not_the_owner__reverts() public {
        I.Rental memory rental = checkedOut();
        vm.expectRevert(abi.encodeWithSelector(I.CallerNotOwner.selector, renter, owner));
        vm.prank(renter);
        escrow.waive(rental);
    }

    function test_waive__when_nobody_checked_out_or_it_has_ended__reverts() public {
        I.Rental memory ended = checkedOut();
        vm.prank(owner);
        escrow.waive(ended);
        I.Rental[5] memory rentals = [rentalOf(termsOf()), opened(), active(), checkedIn(), ended];
        for (uint256 i = 0; i < 5; ++i) {
            (I.RentalState state,,,) = escrow.rentalOf(idOf(rentals[i]));
            vm.expectRevert(abi.encodeWithSelector(I.RentalNotCheckedOut.selector, idOf(rentals[i]), state));
            vm.prank(owner);
            escrow.waive(rentals[i]);
        }
    }
}
