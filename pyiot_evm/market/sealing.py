"""Sealing: a data set as leaves that open for whoever has the content key, and whose every lie can be shown on chain.

Leaf ``i`` with plaintext ``p`` is published as ``c = p XOR keystream`` and ``h = keccak256(p)``::

    K           = keccak256(κ)
    chunkKey_i  = keccak256(K ‖ uint256(i))
    block j     = sha256(chunkKey_i ‖ uint256(j))
    sealedLeaf_i= keccak256(abi.encode(uint256(0), i, keccak256(c), h))

and the sealed root is the Merkle root over the ``sealedLeaf_i``. SHA-256 makes the keystream because ``hashlib`` is ten
times faster than Keccak in Python and both cost the same on chain.

Leaves are *readings* (each signed by a device) or the *chunks* of a file: 16 bytes of salt, then 1,024 bytes of the
file (fewer in the last one). Sealing is a function of key and data alone, the salt included, so that a seller who was
stopped half-way makes the same bundle again. One key must never seal two different data sets: whoever bought one could
read the other.

Example:
    >>> from pyiot_evm.market.key_release import ContentKey
    >>> key = ContentKey.create()
    >>> [(leaf_hash, sealed)] = seal_leaves(key, [b"21.5 degrees"])
    >>> open_leaf(key.seal_key, 0, sealed)
    b'21.5 degrees'
"""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from pyiot_evm.market.key_release import ContentKey

__all__ = [
    "CHUNK_SIZE",
    "MAX_LEAF_SIZE",
    "SALT_SIZE",
    "chunk_count",
    "chunk_key",
    "chunks_of",
    "decrypt_leaves",
    "last_chunk_leaf_size",
    "open_leaf",
    "seal_batches",
    "seal_leaves",
    "sealed_leaf",
    "sealed_leaves",
    "unseal_leaves",
]

CHUNK_SIZE = 1024
SALT_SIZE = 16
MAX_LEAF_SIZE = 4096
"""The largest leaf that is taken: a larger one may be too dear to dispute in one transaction."""

