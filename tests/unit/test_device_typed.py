"""pyiot_evm.device.typed: the guards; equality with other encoders is in tests/parity."""

import pytest

from pyiot_evm.device.typed import address_word, bytes_word, domain_separator, signed_word, type_hash, word
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256


def test_word__when_it_fits__is_32_bytes_big_endian():
    assert word(258) == bytes(30) + b"\1\2"
    assert word(2**40 - 1, bits=40) == bytes(27) + b"\xff" * 5


@pytest.mark.parametrize(("value", "bits"), [(-1, 256), (2**256, 256), (2**40, 40), (2**16, 16)])
def test_word__when_it_does_not_fit__raises(value, bits):
    with pytest.raises(InputError, match=f"{value} does not fit uint{bits}"):
        word(value, bits=bits)


def test_signed_word__when_negative__is_sign_extended():
    assert signed_word(-2, bits=128) == b"\xff" * 31 + b"\xfe"
    assert signed_word(2**127 - 1, bits=128) == bytes(16) + b"\x7f" + b"\xff" * 15


@pytest.mark.parametrize("value", [2**127, -(2**127) - 1])
def test_signed_word__when_it_does_not_fit__raises(value):
    with pytest.raises(InputError, match=f"{value} does not fit int128"):
        signed_word(value, bits=128)


@pytest.mark.parametrize("length", [0, 19, 21, 32])
def test_address_word__when_the_length_is_wrong__raises(length):
    with pytest.raises(InputError, match=f"an address has 20 bytes, not {length}"):
        address_word(bytes(length))


def test_bytes_word__when_given_text_or_bytes__hashes_the_content():
    assert bytes_word("ä") == bytes_word("ä".encode()) == keccak256("ä".encode())


def test_domain_separator__when_fields_are_left_out__leaves_them_out_of_the_type():
    expected = keccak256(
        type_hash("EIP712Domain(string name,string version)") + keccak256(b"pyiot Reading") + keccak256(b"1")
    )
    assert domain_separator("pyiot Reading", "1") == expected
    assert domain_separator("pyiot Reading", "1", chain_id=0) != expected
