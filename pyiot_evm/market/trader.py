"""What a seller and a buyer have in common: an account on a chain, a journal, a vault and the market's contract.

Everything that is sent goes through :class:`~pyiot_evm.sending.Sender`.

Example:
    >>> ORDER_STATES.index("Revealed")
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiot_evm.contracts import data_market as structs
from pyiot_evm.exceptions import ConsistencyError, TransportError
from pyiot_evm.market.offers import Resale, offer_id, resale_id
from pyiot_evm.sending import Sender
from pyiot_evm.types import ZERO_ADDRESS, OfferId, SaleId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pyiot_evm.chain import Account, Call, Chain
    from pyiot_evm.chain.connection import Topics
    from pyiot_evm.device import LocalSigner
    from pyiot_evm.market.journal import Journal
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.records import OrderRecord, PurchaseRecord
    from pyiot_evm.market.vault import Vault
    from pyiot_evm.types import Address, OrderId

__all__ = ["ORDER_STATES", "Trader"]

ORDER_STATES = ("None", "Paid", "Revealed", "Settled", "Refunded")
NO_RESALE = Resale(offer_id=OfferId(bytes(32)), holder=ZERO_ADDRESS, token=ZERO_ADDRESS, price=0, expiry=0, salt=0)


class Trader(Sender):
    """One account that trades on one chain.

    Args:
        chain: The chain.
        account: The account's transaction manager.
        signer: The account's key: it signs private offers and payments, and makes the vault.
        journal: The network's trading journal.
        vault: Encrypts what the journal keeps secret.
        contract: The market's binding.
        bundles: The folder that bundles are kept in.
    """

    PREFIX = "market"
    journal: Journal
    contract: structs.DataMarket

    def __init__(
        self,
        *,
        chain: Chain,
        account: Account,
        signer: LocalSigner,
        journal: Journal,
        vault: Vault,
        contract: structs.DataMarket,
        bundles: Path,
    ) -> None:
        super().__init__(chain=chain, account=account, journal=journal, contract=contract)
        self.signer = signer
        self.vault = vault
        self.bundles = bundles

    def offer_path(self, key: str) -> Path:
        """Return where the offer file of a private sale lies."""
        return self.bundles / f"{key}.offer.json"

    # Ids and structs

    def offer_id(self, offer: Offer) -> OfferId:
        """Return the id of an offer on this chain."""
        return offer_id(offer, chain_id=self.chain.chain_id, market=self.contract.address)

    def sale_id(self, offer: Offer, resale: Resale | None) -> SaleId:
        """Return the id of what is sold: the resale's where there is one, else the offer's."""
        if resale is None:
            return self.offer_id(offer)
        return resale_id(resale, chain_id=self.chain.chain_id, market=self.contract.address)

    def order_struct(self, offer: Offer, resale: Resale | None, order: OrderRecord | PurchaseRecord) -> structs.Order:
        """Return the contract's Order."""
        return structs.Order(
            offer=offer,
            resale=resale or NO_RESALE,
            buyer=order.buyer,
            mask=order.mask,
            ephemeral_x=order.ephemeral_x,
            ephemeral_y=order.ephemeral_y,
        )

    def settle_call(
        self, offer: Offer, resale: Resale | None, orders: Iterable[OrderRecord | PurchaseRecord]
    ) -> Call[None]:
        """Return the call that settles orders of one sale; a resale has one order at a time."""
        rows = [
            structs.Row(buyer=o.buyer, mask=o.mask, ephemeral_x=o.ephemeral_x, ephemeral_y=o.ephemeral_y)
            for o in orders
        ]
        if resale is None:
            return self.contract.settle(offer, rows)
        return self.contract.settle_resale(offer, resale, rows[0])

    # Reading the chain

    def order_states(self, orders: Sequence[OrderId], *, block: int | str = "latest") -> list[tuple[str, int]]:
        """Return each order's state and the deadline of that state, as the chain had them at a block."""
        if not orders:
            return []
        found = self.chain.call_many([self.contract.order_of(order) for order in orders], block=block)
        return [(ORDER_STATES[answer.state], answer.deadline) for answer in found]

    def orders_paid(
        self,
        first: int,
        last: int | None = None,
        *,
        sale_ids: Sequence[SaleId] | None = None,
        buyer: Address | None = None,
    ) -> Iterator[structs.OrderPaid]:
        """Return the payments of orders in a range of blocks, of some sales and of one buyer where these are given."""
        topics: Topics = [structs.OrderPaid.TOPIC, None, sale_ids, None if buyer is None else bytes(12) + buyer]
        for log in self.chain.logs(address=self.contract.address, topics=topics, from_block=first, to_block=last):
            yield structs.OrderPaid.from_log(log)

    def released_key(self, order: OrderId, *, since: int) -> int:
        """Return κ' of a revealed order.

        Raises:
            TransportError: The node does not show the event yet.
        """
        topics = [structs.OrderRevealed.TOPIC, order]
        logs = self.chain.logs(address=self.contract.address, topics=topics, from_block=since)
        if not logs:
            raise TransportError(f"the node does not show the reveal of order {order} yet")
        return structs.OrderRevealed.from_log(logs[-1]).released_key

    def disputed_leaf(self, order: OrderId, *, since: int) -> int | None:
        """Return the leaf by which an order's dispute was won, or ``None``."""
        topics = [structs.OrderDisputed.TOPIC, order]
        logs = self.chain.logs(address=self.contract.address, topics=topics, from_block=since)
        return structs.OrderDisputed.from_log(logs[-1]).index if logs else None

    # Secrets

    def content_key(self, point: bytes) -> bytes:
        """Return κ as 32 bytes.

        Raises:
            ConsistencyError: The journal has no content key for this point, or it is another account's.
        """
        sealed = self.journal.content_key(point, self.address)
        if sealed is None:
            raise ConsistencyError(
                f"the journal has no content key for the point {point.hex()[:16]}…",
                hint="put it back with `pyiot key restore`",
            )
        return self.vault.decrypt(sealed, label=point)

    def keep_content_key(self, point: tuple[int, int], secret: bytes, *, origin: str) -> None:
        """Keep a content key, encrypted."""
        label = point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
        self.journal.add_content_key(label, self.vault.encrypt(secret, label=label), origin=origin, owner=self.address)
