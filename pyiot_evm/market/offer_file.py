"""The offer file: a private sale in a file, signed by its seller, for whoever it is given to.

A listing on chain is for everybody; an offer file goes by mail, chat or a memory stick. It holds the offer (and the
resale, when a holder sells), the signature and where the bundle lies. Who reads one reads a stranger's file: the
signature is checked against the chain before anything is paid.

Example:
    >>> read_offer_file("/nowhere/offer.json")
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.InputError: cannot read the offer file /nowhere/offer.json: No such file or directory
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.market.atomic import atomic_file
from pyiot_evm.market.documents import (
    OFFER_FIELDS,
    RESALE_FIELDS,
    hex_text,
    read_fields,
    read_hex,
    read_number,
    write_fields,
)
from pyiot_evm.market.metadata import strict_json
from pyiot_evm.market.offers import Offer, Resale
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.market.records import SaleRecord
    from pyiot_evm.market.trader import Trader

__all__ = ["OfferFile", "read_offer_file", "write_offer_file"]

_FORMAT: Final = "pyiot offer"
_KEYS: Final = {"format", "chainId", "market", "block", "offer", "resale", "signature", "uri"}
_MAX_BYTES: Final = 64 * 1024
_MAX_URI: Final = 2048


@dataclass(frozen=True, slots=True)
class OfferFile:
    """What an offer file holds.

    Attributes:
        block: A height below which nothing about the sale lies on the chain.
        signature: The seller's over the offer, or the holder's over the resale.
    """

    chain_id: int
    market: Address
    block: int
    offer: Offer
    resale: Resale | None
    signature: bytes
    uri: str


def write_offer_file(path: Path, trader: Trader, sale: SaleRecord) -> None:
    """Write a private sale's offer file, whole or not at all."""
    document = {
        "format": _FORMAT,
        "chainId": trader.chain.chain_id,
        "market": str(trader.contract.address),
        "block": sale.block,
        "offer": write_fields(sale.offer, OFFER_FIELDS),
        "resale": None if sale.resale is None else write_fields(sale.resale, RESALE_FIELDS),
        "signature": hex_text(sale.signature),
        "uri": sale.uri,
    }
    with atomic_file(path) as file:
        file.write(json.dumps(document, indent=1).encode())


def read_offer_file(path: str | Path) -> OfferFile:
    """Read an offer file that a stranger may have written.

    Raises:
        InputError: There is no such file.
        VerificationError: It is no offer file.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the offer file {path}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise VerificationError(f"{path} is too large for an offer file")
    document = strict_json(data)
    if set(document) != _KEYS or document["format"] != _FORMAT:
        raise VerificationError(f"{path} is not an offer file")
    uri, resale = document["uri"], document["resale"]
    if not isinstance(uri, str) or len(uri) > _MAX_URI:
        raise VerificationError("the offer file's address of the bundle is none")
    return OfferFile(
        chain_id=read_number(document["chainId"], bits=256),
        market=Address(read_hex(document["market"], size=20)),
        block=read_number(document["block"], bits=40),
        offer=Offer(**read_fields(document["offer"], OFFER_FIELDS)),
        resale=None if resale is None else Resale(**read_fields(resale, RESALE_FIELDS)),
        signature=read_hex(document["signature"]),
        uri=uri,
    )
