// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ERC20 } from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import { ERC20Permit } from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import { ERC3009 } from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title DevDollar
/// @notice A dollar to play with, for devnets only: anyone can mint any amount, so it is worth nothing.
/// @dev MODEL. ERC-20 with the signed ways to pay that stablecoins have: ERC-2612 `permit`, ERC-3009 with random nonces,
/// and the overloads that take the signature as one `bytes`, as x402 calls them. Those also take ERC-1271 signatures.
///
/// UNITS. 6 decimals. The EIP-712 domain is the name, version `1`, the chain and this contract.
contract DevDollar is ERC20Permit, ERC3009 {
    constructor() ERC20("pyiot dev dollar", "DUSD") ERC20Permit("pyiot dev dollar") { }

    /// @notice Makes `amount` base units out of nothing for `to`.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /* ERC-3009 WITH THE SIGNATURE AS BYTES */

    /// @notice ERC-3009 `transferWithAuthorization` whose signature is ECDSA `r‖s‖v` or of an ERC-1271 account.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        bytes32 structHash = keccak256(
            abi.encode(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _requireSigned(from, structHash, signature);
        _transferWithAuthorization(from, to, value, validAfter, validBefore, nonce);
    }

    /// @notice ERC-3009 `receiveWithAuthorization` whose signature is ECDSA `r‖s‖v` or of an ERC-1271 account; only `to`
    /// may call it.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        bytes32 structHash = keccak256(
            abi.encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _requireSigned(from, structHash, signature);
        require(to == _msgSender(), ERC20InvalidReceiver(to));
        _transferWithAuthorization(from, to, value, validAfter, validBefore, nonce);
    }

    /* VIEWS */

    /// @notice The version in the EIP-712 domain.
    function version() external view returns (string memory) {
        return _EIP712Version();
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }

    /* INTERNAL */

    function _requireSigned(address from, bytes32 structHash, bytes calldata signature) private view {
        require(
            SignatureChecker.isValidSignatureNowCalldata(from, _hashTypedDataV4(structHash), signature),
            ERC3009InvalidSignature()
        );
    }
}
