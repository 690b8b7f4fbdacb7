"""The trading journal: what it keeps, what it refuses, and what two processes can do to it at once."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import ConsistencyError
from pyiot_evm.market.journal import Journal
from pyiot_evm.market.offers import Resale, blank_offer
from pyiot_evm.market.records import (
    OrderRecord,
    PurchaseRecord,
    PurchaseState,
    SaleRecord,
    SaleState,
    TransactionRecord,
)
from pyiot_evm.market.vault import Vault
from pyiot_evm.types import Address, Bytes32, OfferId, OrderId, ResaleId, SaleId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NUMBERS = itertools.count(1)
SELLER, BUYER, TOKEN = (Address(bytes([number]) * 20) for number in (1, 2, 3))
REQUEST = Bytes32(b"\x05" * 32)
POINT = bytes(range(64))
OFFER = blank_offer(seller=SELLER, token=TOKEN, price=1, salt=(1 << 256) - 1)
RESALE = Resale(offer_id=OfferId(b"\x07" * 32), holder=SELLER, token=TOKEN, price=(1 << 128) - 1, expiry=9, salt=8)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "folder" / "market.sqlite") as opened:
        yield opened


def a_sale(number: int = 0, **changes: Any) -> SaleRecord:
    sale = SaleRecord(
        key=f"sale-{number}", request=REQUEST, number=number, kind="offer", seller=SELLER, state=SaleState.DRAFTED,
        terms={"title": "A series", "bundle_url": ""}, point=POINT[:-1] + bytes([number]), created_at=7, block=3,
    )  # fmt: skip
    return replace(sale, **changes)


def an_order(**changes: Any) -> OrderRecord:
    order = OrderRecord(
        order_id=OrderId(next(_NUMBERS).to_bytes(32, "big")), sale_id=SaleId(b"\x06" * 32), seller=SELLER, buyer=BUYER,
        mask=Address(b"\x08" * 20), ephemeral_x=(1 << 256) - 1, ephemeral_y=1, state="Paid", deadline=100,
    )  # fmt: skip
    return replace(order, **changes)


def a_purchase(attempt: int = 0, **changes: Any) -> PurchaseRecord:
    purchase = PurchaseRecord(
        order_id=OrderId(next(_NUMBERS).to_bytes(32, "big")), sale_id=OfferId(b"\x06" * 32), buyer=BUYER,
        attempt=attempt, state=PurchaseState.DRAFTED, offer=OFFER, resale=None, mask=Address(b"\x08" * 20),
        ephemeral_x=(1 << 256) - 1, ephemeral_y=2, created_at=7, block=3, signature=b"\x01\x02",
    )  # fmt: skip
    return replace(purchase, **changes)


def test_open_sale__when_it_is_new__drafts_it_with_its_key(journal: Journal) -> None:
    sale = journal.open_sale(REQUEST, again=False, make=lambda number: (a_sale(number), b"secret"))

    assert sale == a_sale() == journal.newest_sale(REQUEST)
    assert journal.sales(SELLER) == [sale]
    assert journal.content_key(sale.point, SELLER) == b"secret"
    assert journal.content_keys(SELLER) == [(sale.point, "sold", b"secret")]


@pytest.mark.parametrize("state", [SaleState.DRAFTED, SaleState.SEALED, SaleState.PUBLISHED])
def test_open_sale__when_one_is_unfinished__goes_on_with_it(journal: Journal, state: SaleState) -> None:
    first = journal.open_sale(REQUEST, again=False, make=lambda n: (a_sale(n, state=state), b""))

    for again in (False, True):
        assert journal.open_sale(REQUEST, again=again, make=lambda n: (a_sale(n), b"")) == first


@pytest.mark.parametrize(
    ("state", "again", "number"), [("listed", False, 0), ("listed", True, 1), ("cancelled", False, 1)]
)
def test_open_sale__when_one_is_finished__drafts_another_only_where_it_is_wanted(
    journal: Journal, state: str, again: bool, number: int
) -> None:
    journal.open_sale(REQUEST, again=False, make=lambda n: (a_sale(n, state=SaleState(state)), b""))

    assert journal.open_sale(REQUEST, again=again, make=lambda n: (a_sale(n), b"")).number == number


def test_open_sale__when_many_threads_ask_at_once__drafts_one(tmp_path: Path) -> None:
    found: list[SaleRecord] = []

    def ask() -> None:
        with Journal(tmp_path / "market.sqlite") as journal:
            found.append(journal.open_sale(REQUEST, again=False, make=lambda n: (a_sale(n), b"")))

    Journal(tmp_path / "market.sqlite").close()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [a_sale()] * 8


def test_open_sale__when_the_maker_fails__keeps_nothing(journal: Journal) -> None:
    def fail(_: int) -> tuple[SaleRecord, bytes]:
        raise ConsistencyError("no")

    with pytest.raises(ConsistencyError, match="no"):
        journal.open_sale(REQUEST, again=False, make=fail)
    assert journal.sales(SELLER) == []


def test_advance_sale__when_it_is_in_another_state__changes_nothing(journal: Journal) -> None:
    journal.open_sale(REQUEST, again=False, make=lambda n: (a_sale(n), b""))
    changes: dict[str, Any] = {"offer": OFFER, "sale_id": OfferId(b"\x09" * 32), "summary": b"\x01", "rows": 4}

    sealed = journal.advance_sale("sale-0", SaleState.DRAFTED, SaleState.SEALED, **changes)
    late = journal.advance_sale("sale-0", SaleState.DRAFTED, SaleState.SEALED, rows=5)

    assert sealed == late == a_sale(state=SaleState.SEALED, **changes)
    assert isinstance(late.sale_id, OfferId)
    assert journal.sale(OfferId(b"\x09" * 32)) == sealed


def test_advance_sale__when_the_key_has_sealed_another_root__is_refused(journal: Journal) -> None:
    """One key under two roots gives whoever bought one data set the other as well."""
    point = POINT
    for number in range(2):
        request = Bytes32(bytes([number]) * 32)
        journal.open_sale(
            request,
            again=False,
            make=lambda n, r=request, k=number: (a_sale(n, key=f"s{k}", request=r, point=point), b""),
        )
    journal.advance_sale("s0", SaleState.DRAFTED, SaleState.SEALED, offer=OFFER)
    other = replace(OFFER, sealed_root=Bytes32(b"\x01" * 32))

    with pytest.raises(ConsistencyError, match="has sealed another root"):
        journal.advance_sale("s1", SaleState.DRAFTED, SaleState.SEALED, offer=other)
    assert [sale.state for sale in journal.sales(SELLER)] == ["sealed", "drafted"]


def test_sale__when_it_is_a_resale__keeps_both_structs(journal: Journal) -> None:
    sale = a_sale(kind="resale", offer=OFFER, resale=RESALE, sale_id=ResaleId(b"\x0a" * 32), state=SaleState.SEALED)
    journal.open_sale(REQUEST, again=False, make=lambda _: (sale, b""))

    found = journal.sale(ResaleId(b"\x0a" * 32))

    assert found == sale
    assert found is not None
    assert isinstance(found.sale_id, ResaleId)


@pytest.mark.parametrize("first", ["reveal", "refund"])
def test_decide__when_it_was_decided__the_first_decision_stands(journal: Journal, first: str) -> None:
    order = an_order()
    journal.add_orders([order])

    assert journal.decide(order.order_id, first) == first
    assert journal.decide(order.order_id, "refund" if first == "reveal" else "reveal") == first
    assert journal.order(order.order_id) == replace(order, decision=first)


def test_decide__when_two_processes_differ__one_decision_stands(tmp_path: Path) -> None:
    path, order = tmp_path / "market.sqlite", an_order()
    with Journal(path) as journal:
        journal.add_orders([order])
    found: list[str] = []

    def decide(decision: str) -> None:
        with Journal(path) as journal:
            found.append(journal.decide(order.order_id, decision))

    threads = [threading.Thread(target=decide, args=(name,)) for name in ["reveal", "refund"] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_add_orders__when_one_is_known__keeps_what_was_decided(journal: Journal) -> None:
    order, other = an_order(), an_order()
    journal.add_orders([order])
    journal.decide(order.order_id, "refund")
    journal.set_order(order.order_id, state="Refunded", deadline=0)
    journal.add_orders([order, other])

    assert [(found.state, found.decision) for found in journal.orders(SELLER)] == [
        ("Refunded", "refund"),
        ("Paid", None),
    ]
    assert journal.orders(SELLER, "Paid") == [other]
    assert journal.orders(BUYER) == []


@pytest.mark.parametrize("state", list(PurchaseState))
def test_open_purchase__when_one_is_there__follows_only_a_closed_one_that_may_be_followed(
    journal: Journal, state: PurchaseState
) -> None:
    first = a_purchase(state=state, resale=RESALE, sale_id=ResaleId(b"\x06" * 32), released_key=(1 << 255) + 1)
    journal.restore_purchase(first)
    may = {"sale_id": first.sale_id, "buyer": BUYER}

    kept = journal.open_purchase(**may, may_follow=lambda _: False, make=a_purchase)
    next_one = journal.open_purchase(**may, may_follow=lambda _: True, make=a_purchase)

    is_open = state in (PurchaseState.DRAFTED, PurchaseState.PAID, PurchaseState.REVEALED)
    assert kept == first
    assert next_one.attempt == (0 if is_open else 1)


def test_advance_purchase__when_it_is_over__stays_over(journal: Journal) -> None:
    purchase = a_purchase()
    journal.restore_purchase(purchase)
    settled = journal.advance_purchase(purchase.order_id, PurchaseState.SETTLED, PurchaseState.DRAFTED, rows=9)

    late = journal.advance_purchase(
        purchase.order_id, PurchaseState.REFUNDED, PurchaseState.PAID, PurchaseState.REVEALED, rows=1
    )

    assert settled == late == replace(purchase, state=PurchaseState.SETTLED, rows=9)
    assert journal.purchases(BUYER) == [late]


def test_transactions__when_one_is_added_twice__keeps_one(journal: Journal) -> None:
    sent = TransactionRecord("buy", "0x01", 21000)
    for _ in range(2):
        journal.add_transaction("order", sent)
        journal.add_failure("order", "buy", 0)

    assert journal.transactions("order") == (sent,)
    assert journal.transactions("other") == ()
    assert (journal.failures("order", "buy"), journal.failures("order", "reveal")) == (1, 0)


def test_cursor__when_it_is_taken_back__is_gone(journal: Journal) -> None:
    journal.set_cursor("orders", 9)
    journal.set_cursor("orders", 12)
    assert journal.cursor("orders") == 12

    journal.set_cursor("orders", None)
    assert journal.cursor("orders") is None


def test_journal__when_it_is_made__is_its_owners_alone(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o077 == 0
    mode = sqlite3.connect(journal.path).execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_vault__when_the_label_or_the_account_differs__stays_shut() -> None:
    vault = Vault.of(LocalSigner.from_secret(bytes(31) + b"\x01"))
    sealed = vault.encrypt(b"a content key", label=b"Q")

    assert b"a content key" not in sealed
    assert Vault.of(LocalSigner.from_secret(bytes(31) + b"\x01")).decrypt(sealed, label=b"Q") == b"a content key"
    for other, label in ((vault, b"P"), (Vault.of(LocalSigner.create()), b"Q")):
        with pytest.raises(ConsistencyError, match="not encrypted by this account"):
            other.decrypt(sealed, label=label)


def test_derive__when_a_part_differs__gives_other_bytes() -> None:
    vault = Vault(bytes(32))
    derived = [vault.derive("a"), vault.derive("b"), vault.derive("a", b""), vault.derive("a", b"x", b"y")]
    derived += [vault.derive("a", b"xy"), Vault(b"\x01" * 32).derive("a")]

    assert len(set(derived)) == len(derived)
    assert "secret" in repr(vault)
    assert bytes(32).hex() not in repr(vault)
