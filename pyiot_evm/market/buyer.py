"""The buyer: verify, pay once, wait for the key, check every leaf, then settle or dispute.

Each attempt at a sale has a row in the journal before anything is signed. Its one-time key is derived from the buyer's
own key, the sale and the number of the attempt, so the order id is fixed before the payment exists, the payment carries
it (as the nonce of the authorization, or in the call), and no crash can make a second one. Whoever buys the same sale
again goes on where the last attempt stands; a copy that was bought is opened again, not paid again.

A purchase ends in one of four ways: *settled* with data in which every leaf was checked; *disputed*, when a leaf broke
the promise and price and bond came back; *refunded*, when nobody revealed in time; *abandoned*, when nothing was paid.

Example:
    >>> policy = BuyerPolicy(max_price=500_000, timeout=60)
    >>> policy.pay, policy.approve, policy.settle
    ('auto', 'exact', True)
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyiot_evm.chain.contract_errors import WindowIsOpen
from pyiot_evm.exceptions import BudgetError, ContractError, InputError, TransactionError, VerificationError
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, recover
from pyiot_evm.market.offers import order_id
from pyiot_evm.market.records import OPEN_PURCHASES, PurchaseRecord, PurchaseState
from pyiot_evm.market.results import SaleDisputedError, SaleRefundedError
from pyiot_evm.payment.funding import good_until
from pyiot_evm.types import ZERO_ADDRESS

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.contracts.data_market import Disclosure
    from pyiot_evm.market.catalog import CatalogEntry
    from pyiot_evm.market.inspector import Inspector, Verdict
    from pyiot_evm.market.offers import Offer, Resale
    from pyiot_evm.market.payments import Payments
    from pyiot_evm.market.trader import Trader
    from pyiot_evm.types import Address, SaleId

__all__ = ["Buyer", "BuyerPolicy", "Target"]

_log = logging.getLogger(__name__)
_RECOVERED_ATTEMPTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerPolicy:
    """How a buyer pays and waits.

    Attributes:
        max_price: Base units; a dearer sale is refused before anything is signed.
        token: What ``max_price`` counts: a sale in another token is refused. Left out, the sale's own, whatever it is.
        pay: ``authorization`` (ERC-3009: one signature, exact, leaves no allowance), ``allowance``, or ``auto``: the
            allowance where one is there, else the authorization where the token can, else an exact approval.
        approve: When an allowance must be given: ``exact`` or ``unlimited``.
        settle: Whether to settle at once, which gives the seller the money and the buyer the token; else whoever comes
            after the dispute window does.
        refund_grace: Seconds after the reveal deadline before the refund is taken.
        poll: Seconds between two looks at the chain.
        timeout: Seconds to wait in all; ``None`` waits until the order ends.
    """

    max_price: int | None = None
    token: Address | None = None
    pay: Literal["auto", "allowance", "authorization"] = "auto"
    approve: Literal["exact", "unlimited"] = "exact"
    settle: bool = True
    refund_grace: int = 0
    poll: float = 0.25
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is bought: an offer or a resale, and how it is proved to stand.

    Attributes:
        signature: The seller's or holder's signature of a private sale; empty where it is listed.
        uri: Where the bundle is said to lie.
        block: A height below which nothing about the sale lies on the chain.
        listed: What the listing says, where it was found in the catalog.
    """

    sale_id: SaleId
    offer: Offer
    resale: Resale | None
    signature: bytes
    uri: str
    block: int = 0
    listed: CatalogEntry | None = None

    @property
    def price(self) -> int:
        """Base units of the token."""
        return (self.resale or self.offer).price


