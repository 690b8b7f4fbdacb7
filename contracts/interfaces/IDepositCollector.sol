// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IDepositCollector
/// @notice Brings a payer's tokens to the payment channels that ask for them: x402's plug for a way to pay.
interface IDepositCollector {
    /// @notice Moves exactly `amount` of `token` from `payer` to the caller, which checks what has arrived.
    /// @param payer Who pays, and must have allowed it in the collector's own way.
    /// @param token The ERC-20 token.
    /// @param amount Base units of `token`.
    /// @param channelId The channel for which the payer pays; what the payer signed must be bound to it.
    /// @param collectorData What this collector needs, as a rule a signature.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external;
}
