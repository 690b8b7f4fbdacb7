"""Write docs/reference/reading-vectors.json: test vectors for firmware that signs readings.

python scripts/tools/reading_vectors.py            write the file
python scripts/tools/reading_vectors.py --check    write nothing, fail when the file is not what would be written
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm.device import P256_VERIFIER, Field, LocalSigner, Reading, Schema
from pyiot_evm.device.reading import MAX_INT128, MIN_INT128, READING_TYPE, ZERO_DIGEST, pack_values
from pyiot_evm.device.signers import P256_ORDER, SECP256K1_ORDER
from pyiot_evm.device.typed import domain_separator, type_hash
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from pyiot_evm.device import Curve

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "reading-vectors.json"

WEATHER = Schema(
    (
        Field("temperature", unit="Cel", scale=2, minimum="-40", maximum="85"),
        Field("humidity", unit="%RH", scale=1, minimum=0, maximum=100),
    )
)
OCCUPANCY = Schema((Field("value", scale=2, label="Belegung in Prozent, größter Wert 100"),))
CASES: dict[str, list[tuple[Schema, int, tuple[int, ...]]]] = {
    "weather": [(WEATHER, 1_700_000_000_000, (2150, 455)), (WEATHER, 1_700_000_060_000, (-1, 0))],
    "occupancy": [(OCCUPANCY, 1_700_000_120_000, (1294,))],
}


def hexed(data: bytes) -> str:
    """Return 0x-prefixed hex."""
    return "0x" + data.hex()


def salt(place: int) -> bytes:
    """Return a fixed salt; a device draws 16 random bytes instead."""
    return keccak256(b"pyiot test vector salt" + bytes([place]))[:16]


def readings(curve: Curve) -> list[dict[str, Any]]:
    """Return a chain of three readings, with every step of their making."""
    secret = keccak256(f"pyiot test vector key {curve}".encode())
    signer = LocalSigner.from_secret(secret, curve)
    rows: list[dict[str, Any]] = []
    prev = ZERO_DIGEST
    for seq, (schema, time, values) in enumerate(case for cases in CASES.values() for case in cases):
        reading = Reading.sign(signer, seq=seq, time=time, schema=schema.hash, values=values, prev=prev, salt=salt(seq))
        rows.append(
            {
                "curve": curve,
                "secret": hexed(secret),
                "signer": hexed(signer.signer_bytes),
                "device": str(signer.device),
                "seq": str(seq),
                "time": str(time),
                "schema": str(schema.hash),
                "salt": hexed(reading.salt),
                "values": [str(value) for value in values],
                "packed": hexed(pack_values(values)),
                "payload": str(reading.payload),
                "prev": hexed(prev),
                "digest": str(reading.digest),
                "signature": hexed(reading.signature),
                "leaf": hexed(reading.leaf()),
                "leafHash": hexed(keccak256(reading.leaf())),
            }
        )
        prev = reading.digest
    return rows


def refused(curve: Curve) -> list[dict[str, str]]:
    """Return signatures that a verifier must refuse."""
    good = readings(curve)[0]
    signature = bytes.fromhex(good["signature"][2:])
    order = SECP256K1_ORDER if curve == "secp256k1" else P256_ORDER
    r, s, rest = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64:]
    flipped = bytes([55 - rest[0]]) if rest else b""
    cases = {
        "s in the high half": r + (order - s).to_bytes(32, "big") + flipped,
        "r is zero": bytes(32) + signature[32:],
        "s is zero": r + bytes(32) + rest,
        "r is the order": order.to_bytes(32, "big") + signature[32:],
        "one byte short": signature[:-1],
        "one byte long": signature + b"\0",
        "another digest's": bytes.fromhex(readings(curve)[1]["signature"][2:]),
    }
    if rest:
        cases["v is 0 or 1"] = signature[:64] + bytes([rest[0] - 27])
        cases["the other v"] = signature[:64] + flipped
    same = {"signer": good["signer"], "digest": good["digest"]}
    return [{"why": why, "curve": curve, **same, "signature": hexed(data)} for why, data in cases.items()]


def vectors() -> dict[str, Any]:
    """Return the whole document."""
    packed = [(0,), (1,), (-1,), (MAX_INT128,), (MIN_INT128,), (2150, -4000)]
    return {
        "type": READING_TYPE,
        "typeHash": hexed(type_hash(READING_TYPE)),
        "domain": {"name": "pyiot Reading", "version": "1"},
        "domainSeparator": hexed(domain_separator("pyiot Reading", "1")),
        "p256Verifier": str(P256_VERIFIER),
        "schemas": [
            {"document": schema.document(), "canonical": schema.canonical().decode(), "hash": str(schema.hash)}
            for schema in (WEATHER, OCCUPANCY)
        ],
        "packing": [{"values": [str(v) for v in row], "packed": hexed(pack_values(row))} for row in packed],
        "readings": readings("secp256k1") + readings("p256"),
        "refused": refused("secp256k1") + refused("p256"),
    }


def main() -> None:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    wanted = json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        VECTORS.write_text(wanted)
    elif VECTORS.read_text() != wanted:
        raise SystemExit(f"{VECTORS.name} is not what the code makes: run python scripts/tools/reading_vectors.py")


if __name__ == "__main__":
    main()
