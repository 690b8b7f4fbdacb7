"""Vouchers as text, and whose signature counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.vouchers import (
    ChannelDomain,
    SignedVoucher,
    authorizer_of,
    channel_config,
    sign_voucher,
)
from pyiot_evm.types import Address

CONTRACT, PAYEE, TOKEN = (Address(bytes([n]) * 20) for n in (1, 2, 3))
DOMAIN = ChannelDomain(31337, CONTRACT)
KEY = LocalSigner.from_secret(b"\x07" * 32)
CONFIG = channel_config(KEY, PAYEE, token=TOKEN)
UINT128 = (1 << 128) - 1


@pytest.mark.parametrize("ceiling", [0, 1, UINT128])
@pytest.mark.parametrize("lock", [b"", b"\x05" * 32])
def test_encode__when_decoded__is_the_same_voucher(ceiling, lock):
    voucher = sign_voucher(KEY, DOMAIN, CONFIG, ceiling, lock=lock)
    again = SignedVoucher.decode(voucher.encode())
    assert again == voucher
    assert again.is_signed()


def test_sign_voucher__when_the_ceiling_is_over_128_bits__is_refused():
    with pytest.raises(InputError, match="uint128"):
        sign_voucher(KEY, DOMAIN, CONFIG, UINT128 + 1)


def test_sign_voucher__when_the_key_is_not_the_channels__is_refused():
    with pytest.raises(InputError, match="not the channel's authorizer"):
        sign_voucher(LocalSigner.create(), DOMAIN, CONFIG, 1)


def test_is_signed__when_a_field_is_changed__is_false():
    voucher = sign_voucher(KEY, DOMAIN, CONFIG, 5)
    other = channel_config(KEY, PAYEE, token=TOKEN, salt=b"\x01" * 32)
    for changed in (
        SignedVoucher(DOMAIN, CONFIG, 6, voucher.signature),
        SignedVoucher(DOMAIN, other, 5, voucher.signature),
        SignedVoucher(ChannelDomain(1, CONTRACT), CONFIG, 5, voucher.signature),
        SignedVoucher(ChannelDomain(31337, TOKEN), CONFIG, 5, voucher.signature),
        SignedVoucher(DOMAIN, CONFIG, 5, voucher.signature, b"\x00" * 32),
    ):
        assert not changed.is_signed()


def test_is_signed__when_a_p256_key_is_the_authorizer__takes_its_148_bytes_only():
    device = LocalSigner.create("p256")
    config = channel_config(device, PAYEE, token=TOKEN, payer=Address(b"\x09" * 20))
    voucher = sign_voucher(device, DOMAIN, config, 5)
    assert (len(voucher.signature), voucher.is_signed()) == (148, True)
    assert config.payer_authorizer == authorizer_of(device)
    stranger = LocalSigner.create("p256")
    forged = stranger.signer_bytes + stranger.sign_digest(voucher.digest)
    assert not SignedVoucher(DOMAIN, config, 5, forged).is_signed()


@given(st.binary(max_size=200))
def test_is_signed__when_the_signature_is_garbage__is_false_and_never_raises(garbage):
    assert not SignedVoucher(DOMAIN, CONFIG, 5, garbage).is_signed()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxClaimableAmount", 5),
        ("maxClaimableAmount", "-1"),
        ("maxClaimableAmount", "1e3"),
        ("maxClaimableAmount", str(UINT128 + 1)),
        ("contract", "0x12"),
        ("signature", "zz"),
        ("signature", None),
        ("channel", []),
        ("lock", "0x00"),
    ],
)
def test_decode__when_a_field_is_bad__is_an_input_error(name, value):
    fields = json.loads(sign_voucher(KEY, DOMAIN, CONFIG, 5).encode()) | {name: value}
    with pytest.raises(InputError):
        SignedVoucher.decode(json.dumps(fields))


@given(st.text(max_size=60))
def test_decode__when_the_text_is_anything__is_an_input_error(text):
    with pytest.raises(InputError):
        SignedVoucher.decode(text)


@pytest.mark.parametrize("name", ["chainId", "withdrawDelay"])
def test_decode__when_a_number_is_infinite__is_an_input_error(name):
    """An `OverflowError` ended a stranger's connection with a traceback in the gateway's log."""
    fields = json.loads(sign_voucher(KEY, DOMAIN, CONFIG, 5).encode())
    (fields if name in fields else fields["channel"])[name] = "inf"
    text = json.dumps(fields).replace('"inf"', "1e999")
    assert "1e999" in text
    with pytest.raises(InputError):
        SignedVoucher.decode(text)


def test_decode__when_the_text_is_endless__is_an_input_error():
    with pytest.raises(InputError, match="at most"):
        SignedVoucher.decode("[" * 100_000)


@pytest.mark.parametrize("delay", [0, 899, 30 * 24 * 3600 + 1])
def test_channel_config__when_the_delay_is_out_of_range__is_refused(delay):
    with pytest.raises(InputError, match="withdraw delay"):
        channel_config(KEY, PAYEE, token=TOKEN, withdraw_delay=delay)