_BLOCK = 32
_COUNTERS = tuple(counter.to_bytes(32, "big") for counter in range(MAX_LEAF_SIZE // _BLOCK))
_BATCH = 16  # leaves whose blocks of keystream stay in the processor's cache; 64 take 6 % longer
_READ_SIZE = 64 * CHUNK_SIZE
_SMALL = 2048
_SALT_LABEL = b"pyiot blob salt 1"
_ZERO_WORD = bytes(32)


def chunk_key(seal_key: bytes, index: int) -> bytes:
    """Return the key of one leaf.

    Args:
        seal_key: ``K``, 32 bytes.
        index: The leaf's index.
    """
    return keccak256(seal_key + index.to_bytes(32, "big"))


def sealed_leaf(index: int, sealed: bytes, leaf_hash: bytes) -> bytes:
    """Return the hash that stands for a sealed leaf in the tree.

    Args:
        index: The leaf's index.
        sealed: ``c``.
        leaf_hash: ``h``, 32 bytes.
    """
    return keccak256(_ZERO_WORD + index.to_bytes(32, "big") + keccak256(sealed) + leaf_hash)


def sealed_leaves(records: Iterable[tuple[bytes, bytes]], *, first: int = 0) -> list[bytes]:
    """Return the hashes that stand for neighbouring sealed leaves in the tree.

    Args:
        records: ``(h, c)`` of each leaf.
        first: The index of the first leaf.
    """
    return [
        keccak256(_ZERO_WORD + index.to_bytes(32, "big") + keccak256(sealed) + leaf_hash)
        for index, (leaf_hash, sealed) in enumerate(records, first)
    ]


def open_leaf(seal_key: bytes, index: int, sealed: bytes) -> bytes:
    """Return what one sealed leaf decrypts to, right or wrong: what the contract computes in a dispute.

    Args:
        seal_key: ``K``, 32 bytes.
        index: The leaf's index.
        sealed: ``c``, of any length.
    """
    key = chunk_key(seal_key, index)
    blocks = range((len(sealed) + _BLOCK - 1) // _BLOCK)
    return _xor(sealed, b"".join([sha256(key + j.to_bytes(32, "big")).digest() for j in blocks])[: len(sealed)])


def seal_leaves(key: ContentKey, leaves: Iterable[bytes], *, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Seal leaves one after the other, in memory of a few batches.

    Args:
        key: κ, drawn for this data set only.
        leaves: The plaintexts ``p``.
        first: The index of the first leaf.

    Yields:
        ``(h, c)`` of each leaf.

    Raises:
        InputError: A leaf is empty or larger than 4,096 bytes.
    """
    for _, batch in seal_batches(key, leaves, first=first):
        yield from batch


def seal_batches(
    key: ContentKey, leaves: Iterable[bytes], *, first: int = 0
) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """Seal leaves as :func:`seal_leaves` does, many at a time.

    Yields:
        The index of each batch's first leaf, and ``(h, c)`` of its leaves.
    """
    seal_key, index, source = key.seal_key, first, iter(leaves)
    while batch := list(islice(source, _BATCH)):
        sizes = set(map(len, batch))
        if min(sizes) < 1 or max(sizes) > MAX_LEAF_SIZE:
            raise InputError(f"a leaf has 1 to {MAX_LEAF_SIZE} bytes, not {min(sizes) and max(sizes)}")
        yield index, list(zip(map(keccak256, batch), _crypt(seal_key, index, batch), strict=True))
        index += len(batch)


def decrypt_leaves(
    key: ContentKey, records: Iterable[tuple[bytes, bytes]], *, first: int = 0
) -> Iterator[tuple[bytes, bool]]:
    """Decrypt leaves one after the other.

    Args:
        key: κ.
        records: ``(h, c)`` of each leaf.
        first: The index of the first leaf.

    Yields:
        What each leaf decrypts to, and whether that is what its hash says.
    """
    seal_key, index, source = key.seal_key, first, iter(records)
    while batch := list(islice(source, _BATCH)):
        plains = _crypt(seal_key, index, [sealed for _, sealed in batch])
        for plain, (leaf_hash, _) in zip(plains, batch, strict=True):
            yield plain, keccak256(plain) == leaf_hash
        index += len(batch)


def unseal_leaves(key: ContentKey, records: Iterable[tuple[bytes, bytes]], *, first: int = 0) -> Iterator[bytes]:
    """Decrypt leaves one after the other and hold each against its hash.

    Args:
        key: κ.
        records: ``(h, c)`` of each leaf.
        first: The index of the first leaf.

    Yields:
        The plaintext of each leaf.

    Raises:
        VerificationError: A leaf does not decrypt to what its hash says; the message names it.
    """
    for index, (plain, is_right) in enumerate(decrypt_leaves(key, records, first=first), first):
        if not is_right:
            raise VerificationError(
                f"leaf {index} does not decrypt to what its hash says",
                hint="dispute the order: this leaf is proof enough",
            )
        yield plain


def chunk_count(size: int) -> int:
    """Return the number of leaves of a file of ``size`` bytes.

    Raises:
        InputError: The file is empty, or has more chunks than an offer can count.
    """
    if not 0 < size <= CHUNK_SIZE * ((1 << 32) - 1):
        raise InputError(f"a file of {size} bytes cannot be sold", hint="it must not be empty nor above 4 TiB")
    return (size + CHUNK_SIZE - 1) // CHUNK_SIZE


def last_chunk_leaf_size(size: int) -> int:
    """Return the size of the last leaf of a file of ``size`` bytes."""
    return SALT_SIZE + (size - 1) % CHUNK_SIZE + 1


def chunks_of(key: ContentKey, source: BinaryIO) -> Iterator[bytes]:
    """Cut a file into leaves.

    Args:
        key: κ; the salts come from it.
        source: The open file; read once, to its end.

    Yields:
        Each leaf: 16 bytes of salt, then up to 1,024 bytes of the file.
    """
    salt_key = sha256(_SALT_LABEL + key.seal_key).digest()
    index, rest = 0, b""
    while piece := source.read(_READ_SIZE):
        rest += piece
        whole = len(rest) - len(rest) % CHUNK_SIZE
        for start in range(0, whole, CHUNK_SIZE):
            salt = sha256(salt_key + index.to_bytes(8, "big")).digest()[:SALT_SIZE]
            yield salt + rest[start : start + CHUNK_SIZE]
            index += 1
        rest = rest[whole:]
    if rest:
        yield sha256(salt_key + index.to_bytes(8, "big")).digest()[:SALT_SIZE] + rest


def _crypt(seal_key: bytes, first: int, texts: Sequence[bytes]) -> list[bytes]:
    """XOR neighbouring leaves with their keystreams: both directions are the same."""
    blocks: list[bytes] = []
    for index, text in enumerate(texts, first):
        if len(text) > MAX_LEAF_SIZE:
            raise VerificationError(f"leaf {index} has {len(text)} bytes, more than {MAX_LEAF_SIZE}")
        key = keccak256(seal_key + index.to_bytes(32, "big"))
        count, tail = divmod(len(text), _BLOCK)
        blocks += [sha256(key + counter).digest() for counter in _COUNTERS[:count]]
        if tail:
            blocks.append(sha256(key + _COUNTERS[count]).digest()[:tail])
    joined = _xor(b"".join(texts), b"".join(blocks))
    result, start = [], 0
    for text in texts:
        end = start + len(text)
        result.append(joined[start:end])
        start = end
    return result


def _xor(left: bytes, right: bytes) -> bytes:
    if len(left) <= _SMALL:
        return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")
    import numpy as np  # noqa: PLC0415 - 0.1 s, and only long data gains by it

    return (np.frombuffer(left, np.uint8) ^ np.frombuffer(right, np.uint8)).tobytes()
