"""Attacks on device signatures that must fail in Python as they fail on chain (the list in identity.md)."""

import pytest

from pyiot_evm.device import P256_VERIFIER, LocalSigner, Reading, verify_signature
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.hashing import keccak256

DIGEST = keccak256(b"victim")
VICTIM = LocalSigner.from_secret(keccak256(b"victim"))
VICTIM_P256 = LocalSigner.from_secret(keccak256(b"victim"), "p256")
P256_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1


def halves(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def joined(r: int, s: int, rest: bytes = b"") -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + rest


def test_verify_signature__when_s_is_mirrored_on_secp256k1__refuses():
    signature = VICTIM.sign_digest(DIGEST)
    r, s = halves(signature)
    for v in (27, 28):
        assert not verify_signature(VICTIM.signer_bytes, DIGEST, joined(r, SECP256K1_ORDER - s, bytes([v])))


def test_verify_signature__when_s_is_mirrored_on_p256__refuses():
    r, s = halves(VICTIM_P256.sign_digest(DIGEST))
    assert not verify_signature(VICTIM_P256.signer_bytes, DIGEST, joined(r, P256_ORDER - s))


@pytest.mark.parametrize("v", [0, 1, 2, 3, 26, 29, 30, 35, 37, 62, 255])
def test_verify_signature__when_v_is_not_27_or_28__refuses(v):
    assert not verify_signature(VICTIM.signer_bytes, DIGEST, VICTIM.sign_digest(DIGEST)[:64] + bytes([v]))


def test_verify_signature__when_it_is_eip_2098_compact__refuses():
    signature = VICTIM.sign_digest(DIGEST)
    r, s = halves(signature)
    assert not verify_signature(VICTIM.signer_bytes, DIGEST, joined(r, s | (signature[64] - 27) << 255))


@pytest.mark.parametrize("signer", [VICTIM, VICTIM_P256], ids=["secp256k1", "p256"])
def test_verify_signature__when_r_or_s_is_zero_or_over_the_order__refuses(signer):
    order = SECP256K1_ORDER if signer is VICTIM else P256_ORDER
    signature = signer.sign_digest(DIGEST)
    (r, s), rest = halves(signature), signature[64:]
    for bad in ((0, s), (r, 0), (0, 0), (order, s), (r, order), (2**256 - 1, s), (r, 2**256 - 1)):
        assert not verify_signature(signer.signer_bytes, DIGEST, joined(*bad, rest))


def test_verify_signature__when_the_signer_is_the_zero_address__refuses_what_ecrecover_cannot_recover():
    for signature in (bytes(65), joined(1, 1, b"\x1b"), joined(SECP256K1_ORDER - 1, 1, b"\x1c")):
        assert not verify_signature(bytes(20), DIGEST, signature)


def test_verify_signature__when_the_p256_key_is_at_infinity_or_off_the_curve__refuses():
    signature = VICTIM_P256.sign_digest(DIGEST)
    x, y = VICTIM_P256.public_point
    for point in ((0, 0), (x, (y + 1) % P256_PRIME), (y, x), (2**256 - 1, y), (x, 2**256 - 1)):
        assert not verify_signature(P256_VERIFIER + joined(*point), DIGEST, signature)
        assert not verify_signature(P256_VERIFIER + joined(*point), DIGEST, joined(1, 1))


def test_verify_signature__when_the_point_is_mirrored__refuses():
    x, y = VICTIM_P256.public_point
    assert not verify_signature(P256_VERIFIER + joined(x, P256_PRIME - y), DIGEST, VICTIM_P256.sign_digest(DIGEST))


def test_verify_signature__when_the_verifier_is_foreign__refuses_a_good_signature():
    foreign = b"\x11" * 20 + VICTIM_P256.signer_bytes[20:]
    assert not verify_signature(foreign, DIGEST, VICTIM_P256.sign_digest(DIGEST))


@pytest.mark.parametrize("length", [0, 19, 21, 32, 64, 83, 85, 104])
def test_verify_signature__when_the_signer_has_another_length__refuses(length):
    assert not verify_signature(bytes(length), DIGEST, VICTIM.sign_digest(DIGEST))


def test_verify_signature__when_the_curves_are_crossed__refuses():
    same = keccak256(b"one secret on two curves")
    k1, r1 = LocalSigner.from_secret(same), LocalSigner.from_secret(same, "p256")
    assert not verify_signature(k1.signer_bytes, DIGEST, r1.sign_digest(DIGEST))
    assert not verify_signature(r1.signer_bytes, DIGEST, k1.sign_digest(DIGEST))
    assert not verify_signature(r1.signer_bytes, DIGEST, k1.sign_digest(DIGEST)[:64])


def test_is_signed_by__when_another_device_signed__refuses():
    thief = LocalSigner.from_secret(keccak256(b"thief"))
    forged = Reading.sign(thief, device=VICTIM.device, seq=0, time=1, schema=bytes(32), values=(1,))
    assert forged.is_signed_by(thief.signer_bytes)
    assert not forged.is_signed_by(VICTIM.signer_bytes)


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 8},
        {"time": 2},
        {"values": (2,)},
        {"values": (1, 0)},
        {"prev": b"\x01" * 32},
        {"schema": b"\x01" * 32},
        {"salt": b"\x01" * 16},
        {"device": b"\x01" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("signer", [VICTIM, VICTIM_P256], ids=["secp256k1", "p256"])
def test_is_signed_by__when_one_field_was_changed__refuses(signer, change):
    from dataclasses import replace

    honest = Reading.sign(signer, seq=7, time=1, schema=bytes(32), values=(1,))
    assert honest.is_signed_by(signer.signer_bytes)
    assert not replace(honest, **change).is_signed_by(signer.signer_bytes)
