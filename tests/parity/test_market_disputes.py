"""Disputes on the real market.

DM-4: won exactly when the Python reference says fraud. DM-5: never against the honest.
"""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyiot_evm.chain.contract_errors import (
    ContentKeyInvalid,
    FraudNotShown,
    LeafIndexTooHigh,
    LeafNotInRoot,
    OrderNotRevealed,
    RuleParamsInvalid,
    WindowIsOpen,
    WindowIsOver,
)
from pyiot_evm.contracts.data_market import Row
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.signers import LocalSigner
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Devices
from pyiot_evm.market.key_release import (
    CURVE_ORDER,
    ContentKey,
    recover,
)
from pyiot_evm.market.rules import RuleParams, find_fraud_in
from pyiot_evm.market.sealing import open_leaf, seal_leaves, sealed_leaf, unseal_leaves
from pyiot_evm.merkle import verify_proof
from pyiot_evm.types import Address, Bytes32, DeviceId

PRICE, BOND = 500_000, 70_000
SCHEMA = keccak256(b"schema")
TRADES = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


SIGNERS = {
    curve: (LocalSigner.from_secret(bytes(31) + b"\x07", curve), LocalSigner.from_secret(bytes(31) + b"\x08", curve))
    for curve in ("secp256k1", "p256")
}


def reading(signer, seq, *, time=None, value=None, prev=bytes(32)):
    return Reading.sign(
        signer,
        seq=seq,
        time=1000 + seq if time is None else time,
        schema=SCHEMA,
        values=(seq,) if value is None else (value,),
        prev=prev,
        salt=hashlib.sha256(bytes([seq])).digest()[:16],
        device=DeviceId(keccak256(SIGNERS[signer.curve][0].signer_bytes)),
    )


def promise_of(signer, count, seq0=0):
    device = keccak256(signer.signer_bytes)
    return RuleParams(signer.signer_bytes, device, SCHEMA, seq0, 1000, 1000 + count - 1, (0,), (count - 1,))


def honest(signer, count):
    leaves, prev = [], bytes(32)
    for seq in range(count):
        leaves.append(reading(signer, seq, prev=prev))
        prev = leaves[-1].digest
    return [entry.leaf() for entry in leaves]


# DM-4

LIES = (
    "honest", "gap", "duplicate", "too early", "too late", "last moment", "too low", "too high", "other device",
    "unsigned", "cut", "longer", "one byte",
)  # fmt: skip


def lie(kind, curve, index, count):
    """Return the leaf at ``index``: the honest one, or one that breaks the promise in one way."""
    signer, other = SIGNERS[curve]
    leaf = reading(signer, index).leaf()
    return {
        "honest": leaf,
        "gap": reading(signer, index + 1).leaf(),
        "duplicate": reading(signer, max(index - 1, 0)).leaf(),
        "too early": reading(signer, index, time=999).leaf(),
        "too late": reading(signer, index, time=1000 + count).leaf(),
        "last moment": reading(signer, index, time=1000 + count - 1).leaf(),
        "too low": reading(signer, index, value=-1).leaf(),
        "too high": reading(signer, index, value=count).leaf(),
        "other device": reading(other, index).leaf(),
        "unsigned": leaf[:80] + bytes(len(leaf) - 80),
        "cut": leaf[:-1],
        "longer": leaf + bytes(1),
        "one byte": bytes([255]),
    }[kind]


@st.composite
def data_sets(draw):
    """Leaves, each honest or a lie of its own kind, sealed as a cheat would."""
    curve = draw(st.sampled_from(["secp256k1", "p256"]))
    kinds = draw(st.lists(st.sampled_from(LIES), min_size=1, max_size=9))
    key = ContentKey(draw(st.integers(1, CURVE_ORDER - 1)))
    leaves = [lie(kind, curve, index, len(kinds)) for index, kind in enumerate(kinds)]
    records = list(seal_leaves(key, leaves))
    for index in draw(st.sets(st.integers(0, len(kinds) - 1), max_size=2)):
        leaf_hash, sealed = records[index]
        records[index] = draw(
            st.sampled_from([
                (leaf_hash, bytes(len(sealed))),
                (leaf_hash, b""),
                (leaf_hash, sealed[:-1]),
                (leaf_hash, sealed + b"x"),
                (leaf_hash, sealed * 3),
                (bytes(32), sealed),
                (keccak256(sealed), sealed),
            ])
        )  # fmt: skip
    promise = None if draw(st.integers(0, 4)) == 0 else promise_of(SIGNERS[curve][0], len(kinds))
    return key, records, promise


@settings(max_examples=100, **TRADES)
@given(case=data_sets(), data=st.data())
def test_dispute__when_any_leaf_and_disclosure__is_won_exactly_when_the_reference_says_fraud(desk, case, data):
    """DM-4: over every leaf of the tree, and over disclosures with another index, ciphertext, hash, proof or key."""
    key, records, promise = case
    trade = desk.sell(records, key=key, promise=promise).buy().reveal()
    for index in range(len(records)):
        disclosure = trade.disclose(index)
        assert_as_the_reference_says(trade, disclosure)
        assert_as_the_reference_says(trade, mutated(data.draw, trade, disclosure))


