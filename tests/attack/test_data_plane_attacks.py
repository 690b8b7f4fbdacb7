"""Attacks on sealed data and released keys, on the real market: each must fail, or cost the cheat."""

from dataclasses import replace

import pytest

from pyiot_evm.chain.contract_errors import (
    ContentKeyInvalid,
    FraudNotShown,
    LeafIndexTooHigh,
    LeafNotInRoot,
    MaskIsZero,
    OrderNotPaid,
    PublicKeyInvalid,
    ReleasedKeyInvalid,
)
from pyiot_evm.device.reading import Reading
from pyiot_evm.device.signers import LocalSigner
from pyiot_evm.exceptions import VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import (
    CURVE_ORDER,
    FIELD_PRIME,
    ContentKey,
    Ephemeral,
    mask_of,
    recover,
    release,
)
from pyiot_evm.market.rules import RuleParams
from pyiot_evm.market.sealing import open_leaf, seal_leaves, sealed_leaf
from pyiot_evm.market.verification import check_offer
from pyiot_evm.merkle import KECCAK, MerkleTree
from pyiot_evm.types import Address, Bytes32

SCHEMA = keccak256(b"schema")


def plain_leaves(count=5):
    return [bytes([number + 1]) * 100 for number in range(count)]


def blob_trade(desk, leaves=None, records=None, key=None):
    key = key or ContentKey.create()
    return desk.sell(records or list(seal_leaves(key, leaves or plain_leaves())), key=key)


def readings_trade(desk, change, curve="secp256k1", count=5):
    """Sell readings under their promise after ``change`` made a lie of them."""
    signer, key = LocalSigner.create(curve), ContentKey.create()
    readings = [
        Reading.sign(signer, seq=seq, time=1000 + seq, schema=SCHEMA, values=(seq,), salt=bytes(16))
        for seq in range(count)
    ]
    promise = RuleParams.of(readings, signer.signer_bytes)
    leaves = change([reading.leaf() for reading in readings], signer)
    return desk.sell(list(seal_leaves(key, leaves)), key=key, promise=promise).buy().reveal()


# KEYS


def test_reveal__when_the_released_key_is_not_reduced__is_refused(desk):
    trade = blob_trade(desk, key=ContentKey(5)).buy()
    released = release(trade.sale, trade.key, trade.ephemeral.point, trade.order.mask)
    for wrong in (released ^ 1, CURVE_ORDER, CURVE_ORDER + 1, (1 << 256) - 1, int(trade.key)):
        with pytest.raises(ReleasedKeyInvalid):
            desk.chain.call(desk.market.reveal(trade.order, wrong), sender=desk.seller.address)
    desk.chain.call(desk.market.reveal(trade.order, released), sender=desk.seller.address)


def test_reveal__when_the_key_was_released_for_another_order__is_refused(desk):
    first = blob_trade(desk).buy()
    first.reveal()
    second = replace_order(first)
    with pytest.raises(ReleasedKeyInvalid):
        desk.chain.call(desk.market.reveal(second.order, first.released), sender=desk.seller.address)
    with pytest.raises(OrderNotPaid):
        desk.chain.call(desk.market.reveal(first.order, first.released), sender=desk.seller.address)


def replace_order(trade):
    """Order the same offer once more."""
    again = replace(trade)
    return again.buy()


def test_reveal__when_a_broker_replays_a_released_key__is_refused(desk):
    """A broker lists a copy of the offer and hopes that a key released to it opens the copy's order as well."""
    original = blob_trade(desk)
    copy = desk.sell(original.records, key=original.key)  # same root, same Q, another offer
    copy.buy()
    original.buy().reveal()
    with pytest.raises(ReleasedKeyInvalid):
        desk.chain.call(desk.market.reveal(copy.order, original.released), sender=desk.seller.address)


def test_release__when_a_broker_orders_with_a_victims_points__gives_no_key(desk):
    """The victim's E and mask belong to the broker's sale and to the victim; for another sale the mask does not fit."""
    original = blob_trade(desk)
    copy = desk.sell(original.records, key=original.key).buy()
    with pytest.raises(VerificationError, match="does not fit its ephemeral point"):
        release(original.sale, original.key, copy.ephemeral.point, copy.order.mask)


