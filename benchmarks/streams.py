"""How fast a stream of paid readings is, against the same readings over the same kind of WebSocket for free.

    python benchmarks/streams.py [--readings 300]

Payer and payee run in this process, with their books on the disk; the free side checks each reading's signature too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.sync.client import connect

from pyiot_evm import Devnet, Machine, Reading
from pyiot_evm.device import Field, ReadingJournal, Schema
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.server import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 3
MODES = ("locked", "plain")
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))


def measure(sensor: Machine, count: int) -> list[bytes]:
    """Let the sensor measure, and return the leaves."""
    home, device = sensor.chain.home, sensor.device
    folder = home.journals / device.hex()
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(1_700_000_000_000 + 1000 * number, SCHEMA.fix(["21.50"])) for number in range(count)]
    with ReadingJournal.open(folder / f"{0:020d}.readings", device=device, schema=SCHEMA, curve="secp256k1") as journal:
        journal.sign_many(home.keyring.device(sensor.name), rows)
        return [reading.leaf() for reading in journal]


@contextmanager
def free_stream(leaves: list[bytes]) -> Iterator[str]:
    """Serve the leaves over a WebSocket, one for each message of the client."""
    app = FastAPI()

    @app.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        for leaf in leaves:
            await websocket.receive_text()
            await websocket.send_text(leaf.hex())
        await websocket.close()

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/stream"
    server.should_exit = True
    thread.join()


def take_free(url: str, sensor: Machine, count: int) -> None:
    """Read all for free, each signature checked."""
    signer: bytes = sensor.chain.home.keyring.entry(sensor.name).signer
    with connect(url, compression=None) as socket:
        for _ in range(count):
            socket.send("next")
            leaf = bytes.fromhex(str(socket.recv()))
            reading = Reading.from_leaf(
                leaf, device=sensor.device, schema=SCHEMA.hash, value_count=1, curve="secp256k1"
            )
            if not reading.is_signed_by(signer):
                raise SystemExit("a reading is not signed")


def take_paid(url: str, buyer: Machine, sensor: Machine, count: int, mode: Any) -> None:
    """Buy all, one by one."""
    with buyer.stream(
        url, sensor.device, max_price="0.0001", mode=mode, start=0, follow=False, prepay=count
    ) as readings:
        if sum(1 for _ in readings) != count:
            raise SystemExit("readings are missing")


def rate(work: Callable[[], None], count: int) -> float:
    """Return how many readings come a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def figures(count: int) -> dict[str, float]:
    """Return each rate: the median of some rounds, in which all take turns; each round has buyers of its own."""
    found: dict[str, list[float]] = {"free": [], **{mode: [] for mode in MODES}}
    with Devnet() as chain:
        sensor = Machine.create(chain, "sensor", curve="secp256k1")
        leaves = measure(sensor, count)
        with Gateway(sensor, GatewayConfig()) as url, free_stream(leaves) as free_url:
            for number in range(ROUNDS):
                found["free"].append(rate(lambda: take_free(free_url, sensor, count), count))
                for mode in MODES:
                    buyer = Machine.create(chain, f"buyer-{mode}-{number}")
                    paid = rate(lambda: take_paid(url, buyer, sensor, count, mode), count)  # noqa: B023 - called at once
                    found[mode].append(paid)
    return {name: statistics.median(rates) for name, rates in found.items()}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args()
    found = figures(arguments.readings)
    print(f"readings over a stream       a second   ratio\nfree                       {found['free']:>10,.0f}    1.00")
    for mode in MODES:
        print(f"paid, {mode:6}               {found[mode]:>10,.0f}   {found[mode] / found['free']:>5.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
