// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";

/// @title RuleCall
/// @notice Asks a rule about a leaf, with the same gas whoever asks.
/// @dev A rule that reverts, runs out of its gas or answers anything but `true` has not said that the leaf violates.
///
/// GAS. The rule gets exactly RULE_GAS, whoever calls and with whatever limit, so that its answer cannot depend on the
/// caller; its return data is never copied beyond a word.
library RuleCall {
    /// @notice The gas that a rule gets. A signed reading of 4 KiB (244 values) whose P-256 signature is checked without
    /// the precompile takes 495,000.
    uint256 internal constant RULE_GAS = 750_000;

    /// @dev What must be left before the call: a call passes on at most 63/64, after paying for a cold account.
    uint256 private constant GAS_REQUIRED = RULE_GAS * 64 / 63 + 10_000;

    /// @notice Whether the rule says that a leaf violates.
    /// @param data The encoded call of `ILeafRule.violates`.
    function violates(address rule, bytes memory data) internal view returns (bool answer) {
        require(gasleft() >= GAS_REQUIRED, ILeafRule.RuleGasTooLow(gasleft(), GAS_REQUIRED));
        assembly ("memory-safe") {
            let success := staticcall(RULE_GAS, rule, add(data, 0x20), mload(data), 0x00, 0x20)
            answer := and(and(success, gt(returndatasize(), 0x1f)), eq(mload(0x00), 1))
        }
    }
}
