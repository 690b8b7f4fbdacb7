// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC20 } from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import { SafeERC20 } from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import { IDepositCollector } from "contracts/interfaces/IDepositCollector.sol";
import { IReceiveWithAuthorization } from "contracts/payment/IReceiveWithAuthorization.sol";

/// @title ERC3009DepositCollector
/// @notice Pays into a channel by the payer's ERC-3009 authorization, whose nonce names the channel.
/// @dev MODEL. ERC-3009 pays the caller alone, so the tokens come here first and go on in the same call; between calls
/// the collector holds nothing. The authorization is `receiveWithAuthorization(payer, this, amount, validAfter,
/// validBefore, nonce)` with `nonce = keccak256(abi.encode(channelId, salt))`: it is good for one channel only, and anyone
/// may hand it in.
///
/// ROLES. One PaymentChannels contract, named for good at deployment, may call; from anyone else's hands the money
/// would go to the caller.
///
/// ASSUMPTIONS. The channels check what arrives: a token that takes a fee is refused there.
contract ERC3009DepositCollector is IDepositCollector {
    using SafeERC20 for IERC20;

    /// @notice The caller is not the contract that this collector serves. (x402's names, without values.)
    error OnlyX402BatchSettlement();

    /// @notice The contract to serve is the zero address.
    error InvalidX402BatchSettlementAddress();

    /// @notice The payment channels that this collector serves. (x402's name.)
    address public immutable x402BatchSettlement;

    constructor(address channels) {
        require(channels != address(0), InvalidX402BatchSettlementAddress());
        x402BatchSettlement = channels;
    }

    /// @inheritdoc IDepositCollector
    /// @param collectorData abi.encode(uint256 validAfter, uint256 validBefore, uint256 salt, bytes signature).
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external
    {
        require(msg.sender == x402BatchSettlement, OnlyX402BatchSettlement());
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(collectorData, (uint256, uint256, uint256, bytes));

        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IReceiveWithAuthorization(token)
            .receiveWithAuthorization(payer, address(this), amount, validAfter, validBefore, nonce, signature);
        IERC20(token).safeTransfer(msg.sender, amount);
    }
}
