"""The transaction manager: one for each key, shared by threads and processes through the journal.

A transaction is simulated, given a nonce, signed and journalled before any node sees it. From then on it is a standing
intention: whoever waits for it, or opens the account again after a crash, sends it again, raises its fees when it is
stuck, closes gaps below it, and writes down how it ended. With an idempotency key it is sent once, ever.

Example:
    >>> from pyiot_evm.chain import Devnet
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.types import Address
    >>> with Devnet(deploy=False) as chain:
    ...     account = chain.account(LocalSigner.create())
    ...     chain.fund(account, ether=1)
    ...     gift = Call(Address("0x" + "11" * 20), b"", "pay", bytes, value=10**17)
    ...     receipt = account.transact(gift, key="gift:1")
    ...     again = account.transact(gift, key="gift:1")
    ...     chain.balance(gift.to) == 10**17, again.hash == receipt.hash
    (True, True)
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.calls import Call, Receipt, to_int
from pyiot_evm.chain.delivery import BATCH, Delivery, Refusal, check_signer, count_requests
from pyiot_evm.chain.fees import FEE_REQUESTS, FeePolicy, FeeQuote
from pyiot_evm.chain.reverts import error_of
from pyiot_evm.chain.rpc import Request, RpcError
from pyiot_evm.chain.transaction_records import Attempt, Entry, Intent, check_same_intent
from pyiot_evm.exceptions import BudgetError, InputError, SigningError, TransactionError, TransportError
from pyiot_evm.types import TransactionHash, from_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.chain.connection import Chain
    from pyiot_evm.device import Signer

__all__ = ["Account", "Pending"]

_log = logging.getLogger(__name__)

_WINDOW: Final = 900
"""Anvil hangs with over a thousand transactions pending."""
_GROUP: Final = 4 * BATCH
"""How many calls one look at the node serves."""
_RECOVER_AFTER: Final = 1.0
_WAIT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction that was signed and journalled.

    Attributes:
        id: Its row in the journal.
        hash: Its hash when it was handed out; a replacement by higher fees has another (the receipt tells).
        nonce: Its nonce.
        key: Its idempotency key.
    """

    account: Account
    id: int
    hash: TransactionHash
    nonce: int
    key: str | None

    def wait(self, *, timeout: float = _WAIT, confirmations: int | None = None) -> Receipt:
        """Wait until it is mined and enough blocks follow.

        Args:
            timeout: Seconds.
            confirmations: How many blocks must follow; the chain's number when left out.

        Raises:
            ContractError: It reverted; the error of the contract.
            TransactionError: It was not mined in time (``retryable``), or was cancelled.
            TransportError: The node does not answer.
        """
        return self.account.wait_many([self], timeout=timeout, confirmations=confirmations)[0]


@dataclass(frozen=True, slots=True)
class _Preflight:
    quote: FeeQuote
    balance: int
    count: int
    first: int
    gas: list[int]


