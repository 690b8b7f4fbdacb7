"""Python equals Solidity: key release, tree, seal, ids, encodings, rule and fraud, on a real node."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyiot_evm.contracts.data_market import DataMarket, Disclosure, Offer, Order, Resale
from pyiot_evm.contracts.signed_reading_rule import SignedReadingRule as RuleContract
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.signers import P256_VERIFIER, LocalSigner
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import (
    CURVE_ORDER,
    FIELD_PRIME,
    ContentKey,
    Ephemeral,
    Sale,
    is_on_curve,
    is_release,
    mask_of,
    mask_scalar,
    release,
)
from pyiot_evm.market.offers import Summary, blank_offer, offer_id, order_id, resale_id
from pyiot_evm.market.rules import RuleParams, SignedReadingRule, find_fraud_in
from pyiot_evm.market.sealing import open_leaf, seal_leaves, sealed_leaf
from pyiot_evm.merkle import KECCAK, MerkleTree, verify_proof
from pyiot_evm.types import Address, Bytes32, DeviceId, OfferId

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / ".build" / "artifacts" / "ParityHarness.json"
HARNESS = Address(b"\xab" * 20)

RUNS = settings(max_examples=150, deadline=None)
uints = st.integers(0, (1 << 256) - 1)
scalars = st.integers(1, CURVE_ORDER - 1)
words = st.binary(min_size=32, max_size=32).map(Bytes32)
addresses = st.binary(min_size=20, max_size=20).map(Address)
near = st.sampled_from(
    [0, 1, CURVE_ORDER - 1, CURVE_ORDER, CURVE_ORDER + 1, FIELD_PRIME - 1, FIELD_PRIME, (1 << 256) - 1]
)


def uint(bits):
    return st.integers(0, (1 << bits) - 1)


class Harness:
    """Calls the library functions in their contract."""

    def __init__(self, chain, abi):
        self._chain = chain
        self._functions = {entry["name"]: entry for entry in abi if entry["type"] == "function"}

    def __call__(self, name, *values):
        function = self._functions[name]
        kinds = [kind_of(argument) for argument in function["inputs"]]
        data = keccak256(f"{name}({','.join(kinds)})".encode())[:4] + encode(kinds, values)
        answer = self._chain.rpc("eth_call", {"to": str(HARNESS), "data": "0x" + data.hex()}, "latest")
        (result,) = decode([kind_of(output) for output in function["outputs"]], bytes.fromhex(answer[2:]))
        return result


def kind_of(argument):
    if not argument["type"].startswith("tuple"):
        return argument["type"]
    return f"({','.join(map(kind_of, argument['components']))}){argument['type'].removeprefix('tuple')}"


@pytest.fixture(scope="module")
def harness(devnet):
    if not ARTIFACT.exists():
        subprocess.run([sys.executable, ROOT / "scripts" / "tools" / "compile_contracts.py"], check=True)
    artifact = json.loads(ARTIFACT.read_text())
    devnet.rpc("hardhat_setCode", str(HARNESS), artifact["deployedBytecode"])
    return Harness(devnet, artifact["abi"])


@pytest.fixture(scope="module")
def market(suite):
    return DataMarket(suite.data_market)


# KEY RELEASE


@RUNS
@given(
    secret=scalars, x=uints | near, y=uints | near, use=st.sampled_from(["point", "negated", "lifted", "mixed", "any"])
)
def test_is_on_curve__when_any_point__equals_solidity(harness, secret, x, y, use):
    px, py = ContentKey(secret).point
    point = {
        "point": (px, py),
        "negated": (px, FIELD_PRIME - py),
        "lifted": (px, (py + FIELD_PRIME) % (1 << 256)),
        "mixed": (px, y),
        "any": (x, y),
    }[use]
    assert is_on_curve(point) == harness("isPublicKey", *point)


@RUNS
@given(secret=scalars, mask_secret=scalars, other=uints | near, wrong=addresses, use=st.integers(0, 6))
def test_is_release__when_any_key_and_mask__equals_solidity(harness, secret, mask_secret, other, wrong, use):
    key, blind = ContentKey(secret), Ephemeral(mask_secret)
    mask = keccak256(b"".join(part.to_bytes(32, "big") for part in blind.point))[12:]
    right = (secret + mask_secret) % CURVE_ORDER
    released, given_mask = [
        (right, mask),
        (right, wrong),
        (other, mask),
        (right + CURVE_ORDER if right < (1 << 256) - CURVE_ORDER else other, mask),
        (secret, mask),
        (right, bytes(20)),
        (0, keccak256(key.point[0].to_bytes(32, "big") + (FIELD_PRIME - key.point[1]).to_bytes(32, "big"))[12:]),
    ][use]
    expected = harness("isRelease", released, *key.point, given_mask)
    assert is_release(key.point, released, given_mask) == expected
    if use == 0:
        assert expected
    if use in {1, 3, 4, 5} and given_mask != mask:
        assert not expected


@RUNS
@given(secret=scalars, other=uints | near)
def test_content_key__when_any_scalar__equals_solidity(harness, secret, other):
    point = ContentKey(secret).point
    assert harness("isContentKey", secret, *point)
    is_key = 0 < other < CURVE_ORDER and ContentKey(other).point == point
    assert harness("isContentKey", other, *point) == is_key
    if secret < (1 << 256) - CURVE_ORDER:
        assert not harness("isContentKey", secret + CURVE_ORDER, *point)


@RUNS
@given(chain_id=uints, market_address=addresses, sale=words, buyer=addresses, secret=scalars)
def test_mask_scalar__when_any_sale__equals_solidity(harness, chain_id, market_address, sale, buyer, secret):
    point = ContentKey(secret).point
    ours = mask_scalar(Sale(chain_id, market_address, sale, buyer), point)
    assert ours == harness("maskScalar", chain_id, market_address, sale, buyer, *point)


@RUNS
@given(secret=scalars, ephemeral_secret=scalars, chain_id=uint(64), sale=words, buyer=addresses)
def test_release__when_any_order__passes_in_solidity(harness, secret, ephemeral_secret, chain_id, sale, buyer):
    key, ephemeral = ContentKey(secret), Ephemeral(ephemeral_secret)
    place = Sale(chain_id, HARNESS, sale, buyer)
    mask = mask_of(place, key.point, ephemeral)
    assert harness("isRelease", release(place, key, ephemeral.point, mask), *key.point, mask)


# TREE


@RUNS
@given(size=st.integers(1, 40), data=st.data())
def test_verify_proof__when_any_change__equals_solidity(harness, size, data):
    leaves = [KECCAK.leaf(number.to_bytes(4, "big")) for number in range(size)]
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.proof(index)
    change = data.draw(st.sampled_from(["none", "index", "size", "leaf", "root", "longer", "shorter", "node"]))
    leaf, given_size, root = leaves[index], size, tree.root
    if change == "index":
        index = data.draw(st.integers(0, 2 * size))
    elif change == "size":
        given_size = data.draw(st.integers(0, 2 * size + 1))
    elif change == "leaf":
        leaf = data.draw(words)
    elif change == "root":
        root = data.draw(words)
    elif change == "longer":
        proof = [*proof, data.draw(words)]
    elif change == "shorter":
        proof = proof[1:]
    elif change == "node" and proof:
        leaf, proof = KECCAK.node(leaf, proof[0]), proof[1:]
    ours = verify_proof(leaf, index, given_size, proof, root)
    assert ours == harness("verify", leaf, index, given_size, root, proof)
    assert ours or change != "none"


# SEAL


@settings(max_examples=80, deadline=None)
@given(secret=scalars, index=uint(32), sealed=st.binary(max_size=4200))
def test_open_leaf__when_any_ciphertext__equals_solidity(harness, secret, index, sealed):
    assert open_leaf(ContentKey(secret).seal_key, index, sealed) == harness("decrypt", secret, index, sealed)


@settings(max_examples=40, deadline=None)
@given(secret=scalars, leaves=st.lists(st.binary(min_size=1, max_size=4096), min_size=1, max_size=3), first=uint(32))
def test_seal_leaves__when_any_leaves__open_in_solidity(harness, secret, leaves, first):
    for index, (leaf, (leaf_hash, sealed)) in enumerate(
        zip(leaves, seal_leaves(ContentKey(secret), leaves, first=first), strict=True), first
    ):
        assert harness("decrypt", secret, index, sealed) == leaf
        assert sealed_leaf(index, sealed, leaf_hash) == harness("sealedLeafHash", index, sealed, leaf_hash)


# IDS AND ENCODINGS

offers = st.builds(
    Offer,
    seller=addresses, token=addresses, price=uint(128), bond=uint(128), sealed_root=words, leaf_count=uint(32),
    key_x=uints, key_y=uints, rule=addresses, rule_params_hash=words, supply=uint(32), royalty_bps=uint(16),
    audience=addresses, reveal_window=uint(32), dispute_window=uint(32), expiry=uint(40), terms=words, salt=uints,
)  # fmt: skip
resales = st.builds(
    Resale,
    offer_id=words.map(OfferId), holder=addresses, token=addresses, price=uint(128), expiry=uint(40), salt=uints,
)  # fmt: skip


@RUNS
@given(offer=offers)
def test_offer_id__when_any_offer__equals_the_contract(devnet, suite, market, offer):
    assert offer_id(offer, chain_id=devnet.chain_id, market=suite.data_market) == devnet.call(market.offer_id(offer))


@RUNS
@given(resale=resales)
def test_resale_id__when_any_resale__equals_the_contract(devnet, suite, market, resale):
    assert resale_id(resale, chain_id=devnet.chain_id, market=suite.data_market) == devnet.call(
        market.resale_id(resale)
    )


@RUNS
@given(offer=offers, resale=resales, buyer=addresses, mask=addresses, x=uints, y=uints, is_resale=st.booleans())
def test_order_id__when_any_order__equals_the_contract(
    devnet, suite, market, offer, resale, buyer, mask, x, y, is_resale
):
    place = {"chain_id": devnet.chain_id, "market": suite.data_market}
    resale = replace(
        resale, holder=resale.holder if is_resale else Address(bytes(20)), offer_id=offer_id(offer, **place)
    )
    assume(not is_resale or any(resale.holder))
    sale = resale_id(resale, **place) if is_resale else offer_id(offer, **place)
    ours = order_id(sale, buyer=buyer, mask=mask, ephemeral=(x, y))
    assert ours == devnet.call(market.order_id(Order(offer, resale, buyer, mask, x, y)))


def test_offer__when_its_fields_are_counted__are_all_in_the_digest():
    assert len(fields(Offer)) == 18
    assert len(fields(Resale)) == 6


int128 = st.integers(-(1 << 127), (1 << 127) - 1)
promises = st.builds(
    RuleParams,
    signer=st.binary(max_size=100), device=words, schema=words, seq0=uint(64), t0=uint(64), t1=uint(64),
    minimum=st.lists(int128, max_size=5).map(tuple), maximum=st.lists(int128, max_size=5).map(tuple),
)  # fmt: skip


@RUNS
@given(promise=promises)
def test_rule_params__when_any_promise__equal_abi_encode(harness, promise):
    values = [getattr(promise, field.name) for field in fields(RuleParams)]
    assert promise.encode() == harness("encodeParams", *values)
    assert RuleParams.decode(promise.encode()) == promise


printable = st.text(max_size=40).filter(str.isprintable)


@RUNS
@given(
    device=words, first=uint(64), last=uint(64), rows=uint(32), title=printable, tags=st.lists(printable, max_size=3)
)
def test_summary__when_any_listing__equals_abi_encode(harness, device, first, last, rows, title, tags):
    summary = Summary(DeviceId(device), first, last, rows, title, tuple(tags))
    assert summary.encode() == harness("encodeSummary", device, first, last, rows, title, tags)
    assert Summary.decode(summary.encode()) == summary


# THE RULE

SIGNERS = [LocalSigner.from_secret(bytes(31) + b"\x07"), LocalSigner.from_secret(bytes(31) + b"\x07", "p256")]


def altered(draw, leaf, promise, signer):  # noqa: C901, PLR0912 - one branch a change
    """Change a leaf or its promise in one way."""
    how = draw(st.sampled_from(
        ["none", "none", "byte", "cut", "longer", "values", "signer", "kind", "verifier", "times", "bounds", "index",
         "high s", "bounds differ", "no values", "recovery"]
    ))  # fmt: skip
    at = draw(st.integers(0, len(leaf) - 1))
    if how == "byte":
        leaf = leaf[:at] + bytes([leaf[at] ^ draw(st.integers(1, 255))]) + leaf[at + 1 :]
    elif how == "cut":
        leaf = leaf[:at]
    elif how == "longer":
        leaf += draw(st.binary(min_size=1, max_size=20))
    elif how == "signer":
        promise = replace(promise, signer=draw(st.binary(max_size=90)))
    elif how == "kind":
        promise = replace(promise, signer=SIGNERS[draw(st.integers(0, 1))].signer_bytes)
    elif how == "verifier":
        promise = replace(promise, signer=draw(addresses) + promise.signer[20:])
    elif how == "times":
        promise = replace(promise, t0=draw(uint(64)), t1=draw(uint(64)))
    elif how == "bounds":
        promise = replace(promise, minimum=tuple(draw(int128) for _ in promise.minimum))
    elif how == "bounds differ":
        promise = replace(promise, maximum=(*promise.maximum, 5))
    elif how == "no values":
        promise = replace(promise, minimum=(), maximum=())
    elif how == "index":
        promise = replace(promise, seq0=draw(uint(60)))
    elif how == "high s":
        leaf = high_s(leaf, signer)
    elif how == "recovery" and signer.curve == "secp256k1":
        leaf = leaf[:-1] + bytes([draw(st.integers(0, 255))])
    return leaf, promise


def high_s(leaf, signer):
    order = (
        CURVE_ORDER
        if signer.curve == "secp256k1"
        else 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    )
    end = len(leaf) - 1 if signer.curve == "secp256k1" else len(leaf)
    s = order - int.from_bytes(leaf[end - 32 : end], "big")
    tail = bytes([55 - leaf[-1]]) if signer.curve == "secp256k1" else b""
    return leaf[: end - 32] + s.to_bytes(32, "big") + tail


@st.composite
def judged(draw):
    """A leaf, its index and a promise, near the border between kept and broken."""
    signer = draw(st.sampled_from(SIGNERS))
    count = draw(st.integers(1, 3))
    values = tuple(draw(st.integers(-100, 100)) for _ in range(count))
    index, seq0, time = draw(uint(32)), draw(uint(60)), draw(st.integers(10, 1 << 50))
    schema, prev, salt = draw(words), draw(words), draw(st.binary(min_size=16, max_size=16))
    reading = Reading.sign(signer, seq=seq0 + index, time=time, schema=schema, values=values, prev=prev, salt=salt)
    slack = draw(st.integers(0, 1))
    promise = RuleParams(
        signer.signer_bytes, reading.device, schema, seq0, time - slack, time + draw(st.integers(0, 1)),
        tuple(value - slack for value in values), values,
    )  # fmt: skip
    leaf, promise = altered(draw, reading.leaf(), promise, signer)
    return leaf, index + draw(st.sampled_from([0, 0, 0, 1])), promise


@settings(max_examples=500, deadline=None)
@given(case=judged())
def test_violation__when_any_leaf_and_promise__equals_the_contract(devnet, suite, case):
    leaf, index, promise = case
    rule = RuleContract(suite.signed_reading_rule)
    reason = SignedReadingRule(promise).violation(leaf, index)
    assert (reason is not None) == devnet.call(rule.violates(leaf, index, promise.encode()))


def test_verifier__when_deployed__is_the_one_that_readings_name(devnet, suite):
    assert suite.p256_verifier == P256_VERIFIER
    assert devnet.call(RuleContract(suite.signed_reading_rule).p256_verifier()) == P256_VERIFIER


# FRAUD


@settings(max_examples=300, deadline=None)
@given(
    case=judged(), secret=scalars, corrupt=st.sampled_from(["nothing", "hash", "ciphertext", "blob"]), data=st.data()
)
def test_find_fraud_in__when_any_sealed_leaf__equals_the_contracts_library(harness, suite, case, secret, corrupt, data):
    leaf, index, promise = case
    assume(leaf)
    promise = replace(promise, seq0=promise.seq0 + index)  # the leaf is the only one: number 0 of its tree
    key, params = ContentKey(secret), promise.encode()
    [(leaf_hash, sealed)] = seal_leaves(key, [leaf])
    if corrupt == "hash":
        leaf_hash = data.draw(words)
    elif corrupt == "ciphertext":
        sealed = data.draw(st.binary(max_size=200))
    rule = None if corrupt == "blob" else SignedReadingRule(promise)
    offer = replace(
        blank_offer(seller=bytes(20), token=bytes(20), price=1),
        sealed_root=Bytes32(sealed_leaf(0, sealed, leaf_hash)),
        leaf_count=1,
        rule=suite.signed_reading_rule if rule else Address(bytes(20)),
        rule_params_hash=Bytes32(keccak256(params)),
    )
    disclosure = Disclosure(secret, 0, sealed, Bytes32(leaf_hash), (), params)
    ours = find_fraud_in(key.seal_key, 0, sealed, leaf_hash, rule)
    assert (ours is not None) == harness("isFraud", offer.to_abi(), disclosure.to_abi())
