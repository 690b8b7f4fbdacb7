#!/usr/bin/env python3
"""Sealing and unsealing against a bare loop of ``hashlib.sha256`` that makes the same keystream.

The baseline makes, for each leaf, as many blocks ``sha256(chunkKey ‖ uint256(j))`` as the leaf needs, joined, and does
nothing else: no leaf keys, no XOR, no hash of any leaf, no tree, no file. A second, stricter one has the counters ready
as bytes. Ours reads the file, cuts and salts it, draws each leaf's key, XORs, hashes plain and sealed leaf, builds the
tree and writes the bundle to the disk; unsealing rebuilds the tree, decrypts, compares each hash and writes the file.

All acts run in short rounds, one after the other, and the best round of each counts, in this process's own CPU time:
what else the machine does can only slow a round.

Usage: benchmarks/sealing.py [--mib 2] [--rounds 25] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiot_evm.device import Field, LocalSigner, Reading, Schema
from pyiot_evm.market.bundle import Bundle
from pyiot_evm.market.datasets import Table
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.offers import blank_offer
from pyiot_evm.market.packing import Place, file_metadata, seal_file, seal_readings, unseal_file
from pyiot_evm.market.rules import RuleParams, SignedReadingRule
from pyiot_evm.market.sealing import CHUNK_SIZE, SALT_SIZE
from pyiot_evm.market.verification import find_fraud, open_readings
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = 0.45
PLACE = Place(chain_id=31337, market=Address(bytes(20)))
SCHEMA = Schema((Field("value", unit="%", scale=2),))
COUNTERS = tuple(number.to_bytes(32, "big") for number in range(128))


def bare_loop(leaves: int, leaf_size: int) -> None:
    """Make the keystream of so many leaves: the baseline."""
    blocks = (leaf_size + 31) // 32
    for number in range(leaves):
        key = COUNTERS[number % 128]
        b"".join([sha256(key + j.to_bytes(32, "big")).digest() for j in range(blocks)])


def strict_loop(leaves: int, leaf_size: int) -> None:
    """Make the same with the counters ready."""
    counters = COUNTERS[: (leaf_size + 31) // 32]
    for number in range(leaves):
        key = COUNTERS[number % 128]
        b"".join([sha256(key + counter).digest() for counter in counters])


def loops(leaves: int, leaf_size: int) -> dict[str, Callable[[], Any]]:
    """Return both baselines."""
    return {
        "bare loop": lambda: bare_loop(leaves, leaf_size),
        "strict loop": lambda: strict_loop(leaves, leaf_size),
    }


def timed(rounds: int, acts: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Return seconds of this process's own time for each act, in each of some alternating rounds."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            started = time.process_time()
            act()
            times[name].append(time.process_time() - started)
    return times


def blob(folder: Path, mib: int, rounds: int) -> dict[str, Any]:
    """Seal, check and unseal a file."""
    source, bundle_path, copy = folder / "file", folder / "file.pyiot", folder / "copy"
    source.write_bytes(os.urandom(mib << 20))
    key, metadata = ContentKey.create(), file_metadata(source)
    draft = blank_offer(seller=bytes(20), token=bytes(20), price=1)
    leaves = (mib << 20) // CHUNK_SIZE

    def seal() -> None:
        seal_file(source, bundle_path, key=key, draft=draft, metadata=metadata, place=PLACE)

    def check() -> None:
        with Bundle.open_own(bundle_path) as bundle:
            assert bundle.sealed_root() == bundle.offer.sealed_root

    def unseal() -> None:
        with Bundle.open_own(bundle_path) as bundle:
            unseal_file(bundle, key, copy)

    acts = {
        **loops(leaves, SALT_SIZE + CHUNK_SIZE),
        "seal": seal,
        "check": check,
        "unseal": unseal,
    }
    times = timed(rounds, acts)
    assert copy.read_bytes() == source.read_bytes()
    return report("blob, 1 KiB chunks", times, leaves, "MB/s", mib * 1.048576)


def readings(folder: Path, curve: Any, count: int, rounds: int) -> dict[str, Any]:
    """Seal, open and judge readings; judging checks every signature."""
    signer, path = LocalSigner.create(curve), folder / f"{curve}.pyiot"
    items: list[Reading] = []
    for seq in range(count):
        fields = {"seq": seq, "time": 1_700_000_000_000 + seq, "schema": SCHEMA.hash, "values": (seq,)}
        items.append(
            Reading.sign(signer, prev=items[-1].digest if items else bytes(32), device=signer.device, **fields)
        )
    promise = RuleParams.of(items, signer.signer_bytes)
    leaves = [item.leaf() for item in items]
    key, metadata = ContentKey.create(), Table.from_readings(items, SCHEMA).metadata(title="Readings")
    draft = replace(blank_offer(seller=bytes(20), token=bytes(20), price=1), rule=Address(b"\x01" * 20))

    def seal() -> None:
        seal_readings(leaves, path, key=key, draft=draft, rule_params=promise.encode(), metadata=metadata, place=PLACE)

    def unseal() -> None:
        with Bundle.open_own(path) as bundle:
            assert len(open_readings(bundle, key)) == count

    def judge() -> None:
        with Bundle.open_own(path) as bundle:
            assert find_fraud(bundle, key, SignedReadingRule(promise)) is None

    acts = {**loops(count, len(leaves[0])), "seal": seal, "unseal": unseal, "judge": judge}
    return report(f"readings, {curve}", timed(rounds, acts), count, "readings/s", count)


def report(name: str, times: dict[str, list[float]], leaves: int, unit: str, amount: float) -> dict[str, Any]:
    """Return rates and ratios of one kind of data."""
    best = {act: min(seconds) for act, seconds in times.items()}
    rows = {
        act: {
            "rate": round(amount / seconds, 1),
            "ratio": round(best["bare loop"] / seconds, 3),
            "strict": round(best["strict loop"] / seconds, 3),
        }
        for act, seconds in best.items()
    }
    return {"data": name, "leaves": leaves, "unit": unit, "acts": rows}


def show(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'data':<22}{'act':<12}{'rate':>14}  {'':<12}{'to the bare loop':>18}{'to the strict one':>19}")
    for result in results:
        for act, row in result["acts"].items():
            rate = f"{row['rate']:>14,.1f}  {result['unit']:<12}"
            print(f"{result['data']:<22}{act:<12}{rate}{row['ratio']:>18.2f}{row['strict']:>19.2f}")


def main() -> int:
    """Run the benchmark; exit with 1 when sealing or unsealing a blob is slower than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2, help="size of the file, in MiB")
    parser.add_argument("--readings", type=int, default=2000, help="how many readings")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path, help="write the results there as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [blob(Path(folder), arguments.mib, arguments.rounds)]
        results += [readings(Path(folder), curve, arguments.readings, 5) for curve in ("secp256k1", "p256")]
    ratios = {act: results[0]["acts"][act]["ratio"] for act in ("seal", "unseal")}
    passed = all(ratio >= WANTED for ratio in ratios.values())
    show(results)
    verdict = "ok" if passed else "TOO SLOW"
    print(f"\nblob: seal {ratios['seal']:.2f}, unseal {ratios['unseal']:.2f}; wanted: at least {WANTED}: {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"wanted": WANTED, "passed": passed, "results": results}, indent=1) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
