"""Several processes on one account at the same moment, and a seller who comes back from a backup.

The children are forked, so nothing in this process may run in a thread: a lock that one holds would stay held.
"""

from __future__ import annotations

import os
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from children import end_of, in_child

from pyiot_evm import Devnet, Machine, connect
from pyiot_evm.backup import restore_backup, write_backup
from pyiot_evm.contracts.data_market import OfferListed, OrderPaid, OrderRevealed
from pyiot_evm.home import LIGHT, Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyiot_evm.chain import Chain

_PASSPHRASE = "a passphrase of the tests"
_SERIES = "timestamp,value\n" + "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.25\n" for minute in range(10, 20))
_WINDOWS = {"reveal_window": 600, "dispute_window": 900}
_PROCESSES = 4


def home_at(path: Path) -> Home:
    return Home(path, passphrase=lambda: _PASSPHRASE, cost=LIGHT)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    (tmp_path / "series.csv").write_text(_SERIES)
    with Devnet(home=home_at(tmp_path / "home")) as devnet:
        for name in ("seller", "buyer", "second", "third"):
            Machine.create(devnet, name, curve="p256").close()
        yield devnet


def at_once(chain: Chain, folder: Path, act: Callable[[Chain], Any]) -> list[Any]:
    """Do one thing in several processes at the same moment; return what each came to."""
    start = time.time() + 1.0
    results = [folder / f"result{number}" for number in range(_PROCESSES)]
    children = [(_beside(chain.url, folder, act, start=start, result=result), result) for result in results]
    endings = [end_of(*child) for child in children]
    assert [status for status, _ in endings] == [0] * _PROCESSES
    return [found for _, found in endings]


def _beside(
    url: str, folder: Path, act: Callable[[Chain], Any], *, start: float = 0.0, result: Path | None = None
) -> int:
    """Do a thing in a process of its own, at a moment; return the process."""

    def run() -> Any:
        with connect(url, home=home_at(folder / "home")) as chain:
            time.sleep(max(0.0, start - time.time()))
            return act(chain)

    return in_child(run, result)


def count(chain: Chain, kind: Any) -> int:
    return len(chain.logs(address=chain.addresses.data_market, topics=[kind.TOPIC]))


def test_sell__when_several_processes_sell_the_same__lists_once(chain: Chain, tmp_path: Path) -> None:
    def sell(own: Chain) -> str:
        with Machine.open(own, "seller") as seller:
            return str(seller.sell(tmp_path / "series.csv", price=1, serve=False).id)

    found = at_once(chain, tmp_path, sell)

    assert len(set(found)) == 1
    assert count(chain, OfferListed) == 1


def test_buy__when_several_processes_buy_the_same__pays_once(chain: Chain, tmp_path: Path) -> None:
    with Machine.open(chain, "seller") as seller:
        offer = seller.sell(tmp_path / "series.csv", price=1, serve=False)

    def buy(own: Chain) -> str:
        with Machine.open(own, "buyer") as buyer:
            return buyer.buy(str(offer.id), timeout=120).table().csv().decode()

    def serve(own: Chain) -> None:
        with Machine.open(own, "seller") as seller:
            while not (tmp_path / "stop").exists():
                seller.serve(once=True)
                time.sleep(0.1)

    serving = _beside(chain.url, tmp_path, serve)
    try:
        found = at_once(chain, tmp_path, buy)
    finally:
        (tmp_path / "stop").touch()
        os.waitpid(serving, 0)

    assert found == [_SERIES] * _PROCESSES
    assert count(chain, OrderPaid) == 1
    with Machine.open(chain, "buyer") as buyer:
        assert buyer.balance() == Decimal(999)


def test_serve__when_several_processes_answer__reveals_and_settles_each_order_once(
    chain: Chain, tmp_path: Path
) -> None:
    with Machine.open(chain, "seller") as seller:
        offer = seller.sell(tmp_path / "series.csv", price=1, serve=False, **_WINDOWS)
    orders = []
    for name in ("buyer", "second", "third"):
        with Machine.open(chain, name) as buyer:
            orders.append(buyer.market.order(offer.id).order_id)

    def serve(own: Chain) -> list[str]:
        with Machine.open(own, "seller") as seller:
            return [action.kind for action in seller.serve(once=True)]

    at_once(chain, tmp_path, serve)
    assert count(chain, OrderRevealed) == 3
    chain.increase_time(901)
    at_once(chain, tmp_path, serve)

    with Machine.open(chain, "seller") as seller:
        assert {order.state for order in seller.orders()} == {"settled"}
        assert seller.credit() == Decimal(3)


def test_restore_backup__when_the_seller_lost_its_home__answers_its_orders(chain: Chain, tmp_path: Path) -> None:
    with Machine.open(chain, "seller") as seller:
        offer = seller.sell(tmp_path / "series.csv", price=1, serve=False)
        write_backup(chain.home, tmp_path / "backup.tar.gz")
    with Machine.open(chain, "buyer") as buyer:
        order = buyer.market.order(offer.id)
    fresh = home_at(tmp_path / "fresh")
    restore_backup(fresh, tmp_path / "backup.tar.gz")

    with connect(chain.url, home=fresh) as again, Machine.open(again, "seller") as seller:
        actions = seller.serve(once=True)

    assert [(action.kind, action.order_id) for action in actions] == [("revealed", order.order_id)]
    with Machine.open(chain, "buyer") as buyer:
        assert buyer.buy(offer.id).table().csv().decode() == _SERIES
