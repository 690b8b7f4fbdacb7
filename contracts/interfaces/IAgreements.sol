// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IAgreements
/// @notice What every agreement that is signed off chain can be refused for: windows, keys, masks, payments by signature.
/// @dev An act needs `now < deadline`; what anyone may do after a deadline needs `now >= deadline`. The two never overlap
/// and leave no second between them.
interface IAgreements {
    /// @notice A window is shorter or longer than agreements may have (seconds).
    error WindowOutOfBounds(uint256 window, uint256 minimum, uint256 maximum);
    /// @notice That had to come before the deadline.
    error WindowIsOver(uint256 deadline, uint256 timestamp);
    /// @notice Until the deadline that is for the party alone that gives something up by it.
    error WindowIsOpen(uint256 deadline, uint256 timestamp);
    /// @notice (x, y) is not a point of secp256k1 with x below the group order: no key could be released for it.
    error PublicKeyInvalid(uint256 x, uint256 y);
    /// @notice No key could ever be released to a mask of 0.
    error MaskIsZero();
    /// @notice The authorization's signature is not r ‖ s ‖ v.
    error AuthorizationLengthInvalid(uint256 length, uint256 required);
}
