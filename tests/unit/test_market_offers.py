"""Ids of offers, resales and orders, and the listing's summary."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.market.offers import (
    MAX_SUMMARY_BYTES,
    OFFER_TYPE,
    RESALE_TYPE,
    Resale,
    Summary,
    blank_offer,
    offer_id,
    order_id,
    resale_id,
)
from pyiot_evm.types import Address, Bytes32, DeviceId, OfferId

MARKET = Address(b"\x44" * 20)
OFFER = replace(
    blank_offer(seller=b"\x01" * 20, token=b"\x02" * 20, price=500_000, bond=7, supply=3, royalty_bps=500, salt=99),
    sealed_root=Bytes32(b"\x03" * 32),
    leaf_count=2380,
    key_x=11,
    key_y=12,
    rule=Address(b"\x05" * 20),
    rule_params_hash=Bytes32(b"\x06" * 32),
    terms=Bytes32(b"\x07" * 32),
)
RESALE = Resale(Bytes32(b"\x08" * 32), Address(b"\x09" * 20), Address(b"\x02" * 20), 100, 1_800_000_000, 5)


def eip712_digest(declaration, values):
    """The digest of eth-account's general encoder."""
    name, _, rest = declaration.partition("(")
    members = [part.split(" ") for part in rest.rstrip(")").split(",")]
    message = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            name: [{"name": member, "type": kind} for kind, member in members],
        },
        "primaryType": name,
        "domain": {"name": "pyiot DataMarket", "version": "1", "chainId": 31337, "verifyingContract": str(MARKET)},
        "message": {member: value for (_, member), value in zip(members, values, strict=True)},
    }
    encoded = encode_typed_data(full_message=message)
    return keccak(b"\x19\x01" + encoded.header + encoded.body)


def values_of(struct):
    return [
        str(value) if isinstance(value, Address) else value
        for value in (getattr(struct, f.name) for f in fields(struct))
    ]


def test_offer_id__when_compared_with_eth_account__is_equal():
    assert offer_id(OFFER, chain_id=31337, market=MARKET) == eip712_digest(OFFER_TYPE, values_of(OFFER))


def test_resale_id__when_compared_with_eth_account__is_equal():
    assert resale_id(RESALE, chain_id=31337, market=MARKET) == eip712_digest(RESALE_TYPE, values_of(RESALE))


@pytest.mark.parametrize("name", [field.name for field in fields(OFFER)])
def test_offer_id__when_any_field_changes__changes(name):
    value = getattr(OFFER, name)
    changed = (
        type(value)(bytes([value[0] ^ 1]) + value[1:])
        if isinstance(value, bytes)
        else value + 1
        if name != "expiry"
        else 0
    )
    other = replace(OFFER, **{name: changed})
    assert offer_id(other, chain_id=31337, market=MARKET) != offer_id(OFFER, chain_id=31337, market=MARKET)


def test_offer_id__when_on_another_chain_or_market__changes():
    ids = {
        offer_id(OFFER, chain_id=31337, market=MARKET),
        offer_id(OFFER, chain_id=1, market=MARKET),
        offer_id(OFFER, chain_id=31337, market=bytes(20)),
    }
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("price", 1 << 128), ("price", -1), ("leaf_count", 1 << 32), ("royalty_bps", 1 << 16), ("expiry", 1 << 40)],
)
def test_offer_id__when_a_field_does_not_fit__raises(name, value):
    with pytest.raises(InputError, match=f"{value} does not fit uint"):
        offer_id(replace(OFFER, **{name: value}), chain_id=1, market=MARKET)


def test_offer_id__when_a_hash_is_cut_off__raises():
    with pytest.raises(InputError, match="a bytes32 field has 31 bytes"):
        offer_id(replace(OFFER, terms=bytes(31)), chain_id=1, market=MARKET)


def test_order_id__when_any_part_changes__changes():
    sale, ids = OfferId(b"\x01" * 32), set()
    base = {"buyer": b"\x02" * 20, "mask": b"\x03" * 20, "ephemeral": (4, 5)}
    for change in ({}, {"buyer": bytes(20)}, {"mask": bytes(20)}, {"ephemeral": (5, 4)}):
        ids.add(order_id(sale, **(base | change)))
    ids.add(order_id(OfferId(bytes(32)), **base))
    assert len(ids) == 5


def test_blank_offer__when_salt_is_left_out__draws_one():
    assert blank_offer(seller=bytes(20), token=bytes(20), price=1) != blank_offer(
        seller=bytes(20), token=bytes(20), price=1
    )


SUMMARY = Summary(
    DeviceId(b"\x01" * 32), 1_441_115_100_000, 1_442_507_040_000, 2380, "Straße 6005", ("road", "occupancy")
)


def test_decode__when_encoded_by_us__gives_the_same_summary():
    assert Summary.decode(SUMMARY.encode()) == SUMMARY


def test_encode__when_longer_than_the_contract_takes__raises():
    with pytest.raises(InputError, match=f"more than {MAX_SUMMARY_BYTES}"):
        replace(SUMMARY, title="x" * 1000).encode()


@pytest.mark.parametrize("title", ["two\nlines", "red \x1b[31m", "\u202ereversed"])
def test_encode__when_a_text_cannot_be_printed__raises(title):
    with pytest.raises(InputError, match="cannot be printed"):
        replace(SUMMARY, title=title).encode()


def test_encode__when_a_number_does_not_fit__raises():
    with pytest.raises(InputError, match="cannot be encoded"):
        replace(SUMMARY, rows=1 << 32).encode()


@pytest.mark.parametrize("size", [0, 1, 31, 64, 200])
def test_decode__when_cut_off__raises(size):
    with pytest.raises(VerificationError, match="cannot be read"):
        Summary.decode(SUMMARY.encode()[:size])


def test_decode__when_too_long__raises():
    with pytest.raises(VerificationError, match="the summary has 1056 bytes"):
        Summary.decode(bytes(1056))


def test_decode__when_all_tags_point_to_one_long_text__raises():
    """A list of n offsets to the same bytes unfolds to n copies of them: a small event must not become a large one."""
    word = lambda number: number.to_bytes(32, "big")  # noqa: E731
    head = bytes(32) + word(0) * 3 + word(192) + word(224)
    tags = word(10) + word(320) * 10 + word(300) + b"x" * 300 + bytes(20)
    with pytest.raises(VerificationError, match="texts are longer than the summary"):
        Summary.decode(head + word(0) + tags)
