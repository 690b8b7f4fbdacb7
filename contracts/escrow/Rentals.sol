// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";

/// @title Rentals
/// @notice The life of a rental: its id, its one slot of state, and at what time which step may follow.
/// @dev LIFECYCLE. None → Opened → Active (→ CheckedIn) → CheckedOut → Closed, with → Claimed → Closed and → Disputed →
/// Closed. Every step asks for the state that it starts from, and none starts from Closed.
library Rentals {
    /// @dev One slot, filled to the last bit, so that it is written without being read. What is held has at most 98 bits,
    /// the sum of three amounts of 96; while Claimed or Disputed it is what the owner claims. The device's times of check-in
    /// and check-out are 0 where none was shown.
    struct Slot {
        IDepositEscrow.RentalState state;
        uint40 deadline;
        uint40 checkedInAt;
        uint40 checkedOutAt;
        uint128 held;
    }

    struct Book {
        mapping(bytes32 rentalId => Slot slot) slots;
    }

    /// @notice The id of a rental.
    function idOf(bytes32 termsId, IDepositEscrow.Rental calldata rental) internal pure returns (bytes32) {
        return idOf(termsId, rental.renter, rental.mask, rental.ephemeralX, rental.ephemeralY);
    }

    /// @notice The id of a rental.
    function idOf(bytes32 termsId, address renter, address mask, uint256 ephemeralX, uint256 ephemeralY)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(termsId, renter, mask, ephemeralX, ephemeralY));
    }

    /// @notice Reverts unless the rental is in `required` and its deadline has not come.
    function requireIn(Book storage book, bytes32 id, IDepositEscrow.RentalState required)
        internal
        view
        returns (Slot memory slot)
    {
        slot = book.slots[id];
        require(slot.state == required, IDepositEscrow.RentalStateInvalid(id, slot.state, required));
        requireBefore(slot.deadline);
    }

    /// @notice Reverts unless the rental awaits its check-out and the deadline for it has not come.
    function requireActive(Book storage book, bytes32 id) internal view returns (Slot memory slot) {
        slot = book.slots[id];
        require(
            slot.state == IDepositEscrow.RentalState.Active || slot.state == IDepositEscrow.RentalState.CheckedIn,
            IDepositEscrow.RentalNotActive(id, slot.state)
        );
        requireBefore(slot.deadline);
    }

    /// @notice Reverts unless something is held for the rental and its deadline has come.
    function requireClosable(Book storage book, bytes32 id) internal view returns (Slot memory slot) {
        slot = book.slots[id];
        require(
            slot.state != IDepositEscrow.RentalState.None && slot.state != IDepositEscrow.RentalState.Closed,
            IDepositEscrow.RentalNotOpen(id, slot.state)
        );
        require(block.timestamp >= slot.deadline, IAgreements.WindowIsOpen(slot.deadline, block.timestamp));
    }

    /// @notice Reverts from `deadline` on.
    function requireBefore(uint256 deadline) internal view {
        require(block.timestamp < deadline, IAgreements.WindowIsOver(deadline, block.timestamp));
    }

    /// @notice What the owner claims: all that is held, while Claimed or Disputed.
    function claimedOf(Slot memory slot) internal pure returns (uint96) {
        bool isClaimed =
            slot.state == IDepositEscrow.RentalState.Claimed || slot.state == IDepositEscrow.RentalState.Disputed;
        return isClaimed ? uint96(slot.held) : 0;
    }

    /// @notice Writes the end: nothing is held any more.
    function end(Book storage book, bytes32 id) internal {
        book.slots[id] = Slot(IDepositEscrow.RentalState.Closed, 0, 0, 0, 0);
    }

    /// @notice The end of a window that opens now. A block's time and a window of at most 30 days fit 40 bits.
    function deadlineIn(uint256 window) internal view returns (uint40) {
        return uint40(block.timestamp + window);
    }
}
