// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title ReadingLib
/// @notice The bytes of a reading in a data set, and the digest that its device signed.
/// @dev MODEL. A reading leaf is `seq (8) ‖ time (8) ‖ prev (32) ‖ salt (16) ‖ k values (16 each, int128) ‖ signature`, all
/// numbers big-endian, values in two's complement. The device signs
/// `Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)` with
/// `payload = keccak256(salt ‖ values)`, in a domain without chain or contract: data is the same on every chain.
///
/// UNITS. `time` is Unix milliseconds; a value is a fixed-point number whose scale is in the schema.
///
/// ASSUMPTIONS. The caller has checked the leaf's length.
library ReadingLib {
    uint256 internal constant HEAD_LENGTH = 64;
    uint256 internal constant VALUE_LENGTH = 16;
    uint256 private constant SALT_OFFSET = 48;

    bytes32 internal constant READING_TYPEHASH =
        keccak256("Reading(bytes32 device,uint64 seq,uint64 time,bytes32 schema,bytes32 payload,bytes32 prev)");

    /// @dev keccak256(abi.encode(keccak256("EIP712Domain(string name,string version)"), keccak256("pyiot Reading"),
    /// keccak256("1"))); a test computes it again.
    bytes32 internal constant DOMAIN_SEPARATOR = 0x1c3d6442ae050f9ef88ce1ef3312e157322cd2ca7d0c8d1c245eed96d5638b1b;

    /// @notice Where the values end and the signature begins.
    function signatureOffset(uint256 valueCount) internal pure returns (uint256) {
        return HEAD_LENGTH + VALUE_LENGTH * valueCount;
    }

    function seqOf(bytes calldata leaf) internal pure returns (uint64) {
        return uint64(bytes8(leaf[0:8]));
    }

    function timeOf(bytes calldata leaf) internal pure returns (uint64) {
        return uint64(bytes8(leaf[8:16]));
    }

    function prevOf(bytes calldata leaf) internal pure returns (bytes32) {
        return bytes32(leaf[16:48]);
    }

    /// @notice The value in the schema's field `field`, from 0.
    function valueOf(bytes calldata leaf, uint256 field) internal pure returns (int128 value) {
        // A leaf of 4 KiB holds 248 values, and a dispute reads them all: no bounds are checked twice.
        assembly ("memory-safe") {
            value := sar(128, calldataload(add(leaf.offset, add(HEAD_LENGTH, mul(VALUE_LENGTH, field)))))
        }
    }

    /// @notice The digest that the device signed.
    /// @param device The device's id.
    /// @param schema keccak256 of the canonical schema document.
    /// @param leaf The leaf.
    /// @param valueCount How many values it holds.
    function digestOf(bytes32 device, bytes32 schema, bytes calldata leaf, uint256 valueCount)
        internal
        pure
        returns (bytes32)
    {
        bytes32 payload = keccak256(leaf[SALT_OFFSET:signatureOffset(valueCount)]);
        bytes32 structHash =
            keccak256(abi.encode(READING_TYPEHASH, device, seqOf(leaf), timeOf(leaf), schema, payload, prevOf(leaf)));
        return keccak256(abi.encodePacked(hex"1901", DOMAIN_SEPARATOR, structHash));
    }
}
