"""Waiting for transactions: polling, repairing on the way, and the typed error when one reverted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.calls import Receipt, to_int
from pyiot_evm.chain.delivery import BATCH, Delivery, Refusal, revert_data_of
from pyiot_evm.chain.reverts import decode_revert
from pyiot_evm.exceptions import ContractError, TransactionError, TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.chain.transaction_records import Entry
    from pyiot_evm.chain.transactions import Pending

__all__ = ["wait_for"]

_FIRST_PAUSE: Final = 0.002
_REPAIR_FIRST: Final = 0.3


class _Wait:
    """One wait for several rows of one key."""

    def __init__(self, delivery: Delivery, ids: Sequence[int], confirmations: int) -> None:
        self.delivery = delivery
        self.ids = ids
        self.confirmations = confirmations
        self.done: dict[int, tuple[Entry, dict[str, Any]]] = {}
        self.refused: dict[int, Refusal] = {}
        self.failure: TransportError | None = None

    def look(self) -> None:
        """Ask the node once about everything that is not done."""
        entries = self.delivery.journal.get(number for number in self.ids if number not in self.done)
        self._check_known(entries)
        live = [entry for entry in entries if entry.is_live]
        receipts, head = (
            self.delivery.settle(live, confirmations=self.delivery.chain.confirmations) if live else ({}, 0)
        )
        ended = [entry for entry in entries if not entry.is_live]
        for start in range(0, len(ended), BATCH):
            part = ended[start : start + BATCH]
            *answers, block = self.delivery.chain.rpc_batch(
                [*(("eth_getTransactionReceipt", [str(entry.hash)]) for entry in part), ("eth_blockNumber", [])]
            )
            head = max(head, to_int(block))
            found = {entry.id: answer for entry, answer in zip(part, answers, strict=True) if answer}
            receipts.update(found)
            if len(found) < len(part) and self.delivery.chain.is_devnet:
                raise _undone()
        for entry in entries:
            receipt = receipts.get(entry.id)
            if receipt is not None and head - to_int(receipt["blockNumber"]) >= self.confirmations:
                self.done[entry.id] = entry, receipt

    def repair(self, started: float) -> None:
        """Now and then, look after what is stuck; among all who wait for this key, one does it."""
        every = 1.0 if self.delivery.chain.is_devnet else 12.0
        every = min(every, self.delivery.stuck_after)
        if time.monotonic() - started < min(_REPAIR_FIRST, every):
            return
        if self.delivery.journal.take_duty(self.delivery.address, "repair", every=every):
            self.refused.update(self.delivery.repair())

    def results(self) -> list[Receipt]:
        """Return the receipts in order, or raise what the first failure ended with."""
        ended = {entry.id: entry for entry in self.delivery.journal.get(set(self.ids))}
        return [self._result(ended.get(number, self.done[number][0]), self.done[number][1]) for number in self.ids]

    def _result(self, entry: Entry, raw: dict[str, Any]) -> Receipt:
        receipt = Receipt.from_rpc(raw)
        if entry.state == "cancelled":
            raise TransactionError(f"{entry.function} at nonce {entry.nonce} was cancelled by {receipt.hash}")
        if receipt.status == 1:
            return receipt
        data = entry.error if entry.error is not None else revert_data_of(self.delivery.chain, entry, raw)
        raise _reverted(entry, receipt, data)

    def late(self, timeout: float) -> TransactionError:
        """Return the error for rows that were not mined in time, with what is known about why."""
        missing = [number for number in self.ids if number not in self.done]
        entry = next(iter(self.delivery.journal.get(missing)))
        refusal = self.refused.get(entry.id)
        reason = f": the node says {refusal.text!r}" if refusal else f": {self.failure}" if self.failure else ""
        return TransactionError(
            f"{entry.function} (nonce {entry.nonce}) was not mined within {timeout:g} s{reason}",
            hint="it is journalled and will be sent again: wait for it once more, or cancel it",
            retryable=True,
        )

    def _check_known(self, entries: Sequence[Entry]) -> None:
        if len(entries) + len(self.done) < len(set(self.ids)):
            raise _undone()


def wait_for(delivery: Delivery, pending: Sequence[Pending], *, timeout: float, confirmations: int) -> list[Receipt]:
    """Wait until transactions of one key are mined and deep enough.

    Args:
        delivery: The key's delivery.
        pending: What to wait for.
        timeout: Seconds for all of them.
        confirmations: How many blocks must follow.

    Raises:
        ContractError: One reverted; the first in order.
        TransactionError: One was not mined in time, or was cancelled.
        TransportError: The node did not answer for all that time.
    """
    wait = _Wait(delivery, [item.id for item in pending], confirmations)
    started, pause = time.monotonic(), _FIRST_PAUSE
    longest = 0.25 if delivery.chain.is_devnet else 2.0
    while True:
        try:
            wait.look()
            wait.failure = None
            if len(wait.done) == len(set(wait.ids)):
                return wait.results()
            wait.repair(started)
        except TransportError as error:
            if not error.retryable:
                raise
            wait.failure = error
        if time.monotonic() - started > timeout:
            if wait.failure is not None:
                raise wait.failure
            raise wait.late(timeout)
        time.sleep(pause)
        pause = min(1.5 * pause, longest)


def _undone() -> TransactionError:
    return TransactionError(
        "the devnet went back to a time before this transaction was sent", hint="send it again: its key is free"
    )


def _reverted(entry: Entry, receipt: Receipt, data: bytes) -> ContractError:
    reason = "all its gas was used" if receipt.gas_used >= entry.gas else ""
    error = decode_revert(data, reason=reason)
    error.add_note(f"transaction {receipt.hash} in block {receipt.block_number}, {entry.function}")
    return error
