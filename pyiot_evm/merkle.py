"""The suite's one Merkle tree: RFC 6962's shape, over any hash.

Left-balanced, nothing duplicated: a tree of ``n`` leaves splits at the largest power of two below ``n``. On chain the
hash is Keccak-256; with SHA-256 the same code gives the published RFC 6962 vectors. A proof is checked by index *and*
size (RFC 9162, section 2.1.3.2), so that it holds for one position only.

A tree over a file of a gigabyte is never held in memory: :class:`RootBuilder` keeps one node a level, and
:func:`proof_of` reads the leaves once more.

Example:
    >>> leaves = [KECCAK.leaf(bytes([n])) for n in range(5)]
    >>> tree = MerkleTree(leaves)
    >>> verify_proof(leaves[3], 3, 5, tree.proof(3), tree.root)
    True
    >>> verify_proof(leaves[3], 2, 5, tree.proof(3), tree.root)
    False
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["KECCAK", "SHA256", "MerkleTree", "RootBuilder", "TreeHash", "proof_of", "root_of", "verify_proof"]

HASH_LENGTH = 32


@dataclass(frozen=True, slots=True)
class TreeHash:
    """How leaves and nodes are hashed: RFC 6962's prefixes before any 32-byte hash.

    Args:
        digest: The hash function.
    """

    digest: Callable[[bytes], bytes]

    @property
    def empty(self) -> bytes:
        """The root of a tree without leaves."""
        return self.digest(b"")

    def leaf(self, data: bytes) -> bytes:
        """Return the hash of a leaf's bytes, ``H(0x00 ‖ data)``."""
        return self.digest(b"\x00" + data)

    def node(self, left: bytes, right: bytes) -> bytes:
        """Return the hash of an inner node, ``H(0x01 ‖ left ‖ right)``."""
        return self.digest(b"\x01" + left + right)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


KECCAK = TreeHash(keccak256)
SHA256 = TreeHash(_sha256)


class RootBuilder:
    """A root made leaf by leaf, in memory that grows with the tree's height only.

    Example:
        >>> builder = RootBuilder()
        >>> for n in range(5):
        ...     builder.add(KECCAK.leaf(bytes([n])))
        >>> builder.root() == MerkleTree([KECCAK.leaf(bytes([n])) for n in range(5)]).root
        True
    """

    __slots__ = ("_digest", "_hash", "_peaks", "size")

    def __init__(self, tree_hash: TreeHash = KECCAK) -> None:
        self._hash = tree_hash
        self._digest = tree_hash.digest
        self._peaks: list[bytes] = []
        self.size = 0

    def add(self, leaf_hash: bytes) -> None:
        """Append the hash of the next leaf."""
        self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Append the hashes of the next leaves."""
        digest, peaks, size = self._digest, self._peaks, self.size
        for leaf_hash in leaf_hashes:
            node, rest = leaf_hash, size
            while rest & 1:
                node = digest(b"\x01" + peaks.pop() + node)
                rest >>= 1
            peaks.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the root of the leaves added so far."""
        if not self._peaks:
            return self._hash.empty
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = self._hash.node(peak, node)
        return node


class MerkleTree:
    """A whole tree in memory, for many proofs.

    Args:
        leaf_hashes: The hashes of the leaves, in order.
        tree_hash: The hash of the nodes.
    """

    __slots__ = ("_hash", "_levels")

    def __init__(self, leaf_hashes: Iterable[bytes], tree_hash: TreeHash = KECCAK) -> None:
        self._hash = tree_hash
        self._levels = [list(leaf_hashes)]
        while len(self._levels[-1]) > 1:
            self._levels.append(self._parents(self._levels[-1]))

    def _parents(self, level: list[bytes]) -> list[bytes]:
        node = self._hash.node
        pairs = [node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        return pairs + level[-1:] if len(level) & 1 else pairs

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The root."""
        return self._levels[-1][0] if self._levels[-1] else self._hash.empty

    def proof(self, index: int) -> list[bytes]:
        """Return the siblings from the leaf up to the root.

        Raises:
            InputError: There is no leaf at ``index``.
        """
        _check_index(index, len(self))
        siblings = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index >>= 1
        return siblings


def root_of(leaf_hashes: Iterable[bytes], tree_hash: TreeHash = KECCAK) -> bytes:
    """Return the root over a stream of leaf hashes."""
    builder = RootBuilder(tree_hash)
    builder.extend(leaf_hashes)
    return builder.root()


def proof_of(leaf_hashes: Iterable[bytes], index: int, size: int, tree_hash: TreeHash = KECCAK) -> list[bytes]:
    """Return the proof of one leaf from a stream of all leaf hashes, in memory of the tree's height.

    Args:
        leaf_hashes: The hashes of all leaves, in order; read once, from the first to the last.
        index: The leaf that is proved.
        size: The number of leaves.
        tree_hash: The hash of the nodes.

    Raises:
        InputError: There is no leaf at ``index``, or the stream has not ``size`` leaves.
    """
    _check_index(index, size)
    builders = [(start, end, RootBuilder(tree_hash)) for start, end in _sibling_ranges(index, size)]
    by_start = sorted(builders, key=lambda entry: entry[0])
    count, position = 0, 0
    for count, leaf_hash in enumerate(leaf_hashes, 1):
        while position < len(by_start) and count - 1 >= by_start[position][1]:
            position += 1
        if position < len(by_start) and count - 1 >= by_start[position][0]:
            by_start[position][2].add(leaf_hash)
    if count != size:
        raise InputError(f"the tree has {count} leaves, not {size}")
    return [builder.root() for _, _, builder in builders]


def _sibling_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves below each sibling, from the leaf up to the root."""
    ranges = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def verify_proof(
    leaf_hash: bytes,
    index: int,
    size: int,
    proof: Sequence[bytes],
    root: bytes,
    *,
    tree_hash: TreeHash = KECCAK,
) -> bool:
    """Return whether ``leaf_hash`` is the leaf at ``index`` of the tree of ``size`` leaves under ``root``.

    This is RFC 9162, section 2.1.3.2, step by step.
    """
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_LENGTH:
            return False
        if position & 1 or position == last:
            node = tree_hash.node(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = tree_hash.node(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise InputError(f"there is no leaf {index} in a tree of {size} leaves")