class Account:
    """One key on one chain; make it with ``chain.account(signer)``.

    Attributes:
        address: The key's address.
    """

    def __init__(self, *, chain: Chain, signer: Signer, fees: FeePolicy) -> None:
        self.address = check_signer(signer)
        self.signer = signer
        self.chain = chain
        self._fees = fees
        self._delivery = Delivery(chain, signer, self.address, fees)
        self._recovered = False
        self._unheard = False

    def __repr__(self) -> str:
        return f"<Account {self.address} on {self.chain.network}>"

    # --- sending ---

    def send(
        self, call: Call[Any], *, key: str | None = None, gas: int | None = None, max_gas: int | None = None
    ) -> Pending:
        """Simulate, sign, journal and send one call.

        Args:
            call: What to send.
            key: The idempotency key: the same key never sends a second transaction, whatever crashed in between.
            gas: The gas limit; left out, it is estimated, and a call that would revert is not sent.
            max_gas: The most that the gas limit may be estimated at.

        Raises:
            BudgetError: It takes more than ``max_gas``; nothing was signed.
            ContractError: It would revert.
            InputError: The key belongs to another call.
            TransactionError: The account cannot pay, or the node will never take it.
            TransportError: The node did not answer before anything was signed.
        """
        return self.send_many([call], keys=[key], gas=gas, max_gas=max_gas)[0]

    def send_many(
        self,
        calls: Sequence[Call[Any]],
        *,
        keys: Sequence[str | None] | None = None,
        gas: int | None = None,
        max_gas: int | None = None,
    ) -> list[Pending]:
        """Send independent calls in JSON-RPC batches of a hundred.

        Each is simulated on the present state, so a call that needs an earlier one's effect must wait for that one.
        If one of a batch would revert, nothing of that batch is sent; earlier batches were (with keys, doing it again
        is safe).
        """
        names = list(keys) if keys is not None else [None] * len(calls)
        if len(names) != len(calls):
            raise InputError(f"{len(calls)} calls but {len(names)} keys")
        if len(used := [name for name in names if name is not None]) != len(set(used)):
            raise InputError("two calls of one batch have the same key")
        self._recover()
        results: list[Pending] = []
        sending: list[Future[None]] = []
        with ThreadPoolExecutor(self._lanes) if len(calls) > BATCH else nullcontext() as sender:
            for start in range(0, len(calls), _GROUP):
                group = slice(start, start + _GROUP)
                entries, quote = self._prepare(calls[group], names[group], gas, max_gas)
                try:
                    for first in range(0, len(entries), BATCH):
                        part = entries[first : first + BATCH]
                        results.extend(self._sign(part))
                        if sender is None:
                            self._deliver(part, quote)
                        else:
                            sending.append(sender.submit(self._deliver, part, quote))  # while the next one is signed
                except BaseException:
                    self.chain.journal.release(entry.id for entry in entries)  # what is not signed will not be
                    raise
            for future in sending:
                future.result()
        return results

    def transact(self, call: Call[Any], *, key: str | None = None, gas: int | None = None) -> Receipt:
        """Send one call and wait for it; see :meth:`send` and :meth:`Pending.wait`."""
        return self.send(call, key=key, gas=gas).wait()

    def find(self, key: str) -> Pending | None:
        """Return the transaction that a key has, if it has one; it is not sent again by this."""
        entry = self.chain.journal.find(self.address, [key]).get(key)
        if entry is None:
            return None
        if entry.state == "reserved":  # a crash came between its number and its signature
            self._delivery.sign([entry])
        return self._pending([entry])[0]

    def resume(self) -> list[Pending]:
        """Take up whatever of this key was signed or reserved and is not mined: settle, repair, send again."""
        live = self.chain.journal.live(self.address)
        if not live:
            return []
        self._delivery.settle(live, confirmations=self.chain.confirmations)
        self._delivery.repair()
        return self._pending(self.chain.journal.get(entry.id for entry in live))

    def cancel(self, pending: Pending) -> None:
        """Replace a transaction that is not mined by an empty transfer; whichever is mined first stays.

        Waiting for it tells which: a receipt, or a TransactionError that says it was cancelled.
        """
        for entry in self.chain.journal.get([pending.id]):
            if entry.is_live:
                self._delivery.cancel(entry, self.chain.fee_quote())

    def wait_many(
        self, pending: Sequence[Pending], *, timeout: float = _WAIT, confirmations: int | None = None
    ) -> list[Receipt]:
        """Wait for many transactions at once and return their receipts in order; the first failure is raised."""
        from pyiot_evm.chain.waiting import wait_for  # noqa: PLC0415 - they know each other

        depth = self.chain.confirmations if confirmations is None else confirmations
        return wait_for(self._delivery, pending, timeout=timeout, confirmations=depth)

    # --- below ---

    def _recover(self) -> None:
        """Look after rows that an earlier process left behind, once; and after what the node did not hear of."""
        if self._recovered:
            return
        live = self.chain.journal.live(self.address)
        if self._unheard or any(time.time() - entry.updated > _RECOVER_AFTER for entry in live):
            self.resume()
        self._recovered, self._unheard = True, False

    @property
    def _lanes(self) -> int:
        """How many batches are under way at once: two keep a node busy; Hardhat takes no nonce before its turn."""
        return 1 if self.chain.client.lower().startswith("hardhat") else 2

    def _sign(self, entries: Sequence[Entry]) -> list[Pending]:
        self._delivery.sign([entry for entry in entries if entry.state == "reserved"])
        return self._pending(entries)

    def _prepare(
        self, calls: Sequence[Call[Any]], keys: Sequence[str | None], gas: int | None, max_gas: int | None
    ) -> tuple[list[Entry], FeeQuote | None]:
        """Return a row with a nonce for each call, and what the chain asks for gas; the new rows are not signed."""
        rows = self._known(calls, keys)
        fresh = [n for n, key in enumerate(keys) if key is None or key not in rows]
        quote, new = None, dict[int, Entry]()
        if fresh:
            flight = self._preflight([calls[n] for n in fresh], [keys[n] for n in fresh], gas)
            if flight is None:  # another thread or process sent one of them meanwhile
                return self._prepare(calls, keys, gas, max_gas)
            if max_gas is not None and (most := max(flight.gas)) > max_gas:
                raise BudgetError(f"it may take {most} gas, the limit is {max_gas}")
            quote = flight.quote
            intents = [_intent(calls[n], keys[n], limit) for n, limit in zip(fresh, flight.gas, strict=True)]
            offer = self._fees.first_offer(quote)
            self._check_funds(sum(i.gas * offer.max_fee + i.value for i in intents), flight)
            reserved = self.chain.journal.reserve(self.address, intents, offer, first=flight.first)
            for entry, intent in zip(reserved, intents, strict=True):
                check_same_intent(entry, intent)
            new = dict(zip(fresh, reserved, strict=True))
        entries = [new[n] if n in new else rows[str(key)] for n, key in enumerate(keys)]
        return entries, quote

    def _known(self, calls: Sequence[Call[Any]], keys: Sequence[str | None]) -> dict[str, Entry]:
        names = [key for key in keys if key is not None]
        rows = self.chain.journal.find(self.address, names)
        if self._forget_undone([row for row in rows.values() if not row.is_live]):
            rows = self.chain.journal.find(self.address, names)
        for call, key in zip(calls, keys, strict=True):
            if key is not None and key in rows:
                check_same_intent(rows[key], _intent(call, key, 0))
        return rows

    def _preflight(self, calls: Sequence[Call[Any]], keys: Sequence[str | None], gas: int | None) -> _Preflight | None:
        """Ask the node all that signing needs; wait while too many transactions are pending."""
        from pyiot_evm.chain.connection import transaction_object  # noqa: PLC0415

        requests: list[Request] = [
            ("eth_getBlockByNumber", ["0x0", False]), ("eth_getBalance", [str(self.address), "latest"]),
            *count_requests(self.address), *FEE_REQUESTS,
        ]  # fmt: skip
        if gas is None:
            requests += [("eth_estimateGas", [transaction_object(call, self.address)]) for call in calls]
        answers: list[Any] = []
        for start in range(0, len(requests), BATCH):
            answers += self.chain.try_batch(requests[start : start + BATCH])
        genesis, balance, latest, pending, block, tip, *estimates = answers
        self.chain.check_genesis(genesis)
        for answer in estimates:
            if isinstance(answer, RpcError):
                if self.chain.journal.find(self.address, [key for key in keys if key is not None]):
                    return None
                raise error_of(answer) from answer
        for answer in (balance, latest, pending):
            if isinstance(answer, RpcError):
                raise answer
        count = to_int(latest)
        self._forget_undone(self.chain.journal.mined_from(self.address, count))
        self._wait_for_room(count, len(calls))
        limits = [self._fees.gas_limit(to_int(item)) for item in estimates] if gas is None else [gas] * len(calls)
        quote = FeeQuote.from_rpc(block, tip)
        return _Preflight(quote, to_int(balance), count, max(count, to_int(pending)), limits)

    def _check_funds(self, wanted: int, flight: _Preflight) -> None:
        _, committed = self.chain.journal.commitments(self.address, first=flight.count)
        if wanted + committed > flight.balance:
            need = from_units(wanted + committed, decimals=18)
            raise TransactionError(
                f"{self.address} has {from_units(flight.balance, decimals=18)} ether and may need {need}",
                hint="send ether to it, or let a relayer carry the call",
                retryable=True,
            )

    def _forget_undone(self, ended: Sequence[Entry]) -> bool:
        """On a devnet, forget ended rows that it no longer knows: it went back, or lost its last seconds."""
        if not self.chain.is_devnet or not ended:
            return False
        receipts = self.chain.rpc_batch([("eth_getTransactionReceipt", [str(entry.hash)]) for entry in ended])
        undone = [entry.id for entry, receipt in zip(ended, receipts, strict=True) if receipt is None]
        self.chain.journal.forget(undone)
        return bool(undone)

    def _wait_for_room(self, count: int, size: int) -> None:
        end = time.monotonic() + _WAIT
        while self.chain.journal.commitments(self.address, first=count)[0] + size > _WINDOW:
            if time.monotonic() > end:
                raise TransactionError(f"over {_WINDOW} transactions of {self.address} are pending", retryable=True)
            time.sleep(0.01)
            count = to_int(self.chain.rpc("eth_getTransactionCount", str(self.address), "latest"))

    def _deliver(self, entries: Sequence[Entry], quote: FeeQuote | None) -> None:
        """Send rows; a node that does not answer is left to whoever waits for them."""
        live = [entry for entry in self.chain.journal.get(e.id for e in entries) if entry.is_live]
        groups = self.chain.journal.attempts(entry.id for entry in live)
        by_id = {entry.id: entry for entry in live}
        waiting = [groups[entry.id][-1] for entry in sorted(live, key=lambda e: e.nonce) if groups[entry.id]]
        try:
            refused = self._delivery.send(waiting)
            pause, end = 0.01, time.monotonic() + self._delivery.stuck_after
            while any(item.kind == "too_high" for item in refused.values()) and time.monotonic() < end:
                time.sleep(pause)  # Hardhat takes no nonce before its turn
                pause = min(2 * pause, 0.2)
                early = {number for number, item in refused.items() if item.kind == "too_high"}
                refused = {number: item for number, item in refused.items() if number not in early}
                refused |= self._delivery.send([item for item in waiting if item.entry_id in early])
        except TransportError as error:
            _log.warning("%s: signed and journalled, but the node does not answer: %s", self.address, error)
            self._recovered, self._unheard = False, True
            return
        self._raise_refusals(by_id, refused, quote)

    def _raise_refusals(self, entries: dict[int, Entry], refused: dict[int, Refusal], quote: FeeQuote | None) -> None:
        for number, refusal in refused.items():
            if refusal.kind == "never":
                self._delivery.cancel(entries[number], quote or self.chain.fee_quote())
                raise TransactionError(f"the node refuses {entries[number].function}: {refusal.text}")

    def _pending(self, entries: Sequence[Entry]) -> list[Pending]:
        groups = self.chain.journal.attempts(entry.id for entry in entries)
        return [
            Pending(self, entry.id, entry.hash or _last_hash(entry, groups[entry.id]), entry.nonce, entry.key)
            for entry in entries
        ]


def _intent(call: Call[Any], key: str | None, gas: int) -> Intent:
    return Intent(call.to, call.data, call.value, gas, call.function, key)


def _last_hash(entry: Entry, attempts: Sequence[Attempt]) -> TransactionHash:
    if not attempts:
        raise SigningError(f"{entry.function} was not signed: its signer refused in another thread", retryable=True)
    return attempts[-1].hash
