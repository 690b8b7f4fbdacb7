// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { TestBase, vm } from "./TestBase.sol";
import { P256Verifier } from "contracts/identity/P256Verifier.sol";
import { IDeviceRegistry } from "contracts/interfaces/IDeviceRegistry.sol";

/// @notice A device key of a test: its secret, its signer bytes and their hash.
struct DeviceKey {
    bool isP256;
    uint256 secret;
    bytes signer;
    bytes32 id;
}

/// @title DeviceKeys
/// @notice Keys on both curves, and what they sign.
library DeviceKeys {
    uint256 internal constant P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
    uint256 internal constant SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /// @dev A key from any number: a key of a test is known by its seed.
    function secp256k1(uint256 seed) internal pure returns (DeviceKey memory key) {
        key.secret = 1 + uint256(keccak256(abi.encode("secp256k1", seed))) % (SECP256K1_N - 1);
        key.signer = abi.encodePacked(vm.addr(key.secret));
        key.id = keccak256(key.signer);
    }

    function p256(uint256 seed, address verifier) internal pure returns (DeviceKey memory key) {
        key.isP256 = true;
        key.secret = 1 + uint256(keccak256(abi.encode("p256", seed))) % (P256_N - 1);
        (uint256 x, uint256 y) = vm.publicKeyP256(key.secret);
        key.signer = abi.encodePacked(verifier, x, y);
        key.id = keccak256(key.signer);
    }

    function sign(DeviceKey memory key, bytes32 digest) internal pure returns (bytes memory) {
        bytes32 r;
        bytes32 s;
        if (key.isP256) {
            (r, s) = vm.signP256(key.secret, digest);
            if (uint256(s) > P256_N / 2) s = bytes32(P256_N - uint256(s));
            return abi.encodePacked(r, s);
        }
        uint8 v;
        (v, r, s) = vm.sign(key.secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The other signature of the same key over the same digest, with s in the upper half.
    function mirrored(DeviceKey memory key, bytes memory signature) internal pure returns (bytes memory) {
        bytes32 r;
        bytes32 s;
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
        }
        if (key.isP256) return abi.encodePacked(r, bytes32(P256_N - uint256(s)));
        return
            abi.encodePacked(r, bytes32(SECP256K1_N - uint256(s)), uint8(signature[64]) == 27 ? uint8(28) : uint8(27));
    }
}

/// @title DeviceMessages
/// @notice The digests of the registry's messages, written from the design's text and not from the contract.
library DeviceMessages {
    function register(IDeviceRegistry registry, IDeviceRegistry.Registration memory message)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)");
        return _typed(
            registry, keccak256(abi.encode(typeHash, message.device, message.owner, message.metadata, message.deadline))
        );
    }

    function rotate(IDeviceRegistry registry, bytes32 device, bytes32 newSigner, uint16 epoch, uint40 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)");
        return _typed(registry, keccak256(abi.encode(typeHash, device, newSigner, epoch, deadline)));
    }

    function revoke(IDeviceRegistry registry, bytes32 device, uint16 epoch) internal view returns (bytes32) {
        return _typed(registry, keccak256(abi.encode(keccak256("Revoke(bytes32 device,uint16 epoch)"), device, epoch)));
    }

    function session(IDeviceRegistry registry, IDeviceRegistry.Session memory message) internal view returns (bytes32) {
        bytes32 typeHash =
            keccak256("Session(bytes32 device,bytes32 sessionSigner,uint40 notAfter,uint32 scope,uint16 epoch)");
        return _typed(
            registry,
            keccak256(
                abi.encode(
                    typeHash, message.device, message.sessionSigner, message.notAfter, message.scope, message.epoch
                )
            )
        );
    }

    function _typed(IDeviceRegistry registry, bytes32 structHash) private view returns (bytes32) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain = keccak256(
            abi.encode(typeHash, keccak256("pyiot DeviceRegistry"), keccak256("1"), block.chainid, address(registry))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
