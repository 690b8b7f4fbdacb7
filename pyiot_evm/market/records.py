"""The rows of the trading journal, as frozen dataclasses.

Example:
    >>> from pyiot_evm.market.records import SaleState
    >>> [state.value for state in SaleState]
    ['drafted', 'sealed', 'published', 'listed', 'cancelled']
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pyiot_evm.sending import TransactionRecord

if TYPE_CHECKING:
    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.types import Address, Bytes32, OrderId, SaleId

__all__ = [
    "OrderRecord",
    "PurchaseRecord",
    "PurchaseState",
    "SaleRecord",
    "SaleState",
    "TransactionRecord",
]


class SaleState(StrEnum):
    """How far a sale has come; each step is journalled before the next one begins."""

    DRAFTED = "drafted"  # the content key is in the journal; nothing else exists
    SEALED = "sealed"  # the bundle lies on the seller's disk and the offer is fixed
    PUBLISHED = "published"  # the bundle lies where buyers fetch it
    LISTED = "listed"  # the listing is on chain, or the offer file is signed
    CANCELLED = "cancelled"


class PurchaseState(StrEnum):
    """How far a purchase has come."""

    DRAFTED = "drafted"  # the one-time key is chosen; the payment may or may not be on its way
    PAID = "paid"
    REVEALED = "revealed"  # the content key is in the journal
    SETTLED = "settled"
    DISPUTED = "disputed"  # the data broke its promise; price and bond came back
    REFUNDED = "refunded"
    ABANDONED = "abandoned"  # nothing was ever paid


OPEN_PURCHASES = (PurchaseState.DRAFTED, PurchaseState.PAID, PurchaseState.REVEALED)


@dataclass(frozen=True, slots=True)
class SaleRecord:
    """One sale of a seller or a holder.

    Attributes:
        key: Names the sale in the journal and its bundle's file.
        request: The hash of what was asked for: network, seller, content and terms.
        number: Counts the sales of one and the same request, from 0.
        kind: ``"offer"`` or ``"resale"``.
        terms: What was asked for, as a JSON document.
        point: Q, the public point of the content key, 64 bytes.
        signature: The seller's signature when the sale is private.
        block: The chain's height when it was drafted: nothing about it lies in earlier blocks.
        bundle: Where the bundle lies on the seller's disk.
    """

    key: str
    request: Bytes32
    number: int
    kind: str
    seller: Address
    state: SaleState
    terms: dict[str, Any]
    point: bytes
    created_at: int
    block: int
    sale_id: SaleId | None = None
    offer: Offer | None = None
    resale: Resale | None = None
    signature: bytes = b""
    summary: bytes = b""
    uri: str = ""
    bundle: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """One order that a buyer placed with this seller.

    Attributes:
        state: What the chain said last: ``Paid``, ``Revealed``, ``Settled`` or ``Refunded``.
        decision: ``"reveal"`` or ``"refund"`` once the seller has decided; it never changes.
        deadline: The end of the present state's window, Unix seconds.
    """

    order_id: OrderId
    sale_id: SaleId
    seller: Address
    buyer: Address
    mask: Address
    ephemeral_x: int
    ephemeral_y: int
    state: str
    deadline: int
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class PurchaseRecord:
    """One attempt of a buyer to buy one sale.

    Attributes:
        attempt: Counts the buyer's attempts at this sale, from 0; the one-time key is derived from it.
        block: A height below which nothing about it lies on the chain.
        released_key: κ', once revealed.
        bundle: Where the bundle lies on the buyer's disk.
    """

    order_id: OrderId
    sale_id: SaleId
    buyer: Address
    attempt: int
    state: PurchaseState
    offer: Offer
    resale: Resale | None
    mask: Address
    ephemeral_x: int
    ephemeral_y: int
    created_at: int
    block: int
    signature: bytes = b""
    uri: str = ""
    bundle: str = ""
    released_key: int | None = None
    deadline: int = 0
    rows: int = 0
