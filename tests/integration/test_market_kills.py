"""Sellers and buyers killed (SIGKILL) before and after every journal write, every file and every send.

Each story runs once in a child process that counts its points, and then once for each point in a child that is killed
there; a second child runs the same lines again to the end. Whatever the point, the story must end with one listing, one
payment, and the data or the refund. The number of points is printed.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm import Devnet, Machine, SaleDisputedError, SaleRefundedError, connect
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.contracts.data_market import OfferListed, OrderPaid, ResaleListed
from pyiot_evm.device.journal_file import Records
from pyiot_evm.home import LIGHT, Home
from pyiot_evm.hostile import Hostile
from pyiot_evm.market import atomic
from pyiot_evm.market.journal import Journal

for _module in ("cryptography.hazmat.primitives.ciphers.aead", "pyiot_evm.frames", "pyiot_evm.contracts.erc20",
                "pyiot_evm.market.preparing", "pyiot_evm.market.resale"):  # fmt: skip
    import_module(_module)  # what each of some five hundred children would load by itself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyiot_evm.chain import Chain

_SERIES = "timestamp,value\n" + "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.25\n" for minute in range(10, 16))
_WINDOWS = {"reveal_window": 600, "dispute_window": 900}
_PASSPHRASE = "a passphrase of the tests"


class Points:
    """Counts the places where a process could die, and dies at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.count = 0
        self.active = False
        self._fatal = fatal

    def reach(self) -> None:
        if self.active:
            self.count += 1
            if self.count == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def install(self) -> None:
        """Put a point before and after everything that is written or sent."""
        for kind in (Journal, TransactionJournal):
            kind._write = self._around_context(kind._write)
        Records.append = self._around(Records.append)
        os.replace, os.rename = self._around(os.replace), self._around(os.rename)
        atomic.sync_folder = self._around(atomic.sync_folder)
        call, batch = RpcClient.call, RpcClient.batch
        sending = "eth_sendRawTransaction"
        around_call, around_batch = self._around(call), self._around(batch)
        RpcClient.call = lambda c, m, *a: around_call(c, m, *a) if m == sending else call(c, m, *a)
        RpcClient.batch = lambda c, r: around_batch(c, r) if any(m == sending for m, _ in r) else batch(c, r)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.reach()
            result = function(*arguments, **named)
            self.reach()
            return result

        return wrapped

    def _around_context(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def wrapped(*arguments: Any, **named: Any) -> Iterator[Any]:
            self.reach()
            with function(*arguments, **named) as value:
                yield value
            self.reach()

        return wrapped


def sale_settled_by_the_seller(chain: Chain, folder: Path, seller_side: Points, _: Points) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        with seller_side.counted():
            offer = seller.sell(folder / "series.csv", price=1, bond="0.50", copies=1, serve=False, **_WINDOWS)
        order = buyer.market.order(offer.id)
        with seller_side.counted():
            seller.serve(once=True)
        chain.increase_time(901)
        with seller_side.counted():
            seller.serve(once=True)
            seller.withdraw()
        purchase = buyer.buy(offer.id, out=folder / "bought.csv")
        assert purchase.order_id == order.order_id
        return _ending(chain, seller, buyer) | {"state": purchase.state}


def sale_settled_by_the_buyer(chain: Chain, folder: Path, _: Points, buyer_side: Points) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        with buyer_side.counted():
            buyer.market.order(offer.id)
        seller.serve(once=True)
        with buyer_side.counted():
            purchase = buyer.buy(offer.id, out=folder / "bought.csv")
        return _ending(chain, seller, buyer) | {"state": purchase.state}


def sale_paid_by_allowance(chain: Chain, folder: Path, _: Points, buyer_side: Points) -> dict[str, Any]:
    from pyiot_evm.market.buyer import BuyerPolicy

    policy = BuyerPolicy(pay="allowance")
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer", buying=policy) as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        with buyer_side.counted():
            buyer.market.order(offer.id)
        seller.serve(once=True)
        purchase = buyer.buy(offer.id, out=folder / "bought.csv")
        return _ending(chain, seller, buyer) | {"state": purchase.state}


def sale_disputed(chain: Chain, folder: Path, _: Points, buyer_side: Points) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = Hostile().sell_forged(seller, folder / "series.csv", price="1", serve=False, **_WINDOWS)
        if not buyer.orders():
            buyer.market.order(offer.id)
            seller.serve(once=True)
        with buyer_side.counted(), pytest.raises(SaleDisputedError):
            buyer.buy(offer.id)
        return _ending(chain, seller, buyer) | {"state": buyer.orders()[0].state}


def sale_refunded(chain: Chain, folder: Path, _: Points, buyer_side: Points) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        if not buyer.orders():
            buyer.market.order(offer.id)
            chain.increase_time(601)
        if buyer.orders()[-1].state != "refunded":
            with buyer_side.counted(), pytest.raises(SaleRefundedError):
                buyer.buy(offer.id)
        return _ending(chain, seller, buyer) | {"state": buyer.orders()[0].state}


def bad_order_refunded_by_the_seller(chain: Chain, folder: Path, seller_side: Points, _: Points) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        if not _count(chain, OrderPaid):
            Hostile().order_with_bad_mask(buyer, offer)
        with seller_side.counted():
            seller.serve(once=True)
        return _ending(chain, seller, buyer) | {"state": seller.orders()[0].state}


def resale_by_the_holder(chain: Chain, folder: Path, seller_side: Points, _: Points) -> dict[str, Any]:
    names = ("seller", "buyer", "third")
    seller, holder, third = (Machine.open(chain, name) for name in names)
    offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
    if holder.credit() == 0:
        holder.market.order(offer.id)
        seller.serve(once=True)
        holder.buy(offer.id)
    with seller_side.counted():
        resale = holder.resell(offer.id, price=2, serve=False)
    third.market.order(resale.id)
    with seller_side.counted():
        holder.serve(once=True)
    purchase = third.buy(resale.id, out=folder / "bought.csv")
    return _ending(chain, holder, third) | {"state": purchase.state, "resales": _count(chain, ResaleListed)}


def _count(chain: Chain, kind: Any) -> int:
    return len(chain.logs(address=chain.addresses.data_market, topics=[kind.TOPIC]))


def _ending(chain: Chain, seller: Machine, buyer: Machine) -> dict[str, Any]:
    return {
        "listings": _count(chain, OfferListed),
        "payments": _count(chain, OrderPaid),
        "seller": seller.balance() + seller.credit(),
        "buyer": buyer.balance() + buyer.credit(),
    }


_SOLD = {"listings": 1, "payments": 1, "seller": Decimal(1001), "buyer": Decimal(999), "state": "settled"}
_UNSOLD = {"listings": 1, "payments": 1, "seller": Decimal(1000), "buyer": Decimal(1000)}
_STORIES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any], bool]] = {
    "settled by the seller": (sale_settled_by_the_seller, _SOLD, True),
    "settled by the buyer": (sale_settled_by_the_buyer, _SOLD, True),
    "paid by allowance": (sale_paid_by_allowance, _SOLD, True),
    "disputed": (sale_disputed, _UNSOLD | {"state": "disputed"}, False),
    "refunded": (sale_refunded, _UNSOLD | {"state": "refunded"}, False),
    "bad order": (bad_order_refunded_by_the_seller, _UNSOLD | {"state": "refunded"}, False),
    "resale": (
        resale_by_the_holder,
        {
            "listings": 1,
            "payments": 2,
            "resales": 1,
            "seller": Decimal(1001),
            "buyer": Decimal(998),
            "state": "settled",
        },
        True,
    ),
}