@pytest.mark.parametrize("point", [(1, 1), (0, 0), (FIELD_PRIME + 1, 1)])
def test_release__when_the_ephemeral_point_would_draw_the_key_out__gives_no_key(desk, point):
    """A point of a weak curve that shares the formulas would show κ modulo a small number."""
    trade = blob_trade(desk)
    with pytest.raises(VerificationError, match="not on the curve"):
        release(trade.sale, trade.key, point, b"\x01" * 20)


def test_buy__when_the_mask_is_zero__is_refused(desk):
    trade = blob_trade(desk)
    with pytest.raises(MaskIsZero):
        desk.chain.call(
            desk.market.buy(trade.offer, b"", Address(bytes(20)), *Ephemeral.create().point), sender=desk.buyer.address
        )


def test_list__when_the_key_is_off_the_curve__is_refused_by_contract_and_buyer(desk):
    offer = blob_trade(desk).offer
    x, y = offer.key_x, offer.key_y
    for point in ((x, FIELD_PRIME + y if y < (1 << 256) - FIELD_PRIME else y ^ 1), (x, y ^ 1), (0, 0), (x + 1, y)):
        bad = replace(offer, key_x=point[0], key_y=point[1])
        with pytest.raises(PublicKeyInvalid):
            desk.chain.call(desk.market.list(bad, "", bytes(192)), sender=desk.seller.address)
        with pytest.raises(VerificationError, match="not on the curve"):
            check_offer(bad)


def test_dispute__when_the_content_key_is_not_reduced__cannot_frame_an_honest_seller(desk):
    """κ + n is the same point and another keystream: every honest leaf would look like garbage."""
    trade = blob_trade(desk, key=ContentKey(7)).buy().reveal()
    honest = trade.disclose(2)
    assert open_leaf(keccak256((7 + CURVE_ORDER).to_bytes(32, "big")), 2, honest.sealed_leaf) != plain_leaves()[2]
    for wrong in (7 + CURVE_ORDER, 0, 8, CURVE_ORDER - 7):
        assert isinstance(trade.dispute(replace(honest, content_key=wrong)), ContentKeyInvalid)
    assert isinstance(trade.dispute(honest), FraudNotShown)


def test_mask_of__when_the_same_scalar_is_used_for_two_sales__differs(desk):
    first, second = blob_trade(desk), blob_trade(desk)
    ephemeral = Ephemeral.create()
    assert mask_of(first.sale, first.key.point, ephemeral) != mask_of(second.sale, first.key.point, ephemeral)


def test_seal_leaves__when_a_key_seals_a_second_data_set__opens_it_to_the_buyers_of_the_first(desk):
    """Why a key is drawn anew for every root: who bought the first reads the second without paying."""
    trade = blob_trade(desk).buy().reveal()
    second = list(seal_leaves(trade.key, [b"never sold " * 9]))
    bought = recover(trade.sale, trade.key.point, trade.released, trade.ephemeral)
    assert open_leaf(bought.seal_key, 0, second[0][1]) == b"never sold " * 9
    assert ContentKey.create() != ContentKey.create()


# LEAVES


def test_dispute__when_the_ciphertext_is_garbage__is_won(desk):
    records = list(seal_leaves(ContentKey(9), plain_leaves()))
    records[3] = (records[3][0], bytes(100))
    trade = blob_trade(desk, records=records, key=ContentKey(9)).buy().reveal()
    assert [type(trade.dispute(trade.disclose(i))) for i in range(5)] == [FraudNotShown] * 3 + [
        type(None),
        FraudNotShown,
    ]


def test_dispute__when_the_wrong_leaf_lies_under_the_right_root__is_won(desk):
    """The root is honest about what was published; what was published is not what the hashes say."""
    records = list(seal_leaves(ContentKey(9), plain_leaves()))
    records[0] = (keccak256(b"what was promised"), records[0][1])
    trade = blob_trade(desk, records=records, key=ContentKey(9)).buy().reveal()
    assert trade.dispute(trade.disclose(0)) is None


