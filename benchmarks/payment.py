"""How fast payments are: vouchers against raw libsecp256k1, and paid requests against the same app for free.

    python benchmarks/payment.py [--vouchers 5000] [--requests 300]

Both sides of each ratio run in this process, in turns, so that a busy machine slows them alike.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from coincurve import PrivateKey, PublicKey
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme

from pyiot_evm import Devnet, Machine
from pyiot_evm.device import Field, LocalSigner, ReadingJournal, Schema
from pyiot_evm.gateway.app import Shop, create_app
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.offers import OfferSource
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.gateway.till import PaidRequest, Reply
from pyiot_evm.payment.vouchers import ChannelDomain, SignedVoucher, channel_config, sign_voucher
from pyiot_evm.payment.x402_signer import ReadingSigner
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

ROUNDS = 5
VOUCHER_RATIO = 0.6


def rate(work: Callable[[], None], count: int) -> float:
    """Return how often a second a unit of work is done."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


class Vouchers:
    """Vouchers, and the bare curve operations on ready digests.

    Args:
        count: How many of each.
    """

    def __init__(self, count: int) -> None:
        secret = secrets.token_bytes(32)
        self.count = count
        self.key, self.signer = PrivateKey(secret), LocalSigner.from_secret(secret)
        self.domain = ChannelDomain(31337, Address("0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"))
        self.config = channel_config(self.signer, Address(b"\x22" * 20), token=Address(b"\x33" * 20))
        self.digests = [secrets.token_bytes(32) for _ in range(count)]
        self.raw = [self.key.sign_recoverable(digest, hasher=None) for digest in self.digests]
        self.signed = [sign_voucher(self.signer, self.domain, self.config, ceiling) for ceiling in range(count)]

    def raw_sign(self) -> None:
        """Sign ready digests."""
        for digest in self.digests:
            self.key.sign_recoverable(digest, hasher=None)

    def sign(self) -> None:
        """Sign vouchers."""
        for ceiling in range(self.count):
            sign_voucher(self.signer, self.domain, self.config, ceiling)

    def raw_verify(self) -> None:
        """Recover from ready digests."""
        for digest, signature in zip(self.digests, self.raw, strict=True):
            PublicKey.from_signature_and_message(signature, digest, hasher=None)

    def verify(self) -> None:
        """Check vouchers."""
        for voucher in self.signed:
            if not SignedVoucher(self.domain, self.config, voucher.ceiling, voucher.signature).is_signed():
                raise SystemExit("a voucher does not verify")

    def figures(self) -> dict[str, float]:
        """Return each rate: the median of some rounds, in which all take turns."""
        works = {"raw_sign": self.raw_sign, "sign": self.sign, "raw_verify": self.raw_verify, "verify": self.verify}
        found: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                found[name].append(rate(work, self.count))
        return {name: statistics.median(rates) for name, rates in found.items()}


class FreeTill:
    """Delivers what is asked, without payment."""

    def serve(self, request: PaidRequest) -> Reply:
        """Answer."""
        return Reply(200, request.produce())


class FreeGateway(Gateway):
    """The same application and server, whose till lets everything through."""

    def app(self) -> FastAPI:
        """Return the application."""
        till: Any = FreeTill()
        return create_app(Shop(self.config, till, self._readings, OfferSource(self.machine), self.network))


def requests_a_second(count: int) -> dict[str, float]:
    """Compare paid requests with the same application's without payment."""
    with Devnet() as chain:
        sensor = Machine.create(chain, "sensor", curve="secp256k1")
        buyer = Machine.create(chain, "buyer")
        measure(chain, sensor)
        gateway = Gateway(sensor, GatewayConfig(requests_each_second=100_000, burst=100_000, max_exposure=10**12))
        paid_url = f"{gateway.start()}/v1/devices/{sensor.device}/latest"

        wallet: Any = ReadingSigner(chain, buyer.payments.signer, buyer.address)
        client = x402ClientSync()
        asset: Any = {"network": f"eip155:{chain.chain_id}", "asset": str(chain.token)}
        client.set_spend_controls({"allowed_assets": [asset]})
        client.register("eip155:*", BatchSettlementEvmScheme(wallet))
        paying, plain = x402_requests(client), requests.Session()
        body = paying.get(paid_url, timeout=60).content

        free = FreeGateway(sensor, gateway.config)
        free_url = f"{free.start()}/v1/devices/{sensor.device}/latest"
        if plain.get(free_url, timeout=60).content != body:
            raise SystemExit("the free application answers something else")
        figures = {"free": rate(lambda: ask(plain, free_url, count), count)}
        figures["paid"] = rate(lambda: ask(paying, paid_url, count), count)
        charged = gateway.payments.payee.book.channels()[0].charged
        if charged != (count + 1) * gateway.config.price_latest:
            raise SystemExit(f"{charged} base units were charged for {count + 1} requests")
        free.close()
        gateway.close()
    return figures


def ask(session: Any, url: str, count: int) -> None:
    """Get an address many times."""
    for _ in range(count):
        if session.get(url, timeout=60).status_code != 200:
            raise SystemExit("a request failed")


def measure(chain: Any, sensor: Machine) -> None:
    """Let the sensor's device measure once."""
    entry = chain.home.keyring.entry(sensor.name)
    folder = chain.home.journals / entry.device.hex()
    folder.mkdir(parents=True, exist_ok=True)
    schema = Schema((Field("temperature", unit="Cel", scale=2),))
    path = folder / f"{0:020d}.readings"
    with ReadingJournal.open(path, device=entry.device, schema=schema, curve=entry.curve) as journal:
        journal.sign(chain.home.keyring.device(sensor.name), time=1_700_000_000_000, values=schema.fix(["21.50"]))


def main() -> int:
    """Print the table; fail where a ratio is below the design's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vouchers", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args()
    found = Vouchers(arguments.vouchers).figures()
    web = requests_a_second(arguments.requests)
    signing, verifying = found["sign"] / found["raw_sign"], found["verify"] / found["raw_verify"]
    both = 1 / (1 / found["sign"] + 1 / found["verify"]) * (1 / found["raw_sign"] + 1 / found["raw_verify"])
    for name, ratio in (("sign", signing), ("verify", verifying)):
        raw = found[f"raw_{name}"]
        print(f"vouchers, {name:6} {found[name]:>9,.0f}/s   raw coincurve {raw:>9,.0f}/s   {ratio:.2f}")
    print(f"signed and verified: {both:.2f} of raw coincurve (wanted: {VOUCHER_RATIO})")
    share = web["paid"] / web["free"]
    print(f"paid requests    {web['paid']:>9,.1f}/s   without payment {web['free']:>7,.1f}/s   {share:.3f}")
    if arguments.json:
        results = found | web | {"sign_ratio": signing, "verify_ratio": verifying, "ratio": both}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if both >= VOUCHER_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