def mutated(draw, trade, disclosure):  # noqa: PLR0911 - one return a change
    how = draw(st.sampled_from(["index", "sealed", "hash", "proof", "key", "params", "neighbour"]))
    if how == "index":
        return replace(disclosure, index=draw(st.integers(0, 20) | st.just((1 << 256) - 1)))
    if how == "sealed":
        return replace(disclosure, sealed_leaf=draw(st.binary(max_size=200)))
    if how == "hash":
        return replace(disclosure, leaf_hash=Bytes32(draw(st.binary(min_size=32, max_size=32))))
    if how == "proof":
        return replace(disclosure, proof=(*disclosure.proof, Bytes32(bytes(32)))[draw(st.integers(0, 1)) :])
    if how == "key":
        shift = draw(st.sampled_from([1, CURVE_ORDER, -int(trade.key)]))
        return replace(disclosure, content_key=(int(trade.key) + shift) % (1 << 256))
    if how == "params":
        return replace(disclosure, rule_params=disclosure.rule_params + bytes(draw(st.integers(1, 32))))
    other = (disclosure.index + 1) % len(trade.records)
    return replace(trade.disclose(other), index=disclosure.index)


def assert_as_the_reference_says(trade, disclosure):
    error = trade.dispute(disclosure)
    expected = expected_error(trade, disclosure)
    assert type(error) is (expected or type(None)), f"{error!r} for {disclosure}"


def expected_error(trade, disclosure):
    """The reference predicate, guard by guard: None where the dispute is won."""
    if not 0 < disclosure.content_key < CURVE_ORDER or disclosure.content_key != int(trade.key):
        return ContentKeyInvalid
    if disclosure.index >= len(trade.records):
        return LeafIndexTooHigh
    hashed = sealed_leaf(disclosure.index, disclosure.sealed_leaf, disclosure.leaf_hash)
    if not verify_proof(hashed, disclosure.index, len(trade.records), disclosure.proof, trade.tree.root):
        return LeafNotInRoot
    fraud = find_fraud_in(
        trade.key.seal_key, disclosure.index, disclosure.sealed_leaf, disclosure.leaf_hash, trade.rule
    )
    if fraud is not None and fraud.kind == "hash":
        return None
    if trade.rule is not None and keccak256(disclosure.rule_params) != trade.offer.rule_params_hash:
        return RuleParamsInvalid
    return FraudNotShown if fraud is None else None


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_dispute__when_sent__pays_price_and_bond_to_the_buyer(desk, curve):
    key, signer = ContentKey.create(), SIGNERS[curve][0]
    leaves = honest(signer, 5)
    leaves[3] = reading(signer, 3, value=4).leaf()[:80] + leaves[3][80:]
    trade = desk.sell(list(seal_leaves(key, leaves)), key=key, promise=promise_of(signer, 5)).buy().reveal()
    before = desk.credit(desk.buyer)
    desk.buyer.transact(desk.market.dispute(trade.order, trade.disclose(3)))
    assert desk.credit(desk.buyer) - before == PRICE + BOND
    assert isinstance(trade.dispute(trade.disclose(3)), OrderNotRevealed)


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_dispute__when_a_leaf_is_as_large_as_allowed__fits_a_transaction(desk, curve):
    """247 values are the most that 4,096 bytes hold: such a leaf can be disputed under the cap of EIP-7825."""
    signer, key, count = SIGNERS[curve][0], ContentKey.create(), 247
    wide = Reading.sign(signer, seq=0, time=1000, schema=SCHEMA, values=(0,) * count)
    promise = replace(promise_of(signer, 1), minimum=(0,) * count, maximum=(0,) * count)
    forged = wide.leaf()[: -len(wide.signature)] + SIGNERS[curve][1].sign_digest(wide.digest)
    trade = desk.sell(list(seal_leaves(key, [forged])), key=key, promise=promise).buy().reveal()
    assert trade.dispute(trade.disclose(0)) is None
    receipt = desk.buyer.transact(desk.market.dispute(trade.order, trade.disclose(0)))
    assert receipt.gas_used < 2_000_000
    honest_trade = desk.sell(list(seal_leaves(key, [wide.leaf()])), key=key, promise=promise).buy().reveal()
    assert isinstance(honest_trade.dispute(honest_trade.disclose(0)), FraudNotShown)


# DM-5


