// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { DataMarketKit, DataSet, Device } from "./DataMarketKit.sol";
import { vm } from "./TestBase.sol";

/// @notice What one reading says, before its device signs it.
struct ReadingData {
    uint64 seq;
    uint64 time;
    bytes32 prev;
    bytes16 salt;
    int128 value;
}

/// @title DataMarketReadings
/// @notice Signed readings with one value as leaves, from the design's text; times in milliseconds.
abstract contract DataMarketReadings is DataMarketKit {
    uint64 internal constant SEQ0 = 1000;
    uint64 internal constant T0 = 1_690_000_000_000;
    uint64 internal constant T1 = T0 + 3_600_000;
    int128 internal constant MINIMUM = -50_000;
    int128 internal constant MAXIMUM = 50_000;
    bytes32 internal constant SCHEMA = keccak256("schema");

    function secp256k1Device(uint256 secret) internal pure returns (Device memory device) {
        device.secret = secret;
        device.signer = abi.encodePacked(vm.addr(secret));
        device.id = keccak256(device.signer);
    }

    function p256Device(uint256 secret) internal view returns (Device memory device) {
        device.isP256 = true;
        device.secret = secret;
        (uint256 x, uint256 y) = vm.publicKeyP256(secret);
        device.signer = abi.encodePacked(address(verifier), x, y);
        device.id = keccak256(device.signer);
    }

    function deviceOf(bool isP256) internal view returns (Device memory) {
        return isP256 ? p256Device(0xDE71CE) : secp256k1Device(0xDE71CE);
    }

    function paramsOf(Device memory device) internal pure returns (bytes memory) {
        int128[] memory min = new int128[](1);
        int128[] memory max = new int128[](1);
        (min[0], max[0]) = (MINIMUM, MAXIMUM);
        return abi.encode(device.signer, device.id, SCHEMA, SEQ0, T0, T1, min, max);
    }

    function readingAt(uint256 index) internal pure returns (ReadingData memory) {
        return ReadingData({
            seq: SEQ0 + uint64(index),
            time: T0 + uint64(index) * 1000,
            prev: keccak256(abi.encode("prev", index)),
            salt: bytes16(keccak256(abi.encode("salt", index))),
            value: 21_500
        });
    }

    function leafOf(Device memory device, ReadingData memory reading) internal pure returns (bytes memory) {
        bytes32 digest = readingDigest(device.id, reading);
        bytes memory signature = device.isP256 ? signP256(device.secret, digest) : signEcdsa(device.secret, digest);
        return abi.encodePacked(reading.seq, reading.time, reading.prev, reading.salt, reading.value, signature);
    }

    function readingDigest(bytes32 device, ReadingData memory reading) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version)"), keccak256("pyiot Reading"), keccak256("1")
            )
        );
        bytes32 typeHash =
            keccak256("Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)");
        bytes32 payload = keccak256(abi.encodePacked(reading.salt, reading.value));
        bytes32 structHash =
            keccak256(abi.encode(typeHash, device, reading.seq, reading.time, SCHEMA, payload, reading.prev));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// @dev `count` honest readings of a device.
    function readings(Device memory device, uint256 count) internal view returns (DataSet memory) {
        bytes[] memory leaves = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = leafOf(device, readingAt(i));
        }
        return sealLeaves(CONTENT_KEY, leaves, address(rule), paramsOf(device));
    }

    /// @dev Sells another leaf at `index`, sealed and committed to as if it were right.
    function swap(DataSet memory set, uint256 index, bytes memory leaf) internal pure returns (DataSet memory) {
        set.leaves[index] = leaf;
        return sealLeaves(set.contentKey, set.leaves, set.rule, set.ruleParams);
    }
}
