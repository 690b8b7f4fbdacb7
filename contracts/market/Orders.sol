// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IAgreements } from "contracts/interfaces/IAgreements.sol";
import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";

/// @title Orders
/// @notice The life of an order: its id, its one slot of state, and at what time which step may follow.
/// @dev LIFECYCLE. None → Paid → Revealed → Settled, or → Refunded from Paid or Revealed. Every step asks for the state
/// that it starts from, and none starts from Settled or Refunded.
library Orders {
    /// @dev The state in bits 0 to 7, the deadline of the last window that was opened in bits 8 to 47.
    type Slot is uint256;

    struct Book {
        mapping(bytes32 orderId => Slot slot) slots;
    }

    /// @notice The id of an order.
    function idOf(bytes32 saleId, IDataMarket.Row memory row) internal pure returns (bytes32) {
        return keccak256(abi.encode(saleId, row));
    }

    /// @notice The id of an order.
    function idOf(bytes32 saleId, IDataMarket.Order calldata order) internal pure returns (bytes32) {
        return keccak256(abi.encode(saleId, order.buyer, order.mask, order.ephemeralX, order.ephemeralY));
    }

    /// @notice What tells an order apart from the others of its sale.
    function rowOf(IDataMarket.Order calldata order) internal pure returns (IDataMarket.Row memory) {
        return IDataMarket.Row(order.buyer, order.mask, order.ephemeralX, order.ephemeralY);
    }

    /// @notice Where an order stands.
    function get(Book storage book, bytes32 id) internal view returns (IDataMarket.OrderState state, uint40 deadline) {
        uint256 packed = Slot.unwrap(book.slots[id]);
        return (IDataMarket.OrderState(packed & 0xff), uint40(packed >> 8));
    }

    /// @notice None → Paid, with `revealWindow` seconds to reveal.
    function place(Book storage book, bytes32 saleId, IDataMarket.Row memory row, uint256 revealWindow)
        internal
        returns (bytes32 id)
    {
        require(row.buyer != address(0) && row.buyer != address(this), IDataMarket.BuyerInvalid(row.buyer));
        require(row.mask != address(0), IAgreements.MaskIsZero());
        id = idOf(saleId, row);
        (IDataMarket.OrderState state,) = get(book, id);
        require(state == IDataMarket.OrderState.None, IDataMarket.OrderAlreadyMade(id, state));

        uint40 deadline = _open(book, id, IDataMarket.OrderState.Paid, revealWindow);
        emit IDataMarket.OrderPaid(id, saleId, row.buyer, row.mask, row.ephemeralX, row.ephemeralY, deadline);
    }

    /// @notice Paid → Revealed before the deadline, with `disputeWindow` seconds to dispute.
    function reveal(Book storage book, bytes32 id, uint256 releasedKey, uint256 disputeWindow) internal {
        uint40 deadline = _requirePaid(book, id);
        require(block.timestamp < deadline, IAgreements.WindowIsOver(deadline, block.timestamp));

        deadline = _open(book, id, IDataMarket.OrderState.Revealed, disputeWindow);
        emit IDataMarket.OrderRevealed(id, releasedKey, deadline);
    }

    /// @notice Paid → Refunded, from the deadline on, or at any time where the payee `gives` it back.
    function refund(Book storage book, bytes32 id, bool gives) internal {
        uint40 deadline = _requirePaid(book, id);
        require(gives || block.timestamp >= deadline, IAgreements.WindowIsOpen(deadline, block.timestamp));

        _write(book, id, IDataMarket.OrderState.Refunded, deadline);
        emit IDataMarket.OrderRefunded(id);
    }

    /// @notice Reverts unless a dispute of the order can be won now; the deadline goes to `dispute`.
    function requireDisputable(Book storage book, bytes32 id) internal view returns (uint40 deadline) {
        deadline = _requireRevealed(book, id);
        require(block.timestamp < deadline, IAgreements.WindowIsOver(deadline, block.timestamp));
    }

    /// @notice Revealed → Refunded, after `requireDisputable`, for fraud at the leaf `index`.
    function dispute(Book storage book, bytes32 id, uint40 deadline, uint256 index) internal {
        _write(book, id, IDataMarket.OrderState.Refunded, deadline);
        emit IDataMarket.OrderDisputed(id, index);
    }

    /// @notice Revealed → Settled, from the deadline on, or at any time where the buyer `agrees`.
    function settle(Book storage book, bytes32 id, bool agrees) internal {
        uint40 deadline = _requireRevealed(book, id);
        require(agrees || block.timestamp >= deadline, IAgreements.WindowIsOpen(deadline, block.timestamp));

        _write(book, id, IDataMarket.OrderState.Settled, deadline);
        emit IDataMarket.OrderSettled(id);
    }

    /// @notice `settle` that says whether it did instead of reverting.
    function trySettle(Book storage book, bytes32 id, bool agrees) internal returns (bool) {
        (IDataMarket.OrderState state, uint40 deadline) = get(book, id);
        if (state != IDataMarket.OrderState.Revealed || !(agrees || block.timestamp >= deadline)) return false;
        settle(book, id, agrees);
        return true;
    }

    function _requirePaid(Book storage book, bytes32 id) private view returns (uint40 deadline) {
        IDataMarket.OrderState state;
        (state, deadline) = get(book, id);
        require(state == IDataMarket.OrderState.Paid, IDataMarket.OrderNotPaid(id, state));
    }

    function _requireRevealed(Book storage book, bytes32 id) private view returns (uint40 deadline) {
        IDataMarket.OrderState state;
        (state, deadline) = get(book, id);
        require(state == IDataMarket.OrderState.Revealed, IDataMarket.OrderNotRevealed(id, state));
    }

    /// @dev A block's time and a window of at most 30 days fit 40 bits for the next 34,000 years.
    function _open(Book storage book, bytes32 id, IDataMarket.OrderState state, uint256 window)
        private
        returns (uint40 deadline)
    {
        deadline = uint40(block.timestamp + window);
        _write(book, id, state, deadline);
    }

    function _write(Book storage book, bytes32 id, IDataMarket.OrderState state, uint40 deadline) private {
        book.slots[id] = Slot.wrap(uint256(state) | uint256(deadline) << 8);
    }
}
