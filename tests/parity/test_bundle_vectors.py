"""The bundle's published vectors: what docs/reference/bundle-format.md says, read with nothing but a hash function."""

import hashlib
import json
from pathlib import Path

import pytest
from coincurve import PrivateKey

from pyiot_evm.hashing import keccak256
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.documents import OFFER_FIELDS, read_fields
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, is_release, mask_of, recover, release
from pyiot_evm.market.metadata import Metadata
from pyiot_evm.market.offers import Offer, Summary, order_id
from pyiot_evm.market.packing import Place, file_metadata, seal_file, seal_readings, unseal_bytes
from pyiot_evm.market.rules import RuleParams, SignedReadingRule
from pyiot_evm.market.sealing import chunk_key, open_leaf, seal_leaves, sealed_leaf
from pyiot_evm.market.verification import find_fraud, open_readings
from pyiot_evm.merkle import MerkleTree, verify_proof
from pyiot_evm.types import Address, Bytes32, OrderId, SaleId

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs" / "reference" / "bundle-vectors.json").read_text())


def raw(text):
    return bytes.fromhex(text.removeprefix("0x"))


def word(number):
    return number.to_bytes(32, "big")


def read_by_the_page(data, content_key):
    """Open a bundle as the page tells it, without the package: the header, the leaves in the clear, the root."""
    assert data[:8] == raw("897079696f740d0a")
    assert int.from_bytes(data[8:12], "big") == 1
    length = int.from_bytes(data[12:16], "big")
    header = json.loads(data[16 : 16 + length])
    at, plains, hashes = 16 + length, [], []
    count = header["offer"]["leafCount"]
    for index in range(count):
        size = header["leafSize"] if index < count - 1 else header["lastLeafSize"]
        leaf_hash, sealed = data[at : at + 32], data[at + 32 : at + 32 + size]
        at += 32 + size
        key = keccak256(keccak256(content_key) + word(index))
        stream = b"".join(hashlib.sha256(key + word(j)).digest() for j in range((size + 31) // 32))
        plains.append(bytes(a ^ b for a, b in zip(sealed, stream, strict=False)))
        assert keccak256(plains[-1]) == leaf_hash
        hashes.append(keccak256(word(0) + word(index) + keccak256(sealed) + leaf_hash))
    assert at == len(data)
    return header, plains, root_by_rfc_6962(hashes)


def root_by_rfc_6962(hashes):
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return keccak256(b"\x01" + root_by_rfc_6962(hashes[:split]) + root_by_rfc_6962(hashes[split:]))


@pytest.mark.parametrize("kind", ["blob", "readings"])
def test_page__when_followed_without_the_package__opens_the_bundle(kind):
    vector = VECTORS[kind]
    header, plains, root = read_by_the_page(raw(vector["bundle"]), raw(vector["contentKey"]))
    assert raw(header["offer"]["sealedRoot"]) == root
    canonical = json.dumps(header["metadata"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert keccak256(canonical) == raw(header["offer"]["terms"])
    assert keccak256(raw(header["ruleParams"])) == raw(header["offer"]["ruleParamsHash"])
    if kind == "blob":
        seal_key = keccak256(raw(vector["contentKey"]))
        salt = hashlib.sha256(hashlib.sha256(b"pyiot blob salt 1" + seal_key).digest() + bytes(8)).digest()[:16]
        assert plains == [salt + vector["file"].encode()]
    else:
        assert plains == [raw(leaf) for leaf in vector["leaves"]]
        assert canonical.decode() == vector["metadata"]


def test_seal_leaves__when_given_the_vectors__gives_their_leaves_and_root():
    vector = VECTORS["sealing"]
    key = ContentKey.from_bytes(raw(vector["contentKey"]))
    assert key.point == (int(vector["keyX"]), int(vector["keyY"]))
    assert key.seal_key == raw(vector["sealKey"])
    leaves = vector["leaves"]
    records = list(seal_leaves(key, [raw(leaf["plain"]) for leaf in leaves]))
    assert records == [(raw(leaf["leafHash"]), raw(leaf["sealed"])) for leaf in leaves]
    tree = MerkleTree(raw(leaf["sealedLeaf"]) for leaf in leaves)
    assert tree.root == raw(vector["sealedRoot"])
    for leaf, (leaf_hash, sealed) in zip(leaves, records, strict=True):
        index, proof = leaf["index"], [raw(sibling) for sibling in leaf["proof"]]
        assert chunk_key(key.seal_key, index) == raw(leaf["chunkKey"])
        assert sealed_leaf(index, sealed, leaf_hash) == raw(leaf["sealedLeaf"])
        assert open_leaf(key.seal_key, index, sealed) == raw(leaf["plain"])
        assert verify_proof(raw(leaf["sealedLeaf"]), index, len(leaves), proof, tree.root)


def test_release__when_given_the_vectors__gives_their_mask_key_and_order():
    vector, key = VECTORS["keyRelease"], ContentKey.from_bytes(raw(VECTORS["sealing"]["contentKey"]))
    sale = Sale(vector["chainId"], Address(vector["market"]), raw(vector["saleId"]), Address(vector["buyer"]))
    ephemeral = Ephemeral.from_bytes(raw(vector["ephemeral"]))
    assert ephemeral.point == (int(vector["ephemeralX"]), int(vector["ephemeralY"]))
    mask = mask_of(sale, key.point, ephemeral)
    assert mask == Address(vector["mask"])
    point = PrivateKey.from_int(int(vector["maskScalar"])).public_key.point()
    assert keccak256(word(point[0]) + word(point[1]))[12:] == mask
    released = release(sale, key, ephemeral.point, mask)
    assert released == int(vector["releasedKey"])
    assert is_release(key.point, released, mask)
    assert recover(sale, key.point, released, ephemeral) == key
    order = order_id(SaleId(sale.sale_id), buyer=sale.buyer, mask=mask, ephemeral=ephemeral.point)
    assert order == OrderId(vector["orderId"])


def test_seal_file__when_given_the_vector__makes_the_same_bundle(tmp_path):
    vector = VECTORS["blob"]
    (tmp_path / "hello.txt").write_text(vector["file"])
    offer = Offer(**read_fields(vector["offer"], OFFER_FIELDS))
    sealed = seal_file(
        tmp_path / "hello.txt",
        tmp_path / "b",
        key=ContentKey.from_bytes(raw(vector["contentKey"])),
        draft=offer,
        metadata=file_metadata(tmp_path / "hello.txt", title="hello"),
        place=Place(31337, Address(b"\x0a" * 20)),
    )
    assert sealed == offer
    assert (tmp_path / "b").read_bytes() == raw(vector["bundle"])
    with Bundle.open_own(tmp_path / "b") as bundle:
        assert str(bundle.offer_id) == vector["offerId"]
        assert unseal_bytes(bundle, ContentKey.from_bytes(raw(vector["contentKey"]))) == b"hello"


def test_seal_readings__when_given_the_vector__makes_the_same_bundle(tmp_path):
    vector = VECTORS["readings"]
    (tmp_path / "published").write_bytes(raw(vector["bundle"]))
    key, params = ContentKey.from_bytes(raw(vector["contentKey"])), raw(vector["ruleParams"])
    with Bundle.open_own(tmp_path / "published") as bundle:
        rule = SignedReadingRule.from_params(params)
        assert str(bundle.offer_id) == vector["offerId"]
        assert bundle.metadata == Metadata.parse(vector["metadata"].encode())
        assert bundle.metadata.hash == Bytes32(vector["terms"])
        assert find_fraud(bundle, key, rule) is None
        readings = open_readings(bundle, key)
        assert RuleParams.of(readings, rule.params.signer).encode() == params
        seal_readings(
            [reading.leaf() for reading in readings],
            tmp_path / "again",
            key=key,
            draft=bundle.offer,
            rule_params=params,
            metadata=bundle.metadata,
            place=Place(31337, Address(b"\x0a" * 20)),
        )
    assert (tmp_path / "again").read_bytes() == raw(vector["bundle"])
    metadata = Metadata.parse(vector["metadata"].encode())
    summary = Summary.decode(raw(vector["summary"]))
    assert (summary.device, summary.rows, summary.title) == (readings[0].device, 2, "Occupancy")
    assert (summary.first_time, summary.last_time) == (metadata.first_time, metadata.last_time)
