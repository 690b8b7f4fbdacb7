// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { ECDSA } from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import { SignatureChecker } from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import { IPaymentChannelsScheme } from "contracts/interfaces/IPaymentChannelsScheme.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";

/// @title PayerSignature
/// @notice Whether the payer's side of a channel signed a digest.
/// @dev MODEL. A payer's authorizer that is not 0 is a key: of secp256k1, by its address and 65 bytes of ECDSA, or of
/// P-256, by the hash of its signer and 148 bytes `signer ‖ r ‖ s`. No account's code is asked. Without an authorizer the
/// payer signs: by ECDSA, or by ERC-1271 where it has code. Nothing that is malformed reverts.
library PayerSignature {
    enum Verdict {
        Valid,
        Invalid,
        GasTooLow
    }

    uint256 internal constant P256_LENGTH = DeviceSigner.P256_LENGTH + DeviceSigner.P256_SIGNATURE_LENGTH;
    uint256 internal constant ERC1271_GAS = 100_000;

    /// @dev What must be left for `ERC1271_GAS` to arrive: 64/63 of it, and the opening of a cold account.
    uint256 internal constant ERC1271_GAS_LEFT = 105_000;

    /// @notice Whether it is valid; an ERC-1271 payer may take all the gas there is.
    function isValid(
        IPaymentChannelsScheme.ChannelConfig calldata config,
        bytes32 digest,
        bytes calldata signature,
        address p256Verifier
    ) internal view returns (bool) {
        if (config.payerAuthorizer != address(0)) {
            return _isOfKey(config.payerAuthorizer, digest, signature, p256Verifier);
        }
        return SignatureChecker.isValidSignatureNowCalldata(config.payer, digest, signature);
    }

    /// @notice The same, but that an ERC-1271 payer gets `ERC1271_GAS` and not a unit less or more.
    function judge(
        IPaymentChannelsScheme.ChannelConfig calldata config,
        bytes32 digest,
        bytes calldata signature,
        address p256Verifier
    ) internal view returns (Verdict) {
        if (config.payerAuthorizer != address(0) || config.payer.code.length == 0) {
            return isValid(config, digest, signature, p256Verifier) ? Verdict.Valid : Verdict.Invalid;
        }
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        if (gasleft() < ERC1271_GAS_LEFT) return Verdict.GasTooLow;
        return _isYes(config.payer, question) ? Verdict.Valid : Verdict.Invalid;
    }

    /* INTERNAL */

    function _isOfKey(address authorizer, bytes32 digest, bytes calldata signature, address p256Verifier)
        private
        view
        returns (bool)
    {
        if (signature.length != P256_LENGTH) {
            (address recovered, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
            return problem == ECDSA.RecoverError.NoError && recovered == authorizer;
        }
        bytes memory signer = signature[:DeviceSigner.P256_LENGTH];
        return address(bytes20(keccak256(signer))) == authorizer
            && DeviceSigner.isValid(signer, digest, signature[DeviceSigner.P256_LENGTH:], p256Verifier);
    }

    /// @dev Asks with bounded gas and takes 32 bytes of the answer: the rest, however long, is never copied.
    function _isYes(address account, bytes memory question) private view returns (bool answer) {
        bytes4 yes = IERC1271.isValidSignature.selector;
        assembly ("memory-safe") {
            let done := staticcall(ERC1271_GAS, account, add(question, 0x20), mload(question), 0x00, 0x20)
            answer := and(done, and(gt(returndatasize(), 0x1f), eq(mload(0x00), yes)))
        }
    }
}