CHEATS = {
    "gap": lambda leaves, _: [*leaves[:2], leaves[3], leaves[4], leaves[4]],
    "duplicate": lambda leaves, _: [*leaves[:2], leaves[1], *leaves[3:]],
    "reorder": lambda leaves, _: [*leaves[:2], leaves[3], leaves[2], leaves[4]],
    "another device": lambda leaves, signer: [*leaves[:2], signed(LocalSigner.create(signer.curve), 2), *leaves[3:]],
    "time out of range": lambda leaves, signer: [*leaves[:2], signed(signer, 2, time=5000), *leaves[3:]],
    "value out of range": lambda leaves, signer: [*leaves[:2], signed(signer, 2, values=(99,)), *leaves[3:]],
    "altered after signing": lambda leaves, _: [*leaves[:2], leaves[2][:79] + b"\x01" + leaves[2][80:], *leaves[3:]],
    "too long": lambda leaves, _: [*leaves[:2], leaves[2] + bytes(1), *leaves[3:]],
}


def signed(signer, seq, *, time=None, values=None):
    time, values = time or 1000 + seq, values or (seq,)
    return Reading.sign(signer, seq=seq, time=time, schema=SCHEMA, values=values, salt=bytes(16)).leaf()


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
@pytest.mark.parametrize("cheat", CHEATS)
def test_dispute__when_a_reading_breaks_its_promise__is_won_with_that_leaf_alone(desk, cheat, curve):
    trade = readings_trade(desk, CHEATS[cheat], curve)
    assert trade.dispute(trade.disclose(2)) is None
    for index in (0, 1):
        assert isinstance(trade.dispute(trade.disclose(index)), FraudNotShown)


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_dispute__when_every_reading_is_honest__is_lost(desk, curve):
    trade = readings_trade(desk, lambda leaves, _: leaves, curve)
    for index in range(5):
        assert isinstance(trade.dispute(trade.disclose(index)), FraudNotShown)


def test_dispute__when_the_proof_is_for_another_index__is_refused(desk):
    """Leaf 1 at index 2 would decrypt to garbage: the tree binds each leaf to its place."""
    trade = blob_trade(desk).buy().reveal()
    for index in (0, 2, 3, 4):
        moved = replace(trade.disclose(1), index=index)
        assert isinstance(trade.dispute(moved), LeafNotInRoot)
        assert isinstance(trade.dispute(replace(moved, proof=trade.disclose(index).proof)), LeafNotInRoot)
    for index in (5, 1 << 32, (1 << 256) - 1):
        assert isinstance(trade.dispute(replace(trade.disclose(1), index=index)), LeafIndexTooHigh)


def test_dispute__when_an_inner_node_is_passed_as_a_leaf__is_refused(desk):
    """A shorter proof stands for an inner node; nothing that hashes as a leaf hashes to one."""
    trade = blob_trade(desk).buy().reveal()
    whole = trade.disclose(0)
    left, right = (sealed_leaf(index, c, h) for index, (h, c) in list(enumerate(trade.records))[:2])
    node = KECCAK.node(left, right)
    assert MerkleTree([node, *trade.disclose(4).proof]).root != trade.tree.root
    for proof in (whole.proof[1:], (), (*whole.proof, Bytes32(bytes(32)))):
        assert isinstance(trade.dispute(replace(whole, proof=tuple(proof))), LeafNotInRoot)
        inner = replace(whole, proof=tuple(proof), sealed_leaf=left + right, leaf_hash=Bytes32(node))
        assert isinstance(trade.dispute(inner), LeafNotInRoot)


def test_dispute__when_the_ciphertext_is_not_the_published_one__is_refused(desk):
    trade = blob_trade(desk).buy().reveal()
    honest = trade.disclose(0)
    for sealed in (b"", honest.sealed_leaf[:-1], honest.sealed_leaf + b"\0", bytes(100)):
        assert isinstance(trade.dispute(replace(honest, sealed_leaf=sealed)), LeafNotInRoot)
    assert isinstance(trade.dispute(replace(honest, leaf_hash=Bytes32(bytes(32)))), LeafNotInRoot)
