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

/// @title DeviceRegistryBase
/// @notice Base of the registry's suites: roles, keys on both curves, builders with defaults, and what must be refused.
/// @dev The attacks of the identity design and the tests that make them (in DeviceRegistry*.t.sol unless another file is named):
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
abstract contract DeviceRegistryBase is TestBase {
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

    /* HELP */

    function _key(bool isP256, uint256 seed) internal view returns (DeviceKey memory) {
        return isP256 ? DeviceKeys.p256(seed, verifier) : DeviceKeys.secp256k1(seed);
    }

    function _deadline() internal view returns (uint40) {
        return uint40(vm.getBlockTimestamp() + 1 hours);
    }

    function _registration(DeviceKey memory key) internal view returns (IDeviceRegistry.Registration memory) {
        return IDeviceRegistry.Registration(key.id, owner, keccak256("document"), _deadline());
    }

    function _registered(uint256 seed) internal returns (DeviceKey memory) {
        return _registered(DeviceKeys.secp256k1(seed));
    }

    function _registered(DeviceKey memory key) internal returns (DeviceKey memory) {
        IDeviceRegistry.Registration memory message = _registration(key);
        registry.register(message, key.signer, key.sign(registry.register(message)), URI);
        return key;
    }

    function _fleet(uint256 size) internal view returns (IDeviceRegistry.RegistrationRow[] memory rows) {
        rows = new IDeviceRegistry.RegistrationRow[](size);
        for (uint256 i = 0; i < size; ++i) {
            DeviceKey memory key = _key(i % 2 == 1, 100 + i);
            IDeviceRegistry.Registration memory message = _registration(key);
            rows[i] = IDeviceRegistry.RegistrationRow(message, key.signer, key.sign(registry.register(message)), URI);
        }
    }

    function _rotate(bytes32 device, DeviceKey memory newKey, uint16 epoch) internal {
        uint40 deadline = _deadline();
        bytes memory signature = newKey.sign(registry.rotate(device, newKey.id, epoch, deadline));
        vm.prank(owner);
        registry.rotate(device, newKey.signer, deadline, signature);
    }

    function _session(bytes32 device) internal view returns (IDeviceRegistry.Session memory) {
        return IDeviceRegistry.Session(device, keccak256("session signer"), _deadline(), 0xff, 0);
    }

    function _isValid(IDeviceRegistry.Session memory session, DeviceKey memory key, uint32 scope)
        internal
        view
        returns (bool)
    {
        return registry.isSessionValid(session, key.signer, key.sign(registry.session(session)), scope);
    }

    function _relayed(bytes memory call, uint256 nonce)
        internal
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
    function _setEpoch(bytes32 device, uint16 epoch) internal {
        bytes32 slot = keccak256(abi.encode(device, uint256(3)));
        vm.store(address(registry), slot, vm.load(address(registry), slot) | bytes32(uint256(epoch) << 200));
        assertEq(registry.epochOf(device), epoch, "the slot is where the test thinks it is");
        assertEq(registry.ownerOf(device), owner, "and nothing else was touched");
    }

    function _assertWindow(bytes32 device, DeviceKey memory key, uint40 from, uint40 until) internal view {
        (uint40 actualFrom, uint40 actualUntil) = registry.windowOf(device, key.id);
        assertEq(actualFrom, from, "from");
        assertEq(actualUntil, until, "until");
    }

    function _expectRegisterRefused(DeviceKey memory key, bytes memory problem) internal {
        IDeviceRegistry.Registration memory message = _registration(key);
        bytes memory signature = key.sign(registry.register(message));
        vm.expectRevert(problem);
        registry.register(message, key.signer, signature, URI);
    }

    function _expectUnsupported(bytes memory signer) internal {
        IDeviceRegistry.Registration memory message =
            IDeviceRegistry.Registration(keccak256(signer), owner, 0, _deadline());
        vm.expectRevert(abi.encodeWithSelector(IDeviceRegistry.SignerNotSupported.selector, message.device, signer));
        registry.register(message, signer, new bytes(64), URI);
    }

    function _expectUnsigned(DeviceKey memory key, IDeviceRegistry.Registration memory message, bytes memory signature)
        internal
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
    ) internal {
        bytes memory signature = newKey.sign(registry.rotate(device, newKey.id, epoch, FOREVER));
        vm.expectRevert(problem);
        vm.prank(sender);
        registry.rotate(device, newKey.signer, FOREVER, signature);
    }

    function _expectUsed(bytes32 device, DeviceKey memory newKey, uint16 epoch) internal {
        _expectRotateRefused(
            owner,
            device,
            newKey,
            epoch,
            abi.encodeWithSelector(IDeviceRegistry.SignerAlreadyUsed.selector, device, newKey.id)
        );
    }

    function _expectRotateUnsigned(bytes32 device, DeviceKey memory newKey, bytes memory signature) internal {
        _expectRotateUnsignedAt(device, newKey, signature, 0);
    }

    function _expectRotateUnsignedAt(bytes32 device, DeviceKey memory newKey, bytes memory signature, uint16 epoch)
        internal
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
    ) internal {
        bytes32 digest = registry.rotate(device, newKey.id, epoch, FOREVER);
        bytes memory newSignature = newKey.sign(digest);
        bytes memory oldSignature = oldKey.sign(digest);
        vm.expectRevert(problem);
        registry.rotateSigned(device, newKey.signer, FOREVER, newSignature, oldKey.signer, oldSignature);
    }
}
