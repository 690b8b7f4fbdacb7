"""What the market's calls return, and the two ways in which a purchase can end without data.

Example:
    >>> from pyiot_evm.types import OrderId
    >>> error = SaleRefundedError("nobody revealed the key in time", order_id=OrderId(bytes(32)))
    >>> error.code, error.retryable
    ('sale_refunded', True)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import TransactionError, VerificationError
from pyiot_evm.market.records import TransactionRecord as Transaction

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.types import Address, OfferId, OrderId, SaleId

__all__ = ["Listing", "OrderView", "SaleDisputedError", "SaleRefundedError", "Transaction"]


@dataclass(frozen=True, slots=True)
class Listing:
    """A sale that stands: listed on chain, or signed for whoever gets the offer file.

    Attributes:
        sale_id: The id of the offer or of the resale: what a buyer names.
        offer_id: The offer whose data is sold.
        state: ``listed``, ``private`` or ``cancelled``.
        rows: Readings, or chunks of a blob.
        price: In base units of ``token``.
        uri: Where buyers fetch the bundle.
        bundle: Where it lies on the seller's disk.
        file: The offer file of a private sale.
        transactions: What it took, with gas.
    """

    sale_id: SaleId
    offer_id: OfferId
    seller: Address
    state: str
    title: str
    rows: int
    price: int
    token: Address
    uri: str
    bundle: Path
    offer: Offer
    resale: Resale | None
    file: Path | None
    transactions: tuple[Transaction, ...]

    @property
    def id(self) -> SaleId:
        """What ``Machine.buy`` takes."""
        return self.sale_id


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order of an account, as buyer or as seller.

    Attributes:
        role: ``buyer`` or ``seller``.
        state: ``drafted``, ``paid``, ``revealed``, ``settled``, ``refunded``, ``disputed`` or ``abandoned``.
        deadline: The end of the present state's window, Unix seconds; 0 where there is none.
        price: In base units of ``token``.
    """

    order_id: OrderId
    sale_id: SaleId
    offer_id: OfferId
    role: str
    buyer: Address
    seller: Address
    state: str
    deadline: int
    price: int
    token: Address
    transactions: tuple[Transaction, ...] = field(default=())


class SaleRefundedError(TransactionError):
    """Nobody revealed the key in time, or the seller gave the money back; the price is the buyer's credit again.

    Attributes:
        order_id: The order.
        transactions: What it took, with gas.
    """

    code = "sale_refunded"
    default_retryable = True
    default_hint = "the price is back: take it out with `pyiot data withdraw`, or buy again"

    def __init__(
        self, message: str, *, order_id: OrderId, transactions: tuple[Transaction, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.order_id = order_id
        self.transactions = transactions


class SaleDisputedError(VerificationError):
    """The data broke the offer's promise; the dispute was won and price and bond are the buyer's credit.

    Attributes:
        order_id: The order.
        index: The first wrong leaf, where it is known.
        transactions: What it took, with gas.
    """

    code = "sale_disputed"
    default_hint = "price and bond are back: take them out with `pyiot data withdraw`; this seller cheated"

    def __init__(
        self,
        message: str,
        *,
        order_id: OrderId,
        index: int | None = None,
        transactions: tuple[Transaction, ...] = (),
    ) -> None:
        super().__init__(message)
        self.order_id = order_id
        self.index = index
        self.transactions = transactions
