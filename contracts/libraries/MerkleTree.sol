// SPDX-License-Identifier: MIT
pragma solidity 0.8.36;

/// @title MerkleTree
/// @notice Verifies inclusion proofs in Merkle trees of the RFC 6962 shape, hashed with keccak256.
/// @dev
/// MODEL. `node = keccak256(0x01 ‖ left ‖ right)`; the left child of n > 1 leaves holds the greatest power of two below n
/// of them; nothing is duplicated or padded. A leaf comes in hashed; its caller hashes it in a way that no node is
/// hashed (a prefix 0x00, or another length), so that an inner node never passes for a leaf.
///
/// PROOFS are verified by index and size (RFC 9162, section 2.1.3.2): a proof has exactly the length that the place in
/// the tree calls for, and stands for that place alone.
library MerkleTree {
    /// @notice Whether the leaf at `index` of a tree of `size` leaves with `root` is `leaf`.
    function verify(bytes32 leaf, uint256 index, uint256 size, bytes32 root, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 last = size - 1;
        bytes32 hash = leaf;
        for (uint256 i = 0; i < proof.length; ++i) {
            if (last == 0) return false;
            if (index & 1 == 1 || index == last) {
                hash = node(proof[i], hash);
                while (index & 1 == 0 && index != 0) {
                    index >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(hash, proof[i]);
            }
            index >>= 1;
            last >>= 1;
        }
        return last == 0 && hash == root;
    }

    /// @notice The hash of an inner node: keccak256(0x01 ‖ left ‖ right).
    function node(bytes32 left, bytes32 right) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let pointer := mload(0x40)
            mstore8(pointer, 0x01)
            mstore(add(pointer, 0x01), left)
            mstore(add(pointer, 0x21), right)
            hash := keccak256(pointer, 0x41)
        }
    }
}
