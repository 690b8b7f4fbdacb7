// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IArbitrator
/// @notice The part of a court of ERC-792 that is needed to bring a dispute before it.
/// @dev Names and types are the standard's. `extraData` says how the court is to sit (which chamber, how many jurors), in
/// its own encoding. A ruling comes by `IArbitrable.rule`.
interface IArbitrator {
    /// @notice A dispute was brought by the contract `arbitrable`.
    event DisputeCreation(uint256 indexed disputeID, address indexed arbitrable);

    /// @notice Brings a dispute with `choices` possible rulings, from 1; the call pays `arbitrationCost(extraData)`.
    function createDispute(uint256 choices, bytes calldata extraData) external payable returns (uint256 disputeID);

    /// @notice What a dispute costs, in wei.
    function arbitrationCost(bytes calldata extraData) external view returns (uint256);
}
