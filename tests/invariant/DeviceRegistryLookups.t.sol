// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceRegistryBase, YesSayer } from "./DeviceRegistryBase.sol";
import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { vm } from "./TestBase.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @title DeviceRegistryLookupsTest
/// @notice What the registry answers about signers, now and in the past, and about sessions.
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceRegistryLookupsTest is DeviceRegistryBase {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    /* LOOK-UPS */

    function test_isSignerAt__when_never_registered__the_genesis_key_signs_for_ever(uint64 time) public view {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        bool isBeforeTheEnd = time < FOREVER;
        assertEq(registry.isSignerAt(key.id, key.signer, time), isBeforeTheEnd, "genesis");
        assertFalse(registry.isSignerAt(key.id, DeviceKeys.secp256k1(2).signer, time), "another key");
        assertFalse(registry.isSignerAt(bytes32(0), DeviceKeys.secp256k1(2).signer, time), "the device zero");
    }

    function test_isSignerAt__when_rotated_twice_and_revoked__each_key_has_its_time(
        uint32 first,
        uint32 second,
        uint32 third,
        uint64 time
    ) public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory key2 = DeviceKeys.p256(2, verifier);
        DeviceKey memory key3 = DeviceKeys.secp256k1(3);
        uint256 t1 = vm.getBlockTimestamp() + first;
        vm.warp(t1);
        _rotate(key.id, key2, 0);
        uint256 t2 = t1 + second;
        vm.warp(t2);
        _rotate(key.id, key3, 1);
        uint256 t3 = t2 + third;
        vm.warp(t3);
        vm.prank(owner);
        registry.revoke(key.id);

        time = uint64(bound(time, t1 - 1 days, t3 + 1 days));
        assertEq(registry.isSignerAt(key.id, key.signer, time), time < t1, "the first");
        assertEq(registry.isSignerAt(key.id, key2.signer, time), t1 <= time && time < t2, "the second");
        assertEq(registry.isSignerAt(key.id, key3.signer, time), t2 <= time && time < t3, "the third");
    }

    function test_isSignerAt__when_the_genesis_key_goes_to_another_device__its_past_stays() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory adopted = DeviceKeys.secp256k1(2);
        vm.warp(block.timestamp + 1 days);
        uint64 time = uint64(vm.getBlockTimestamp());
        _rotate(key.id, adopted, 0);
        assertTrue(registry.isSignerAt(adopted.id, adopted.signer, time - 1), "its own device before");
        assertFalse(registry.isSignerAt(adopted.id, adopted.signer, time), "not from then on");
        assertFalse(registry.isSignerAt(key.id, adopted.signer, time - 1), "the other device not before");
        assertTrue(registry.isSignerAt(key.id, adopted.signer, time), "but from then on");
        assertEq(registry.signerOf(adopted.id), bytes32(0), "nobody signs for its own device now");

        _rotate(key.id, DeviceKeys.secp256k1(3), 1);
        assertTrue(registry.isSignerAt(adopted.id, adopted.signer, time - 1), "its past stays after that too");
    }

    function test_isSignerAt__when_the_signer_is_of_neither_kind__is_false() public {
        bytes memory foreign = DeviceKeys.p256(1, address(new YesSayer())).signer;
        assertFalse(registry.isSignerAt(keccak256(foreign), foreign, 1), "a foreign verifier");
        assertFalse(registry.isSignerAt(keccak256("short"), "short", 1), "no signer at all");
    }

    function test_windowOf__when_the_key_is_unknown__is_empty() public {
        DeviceKey memory key = _registered(1);
        _assertWindow(key.id, DeviceKeys.secp256k1(9), 0, 0);
        _assertWindow(bytes32(0), DeviceKeys.secp256k1(9), 0, 0);
    }

    function test_p256Verifier__when_asked__is_the_suites() public view {
        assertEq(registry.p256Verifier(), verifier, "verifier");
    }

    /* SESSIONS */

    function test_isSessionValid__when_signed__is_true(bool isP256, uint32 scope) public {
        vm.assume(scope != 0);
        DeviceKey memory key = _registered(_key(isP256, 1));
        IDeviceRegistry.Session memory session = _session(key.id);
        session.scope = scope;
        assertTrue(_isValid(session, key, scope), "session");
    }

    function test_isSessionValid__when_the_device_is_not_registered__is_true() public view {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        assertTrue(_isValid(_session(key.id), key, 1), "session");
    }

    function test_isSessionValid__when_outside_its_scope__is_false(uint32 scope, uint32 asked) public {
        DeviceKey memory key = _registered(1);
        IDeviceRegistry.Session memory session = _session(key.id);
        session.scope = scope;
        assertEq(_isValid(session, key, asked), asked != 0 && asked & ~scope == 0, "scope");
    }

    function test_isSessionValid__when_after_its_end__is_false() public {
        DeviceKey memory key = _registered(1);
        IDeviceRegistry.Session memory session = _session(key.id);
        vm.warp(session.notAfter);
        assertTrue(_isValid(session, key, 1), "its last second");
        vm.warp(uint256(session.notAfter) + 1);
        assertFalse(_isValid(session, key, 1), "after its end");
    }

    function test_isSessionValid__when_the_epoch_was_raised__is_false() public {
        DeviceKey memory key = _registered(1);
        IDeviceRegistry.Session memory session = _session(key.id);
        bytes memory signature = key.sign(registry.session(session));
        vm.prank(owner);
        registry.transfer(key.id, owner);
        assertFalse(registry.isSessionValid(session, key.signer, signature, 1), "of an old epoch");
        session.epoch = 1;
        assertFalse(registry.isSessionValid(session, key.signer, signature, 1), "moved to the new one");
        assertTrue(_isValid(session, key, 1), "signed for the new one");
    }

    function test_isSessionValid__when_rotated_or_revoked__is_false() public {
        DeviceKey memory key = _registered(1);
        IDeviceRegistry.Session memory session = _session(key.id);
        session.epoch = 1;
        _rotate(key.id, DeviceKeys.secp256k1(2), 0);
        assertFalse(_isValid(session, key, 1), "by the former key");

        DeviceKey memory other = _registered(3);
        session = _session(other.id);
        vm.prank(owner);
        registry.revoke(other.id);
        session.epoch = 1;
        assertFalse(_isValid(session, other, 1), "of a revoked device");
    }

    function test_isSessionValid__when_signed_by_another_or_changed__is_false(bool isP256) public {
        DeviceKey memory key = _registered(_key(isP256, 1));
        IDeviceRegistry.Session memory session = _session(key.id);
        bytes memory signature = key.sign(registry.session(session));
        DeviceKey memory thief = _key(isP256, 2);
        assertFalse(registry.isSessionValid(session, thief.signer, signature, 1), "another signer");
        assertFalse(_isValid(session, thief, 1), "the thief's session");
        assertFalse(registry.isSessionValid(session, key.signer, key.mirrored(signature), 1), "high s");
        session.sessionSigner = thief.id;
        assertFalse(registry.isSessionValid(session, key.signer, signature, 1), "another session key");
    }

    function test_isSessionValid__when_on_another_chain__is_false() public {
        DeviceKey memory key = _registered(1);
        IDeviceRegistry.Session memory session = _session(key.id);
        bytes memory signature = key.sign(registry.session(session));
        vm.chainId(8453);
        assertFalse(registry.isSessionValid(session, key.signer, signature, 1), "session");
    }

    function test_isSignerAt__when_asked_for_a_session_key__is_false() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory sessionKey = DeviceKeys.secp256k1(2);
        IDeviceRegistry.Session memory session = _session(key.id);
        session.sessionSigner = sessionKey.id;
        assertTrue(_isValid(session, key, 1), "the session is good");
        assertFalse(registry.isSignerAt(key.id, sessionKey.signer, uint64(block.timestamp)), "it signs no readings");
    }
}
