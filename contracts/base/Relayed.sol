// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { Address } from "@openzeppelin/contracts/utils/Address.sol";
import { Context } from "@openzeppelin/contracts/utils/Context.sol";
import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";

/// @title Relayed
/// @notice Base of every contract whose calls can be signed by one account and sent by another.
/// @dev MODEL. `relay` checks the signature, uses up the nonce, remembers the signer in transient storage and CALLs its own
/// contract. The function that is called asks `_msgSender()`, which gives the signer only where `msg.sender` is the
/// contract itself: whoever is called in between (a token, a receiver) and calls back is itself, never the signer.
///
/// ASSUMPTIONS. No function of the inheriting contract calls an address that a user chose with data that a user chose.
/// Its functions that change state are guarded against reentry where money is held; `relay` is not, for it would lock out
/// the very function that it calls. `relay` refuses while a signer is remembered, so nothing is relayed inside a relay.
abstract contract Relayed is IRelayed, EIP712, Context {
    bytes32 private constant SIGNED_CALL_TYPEHASH =
        keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");

    address private transient _relayedSender;

    /// @dev One bit for each nonce: 256 nonces that follow one another share a slot.
    mapping(address sender => mapping(uint256 word => uint256 bits)) private _nonces;

    /* RELAY */

    /// @inheritdoc IRelayed
    function relay(SignedCall calldata request, bytes calldata signature) external returns (bytes memory result) {
        require(_relayedSender == address(0), RelayNested(_relayedSender));
        require(block.timestamp < request.deadline, SignedCallExpired(request.deadline, block.timestamp));
        require(
            SignatureChecker.isValidSignatureNowCalldata(request.sender, _digestOf(request), signature),
            SignedCallSignatureInvalid(request.sender)
        );

        _spendNonce(request.sender, request.nonce);
        _relayedSender = request.sender;
        emit NonceUsed(request.sender, request.nonce);

        result = Address.functionCall(address(this), request.call);
        _relayedSender = address(0);
    }

    /// @inheritdoc IRelayed
    function cancelNonce(uint256 nonce) public virtual {
        _spendNonce(_msgSender(), nonce);
        emit NonceCancelled(_msgSender(), nonce);
    }

    /* VIEWS */

    /// @inheritdoc IRelayed
    function isNonceUsed(address sender, uint256 nonce) external view returns (bool) {
        return _nonces[sender][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    /* INTERNAL */

    /// @dev The account that acts: the signer of the relayed call, else the caller.
    function _msgSender() internal view virtual override returns (address) {
        if (msg.sender != address(this)) return msg.sender;
        address sender = _relayedSender;
        return sender == address(0) ? msg.sender : sender;
    }

    function _spendNonce(address sender, uint256 nonce) internal {
        (uint256 word, uint256 bit) = (nonce >> 8, 1 << (nonce & 0xff));
        uint256 bits = _nonces[sender][word];
        require(bits & bit == 0, NonceAlreadyUsed(sender, nonce));
        _nonces[sender][word] = bits | bit;
    }

    function _digestOf(SignedCall calldata request) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    SIGNED_CALL_TYPEHASH, request.sender, keccak256(request.call), request.nonce, request.deadline
                )
            )
        );
    }
}
