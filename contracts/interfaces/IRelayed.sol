// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title IRelayed
/// @notice Lets anyone carry a call that an account has signed, so that a machine without ether can act.
/// @dev The account signs `SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)` as EIP-712 typed data in
/// the domain of the contract that is called. Nonces are unordered: any number that was not used before will do.
interface IRelayed {
    /* TYPES */

    /// @notice A call that `sender` allows anyone to make in its name, once.
    /// @param sender The account that acts: a key (ECDSA) or a contract (ERC-1271).
    /// @param call The call's data: selector and arguments of a function of this contract.
    /// @param nonce A number that `sender` has not used here before.
    /// @param deadline The call is good before this time (seconds).
    struct SignedCall {
        address sender;
        bytes call;
        uint256 nonce;
        uint40 deadline;
    }

    /* EVENTS */

    /// @notice A signed call went through and its nonce is used up.
    event NonceUsed(address indexed sender, uint256 nonce);

    /// @notice `sender` used up a nonce without a call.
    event NonceCancelled(address indexed sender, uint256 nonce);

    /* ERRORS */

    /// @notice A relay is under way, for `sender`; there is one at a time.
    error RelayNested(address sender);

    /// @notice The signed call was good before `deadline` and it is `timestamp` now.
    error SignedCallExpired(uint40 deadline, uint256 timestamp);

    /// @notice The signature is not one of `sender` over this call.
    error SignedCallSignatureInvalid(address sender);

    /// @notice `sender` used or cancelled `nonce` before.
    error NonceAlreadyUsed(address sender, uint256 nonce);

    /* RELAY */

    /// @notice Makes a call in the name of the account that signed it; any revert is passed on, and then the nonce stays
    /// unused.
    /// @param request The call.
    /// @param signature Of `request.sender`: 65 bytes of ECDSA, or whatever its ERC-1271 contract takes.
    /// @return result What the call returned, ABI-encoded.
    function relay(SignedCall calldata request, bytes calldata signature) external returns (bytes memory result);

    /// @notice Uses up a nonce of the caller's, so that what was signed with it can no longer be relayed.
    function cancelNonce(uint256 nonce) external;

    /// @notice Whether `sender` used or cancelled `nonce`.
    function isNonceUsed(address sender, uint256 nonce) external view returns (bool);
}
