"""The seller's loop: it answers the orders that came in, once each, whatever happens to the process.

Every order is decided once, in the journal, before anything is sent: *reveal* where the buyer's point is on the curve
and the mask fits it, *refund* where they are not (whose buyer could not use the key). A decision never changes, so an
order that was to be refunded is never revealed, whichever process looks at it. The key of a transaction's journal entry
comes from the order, so two loops on one account send one transaction. The loop

- waits for the chain's confirmations of the payment before it reveals;
- does not reveal in the last minutes before the deadline: once the key is in a transaction the buyer has it, even if
  that transaction comes too late;
- refunds what nobody revealed in time, so that the bond and the copy come back;
- settles in batches what nobody disputed;
- withdraws what it earned when it is asked to.

Example:
    >>> policy = SellerPolicy(reveal_margin=60)
    >>> policy.settle_batch, policy.withdraw
    (20, False)
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pyiot_evm.callbacks import tell_each
from pyiot_evm.exceptions import ConsistencyError, InputError, PyIotEvmError, TransportError, VerificationError
from pyiot_evm.market.key_release import ContentKey, Sale, release
from pyiot_evm.market.records import OrderRecord
from pyiot_evm.relay import contract_domain, sign_call
from pyiot_evm.types import OrderId

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.contracts.data_market import OrderPaid
    from pyiot_evm.market.offers import Offer
    from pyiot_evm.market.records import SaleRecord
    from pyiot_evm.market.trader import Trader
    from pyiot_evm.relay import RelayRequest
    from pyiot_evm.sending import Started

__all__ = ["Action", "SellerLoop", "SellerPolicy"]

_log = logging.getLogger(__name__)
_CURSOR_OVERLAP = 32
_DONE = {"reveal": "revealed", "refund": "refunded", "settle": "settled"}
_FILTERED_SALES = 64  # as many ids as every node takes in one filter


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerPolicy:
    """How a seller answers.

    Attributes:
        confirmations: Blocks on top of a payment before its key is revealed; the chain's own number when left out.
        reveal_margin: Seconds before the reveal deadline after which the loop no longer reveals.
        settle_batch: Orders settled in one transaction, at most.
        withdraw: Whether to take out what was earned after each settlement. Not done while an offer with a bond is
            open: its bonds are locked from the same credit.
        poll: Seconds between two looks at the chain.
    """

    confirmations: int | None = None
    reveal_margin: int = 120
    settle_batch: int = 20
    withdraw: bool = False
    poll: float = 1.0


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the loop did, or could not do.

    Attributes:
        kind: ``revealed``, ``refunded``, ``settled``, ``withdrawn``, ``late`` (too close to the deadline to reveal) or
            ``failed``.
        order_id: The order, where it was about one.
        transaction: The hash, where there was one.
        gas: The gas it used.
        error: Why it failed.
    """

    kind: str
    order_id: OrderId | None = None
    transaction: str = ""
    gas: int = 0
    error: PyIotEvmError | None = None


@dataclass(frozen=True, slots=True)
class _Act:
    """A transaction that is on its way, and the orders whose state it should end."""

    orders: list[OrderRecord]
    started: Started


