// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceKey, DeviceKeys } from "./DeviceRegistryKit.sol";
import { TestBase, vm } from "./TestBase.sol";
import { IERC7913SignatureVerifier } from "@openzeppelin/contracts/interfaces/IERC7913.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";

/// @notice The library behind functions that can be called.
contract DeviceSignerHarness {
    address internal immutable VERIFIER;

    constructor(address verifier) {
        VERIFIER = verifier;
    }

    function isValid(bytes memory signer, bytes32 digest, bytes memory signature) external view returns (bool) {
        return DeviceSigner.isValid(signer, digest, signature, VERIFIER);
    }

    function isSupported(bytes memory signer) external view returns (bool) {
        return DeviceSigner.isSupported(signer, VERIFIER);
    }

    /// @notice The gas of the check alone.
    function gasOf(bytes memory signer, bytes32 digest, bytes memory signature) external view returns (uint256 spent) {
        spent = gasleft();
        bool isGood = DeviceSigner.isValid(signer, digest, signature, VERIFIER);
        spent -= gasleft();
        require(isGood, "a good signature");
    }
}

/// @title DeviceSignersTest
/// @notice The two kinds of device signer, on a chain without the P-256 precompile (the suites' own setting, cancun).
/// forge-config: default.fuzz.runs = 64
contract DeviceSignersWithoutPrecompileTest is TestBase {
    using DeviceKeys for DeviceKey;

    P256Verifier internal verifier;
    DeviceSignerHarness internal signers;

    function setUp() public {
        verifier = new P256Verifier();
        signers = new DeviceSignerHarness(address(verifier));
    }

    function test_precompile__when_asked__is_there_or_not_as_this_suite_says() public view {
        DeviceKey memory key = DeviceKeys.p256(1, address(0));
        bytes memory signature = key.sign(bytes32("digest"));
        (uint256 x, uint256 y) = vm.publicKeyP256(key.secret);
        (, bytes memory answer) = address(0x100).staticcall(abi.encodePacked(bytes32("digest"), signature, x, y));
        assertEq(answer.length, _hasPrecompile() ? 32 : 0, "answer of 0x100");
    }

    function test_isValid__when_signed__is_true(bool isP256, uint256 seed, bytes32 digest) public view {
        DeviceKey memory key = _key(isP256, seed);
        assertTrue(signers.isValid(key.signer, digest, key.sign(digest)), "signature");
        assertTrue(signers.isSupported(key.signer), "kind");
    }

    function test_isValid__when_any_bit_is_flipped__is_false(bool isP256, uint256 seed, bytes32 digest, uint256 bit)
        public
        view
    {
        DeviceKey memory key = _key(isP256, seed % 4);
        bytes memory signature = key.sign(digest);
        assertFalse(signers.isValid(key.signer, digest, _flipped(signature, bit)), "signature");
        assertFalse(signers.isValid(_flipped(key.signer, bit), digest, signature), "signer");
        assertFalse(signers.isValid(key.signer, digest ^ bytes32(1 << (bit % 256)), signature), "digest");
    }

    function test_isValid__when_s_is_high__is_false(bool isP256, uint256 seed, bytes32 digest) public view {
        DeviceKey memory key = _key(isP256, seed);
        assertFalse(signers.isValid(key.signer, digest, key.mirrored(key.sign(digest))), "high s");
    }

    function test_isValid__when_r_or_s_is_out_of_range__is_false() public view {
        DeviceKey memory key = DeviceKeys.p256(1, address(verifier));
        bytes32 r = bytes32(uint256(5));
        assertFalse(signers.isValid(key.signer, r, abi.encodePacked(r, bytes32(0))), "s 0");
        assertFalse(signers.isValid(key.signer, r, abi.encodePacked(bytes32(0), r)), "r 0");
        assertFalse(signers.isValid(key.signer, r, abi.encodePacked(P256_N, r)), "r n");
        assertFalse(signers.isValid(key.signer, r, abi.encodePacked(r, P256_N)), "s n");
        assertFalse(signers.isValid(key.signer, r, new bytes(64)), "nothing");
    }

    function test_isValid__when_v_is_neither_27_nor_28__is_false(uint8 v) public view {
        vm.assume(v != 27 && v != 28);
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        bytes memory signature = key.sign(bytes32("digest"));
        signature[64] = bytes1(v);
        assertFalse(signers.isValid(key.signer, "digest", signature), "v");
    }

    function test_isValid__when_the_signature_has_another_length__is_false(bool isP256, uint8 length) public view {
        DeviceKey memory key = _key(isP256, 1);
        bytes memory signature = key.sign(bytes32("digest"));
        vm.assume(length != signature.length);
        bytes memory cut = new bytes(length);
        for (uint256 i = 0; i < length && i < signature.length; ++i) {
            cut[i] = signature[i];
        }
        assertFalse(signers.isValid(key.signer, "digest", cut), "length");
    }

    function test_isValid__when_the_signer_is_the_zero_address__is_false() public view {
        assertFalse(signers.isValid(new bytes(20), "digest", new bytes(65)), "what ecrecover gives for garbage");
        assertFalse(signers.isSupported(new bytes(20)), "kind");
    }

    function test_isValid__when_the_signer_has_another_length__is_false(bytes memory signer) public view {
        vm.assume(signer.length != 20 && signer.length != 84);
        assertFalse(signers.isSupported(signer), "kind");
        assertFalse(signers.isValid(signer, "digest", DeviceKeys.secp256k1(1).sign("digest")), "65 bytes");
        assertFalse(signers.isValid(signer, "digest", DeviceKeys.p256(1, address(verifier)).sign("digest")), "64 bytes");
    }

    function test_isValid__when_the_verifier_is_foreign__is_false() public {
        YesVerifier foreign = new YesVerifier();
        DeviceKey memory key = DeviceKeys.p256(1, address(foreign));
        assertFalse(signers.isSupported(key.signer), "kind");
        assertFalse(signers.isValid(key.signer, "digest", key.sign("digest")), "a good signature");
        assertEq(foreign.verify("", "", ""), IERC7913SignatureVerifier.verify.selector, "it would say yes");
    }

    function test_isValid__when_code_lies_at_the_verifiers_address__does_not_ask_it() public {
        DeviceKey memory key = DeviceKeys.p256(1, address(verifier));
        vm.etch(address(verifier), address(new YesVerifier()).code);
        assertFalse(signers.isValid(key.signer, "digest", new bytes(64)), "garbage");
        assertTrue(signers.isValid(key.signer, "digest", key.sign("digest")), "the key's own");
    }

    function test_isValid__when_code_lies_at_the_devices_address__does_not_ask_it() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        vm.etch(address(bytes20(key.signer)), address(new YesVerifier()).code);
        assertFalse(signers.isValid(key.signer, "digest", new bytes(65)), "garbage");
        assertTrue(signers.isValid(key.signer, "digest", key.sign("digest")), "the key's own");
        vm.etch(address(bytes20(key.signer)), abi.encodePacked(hex"ef0100", address(verifier)));
        assertTrue(signers.isValid(key.signer, "digest", key.sign("digest")), "after an EIP-7702 delegation too");
    }

    function test_isValid__when_the_point_is_not_on_the_curve__is_false(uint256 x, uint256 y) public view {
        bytes memory signer = abi.encodePacked(address(verifier), x, y);
        assertFalse(signers.isSupported(signer), "kind");
        assertFalse(signers.isValid(signer, "digest", DeviceKeys.p256(1, address(0)).sign("digest")), "signature");
    }

    function test_isSupported__when_a_coordinate_is_not_reduced__is_false() public view {
        uint256 p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF;
        assertFalse(signers.isSupported(abi.encodePacked(address(verifier), uint256(0), uint256(0))), "infinity");
        // x = 5 is on the curve: y² = 5³ − 3·5 + b has a root
        uint256 y = 0x459243B9AA581806FE913BCE99817ADE11CA503C64D9A3C533415C083248FBCC;
        assertTrue(signers.isSupported(abi.encodePacked(address(verifier), uint256(5), y)), "a point");
        assertTrue(signers.isSupported(abi.encodePacked(address(verifier), uint256(5), p - y)), "its mirror");
        assertFalse(signers.isSupported(abi.encodePacked(address(verifier), p + 5, y)), "x + p");
    }

    function test_verify__when_asked_as_erc7913__agrees_with_the_library(uint256 seed, bytes32 digest, uint8 bit)
        public
        view
    {
        DeviceKey memory key = DeviceKeys.p256(seed % 4, address(verifier));
        (uint256 x, uint256 y) = vm.publicKeyP256(key.secret);
        bytes memory signature = key.sign(digest);
        bytes4 yes = IERC7913SignatureVerifier.verify.selector;
        assertTrue(verifier.verify(abi.encodePacked(x, y), digest, signature) == yes, "good");
        assertTrue(verifier.verify(abi.encodePacked(x, y), digest, _flipped(signature, bit)) != yes, "bad");
    }

    function test_isValid__when_measured__costs_at_most_what_the_design_says() public view virtual {
        assertLe(_gasOf(DeviceKeys.secp256k1(1)), 5000, "secp256k1");
        for (uint256 seed = 0; seed < 32; ++seed) {
            assertLe(_gasOf(DeviceKeys.p256(seed, address(verifier))), 370_000, "P-256 in Solidity");
        }
    }

    /* HELP */

    function _hasPrecompile() internal pure virtual returns (bool) {
        return false;
    }

    function _gasOf(DeviceKey memory key) internal view returns (uint256) {
        return signers.gasOf(key.signer, "digest", key.sign("digest"));
    }

    function _key(bool isP256, uint256 seed) internal view returns (DeviceKey memory) {
        return isP256 ? DeviceKeys.p256(seed, address(verifier)) : DeviceKeys.secp256k1(seed);
    }

    function _flipped(bytes memory data, uint256 bit) internal pure returns (bytes memory copy) {
        copy = bytes.concat(data);
        bit %= 8 * copy.length;
        copy[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
    }
}

/// @notice A verifier and an account that say yes to everything.
contract YesVerifier is IERC7913SignatureVerifier {
    function verify(bytes calldata, bytes32, bytes calldata) external pure returns (bytes4) {
        return IERC7913SignatureVerifier.verify.selector;
    }

    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }
}

/// @notice The same on a chain that has the P-256 precompile (EIP-7951, osaka).
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceSignersWithPrecompileTest is DeviceSignersWithoutPrecompileTest {
    function test_isValid__when_measured__costs_at_most_what_the_design_says() public view override {
        assertLe(_gasOf(DeviceKeys.secp256k1(1)), 5000, "secp256k1");
        assertLe(_gasOf(DeviceKeys.p256(1, address(verifier))), 14_000, "P-256");
    }

    function _hasPrecompile() internal pure override returns (bool) {
        return true;
    }
}
