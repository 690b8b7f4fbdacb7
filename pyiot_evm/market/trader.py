"""What a seller and a buyer have in common: an account on a chain, a journal, a vault and the market's contract.

Everything that is sent goes through :meth:`Trader.transact`, so that each transaction has an idempotency key and is
kept with the sale or the order that it was for.

Example:
    >>> ORDER_STATES.index("Revealed")
    2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiot_evm.chain.calls import to_int
from pyiot_evm.contracts import data_market as structs
from pyiot_evm.exceptions import ConsistencyError, ContractError, TransactionError, TransportError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.offers import Resale, offer_id, resale_id
from pyiot_evm.market.records import TransactionRecord
from pyiot_evm.types import ZERO_ADDRESS, OfferId, SaleId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pyiot_evm.chain import Account, Call, Chain, Pending
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


@dataclass(frozen=True, slots=True)
class Started:
    """A transaction that is on its way.

    Attributes:
        number: How many of its kind failed for its subject before.
    """

    subject: object
    purpose: str
    number: int
    pending: Pending


class Trader:
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
        self.chain = chain
        self.account = account
        self.signer = signer
        self.journal = journal
        self.vault = vault
        self.contract = contract
        self.bundles = bundles

    @property
    def address(self) -> Address:
        """The account's address."""
        return self.account.address

    def now(self) -> int:
        """Return the time that deadlines are compared with, Unix seconds.

        That is the latest block's time. A devnet mines only when something is sent, so there it is the time that the
        next block would have; its clock is not this machine's, once it was moved or went back to a snapshot.
        """
        if not self.chain.is_devnet:
            return self.chain.now()
        pending = self.chain.rpc("eth_getBlockByNumber", "pending", False)  # noqa: FBT003 - JSON-RPC has no names
        return to_int(pending["timestamp"]) if pending else self.chain.now()

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

    # Sending

    def transact(self, subject: object, purpose: str, call: Call[Any], *, key: str) -> TransactionRecord:
        """Send a call once and wait until it is mined, and keep it with its subject.

        Args:
            subject: The sale or the order that it is for.
            purpose: One word for people.
            call: What to send.
            key: Names the transaction: the same key never sends a second one.

        Raises:
            ContractError: The contract refused, before or after it was sent.
            TransactionError: It was not mined.
        """
        receipt = self.account.transact(call, key=f"market:{key}")
        record = TransactionRecord(purpose, str(receipt.hash), receipt.gas_used)
        self.journal.add_transaction(self._subject(subject), record)
        return record

    def send_once(
        self, subject: object, purpose: str, call: Call[Any], *, confirmations: int | None = None
    ) -> TransactionRecord:
        """Send the one transaction of a kind that an order or a sale needs; after a failure the next has a new key.

        Args:
            subject: The sale or the order that it is for.
            purpose: One word for people.
            call: What to send.
            confirmations: Blocks on top of it to wait for; the chain's own number when left out.
        """
        return self.finish(self.begin(subject, purpose, call), confirmations=confirmations)

    def begin(self, subject: object, purpose: str, call: Call[Any]) -> Started:
        """Send a transaction as :meth:`send_once` does, and do not wait for it."""
        number = self.failures(subject, purpose)
        content = keccak256(bytes(call.data))[:8].hex()
        try:
            pending = self.account.send(call, key=f"market:{purpose}:{subject}:{content}:{number}")
        except ContractError:
            self.note_failure(subject, purpose, number)
            raise
        return Started(subject, purpose, number, pending)

    def finish(self, started: Started, *, confirmations: int | None = None) -> TransactionRecord:
        """Wait for what :meth:`begin` sent."""
        try:
            receipt = started.pending.wait(confirmations=confirmations)
        except TransactionError as error:
            if self._is_over(started.pending, error):
                self.note_failure(started.subject, started.purpose, started.number)
            raise
        record = TransactionRecord(started.purpose, str(receipt.hash), receipt.gas_used)
        self.journal.add_transaction(self._subject(started.subject), record)
        return record

    def transactions(self, subject: object) -> tuple[TransactionRecord, ...]:
        """Return what this account sent for a sale or an order."""
        return self.journal.transactions(self._subject(subject))

    def failures(self, subject: object, purpose: str) -> int:
        """Return how often a transaction of this kind did not do what it was for."""
        return self.journal.failures(self._subject(subject), purpose)

    def note_failure(self, subject: object, purpose: str, number: int) -> None:
        """Note that try ``number`` did not do what it was for."""
        self.journal.add_failure(self._subject(subject), purpose, number)

    def _is_over(self, pending: Pending, error: TransactionError) -> bool:
        """Whether a transaction failed for good: it reverted, or an empty one took its place."""
        ended = [entry.state == "cancelled" for entry in self.chain.journal.get([pending.id])]
        return isinstance(error, ContractError) or any(ended)

    def _subject(self, subject: object) -> str:
        return f"{self.address}:{subject}"

    def withdraw(
        self, token: Address, amount: int | None = None, to: Address | None = None
    ) -> TransactionRecord | None:
        """Take credit out of the market; all of it when no amount is given. Nothing is sent where there is nothing.

        A withdrawal that a crash interrupted is finished first, and counts as this one if it was for the same, or if
        all is asked for and nothing more is there.
        """
        subject = f"withdraw {token}"
        earlier, done = self._finish_withdrawal(subject)
        credit = self.chain.call(self.contract.credit_of(self.address, token))
        wanted = credit if amount is None else amount
        call = self.contract.withdraw(token, wanted, to or self.address)
        if earlier is not None and (not credit if amount is None else done == bytes(call.data)):
            return earlier
        if not wanted:
            return None
        try:
            return self.transact(subject, "withdraw", call, key=self._withdrawal_key(subject))
        except ContractError:
            self.note_failure(subject, "withdraw", self.failures(subject, "withdraw"))
            raise

    def _finish_withdrawal(self, subject: str) -> tuple[TransactionRecord | None, bytes]:
        """Finish what a crash interrupted; returns its record, if it went through, and its calldata."""
        pending = self.account.find(f"market:{self._withdrawal_key(subject)}")
        if pending is None:
            return None, b""
        sent = b"".join(entry.data for entry in self.chain.journal.get([pending.id]))
        try:
            receipt = pending.wait()
        except TransactionError as error:
            if not self._is_over(pending, error):
                raise
            self.note_failure(subject, "withdraw", self.failures(subject, "withdraw"))
            return None, b""
        record = TransactionRecord("withdraw", str(receipt.hash), receipt.gas_used)
        self.journal.add_transaction(self._subject(subject), record)
        return record, sent

    def _withdrawal_key(self, subject: str) -> str:
        return f"{subject}:{len(self.transactions(subject)) + self.failures(subject, 'withdraw')}"
