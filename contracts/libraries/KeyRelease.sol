// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title KeyRelease
/// @notice Checks by one `ecrecover` that a published scalar gives one buyer, and nobody else, a secret key.
/// @dev
/// MODEL. κ is the secret, `Q = κG` its public key, m the buyer's blinding scalar, `M = mG`, `mask = address(M)`. The
/// owner of κ publishes `κ' = κ + m mod n`; whoever knows m, and nobody else, takes it off again. `κ'G − Q = M` holds
/// for the right κ' alone, so that a wrong key cannot be published.
///
/// HOW. `ecrecover(z, v, r, s)` is `address((sR − zG) / r)` for the point R with x = r and parity v. With `R = Q`,
/// `s = −r` and `z = −r·κ'` that is `address(κ'G − Q)`. With `R = G`, `z = 0` and `s = r·κ` it is `address(κG)`.
///
/// ASSUMPTIONS. `isPublicKey(x, y)` holds for every Q that is handed in.
library KeyRelease {
    /// @dev The field prime of secp256k1.
    uint256 private constant P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    /// @dev The group order of secp256k1.
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    /// @dev x of the generator G, whose y is even.
    uint256 private constant GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798;

    /// @notice Whether (x, y) is a point of secp256k1 that `ecrecover` can take as R: x below the group order, y below
    /// the field prime. (That refuses one point in 2^128, which no honest key hits.)
    function isPublicKey(uint256 x, uint256 y) internal pure returns (bool) {
        return x < N && y < P && mulmod(y, y, P) == addmod(mulmod(mulmod(x, x, P), x, P), 7, P);
    }

    /// @notice Whether `releasedKey`·G − Q is the point behind `mask`. False for a `releasedKey` at or above the group
    /// order and for a mask of 0.
    function isRelease(uint256 releasedKey, uint256 x, uint256 y, address mask) internal pure returns (bool) {
        if (releasedKey >= N || mask == address(0)) return false;
        bytes32 z = bytes32(N - mulmod(x, releasedKey, N));
        return ecrecover(z, uint8(27 + (y & 1)), bytes32(x), bytes32(N - x)) == mask;
    }

    /// @notice Whether `contentKey`·G is Q. False for a `contentKey` of 0, and for one at or above the group order: it
    /// would be the same point, and another key to everyone who hashes it.
    function isContentKey(uint256 contentKey, uint256 x, uint256 y) internal pure returns (bool) {
        if (contentKey == 0 || contentKey >= N) return false;
        address recovered = ecrecover(0, 27, bytes32(GX), bytes32(mulmod(GX, contentKey, N)));
        return recovered != address(0) && recovered == address(uint160(uint256(keccak256(abi.encode(x, y)))));
    }
}
