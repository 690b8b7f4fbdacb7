// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";

/// @title HostileRule
/// @notice A rule that misbehaves in one way or another when it is asked. For tests.
contract HostileRule is ILeafRule {
    enum Mode {
        SaysViolated,
        SaysHonest,
        Reverts,
        RevertsWithBomb,
        Burns,
        AnswersBomb,
        AnswersTwo,
        AnswersShort,
        AnswersGas,
        CallsBack
    }

    /// @notice The bytes of a bomb: to copy them would cost more than a rule's gas.
    uint256 public constant BOMB_LENGTH = 300_000;

    Mode public immutable mode;
    address public immutable target;
    uint256 public immutable threshold;

    /// @param threshold_ AnswersGas says violated where it has less gas than this.
    constructor(Mode mode_, address target_, uint256 threshold_) {
        (mode, target, threshold) = (mode_, target_, threshold_);
    }

    /// @inheritdoc ILeafRule
    function violates(bytes calldata, uint256, bytes calldata params) external view returns (bool) {
        uint256 gas = gasleft();
        if (mode == Mode.SaysViolated) return true;
        if (mode == Mode.AnswersGas) return gas < threshold;
        if (mode == Mode.Reverts) revert();
        if (mode == Mode.Burns) while (true) { }
        if (mode == Mode.CallsBack) {
            (bool success,) = target.staticcall(params);
            return success;
        }
        uint256 bomb = BOMB_LENGTH;
        if (mode == Mode.RevertsWithBomb) {
            assembly ("memory-safe") {
                mstore(0x00, 1)
                revert(0x00, bomb)
            }
        }
        if (mode == Mode.AnswersBomb) {
            assembly ("memory-safe") {
                mstore(0x00, 1)
                return(0x00, bomb)
            }
        }
        if (mode == Mode.AnswersTwo) {
            assembly ("memory-safe") {
                mstore(0x00, 2)
                return(0x00, 0x20)
            }
        }
        if (mode == Mode.AnswersShort) {
            assembly ("memory-safe") {
                mstore(0x00, 1)
                return(0x01, 0x1f)
            }
        }
        return false;
    }
}