class Later:
    """What can happen on the chain after an honest sale."""

    def __init__(self, desk, device_signer):
        self.desk, self.signer = desk, device_signer
        self.devices = Devices(desk.chain, account=desk.seller)
        self.device = device_signer.device
        self.is_owner = True

    def rotate(self):
        if self.is_owner:
            self.devices.rotate(self.device, LocalSigner.create("p256"))

    def revoke(self):
        if self.is_owner:
            self.devices.revoke(self.device)
        self.is_owner = False

    def code_at_the_device(self):
        self._set_code("0x6001600052602060006000f3")  # returns 1 to whoever asks

    def delegated_account(self):
        self._set_code("0xef0100" + "22" * 20)  # EIP-7702

    def _set_code(self, code):
        if self.signer.curve == "secp256k1":  # a P-256 signer begins with the verifier, whose code nobody can change
            self.desk.chain.rpc("hardhat_setCode", str(self.signer.address), code)

    def transfer(self):
        if self.is_owner:
            self.devices.transfer(self.device, Address(b"\x99" * 20))
        self.is_owner = False

    def time_passes(self):
        self.desk.chain.increase_time(600)


EVENTS = ["rotate", "revoke", "code_at_the_device", "delegated_account", "transfer", "time_passes"]


@settings(max_examples=25, **TRADES)
@given(
    curve=st.sampled_from(["secp256k1", "p256"]),
    count=st.integers(1, 7),
    events=st.lists(st.sampled_from(EVENTS), max_size=3),
    data=st.data(),
)
def test_dispute__when_the_seller_is_honest__is_lost_whatever_happens_after_the_sale(desk, curve, count, events, data):
    """DM-5, first half: no event on chain and no disclosure, mutated or not, makes an honest leaf fraud."""
    signer, key = LocalSigner.create(curve), ContentKey.create()
    device = signer.device
    leaves = [
        Reading.sign(signer, seq=seq, time=1000 + seq, schema=SCHEMA, values=(seq,), device=device).leaf()
        for seq in range(count)
    ]
    Devices(desk.chain, account=desk.seller).register(signer)
    trade = desk.sell(list(seal_leaves(key, leaves)), key=key, promise=promise_of(signer, count)).buy().reveal()
    later = Later(desk, signer)
    for event in events:
        getattr(later, event)()
    for index in range(count):
        assert isinstance(trade.dispute(trade.disclose(index)), FraudNotShown)
        assert trade.dispute(mutated(data.draw, trade, trade.disclose(index))) is not None


@settings(max_examples=25, **TRADES)
@given(
    blob=st.booleans(),
    count=st.integers(1, 7),
    seller=st.sampled_from(["reveals", "is silent", "refunds"]),
    buyer_settles=st.booleans(),
)
def test_order__when_the_buyer_is_honest__ends_with_the_data_or_the_money(desk, blob, count, seller, buyer_settles):
    """DM-5, second half."""
    signer, key = SIGNERS["secp256k1"][0], ContentKey.create()
    leaves = [bytes([seq + 1]) * 40 for seq in range(count)] if blob else honest(signer, count)
    records = list(seal_leaves(key, leaves))
    trade = desk.sell(records, key=key, promise=None if blob else promise_of(signer, count)).buy()
    before, earned = desk.credit(desk.buyer), desk.credit(desk.seller)
    if seller == "reveals":
        trade.reveal()
        got = recover(trade.sale, (trade.offer.key_x, trade.offer.key_y), trade.released, trade.ephemeral)
        assert list(unseal_leaves(got, records)) == leaves
        row = Row(desk.buyer.address, trade.order.mask, trade.order.ephemeral_x, trade.order.ephemeral_y)
        if buyer_settles:
            desk.buyer.transact(desk.market.settle(trade.offer, [row]))
        else:
            desk.chain.increase_time(trade.offer.dispute_window)
            desk.seller.transact(desk.market.settle(trade.offer, [row]))
        token = desk.chain.call(desk.market.balance_of(desk.buyer.address, int.from_bytes(trade.sale.sale_id, "big")))
        assert (token, desk.credit(desk.buyer)) == (1, before)
        assert desk.credit(desk.seller) == earned + PRICE + BOND
        return
    if seller == "is silent":
        with pytest.raises(WindowIsOpen):
            desk.chain.call(desk.market.refund(trade.order), sender=desk.buyer.address)
        desk.chain.increase_time(trade.offer.reveal_window)
        desk.buyer.transact(desk.market.refund(trade.order))
    else:
        desk.seller.transact(desk.market.refund(trade.order))
    assert desk.credit(desk.buyer) == before + PRICE
    assert desk.credit(desk.seller) == earned + BOND


def test_dispute__when_the_window_is_over__is_refused(desk):
    key = ContentKey.create()
    [(leaf_hash, sealed)] = seal_leaves(key, [b"x" * 40])
    trade = desk.sell([(leaf_hash, bytes(len(sealed)))], key=key).buy().reveal()
    assert trade.dispute(trade.disclose(0)) is None
    desk.chain.increase_time(trade.offer.dispute_window)
    assert isinstance(trade.dispute(trade.disclose(0)), WindowIsOver)


def test_open_leaf__when_another_leafs_ciphertext_is_at_the_index__is_not_its_leaf():
    key = ContentKey.create()
    (_, first), (_, second) = seal_leaves(key, [b"a" * 40, b"a" * 40])
    assert first != second
    assert open_leaf(key.seal_key, 0, second) != b"a" * 40
