// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { Sealing } from "./DataMarketKit.sol";
import { TestBase, vm } from "./TestBase.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";

/// @title KeyReleaseTest
/// @notice The `ecrecover` equations against scalar multiplication.
contract KeyReleaseTest is TestBase {
    uint256 private constant P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /* isRelease */

    function testFuzz_isRelease__when_key_is_the_sum__accepts(uint256 secret, uint256 m) public {
        (secret, m) = (bound(secret, 1, N - 1), bound(m, 1, N - 1));
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertTrue(KeyRelease.isRelease(addmod(secret, m, N), x, y, vm.addr(m)), "release");
    }

    function testFuzz_isRelease__when_key_is_another__refuses(uint256 secret, uint256 m, uint256 other) public {
        (secret, m, other) = (bound(secret, 1, N - 1), bound(m, 1, N - 1), bound(other, 0, N - 1));
        uint256 right = addmod(secret, m, N);
        if (other == right) other = addmod(other, 1, N);
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertFalse(KeyRelease.isRelease(other, x, y, vm.addr(m)), "another key");
    }

    function testFuzz_isRelease__when_mask_is_anothers__refuses(uint256 secret, uint256 m, uint256 other) public {
        (secret, m, other) = (bound(secret, 1, N - 1), bound(m, 1, N - 1), bound(other, 1, N - 1));
        if (other == m) other = m == 1 ? 2 : m - 1;
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertFalse(KeyRelease.isRelease(addmod(secret, m, N), x, y, vm.addr(other)), "another mask");
    }

    /// @dev The same residue with n added fits in 256 bits for the smallest keys alone.
    function testFuzz_isRelease__when_n_is_added_to_the_key__refuses(uint256 secret, uint256 sum) public {
        (secret, sum) = (bound(secret, 1, N - 1), bound(sum, 0, type(uint256).max - N));
        uint256 m = addmod(sum, N - secret, N);
        vm.assume(m != 0);
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertTrue(KeyRelease.isRelease(sum, x, y, vm.addr(m)), "the residue");
        assertFalse(KeyRelease.isRelease(sum + N, x, y, vm.addr(m)), "the residue plus n");
    }

    /// @dev κ' = κ would release with M at infinity: `ecrecover` answers 0, and a mask of 0 must not pass for it.
    function testFuzz_isRelease__when_mask_is_zero__refuses(uint256 secret, uint256 releasedKey) public {
        secret = bound(secret, 1, N - 1);
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertFalse(KeyRelease.isRelease(secret, x, y, address(0)), "the key itself");
        assertFalse(KeyRelease.isRelease(releasedKey, x, y, address(0)), "any key");
    }

    /* isContentKey */

    function testFuzz_isContentKey__when_key_is_the_secret__accepts(uint256 secret) public {
        secret = bound(secret, 1, N - 1);
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertTrue(KeyRelease.isContentKey(secret, x, y), "content key");
    }

    function testFuzz_isContentKey__when_key_is_another__refuses(uint256 secret, uint256 other) public {
        (secret, other) = (bound(secret, 1, N - 1), bound(other, 0, N - 1));
        if (other == secret) other = N - secret;
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertFalse(KeyRelease.isContentKey(other, x, y), "another key");
        assertFalse(KeyRelease.isContentKey(N - secret, x, y), "its negative");
    }

    function testFuzz_isContentKey__when_n_is_added_to_the_key__refuses(uint256 secret) public {
        secret = bound(secret, 1, type(uint256).max - N);
        (uint256 x, uint256 y) = Sealing.point(secret);
        assertTrue(KeyRelease.isContentKey(secret, x, y), "the secret");
        assertFalse(KeyRelease.isContentKey(secret + N, x, y), "the secret plus n");
    }

    function test_isContentKey__when_key_is_zero_or_the_order__refuses() public pure {
        assertFalse(KeyRelease.isContentKey(0, 0, 0), "zero");
        assertFalse(KeyRelease.isContentKey(N, 0, 0), "the order");
    }

    /* isPublicKey */

    function testFuzz_isPublicKey__when_point_is_on_the_curve__accepts(uint256 secret) public {
        (uint256 x, uint256 y) = Sealing.point(bound(secret, 1, N - 1));
        assertTrue(KeyRelease.isPublicKey(x, y), "point");
        assertTrue(KeyRelease.isPublicKey(x, P - y), "its negative");
    }

    function testFuzz_isPublicKey__when_point_is_off_the_curve__refuses(uint256 secret, uint256 other) public {
        (uint256 x, uint256 y) = Sealing.point(bound(secret, 1, N - 1));
        if (other % P == y || other % P == P - y) other = addmod(y, 1, P);
        assertFalse(KeyRelease.isPublicKey(x, other), "another y");
    }

    /// @dev x = 1 has the y below (1 + 7 = y²), and y = 1 the x below (x³ = 1 − 7); with p added they are the same points
    /// written a second time.
    function test_isPublicKey__when_a_coordinate_is_not_reduced__refuses() public pure {
        uint256 y = 0x4218F20AE6C646B363DB68605822FB14264CA8D2587FDD6FBC750D587E76A7EE;
        assertTrue(KeyRelease.isPublicKey(1, y), "x = 1");
        assertFalse(KeyRelease.isPublicKey(1 + P, y), "x + p");
        uint256 x = 0x1FE1E5EF3FCEB5C135AB7741333CE5A6E80D68167653F6B2B24BCBCFAAAFF507;
        assertTrue(KeyRelease.isPublicKey(x, 1), "y = 1");
        assertFalse(KeyRelease.isPublicKey(x, 1 + P), "y + p");
        assertFalse(KeyRelease.isPublicKey(0, 0), "the origin");
    }

    /// @dev Points with x between n and p exist and `ecrecover` cannot take them as R: no key release could be checked.
    function test_isPublicKey__when_x_is_not_below_the_order__refuses() public view {
        uint256 found;
        for (uint256 x = N; found < 3; ++x) {
            uint256 square = addmod(mulmod(mulmod(x, x, P), x, P), 7, P);
            uint256 y = _power(square, (P + 1) / 4);
            if (mulmod(y, y, P) != square) continue;
            ++found;
            assertFalse(KeyRelease.isPublicKey(x, y), "x >= n");
        }
    }

    function _power(uint256 base, uint256 exponent) private view returns (uint256 result) {
        (bool success, bytes memory answer) =
            address(5).staticcall(abi.encode(uint256(32), uint256(32), uint256(32), base, exponent, P));
        require(success);
        return abi.decode(answer, (uint256));
    }
}
