"""The tree: published RFC 6962 vectors, and what must not verify."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError
from pyiot_evm.merkle import KECCAK, SHA256, MerkleTree, RootBuilder, proof_of, root_of, verify_proof

# The Certificate Transparency reference vectors: eight leaves, the root of each prefix, and four audit paths.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def sha_leaves(size):
    return [SHA256.leaf(data) for data in LEAVES[:size]]


def keccak_leaves(size):
    return [KECCAK.leaf(number.to_bytes(4, "big")) for number in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_root__when_rfc_6962_vectors__equals_the_published_root(size):
    assert root_of(sha_leaves(size), SHA256).hex() == ROOTS[size]
    assert MerkleTree(sha_leaves(size), SHA256).root.hex() == ROOTS[size]


@pytest.mark.parametrize("place", PATHS)
def test_proof__when_rfc_6962_vectors__equals_the_published_path(place):
    index, size = place
    leaves = sha_leaves(size)
    proof = MerkleTree(leaves, SHA256).proof(index)
    assert [sibling.hex() for sibling in proof] == PATHS[place]
    assert verify_proof(leaves[index], index, size, proof, bytes.fromhex(ROOTS[size]), tree_hash=SHA256)


def test_leaf__when_sha_256__is_prefixed_with_zero():
    assert SHA256.leaf(b"x") == hashlib.sha256(b"\0x").digest()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100])
def test_proof_of__when_streamed__equals_the_tree_in_memory(size):
    leaves = keccak_leaves(size)
    tree = MerkleTree(leaves)
    for index in range(size):
        assert proof_of(iter(leaves), index, size) == tree.proof(index)
        assert verify_proof(leaves[index], index, size, tree.proof(index), tree.root)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 70), data=st.data())
def test_verify_proof__when_anything_is_changed__is_false(size, data):
    leaves = keccak_leaves(size)
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.proof(index)
    other = data.draw(st.integers(0, 2 * size).filter(lambda number: number != index))
    assert not verify_proof(leaves[index], other, size, proof, tree.root)
    assert not verify_proof(KECCAK.leaf(b"other"), index, size, proof, tree.root)
    assert not verify_proof(leaves[index], index, size, [*proof, bytes(32)], tree.root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        assert not verify_proof(leaves[index], index, size, proof[:-1], tree.root)
        assert not verify_proof(leaves[index], index, size, [*proof[:place], flipped, *proof[place + 1 :]], tree.root)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 11])
def test_verify_proof__when_an_inner_node_is_passed_as_a_leaf__is_false(size):
    leaves = keccak_leaves(size)
    tree = MerkleTree(leaves)
    node = KECCAK.node(leaves[0], leaves[1])
    proof = tree.proof(0)[1:]
    for index in range(size):
        assert not verify_proof(node, index, size, proof, tree.root)


def test_verify_proof__when_a_sibling_is_not_32_bytes__is_false():
    leaves = keccak_leaves(2)
    glued = KECCAK.digest(b"\x01" + leaves[0] + leaves[1] + b"x")
    assert not verify_proof(leaves[0], 0, 2, [leaves[1] + b"x"], glued)


def test_verify_proof__when_negative_index__is_false():
    leaves = keccak_leaves(2)
    assert not verify_proof(leaves[1], -1, 2, [leaves[0]], root_of(leaves))


@pytest.mark.parametrize("index", [-1, 5])
def test_proof__when_there_is_no_such_leaf__raises(index):
    with pytest.raises(InputError, match=f"there is no leaf {index} in a tree of 5 leaves"):
        MerkleTree(keccak_leaves(5)).proof(index)
    with pytest.raises(InputError, match=f"there is no leaf {index} in a tree of 5 leaves"):
        proof_of(keccak_leaves(5), index, 5)


@pytest.mark.parametrize("given_size", [4, 6])
def test_proof_of__when_the_stream_has_another_size__raises(given_size):
    with pytest.raises(InputError, match=f"the tree has 5 leaves, not {given_size}"):
        proof_of(keccak_leaves(5), 0, given_size)


def test_root_builder__when_asked_in_between__goes_on():
    builder, leaves = RootBuilder(), keccak_leaves(20)
    for size, leaf in enumerate(leaves, 1):
        builder.add(leaf)
        assert builder.root() == MerkleTree(leaves[:size]).root
    assert builder.size == 20
