// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ReentrancyGuardTransient } from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import { IArbitrable } from "contracts/interfaces/IArbitrable.sol";
import { IArbitrator } from "contracts/interfaces/IArbitrator.sol";
import { ICourtArbiter } from "contracts/interfaces/ICourtArbiter.sol";
import { IDepositEscrow } from "contracts/interfaces/IDepositEscrow.sol";

/// @title CourtArbiter
/// @notice Stands between the escrow and one court of ERC-792, and is the arbiter of every rental that is to go there.
/// @dev MODEL. One contract for each court and way to sit; whoever wants it deploys it. It holds no money: a fee is passed
/// on to the wei. A ruling is kept by the number of its dispute, the first one for good, even one that the court gives
/// while the dispute is being brought.
///
/// ASSUMPTIONS. The court numbers its disputes once. Owner and renter trust it, or would not have agreed to it.
contract CourtArbiter is ICourtArbiter, ReentrancyGuardTransient {
    uint256 private constant CHOICES = 2;
    uint256 private constant RULING_OWNER = 1;

    /// @inheritdoc ICourtArbiter
    IDepositEscrow public immutable escrow;
    /// @inheritdoc ICourtArbiter
    IArbitrator public immutable arbitrator;
    /// @inheritdoc ICourtArbiter
    bytes public extraData;

    struct Dispute {
        bool isBrought;
        uint256 id;
    }

    struct Judgement {
        bool isRuled;
        uint256 ruling;
    }

    mapping(bytes32 rentalId => Dispute dispute) private _disputes;
    mapping(uint256 disputeId => Judgement judgement) private _judgements;

    constructor(IDepositEscrow escrow_, IArbitrator arbitrator_, bytes memory extraData_) {
        escrow = escrow_;
        arbitrator = arbitrator_;
        extraData = extraData_;
    }

    /* COURT */

    /// @inheritdoc ICourtArbiter
    function bring(IDepositEscrow.Rental calldata rental) external payable nonReentrant returns (uint256 disputeID) {
        require(rental.terms.arbiter == address(this), ArbiterIsAnother(rental.terms.arbiter));
        bytes32 id = escrow.rentalId(rental);
        require(!_disputes[id].isBrought, RentalAlreadyBrought(id, _disputes[id].id));
        (IDepositEscrow.RentalState state, uint40 deadline,,) = escrow.rentalOf(id);
        bool isOpen = state == IDepositEscrow.RentalState.Disputed && block.timestamp < deadline;
        require(isOpen, RentalNotDisputed(id, state));
        bytes memory sitting = extraData;
        uint256 price = arbitrator.arbitrationCost(sitting);
        require(msg.value == price, ArbitrationCostNotPaid(msg.value, price));

        disputeID = arbitrator.createDispute{ value: price }(CHOICES, sitting);
        _disputes[id] = Dispute(true, disputeID);
        emit RentalBrought(id, disputeID, msg.sender);
    }

    /// @inheritdoc IArbitrable
    function rule(uint256 disputeID, uint256 ruling) external {
        require(msg.sender == address(arbitrator), CallerNotCourt(msg.sender, address(arbitrator)));
        if (_judgements[disputeID].isRuled) return;

        _judgements[disputeID] = Judgement(true, ruling);
        emit Ruling(msg.sender, disputeID, ruling);
    }

    /// @inheritdoc ICourtArbiter
    function enforce(IDepositEscrow.Rental calldata rental) external nonReentrant {
        bytes32 id = escrow.rentalId(rental);
        Dispute memory dispute = _disputes[id];
        Judgement memory judgement = _judgements[dispute.id];
        require(dispute.isBrought && judgement.isRuled, RentalNotRuled(id));
        (,,, uint96 claimed) = escrow.rentalOf(id);
        uint96 award = judgement.ruling == RULING_OWNER ? claimed : 0;
        emit RulingEnforced(id, dispute.id, award);

        escrow.rule(rental, award);
    }

    /* VIEWS */

    /// @inheritdoc ICourtArbiter
    function cost() external view returns (uint256) {
        return arbitrator.arbitrationCost(extraData);
    }

    /// @inheritdoc ICourtArbiter
    function disputeOf(bytes32 rentalId) external view returns (bool isBrought, uint256 disputeID) {
        return (_disputes[rentalId].isBrought, _disputes[rentalId].id);
    }

    /// @inheritdoc ICourtArbiter
    function rulingOf(uint256 disputeID) external view returns (bool isRuled, uint256 ruling) {
        return (_judgements[disputeID].isRuled, _judgements[disputeID].ruling);
    }
}