class Buyer:
    """Buys for one account.

    Args:
        trader: Who buys, on which chain, with which journal.
        payments: How orders are paid.
        inspector: Fetches bundles and checks them, before the payment and after the reveal.
        policy: How to pay and wait.
    """

    def __init__(
        self, trader: Trader, *, payments: Payments, inspector: Inspector, policy: BuyerPolicy | None = None
    ) -> None:
        self._trader = trader
        self._payments = payments
        self._inspector = inspector
        self._policy = policy or BuyerPolicy()

    def buy(self, target: Target, *, again: bool = False) -> PurchaseRecord:
        """Buy, or go on with a purchase that was begun, until it ends.

        Args:
            target: What to buy.
            again: Whether to buy another copy of what is already bought.

        Returns:
            The settled purchase (or the revealed one, where the policy leaves settling to others).

        Raises:
            InputError: The sale cannot be bought by this account; nothing was paid.
            VerificationError: The bundle is not what the offer says; nothing was paid.
            SaleDisputedError: A leaf broke the promise; price and bond came back.
            SaleRefundedError: Nobody revealed in time; the price came back.
            TransactionError: It is not over yet when the policy's timeout ends; the same call goes on.
        """
        return self.finish(self.order(target, again=again))

    def order(self, target: Target, *, again: bool = False) -> PurchaseRecord:
        """Verify and pay, and return without waiting for the key; :meth:`finish` goes on from there."""
        record = self._open(target, again=again)
        return self._pay(record) if record.state is PurchaseState.DRAFTED else record

    def finish(self, record: PurchaseRecord) -> PurchaseRecord:
        """Go on with a purchase until it ends."""
        end = None if self._policy.timeout is None else time.monotonic() + self._policy.timeout
        while record.state in OPEN_PURCHASES:
            if record.state is PurchaseState.DRAFTED:
                record = self._pay(record)
            elif record.state is PurchaseState.REVEALED:
                return self._conclude(record)
            else:
                record = self._look(record)
                if record.state is PurchaseState.PAID:
                    self._pause(record, end)
        self._raise_ending(record)
        return record

    def draft(self, target: Target, *, again: bool = False) -> PurchaseRecord:
        """Verify and draft an order without paying it: for payments that somebody else carries to the chain."""
        return self._open(target, again=again)

    # Before the payment

    def _open(self, target: Target, *, again: bool) -> PurchaseRecord:
        trader = self._trader
        self._recover(target)
        newest = trader.journal.newest_purchase(target.sale_id, trader.address)
        if newest is None or (newest.state not in OPEN_PURCHASES and _may_follow(newest, again=again)):
            bundle = str(self._check(target))
        else:
            bundle = newest.bundle
        now = trader.now()  # asked before the journal is locked
        if newest is not None and newest.state is PurchaseState.ABANDONED and now < good_until(newest.created_at):
            # others may know its signed payment: nothing but the same order, which cannot be paid twice, may follow yet
            return trader.journal.advance_purchase(newest.order_id, PurchaseState.DRAFTED, PurchaseState.ABANDONED)
        return trader.journal.open_purchase(
            target.sale_id,
            trader.address,
            may_follow=lambda last: _may_follow(last, again=again),
            make=lambda attempt: self._draft(target, attempt, bundle, now=now),
        )

    def _check(self, target: Target) -> Path:
        """Everything that can be known before paying; returns the fetched bundle."""
        policy, trader = self._policy, self._trader
        if policy.token not in (None, token := (target.resale or target.offer).token):
            raise BudgetError(f"the limit is in token {policy.token}, the price in {token}")
        if policy.max_price is not None and target.price > policy.max_price:
            raise BudgetError(f"the price is {target.price}, the limit {policy.max_price} (base units)")
        if target.offer.audience not in (ZERO_ADDRESS, trader.address) and target.resale is None:
            raise InputError(f"offer {target.sale_id} is for {target.offer.audience} only")
        if trader.now() >= (target.resale or target.offer).expiry:
            raise InputError(f"sale {target.sale_id} has expired")
        self._payments.check_funds(target)
        return self._inspector.fetch(target)

    def _draft(self, target: Target, attempt: int, bundle: str, *, now: int) -> PurchaseRecord:
        trader = self._trader
        ephemeral = self._ephemeral(target.sale_id, attempt)
        mask = mask_of(self._whom(target.sale_id), (target.offer.key_x, target.offer.key_y), ephemeral)
        return PurchaseRecord(
            order_id=order_id(target.sale_id, buyer=trader.address, mask=mask, ephemeral=ephemeral.point),
            sale_id=target.sale_id,
            buyer=trader.address,
            attempt=attempt,
            state=PurchaseState.DRAFTED,
            offer=target.offer,
            resale=target.resale,
            mask=mask,
            ephemeral_x=ephemeral.point[0],
            ephemeral_y=ephemeral.point[1],
            created_at=now,
            block=target.block,
            signature=target.signature,
            uri=target.uri,
            bundle=bundle,
        )

    def _recover(self, target: Target) -> None:
        """Where the journal knows nothing of this sale, look for this account's own orders on the chain."""
        trader = self._trader
        if trader.journal.newest_purchase(target.sale_id, trader.address) is not None:
            return
        paid = {
            event.order_id
            for event in trader.orders_paid(target.block, sale_ids=[target.sale_id], buyer=trader.address)
        }
        attempt = 0
        while paid and attempt < len(paid) + _RECOVERED_ATTEMPTS:
            record = self._draft(target, attempt, "", now=trader.now())
            found = record.order_id in paid
            paid.discard(record.order_id)
            state = PurchaseState.PAID if found else PurchaseState.ABANDONED
            trader.journal.restore_purchase(dataclasses.replace(record, state=state))
            attempt += 1

    def _ephemeral(self, sale_id: SaleId, attempt: int) -> Ephemeral:
        return Ephemeral.derive(self._trader.vault.derive("ephemeral"), sale_id, attempt)

    def _whom(self, sale_id: SaleId) -> Sale:
        trader = self._trader
        return Sale(trader.chain.chain_id, trader.contract.address, sale_id, trader.address)

    def _pay(self, record: PurchaseRecord) -> PurchaseRecord:
        trader = self._trader
        state, deadline = trader.order_states([record.order_id])[0]
        if state == "None":
            try:
                self._payments.pay(record, self._policy)
            except ContractError:
                state, deadline = trader.order_states([record.order_id])[0]
                if state == "None":
                    trader.journal.advance_purchase(record.order_id, PurchaseState.ABANDONED, PurchaseState.DRAFTED)
                    raise
            state, deadline = trader.order_states([record.order_id])[0]
        return trader.journal.advance_purchase(
            record.order_id, PurchaseState.PAID, PurchaseState.DRAFTED, deadline=deadline
        )

    # After the payment

    def _look(self, record: PurchaseRecord) -> PurchaseRecord:
        """Bring a paid purchase up to what the chain says."""
        trader = self._trader
        state, deadline = trader.order_states([record.order_id])[0]
        if state in ("Revealed", "Settled"):
            return self._take_key(record, deadline)
        if state == "Refunded":
            return self._refunded(record)
        if state == "None":  # a reorganisation took the payment back
            return trader.journal.advance_purchase(record.order_id, PurchaseState.DRAFTED, PurchaseState.PAID)
        if trader.now() >= deadline + self._policy.refund_grace:
            try:
                return self.refund(record)
            except WindowIsOpen:  # the next block's time is not what this machine's clock says
                return record
        return record

    def _take_key(self, record: PurchaseRecord, deadline: int) -> PurchaseRecord:
        trader, offer = self._trader, record.offer
        released = trader.released_key(record.order_id, since=record.block)
        point = (offer.key_x, offer.key_y)
        key = recover(self._whom(record.sale_id), point, released, self._ephemeral(record.sale_id, record.attempt))
        trader.keep_content_key(point, bytes(key), origin="bought")
        return trader.journal.advance_purchase(
            record.order_id, PurchaseState.REVEALED, PurchaseState.PAID, released_key=released, deadline=deadline
        )

    def refund(self, record: PurchaseRecord) -> PurchaseRecord:
        """Take the refund of an order that nobody revealed in time."""
        whole = self._trader.order_struct(record.offer, record.resale, record)
        try:
            self._trader.send_once(record.order_id, "refund", self._trader.contract.refund(whole))
        except ContractError:
            if self._trader.order_states([record.order_id])[0][0] == "Paid":
                raise
            return record  # somebody was faster; the next look says what happened
        return self._refunded(record)

    def _refunded(self, record: PurchaseRecord) -> PurchaseRecord:
        disputed = self._trader.disputed_leaf(record.order_id, since=record.block) is not None
        end = PurchaseState.DISPUTED if disputed else PurchaseState.REFUNDED
        return self._trader.journal.advance_purchase(record.order_id, end, *OPEN_PURCHASES)

    def dispute(self, record: PurchaseRecord) -> PurchaseRecord:
        """Check every leaf of a revealed order and dispute it if one breaks the promise.

        Raises:
            InputError: It is not revealed, or every leaf keeps the promise.
        """
        if record.state is PurchaseState.PAID:
            record = self._look(record)
        if record.state is not PurchaseState.REVEALED:
            raise InputError(f"order {record.order_id} is {record.state}: there is nothing to dispute")
        bundle, verdict = self._judge(record)
        if verdict.disclosure is None:
            raise InputError(f"every leaf of order {record.order_id} keeps the offer's promise ({bundle})")
        return self._win(record, verdict.disclosure)

    def _pause(self, record: PurchaseRecord, end: float | None) -> None:
        if end is not None and time.monotonic() >= end:
            raise TransactionError(
                f"order {record.order_id} is paid and its key is not revealed yet",
                retryable=True,
                hint="run the same command again: it goes on with this order and pays nothing more",
            )
        time.sleep(self._policy.poll)

    def _raise_ending(self, record: PurchaseRecord) -> None:
        transactions = self._trader.transactions(record.order_id)
        if record.state is PurchaseState.REFUNDED:
            raise SaleRefundedError(
                f"order {record.order_id} was refunded: its key was not revealed",
                order_id=record.order_id,
                transactions=transactions,
            )
        if record.state is PurchaseState.DISPUTED:
            index = self._trader.disputed_leaf(record.order_id, since=record.block)
            raise SaleDisputedError(
                f"order {record.order_id} was disputed and won: leaf {index} breaks the offer's promise",
                order_id=record.order_id,
                index=index,
                transactions=transactions,
            )

    # With the key

    def _conclude(self, record: PurchaseRecord) -> PurchaseRecord:
        """Check every leaf, then settle or dispute."""
        trader = self._trader
        bundle, verdict = self._judge(record)
        if verdict.disclosure is not None:
            record = self._win(record, verdict.disclosure)
            self._raise_ending(record)
            return record
        if not self._policy.settle:
            return record
        state, _ = trader.order_states([record.order_id])[0]
        if state == "Revealed":
            call = trader.settle_call(record.offer, record.resale, [record])
            try:
                trader.send_once(record.order_id, "settle", call, confirmations=0)
            except ContractError:
                state, _ = trader.order_states([record.order_id])[0]
                if state == "Revealed":
                    raise
        return trader.journal.advance_purchase(
            record.order_id, PurchaseState.SETTLED, PurchaseState.REVEALED, rows=verdict.rows, bundle=bundle
        )

    def _judge(self, record: PurchaseRecord) -> tuple[str, Verdict]:
        bundle = record.bundle or str(self._inspector.fetch(_target(record)))
        point = b"".join(part.to_bytes(32, "big") for part in (record.offer.key_x, record.offer.key_y))
        key = ContentKey.from_bytes(self._trader.content_key(point))
        return bundle, self._inspector.judge(_target(record), bundle, key)

    def _win(self, record: PurchaseRecord, disclosure: Disclosure) -> PurchaseRecord:
        """Dispute an order by one leaf."""
        trader = self._trader
        whole = trader.order_struct(record.offer, record.resale, record)
        _log.warning("order %s: leaf %d breaks the promise, disputing", record.order_id, disclosure.index)
        try:
            trader.send_once(record.order_id, "dispute", trader.contract.dispute(whole, disclosure))
        except ContractError as error:
            if trader.order_states([record.order_id])[0][0] != "Refunded":
                raise VerificationError(
                    f"leaf {disclosure.index} of order {record.order_id} breaks the offer's promise,"
                    f" and it can no longer be disputed: {error.message}",
                ) from error
        return self._refunded(record)


def _may_follow(last: PurchaseRecord, *, again: bool) -> bool:
    return again or last.state in (PurchaseState.REFUNDED, PurchaseState.ABANDONED)


def _target(record: PurchaseRecord) -> Target:
    return Target(record.sale_id, record.offer, record.resale, record.signature, record.uri, record.block)
