// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceRegistryBase } from "./DeviceRegistryBase.sol";
import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { vm } from "./TestBase.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";

/// @title DeviceRegistryRevokeTest
/// @notice `transfer`, `revoke` and `revokeSigned`: success, then each guard in the order of the source.
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceRegistryRevokeTest is DeviceRegistryBase {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    /* TRANSFER */

    function test_transfer__when_the_owner_calls__hands_the_device_over() public {
        DeviceKey memory key = _registered(1);
        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceTransferred(key.id, owner, stranger, 1);
        vm.prank(owner);
        registry.transfer(key.id, stranger);
        assertEq(registry.ownerOf(key.id), stranger, "owner");
        assertEq(registry.epochOf(key.id), 1, "epoch");
        assertEq(registry.signerOf(key.id), key.id, "the key stays");
        assertEq(registry.registeredAt(key.id), block.timestamp, "registeredAt stays");
    }

    function test_transfer__when_not_registered__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, bytes32("none")));
        registry.transfer(bytes32("none"), stranger);
    }

    function test_transfer__when_not_the_owner__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceCallerNotOwner.selector, key.id, stranger, owner));
        vm.prank(stranger);
        registry.transfer(key.id, stranger);
    }

    function test_transfer__when_revoked__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.prank(owner);
        registry.revoke(key.id);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id));
        vm.prank(owner);
        registry.transfer(key.id, stranger);
    }

    function test_transfer__when_to_zero__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceOwnerZero.selector, key.id));
        vm.prank(owner);
        registry.transfer(key.id, address(0));
    }

    function test_transfer__when_the_epochs_are_used_up__reverts_and_revoke_still_works() public {
        DeviceKey memory key = _registered(1);
        _setEpoch(key.id, type(uint16).max - 1);
        vm.prank(owner);
        registry.transfer(key.id, owner);
        assertEq(registry.epochOf(key.id), type(uint16).max, "the last epoch");

        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceEpochExhausted.selector, key.id));
        vm.prank(owner);
        registry.transfer(key.id, owner);
        _expectRotateRefused(
            owner,
            key.id,
            DeviceKeys.secp256k1(2),
            type(uint16).max,
            abi.encodeWithSelector(IDeviceRegistry.DeviceEpochExhausted.selector, key.id)
        );

        vm.prank(owner);
        registry.revoke(key.id);
        assertTrue(registry.isRevoked(key.id), "revoked");
        assertEq(registry.signerOf(key.id), bytes32(0), "nobody signs");
    }

    function test_transfer__when_relayed__counts_as_the_owners() public {
        DeviceKey memory key = _registered(1);
        bytes memory call = abi.encodeCall(IDeviceRegistry.transfer, (key.id, stranger));
        (IRelayed.SignedCall memory request, bytes memory signature) = _relayed(call, 1);
        vm.prank(stranger);
        IRelayed(address(registry)).relay(request, signature);
        assertEq(registry.ownerOf(key.id), stranger, "owner");
    }

    function test_transfer__when_a_relayed_one_is_replayed__reverts() public {
        DeviceKey memory key = _registered(1);
        bytes memory call = abi.encodeCall(IDeviceRegistry.transfer, (key.id, stranger));
        (IRelayed.SignedCall memory request, bytes memory signature) = _relayed(call, 1);
        IRelayed(address(registry)).relay(request, signature);
        vm.prank(stranger);
        registry.transfer(key.id, owner);
        vm.expectRevert(abi.encodeWithSelector(IRelayed.NonceAlreadyUsed.selector, owner, 1));
        IRelayed(address(registry)).relay(request, signature);
        assertEq(registry.ownerOf(key.id), owner, "the owner has it back for good");
    }

    /* REVOKE */

    function test_revoke__when_the_owner_calls__ends_the_device_forward_only() public {
        DeviceKey memory key = _registered(1);
        vm.warp(block.timestamp + 1 days);
        uint40 time = uint40(vm.getBlockTimestamp());
        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceRevoked(key.id, 1);
        vm.prank(owner);
        registry.revoke(key.id);

        assertTrue(registry.isRevoked(key.id), "revoked");
        assertEq(registry.ownerOf(key.id), owner, "owner");
        assertEq(registry.epochOf(key.id), 1, "epoch");
        assertEq(registry.signerOf(key.id), bytes32(0), "signer");
        _assertWindow(key.id, key, 0, time);
    }

    function test_revoke__when_not_the_owner__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceCallerNotOwner.selector, key.id, stranger, owner));
        vm.prank(stranger);
        registry.revoke(key.id);
    }

    function test_revoke__when_not_registered__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, key.id));
        vm.prank(owner);
        registry.revoke(key.id);
    }

    function test_revoke__when_revoked_before__reverts_and_the_time_stays() public {
        DeviceKey memory key = _registered(1);
        vm.startPrank(owner);
        registry.revoke(key.id);
        uint40 time = uint40(vm.getBlockTimestamp());
        vm.warp(time + 1 days);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id));
        registry.revoke(key.id);
        vm.stopPrank();
        _assertWindow(key.id, key, 0, time);
    }

    /* REVOKE SIGNED */

    function test_revokeSigned__when_the_key_signed__anyone_may_send_it(bool isP256) public {
        DeviceKey memory key = _registered(_key(isP256, 1));
        bytes memory signature = key.sign(registry.revoke(key.id, 0));
        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceRevoked(key.id, 1);
        vm.prank(stranger);
        registry.revokeSigned(key.id, key.signer, signature);
        assertTrue(registry.isRevoked(key.id), "revoked");
    }

    function test_revokeSigned__when_not_registered__ends_the_genesis_key(bool isP256) public {
        DeviceKey memory key = _key(isP256, 1);
        registry.revokeSigned(key.id, key.signer, key.sign(registry.revoke(key.id, 0)));
        assertTrue(registry.isRevoked(key.id), "revoked");
        _assertWindow(key.id, key, 0, uint40(vm.getBlockTimestamp()));
    }

    function test_revokeSigned__when_the_message_is_old__ends_the_device_now_and_not_before() public {
        DeviceKey memory key = _registered(1);
        bytes memory kept = key.sign(registry.revoke(key.id, 0));
        vm.warp(block.timestamp + 365 days);
        uint40 time = uint40(vm.getBlockTimestamp());
        registry.revokeSigned(key.id, key.signer, kept);
        assertTrue(registry.isSignerAt(key.id, key.signer, time - 1), "what is dated before stays good");
        assertFalse(registry.isSignerAt(key.id, key.signer, time), "nothing dated from then on is");
    }

    function test_revokeSigned__when_the_epoch_is_old__reverts() public {
        DeviceKey memory key = _registered(1);
        bytes memory kept = key.sign(registry.revoke(key.id, 0));
        vm.prank(owner);
        registry.transfer(key.id, stranger);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 1));
        registry.revokeSigned(key.id, key.signer, kept);
    }

    function test_revokeSigned__when_by_a_former_key__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        _rotate(key.id, second, 0);
        bytes memory signature = key.sign(registry.revoke(key.id, 1));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.SignerNotCurrent.selector, key.id, key.id, second.id));
        registry.revokeSigned(key.id, key.signer, signature);
        registry.revokeSigned(key.id, second.signer, second.sign(registry.revoke(key.id, 1)));
    }

    function test_revokeSigned__when_the_genesis_key_went_to_another_device__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory adopted = DeviceKeys.secp256k1(2);
        _rotate(key.id, adopted, 0);
        bytes memory signature = adopted.sign(registry.revoke(adopted.id, 0));
        vm.expectRevert(
            abi.encodeWithSelector(IDeviceRegistry.SignerNotCurrent.selector, adopted.id, adopted.id, bytes32(0))
        );
        registry.revokeSigned(adopted.id, adopted.signer, signature);
    }

    function test_revokeSigned__when_revoked_before__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.prank(owner);
        registry.revoke(key.id);
        bytes memory signature = key.sign(registry.revoke(key.id, 1));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id));
        registry.revokeSigned(key.id, key.signer, signature);
    }

    function test_revokeSigned__when_s_is_high__reverts(bool isP256) public {
        DeviceKey memory key = _registered(_key(isP256, 1));
        bytes memory signature = key.mirrored(key.sign(registry.revoke(key.id, 0)));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 0));
        registry.revokeSigned(key.id, key.signer, signature);
    }

    function test_revokeSigned__when_replayed_on_another_chain__reverts() public {
        DeviceKey memory key = _registered(1);
        bytes memory signature = key.sign(registry.revoke(key.id, 0));
        vm.chainId(8453);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 0));
        registry.revokeSigned(key.id, key.signer, signature);
    }
}
