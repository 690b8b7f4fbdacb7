#!/usr/bin/env python3
"""Readings against the raw curve library, and how long a device waits for ``import pyiot_evm.device``.

The baseline signs a 32-byte digest with coincurve (secp256k1) or ``cryptography`` (P-256) and nothing else. Ours draws
the salt, packs the values, makes the EIP-712 digest and signs it. A ratio is the median of many short rounds, in each
of which both run one after the other, so that a busy machine slows both; times are the best of all rounds.

Usage: benchmarks/device.py [--count 100] [--rounds 101] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coincurve import PrivateKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from pyiot_evm.device import Field, LocalSigner, Reading, ReadingJournal, Schema, verify_signature
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = 0.6
IMPORT_LIMIT_MS = 100.0
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))
SECRET = keccak256(b"benchmark")
DIGEST = keccak256(b"digest")


def timed(
    rounds: int, count: int, acts: dict[str, Callable[[], Any]], clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return microseconds a call for each act, in each of some alternating rounds; of this process's own time."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            started = clock()
            for _ in range(count):
                act()
            times[name].append((clock() - started) / count * 1e6)
    return times


def ratio_of(base: list[float], ours: list[float]) -> float:
    """Return the median over the rounds of how fast ours is against the base."""
    return statistics.median(one / other for one, other in zip(base, ours, strict=True))


def signing(count: int, rounds: int) -> dict[str, list[float]]:
    """Return microseconds, by round, for raw signatures and for whole readings, on both curves."""
    k1, r1 = LocalSigner.from_secret(SECRET), LocalSigner.from_secret(SECRET, "p256")
    raw_k1 = PrivateKey(SECRET)
    raw_r1 = ec.derive_private_key(int.from_bytes(SECRET, "big"), ec.SECP256R1())
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
    common = {"seq": 1, "time": 1_700_000_000_000, "schema": SCHEMA.hash, "values": (2150,)}
    devices = {signer.curve: signer.device for signer in (k1, r1)}
    readings = {signer.curve: Reading.sign(signer, **common) for signer in (k1, r1)}
    leaf = readings["secp256k1"].leaf()
    names = {"device": devices["secp256k1"], "schema": SCHEMA.hash, "value_count": 1}
    return timed(
        rounds,
        count,
        {
            "coincurve, raw signature": lambda: raw_k1.sign_recoverable(DIGEST, hasher=None),
            "reading, secp256k1": lambda: Reading.sign(k1, device=devices["secp256k1"], **common),
            "cryptography, raw signature": lambda: raw_r1.sign(DIGEST, algorithm),
            "reading, P-256": lambda: Reading.sign(r1, device=devices["p256"], **common),
            "digest alone": lambda: readings["secp256k1"].digest,
            "leaf read back": lambda: Reading.from_leaf(leaf, curve="secp256k1", **names),
            "verification, secp256k1": lambda: verify_signature(k1.signer_bytes, DIGEST, SIGNATURES["secp256k1"]),
            "verification, P-256": lambda: verify_signature(r1.signer_bytes, DIGEST, SIGNATURES["p256"]),
        },
    )


SIGNATURES = {
    "secp256k1": LocalSigner.from_secret(SECRET).sign_digest(DIGEST),
    "p256": LocalSigner.from_secret(SECRET, "p256").sign_digest(DIGEST),
}


def journal(count: int) -> dict[str, float]:
    """Return microseconds for a reading that is on the disk: one by one, and many with one flush."""
    signer = LocalSigner.from_secret(SECRET)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        options = {"device": signer.device, "schema": SCHEMA, "curve": signer.curve}
        with ReadingJournal.open(Path(folder) / "readings", **options) as log:
            few = max(count // 10, 1)
            started = time.perf_counter()
            for n in range(few):
                log.sign(signer, time=n, values=(n,))
            found["journal, one by one"] = (time.perf_counter() - started) / few * 1e6
            started = time.perf_counter()
            log.sign_many(signer, [(n, (n % 8000,)) for n in range(count)])
            found["journal, many at once"] = (time.perf_counter() - started) / count * 1e6
    return found


def import_milliseconds(rounds: int) -> float:
    """Return what ``import pyiot_evm.device`` adds to an interpreter's own time, the best of some rounds."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    acts = {code: lambda code=code: start(code) for code in ("pass", "import pyiot_evm.device")}
    times = timed(rounds, 1, acts, clock=lambda: sum(os.times()[2:4]))
    return (min(times["import pyiot_evm.device"]) - min(times["pass"])) / 1e3


def main() -> int:
    """Measure, print a table, and fail when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = signing(options.count, options.rounds)
    ratios = {
        "secp256k1": ratio_of(rows["coincurve, raw signature"], rows["reading, secp256k1"]),
        "p256": ratio_of(rows["cryptography, raw signature"], rows["reading, P-256"]),
    }
    times = {name: min(row) for name, row in rows.items()} | journal(20 * options.count)
    milliseconds = import_milliseconds(max(options.rounds // 10, 1))
    print(f"{'':34}{'µs':>9}{'a second':>12}")
    for name, value in times.items():
        print(f"{name:34}{value:>9.1f}{1e6 / value:>12,.0f}")
    print(f"{'reading against raw, secp256k1':34}{ratios['secp256k1']:>9.2f}   wanted: at least {WANTED}")
    print(f"{'reading against raw, P-256':34}{ratios['p256']:>9.2f}")
    print(f"{'import pyiot_evm.device':34}{milliseconds:>9.0f} ms   wanted: at most {IMPORT_LIMIT_MS:.0f} ms")
    if options.json:
        report = {"microseconds": times, "ratios": ratios, "wanted": WANTED, "import_milliseconds": milliseconds}
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0 if ratios["secp256k1"] >= WANTED and milliseconds <= IMPORT_LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
