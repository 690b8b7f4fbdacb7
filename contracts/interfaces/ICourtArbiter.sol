// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IArbitrable } from "contracts/interfaces/IArbitrable.sol";
import { IArbitrator } from "contracts/interfaces/IArbitrator.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";

/// @title ICourtArbiter
/// @notice Takes disputed rentals to an outside court of ERC-792: the arbiter in the terms is this contract.
/// @dev Ruling 1 gives the owner all that is claimed, 2 gives it to the renter; so does a refusal (0), and any other
/// number. A court slower than the ruling window decides nothing: the claim goes back to the renter.
///
/// A court's ruling is only kept (`rule`); anyone then carries it to the escrow (`enforce`). So nothing that happens to the
/// rental meanwhile, and no lack of gas, can make the court's own call fail or lose its ruling.
interface ICourtArbiter is IArbitrable {
    /* EVENTS */

    /// @notice A disputed rental is before the court.
    event RentalBrought(bytes32 indexed rentalId, uint256 indexed disputeID, address broughtBy);
    /// @notice The court's ruling went to the escrow.
    event RulingEnforced(bytes32 indexed rentalId, uint256 indexed disputeID, uint256 award);

    /* ERRORS */

    /// @notice The terms name another arbiter.
    error ArbiterIsAnother(address arbiter);
    /// @notice Nobody disputes the rental, or no longer.
    error RentalNotDisputed(bytes32 rentalId, IDepositEscrow.RentalState state);
    /// @notice The rental is before the court already.
    error RentalAlreadyBrought(bytes32 rentalId, uint256 disputeID);
    /// @notice The court wants exactly that much, in wei.
    error ArbitrationCostNotPaid(uint256 value, uint256 cost);
    /// @notice That is for the court.
    error CallerNotCourt(address caller, address court);
    /// @notice The court has not ruled on the rental.
    error RentalNotRuled(bytes32 rentalId);

    /* COURT */

    /// @notice Takes a rental to the court. By anyone who pays what the court asks, while the rental is Disputed and the
    /// ruling window open.
    function bring(IDepositEscrow.Rental calldata rental) external payable returns (uint256 disputeID);

    /// @notice Carries the court's ruling to the escrow. By anyone, while the ruling window is open.
    function enforce(IDepositEscrow.Rental calldata rental) external;

    /* VIEWS */

    /// @notice What `bring` costs now, in wei.
    function cost() external view returns (uint256);

    /// @notice Which dispute a rental is.
    function disputeOf(bytes32 rentalId) external view returns (bool isBrought, uint256 disputeID);

    /// @notice How the court ruled.
    function rulingOf(uint256 disputeID) external view returns (bool isRuled, uint256 ruling);

    /// @notice The escrow that is ruled.
    function escrow() external view returns (IDepositEscrow);

    /// @notice The court.
    function arbitrator() external view returns (IArbitrator);

    /// @notice How the court is to sit, in its own encoding.
    function extraData() external view returns (bytes memory);
}
