// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IReceiveWithAuthorization
/// @notice The one function of an ERC-3009 token that x402 calls: `receiveWithAuthorization` with the signature as bytes.
interface IReceiveWithAuthorization {
    /// @notice Moves `value` from `from` to `to`, the caller, as `from` has signed.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
