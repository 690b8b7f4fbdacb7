// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title ICredits
/// @notice Pull payments: what an account is paid is written to its credit, and it takes that out by itself.
/// @dev The credit of an account is the sum of what its contract says was put in, less what was taken out; who cannot
/// receive a token harms nobody else.
interface ICredits {
    /* EVENTS */

    /// @notice An account took money out of its credit.
    event Withdrawn(address indexed account, address indexed token, uint256 amount, address to);

    /// @notice An account was paid: the amount is in its credit.
    event Credited(address indexed account, address indexed token, uint256 amount);

    /* ERRORS */

    /// @notice The account's credit does not cover the withdrawal, or the bond of one more order.
    error CreditTooLow(address account, address token, uint256 credit, uint256 amount);
    /// @notice Address 0 and the contract itself cannot be paid.
    error RecipientInvalid(address to);

    /* MONEY */

    /// @notice Pays out of the caller's credit.
    function withdraw(address token, uint256 amount, address to) external;

    /// @notice What `account` can withdraw, or have locked as bonds, in base units of `token`.
    function creditOf(address account, address token) external view returns (uint256);
}
