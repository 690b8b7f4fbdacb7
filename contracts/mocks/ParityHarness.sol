// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { KeyRelease } from "contracts/libraries/KeyRelease.sol";
import { MerkleTree } from "contracts/libraries/MerkleTree.sol";
import { FraudProof } from "contracts/market/FraudProof.sol";

/// @title ParityHarness
/// @notice Opens the suite's libraries to tests that hold them equal to the Python reference.
contract ParityHarness {
    function isPublicKey(uint256 x, uint256 y) external pure returns (bool) {
        return KeyRelease.isPublicKey(x, y);
    }

    function isRelease(uint256 releasedKey, uint256 x, uint256 y, address mask) external pure returns (bool) {
        return KeyRelease.isRelease(releasedKey, x, y, mask);
    }

    function isContentKey(uint256 contentKey, uint256 x, uint256 y) external pure returns (bool) {
        return KeyRelease.isContentKey(contentKey, x, y);
    }

    function verify(bytes32 leaf, uint256 index, uint256 size, bytes32 root, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return MerkleTree.verify(leaf, index, size, root, proof);
    }

    function decrypt(uint256 contentKey, uint256 index, bytes calldata sealedLeaf)
        external
        view
        returns (bytes memory)
    {
        return FraudProof.decrypt(contentKey, index, sealedLeaf);
    }

    function sealedLeafHash(uint256 index, bytes calldata sealedLeaf, bytes32 leafHash)
        external
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(uint256(0), index, keccak256(sealedLeaf), leafHash));
    }

    function isFraud(IDataMarket.Offer calldata offer, IDataMarket.Disclosure calldata disclosure)
        external
        view
        returns (bool)
    {
        return FraudProof.isFraud(offer, disclosure);
    }

    function encodeParams(
        bytes calldata signer,
        bytes32 device,
        bytes32 schema,
        uint64 seq0,
        uint64 t0,
        uint64 t1,
        int128[] calldata min,
        int128[] calldata max
    ) external pure returns (bytes memory) {
        return abi.encode(signer, device, schema, seq0, t0, t1, min, max);
    }

    function encodeSummary(
        bytes32 device,
        uint64 firstTime,
        uint64 lastTime,
        uint32 rows,
        string calldata title,
        string[] calldata tags
    ) external pure returns (bytes memory) {
        return abi.encode(device, firstTime, lastTime, rows, title, tags);
    }

    function maskScalar(
        uint256 chainId,
        address market,
        bytes32 saleId,
        address buyer,
        uint256 sharedX,
        uint256 sharedY
    ) external pure returns (uint256) {
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes32 hash = keccak256(abi.encode("pyiot KeyRelease 1", chainId, market, saleId, buyer, sharedX, sharedY));
        return uint256(hash) % order;
    }
}
