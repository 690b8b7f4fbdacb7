// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IArbitrable
/// @notice What a court of ERC-792 gives its rulings to.
/// @dev Names and types are the standard's.
interface IArbitrable {
    /// @notice A ruling was taken. The court is `arbitrator`; 0 is a refusal to arbitrate.
    event Ruling(address indexed arbitrator, uint256 indexed disputeID, uint256 ruling);

    /// @notice Takes a ruling. By the court.
    function rule(uint256 disputeID, uint256 ruling) external;
}
