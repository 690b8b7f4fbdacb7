// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DeviceRegistryHandler as Handler } from "./DeviceRegistryHandler.sol";
import { DeviceKey } from "./DeviceRegistryKit.sol";
import { TestBase, vm } from "./TestBase.sol";
import { DeviceRegistry } from "contracts/identity/DeviceRegistry.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @title DeviceRegistryInvariants
/// @notice DR-1 to DR-5 of the identity design, after every call of a random history, against the handler's model.
/// forge-config: default.evm_version = "osaka"
contract DeviceRegistryInvariants is TestBase {
    DeviceRegistry internal registry;
    Handler internal handler;

    function setUp() public {
        vm.warp(1_700_000_000);
        registry = new DeviceRegistry(address(new P256Verifier()));
        handler = new Handler(registry);
        targetContract(address(handler));

        bytes4[] memory often = new bytes4[](9);
        often[0] = Handler.register.selector;
        often[1] = Handler.registerFleet.selector;
        often[2] = Handler.rotate.selector;
        often[3] = Handler.rotateSigned.selector;
        often[4] = Handler.transfer.selector;
        often[5] = Handler.revoke.selector;
        often[6] = Handler.keepMessage.selector;
        often[7] = Handler.sendKeptMessage.selector;
        often[8] = Handler.openSession.selector;
        bytes4[] memory seldom = new bytes4[](10);
        seldom[0] = Handler.registerWithForgedOwner.selector;
        seldom[1] = Handler.registerWithForgedMetadata.selector;
        seldom[2] = Handler.registerSomeoneElsesKey.selector;
        seldom[3] = Handler.registerAgain.selector;
        seldom[4] = Handler.rotateToSomeKey.selector;
        seldom[5] = Handler.rotateAsStranger.selector;
        seldom[6] = Handler.rotateSignedByOldKey.selector;
        seldom[7] = Handler.transferAsStranger.selector;
        seldom[8] = Handler.revokeSigned.selector;
        seldom[9] = Handler.passTime.selector;
        targetSelector(address(handler), often);
        targetSelector(address(handler), often);
        targetSelector(address(handler), often);
        targetSelector(address(handler), seldom);
    }

    /// @dev At a run's end every device is checked for everything.
    function afterInvariant() public view {
        for (uint256 device = 0; device < handler.keyCount(); ++device) {
            _checkOwner(device);
            _checkTenures(device);
            _checkConsent(device);
        }
        _checkKeysDiffer();
        for (uint256 i = 0; i < handler.sessionCount(); ++i) {
            _checkSession(i);
        }
    }

    /// @notice DR-1 One owner a device: the one whom registration and transfers gave it.
    function invariant_DR1_oneOwnerADevice() public view {
        _checkNoSurprise();
        _checkOwner(handler.lastTouched());
    }

    /// @notice DR-2 A key is never a signer of two devices, nor twice of one.
    function invariant_DR2_aKeySignsForOneDeviceOnce() public view {
        _checkNoSurprise();
        uint256 device = handler.lastTouched();
        Handler.Tenure[] memory tenures = handler.tenuresAt(device);
        bytes32 id = handler.keyAt(device).id;
        for (uint256 i = 1; i < tenures.length; ++i) {
            bytes32 key = handler.keyAt(tenures[i].key).id;
            (, uint40 until) = registry.windowOf(key, key);
            (uint40 from,) = registry.windowOf(id, key);
            assertLe(until, from, "a key of two devices at one time");
        }
    }

    /// @notice DR-3 Nothing dated at or after a revocation is accepted, everything validly dated before is.
    function invariant_DR3_revocationIsForwardOnly() public view {
        _checkNoSurprise();
        _checkTenures(handler.lastTouched());
    }

    /// @notice DR-4 A session or a message of an old epoch always fails. (Messages: the handler sends kept ones later and
    /// predicts the exact error; a stale one that is taken is a surprise.)
    function invariant_DR4_whatIsOfAnOldEpochFails() public view {
        _checkNoSurprise();
        uint256 count = handler.sessionCount();
        if (count != 0) _checkSession(uint256(keccak256(abi.encode(count, handler.keyCount()))) % count);
    }

    /// @notice DR-5 Nobody registers a device without its key's signature over owner and metadata.
    function invariant_DR5_registrationNeedsTheKeysConsent() public view {
        _checkNoSurprise();
        _checkConsent(handler.lastTouched());
        _checkConsent(handler.keyCount() - 1);
    }

    /* CHECKS */

    function _checkNoSurprise() private view {
        assertEq(handler.surprisingCall(), "", "a call came out other than predicted");
        assertEq(handler.surprisingAnswer(), handler.predictedProblem(), "its answer is not the predicted one");
        assertEq(handler.surprises(), 0, "surprises");
    }

    function _checkOwner(uint256 device) private view {
        Handler.Model memory model = handler.modelAt(device);
        bytes32 id = handler.keyAt(device).id;
        assertEq(registry.ownerOf(id), model.owner, "owner");
        assertEq(registry.registeredAt(id), model.registeredAt, "registeredAt");
        assertEq(registry.epochOf(id), model.epoch, "epoch");
        assertEq(registry.isRevoked(id), model.isRevoked, "isRevoked");
    }

    /// @dev No two devices have one key now, and over all time a key is the genesis of its own device first, in at most
    /// one other afterwards.
    function _checkKeysDiffer() private view {
        bytes32[] memory ids = handler.ids();
        bytes32[] memory current = new bytes32[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            current[i] = registry.signerOf(ids[i]);
            for (uint256 j = 0; j < i; ++j) {
                require(current[i] != current[j] || current[i] == bytes32(0), "one key signs for two devices");
            }
        }
        uint256[] memory homes = new uint256[](ids.length);
        for (uint256 device = 0; device < ids.length; ++device) {
            Handler.Tenure[] memory tenures = handler.tenuresAt(device);
            for (uint256 i = 0; i < tenures.length; ++i) {
                uint256 key = tenures[i].key;
                (uint40 from,) = registry.windowOf(ids[device], ids[key]);
                (, uint40 genesisUntil) = registry.windowOf(ids[key], ids[key]);
                if (key == device) assertEq(from, 0, "a genesis key is valid from the beginning of time");
                else assertLe(genesisUntil, from, "a key of two devices at one time");
                ++homes[key];
            }
        }
        for (uint256 key = 0; key < homes.length; ++key) {
            assertLe(homes[key], 2, "a key that was rotated in twice");
        }
    }

    /// @dev Around each edge of each tenure the registry says what the model says; and after a revocation, never.
    function _checkTenures(uint256 device) private view {
        bytes32 id = handler.keyAt(device).id;
        Handler.Model memory model = handler.modelAt(device);
        Handler.Tenure[] memory tenures = handler.tenuresAt(device);
        for (uint256 i = 0; i < tenures.length; ++i) {
            DeviceKey memory key = handler.keyAt(tenures[i].key);
            uint64[5] memory times = [
                uint64(tenures[i].from),
                uint64(tenures[i].from == 0 ? 0 : tenures[i].from - 1),
                uint64(tenures[i].until - 1),
                uint64(tenures[i].until),
                uint64(block.timestamp)
            ];
            for (uint256 j = 0; j < times.length; ++j) {
                bool isSigner = registry.isSignerAt(id, key.signer, times[j]);
                assertEq(isSigner, handler.isSignerAt(device, tenures[i].key, times[j]), "isSignerAt");
                assertFalse(model.isRevoked && times[j] >= model.revokedAt && isSigner, "dated after the revocation");
            }
        }
    }

    function _checkSession(uint256 index) private view {
        Handler.KeptSession memory kept = handler.sessionAt(index);
        uint32 scope = kept.session.scope;
        DeviceKey memory key = handler.keyAt(kept.key);
        bytes32 device = kept.session.device;
        bool isGood = registry.epochOf(device) == kept.session.epoch && block.timestamp <= kept.session.notAfter
            && handler.isSignerAt(handler.indexOf(device), kept.key, block.timestamp);
        assertEq(registry.isSessionValid(kept.session, key.signer, kept.signature, scope), isGood, "session");
        kept.session.epoch = registry.epochOf(device);
        bool isTaken = registry.isSessionValid(kept.session, key.signer, kept.signature, scope);
        assertEq(isTaken, isGood, "session moved to the present epoch");
    }

    function _checkConsent(uint256 device) private view {
        bytes32 id = handler.keyAt(device).id;
        bool isRegistered = registry.ownerOf(id) != address(0);
        assertEq(isRegistered, handler.hasConsented(handler.registeredWith(id)), "registered without consent");
    }
}
