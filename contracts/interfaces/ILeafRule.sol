// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title ILeafRule
/// @notice Decides whether one leaf of a data set breaks the promise that it was sold under.
/// @dev A rule is a pure function of its arguments, for ever: it asks no registry, no account's code and no contract that
/// somebody can change, or a leaf that was good when it was sold could be made bad afterwards. It is called with
/// STATICCALL and bounded gas; a rule that reverts has not said that the leaf is wrong.
interface ILeafRule {
    /// @notice Not enough gas is left to give the rule all that it is promised.
    error RuleGasTooLow(uint256 gasLeft, uint256 required);

    /// @notice Whether `leaf` breaks the promise in `params`.
    /// @param leaf The leaf in the clear.
    /// @param index Its place in the data set, from 0.
    /// @param params The promise, in the rule's own encoding.
    function violates(bytes calldata leaf, uint256 index, bytes calldata params) external view returns (bool);
}
