// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceKey, DeviceKeys, DeviceMessages } from "./DeviceRegistryKit.sol";
import { Attempts, vm } from "./TestBase.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @title DeviceRegistryHandler
/// @notice Owners, devices, strangers and thieves who use one registry, and a model of what it must answer.
/// @dev The model keeps, for each device, the list of its signers' tenures; every key starts with one as the genesis of a
/// device of its own, from the beginning of time. Nothing in it looks like the contract's storage.
contract DeviceRegistryHandler is Attempts {
    using DeviceKeys for DeviceKey;
    using DeviceMessages for IDeviceRegistry;

    struct Tenure {
        uint256 key;
        uint256 from;
        uint256 until;
    }

    struct Model {
        address owner;
        uint256 registeredAt;
        uint16 epoch;
        bool isRevoked;
        uint256 revokedAt;
    }

    struct KeptSession {
        IDeviceRegistry.Session session;
        uint256 key;
        bytes signature;
    }

    enum Kind {
        Rotate,
        RotateSigned,
        Revoke
    }

    struct KeptMessage {
        Kind kind;
        bytes32 device;
        uint16 epoch;
        uint256 newKey;
        uint256 oldKey;
        uint40 deadline;
    }

    uint256 internal constant ACTORS = 4;
    uint256 internal constant NEVER = type(uint40).max;

    IDeviceRegistry public immutable registry;

    DeviceKey[] internal _keys;
    Tenure[][] internal _tenures;
    Model[] internal _models;
    mapping(bytes32 id => uint256 index) public indexOf;
    mapping(uint256 key => bool isUsed) public everUsed;
    uint256[] internal _registered;
    KeptSession[] internal _sessions;
    KeptMessage[] internal _messages;

    /// @notice What a device's key signed: keccak256 of device, owner and metadata.
    mapping(bytes32 consent => bool isGiven) public hasConsented;

    /// @notice The owner and metadata with which a device came to be registered.
    mapping(bytes32 device => bytes32 consent) public registeredWith;

    /// @notice The device that the last call was about.
    uint256 public lastTouched;

    constructor(DeviceRegistry registry_) {
        registry = registry_;
        for (uint256 i = 0; i < 4; ++i) {
            _newKey();
        }
    }

    /* REGISTER */

    function register(uint256 seed) public {
        seed = _mixed(seed);
        uint256 key = _newKey();
        _register(seed, _message(key, seed), key, _actor(seed >> 8));
    }

    function registerWithForgedOwner(uint256 seed) external {
        seed = _mixed(seed);
        uint256 key = _newKey();
        IDeviceRegistry.Registration memory message = _message(key, seed);
        bytes memory signature = _consent(key, message);
        message.owner = address(uint160(message.owner) + 1);
        _expectUnsigned(key, message, signature);
    }

    function registerWithForgedMetadata(uint256 seed) external {
        seed = _mixed(seed);
        uint256 key = _newKey();
        IDeviceRegistry.Registration memory message = _message(key, seed);
        bytes memory signature = _consent(key, message);
        message.metadata = keccak256(abi.encode(message.metadata));
        _expectUnsigned(key, message, signature);
    }

    function registerSomeoneElsesKey(uint256 seed) external {
        seed = _mixed(seed);
        uint256 key = _newKey();
        uint256 thief = _newKey();
        IDeviceRegistry.Registration memory message = _message(key, seed);
        _expectUnsigned(key, message, _keys[thief].sign(registry.register(message)));
    }

    function registerAgain(uint256 seed) external {
        seed = _mixed(seed);
        uint256 key = seed % _keys.length;
        _register(seed, _message(key, seed), key, _actor(seed >> 8));
    }

    function registerFleet(uint256 seed) external {
        seed = _mixed(seed);
        uint256 count = 1 + seed % 3;
        IDeviceRegistry.RegistrationRow[] memory rows = new IDeviceRegistry.RegistrationRow[](count + 1);
        for (uint256 i = 0; i < count; ++i) {
            uint256 key = _newKey();
            IDeviceRegistry.Registration memory message = _message(key, seed >> i);
            rows[i] = IDeviceRegistry.RegistrationRow(message, _keys[key].signer, _consent(key, message), "");
        }
        rows[count] = rows[0];
        if (_registered.length != 0) {
            uint256 known = _registered[seed % _registered.length];
            IDeviceRegistry.Registration memory message = _message(known, seed);
            message.owner = _models[known].owner;
            rows[count] = IDeviceRegistry.RegistrationRow(message, _keys[known].signer, _consent(known, message), "");
            if (_models[known].isRevoked) {
                bytes memory problem = abi.encodeWithSelector(
                    IDeviceRegistry.DeviceAlreadyRegistered.selector, message.device, message.owner
                );
                attempt(_actor(seed), address(registry), abi.encodeCall(IDeviceRegistry.registerMany, (rows)), problem);
                return;
            }
        }
        (bool ok,) = attempt(_actor(seed), address(registry), abi.encodeCall(IDeviceRegistry.registerMany, (rows)), "");
        for (uint256 i = 0; ok && i < count; ++i) {
            _recordRegistered(indexOf[rows[i].registration.device], rows[i].registration);
        }
    }

    /* ROTATE */

    function rotate(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _rotate(device, _newKey(), _models[device].epoch, _models[device].owner);
    }

    function rotateToSomeKey(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _rotate(device, (seed >> 16) % _keys.length, _models[device].epoch, _models[device].owner);
    }

    function rotateAsStranger(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _rotate(device, _newKey(), _models[device].epoch, _actor(seed >> 16));
    }

    function rotateSigned(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _rotateSigned(device, _newKey(), _lastKey(device), _models[device].epoch, _deadline());
    }

    function rotateSignedByOldKey(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        uint256 past = _tenures[device][(seed >> 16) % _tenures[device].length].key;
        _rotateSigned(device, _newKey(), past, _models[device].epoch, _deadline());
    }

    /* TRANSFER */

    function transfer(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _transfer(device, _actor(seed >> 16), _models[device].owner);
    }

    function transferAsStranger(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        _transfer(device, _actor(seed >> 16), _actor(seed >> 24));
    }

    /* REVOKE */

    function revoke(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        address sender = seed % 8 == 0 ? _actor(seed >> 16) : _models[device].owner;
        bytes memory problem = _ownerProblem(device, sender);
        if (problem.length == 0) problem = _revokedProblem(device);
        bytes memory data = abi.encodeCall(IDeviceRegistry.revoke, (_keys[device].id));
        (bool ok,) = attempt(sender, address(registry), data, problem);
        if (ok) _recordRevoked(device);
    }

    function revokeSigned(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = seed % _keys.length;
        uint256 key = seed % 4 == 0 ? (seed >> 16) % _keys.length : _lastKey(device);
        _revokeSigned(device, key, _models[device].epoch);
    }

    /* MESSAGES THAT ARE KEPT AND SENT LATER */

    function keepMessage(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        Kind kind = Kind((seed >> 8) % 3);
        uint256 newKey = kind == Kind.Revoke ? 0 : _newKey();
        _messages.push(
            KeptMessage(kind, _keys[device].id, _models[device].epoch, newKey, _lastKey(device), _deadline())
        );
    }

    function sendKeptMessage(uint256 seed) external {
        seed = _mixed(seed);
        require(_messages.length != 0, NothingToDo());
        KeptMessage memory kept = _messages[seed % _messages.length];
        uint256 device = indexOf[kept.device];
        if (kept.kind == Kind.Rotate) _rotate(device, kept.newKey, kept.epoch, _models[device].owner);
        if (kept.kind == Kind.RotateSigned) {
            _rotateSigned(device, kept.newKey, kept.oldKey, kept.epoch, kept.deadline);
        }
        if (kept.kind == Kind.Revoke) _revokeSigned(device, kept.oldKey, kept.epoch);
    }

    function openSession(uint256 seed) external {
        seed = _mixed(seed);
        uint256 device = _someDevice(seed);
        uint256 key = _lastKey(device);
        IDeviceRegistry.Session memory session = IDeviceRegistry.Session({
            device: _keys[device].id,
            sessionSigner: keccak256(abi.encode(seed)),
            notAfter: uint40(vm.getBlockTimestamp() + (seed >> 8) % 30 days),
            scope: 1 + uint32((seed >> 32) % 255),
            epoch: _models[device].epoch
        });
        _sessions.push(KeptSession(session, key, _keys[key].sign(registry.session(session))));
    }

    /* TIME */

    function passTime(uint256 seed) external {
        seed = _mixed(seed);
        vm.warp(vm.getBlockTimestamp() + seed % 3 days);
    }

    /* WHAT THE INVARIANTS READ */

    function keyCount() external view returns (uint256) {
        return _keys.length;
    }

    function keyAt(uint256 index) external view returns (DeviceKey memory) {
        return _keys[index];
    }

    function ids() external view returns (bytes32[] memory list) {
        list = new bytes32[](_keys.length);
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = _keys[i].id;
        }
    }

    function modelAt(uint256 index) external view returns (Model memory) {
        return _models[index];
    }

    function tenuresAt(uint256 index) external view returns (Tenure[] memory) {
        return _tenures[index];
    }

    function sessionCount() external view returns (uint256) {
        return _sessions.length;
    }

    function sessionAt(uint256 index) external view returns (KeptSession memory) {
        return _sessions[index];
    }

    function registeredCount() external view returns (uint256) {
        return _registered.length;
    }

    /// @notice Whether the model says that `key` signs for `device` at `time`.
    function isSignerAt(uint256 device, uint256 key, uint256 time) public view returns (bool) {
        for (uint256 i = 0; i < _tenures[device].length; ++i) {
            Tenure storage tenure = _tenures[device][i];
            if (tenure.key == key && tenure.from <= time && time < tenure.until) return true;
        }
        return false;
    }

    /* ATTEMPTS WITH THEIR PREDICTIONS */

    function _register(uint256 seed, IDeviceRegistry.Registration memory message, uint256 key, address sender) private {
        bytes memory problem = _registerProblem(key);
        bytes memory data = abi.encodeCall(
            IDeviceRegistry.register,
            (message, _keys[key].signer, _consent(key, message), seed % 2 == 0 ? "" : "ipfs://x")
        );
        (bool ok,) = attempt(sender, address(registry), data, problem);
        if (ok) _recordRegistered(key, message);
    }

    function _expectUnsigned(uint256 key, IDeviceRegistry.Registration memory message, bytes memory signature) private {
        bytes memory problem =
            abi.encodeWithSelector(IDeviceRegistry.DeviceSignatureInvalid.selector, message.device, message.device, 0);
        attempt(
            message.owner,
            address(registry),
            abi.encodeCall(IDeviceRegistry.register, (message, _keys[key].signer, signature, "")),
            problem
        );
    }

    function _rotate(uint256 device, uint256 newKey, uint16 epoch, address sender) private {
        uint40 deadline = _deadline();
        bytes memory signature =
            _keys[newKey].sign(registry.rotate(_keys[device].id, _keys[newKey].id, epoch, deadline));
        bytes memory problem = _ownerProblem(device, sender);
        if (problem.length == 0) problem = _newKeyProblem(device, newKey, epoch);
        bytes memory data =
            abi.encodeCall(IDeviceRegistry.rotate, (_keys[device].id, _keys[newKey].signer, deadline, signature));
        (bool ok,) = attempt(sender, address(registry), data, problem);
        if (ok) _recordRotated(device, newKey);
    }

    function _rotateSigned(uint256 device, uint256 newKey, uint256 oldKey, uint16 epoch, uint40 deadline) private {
        bytes32 digest = registry.rotate(_keys[device].id, _keys[newKey].id, epoch, deadline);
        bytes memory problem = _models[device].owner == address(0)
            ? abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, _keys[device].id)
            : _currentKeyProblem(device, oldKey, epoch);
        if (problem.length == 0) problem = _newKeyProblem(device, newKey, epoch);
        if (problem.length == 0 && deadline <= vm.getBlockTimestamp()) {
            problem = abi.encodeWithSelector(
                IDeviceRegistry.DeviceMessageExpired.selector, _keys[device].id, deadline, vm.getBlockTimestamp()
            );
        }
        bytes memory data = abi.encodeCall(
            IDeviceRegistry.rotateSigned,
            (
                _keys[device].id,
                _keys[newKey].signer,
                deadline,
                _keys[newKey].sign(digest),
                _keys[oldKey].signer,
                _keys[oldKey].sign(digest)
            )
        );
        (bool ok,) = attempt(_actor(newKey), address(registry), data, problem);
        if (ok) _recordRotated(device, newKey);
    }

    function _transfer(uint256 device, address newOwner, address sender) private {
        bytes memory problem = _ownerProblem(device, sender);
        if (problem.length == 0) problem = _revokedProblem(device);
        bytes memory data = abi.encodeCall(IDeviceRegistry.transfer, (_keys[device].id, newOwner));
        (bool ok,) = attempt(sender, address(registry), data, problem);
        if (!ok) return;
        _models[device].owner = newOwner;
        ++_models[device].epoch;
        lastTouched = device;
    }

    function _revokeSigned(uint256 device, uint256 key, uint16 epoch) private {
        bytes memory problem = _currentKeyProblem(device, key, epoch);
        bytes memory data = abi.encodeCall(
            IDeviceRegistry.revokeSigned,
            (_keys[device].id, _keys[key].signer, _keys[key].sign(registry.revoke(_keys[device].id, epoch)))
        );
        (bool ok,) = attempt(_actor(key), address(registry), data, problem);
        if (!ok) return;
        everUsed[device] = true;
        _recordRevoked(device);
    }

    /* PREDICTIONS, IN THE ORDER OF THE GUARDS */

    function _registerProblem(uint256 key) private view returns (bytes memory) {
        Model storage model = _models[key];
        bytes32 id = _keys[key].id;
        if (model.owner != address(0)) {
            return abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRegistered.selector, id, model.owner);
        }
        if (model.isRevoked) return abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, id);
        if (everUsed[key]) return abi.encodeWithSelector(IDeviceRegistry.SignerAlreadyUsed.selector, id, id);
        return "";
    }

    function _ownerProblem(uint256 device, address sender) private view returns (bytes memory) {
        address owner = _models[device].owner;
        bytes32 id = _keys[device].id;
        if (owner == address(0)) return abi.encodeWithSelector(IDeviceRegistry.DeviceNotRegistered.selector, id);
        if (sender == owner) return "";
        return abi.encodeWithSelector(IDeviceRegistry.DeviceCallerNotOwner.selector, id, sender, owner);
    }

    function _revokedProblem(uint256 device) private view returns (bytes memory) {
        if (!_models[device].isRevoked) return "";
        return abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyRevoked.selector, _keys[device].id);
    }

    function _currentKeyProblem(uint256 device, uint256 key, uint16 epoch) private view returns (bytes memory problem) {
        problem = _revokedProblem(device);
        if (problem.length != 0) return problem;
        Tenure storage last = _tenures[device][_tenures[device].length - 1];
        bytes32 current = last.until == NEVER ? _keys[last.key].id : bytes32(0);
        if (_keys[key].id != current) {
            return abi.encodeWithSelector(
                IDeviceRegistry.SignerNotCurrent.selector, _keys[device].id, _keys[key].id, current
            );
        }
        if (epoch == _models[device].epoch) return "";
        return _signatureProblem(device, key);
    }

    function _newKeyProblem(uint256 device, uint256 newKey, uint16 epoch) private view returns (bytes memory problem) {
        problem = _revokedProblem(device);
        if (problem.length != 0) return problem;
        if (everUsed[newKey]) {
            return
                abi.encodeWithSelector(IDeviceRegistry.SignerAlreadyUsed.selector, _keys[device].id, _keys[newKey].id);
        }
        return epoch == _models[device].epoch ? bytes("") : _signatureProblem(device, newKey);
    }

    function _signatureProblem(uint256 device, uint256 key) private view returns (bytes memory) {
        return abi.encodeWithSelector(
            IDeviceRegistry.DeviceSignatureInvalid.selector, _keys[device].id, _keys[key].id, _models[device].epoch
        );
    }

    /* THE MODEL */

    function _recordRegistered(uint256 key, IDeviceRegistry.Registration memory message) private {
        _models[key].owner = message.owner;
        _models[key].registeredAt = vm.getBlockTimestamp();
        everUsed[key] = true;
        registeredWith[message.device] = _consentOf(message);
        _registered.push(key);
        lastTouched = key;
    }

    function _recordRotated(uint256 device, uint256 newKey) private {
        uint256 time = vm.getBlockTimestamp();
        _lastTenure(device).until = time;
        _lastTenure(newKey).until = time;
        _tenures[device].push(Tenure(newKey, time, NEVER));
        everUsed[newKey] = true;
        ++_models[device].epoch;
        lastTouched = device;
    }

    function _recordRevoked(uint256 device) private {
        _lastTenure(device).until = vm.getBlockTimestamp();
        _models[device].isRevoked = true;
        _models[device].revokedAt = vm.getBlockTimestamp();
        ++_models[device].epoch;
        lastTouched = device;
    }

    function _newKey() private returns (uint256 index) {
        index = _keys.length;
        address verifier = registry.p256Verifier();
        _keys.push(index % 4 == 3 ? DeviceKeys.p256(index, verifier) : DeviceKeys.secp256k1(index));
        indexOf[_keys[index].id] = index;
        _models.push();
        _tenures.push();
        _tenures[index].push(Tenure(index, 0, NEVER));
    }

    function _consent(uint256 key, IDeviceRegistry.Registration memory message) private returns (bytes memory) {
        hasConsented[_consentOf(message)] = true;
        return _keys[key].sign(registry.register(message));
    }

    function _consentOf(IDeviceRegistry.Registration memory message) private pure returns (bytes32) {
        return keccak256(abi.encode(message.device, message.owner, message.metadata));
    }

    function _message(uint256 key, uint256 seed) private view returns (IDeviceRegistry.Registration memory) {
        return IDeviceRegistry.Registration(_keys[key].id, _actor(seed), keccak256(abi.encode(seed)), _deadline());
    }

    function _lastTenure(uint256 device) private view returns (Tenure storage) {
        return _tenures[device][_tenures[device].length - 1];
    }

    function _lastKey(uint256 device) private view returns (uint256) {
        return _lastTenure(device).key;
    }

    /// @dev A registered device; nine times in ten one that is not revoked, where there is one.
    function _someDevice(uint256 seed) private view returns (uint256 device) {
        if (_registered.length == 0) return seed % _keys.length;
        uint256 start = (seed >> 40) % _registered.length;
        for (uint256 i = 0; i < _registered.length; ++i) {
            device = _registered[(start + i) % _registered.length];
            if (!_models[device].isRevoked || (seed >> 72) % 10 == 0) return device;
        }
    }

    /// @dev Forge likes small numbers; every part of the seed shall vary.
    function _mixed(uint256 seed) private view returns (uint256) {
        return uint256(keccak256(abi.encode(seed, _keys.length, _messages.length, _sessions.length)));
    }

    function _actor(uint256 seed) private pure returns (address) {
        return address(uint160(0xA0000 + 0x100 * (seed % ACTORS)));
    }

    function _deadline() private view returns (uint40) {
        return uint40(vm.getBlockTimestamp() + 1 hours);
    }
}
