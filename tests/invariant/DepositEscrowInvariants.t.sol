// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowHandler as Handler } from "./DepositEscrowHandler.sol";
import { TestBase, vm } from "./TestBase.sol";
import { DepositEscrow } from "contracts/escrow/DepositEscrow.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";
import { DevDollar } from "contracts/mocks/DevDollar.sol";

/// @title DepositEscrowInvariants
/// @notice DE-1 to DE-5 of the escrow's design after every call of a random history.
contract DepositEscrowInvariants is TestBase {
    uint256 private constant ACTORS = 6;

    Handler internal handler;
    DepositEscrow internal escrow;

    function setUp() public {
        handler = new Handler();
        escrow = DepositEscrow(handler.escrowAddress());
        targetContract(address(handler));
        bytes4[] memory often = new bytes4[](10);
        often[0] = Handler.open.selector;
        often[1] = Handler.handOver.selector;
        often[2] = Handler.checkOut.selector;
        often[3] = Handler.claim.selector;
        often[4] = Handler.answer.selector;
        often[5] = Handler.offer.selector;
        often[6] = Handler.checkIn.selector;
        often[7] = Handler.close.selector;
        often[8] = Handler.rule.selector;
        often[9] = Handler.passTime.selector;
        bytes4[] memory seldom = new bytes4[](5);
        seldom[0] = Handler.cancelOffer.selector;
        seldom[1] = Handler.refund.selector;
        seldom[2] = Handler.waive.selector;
        seldom[3] = Handler.withdraw.selector;
        seldom[4] = Handler.donate.selector;
        bytes4[] memory oftenest = new bytes4[](6);
        oftenest[0] = Handler.offer.selector;
        oftenest[1] = Handler.open.selector;
        oftenest[2] = Handler.open.selector;
        oftenest[3] = Handler.handOver.selector;
        oftenest[4] = Handler.handOver.selector;
        oftenest[5] = Handler.checkOut.selector;
        targetSelector(address(handler), often);
        targetSelector(address(handler), often);
        targetSelector(address(handler), oftenest);
        targetSelector(address(handler), seldom);
    }

    /// @notice The handler is no idle one: a history of its calls gets to every state, to charges, awards and rulings.
    /// @dev Without this, invariants of a handler that never gets anywhere would hold too.
    function test_handler__when_played__gets_everywhere() public {
        bytes4[14] memory calls = [
            Handler.offer.selector,
            Handler.open.selector,
            Handler.open.selector,
            Handler.handOver.selector,
            Handler.handOver.selector,
            Handler.checkIn.selector,
            Handler.checkOut.selector,
            Handler.claim.selector,
            Handler.answer.selector,
            Handler.rule.selector,
            Handler.close.selector,
            Handler.passTime.selector,
            Handler.waive.selector,
            Handler.refund.selector
        ];
        uint256 went;
        for (uint256 i = 0; i < 3000; ++i) {
            uint256 word = uint256(keccak256(abi.encode(i)));
            bytes4 selector = calls[word % (i % 5 == 0 ? 14 : 12)];
            bytes memory data = selector == Handler.offer.selector || selector == Handler.passTime.selector
                ? abi.encodeWithSelector(selector, word >> 8)
                : abi.encodeWithSelector(selector, word >> 8, word >> 16);
            (bool ok,) = address(handler).call(data);
            if (ok) ++went;
        }
        assertGt(went, 1500, "most calls were refused");
        for (uint256 i = 1; i < 8; ++i) {
            assertGt(handler.reached(i), 20, string.concat("hardly ever reached state ", vm.toString(i)));
        }
        _assertEverythingHappened();
        _assertPredicted();
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
            assertGt(happened[i], 0, "something never happened");
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
    /// was cancelled.
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
