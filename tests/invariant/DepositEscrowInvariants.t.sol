// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowHandler as Handler } from "./DepositEscrowHandler.sol";
import { TestBase, vm } from "./TestBase.sol";
import { DepositEscrow } from "contracts/escrow/DepositEscrow.sol";
import { ICredits } from "contracts/interfaces/ICredits.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title DepositEscrowInvariants
/// @notice DE-1 to DE-5 of the escrow's design after every call of a random history.
/// forge-config: default.evm_version = "osaka"
contract DepositEscrowInvariants is TestBase {
    uint256 private constant ACTORS = 6;
    uint256 private constant HISTORY = 2500;

    Handler internal handler;
    DepositEscrow internal escrow;

    function setUp() public {
        handler = new Handler();
        escrow = DepositEscrow(handler.escrowAddress());
        targetContract(address(handler));
        targetSelector(address(handler), _calls());
    }

    /// @dev The earlier in a rental's life, the oftener: what is refused, late or given up on the way is missing later.
    function _calls() private pure returns (bytes4[] memory calls) {
        bytes4[22] memory selectors = [
            Handler.open.selector,
            Handler.handOver.selector,
            Handler.checkIn.selector,
            Handler.checkOut.selector,
            Handler.claim.selector,
            Handler.reject.selector,
            Handler.accept.selector,
            Handler.rule.selector,
            Handler.waive.selector,
            Handler.refund.selector,
            Handler.closeOpened.selector,
            Handler.closeActive.selector,
            Handler.closeCheckedIn.selector,
            Handler.closeCheckedOut.selector,
            Handler.closeClaimed.selector,
            Handler.closeDisputed.selector,
            Handler.closeAny.selector,
            Handler.withdraw.selector,
            Handler.offer.selector,
            Handler.cancelOffer.selector,
            Handler.donate.selector,
            Handler.passTime.selector
        ];
        uint8[22] memory weights = [9, 6, 2, 5, 4, 3, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        uint256 total;
        for (uint256 i = 0; i < 22; ++i) {
            total += weights[i];
        }
        calls = new bytes4[](total);
        for (uint256 i = 0; i < 22; ++i) {
            for (uint256 j = 0; j < weights[i]; ++j) {
                calls[--total] = selectors[i];
            }
        }
    }

    /// @notice The handler is no idle one: in a history of its calls each function of the escrow goes through often, by
    /// signed calls too, and every state is left by `close`.
    /// @dev Without this, invariants of a handler that never gets anywhere would hold too.
    function test_handler__when_played__gets_everywhere() public {
        bytes4[] memory calls = _calls();
        uint256 went;
        for (uint256 i = 0; i < HISTORY; ++i) {
            uint256 word = uint256(keccak256(abi.encode(i)));
            (bool ok,) =
                address(handler).call(abi.encodeWithSelector(calls[word % calls.length], word >> 8, word >> 16));
            if (ok) ++went;
        }
        assertGt(went, HISTORY / 2, "most calls were refused");
        for (uint256 state = 1; state < 8; ++state) {
            assertGt(handler.reached(state), 10, string.concat("hardly ever reached state ", vm.toString(state)));
            if (state == 7) break;
            assertGt(handler.closedFrom(state), 2, string.concat("hardly ever closed state ", vm.toString(state)));
        }
        _assertEachWent();
        _assertEverythingHappened();
        _assertPredicted();
    }

    function _assertEachWent() private view {
        bytes4[13] memory functions = [
            I.open.selector,
            I.openWithAuthorization.selector,
            I.refund.selector,
            I.handOver.selector,
            I.checkIn.selector,
            I.checkOut.selector,
            I.claim.selector,
            I.accept.selector,
            I.reject.selector,
            I.rule.selector,
            I.waive.selector,
            I.close.selector,
            ICredits.withdraw.selector
        ];
        for (uint256 i = 0; i < 13; ++i) {
            assertGt(handler.went(functions[i]), 5, string.concat("hardly ever went: ", vm.toString(i)));
            assertGt(handler.wentRelayed(functions[i]), 0, string.concat("hardly ever relayed: ", vm.toString(i)));
        }
    }

    function _assertEverythingHappened() private view {
        uint256[5] memory happened;
        for (uint256 i = 0; i < handler.count(); ++i) {
            (Handler.Model memory made,) = handler.modelOf(i);
            if (made.isCheckedOut) ++happened[0];
            if (made.charge != 0 && !made.isCheckedOut) ++happened[1];
            if (made.award != 0) ++happened[2];
            if (made.mostClaimed != 0 && made.award == 0) ++happened[3];
            if (made.endings != 0 && !made.isHandedOver) ++happened[4];
        }
        for (uint256 i = 0; i < 5; ++i) {
            assertGt(happened[i], 3, string.concat("hardly ever happened: ", vm.toString(i)));
        }
    }

    /// @notice What was paid in is credited or still held, for each rental and for each token, to the unit.
    function invariant_DE1_what_was_paid_in_is_credited_or_held() public view {
        _assertPredicted();
        DevDollar[2] memory tokens = handler.tokens();
        uint256[2] memory owed;
        for (uint256 i = 0; i < handler.count(); ++i) {
            (Handler.Model memory made, I.Rental memory rental) = handler.modelOf(i);
            (,, uint104 held,) = escrow.rentalOf(made.id);
            owed[rental.terms.token == address(tokens[0]) ? 0 : 1] += held;
            assertEq(made.ownerGot + made.renterGot + held, made.paidIn, "paid in");
        }
        for (uint256 i = 0; i < 2; ++i) {
            for (uint256 j = 0; j < ACTORS; ++j) {
                (address account, address token) = (handler.actor(j), address(tokens[i]));
                assertEq(escrow.creditOf(account, token), handler.creditModel(account, token), "credit");
                owed[i] += escrow.creditOf(account, token);
            }
            uint256 balance = tokens[i].balanceOf(address(escrow));
            assertEq(balance, owed[i] + handler.donated(address(tokens[i])), "balance");
        }
    }

    /// @notice award ≤ claimed ≤ deposit and charge ≤ fee + meterCap; the owner never gets more than both.
    function invariant_DE2_awards_and_charges_are_bounded() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.count(); ++i) {
            (Handler.Model memory made, I.Rental memory rental) = handler.modelOf(i);
            (I.RentalState state,, uint104 held, uint96 claimed) = escrow.rentalOf(made.id);
            assertLe(made.award, made.mostClaimed, "award");
            assertLe(made.mostClaimed, rental.terms.deposit, "claimed");
            assertLe(made.charge, uint256(rental.terms.fee) + rental.terms.meterCap, "charge");
            assertEq(made.ownerGot, made.charge + made.award, "the owner's");
            bool isArgued = state == I.RentalState.Claimed || state == I.RentalState.Disputed;
            assertEq(claimed, isArgued ? held : 0, "claimed of what is held");
        }
    }

    /// @notice A rental ends once and stays ended; every slot is the model's; terms open once, and never after their salt
    /// was cancelled. No signed call can be sent twice.
    function invariant_DE3_rentals_end_once_and_terms_open_once() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.count(); ++i) {
            (Handler.Model memory made,) = handler.modelOf(i);
            (I.RentalState state, uint40 deadline, uint104 held, uint96 claimed) = escrow.rentalOf(made.id);
            assertEq(uint256(state), uint256(made.state), "state");
            assertEq(uint256(deadline), made.deadline, "deadline");
            assertEq(uint256(held), made.held, "held");
            assertEq(uint256(claimed), made.claimed, "claimed");
            assertEq(made.endings, state == I.RentalState.Closed ? 1 : 0, "endings");
            (uint40 checkedInAt, uint40 checkedOutAt) = escrow.timesOf(made.id);
            assertEq(uint256(checkedInAt), made.cameAt, "checked in at");
            assertEq(uint256(checkedOutAt), made.leftAt, "checked out at");
        }
        for (uint256 i = 0; i < handler.offerCount(); ++i) {
            Handler.Offer memory offered = handler.offerAt(i);
            assertLe(offered.opens, 1, "opened");
            assertEq(escrow.isNonceUsed(offered.terms.owner, offered.terms.salt), offered.isSpent, "salt");
        }
        Handler.Nonce[] memory relayed = handler.relayedNonces();
        for (uint256 i = 0; i < relayed.length; ++i) {
            assertTrue(escrow.isNonceUsed(relayed[i].account, relayed[i].nonce), "nonce of a relayed call");
        }
    }

    /// @notice Whoever comes after the deadline gets every rental to its end.
    /// @dev One open rental after every call; at a run's end all of them.
    function invariant_DE4_anyone_ends_a_rental_after_its_deadlines() public {
        _assertPredicted();
        uint256 count = handler.count();
        for (uint256 i = 0; i < count; ++i) {
            if (_endsAfterItsDeadlines((count + i * 7) % count)) return;
        }
    }

    function afterInvariant() public {
        for (uint256 i = 0; i < handler.count(); ++i) {
            _endsAfterItsDeadlines(i);
        }
    }

    /// @notice Nothing is charged before the hand-over, and for metered use only by the pinned device's word.
    /// @dev Forged, foreign and early statements are among the handler's calls, and predicted to fail.
    function invariant_DE5_only_the_pinned_signer_checks_out_and_never_before_the_hand_over() public view {
        _assertPredicted();
        for (uint256 i = 0; i < handler.count(); ++i) {
            (Handler.Model memory made, I.Rental memory rental) = handler.modelOf(i);
            if (!made.isHandedOver) {
                assertEq(made.ownerGot, 0, "paid before the hand-over");
                assertFalse(made.isCheckedOut, "checked out before the hand-over");
            }
            if (!made.isCheckedOut) assertLe(made.charge, rental.terms.fee, "charged without the device's word");
        }
    }

    function _endsAfterItsDeadlines(uint256 i) private returns (bool) {
        (Handler.Model memory made, I.Rental memory rental) = handler.modelOf(i);
        (I.RentalState state, uint40 deadline,,) = escrow.rentalOf(made.id);
        if (state == I.RentalState.Closed) return false;
        uint256 before = vm.snapshotState();
        uint256 steps;
        while (state != I.RentalState.Closed) {
            if (vm.getBlockTimestamp() < deadline) vm.warp(deadline);
            vm.prank(address(0xA11));
            escrow.close(rental);
            (state, deadline,,) = escrow.rentalOf(made.id);
            assertLe(++steps, 2, "steps");
        }
        assertTrue(vm.revertToState(before), "revert");
        return true;
    }

    function _assertPredicted() private view {
        assertEq(handler.surprisingCall(), "", "a surprising call");
        assertEq(handler.surprises(), 0, "surprises");
    }
}
