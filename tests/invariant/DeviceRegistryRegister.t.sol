// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceRegistryBase, YesSayer } from "./DeviceRegistryBase.sol";
import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { vm } from "./TestBase.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @title DeviceRegistryRegisterTest
/// @notice `register`, `registerMany` and `setUri`: success, then each guard in the order of the source.
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceRegistryRegisterTest is DeviceRegistryBase {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    /* REGISTER */

    function test_register__when_signed__gives_the_device_its_owner(bool isP256, bytes32 metadata, uint256 seed)
        public
    {
        DeviceKey memory key = _key(isP256, seed);
        IDeviceRegistry.Registration memory message = _registration(key);
        message.metadata = metadata;
        bytes memory signature = key.sign(registry.register(message));

        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceRegistered(key.id, owner, key.signer, metadata, URI);
        vm.prank(stranger);
        registry.register(message, key.signer, signature, URI);

        assertEq(registry.ownerOf(key.id), owner, "owner");
        assertEq(registry.registeredAt(key.id), block.timestamp, "registeredAt");
        assertEq(registry.epochOf(key.id), 0, "epoch");
        assertFalse(registry.isRevoked(key.id), "revoked");
        assertEq(registry.signerOf(key.id), key.id, "signer");
    }

    function test_register__when_registered_before__reverts() public {
        DeviceKey memory key = _registered(1);
        _expectRegisterRefused(
            key, abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRegistered.selector, key.id, owner)
        );
    }

    function test_register__when_revoked_before__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        registry.revokeSigned(key.id, key.signer, key.sign(registry.revoke(key.id, 0)));
        _expectRegisterRefused(key, abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, key.id));
    }

    function test_register__when_the_key_was_rotated_into_a_device__reverts() public {
        DeviceKey memory key = _registered(1);
        DeviceKey memory second = DeviceKeys.secp256k1(2);
        _rotate(key.id, second, 0);
        bytes memory problem = abi.encodeWithSelector(IDeviceRegistry.SignerAlreadyUsed.selector, second.id, second.id);
        _expectRegisterRefused(second, problem);

        _rotate(key.id, DeviceKeys.secp256k1(3), 1);
        _expectRegisterRefused(second, problem);
    }

    function test_register__when_the_owner_is_zero__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        IDeviceRegistry.Registration memory message = _registration(key);
        message.owner = address(0);
        bytes memory signature = key.sign(registry.register(message));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceOwnerZero.selector, key.id));
        registry.register(message, key.signer, signature, URI);
    }

    function test_register__when_the_signer_is_not_the_devices__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        DeviceKey memory thief = DeviceKeys.secp256k1(2);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = thief.sign(registry.register(message));
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceIdMismatch.selector, key.id, thief.id));
        registry.register(message, thief.signer, signature, URI);
    }

    function test_register__when_late__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        vm.warp(message.deadline);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDeviceRegistry.DeviceMessageExpired.selector, key.id, message.deadline, message.deadline
            )
        );
        registry.register(message, key.signer, signature, URI);

        vm.warp(message.deadline - 1);
        registry.register(message, key.signer, signature, URI);
        assertEq(registry.ownerOf(key.id), owner, "the last second is good");
    }

    function test_register__when_the_signer_is_of_neither_kind__reverts(bytes memory signer) public {
        vm.assume(signer.length != 20 && signer.length != 84);
        _expectUnsupported(signer);
    }

    function test_register__when_the_verifier_is_foreign__reverts() public {
        DeviceKey memory key = DeviceKeys.p256(1, address(new YesSayer()));
        _expectUnsupported(key.signer);
        _expectUnsupported(DeviceKeys.p256(1, address(0)).signer);
    }

    function test_register__when_the_point_is_not_on_the_curve__reverts() public {
        (uint256 x, uint256 y) = vm.publicKeyP256(1);
        _expectUnsupported(abi.encodePacked(verifier, x, y ^ 1));
        _expectUnsupported(abi.encodePacked(verifier, uint256(0), uint256(0)));
        _expectUnsupported(abi.encodePacked(verifier, y, x));
        uint256 p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF;
        _expectUnsupported(abi.encodePacked(verifier, p, y));
        _expectUnsupported(abi.encodePacked(address(0)));
    }

    function test_register__when_signed_by_another_key__reverts(bool isP256) public {
        DeviceKey memory key = _key(isP256, 1);
        DeviceKey memory thief = _key(isP256, 2);
        IDeviceRegistry.Registration memory message = _registration(key);
        message.owner = stranger;
        _expectUnsigned(key, message, thief.sign(registry.register(message)));
    }

    function test_register__when_the_owner_is_not_the_signed_one__reverts(bool isP256) public {
        DeviceKey memory key = _key(isP256, 1);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        message.owner = stranger;
        _expectUnsigned(key, message, signature);
    }

    function test_register__when_metadata_or_deadline_is_not_the_signed_one__reverts(bool isP256) public {
        DeviceKey memory key = _key(isP256, 1);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        message.metadata = keccak256("another document");
        _expectUnsigned(key, message, signature);
        message = _registration(key);
        ++message.deadline;
        _expectUnsigned(key, message, signature);
    }

    function test_register__when_s_is_high__reverts(bool isP256, uint256 seed) public {
        DeviceKey memory key = _key(isP256, seed);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        _expectUnsigned(key, message, key.mirrored(signature));
        registry.register(message, key.signer, signature, URI);
    }

    function test_register__when_replayed_on_another_chain__reverts(bool isP256) public {
        DeviceKey memory key = _key(isP256, 1);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        vm.chainId(8453);
        _expectUnsigned(key, message, signature);
    }

    function test_register__when_replayed_on_another_registry__reverts() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        registry = IDeviceRegistry(address(new DeviceRegistry(verifier)));
        _expectUnsigned(key, message, signature);
    }

    function test_register__when_the_devices_address_has_code__asks_the_key_alone() public {
        DeviceKey memory key = DeviceKeys.secp256k1(1);
        vm.etch(address(bytes20(key.signer)), address(new YesSayer()).code);
        IDeviceRegistry.Registration memory message = _registration(key);
        _expectUnsigned(key, message, "anything");
        _expectUnsigned(key, message, DeviceKeys.secp256k1(2).sign(registry.register(message)));
        registry.register(message, key.signer, key.sign(registry.register(message)), URI);
        assertEq(registry.ownerOf(key.id), owner, "the key still signs for the device");
    }

    /* REGISTER MANY */

    function test_registerMany__when_all_are_signed__registers_a_fleet() public {
        IDeviceRegistry.RegistrationRow[] memory rows = _fleet(6);
        for (uint256 i = 0; i < rows.length; ++i) {
            vm.expectEmit(address(registry));
            emit IDeviceRegistry.DeviceRegistered(
                rows[i].registration.device, owner, rows[i].signer, rows[i].registration.metadata, URI
            );
        }
        registry.registerMany(rows);
        for (uint256 i = 0; i < rows.length; ++i) {
            assertEq(registry.ownerOf(rows[i].registration.device), owner, "owner");
        }
    }

    function test_registerMany__when_a_stranger_registered_one_row__registers_the_rest() public {
        IDeviceRegistry.RegistrationRow[] memory rows = _fleet(4);
        vm.prank(stranger);
        registry.register(rows[2].registration, rows[2].signer, rows[2].signature, "https://stranger.example/lie");
        registry.registerMany(rows);
        for (uint256 i = 0; i < rows.length; ++i) {
            assertEq(registry.ownerOf(rows[i].registration.device), owner, "owner");
        }
    }

    function test_registerMany__when_one_row_is_bad__names_its_device_and_registers_none() public {
        IDeviceRegistry.RegistrationRow[] memory rows = _fleet(4);
        bytes32 bad = rows[2].registration.device;
        rows[2].signature = rows[1].signature;
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, bad, bad, 0));
        registry.registerMany(rows);
        assertEq(registry.ownerOf(rows[0].registration.device), address(0), "none is registered");
    }

    function test_registerMany__when_a_row_belongs_to_another__reverts() public {
        IDeviceRegistry.RegistrationRow[] memory rows = _fleet(3);
        registry.registerMany(rows);
        bytes32 sold = rows[1].registration.device;
        vm.prank(owner);
        registry.transfer(sold, stranger);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRegistered.selector, sold, stranger));
        registry.registerMany(rows);
    }

    function test_registerMany__when_a_row_is_revoked__reverts() public {
        IDeviceRegistry.RegistrationRow[] memory rows = _fleet(3);
        registry.registerMany(rows);
        bytes32 dead = rows[1].registration.device;
        vm.prank(owner);
        registry.revoke(dead);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRegistered.selector, dead, owner));
        registry.registerMany(rows);
    }

    /* URI */

    function test_setUri__when_the_owner_calls__says_where_the_document_lies() public {
        DeviceKey memory key = _registered(1);
        vm.expectEmit(address(registry));
        emit IDeviceRegistry.DeviceUriChanged(key.id, "https://owner.example/device.json");
        vm.prank(owner);
        registry.setUri(key.id, "https://owner.example/device.json");
    }

    function test_setUri__when_not_the_owner__reverts() public {
        DeviceKey memory key = _registered(1);
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceCallerNotOwner.selector, key.id, stranger, owner));
        vm.prank(stranger);
        registry.setUri(key.id, "https://stranger.example/lie");
    }
}
