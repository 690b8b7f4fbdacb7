"""Offer files come from strangers: what is not one is refused with a typed error, whatever it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError, PyIotEvmError, VerificationError
from pyiot_evm.market.offer_file import read_offer_file, write_offer_file
from pyiot_evm.market.offers import Resale, blank_offer
from pyiot_evm.types import Address, OfferId

if TYPE_CHECKING:
    from pathlib import Path

SELLER = Address(b"\x01" * 20)
OFFER = blank_offer(seller=SELLER, token=SELLER, price=(1 << 128) - 1)
RESALE = Resale(offer_id=OfferId(b"\x02" * 32), holder=SELLER, token=SELLER, price=3, expiry=4, salt=(1 << 256) - 1)
TRADER: Any = SimpleNamespace(
    chain=SimpleNamespace(chain_id=31337), contract=SimpleNamespace(address=Address(b"\x03" * 20))
)


@dataclass
class Sold:
    resale: Resale | None = None
    offer: Any = OFFER
    block: int = 12
    signature: bytes = b"\x05" * 65
    uri: str = "https://example.org/bundle.pyiot"


@pytest.mark.parametrize("resale", [None, RESALE])
def test_read_offer_file__when_it_was_written__gives_it_back(tmp_path: Path, resale: Resale | None) -> None:
    write_offer_file(tmp_path / "offer.json", TRADER, Sold(resale))  # type: ignore[arg-type]

    found = read_offer_file(tmp_path / "offer.json")

    assert (found.offer, found.resale, found.chain_id, found.block) == (OFFER, resale, 31337, 12)
    assert (found.market, found.signature, found.uri) == (TRADER.contract.address, b"\x05" * 65, Sold.uri)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"more": 1},
        {"chainId": "x"},
        {"chainId": -1},
        {"market": "0x12"},
        {"offer": []},
        {"offer": {}},
        {"resale": {}},
        {"signature": "zz"},
        {"uri": 7},
        {"uri": "x" * 3000},
        {"block": 1 << 41},
    ],
    ids=str,
)
def test_read_offer_file__when_a_field_is_wrong__is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "offer.json"
    write_offer_file(path, TRADER, Sold())  # type: ignore[arg-type]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(VerificationError):
        read_offer_file(path)


def test_read_offer_file__when_there_is_none__says_so(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            read_offer_file(path)


def test_read_offer_file__when_it_is_huge__reads_no_more_than_it_must(tmp_path: Path) -> None:
    path = tmp_path / "offer.json"
    path.write_bytes(b" " * 70_000)

    with pytest.raises(VerificationError, match="too large"):
        read_offer_file(path)


@given(data=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_read_offer_file__when_it_is_anything__gives_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.json"
    path.write_bytes(data)

    with pytest.raises(PyIotEvmError):
        read_offer_file(path)
