// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceRegistryBase } from "./DeviceRegistryBase.sol";
import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { vm } from "./TestBase.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @title DeviceRegistryRotateTest
/// @notice `rotate` and `rotateSigned`: success, then each guard in the order of the source.
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceRegistryRotateTest is DeviceRegistryBase {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    /* ROTATE */

    function test_rotate__when_the_owner_calls__changes_the_signer(bool isOldP256, bool isNewP256) public {
        DeviceKey memory key = _registered(_key(isOldP256, 1));
        DeviceKey memory second = _key(isNewP256, 2);
        vm.warp(block.timestamp + 1 days);
        uint40 deadline = _deadline();
        bytes memory signature = second.sign(registry.rotate(key.id, second.id, 0, deadline));

        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceRotated(key.id, 1, second.signer);
        vm.prank(owner);
        registry.rotate(key.id, second.signer, deadline, signature);

        assertEq(registry.signerOf(key.id), second.id, "signer");
        assertEq(registry.epochOf(key.id), 1, "epoch");
        assertEq(registry.ownerOf(key.id), owner, "owner");
        _assertWindow(key.id, key, 0, uint40(vm.getBlockTimestamp()));
        _assertWindow(key.id, second, uint40(vm.getBlockTimestamp()), FOREVER);
    }

    function test_rotate__when_not_registered__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        _expectRotateRefused(
            owner,
            key.id,
            DeviceKeys.secp256k1(2),
            0,
            abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, key.id)
        );
    }

    function test_rotate__when_not_the_owner__reverts() public {
        DeviceKey memory key = _registered(1);
        _expectRotateRefused(
            stranger,
            key.id,
            DeviceKeys.secp256k1(2),
            0,
            abi.encodeWithSelector(IDeviceRegistry.DeviceCallerNotOwner.selector, key.id, stranger, owner)
        );
    }

    function test_rotate__when_revoked__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.prank(owner);
        registry.revoke(key.id);
        _expectRotateRefused(
            owner,
            key.id,
            DeviceKeys.secp256k1(2),
            1,
            abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id)
        );
    }

    function test_rotate__when_to_an_old_key__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.p256(2, verifier);
        _rotate(key.id, second, 0);
        _rotate(key.id, DeviceKeys.secp256k1(3), 1);
        _expectUsed(key.id, key, 2);
        _expectUsed(key.id, second, 2);
    }

    function test_rotate__when_to_the_present_key__reverts() public {
        DeviceKey memory key = _registered(1);
        _expectUsed(key.id, key, 0);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        _rotate(key.id, second, 0);
        _expectUsed(key.id, second, 1);
    }

    function test_rotate__when_to_another_devices_key__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory other = _registered(2);
        _expectUsed(key.id, other, 0);
        DeviceKey memory third = DeviceKeys.secp256k1(3);
        _rotate(other.id, third, 0);
        _expectUsed(key.id, third, 0);
        _expectUsed(key.id, other, 0);
    }

    function test_rotate__when_to_a_revoked_key_that_was_never_registered__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory dead = DeviceKeys.secp256k1(2);
        registry.revokeSigned(dead.id, dead.signer, dead.sign(registry.revoke(dead.id, 0)));
        _expectUsed(key.id, dead, 0);
    }

    function test_rotate__when_late__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        uint40 deadline = uint40(block.timestamp);
        bytes memory signature = second.sign(registry.rotate(key.id, second.id, 0, deadline));
        vm.expectRevert(
            abi.encodeWithSelector(IDeviceRegistry.DeviceMessageExpired.selector, key.id, deadline, block.timestamp)
        );
        vm.prank(owner);
        registry.rotate(key.id, second.signer, deadline, signature);
    }

    function test_rotate__when_the_new_signer_is_of_neither_kind__reverts() public {
        DeviceKey memory key = _registered(1);
        bytes memory signer = DeviceKeys.p256(2, stranger).signer;
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.SignerNotSupported.selector, key.id, signer));
        vm.prank(owner);
        registry.rotate(key.id, signer, FOREVER, "");
    }

    function test_rotate__when_the_new_key_did_not_sign__reverts(bool isP256) public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = _key(isP256, 2);
        bytes memory signature = key.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        _expectRotateUnsigned(key.id, second, signature);
        _expectRotateUnsigned(
            key.id, second, second.mirrored(second.sign(registry.rotate(key.id, second.id, 0, FOREVER)))
        );
    }

    function test_rotate__when_signed_for_another_device__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory other = _registered(2);
        DeviceKey memory second = DeviceKeys.secp256k1(3);
        _expectRotateUnsigned(key.id, second, second.sign(registry.rotate(other.id, second.id, 0, FOREVER)));
    }

    function test_rotate__when_replayed_after_a_later_rotation__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes memory kept = second.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        _rotate(key.id, DeviceKeys.secp256k1(3), 0);
        _expectRotateUnsignedAt(key.id, second, kept, 1);
    }

    function test_rotate__when_replayed_after_a_transfer__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes memory kept = second.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        vm.prank(owner);
        registry.transfer(key.id, owner);
        _expectRotateUnsignedAt(key.id, second, kept, 1);
    }

    function test_rotate__when_replayed_on_another_chain__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes memory kept = second.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        vm.chainId(8453);
        _expectRotateUnsigned(key.id, second, kept);
    }

    /* ROTATE SIGNED */

    function test_rotateSigned__when_both_keys_signed__anyone_may_send_it(bool isP256) public {
        DeviceKey memory key = _registered(_key(isP256, 1));
        DeviceKey memory second = _key(!isP256, 2);
        uint40 deadline = _deadline();
        bytes32 digest = registry.rotate(key.id, second.id, 0, deadline);
        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceRotated(key.id, 1, second.signer);
        vm.prank(stranger);
        registry.rotateSigned(key.id, second.signer, deadline, second.sign(digest), key.signer, key.sign(digest));
        assertEq(registry.signerOf(key.id), second.id, "signer");
    }

    function test_rotateSigned__when_not_registered__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        _expectRotateSignedRefused(
            key.id,
            DeviceKeys.secp256k1(2),
            key,
            0,
            abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, key.id)
        );
    }

    function test_rotateSigned__when_revoked__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.prank(owner);
        registry.revoke(key.id);
        _expectRotateSignedRefused(
            key.id,
            DeviceKeys.secp256k1(2),
            key,
            1,
            abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id)
        );
    }

    function test_rotateSigned__when_by_a_former_key__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        _rotate(key.id, second, 0);
        _expectRotateSignedRefused(
            key.id,
            DeviceKeys.secp256k1(3),
            key,
            1,
            abi.encodeWithSelector(IDeviceRegistry.SignerNotCurrent.selector, key.id, key.id, second.id)
        );
    }

    function test_rotateSigned__when_the_old_key_did_not_sign__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes memory signature = second.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 0));
        registry.rotateSigned(key.id, second.signer, FOREVER, signature, key.signer, signature);
    }

    function test_rotateSigned__when_the_new_key_did_not_sign__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes memory signature = key.sign(registry.rotate(key.id, second.id, 0, FOREVER));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, second.id, 0));
        registry.rotateSigned(key.id, second.signer, FOREVER, signature, key.signer, signature);
    }

    function test_rotateSigned__when_replayed_after_a_transfer__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        bytes32 digest = registry.rotate(key.id, second.id, 0, FOREVER);
        vm.prank(owner);
        registry.transfer(key.id, stranger);
        bytes memory newSignature = second.sign(digest);
        bytes memory oldSignature = key.sign(digest);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 1));
        registry.rotateSigned(key.id, second.signer, FOREVER, newSignature, key.signer, oldSignature);
    }
}
