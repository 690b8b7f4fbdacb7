"""Sealing: the construction, step by step from the design, and every way a leaf can differ."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.sealing import (
    CHUNK_SIZE,
    MAX_LEAF_SIZE,
    SALT_SIZE,
    chunk_count,
    chunk_key,
    chunks_of,
    decrypt_leaves,
    last_chunk_leaf_size,
    open_leaf,
    seal_leaves,
    sealed_leaf,
    unseal_leaves,
)

KEY = ContentKey(0xC0FFEE)


def word(number):
    return number.to_bytes(32, "big")


def sealed_by_the_design(index, plain):
    """One byte at a time, as the design page says it."""
    seal_key = keccak256(word(0xC0FFEE))
    leaf_key = keccak256(seal_key + word(index))
    stream = b""
    for block in range(len(plain) // 32 + 1):
        stream += hashlib.sha256(leaf_key + word(block)).digest()
    return bytes(a ^ b for a, b in zip(plain, stream, strict=False))


@settings(max_examples=100, deadline=None)
@given(
    leaves=st.lists(st.binary(min_size=1, max_size=MAX_LEAF_SIZE), min_size=1, max_size=5),
    first=st.integers(0, 1 << 32),
)
def test_seal_leaves__when_compared_with_the_design__is_equal(leaves, first):
    sealed = list(seal_leaves(KEY, leaves, first=first))
    for index, (plain, (leaf_hash, ciphertext)) in enumerate(zip(leaves, sealed, strict=True), first):
        assert leaf_hash == keccak256(plain)
        assert ciphertext == sealed_by_the_design(index, plain)
        assert open_leaf(KEY.seal_key, index, ciphertext) == plain
    assert list(unseal_leaves(KEY, sealed, first=first)) == leaves


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_seal_leaves__when_more_than_a_batch__keeps_every_index(count):
    leaves = [os.urandom(145) for _ in range(count)]
    sealed = [ciphertext for _, ciphertext in seal_leaves(KEY, iter(leaves))]
    assert sealed == [sealed_by_the_design(index, leaf) for index, leaf in enumerate(leaves)]


def test_seal_leaves__when_there_are_none__gives_none():
    assert list(seal_leaves(KEY, [])) == []


@pytest.mark.parametrize("size", [0, MAX_LEAF_SIZE + 1])
def test_seal_leaves__when_a_leaf_is_empty_or_too_large__raises(size):
    with pytest.raises(InputError, match=f"a leaf has 1 to 4096 bytes, not {size}"):
        list(seal_leaves(KEY, [bytes(size)]))


def test_sealed_leaf__when_compared_with_abi_encode__is_equal():
    assert sealed_leaf(5, b"cipher", b"\x07" * 32) == keccak256(word(0) + word(5) + keccak256(b"cipher") + b"\x07" * 32)


def test_chunk_key__when_the_index_differs__differs():
    assert chunk_key(KEY.seal_key, 0) != chunk_key(KEY.seal_key, 1)


def test_open_leaf__when_longer_than_any_leaf__still_decrypts_as_the_contract_does():
    plain = os.urandom(3 * MAX_LEAF_SIZE + 5)
    assert open_leaf(KEY.seal_key, 3, sealed_by_the_design(3, plain)) == plain


@pytest.mark.parametrize("at", [0, 70, 129])
def test_unseal_leaves__when_one_leaf_is_garbage__names_it(at):
    sealed = list(seal_leaves(KEY, [bytes([number]) * 40 for number in range(130)]))
    sealed[at] = (sealed[at][0], os.urandom(40))
    unsealed = unseal_leaves(KEY, sealed)
    for _ in range(at):
        next(unsealed)
    with pytest.raises(VerificationError, match=f"leaf {at} does not decrypt"):
        next(unsealed)


def test_unseal_leaves__when_a_leaf_is_too_large__raises():
    with pytest.raises(VerificationError, match="leaf 0 has 4097 bytes, more than 4096"):
        list(unseal_leaves(KEY, [(bytes(32), bytes(MAX_LEAF_SIZE + 1))]))


def test_unseal_leaves__when_two_leaves_are_swapped__names_the_first():
    sealed = list(seal_leaves(KEY, [b"a" * 40, b"b" * 40, b"c" * 40]))
    with pytest.raises(VerificationError, match="leaf 1 does not decrypt"):
        list(unseal_leaves(KEY, [sealed[0], sealed[2], sealed[1]]))


def test_decrypt_leaves__when_the_key_is_wrong__says_that_no_leaf_is_right():
    sealed = list(seal_leaves(KEY, [b"a" * 40] * 3))
    assert [is_right for _, is_right in decrypt_leaves(ContentKey(5), sealed)] == [False] * 3


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 65_536, 65_537, 200_000])
def test_chunks_of__when_any_size__cuts_at_1024_bytes_with_salts(size):
    data = os.urandom(size)
    chunks = list(chunks_of(KEY, io.BytesIO(data)))
    assert b"".join(chunk[SALT_SIZE:] for chunk in chunks) == data
    assert len(chunks) == chunk_count(size)
    assert {len(chunk) for chunk in chunks[:-1]} <= {SALT_SIZE + CHUNK_SIZE}
    assert len(chunks[-1]) == last_chunk_leaf_size(size)
    assert len({chunk[:SALT_SIZE] for chunk in chunks}) == len(chunks)


class ShortReads(io.RawIOBase):
    """A source that gives a few bytes at a time, as a socket does."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size=-1):
        return self._data.read(min(size, 700))


def test_chunks_of__when_the_source_gives_little_at_a_time__cuts_the_same():
    data = os.urandom(10_000)
    assert list(chunks_of(KEY, ShortReads(data))) == list(chunks_of(KEY, io.BytesIO(data)))


def test_chunks_of__when_the_key_differs__has_other_salts():
    one, other = (next(chunks_of(key, io.BytesIO(b"x"))) for key in (KEY, ContentKey(5)))
    assert one[:SALT_SIZE] != other[:SALT_SIZE]


@pytest.mark.parametrize("size", [0, CHUNK_SIZE * ((1 << 32) - 1) + 1])
def test_chunk_count__when_empty_or_beyond_uint32__raises(size):
    with pytest.raises(InputError, match=f"a file of {size} bytes cannot be sold"):
        chunk_count(size)
