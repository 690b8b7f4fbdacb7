"""Sellers and buyers killed (SIGKILL) before and after every journal write, every file and every send.

Each story runs once in a child process that counts its points, and then once for each point in a child that is killed
there; a second child runs the same lines again to the end. Whatever the point, the story must end with one listing, one
payment, and the data or the refund. The number of points is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm import Machine, SaleDisputedError, SaleRefundedError
from pyiot_evm.contracts.data_market import OfferListed, OrderPaid, ResaleListed
from pyiot_evm.hostile import Hostile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyiot_evm.chain import Chain

_SERIES = "timestamp,value\n" + "".join(f"2015-09-01 13:{minute:02d}:00,{minute}.25\n" for minute in range(10, 16))
_WINDOWS = {"reveal_window": 600, "dispute_window": 900}


def sale_settled_by_the_seller(chain: Chain, folder: Path, seller_side: Any, _: Any) -> dict[str, Any]:
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


def sale_settled_by_the_buyer(chain: Chain, folder: Path, _: Any, buyer_side: Any) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        with buyer_side.counted():
            buyer.market.order(offer.id)
        seller.serve(once=True)
        with buyer_side.counted():
            purchase = buyer.buy(offer.id, out=folder / "bought.csv")
        return _ending(chain, seller, buyer) | {"state": purchase.state}


def sale_paid_by_allowance(chain: Chain, folder: Path, _: Any, buyer_side: Any) -> dict[str, Any]:
    from pyiot_evm.market.buyer import BuyerPolicy

    policy = BuyerPolicy(pay="allowance")
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer", buying=policy) as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        with buyer_side.counted():
            buyer.market.order(offer.id)
        seller.serve(once=True)
        purchase = buyer.buy(offer.id, out=folder / "bought.csv")
        return _ending(chain, seller, buyer) | {"state": purchase.state}


def sale_disputed(chain: Chain, folder: Path, _: Any, buyer_side: Any) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = Hostile().sell_forged(seller, folder / "series.csv", price="1", serve=False, **_WINDOWS)
        if not buyer.orders():
            buyer.market.order(offer.id)
            seller.serve(once=True)
        with buyer_side.counted(), pytest.raises(SaleDisputedError):
            buyer.buy(offer.id)
        return _ending(chain, seller, buyer) | {"state": buyer.orders()[0].state}


def sale_refunded(chain: Chain, folder: Path, _: Any, buyer_side: Any) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        if not buyer.orders():
            buyer.market.order(offer.id)
            chain.increase_time(601)
        if buyer.orders()[-1].state != "refunded":
            with buyer_side.counted(), pytest.raises(SaleRefundedError):
                buyer.buy(offer.id)
        return _ending(chain, seller, buyer) | {"state": buyer.orders()[0].state}


def bad_order_refunded_by_the_seller(chain: Chain, folder: Path, seller_side: Any, _: Any) -> dict[str, Any]:
    with Machine.open(chain, "seller") as seller, Machine.open(chain, "buyer") as buyer:
        offer = seller.sell(folder / "series.csv", price=1, serve=False, **_WINDOWS)
        if not _count(chain, OrderPaid):
            Hostile().order_with_bad_mask(buyer, offer)
        with seller_side.counted():
            seller.serve(once=True)
        return _ending(chain, seller, buyer) | {"state": seller.orders()[0].state}


def resale_by_the_holder(chain: Chain, folder: Path, seller_side: Any, _: Any) -> dict[str, Any]:
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


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Any]) -> Any:
    return make_stage("seller", "buyer", "third", series=_SERIES)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", sorted(_STORIES))
def test_trade__when_killed_at_any_point__ends_with_one_payment_and_the_data_or_the_refund(
    stage: Any, name: str, capfd: pytest.CaptureFixture[str]
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
