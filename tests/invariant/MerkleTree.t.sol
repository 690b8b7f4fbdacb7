// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

import { Sealing } from "./DataMarketKit.sol";
import { TestBase } from "./TestBase.sol";
import { MerkleTree } from "contracts/libraries/MerkleTree.sol";

/// @title MerkleTreeTest
/// @notice The verifier against a tree built from RFC 6962's recursive definition.
contract MerkleTreeTest is TestBase {
    /// @dev Every size to 33 with every index: all shapes of a level up to six levels deep.
    function test_verify__when_proof_is_by_definition__accepts_every_index_of_every_size() public view {
        for (uint256 size = 1; size <= 33; ++size) {
            bytes32[] memory hashes = _leaves(size, 0);
            bytes32 root = Sealing.rootOf(hashes, 0, size);
            for (uint256 index = 0; index < size; ++index) {
                bytes32[] memory proof = Sealing.proofOf(hashes, index, 0, size);
                assertTrue(this.verify(hashes[index], index, size, root, proof), "proof");
            }
        }
    }

    function testFuzz_verify__when_tree_is_any__accepts_its_own_proofs(uint256 seed, uint256 size, uint256 index)
        public
        view
    {
        (size, index) = _place(size, index);
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        assertTrue(this.verify(hashes[index], index, size, root, proof), "proof");
    }

    function testFuzz_verify__when_index_is_another__refuses(uint256 seed, uint256 size, uint256 index, uint256 other)
        public
        view
    {
        (size, index) = _place(size, index);
        if (other == index) other ^= 1;
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        assertFalse(this.verify(hashes[index], other, size, root, proof), "any other index");
        assertFalse(this.verify(hashes[index], index + (1 << (other % 200)), size, root, proof), "plus a power of two");
    }

    /// @dev A proof fixes the size too, but for sizes in which the leaf's path has the same turns.
    function testFuzz_verify__when_size_does_not_hold_the_index__refuses(
        uint256 seed,
        uint256 size,
        uint256 index,
        uint256 smaller
    ) public view {
        (size, index) = _place(size, index);
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        assertFalse(this.verify(hashes[index], index, bound(smaller, 0, index), root, proof), "size");
    }

    function testFuzz_verify__when_proof_is_longer_or_shorter__refuses(uint256 seed, uint256 size, uint256 index)
        public
        view
    {
        (size, index) = _place(size, index);
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        bytes32[] memory longer = new bytes32[](proof.length + 1);
        for (uint256 i = 0; i < proof.length; ++i) {
            longer[i] = proof[i];
        }
        assertFalse(this.verify(hashes[index], index, size, root, longer), "longer");
        bytes32 above = keccak256(abi.encodePacked(hex"01", root, bytes32(0)));
        assertFalse(this.verify(hashes[index], index, size, above, longer), "longer, to a root above the root");
        if (proof.length == 0) return;
        bytes32[] memory shorter = new bytes32[](proof.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) {
            shorter[i] = proof[i];
        }
        assertFalse(this.verify(hashes[index], index, size, root, shorter), "shorter");
    }

    function testFuzz_verify__when_an_inner_node_stands_for_a_leaf__refuses(uint256 seed, uint256 size, uint256 index)
        public
        view
    {
        (size, index) = _place(bound(size, 2, 300), index);
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        bytes32 parent = index & 1 == 1
            ? keccak256(abi.encodePacked(hex"01", proof[0], hashes[index]))
            : keccak256(abi.encodePacked(hex"01", hashes[index], proof[0]));
        bytes32[] memory rest = new bytes32[](proof.length - 1);
        for (uint256 i = 0; i < rest.length; ++i) {
            rest[i] = proof[i + 1];
        }
        assertFalse(this.verify(parent, index / 2, size, root, rest), "inner node");
        assertFalse(this.verify(parent, index, size, root, rest), "inner node at its leaf's index");
        assertFalse(this.verify(root, 0, size, root, new bytes32[](0)), "the root");
    }

    function testFuzz_verify__when_a_hash_is_changed__refuses(uint256 seed, uint256 size, uint256 index, uint256 bit)
        public
        view
    {
        (size, index) = _place(size, index);
        (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof) = _proof(seed, size, index);
        bytes32 flip = bytes32(uint256(1) << (bit % 256));
        assertFalse(this.verify(hashes[index] ^ flip, index, size, root, proof), "leaf");
        assertFalse(this.verify(hashes[index], index, size, root ^ flip, proof), "root");
        if (proof.length == 0) return;
        proof[bit % proof.length] ^= flip;
        assertFalse(this.verify(hashes[index], index, size, root, proof), "sibling");
    }

    /* HELP */

    function verify(bytes32 leaf, uint256 index, uint256 size, bytes32 root, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return MerkleTree.verify(leaf, index, size, root, proof);
    }

    function _place(uint256 size, uint256 index) private pure returns (uint256, uint256) {
        size = bound(size, 1, 300);
        return (size, bound(index, 0, size - 1));
    }

    function _proof(uint256 seed, uint256 size, uint256 index)
        private
        pure
        returns (bytes32[] memory hashes, bytes32 root, bytes32[] memory proof)
    {
        hashes = _leaves(size, seed);
        root = Sealing.rootOf(hashes, 0, size);
        proof = Sealing.proofOf(hashes, index, 0, size);
    }

    function _leaves(uint256 size, uint256 seed) private pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            hashes[i] = keccak256(abi.encode(seed, i));
        }
    }
}
