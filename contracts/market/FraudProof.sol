// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { IDataMarket } from "contracts/interfaces/IDataMarket.sol";
import { ILeafRule } from "contracts/interfaces/ILeafRule.sol";
import { MerkleTree } from "contracts/libraries/MerkleTree.sol";
import { RuleCall } from "contracts/libraries/RuleCall.sol";

/// @title FraudProof
/// @notice Decides whether one disclosed leaf of a sealed data set breaks what its offer promised.
/// @dev
/// SEALING. `K = keccak256(κ)`, `chunkKey_i = keccak256(K ‖ i)`, block j of the keystream is
/// `sha256(chunkKey_i ‖ j)`, `c_i = p_i XOR keystream`, `h_i = keccak256(p_i)`, and the tree's leaf hash is
/// `keccak256(abi.encode(0, i, keccak256(c_i), h_i))`, numbers as 32 bytes.
///
/// FRAUD is one of two things. F1: `keccak256(decrypt(c_i)) != h_i`. F2: the hash is right and the rule says that the
/// leaf violates it (see RuleCall).
///
/// ASSUMPTIONS. The caller checked that the content key is the one of the offer's public key.
library FraudProof {
    /// @notice Whether the disclosed leaf is fraud. Reverts where it is no leaf of the offer.
    function isFraud(IDataMarket.Offer calldata offer, IDataMarket.Disclosure calldata disclosure)
        internal
        view
        returns (bool)
    {
        uint256 index = disclosure.index;
        uint256 leafCount = offer.leafCount;
        bytes calldata sealedLeaf = disclosure.sealedLeaf;
        require(index < leafCount, IDataMarket.LeafIndexTooHigh(index, leafCount));
        bytes32 sealedHash = keccak256(abi.encode(uint256(0), index, keccak256(sealedLeaf), disclosure.leafHash));
        require(
            MerkleTree.verify(sealedHash, index, leafCount, offer.sealedRoot, disclosure.proof),
            IDataMarket.LeafNotInRoot(sealedHash, offer.sealedRoot)
        );

        bytes memory leaf = decrypt(disclosure.contentKey, index, sealedLeaf);
        if (keccak256(leaf) != disclosure.leafHash) return true;
        address rule = offer.rule;
        if (rule == address(0)) return false;

        bytes calldata params = disclosure.ruleParams;
        bytes32 paramsHash = keccak256(params);
        require(paramsHash == offer.ruleParamsHash, IDataMarket.RuleParamsInvalid(paramsHash, offer.ruleParamsHash));
        return RuleCall.violates(rule, abi.encodeCall(ILeafRule.violates, (leaf, index, params)));
    }

    /// @notice The leaf in the clear.
    function decrypt(uint256 contentKey, uint256 index, bytes calldata sealedLeaf)
        internal
        view
        returns (bytes memory leaf)
    {
        leaf = new bytes((sealedLeaf.length + 31) & ~uint256(31));
        assembly ("memory-safe") {
            mstore(0x00, contentKey)
            mstore(0x00, keccak256(0x00, 0x20))
            mstore(0x20, index)
            let chunkKey := keccak256(0x00, 0x40)
            let target := add(leaf, 0x20)
            for { let offset := 0 } lt(offset, sealedLeaf.length) { offset := add(offset, 0x20) } {
                mstore(0x00, chunkKey)
                mstore(0x20, shr(5, offset))
                // A caller who leaves too little gas for the precompile must not turn a good leaf into a bad one.
                if iszero(staticcall(gas(), 0x02, 0x00, 0x40, 0x00, 0x20)) { revert(0x00, 0x00) }
                mstore(add(target, offset), xor(mload(0x00), calldataload(add(sealedLeaf.offset, offset))))
            }
            mstore(leaf, sealedLeaf.length)
        }
    }
}