class SellerLoop:
    """Answers the orders of one account's sales: first sales and resales.

    Args:
        trader: Who sells, on which chain, with which journal.
        policy: How to answer.
    """

    def __init__(self, trader: Trader, *, policy: SellerPolicy | None = None) -> None:
        self._trader = trader
        self._policy = policy or SellerPolicy()
        self._late: set[OrderId] = set()

    def run(self, stop: threading.Event, *, report: Callable[[Action], None] | None = None) -> None:
        """Answer orders until ``stop`` is set. A chain that is gone is asked again; what ``report`` raises, logged."""
        while not stop.is_set():
            try:
                self.step(report=report)
            except ConsistencyError:
                raise
            except (PyIotEvmError, sqlite3.Error, OSError) as error:  # also a full disk, or a token that does not pay
                if stop.is_set():
                    return
                _log.warning("something did not work, trying again: %s", error)
            stop.wait(self._policy.poll)

    def step(self, *, report: Callable[[Action], None] | None = None) -> list[Action]:
        """Look once at the chain and do what can be done now; safe to call at any time and from several processes.

        Args:
            report: Called with each action as it is done; what it raises is logged.

        Raises:
            TransportError: The chain did not answer.
        """
        return tell_each("the report of a seller's loop", report, self._act())

    def _act(self) -> Iterator[Action]:
        orders = self.look()
        sales = self._sales()  # after the look: an order that it found may be of a sale that was made meanwhile
        if not sales:
            return
        now = self._trader.now()
        paid = [order for order in orders if order.state == "Paid"]
        overdue = [order for order in paid if now >= order.deadline]
        answerable = [order for order in paid if now < order.deadline]
        ready = [order for order in orders if order.state == "Revealed" and now >= order.deadline]
        begun = self._answer(answerable, sales, now)
        begun += [self._end(order, sales[order.sale_id], "refund") for order in overdue]
        begun += self._settle(ready, sales)
        kinds = set()
        for item in begun:
            kinds.add((action := item if isinstance(item, Action) else self._finish(item)).kind)
            yield action
        if self._policy.withdraw and "settled" in kinds:
            yield from self._withdraw(sales.values())

    def look(self) -> list[OrderRecord]:
        """Find new orders, keep what the chain says of the open ones, and return these; none is answered."""
        sales = self._sales()
        if not sales:
            return []
        self._find_orders(sales)
        return self._refresh()

    def refund(self, order_id: OrderId) -> OrderId:
        """Give one paid order's money back, unless its key is on its way already.

        Raises:
            InputError: It is not paid, or it was decided to reveal it.
            ContractError: The market refused.
        """
        order, sale = self._one(order_id, "Paid")
        self._decide_refund(order)
        self._conclude(self._end(order, sale, "refund"))
        return order_id

    def sign_refund(self, order_id: OrderId, *, lifetime: int = 3600) -> RelayRequest:
        """Sign the refund of one paid order for somebody else to carry; from then on no loop of this home reveals it.

        Raises:
            InputError: It is not paid, or it was decided to reveal it.
        """
        order, sale = self._one(order_id, "Paid")
        self._decide_refund(order)
        trader = self._trader
        call = trader.contract.refund(trader.order_struct(_offer(sale), sale.resale, order))
        domain = contract_domain("pyiot DataMarket", chain_id=trader.chain.chain_id, contract=call.to)
        return sign_call(call, signer=trader.signer, domain=domain, deadline=trader.now() + lifetime)

    def _decide_refund(self, order: OrderRecord) -> None:
        is_overdue = self._trader.now() >= order.deadline  # no reveal can be mined any more
        if not is_overdue and self._trader.journal.decide(order.order_id, "refund") != "refund":
            raise InputError(f"order {order.order_id} is being revealed: its buyer may have the key already")

    def settle(self, order_id: OrderId) -> OrderId:
        """Settle one revealed order after its dispute window.

        Raises:
            InputError: It is not revealed.
            ContractError: The market refused.
        """
        order, sale = self._one(order_id, "Revealed")
        for act in self._settle([order], {order.sale_id: sale}):
            self._conclude(act)
        return order_id

    def _one(self, order_id: OrderId, state: str) -> tuple[OrderRecord, SaleRecord]:
        self.look()
        order = self._trader.journal.order(order_id)
        if order is None or order.seller != self._trader.address:
            raise InputError(f"{self._trader.address} has no order {order_id}")
        if order.state != state:
            raise InputError(f"order {order_id} is {order.state}, not {state}")
        return order, self._sales()[order.sale_id]

    def _conclude(self, act: _Act | Action) -> None:
        action = act if isinstance(act, Action) else self._finish(act)
        if action.error is not None:
            raise action.error

    # What is there

    def _sales(self) -> dict[object, SaleRecord]:
        mine = self._trader.journal.sales(self._trader.address)
        return {sale.sale_id: sale for sale in mine if sale.sale_id is not None}

    def _find_orders(self, sales: dict[object, SaleRecord]) -> None:
        trader = self._trader
        name = f"orders:{trader.address}"
        head = trader.chain.block_number()
        start = trader.journal.cursor(name)
        born = min(sale.block for sale in sales.values())
        first = born if start is None else max(born, start - _CURSOR_OVERLAP)
        few = [sale.sale_id for sale in sales.values() if sale.sale_id] if len(sales) <= _FILTERED_SALES else None
        found = [event for event in trader.orders_paid(first, head, sale_ids=few) if event.sale_id in sales]
        trader.journal.add_orders(_order_record(event, sales[event.sale_id]) for event in found)
        trader.journal.set_cursor(name, head)

    def _refresh(self) -> list[OrderRecord]:
        trader = self._trader
        known = trader.journal.orders(trader.address, "Paid", "Revealed", "None")
        states = trader.order_states([order.order_id for order in known])
        for order, (state, deadline) in zip(known, states, strict=True):
            if (state, deadline) != (order.state, order.deadline):
                trader.journal.set_order(order.order_id, state=state, deadline=deadline)
        return trader.journal.orders(trader.address, "Paid", "Revealed")

    # Paid orders

    def _answer(self, orders: list[OrderRecord], sales: dict[object, SaleRecord], now: int) -> list[_Act | Action]:
        """Answer each order by itself: one that cannot be answered must not stop the others, nor make them wait."""
        confirmed = self._confirmed(orders)
        begun: list[_Act | Action] = []
        for order in orders:
            try:
                act = self._answer_one(order, sales[order.sale_id], now, is_confirmed=order.order_id in confirmed)
            except TransportError:
                raise
            except PyIotEvmError as error:
                _log.warning("order %s cannot be answered: %s", order.order_id, error)
                act = Action("failed", order.order_id, error=error)
            if act is not None:
                begun.append(act)
        return begun

    def _answer_one(
        self, order: OrderRecord, sale: SaleRecord, now: int, *, is_confirmed: bool
    ) -> _Act | Action | None:
        decision = order.decision
        if decision is None and is_confirmed:
            decision = self._trader.journal.decide(order.order_id, self._judge(order, sale))
        if decision == "refund":
            return self._end(order, sale, "refund")
        if self._trader.late(now) + self._policy.reveal_margin < order.deadline:
            return self._end(order, sale, "reveal") if is_confirmed else None
        if order.order_id in self._late:
            return None
        self._late.add(order.order_id)
        _log.warning("order %s is too close to its deadline to be revealed", order.order_id)
        return Action("late", order.order_id)

    def _confirmed(self, orders: list[OrderRecord]) -> set[OrderId]:
        depth = self._policy.confirmations
        depth = self._trader.chain.confirmations if depth is None else depth
        if not depth:
            return {order.order_id for order in orders}
        block = self._trader.chain.block_number() - depth
        if block < 0 or not orders:
            return set()
        states = self._trader.order_states([order.order_id for order in orders], block=block)
        return {order.order_id for order, (state, _) in zip(orders, states, strict=True) if state == "Paid"}

    def _judge(self, order: OrderRecord, sale: SaleRecord) -> str:
        try:
            self._release(order, sale)
        except VerificationError as error:
            _log.warning("order %s will be refunded: %s", order.order_id, error)
            return "refund"
        return "reveal"

    def _release(self, order: OrderRecord, sale: SaleRecord) -> int:
        trader = self._trader
        key = ContentKey.from_bytes(trader.content_key(sale.point))
        whom = Sale(trader.chain.chain_id, trader.contract.address, order.sale_id, order.buyer)
        return release(whom, key, (order.ephemeral_x, order.ephemeral_y), order.mask)

    def _end(self, order: OrderRecord, sale: SaleRecord, act: str) -> _Act | Action:
        """Begin to end an order's Paid state by a reveal or a refund."""
        whole = self._trader.order_struct(_offer(sale), sale.resale, order)
        contract = self._trader.contract
        call: Call[None] = (
            contract.reveal(whole, self._release(order, sale)) if act == "reveal" else contract.refund(whole)
        )
        return self._begin(call, act, [order])

    # Revealed orders

    def _settle(self, orders: list[OrderRecord], sales: dict[object, SaleRecord]) -> list[_Act | Action]:
        begun = []
        by_sale = sorted(orders, key=lambda order: (order.sale_id, order.order_id))
        for sale_id, group in groupby(by_sale, key=lambda order: order.sale_id):
            sale, rows = sales[sale_id], list(group)
            size = 1 if sale.resale is not None else self._policy.settle_batch
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                call = self._trader.settle_call(_offer(sale), sale.resale, batch)
                begun.append(self._begin(call, "settle", batch))
        return begun

    def _withdraw(self, sales: Iterable[SaleRecord]) -> list[Action]:
        trader, now = self._trader, self._trader.now()
        if any(sale.offer is not None and sale.offer.bond and now < sale.offer.expiry for sale in sales):
            return []
        tokens = {(sale.resale or sale.offer).token for sale in sales if sale.offer is not None}
        taken = (trader.withdraw(token) for token in sorted(tokens))
        return [Action("withdrawn", None, receipt.hash, receipt.gas) for receipt in taken if receipt is not None]

    # Sending

    def _begin(self, call: Call[None], act: str, orders: list[OrderRecord]) -> _Act | Action:
        """Send one transaction for one or more orders."""
        try:
            return _Act(orders, self._trader.begin(orders[0].order_id, act, call))
        except TransportError:
            raise
        except PyIotEvmError as error:
            return self._failed(orders, act, error)

    def _finish(self, act: _Act) -> Action:
        """Wait until a transaction is mined, and see whether it ended its orders' state.

        It does not wait for confirmations: what a reorganisation takes back, the next steps do again.
        """
        trader, first, purpose = self._trader, act.orders[0], act.started.purpose
        try:
            sent = trader.finish(act.started, confirmations=0)
        except TransportError:
            raise
        except PyIotEvmError as error:
            return self._failed(act.orders, purpose, error)
        if first.order_id not in self._refresh_some(act.orders):  # skipped, or taken back by a reorganisation
            trader.note_failure(first.order_id, purpose, act.started.number)
        return Action(_DONE[purpose], first.order_id, sent.hash, sent.gas)

    def _failed(self, orders: list[OrderRecord], act: str, error: PyIotEvmError) -> Action:
        self._refresh_some(orders)
        _log.info("could not %s order %s: %s", act, orders[0].order_id, error)
        return Action("failed", orders[0].order_id, error=error)

    def _refresh_some(self, orders: list[OrderRecord]) -> set[OrderId]:
        """Keep what the chain says of some orders; return those that changed their state."""
        states = self._trader.order_states([order.order_id for order in orders])
        for order, (state, deadline) in zip(orders, states, strict=True):
            self._trader.journal.set_order(order.order_id, state=state, deadline=deadline)
        return {order.order_id for order, (state, _) in zip(orders, states, strict=True) if state != order.state}


def _offer(sale: SaleRecord) -> Offer:
    if sale.offer is None:
        raise ConsistencyError(f"the journal's sale {sale.key} has an id and no offer")
    return sale.offer


def _order_record(event: OrderPaid, sale: SaleRecord) -> OrderRecord:
    return OrderRecord(
        order_id=OrderId(event.order_id),
        sale_id=event.sale_id,
        seller=sale.seller,
        buyer=event.buyer,
        mask=event.mask,
        ephemeral_x=event.ephemeral_x,
        ephemeral_y=event.ephemeral_y,
        state="Paid",
        deadline=event.reveal_deadline,
    )
