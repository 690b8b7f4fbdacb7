#!/usr/bin/env python3
"""Transactions through the manager against pre-signed raw ones on the same Anvil, and how long a devnet takes.

The baseline hands finished transactions to the node in JSON-RPC batches of a hundred and waits until all are mined:
what the node can do. The manager does the same and also asks for balance, nonces and fees, keeps the journal on the
disk, signs, and reads every receipt. Rounds alternate, and the best of each counts. It needs a quiet machine: two
processes work at once, so anything else that runs takes more from the manager than from the baseline.

Usage: benchmarks/transactions.py [--count 2000] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from pyiot_evm.chain import Call, Chain, Devnet
from pyiot_evm.chain.calls import to_hex, to_int
from pyiot_evm.chain.raw_transactions import TransactionFields, sign_transaction
from pyiot_evm.device import LocalSigner
from pyiot_evm.types import Address

GWEI = 10**9
BATCH = 100
PAYEE = Address("0x" + "11" * 20)
GAS = 21_000
WINDOW = 900  # Anvil can hang with over a thousand pending


def mined(chain: Chain, address: Address) -> int:
    """Return how many transactions of an account are mined."""
    return to_int(chain.rpc("eth_getTransactionCount", str(address), "latest"))


def presigned(chain: Chain, count: int) -> float:
    """Return transactions a second for raw ones that were signed before the clock starts."""
    signer = LocalSigner.create()
    chain.fund(signer, ether=100)
    raws = [
        sign_transaction(TransactionFields(chain.chain_id, n, 10 * GWEI, GWEI, GAS, PAYEE, 1, b""), signer).raw
        for n in range(count)
    ]
    requests = [("eth_sendRawTransaction", [to_hex(raw)]) for raw in raws]
    started = time.perf_counter()
    for start in range(0, count, BATCH):
        chain.rpc_batch(requests[start : start + BATCH])
        while start + 2 * BATCH - mined(chain, signer.address) > WINDOW:
            time.sleep(0.001)
    while mined(chain, signer.address) < count:
        time.sleep(0.001)
    return count / (time.perf_counter() - started)


def managed(chain: Chain, count: int, *, gas: int | None) -> float:
    """Return transactions a second through the manager, with signing, journal and receipts."""
    account = chain.account(LocalSigner.create())
    chain.fund(account, ether=100)
    call = Call(PAYEE, b"", "pay", bytes, value=1)
    started = time.perf_counter()
    receipts = account.wait_many(account.send_many([call] * count, gas=gas))
    seconds = time.perf_counter() - started
    assert all(receipt.status == 1 for receipt in receipts)
    return count / seconds


def one_by_one(chain: Chain, count: int) -> float:
    """Return transactions a second when each is sent and waited for before the next."""
    account = chain.account(LocalSigner.create())
    chain.fund(account, ether=100)
    call = Call(PAYEE, b"", "pay", bytes, value=1)
    started = time.perf_counter()
    for _ in range(count):
        account.transact(call)
    return count / (time.perf_counter() - started)


def devnet_seconds() -> dict[str, float]:
    """Return how long a devnet takes from nothing to the deployed suite: in this process, and by the command line."""
    started = time.perf_counter()
    with Devnet():
        seconds = time.perf_counter() - started
    code = "from pyiot_evm.chain import Devnet\nwith Devnet(): pass"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return {"in a running process": seconds, "with a new interpreter, and down again": time.perf_counter() - started}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates: dict[str, float] = {}
    with Devnet(deploy=False) as chain:
        for _ in range(options.rounds):
            for name, rate in {
                "pre-signed raw, batches of 100": presigned(chain, options.count),
                "manager, gas limit given": managed(chain, options.count, gas=GAS),
                "manager, each call simulated": managed(chain, options.count, gas=None),
                "manager, one by one, each waited for": one_by_one(chain, options.count // 10),
            }.items():
                rates[name] = max(rates.get(name, 0.0), rate)
    base = rates["pre-signed raw, batches of 100"]
    print(f"{'transactions on one Anvil':44} {'per second':>12} {'ratio':>7}")
    for name, rate in rates.items():
        print(f"{name:44} {rate:12,.0f} {rate / base:7.2f}")
    seconds = devnet_seconds()
    print(f"\n{'devnet up, suite deployed':44} {'seconds':>12}")
    for name, value in seconds.items():
        print(f"{name:44} {value:12.2f}")
    if options.json:
        ratios = {name: {"per_second": rate, "ratio": rate / base} for name, rate in rates.items()}
        options.json.write_text(json.dumps({"transactions": ratios, "devnet_up_seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
