// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { TestBase, vm } from "./TestBase.sol";
import { IERC1271 } from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";
import { IRelayed } from "contracts/interfaces/IRelayed.sol";

/// @notice An account or a verifier that says yes to everything.
contract YesSayer is IERC1271 {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return IERC1271.isValidSignature.selector;
    }

    function verify(bytes calldata, bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x024ad318;
    }
}

/// @title DeviceRegistryTest
/// @notice Every function of the registry: success, then each guard, on both curves where keys matter.
/// @dev The attacks of the identity design and the tests that make them (here unless another file is named):
///
/// front-run registration with another owner      test_register__when_the_owner_is_not_the_signed_one__reverts
/// registration of someone else's key             test_register__when_signed_by_another_key__reverts,
///                                                test_register__when_the_signer_is_not_the_devices__reverts
/// rotation back to an old key                    test_rotate__when_to_an_old_key__reverts
/// rotation replayed after a later change         test_rotate__when_replayed_after_a_later_rotation__reverts,
///                                                test_rotate__when_replayed_after_a_transfer__reverts,
///                                                test_rotateSigned__when_replayed_after_a_transfer__reverts
/// transfer replayed after a later change         test_transfer__when_a_relayed_one_is_replayed__reverts
/// back-dated revocation                          test_revokeSigned__when_the_message_is_old__ends_the_device_now_and_not_before,
///                                                test_revokeSigned__when_the_epoch_is_old__reverts
/// high-s and malleated signatures, both curves   test_register__when_s_is_high__reverts,
///                                                DeviceRegistrySigners.t.sol, SignedReadingRule.t.sol
/// P-256 key not on the curve or at infinity      test_register__when_the_point_is_not_on_the_curve__reverts
/// an 84-byte signer with a foreign verifier      test_register__when_the_verifier_is_foreign__reverts
/// code put at a device's address                 test_register__when_the_devices_address_has_code__asks_the_key_alone
/// session outside scope, after its end, after an epoch bump, to sign a reading
///                                                test_isSessionValid__* and SignedReadingRule.t.sol
/// replay on another chain                        test_register__when_replayed_on_another_chain__reverts,
///                                                test_rotate__when_replayed_on_another_chain__reverts,
///                                                test_revokeSigned__when_replayed_on_another_chain__reverts,
///                                                test_isSessionValid__when_on_another_chain__is_false
/// one row of a fleet front-run                   test_registerMany__when_a_stranger_registered_one_row__registers_the_rest
///
/// forge-config: default.evm_version = "osaka"
/// forge-config: default.fuzz.runs = 256
contract DeviceRegistryTest is TestBase {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    string internal constant URI = "ipfs://bafy/device.json";
    uint256 internal constant OWNER_KEY = 0x0123;
    uint40 internal constant FOREVER = type(uint40).max;

    IDeviceRegistry internal registry;
    address internal verifier;
    address internal owner;
    address internal stranger;

    function setUp() public {
        vm.warp(1_700_000_000);
        verifier = address(new P256Verifier());
        registry = IDeviceRegistry(address(new DeviceRegistry(verifier)));
        owner = vm.addr(OWNER_KEY);
        stranger = makeAddr("stranger");
    }

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

    /* HELP */

    function _key(bool isP256, uint256 seed) private view returns (DeviceKey memory) {
        return isP256 ? DeviceKeys.p256(seed, verifier) : DeviceKeys.secp256k1(seed);
    }

    function _deadline() private view returns (uint40) {
        return uint40(vm.getBlockTimestamp() + 1 hours);
    }

    function _registration(DeviceKey memory key) private view returns (IDeviceRegistry.Registration memory) {
        return IDeviceRegistry.Registration(key.id, owner, keccak256("document"), _deadline());
    }

    function _registered(uint256 seed) private returns (DeviceKey memory) {
        return _registered(DeviceKeys.secp256k1(seed));
    }

    function _registered(DeviceKey memory key) private returns (DeviceKey memory) {
        IDeviceRegistry.Registration memory message = _registration(key);
        registry.register(message, key.signer, key.sign(registry.register(message)), URI);
        return key;
    }

    function _fleet(uint256 size) private view returns (IDeviceRegistry.RegistrationRow[] memory rows) {
        rows = new IDeviceRegistry.RegistrationRow[](size);
        for (uint256 i = 0; i < size; ++i) {
            DeviceKey memory key = _key(i % 2 == 1, 100 + i);
            IDeviceRegistry.Registration memory message = _registration(key);
            rows[i] = IDeviceRegistry.RegistrationRow(message, key.signer, key.sign(registry.register(message)), URI);
        }
    }

    function _rotate(bytes32 device, DeviceKey memory newKey, uint16 epoch) private {
        uint40 deadline = _deadline();
        bytes memory signature = newKey.sign(registry.rotate(device, newKey.id, epoch, deadline));
        vm.prank(owner);
        registry.rotate(device, newKey.signer, deadline, signature);
    }

    function _session(bytes32 device) private view returns (IDeviceRegistry.Session memory) {
        return IDeviceRegistry.Session(device, keccak256("session signer"), _deadline(), 0xff, 0);
    }

    function _isValid(IDeviceRegistry.Session memory session, DeviceKey memory key, uint32 scope)
        private
        view
        returns (bool)
    {
        return registry.isSessionValid(session, key.signer, key.sign(registry.session(session)), scope);
    }

    function _relayed(bytes memory call, uint256 nonce)
        private
        view
        returns (IRelayed.SignedCall memory request, bytes memory signature)
    {
        request = IRelayed.SignedCall(owner, call, nonce, _deadline());
        bytes32 typeHash = keccak256("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)");
        bytes32 digest = typedDigest(
            "pyiot DeviceRegistry",
            address(registry),
            keccak256(abi.encode(typeHash, owner, keccak256(call), nonce, request.deadline))
        );
        signature = signEcdsa(OWNER_KEY, digest);
    }

    /// @dev Writes the epoch into the device's slot: address, uint40, uint16, bool, from the right.
    function _setEpoch(bytes32 device, uint16 epoch) private {
        bytes32 slot = keccak256(abi.encode(device, uint256(3)));
        vm.store(address(registry), slot, vm.load(address(registry), slot) | bytes32(uint256(epoch) << 200));
        assertEq(registry.epochOf(device), epoch, "the slot is where the test thinks it is");
        assertEq(registry.ownerOf(device), owner, "and nothing else was touched");
    }

    function _assertWindow(bytes32 device, DeviceKey memory key, uint40 from, uint40 until) private view {
        (uint40 actualFrom, uint40 actualUntil) = registry.windowOf(device, key.id);
        assertEq(actualFrom, from, "from");
        assertEq(actualUntil, until, "until");
    }

    function _expectRegisterRefused(DeviceKey memory key, bytes memory problem) private {
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        vm.expectRevert(problem);
        registry.register(message, key.signer, signature, URI);
    }

    function _expectUnsupported(bytes memory signer) private {
        IDeviceRegistry.Registration memory message =
            IDeviceRegistry.Registration(keccak256(signer), owner, 0, _deadline());
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.SignerNotSupported.selector, message.device, signer));
        registry.register(message, signer, new bytes(64), URI);
    }

    function _expectUnsigned(DeviceKey memory key, IDeviceRegistry.Registration memory message, bytes memory signature)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, key.id, key.id, 0));
        registry.register(message, key.signer, signature, URI);
    }

    function _expectRotateRefused(
        address sender,
        bytes32 device,
        DeviceKey memory newKey,
        uint16 epoch,
        bytes memory problem
    ) private {
        bytes memory signature = newKey.sign(registry.rotate(device, newKey.id, epoch, FOREVER));
        vm.expectRevert(problem);
        vm.prank(sender);
        registry.rotate(device, newKey.signer, FOREVER, signature);
    }

    function _expectUsed(bytes32 device, DeviceKey memory newKey, uint16 epoch) private {
        _expectRotateRefused(
            owner,
            device,
            newKey,
            epoch,
            abi.encodeWithSelector(IDeviceRegistry.SignerAlreadyUsed.selector, device, newKey.id)
        );
    }

    function _expectRotateUnsigned(bytes32 device, DeviceKey memory newKey, bytes memory signature) private {
        _expectRotateUnsignedAt(device, newKey, signature, 0);
    }

    function _expectRotateUnsignedAt(bytes32 device, DeviceKey memory newKey, bytes memory signature, uint16 epoch)
        private
    {
        vm.expectRevert(
            abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, device, newKey.id, epoch)
        );
        vm.prank(owner);
        registry.rotate(device, newKey.signer, FOREVER, signature);
    }

    function _expectRotateSignedRefused(
        bytes32 device,
        DeviceKey memory newKey,
        DeviceKey memory oldKey,
        uint16 epoch,
        bytes memory problem
    ) private {
        bytes32 digest = registry.rotate(device, newKey.id, epoch, FOREVER);
        bytes memory newSignature = newKey.sign(digest);
        bytes memory oldSignature = oldKey.sign(digest);
        vm.expectRevert(problem);
        registry.rotateSigned(device, newKey.signer, FOREVER, newSignature, oldKey.signer, oldSignature);
    }
}
