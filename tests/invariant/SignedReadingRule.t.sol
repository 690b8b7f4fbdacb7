// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceKey, DeviceKeys } from "./DeviceRegistryKit.sol";
import { TestBase, vm } from "./TestBase.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { SignedReadingRule } from "contracts/market/rules/SignedReadingRule.sol";

/// @notice Measures a call from a fresh memory, as the market makes it.
contract GasMeter {
    function measure(SignedReadingRule rule, bytes calldata leaf, bytes calldata params)
        external
        view
        returns (bool isBroken, uint256 spent)
    {
        spent = gasleft();
        isBroken = rule.violates(leaf, 3, params);
        spent -= gasleft();
    }
}

/// @title SignedReadingRuleTest
/// @notice The rule for signed readings: a good leaf keeps its promise, and each way to break it is seen. Run with
/// secp256k1 keys and with P-256 keys, with the precompile and without.
abstract contract SignedReadingRuleTest is TestBase {
    using DeviceKeys for DeviceKey;

    struct Reading {
        uint64 seq;
        uint64 time;
        bytes32 prev;
        bytes16 salt;
        int128[] values;
    }

    struct Terms {
        bytes signer;
        bytes32 device;
        bytes32 schema;
        uint64 seq0;
        uint64 t0;
        uint64 t1;
        int128[] min;
        int128[] max;
    }

    uint64 internal constant T0 = 1_700_000_000_000;
    uint64 internal constant T1 = 1_700_000_999_999;

    SignedReadingRule internal rule;
    address internal verifier;
    DeviceKey internal key;

    function setUp() public {
        verifier = address(new P256Verifier());
        rule = new SignedReadingRule(verifier);
        key = _newKey(1);
    }

    function _newKey(uint256 seed) internal view virtual returns (DeviceKey memory);

    /* WHAT IS KEPT */

    function test_violates__when_the_leaf_is_as_promised__is_false(
        uint64 seq0,
        uint32 index,
        uint64 time,
        bytes32 prev,
        bytes16 salt,
        int128[] memory values
    ) public view {
        seq0 = uint64(bound(seq0, 0, type(uint64).max - index));
        Terms memory terms = _terms(0);
        (terms.seq0, terms.t0, terms.t1) = (seq0, 0, type(uint64).max);
        terms.min = new int128[](values.length);
        terms.max = new int128[](values.length);
        for (uint256 i = 0; i < values.length; ++i) {
            (terms.min[i], terms.max[i]) = (values[i], values[i]);
        }
        bytes memory leaf = _leaf(Reading(seq0 + index, time, prev, salt, values), terms);
        assertFalse(_violates(leaf, index, terms), "leaf");
    }

    function test_violates__when_there_are_no_values__is_false() public view {
        Terms memory terms = _terms(0);
        assertFalse(_violates(_leaf(_reading(0), terms), 3, terms), "leaf");
    }

    function test_violates__when_on_the_bounds__is_false() public view {
        Terms memory terms = _terms(3);
        Reading memory reading = _reading(3);
        for (uint256 i = 0; i < 4; ++i) {
            reading.time = i % 2 == 0 ? T0 : T1;
            reading.values[1] = i < 2 ? terms.min[1] : terms.max[1];
            assertFalse(_violates(_leaf(reading, terms), 3, terms), "leaf");
        }
    }

    function test_violates__when_values_are_extreme__reads_the_sign(bool isLeast) public view {
        Terms memory terms = _terms(1);
        (terms.min[0], terms.max[0]) = (type(int128).min, type(int128).max);
        Reading memory reading = _reading(1);
        reading.values[0] = isLeast ? type(int128).min : type(int128).max;
        bytes memory leaf = _leaf(reading, terms);
        assertFalse(_violates(leaf, 3, terms), "in the widest range");
        (terms.min[0], terms.max[0]) = isLeast ? (int128(0), type(int128).max) : (type(int128).min, int128(-1));
        assertTrue(_violates(leaf, 3, terms), "outside half of it");
    }

    /* WHAT IS BROKEN */

    function test_violates__when_any_bit_is_flipped__is_true(uint256 bit) public view {
        Terms memory terms = _terms(2);
        bytes memory leaf = _leaf(_reading(2), terms);
        bit %= 8 * leaf.length;
        leaf[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        assertTrue(_violates(leaf, 3, terms), "leaf");
    }

    function test_violates__when_the_length_is_wrong__is_true(uint8 length) public view {
        Terms memory terms = _terms(2);
        bytes memory leaf = _leaf(_reading(2), terms);
        vm.assume(length != leaf.length);
        bytes memory cut = new bytes(length);
        for (uint256 i = 0; i < length && i < leaf.length; ++i) {
            cut[i] = leaf[i];
        }
        assertTrue(_violates(cut, 3, terms), "leaf");
        assertTrue(_violates("", 3, terms), "nothing at all");
    }

    function test_violates__when_it_has_a_value_too_many__is_true() public view {
        Terms memory terms = _terms(2);
        assertTrue(_violates(_leaf(_reading(3), terms), 3, terms), "one more");
        assertTrue(_violates(_leaf(_reading(1), terms), 3, terms), "one less");
    }

    function test_violates__when_the_sequence_is_not_the_index__is_true(uint64 seq, uint256 index) public view {
        Terms memory terms = _terms(1);
        Reading memory reading = _reading(1);
        reading.seq = seq;
        bool isInOrder = seq >= terms.seq0 && uint256(seq) - terms.seq0 == index;
        assertEq(_violates(_leaf(reading, terms), index, terms), !isInOrder, "leaf");
    }

    function test_violates__when_a_gap_a_double_or_a_swap__is_true() public view {
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        assertFalse(_violates(leaf, 3, terms), "in its place");
        assertTrue(_violates(leaf, 2, terms), "one place too early: a gap");
        assertTrue(_violates(leaf, 4, terms), "one place too late: a double");
        assertTrue(_violates(leaf, 3 + (uint256(1) << 64), terms), "an index beyond every sequence");
        assertTrue(_violates(leaf, type(uint256).max, terms), "the largest index");
    }

    function test_violates__when_out_of_time__is_true() public view {
        Terms memory terms = _terms(1);
        Reading memory reading = _reading(1);
        reading.time = T0 - 1;
        assertTrue(_violates(_leaf(reading, terms), 3, terms), "before");
        reading.time = T1 + 1;
        assertTrue(_violates(_leaf(reading, terms), 3, terms), "after");
    }

    function test_violates__when_any_value_is_out_of_range__is_true(uint8 field, int128 value) public view {
        Terms memory terms = _terms(3);
        Reading memory reading = _reading(3);
        uint256 i = field % 3;
        reading.values[i] = value;
        bool isInRange = terms.min[i] <= value && value <= terms.max[i];
        assertEq(_violates(_leaf(reading, terms), 3, terms), !isInRange, "leaf");
    }

    function test_violates__when_signed_by_another_device__is_true() public view {
        Terms memory terms = _terms(1);
        DeviceKey memory other = _newKey(2);
        bytes memory leaf = _leafBy(other, _reading(1), terms);
        assertTrue(_violates(leaf, 3, terms), "its signature");
        Terms memory others = _terms(1);
        others.device = other.id;
        assertTrue(_violates(_leaf(_reading(1), others), 3, terms), "its id");
        others.signer = other.signer;
        assertFalse(_violates(_leafBy(other, _reading(1), others), 3, others), "under its own promise");
    }

    function test_violates__when_signed_by_a_session_key__is_true() public view {
        DeviceKey memory sessionKey = _newKey(77);
        assertTrue(_violates(_leafBy(sessionKey, _reading(1), _terms(1)), 3, _terms(1)), "leaf");
    }

    function test_violates__when_signed_under_another_schema__is_true() public view {
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        terms.schema = keccak256("another schema");
        assertTrue(_violates(leaf, 3, terms), "leaf");
    }

    function test_violates__when_s_is_high__is_true() public view {
        Terms memory terms = _terms(1);
        bytes memory head = _head(_reading(1));
        bytes memory signature = key.sign(_digest(_reading(1), terms));
        assertFalse(_violates(abi.encodePacked(head, signature), 3, terms), "low s");
        assertTrue(_violates(abi.encodePacked(head, key.mirrored(signature)), 3, terms), "high s");
    }

    function test_violates__when_signed_in_a_domain_with_a_chain__is_true() public view {
        Terms memory terms = _terms(1);
        bytes32 digest = typedDigest("pyiot Reading", address(rule), _structHash(_reading(1), terms));
        assertTrue(_violates(abi.encodePacked(_head(_reading(1)), key.sign(digest)), 3, terms), "leaf");
    }

    function test_violates__when_on_another_chain__is_the_same() public {
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        vm.chainId(8453);
        assertFalse(_violates(leaf, 3, terms), "data is the same on every chain");
    }

    /* PROMISES THAT NO LEAF KEEPS */

    function test_violates__when_the_signer_is_of_neither_kind__is_true(bytes memory signer) public view {
        vm.assume(signer.length != 20 && signer.length != 84);
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        terms.signer = signer;
        assertTrue(_violates(leaf, 3, terms), "leaf");
        leaf = abi.encodePacked(_head(_reading(1)), new bytes(64));
        assertTrue(_violates(leaf, 3, terms), "a leaf of the length of P-256");
    }

    function test_violates__when_the_verifier_is_foreign__is_true() public view {
        DeviceKey memory foreign = DeviceKeys.p256(1, address(uint160(verifier) + 1));
        Terms memory terms = _terms(1);
        (terms.signer, terms.device) = (foreign.signer, foreign.id);
        assertTrue(_violates(_leafBy(foreign, _reading(1), terms), 3, terms), "leaf");
    }

    function test_violates__when_the_point_is_not_on_the_curve__is_true() public view {
        DeviceKey memory good = DeviceKeys.p256(1, verifier);
        Terms memory terms = _terms(1);
        bytes memory leaf = _leafBy(good, _reading(1), terms);
        terms.signer = bytes.concat(good.signer);
        terms.signer[83] ^= 0x01;
        assertTrue(_violates(leaf, 3, terms), "not on the curve");
        terms.signer = abi.encodePacked(verifier, uint256(0), uint256(0));
        assertTrue(_violates(leaf, 3, terms), "infinity");
    }

    function test_violates__when_min_and_max_differ_in_length__is_true() public view {
        Terms memory terms = _terms(2);
        bytes memory leaf = _leaf(_reading(2), terms);
        terms.max = new int128[](3);
        assertTrue(_violates(leaf, 3, terms), "more max than min");
        terms.max = new int128[](1);
        assertTrue(_violates(leaf, 3, terms), "more min than max");
    }

    function test_violates__when_the_parameters_do_not_decode__reverts() public {
        bytes memory leaf = _leaf(_reading(1), _terms(1));
        vm.expectRevert();
        rule.violates(leaf, 3, "");
        vm.expectRevert();
        rule.violates(leaf, 3, new bytes(255));
    }

    /* NOTHING THAT HAPPENS LATER CHANGES THE ANSWER */

    function test_violates__when_code_is_put_at_the_signers_addresses__is_the_same() public {
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        bytes memory forged = _leafBy(_newKey(9), _reading(1), terms);
        bytes memory yes = hex"7f1626ba7e0000000000000000000000000000000000000000000000000000000060005260206000f3";
        vm.etch(address(bytes20(key.signer)), yes);
        vm.etch(verifier, yes);
        assertFalse(_violates(leaf, 3, terms), "a good leaf stays good");
        assertTrue(_violates(forged, 3, terms), "a forged one stays forged");
        vm.etch(address(bytes20(key.signer)), abi.encodePacked(hex"ef0100", verifier));
        assertFalse(_violates(leaf, 3, terms), "after an EIP-7702 delegation too");
    }

    function test_violates__when_time_passes__is_the_same() public {
        Terms memory terms = _terms(1);
        bytes memory leaf = _leaf(_reading(1), terms);
        vm.warp(T1 / 1000 + 100 * 365 days);
        vm.roll(1_000_000_000);
        assertFalse(_violates(leaf, 3, terms), "leaf");
    }

    /// @dev A leaf that the market takes in a dispute has at most 4 KiB, so at most 248 values.
    function test_violates__when_the_leaf_is_the_largest__answers_with_the_gas_of_a_dispute() public {
        assertLe(_gasOf(1), 400_000, "one value");
        assertLe(_gasOf(248), 600_000, "248 values");
    }

    function _gasOf(uint256 valueCount) internal returns (uint256 spent) {
        Terms memory terms = _terms(valueCount);
        bytes memory params = _encode(terms);
        assertFalse(rule.violates(_leaf(_reading(valueCount), terms), 3, params), "a good leaf");
        bool isBroken;
        (isBroken, spent) = new GasMeter().measure(rule, _leafBy(_newKey(9), _reading(valueCount), terms), params);
        assertTrue(isBroken, "a forged leaf");
    }

    /* HELP */

    function _violates(bytes memory leaf, uint256 index, Terms memory terms) internal view returns (bool) {
        return rule.violates(leaf, index, _encode(terms));
    }

    function _terms(uint256 valueCount) internal view returns (Terms memory terms) {
        terms = Terms({
            signer: key.signer,
            device: key.id,
            schema: keccak256("schema"),
            seq0: 1000,
            t0: T0,
            t1: T1,
            min: new int128[](valueCount),
            max: new int128[](valueCount)
        });
        for (uint256 i = 0; i < valueCount; ++i) {
            (terms.min[i], terms.max[i]) = (-500, 12_500);
        }
    }

    function _reading(uint256 valueCount) internal pure returns (Reading memory reading) {
        reading = Reading(1003, T0 + 12_345, keccak256("prev"), bytes16(keccak256("salt")), new int128[](valueCount));
        for (uint256 i = 0; i < valueCount; ++i) {
            reading.values[i] = int128(int256(2150 + 7 * i)) * (i % 2 == 0 ? int128(1) : int128(0) - 1) / 10;
        }
    }

    function _leaf(Reading memory reading, Terms memory terms) internal view returns (bytes memory) {
        return _leafBy(key, reading, terms);
    }

    function _leafBy(DeviceKey memory signer, Reading memory reading, Terms memory terms)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(_head(reading), signer.sign(_digest(reading, terms)));
    }

    function _head(Reading memory reading) internal pure returns (bytes memory) {
        return abi.encodePacked(reading.seq, reading.time, reading.prev, reading.salt, _packed(reading.values));
    }

    function _packed(int128[] memory values) internal pure returns (bytes memory packed) {
        for (uint256 i = 0; i < values.length; ++i) {
            packed = abi.encodePacked(packed, values[i]);
        }
    }

    function _digest(Reading memory reading, Terms memory terms) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version)"), keccak256("pyiot Reading"), keccak256("1")
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, _structHash(reading, terms)));
    }

    function _structHash(Reading memory reading, Terms memory terms) internal pure returns (bytes32) {
        bytes32 typeHash =
            keccak256("Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)");
        bytes32 payload = keccak256(abi.encodePacked(reading.salt, _packed(reading.values)));
        return
            keccak256(
                abi.encode(typeHash, terms.device, reading.seq, reading.time, terms.schema, payload, reading.prev)
            );
    }

    function _encode(Terms memory terms) internal pure returns (bytes memory) {
        return
            abi.encode(terms.signer, terms.device, terms.schema, terms.seq0, terms.t0, terms.t1, terms.min, terms.max);
    }
}

/// forge-config: default.fuzz.runs = 256
contract SignedReadingRuleSecp256k1Test is SignedReadingRuleTest {
    function _newKey(uint256 seed) internal pure override returns (DeviceKey memory) {
        return DeviceKeys.secp256k1(seed);
    }
}

/// forge-config: default.fuzz.runs = 64
contract SignedReadingRuleP256WithoutPrecompileTest is SignedReadingRuleTest {
    function _newKey(uint256 seed) internal view override returns (DeviceKey memory) {
        return DeviceKeys.p256(seed, verifier);
    }
}

/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract SignedReadingRuleP256WithPrecompileTest is SignedReadingRuleTest {
    function _newKey(uint256 seed) internal view override returns (DeviceKey memory) {
        return DeviceKeys.p256(seed, verifier);
    }
}
