"""The catalog's store: what is found, what is forgotten, and what strangers' words become."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pyiot_evm.exceptions import InputError
from pyiot_evm.market.catalog import Cancellation, CatalogStore, Entry, Query, clean_text
from pyiot_evm.market.offers import Resale, Summary, blank_offer
from pyiot_evm.types import Address, DeviceId, OfferId, ResaleId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NUMBERS = itertools.count(1)
SELLER, TOKEN = Address(b"\x01" * 20), Address(b"\x02" * 20)
DEVICE = DeviceId(b"\x03" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore(tmp_path / "folder" / "catalog.sqlite") as opened:
        yield opened


def an_entry(*, title: str = "Road occupancy", block: int = 1, **changes: Any) -> Entry:
    number = next(_NUMBERS)
    summary = Summary(DEVICE, 1000, 2000, 10, title, ("traffic", "Minnesota"))
    offer = blank_offer(seller=SELLER, token=TOKEN, price=5, expiry=100)
    sale_id = OfferId(number.to_bytes(32, "big"))
    entry = Entry(sale_id, sale_id, SELLER, summary, "https://example.org/b", offer, None, block, number)
    return replace(entry, **changes)


def add(store: CatalogStore, *changes: Entry | Cancellation, block: int = 1) -> None:
    store.apply(list(changes), block=block, block_hash=f"hash of {block}")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"text": "ROAD occ"}, True),
        ({"text": "traffic road"}, True),
        ({"text": "road rail"}, False),
        ({"text": "%"}, False),
        ({"text": "_"}, False),
        ({"tag": "minnesota"}, True),
        ({"tag": "minne"}, False),
        ({"seller": SELLER}, True),
        ({"seller": TOKEN}, False),
        ({"device": DEVICE}, True),
        ({"device": DeviceId(bytes(32))}, False),
        ({"token": TOKEN}, True),
        ({"min_price": 5, "max_price": 5}, True),
        ({"min_price": 6}, False),
        ({"max_price": 4}, False),
        ({"since": 2000, "until": 1000}, True),
        ({"since": 2001}, False),
        ({"until": 999}, False),
        ({"now": 99}, True),
        ({"now": 100}, False),
    ],
)
def test_search__when_something_is_wanted__finds_what_fits(
    store: CatalogStore, wanted: dict[str, Any], found: bool
) -> None:
    entry = an_entry()
    add(store, entry)

    assert [seen.id for seen in store.search(Query(**wanted))] == ([entry.sale_id] if found else [])


@pytest.mark.parametrize("price", [0, 9, 10, (1 << 63), (1 << 128) - 1])
def test_search__when_prices_are_of_any_size__orders_them_as_numbers(store: CatalogStore, price: int) -> None:
    entry = an_entry()
    add(store, replace(entry, offer=replace(entry.offer, price=price)))

    assert store.search(Query(min_price=price, max_price=price))[0].price == price
    assert store.search(Query(min_price=price + 1)) == []


def test_search__when_there_are_many__gives_the_newest_first(store: CatalogStore) -> None:
    entries = [an_entry(block=block) for block in (1, 1, 2)]
    add(store, *entries, block=2)

    assert [seen.id for seen in store.search(Query(limit=2))] == [entries[2].sale_id, entries[1].sale_id]
    with pytest.raises(InputError, match="limit"):
        store.search(Query(limit=0))


def test_apply__when_it_is_listed_again__the_last_listing_counts(store: CatalogStore) -> None:
    entry = an_entry()
    moved = replace(entry, uri="https://example.org/moved", block=3)
    add(store, entry)
    add(store, moved, block=3)

    found = store.get(entry.sale_id)
    assert found is not None
    assert (found.uri, found.block, found.first_block) == (moved.uri, 3, 1)
    assert len(store.search(Query())) == 1


def test_rewind__when_a_block_is_undone__takes_back_what_it_brought(store: CatalogStore) -> None:
    kept, undone = an_entry(), an_entry(block=3)
    add(store, kept)
    add(store, undone, replace(kept, uri="https://example.org/moved", block=3), Cancellation(kept.sale_id, 3), block=3)
    assert [seen.id for seen in store.search(Query())] == [undone.sale_id]

    store.rewind(2)

    assert [seen.id for seen in store.search(Query())] == [kept.sale_id]
    assert store.search(Query())[0].uri == kept.uri
    assert store.checkpoints() == [(1, "hash of 1")]


def test_apply__when_it_is_a_resale__takes_the_words_of_its_offer(store: CatalogStore) -> None:
    entry = an_entry()
    resale = Resale(offer_id=entry.offer_id, holder=TOKEN, token=TOKEN, price=7, expiry=50, salt=1)
    name = ResaleId(b"\x09" * 32)
    add(store, entry)
    add(store, replace(entry, sale_id=name, seller=TOKEN, summary=None, resale=resale, block=2), block=2)

    found = store.get(name)

    assert found is not None
    assert (found.title, found.price, found.seller, found.expiry) == ("Road occupancy", 7, TOKEN, 50)
    assert (found.offer_id, found.resale, isinstance(found.id, ResaleId)) == (entry.offer_id, resale, True)


def test_apply__when_the_summary_cannot_be_read__lists_it_without_words(store: CatalogStore) -> None:
    entry = an_entry(summary=None)
    add(store, entry)

    found = store.search(Query())[0]
    assert (found.title, found.tags, found.device, found.rows) == ("", (), DeviceId(bytes(32)), 0)


def test_apply__when_times_do_not_fit_the_database__are_cut(store: CatalogStore) -> None:
    summary = Summary(DEVICE, 0, (1 << 64) - 1, 1, "t")
    add(store, an_entry(summary=summary))

    assert store.search(Query())[0].last_time == (1 << 63) - 1


def test_checkpoints__when_there_are_many__keeps_the_newest(store: CatalogStore) -> None:
    for block in range(300):
        add(store, block=block)

    kept = store.checkpoints()
    assert (len(kept), kept[0], kept[-1]) == (256, (299, "hash of 299"), (44, "hash of 44"))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x07", "[31mred"),
        ("left\u202eright\u2066", "leftright"),
        ("line\r\nbreak\tand\0nul", "linebreakandnul"),
        ("a" * 500, "a" * 200),
        ("\u0000" * 900 + "late", ""),
        ("  Ünïcode 温度 😀 ", "Ünïcode 温度 😀"),
    ],
)
def test_clean_text__when_a_stranger_wrote_it__is_safe_to_print(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_store__when_several_open_a_new_file_at_once__has_its_tables_for_all(tmp_path: Path) -> None:
    """Each opener of a file without a version used to drop the tables first. One of them dropped what another had just
    made, and was about to read."""

    def open_and_read(number: int) -> list[tuple[int, str]]:
        ready.wait()
        with CatalogStore(tmp_path / f"catalog{number}.sqlite") as opened:
            return opened.checkpoints()

    openers = 8
    for number in range(25):
        ready = threading.Barrier(openers)
        with ThreadPoolExecutor(openers) as pool:
            assert list(pool.map(open_and_read, [number] * openers)) == [[]] * openers
