"""pyiot_evm.device.reading: packing, leaves, guards. Digests are held to eth-account in tests/parity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import LocalSigner, Reading
from pyiot_evm.device.reading import MAX_INT128, MAX_VALUES, MIN_INT128, leaf_length, pack_values, unpack_values
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Bytes32

SIGNERS = {curve: LocalSigner.create(curve) for curve in ("secp256k1", "p256")}
SCHEMA = Bytes32(b"\x07" * 32)
INT128S = st.lists(st.integers(MIN_INT128, MAX_INT128), min_size=1, max_size=20).map(tuple)
GOOD = {
    "device": bytes(32),
    "seq": 0,
    "time": 0,
    "schema": bytes(32),
    "salt": bytes(16),
    "values": (1,),
    "prev": bytes(32),
    "signature": bytes(65),
}


@given(values=INT128S)
def test_unpack_values__when_given_packed_values__gives_them_back(values):
    packed = pack_values(values)
    assert len(packed) == 16 * len(values)
    assert unpack_values(packed) == values


@pytest.mark.parametrize("value", [MIN_INT128 - 1, MAX_INT128 + 1])
def test_pack_values__when_a_value_does_not_fit__raises(value):
    with pytest.raises(InputError, match="a value is not a number that fits int128"):
        pack_values((0, value))


@pytest.mark.parametrize("value", [1.5, "1", None])
def test_pack_values__when_a_value_is_no_integer__raises(value):
    with pytest.raises(InputError, match="a value is not a number that fits int128"):
        pack_values((value,))


@pytest.mark.parametrize("count", [0, MAX_VALUES + 1])
def test_pack_values__when_there_are_too_few_or_many__raises(count):
    with pytest.raises(InputError, match=f"a reading has 1 to 247 values, not {count}"):
        pack_values((0,) * count)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_unpack_values__when_the_length_is_wrong__raises(length):
    with pytest.raises(InputError, match=f"packed values have 16 bytes each: {length} bytes"):
        unpack_values(bytes(length))


@pytest.mark.parametrize("curve", SIGNERS)
@given(
    seq=st.integers(0, 2**64 - 1),
    time=st.integers(0, 2**64 - 1),
    prev=st.binary(min_size=32, max_size=32),
    values=INT128S,
)
def test_from_leaf__when_given_a_leaf__gives_the_reading_back(curve, seq, time, prev, values):
    signer = SIGNERS[curve]
    reading = Reading.sign(signer, seq=seq, time=time, schema=SCHEMA, values=values, prev=prev)
    leaf = reading.leaf()
    assert len(leaf) == leaf_length(len(values), curve) == 64 + 16 * len(values) + len(reading.signature)
    again = Reading.from_leaf(leaf, device=signer.device, schema=SCHEMA, value_count=len(values), curve=curve)
    assert again == reading
    assert again.is_signed_by(signer.signer_bytes)


def test_leaf_length__when_a_reading_has_the_most_values__stays_within_4_kib():
    assert leaf_length(MAX_VALUES, "secp256k1") <= 4096 < leaf_length(MAX_VALUES, "secp256k1") + 16


@pytest.mark.parametrize("curve", SIGNERS)
@pytest.mark.parametrize("change", [-16, -1, 1, 16])
def test_from_leaf__when_the_length_is_another__raises(curve, change):
    length = leaf_length(2, curve)
    with pytest.raises(InputError, match=f"a leaf with 2 values has {length} bytes, not {length + change}"):
        Reading.from_leaf(bytes(length + change), device=bytes(32), schema=bytes(32), value_count=2, curve=curve)


def test_sign__when_called_twice__hides_equal_values_behind_different_salts():
    signer = SIGNERS["p256"]
    first, second = (Reading.sign(signer, seq=0, time=0, schema=SCHEMA, values=(5,)) for _ in range(2))
    assert first.salt != second.salt
    assert first.payload != second.payload


def test_sign__when_the_key_was_rotated__names_the_device_that_is_given():
    device = bytes(range(32))
    reading = Reading.sign(SIGNERS["p256"], device=device, seq=0, time=0, schema=SCHEMA, values=(5,))
    assert reading.device == device
    assert reading.is_signed_by(SIGNERS["p256"].signer_bytes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seq", -1, "does not fit uint64"),
        ("seq", 2**64, "does not fit uint64"),
        ("time", -1, "does not fit uint64"),
        ("time", 2**64, "does not fit uint64"),
        ("device", bytes(31), "device, schema and prev have 32 bytes each"),
        ("schema", bytes(33), "device, schema and prev have 32 bytes each"),
        ("prev", b"", "device, schema and prev have 32 bytes each"),
        ("salt", bytes(15), "a salt has 16 bytes, not 15"),
        ("signature", bytes(63), "a signature has 65 or 64 bytes, not 63"),
    ],
)
def test_reading__when_a_field_does_not_fit__raises(field, value, message):
    Reading(**GOOD)
    with pytest.raises(InputError, match=message):
        Reading(**{**GOOD, field: value})
