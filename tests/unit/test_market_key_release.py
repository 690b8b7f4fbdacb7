"""A content key reaches one buyer: the Python side, against the curve's group law alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.market.key_release import (
    CURVE_ORDER,
    FIELD_PRIME,
    ContentKey,
    Ephemeral,
    Sale,
    is_on_curve,
    is_release,
    mask_of,
    recover,
    release,
)

SALE = Sale(chain_id=31337, market=b"\x11" * 20, sale_id=b"\x22" * 32, buyer=b"\x33" * 20)
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
scalars = st.integers(1, CURVE_ORDER - 1)


@settings(max_examples=50, deadline=None)
@given(secret=scalars, ephemeral_secret=scalars, chain_id=st.integers(1, 1 << 64))
def test_recover__when_released_to_this_buyer__gives_the_key(secret, ephemeral_secret, chain_id):
    key, ephemeral = ContentKey(secret), Ephemeral(ephemeral_secret)
    sale = Sale(chain_id=chain_id, market=SALE.market, sale_id=SALE.sale_id, buyer=SALE.buyer)
    mask = mask_of(sale, key.point, ephemeral)
    released = release(sale, key, ephemeral.point, mask)
    assert is_release(key.point, released, mask)
    assert recover(sale, key.point, released, ephemeral) == key


def test_content_key__when_one__has_the_generator_as_point():
    assert ContentKey(1).point == G
    assert ContentKey(CURVE_ORDER - 1).point == (G[0], FIELD_PRIME - G[1])


@pytest.mark.parametrize("secret", [0, -1, CURVE_ORDER, CURVE_ORDER + 5])
def test_content_key__when_not_a_scalar_of_the_curve__raises(secret):
    with pytest.raises(InputError, match="above 0 and below the curve's order"):
        ContentKey(secret)


def test_from_bytes__when_of_another_length__raises():
    with pytest.raises(InputError, match="has 32 bytes, not 31"):
        ContentKey.from_bytes(bytes(31))


def test_from_bytes__when_written_by_bytes__gives_the_same_key():
    key = ContentKey.create()
    assert ContentKey.from_bytes(bytes(key)) == key
    assert hash(ContentKey.from_bytes(bytes(key))) == hash(key)
    assert key != Ephemeral.from_bytes(bytes(key))


def test_repr__when_printed__shows_the_point_and_not_the_secret():
    key = ContentKey(0x1234567890ABCDEF)
    assert "1234567890abcdef" not in repr(key).lower()
    assert f"{key.point[0]:064x}" in repr(key)


def test_derive__when_secret_sale_or_attempt_differ__gives_other_scalars():
    derived = {
        int(Ephemeral.derive(secret, sale, attempt))
        for secret in (b"a" * 32, b"b" * 32)
        for sale in (b"c" * 32, b"d" * 32)
        for attempt in (0, 1)
    }
    assert len(derived) == 8
    assert Ephemeral.derive(b"a" * 32, b"c" * 32) == Ephemeral.derive(b"a" * 32, b"c" * 32, 0)


@pytest.mark.parametrize("field", ["chain_id", "market", "sale_id", "buyer"])
def test_mask_of__when_any_part_of_the_sale_differs__differs(field):
    values = {"chain_id": 1, "market": b"\x99" * 20, "sale_id": b"\x99" * 32, "buyer": b"\x99" * 20}
    parts = {name: getattr(SALE, name) for name in values} | {field: values[field]}
    key, ephemeral = ContentKey(7), Ephemeral(9)
    assert mask_of(Sale(**parts), key.point, ephemeral) != mask_of(SALE, key.point, ephemeral)


def test_is_on_curve__when_a_coordinate_is_not_reduced__is_false():
    assert is_on_curve(G)
    assert not is_on_curve((G[0], G[1] + FIELD_PRIME))
    assert not is_on_curve((G[0] + FIELD_PRIME, G[1]))
    assert not is_on_curve((0, 0))
    assert not is_on_curve((G[0], G[1] ^ 1))


def test_release__when_the_ephemeral_point_is_off_the_curve__raises_and_gives_nothing():
    key = ContentKey.create()
    with pytest.raises(VerificationError, match="ephemeral point is not on the curve"):
        release(SALE, key, (G[0], G[1] ^ 1), b"\x01" * 20)


def test_release__when_the_mask_does_not_fit__raises():
    key, ephemeral = ContentKey.create(), Ephemeral.create()
    with pytest.raises(VerificationError, match="does not fit its ephemeral point"):
        release(SALE, key, ephemeral.point, b"\x01" * 20)


def test_mask_of__when_the_offers_key_is_off_the_curve__raises():
    with pytest.raises(VerificationError, match="offer's key is not on the curve"):
        mask_of(SALE, (5, 5), Ephemeral.create())


@pytest.mark.parametrize("shift", [CURVE_ORDER, 1, -1])
def test_is_release__when_the_released_key_is_shifted__is_false(shift):
    key, ephemeral = ContentKey.create(), Ephemeral.create()
    mask = mask_of(SALE, key.point, ephemeral)
    released = release(SALE, key, ephemeral.point, mask)
    assert is_release(key.point, released, mask)
    assert not is_release(key.point, released + shift, mask)


def test_is_release__when_the_mask_is_zero__is_false():
    key = ContentKey.create()
    assert not is_release(key.point, int(key), bytes(20))


def test_recover__when_it_was_released_for_another_order__raises():
    key, ephemeral, other = ContentKey.create(), Ephemeral.create(), Ephemeral.create()
    released = release(SALE, key, other.point, mask_of(SALE, key.point, other))
    with pytest.raises(VerificationError, match="not the key of this order"):
        recover(SALE, key.point, released, ephemeral)


@pytest.mark.parametrize("released", [CURVE_ORDER, 1 << 256])
def test_recover__when_the_released_key_is_not_reduced__raises(released):
    with pytest.raises(VerificationError, match="not the key of this order"):
        recover(SALE, G, released, Ephemeral(3))
