// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { ECDSA } from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import { P256 } from "@openzeppelin/contracts/utils/cryptography/P256.sol";

/// @title DeviceSigner
/// @notice The two kinds of device signer, and whether one of them signed a digest.
/// @dev MODEL. A signer is 20 bytes, an address, or 84 bytes, the suite's P-256 verifier address, then x and y. No other
/// kind exists, and neither asks any account's code: what a device signed stays signed whatever is deployed later, at the
/// device's own address too. The verifier's address is compared, never called; the P-256 check runs in the precompile at
/// 0x100 or, where a chain has none, in Solidity, with one and the same answer.
///
/// Signatures are unique: `r‖s‖v` of 65 bytes with v 27 or 28, or `r‖s` of 64 bytes, both with s in the lower half.
library DeviceSigner {
    uint256 internal constant ADDRESS_LENGTH = 20;
    uint256 internal constant P256_LENGTH = 84;
    uint256 internal constant ECDSA_SIGNATURE_LENGTH = 65;
    uint256 internal constant P256_SIGNATURE_LENGTH = 64;

    /// @notice Whether `signer` is of one of the two kinds: an address that is not zero, or a point on the P-256 curve
    /// behind the suite's verifier.
    function isSupported(bytes memory signer, address p256Verifier) internal pure returns (bool) {
        if (signer.length == ADDRESS_LENGTH) return address(bytes20(signer)) != address(0);
        if (signer.length != P256_LENGTH || address(bytes20(signer)) != p256Verifier) return false;
        (bytes32 x, bytes32 y) = _pointOf(signer);
        return P256.isValidPublicKey(x, y);
    }

    /// @notice Whether `signature` is `signer`'s over `digest`; false for whatever is malformed, never a revert.
    function isValid(bytes memory signer, bytes32 digest, bytes memory signature, address p256Verifier)
        internal
        view
        returns (bool)
    {
        if (signer.length == ADDRESS_LENGTH) {
            (address recovered, ECDSA.RecoverError problem,) = ECDSA.tryRecover(digest, signature);
            return problem == ECDSA.RecoverError.NoError && recovered == address(bytes20(signer));
        }
        if (signer.length != P256_LENGTH || address(bytes20(signer)) != p256Verifier) return false;
        if (signature.length != P256_SIGNATURE_LENGTH) return false;
        (bytes32 x, bytes32 y) = _pointOf(signer);
        (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
        return P256.verify(digest, r, s, x, y);
    }

    /// @dev Reads x at byte 20 and y at byte 52; the caller has checked that there are 84 bytes.
    function _pointOf(bytes memory signer) private pure returns (bytes32 x, bytes32 y) {
        assembly ("memory-safe") {
            x := mload(add(signer, 0x34))
            y := mload(add(signer, 0x54))
        }
    }
}
