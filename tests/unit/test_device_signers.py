"""pyiot_evm.device.signers: both curves, what they sign, what is refused."""

import copy
import hashlib
import pickle

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.device import (
    P256_VERIFIER,
    LocalSigner,
    Signer,
    check_signer,
    curve_of,
    device_id,
    p256_signer,
    verify_signature,
)
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.exceptions import InputError, SigningError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address

CURVES = ("secp256k1", "p256")
ORDERS = {"secp256k1": SECP256K1_ORDER, "p256": P256_ORDER}
DIGEST = keccak256(b"a reading")
# RFC 6979, A.2.5: ECDSA, 256 bits (prime field), SHA-256, message "sample".
RFC_SECRET = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
RFC_X = 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
RFC_Y = 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299
RFC_R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
RFC_S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


@pytest.mark.parametrize("curve", CURVES)
def test_create__when_called__makes_a_signer_that_satisfies_the_protocol(curve):
    signer = LocalSigner.create(curve)
    assert isinstance(signer, Signer)
    assert signer.curve == curve == curve_of(signer.signer_bytes) == check_signer(signer.signer_bytes)
    assert signer.device == device_id(signer.signer_bytes) == keccak256(signer.signer_bytes)
    assert LocalSigner.create(curve).signer_bytes != signer.signer_bytes


def test_from_secret__when_the_secret_is_known__has_eth_account_s_address_and_signature():
    secret = keccak256(b"seller")
    signer, theirs = LocalSigner.from_secret(secret), Account.from_key(secret)
    assert str(signer.address) == theirs.address
    assert signer.sign_digest(DIGEST) == theirs.unsafe_sign_hash(DIGEST).signature
    assert signer.secret == secret


def test_sign_digest__when_given_rfc_6979_s_p256_example__gives_its_r_and_the_low_s():
    signer = LocalSigner.from_secret(RFC_SECRET, "p256")
    assert signer.public_point == (RFC_X, RFC_Y)
    assert signer.signer_bytes == P256_VERIFIER + RFC_X.to_bytes(32, "big") + RFC_Y.to_bytes(32, "big")
    expected = RFC_R.to_bytes(32, "big") + (P256_ORDER - RFC_S).to_bytes(32, "big")
    assert signer.sign_digest(hashlib.sha256(b"sample").digest()) == expected


@pytest.mark.parametrize("curve", CURVES)
@given(digest=st.binary(min_size=32, max_size=32), secret=st.integers(1, 2**255).map(lambda n: n.to_bytes(32, "big")))
def test_sign_digest__when_given_any_digest__verifies_and_is_low_s(curve, digest, secret):
    signer = LocalSigner.from_secret(secret, curve)
    signature = signer.sign_digest(digest)
    assert len(signature) == (65 if curve == "secp256k1" else 64)
    assert int.from_bytes(signature[32:64], "big") <= ORDERS[curve] // 2
    assert signature[64:] in (b"", b"\x1b", b"\x1c")
    assert verify_signature(signer.signer_bytes, digest, signature)
    assert not verify_signature(signer.signer_bytes, keccak256(digest), signature)


@pytest.mark.parametrize("curve", CURVES)
@given(bit=st.integers(0, 64 * 8 - 1))
def test_verify_signature__when_any_bit_is_flipped__refuses(curve, bit):
    signer = LocalSigner.from_secret(keccak256(b"flip"), curve)
    signature = bytearray(signer.sign_digest(DIGEST))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify_signature(signer.signer_bytes, DIGEST, bytes(signature))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("length", [0, 31, 33])
def test_sign_digest__when_the_digest_has_another_length__raises(curve, length):
    with pytest.raises(InputError, match=f"a digest has 32 bytes, not {length}"):
        LocalSigner.create(curve).sign_digest(bytes(length))


@pytest.mark.parametrize("curve", CURVES)
def test_from_secret__when_out_of_range__raises(curve):
    for secret in (bytes(32), ORDERS[curve].to_bytes(32, "big"), b"\xff" * 32, bytes(31), bytes(33)):
        with pytest.raises(InputError, match=f"not a secret of {curve}"):
            LocalSigner.from_secret(secret, curve)


def test_create__when_the_curve_is_unknown__raises():
    with pytest.raises(InputError, match="no such curve: 'ed25519'"):
        LocalSigner.create("ed25519")


def test_address__when_the_key_is_p256__raises():
    with pytest.raises(SigningError, match="a P-256 key has no account address"):
        LocalSigner.create("p256").address  # noqa: B018


@pytest.mark.parametrize("curve", CURVES)
def test_close__when_called__ends_signing(curve):
    with LocalSigner.create(curve) as signer:
        signer.sign_digest(DIGEST)
    for use in (lambda: signer.sign_digest(DIGEST), lambda: signer.secret, lambda: signer.public_point):
        with pytest.raises(SigningError, match="the signer is closed"):
            use()
    signer.close()


@pytest.mark.parametrize("curve", CURVES)
def test_signer__when_shown_pickled_or_copied__keeps_its_secret(curve):
    signer = LocalSigner.create(curve)
    assert signer.secret.hex() not in repr(signer)
    assert str(int.from_bytes(signer.secret, "big")) not in repr(signer)
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SigningError, match="cannot be pickled or copied"):
            travel(signer)


def test_curve_of__when_the_length_is_neither__raises():
    with pytest.raises(InputError, match="a signer has 20 or 84 bytes, not 21"):
        curve_of(bytes(21))


def test_check_signer__when_it_is_the_zero_address__raises():
    with pytest.raises(InputError, match="the zero address is no signer"):
        check_signer(bytes(20))


def test_check_signer__when_the_verifier_is_foreign__raises():
    foreign = Address(b"\x11" * 20)
    with pytest.raises(InputError, match=f"{foreign} is not the suite's P-256 verifier {P256_VERIFIER}"):
        check_signer(foreign + LocalSigner.create("p256").signer_bytes[20:])


@pytest.mark.parametrize("point", [(0, 0), (RFC_X, RFC_Y + 1), (RFC_X + 2**256 - 2**224, RFC_Y)])
def test_p256_signer__when_the_point_is_not_on_the_curve__raises(point):
    with pytest.raises(InputError, match=r"not a point of P-256"):
        p256_signer(*point)


def test_device_id__when_the_signer_is_not_one__raises():
    with pytest.raises(InputError, match="not a point of P-256"):
        device_id(P256_VERIFIER + bytes(64))
