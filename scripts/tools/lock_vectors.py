"""Write docs/reference/lock-vectors.json: test vectors for firmware that is a lock, and for phones that open one.

python scripts/tools/lock_vectors.py            write the file
python scripts/tools/lock_vectors.py --check    write nothing, fail when the file is not what would be written
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm.device import LocalSigner
from pyiot_evm.device.lock_messages import CHALLENGE_TYPE, DOMAIN, AccessKey, Challenge, Purpose
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import CheckIn, CheckOut, RentalMessages, Terms
from pyiot_evm.device.signers import SECP256K1_ORDER
from pyiot_evm.device.typed import type_hash
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.device import Curve

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "lock-vectors.json"

ESCROW = RentalMessages(chain_id=31337, contract=Address(keccak256(b"pyiot test vector escrow")[:20]))
START = 1_800_000_000


def hexed(data: bytes) -> str:
    """Return 0x-prefixed hex."""
    return "0x" + data.hex()


def secret(name: str) -> bytes:
    """Return a fixed secret; a real one is random."""
    return keccak256(f"pyiot test vector {name}".encode())


def device(curve: Curve) -> LocalSigner:
    """Return the lock's key."""
    return LocalSigner.from_secret(secret(f"lock {curve}"), curve)


def slot(curve: Curve) -> Slot:
    """Return an offer for a lock, signed by its owner."""
    lock, (x, y) = device(curve), LocalSigner.from_secret(secret("access key")).public_point
    owner = LocalSigner.from_secret(secret("owner"))
    terms = Terms(
        owner=owner.address, token=bytes(19) + b"\x01", fee=500_000, rate=250_000, meter_cap=10_000_000,
        deposit=20_000_000, device=lock.device, signer_hash=keccak256(lock.signer_bytes), arbiter=bytes(20), key_x=x,
        key_y=y, start=START, end=START + 3600, grace=600, claim_window=86_400, reply_window=172_800,
        ruling_window=604_800, terms=keccak256(b"the rental's document"), salt=7,
    )  # fmt: skip
    return Slot(ESCROW.chain_id, ESCROW.contract, terms, owner.sign_digest(ESCROW.terms_id(terms)))


def access_key(curve: Curve) -> AccessKey:
    """Return the released key."""
    return AccessKey(device(curve).device, slot(curve).terms_id, secret("access key"))


def challenges() -> list[dict[str, Any]]:
    """Return challenges of both purposes, and their answers."""
    rows = []
    for counter, purpose in ((1, Purpose.OPEN), ((1 << 64) - 1, Purpose.CHECK_OUT)):
        key = access_key("p256")
        challenge = Challenge(key.device, key.terms_id, purpose, counter, secret(f"nonce {counter}"), START + 90)
        rows.append(
            {
                "accessKey": hexed(key.secret),
                "keyAddress": str(key.address),
                "challenge": challenge.fields(),
                "digest": hexed(challenge.digest),
                "answer": key.answer(challenge).fields(),
            }
        )
    return rows


def refused() -> list[dict[str, str]]:
    """Return signatures that a lock must refuse for the first challenge."""
    first, second = challenges()
    good = bytes.fromhex(first["answer"]["signature"][2:])
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    stranger = LocalSigner.from_secret(secret("stranger")).sign_digest(bytes.fromhex(first["digest"][2:]))
    cases = {
        "s in the high half": r + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - v]),
        "v is 0 or 1": good[:64] + bytes([v - 27]),
        "the other v": good[:64] + bytes([55 - v]),
        "zero": bytes(65),
        "another key's": stranger,
        "another challenge's": bytes.fromhex(second["answer"]["signature"][2:]),
    }
    return [{"why": why, "digest": first["digest"], "signature": hexed(data)} for why, data in cases.items()]


def statements(curve: Curve) -> list[dict[str, Any]]:
    """Return what a lock signs: a check-in and a check-out."""
    terms_id, lock = slot(curve).terms_id, device(curve)
    said = (
        CheckIn(terms_id, START + 60, keccak256(b"a photo")),
        CheckOut(terms_id, START + 3000, 14, keccak256(b"another photo")),
    )
    return [
        {
            "curve": curve,
            "secret": hexed(lock.secret),
            "digest": hexed(ESCROW.digest(statement)),
            "statement": json.loads(ESCROW.sign(statement, lock).encode()),
        }
        for statement in said
    ]


def vectors() -> dict[str, Any]:
    """Return the whole document."""
    return {
        "type": CHALLENGE_TYPE,
        "typeHash": hexed(type_hash(CHALLENGE_TYPE)),
        "domain": {"name": "pyiot Lock", "version": "1"},
        "domainSeparator": hexed(DOMAIN),
        "purposeHashes": {purpose.value: hexed(keccak256(purpose.value.encode())) for purpose in Purpose},
        "slots": [
            {
                "curve": curve,
                "offer": slot(curve).fields(),
                "domainSeparator": hexed(ESCROW.domain),
                "termsId": str(slot(curve).terms_id),
                "keyAddress": str(slot(curve).key_address),
            }
            for curve in ("secp256k1", "p256")
        ],
        "challenges": challenges(),
        "refused": refused(),
        "statements": statements("secp256k1") + statements("p256"),
    }


def main() -> None:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    wanted = json.dumps(vectors(), indent=2) + "\n"
    if not parser.parse_args().check:
        VECTORS.write_text(wanted)
    elif VECTORS.read_text() != wanted:
        raise SystemExit(f"{VECTORS.name} is not what the code makes: run python scripts/tools/lock_vectors.py")


if __name__ == "__main__":
    main()
