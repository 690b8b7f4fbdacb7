// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IArbitrable } from "contracts/interfaces/IArbitrable.sol";
import { IArbitrator } from "contracts/interfaces/IArbitrator.sol";

/// @title SmallCourt
/// @notice A court of ERC-792 with one juror, who rules when and as often as it likes. For tests.
contract SmallCourt is IArbitrator {
    error CallerNotJuror(address caller, address juror);
    error CourtFeeTooLow(uint256 value, uint256 cost);
    error DisputeUnknown(uint256 disputeID);

    struct Case {
        IArbitrable arbitrable;
        uint256 choices;
        bytes extraData;
    }

    address public immutable juror;
    uint256 public fee;
    /// @notice Whether the court rules while a dispute is being brought, and how.
    bool public isHasty;
    uint256 public hastyRuling;
    /// @notice What the court calls before it takes a dispute.
    address public target;
    bytes public data;
    bool public lastSuccess;
    bytes public lastAnswer;

    Case[] private _cases;

    constructor(address juror_, uint256 fee_) {
        (juror, fee) = (juror_, fee_);
    }

    function setFee(uint256 fee_) external {
        fee = fee_;
    }

    function setHasty(bool hasty, uint256 ruling) external {
        (isHasty, hastyRuling) = (hasty, ruling);
    }

    function setHook(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    /// @notice Gives a ruling. By the juror; a court that is not small would refuse to rule twice.
    function giveRuling(uint256 disputeID, uint256 ruling) external {
        require(msg.sender == juror, CallerNotJuror(msg.sender, juror));
        require(disputeID < _cases.length, DisputeUnknown(disputeID));
        _cases[disputeID].arbitrable.rule(disputeID, ruling);
    }

    /// @inheritdoc IArbitrator
    function createDispute(uint256 choices, bytes calldata extraData) external payable returns (uint256 disputeID) {
        require(msg.value >= fee, CourtFeeTooLow(msg.value, fee));
        if (target != address(0)) (lastSuccess, lastAnswer) = target.call{ value: 0 }(data);
        disputeID = _cases.length;
        _cases.push(Case(IArbitrable(msg.sender), choices, extraData));
        emit DisputeCreation(disputeID, msg.sender);
        if (isHasty) IArbitrable(msg.sender).rule(disputeID, hastyRuling);
    }

    /// @inheritdoc IArbitrator
    function arbitrationCost(bytes calldata) external view returns (uint256) {
        return fee;
    }

    /// @notice A case as it was brought.
    function caseOf(uint256 disputeID) external view returns (Case memory) {
        return _cases[disputeID];
    }
}
