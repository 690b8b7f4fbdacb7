// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DepositEscrowKit } from "./DepositEscrowKit.sol";
import { vm } from "./TestBase.sol";
import { IDepositEscrow as I } from "contracts/interfaces/IDepositEscrow.sol";

/// @title DepositEscrowSilenceTest
/// @notice Every set of owner, renter, device and arbiter falls silent: all money is out within the sum of the windows, and
/// goes where the design says.
contract DepositEscrowSilenceTest is DepositEscrowKit {
    uint96 private constant CLAIM = 20_000_000;
    uint96 private constant AWARD = 5_000_000;

    /// @dev Who is silent from a moment on.
    struct Dead {
        bool owner;
        bool renter;
        bool device;
        bool arbiter;
    }

    /// @dev All sixteen sets of silent roles, from the payment on; the living act in the last second that they have.
    function test_silence__when_any_roles_die_after_the_payment__pays_everybody_out() public {
        for (uint256 set = 0; set < 16; ++set) {
            Dead memory dead = Dead(set & 1 != 0, set & 2 != 0, set & 4 != 0, set & 8 != 0);
            uint256 before = vm.snapshotState();
            _play(opened(), dead, false);
            assertTrue(vm.revertToState(before), "revert");
        }
    }

    /// @dev The same from the check-in on: now a dead device costs the renter the fee.
    function test_silence__when_any_roles_die_after_the_check_in__pays_everybody_out() public {
        for (uint256 set = 0; set < 16; ++set) {
            Dead memory dead = Dead(set & 1 != 0, set & 2 != 0, set & 4 != 0, set & 8 != 0);
            uint256 before = vm.snapshotState();
            _play(checkedIn(), dead, true);
            assertTrue(vm.revertToState(before), "revert");
        }
    }

    /// @dev A device unplugged after the hand-over, before anybody got in: an owner gains nothing by it.
    function test_silence__when_device_is_unplugged_after_the_hand_over__returns_everything() public {
        I.Rental memory rental = active();
        vm.warp(rental.terms.end + 1 days);
        _close(rental);
        assertClosed(rental);
        assertCredit(renter, PRICE);
        assertCredit(owner, 0);
    }

    function _play(I.Rental memory rental, Dead memory dead, bool isIn) private {
        I.Terms memory terms = rental.terms;
        uint256 latest = uint256(terms.end) + 1 days + CLAIM_WINDOW + REPLY_WINDOW + RULING_WINDOW;
        (uint256 owners, uint256 renters) = _use(rental, dead, isIn);
        if (_stateOf(rental) == I.RentalState.CheckedOut) {
            uint256 won = _argue(rental, dead);
            owners += won;
            renters += DEPOSIT - won;
        }
        assertClosed(rental);
        assertCredit(owner, owners);
        assertCredit(renter, renters);
        assertEq(owners + renters, PRICE, "all of it");
        assertLe(vm.getBlockTimestamp(), latest, "within the sum of the windows");
        _withdrawAll(owners, renters);
    }

    /// @dev Until the check-out or what takes its place; what owner and renter have got by then.
    function _use(I.Rental memory rental, Dead memory dead, bool isIn)
        private
        returns (uint256 owners, uint256 renters)
    {
        I.Terms memory terms = rental.terms;
        if (!isIn) {
            uint256 releasedKey = releasedKeyOf(rental);
            vm.warp(terms.start + GRACE - (dead.owner ? 0 : 1));
            if (dead.owner) {
                _close(rental);
                return (0, PRICE);
            }
            vm.prank(owner);
            escrow.handOver(rental, releasedKey);
        }
        if (dead.device) {
            vm.warp(terms.end + 1 days);
            _close(rental);
            return isIn ? (uint256(FEE), uint256(METER_CAP)) : (0, PRICE);
        }
        vm.warp(terms.end + 1 days - 1);
        sayOut(rental, checkOutOf(rental, 10));
        return (FEE + 10 * uint256(RATE), METER_CAP - 10 * uint256(RATE));
    }

    /// @dev From the check-out on; what the owner gets of the deposit.
    function _argue(I.Rental memory rental, Dead memory dead) private returns (uint256) {
        _pass(rental, dead.owner);
        if (dead.owner) return 0;
        vm.prank(owner);
        escrow.claim(rental, CLAIM, EVIDENCE);
        _pass(rental, dead.renter);
        if (dead.renter) return CLAIM;
        vm.prank(renter);
        escrow.reject(rental);
        _pass(rental, dead.arbiter);
        if (dead.arbiter) return 0;
        vm.prank(arbiter);
        escrow.rule(rental, AWARD);
        return AWARD;
    }

    /// @dev To the last second of the window; where nobody acts, to its end and over it.
    function _pass(I.Rental memory rental, bool isDead) private {
        (, uint40 deadline,,) = escrow.rentalOf(idOf(rental));
        vm.warp(isDead ? deadline : deadline - 1);
        if (isDead) _close(rental);
    }

    function _withdrawAll(uint256 owners, uint256 renters) private {
        vm.prank(owner);
        escrow.withdraw(address(dollar), owners, owner);
        vm.prank(renter);
        escrow.withdraw(address(dollar), renters, renter);
        assertEq(dollar.balanceOf(address(escrow)), 0, "left");
    }

    function _stateOf(I.Rental memory rental) private view returns (I.RentalState state) {
        (state,,,) = escrow.rentalOf(idOf(rental));
    }

    function _close(I.Rental memory rental) private {
        vm.prank(stranger);
        escrow.close(rental);
    }
}