class Stage:
    """A devnet and a home with funded machines, put back before each run."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain = chain
        self.folder = folder
        self.snapshot = chain.snapshot()

    def reset(self) -> None:
        self.chain.rpc("evm_revert", self.snapshot)
        self.snapshot = self.chain.snapshot()
        for path in (self.folder / "home", self.folder / "bought.csv"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(self.folder / "template", self.folder / "home")

    def run(self, story: Callable[..., dict[str, Any]], fatal: int | None) -> tuple[int, dict[str, Any] | None, int]:
        """Run a story in a child; return how it ended, its result, and how many points it passed."""
        result = self.folder / "result"
        result.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self._play(story, fatal, result)
        _, status = os.waitpid(child, 0)
        ending, points = pickle.loads(result.read_bytes()) if result.exists() else (None, 0)
        return status, ending, points

    def _play(self, story: Callable[..., dict[str, Any]], fatal: int | None, result: Path) -> None:
        code = 1
        try:
            points = Points(fatal)
            points.install()
            home = Home(self.folder / "home", passphrase=lambda: _PASSPHRASE, cost=LIGHT)
            with connect(self.chain.url, home=home) as chain:
                ending = story(chain, self.folder, points, points)
            result.write_bytes(pickle.dumps((ending, points.count)))
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not run on as a second pytest
            traceback.print_exc(file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "series.csv").write_text(_SERIES)
    home = Home(folder / "template", passphrase=lambda: _PASSPHRASE, cost=LIGHT)
    with Devnet(home=home) as chain:
        for name in ("seller", "buyer", "third"):
            Machine.create(chain, name, curve="secp256k1").close()
        chain.journal.close()
        yield Stage(chain, folder)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", sorted(_STORIES))
def test_trade__when_killed_at_any_point__ends_with_one_payment_and_the_data_or_the_refund(
    stage: Stage, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    story, expected, delivers = _STORIES[name]
    stage.reset()
    status, ending, points = stage.run(story, None)
    assert (status, ending) == (0, expected)
    assert points > 5

    for fatal in range(1, points + 1):
        stage.reset()
        killed, _, _ = stage.run(story, fatal)
        assert os.WIFSIGNALED(killed), f"point {fatal} of {points} was not reached"
        assert os.WTERMSIG(killed) == signal.SIGKILL
        status, ending, _ = stage.run(story, None)
        assert (status, ending) == (0, expected), f"killed at point {fatal} of {points}"
        if delivers:
            assert (stage.folder / "bought.csv").read_text() == _SERIES, f"killed at point {fatal} of {points}"
    with capfd.disabled():
        sys.stdout.write(f"\n  {name}: killed at each of {points} points\n")
