// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { EIP712 } from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import { Relayed } from "contracts/base/Relayed.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";
import { DeviceSigner } from "contracts/libraries/DeviceSigner.sol";

/// @title DeviceRegistry
/// @notice Who a device is: one owner, one signer at a time, and every signer that it ever had.
/// @dev MODEL. A device is its key: the id is the keccak256 of the genesis signer. That signer is valid from the beginning
/// of time until it is rotated or revoked, registered or not. One slot a device holds its owner and epoch; a key gets slots
/// of its own only when it is rotated in or comes to its end, so that the past can be asked for ever.
///
/// LIFECYCLE. Unregistered → registered → (rotated, transferred)* → revoked. Revoked is the end. An unregistered device can
/// be revoked by its key, and can then never be registered.
///
/// ROLES. The device's key proves possession; the owner rotates, transfers and revokes. The contract itself has no owner,
/// no proxy and no pause, and holds no money.
///
/// UNITS. Times are Unix seconds; windows are half open, `from <= time < until`.
///
/// INVARIANTS. DR-1 one owner a device. DR-2 a key is never a signer of two devices at one time, nor twice of one: once
/// rotated into a device, it is nothing else from then on. DR-3 nothing dated at or after a revocation is accepted,
/// everything validly dated before is. DR-4 a session or a message of an old epoch always fails. DR-5 nobody registers a
/// device without its key's signature over owner and metadata.
///
/// ASSUMPTIONS. A thief with a key can date back; what a registry says of the past is when a key was valid, not when
/// something was signed with it.
contract DeviceRegistry is IDeviceRegistry, Relayed {
    struct Device {
        address owner;
        uint40 registeredAt;
        uint16 epoch;
        bool revoked;
    }

    /// @dev `device` and `from` are set when the key is rotated in (a genesis key has neither), `until` when it ends.
    struct Key {
        bytes32 device;
        uint40 from;
        uint40 until;
    }

    bytes32 private constant REGISTER_TYPEHASH =
        keccak256("Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)");
    bytes32 private constant ROTATE_TYPEHASH =
        keccak256("Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)");
    bytes32 private constant REVOKE_TYPEHASH = keccak256("Revoke(bytes32 device,uint16 epoch)");
    bytes32 private constant SESSION_TYPEHASH =
        keccak256("Session(bytes32 device,bytes32 sessionSigner,uint40 notAfter,uint32 scope,uint16 epoch)");
    uint40 private constant FOREVER = type(uint40).max;

    /// @inheritdoc IDeviceRegistry
    address public immutable p256Verifier;

    mapping(bytes32 device => Device record) private _devices;
    mapping(bytes32 key => Key record) private _keys;
    mapping(bytes32 device => bytes32 key) private _rotatedTo;

    constructor(address p256Verifier_) EIP712("pyiot DeviceRegistry", "1") {
        p256Verifier = p256Verifier_;
    }

    /* REGISTER */

    /// @inheritdoc IDeviceRegistry
    function register(
        Registration calldata registration,
        bytes calldata signer,
        bytes calldata signature,
        string calldata uri
    ) external {
        _register(registration, signer, signature, uri);
    }

    /// @inheritdoc IDeviceRegistry
    function registerMany(RegistrationRow[] calldata rows) external {
        for (uint256 i = 0; i < rows.length; ++i) {
            RegistrationRow calldata row = rows[i];
            Device storage record = _devices[row.registration.device];
            bool isAsAsked = record.owner == row.registration.owner && record.owner != address(0) && !record.revoked;
            if (!isAsAsked) _register(row.registration, row.signer, row.signature, row.uri);
        }
    }

    /// @inheritdoc IDeviceRegistry
    function setUri(bytes32 device, string calldata uri) external {
        _requireOwner(device);

        emit DeviceUriChanged(device, uri);
    }

    /* ROTATE */

    /// @inheritdoc IDeviceRegistry
    function rotate(bytes32 device, bytes calldata newSigner, uint40 deadline, bytes calldata newSignature) external {
        _requireOwner(device);
        bytes32 digest = _rotateDigest(device, newSigner, deadline);

        _rotate(device, newSigner, deadline, digest, newSignature);
    }

    /// @inheritdoc IDeviceRegistry
    function rotateSigned(
        bytes32 device,
        bytes calldata newSigner,
        uint40 deadline,
        bytes calldata newSignature,
        bytes calldata oldSigner,
        bytes calldata oldSignature
    ) external {
        require(_devices[device].owner != address(0), DeviceNotRegistered(device));
        bytes32 digest = _rotateDigest(device, newSigner, deadline);
        _requireCurrentSigner(device, oldSigner, digest, oldSignature);

        _rotate(device, newSigner, deadline, digest, newSignature);
    }

    /* TRANSFER */

    /// @inheritdoc IDeviceRegistry
    function transfer(bytes32 device, address newOwner) external {
        address owner = _requireOwner(device);
        require(!_devices[device].revoked, DeviceAlreadyRevoked(device));
        require(newOwner != address(0), DeviceOwnerZero(device));

        uint16 epoch = _raiseEpoch(device);
        _devices[device].owner = newOwner;
        emit DeviceTransferred(device, owner, newOwner, epoch);
    }

    /* REVOKE */

    /// @inheritdoc IDeviceRegistry
    function revoke(bytes32 device) external {
        _requireOwner(device);
        require(!_devices[device].revoked, DeviceAlreadyRevoked(device));

        _revoke(device);
    }

    /// @inheritdoc IDeviceRegistry
    function revokeSigned(bytes32 device, bytes calldata signer, bytes calldata signature) external {
        bytes32 structHash = keccak256(abi.encode(REVOKE_TYPEHASH, device, _devices[device].epoch));
        _requireCurrentSigner(device, signer, _hashTypedDataV4(structHash), signature);

        _revoke(device);
    }

    /* LOOK-UPS */

    /// @inheritdoc IDeviceRegistry
    function ownerOf(bytes32 device) external view returns (address) {
        return _devices[device].owner;
    }

    /// @inheritdoc IDeviceRegistry
    function epochOf(bytes32 device) external view returns (uint16) {
        return _devices[device].epoch;
    }

    /// @inheritdoc IDeviceRegistry
    function registeredAt(bytes32 device) external view returns (uint40) {
        return _devices[device].registeredAt;
    }

    /// @inheritdoc IDeviceRegistry
    function isRevoked(bytes32 device) external view returns (bool) {
        return _devices[device].revoked;
    }

    /// @inheritdoc IDeviceRegistry
    function signerOf(bytes32 device) external view returns (bytes32 key) {
        return _currentKey(device);
    }

    /// @inheritdoc IDeviceRegistry
    function windowOf(bytes32 device, bytes32 key) public view returns (uint40 from, uint40 until) {
        Key storage record = _keys[key];
        bytes32 holder = record.device;
        if (holder == bytes32(0) && key == device) {
            until = record.until;
        } else if (holder != bytes32(0) && holder == device) {
            (from, until) = (record.from, record.until);
        } else if (key == device) {
            until = record.from;
        } else {
            return (0, 0);
        }
        if (until == 0) until = FOREVER;
    }

    /// @inheritdoc IDeviceRegistry
    function isSignerAt(bytes32 device, bytes calldata signer, uint64 time) external view returns (bool) {
        (uint40 from, uint40 until) = windowOf(device, keccak256(signer));
        return from <= time && time < until && DeviceSigner.isSupported(signer, p256Verifier);
    }

    /* SESSIONS */

    /// @inheritdoc IDeviceRegistry
    function isSessionValid(Session calldata session, bytes calldata signer, bytes calldata signature, uint32 scope)
        external
        view
        returns (bool)
    {
        bool isCurrent = keccak256(signer) == _currentKey(session.device)
            && session.epoch == _devices[session.device].epoch && block.timestamp <= session.notAfter;
        bool isInScope = scope != 0 && session.scope & scope == scope;
        return isCurrent && isInScope && DeviceSigner.isValid(signer, _sessionDigest(session), signature, p256Verifier);
    }

    /* INTERNAL */

    function _register(
        Registration calldata registration,
        bytes memory signer,
        bytes calldata signature,
        string calldata uri
    ) private {
        bytes32 device = registration.device;
        Device storage record = _devices[device];
        require(record.owner == address(0), DeviceAlreadyRegistered(device, record.owner));
        require(!record.revoked, DeviceAlreadyRevoked(device));
        require(_keys[device].device == bytes32(0), SignerAlreadyUsed(device, device));
        require(registration.owner != address(0), DeviceOwnerZero(device));
        require(keccak256(signer) == device, DeviceIdMismatch(device, keccak256(signer)));
        _requireSigned(device, signer, registration.deadline, 0, _registerDigest(registration), signature);

        record.owner = registration.owner;
        record.registeredAt = uint40(block.timestamp);
        emit DeviceRegistered(device, registration.owner, signer, registration.metadata, uri);
    }

    function _rotate(
        bytes32 device,
        bytes memory newSigner,
        uint40 deadline,
        bytes32 digest,
        bytes calldata newSignature
    ) private {
        bytes32 newKey = keccak256(newSigner);
        require(!_devices[device].revoked, DeviceAlreadyRevoked(device));
        require(!_wasEverUsed(newKey), SignerAlreadyUsed(device, newKey));
        _requireSigned(device, newSigner, deadline, _devices[device].epoch, digest, newSignature);

        _keys[_currentKey(device)].until = uint40(block.timestamp);
        _keys[newKey] = Key({ device: device, from: uint40(block.timestamp), until: 0 });
        _rotatedTo[device] = newKey;
        emit DeviceRotated(device, _raiseEpoch(device), newSigner);
    }

    /// @dev The last epoch is not raised again, so that a device can be revoked whatever was done to it before; nothing of
    /// a revoked device's is accepted, so nothing can be replayed.
    function _revoke(bytes32 device) private {
        Device storage record = _devices[device];
        _keys[_currentKey(device)].until = uint40(block.timestamp);
        record.revoked = true;
        if (record.epoch != type(uint16).max) ++record.epoch;
        emit DeviceRevoked(device, record.epoch);
    }

    function _raiseEpoch(bytes32 device) private returns (uint16 epoch) {
        epoch = _devices[device].epoch;
        require(epoch != type(uint16).max, DeviceEpochExhausted(device));
        _devices[device].epoch = ++epoch;
    }

    function _requireOwner(bytes32 device) private view returns (address owner) {
        owner = _devices[device].owner;
        require(owner != address(0), DeviceNotRegistered(device));
        require(_msgSender() == owner, DeviceCallerNotOwner(device, _msgSender(), owner));
    }

    function _requireCurrentSigner(bytes32 device, bytes memory signer, bytes32 digest, bytes calldata signature)
        private
        view
    {
        require(!_devices[device].revoked, DeviceAlreadyRevoked(device));
        bytes32 key = keccak256(signer);
        bytes32 current = _currentKey(device);
        require(key == current, SignerNotCurrent(device, key, current));
        require(
            DeviceSigner.isValid(signer, digest, signature, p256Verifier),
            DeviceSignatureInvalid(device, key, _devices[device].epoch)
        );
    }

    function _requireSigned(
        bytes32 device,
        bytes memory signer,
        uint40 deadline,
        uint16 epoch,
        bytes32 digest,
        bytes calldata signature
    ) private view {
        require(block.timestamp < deadline, DeviceMessageExpired(device, deadline, block.timestamp));
        require(DeviceSigner.isSupported(signer, p256Verifier), SignerNotSupported(device, signer));
        require(
            DeviceSigner.isValid(signer, digest, signature, p256Verifier),
            DeviceSignatureInvalid(device, keccak256(signer), epoch)
        );
    }

    /// @dev Zero where the device is revoked, or where it was never registered and its genesis key went to another device.
    function _currentKey(bytes32 device) private view returns (bytes32 key) {
        if (_devices[device].revoked) return bytes32(0);
        key = _rotatedTo[device];
        if (key == bytes32(0) && _keys[device].device == bytes32(0)) key = device;
    }

    function _wasEverUsed(bytes32 key) private view returns (bool) {
        return _devices[key].owner != address(0) || _devices[key].revoked || _keys[key].device != bytes32(0);
    }

    function _registerDigest(Registration calldata registration) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    REGISTER_TYPEHASH,
                    registration.device,
                    registration.owner,
                    registration.metadata,
                    registration.deadline
                )
            )
        );
    }

    function _rotateDigest(bytes32 device, bytes calldata newSigner, uint40 deadline) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(abi.encode(ROTATE_TYPEHASH, device, keccak256(newSigner), _devices[device].epoch, deadline))
        );
    }

    function _sessionDigest(Session calldata session) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    SESSION_TYPEHASH,
                    session.device,
                    session.sessionSigner,
                    session.notAfter,
                    session.scope,
                    session.epoch
                )
            )
        );
    }
}
