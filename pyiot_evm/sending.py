"""Sending on behalf of a sale, an order or a rental: once each, whatever crashes, and kept with what it was for.

Everything has an idempotency key. A transaction that failed for good is noted, and the next one of its kind has a new
key; so the same act can be tried again, and is never done twice.

Example:
    >>> TransactionRecord("reveal", "0x12", 41_000).gas
    41000
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pyiot_evm.chain.calls import to_int
from pyiot_evm.exceptions import ContractError, TransactionError
from pyiot_evm.hashing import keccak256

if TYPE_CHECKING:
    from pyiot_evm.chain import Account, Call, Chain, Pending
    from pyiot_evm.types import Address

__all__ = ["CreditContract", "Sender", "SendingJournal", "Started", "TransactionRecord"]


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """A transaction that a sale, an order, a purchase or a rental needed.

    Attributes:
        purpose: What it was for, e.g. ``"list"``, ``"buy"``, ``"reveal"``.
        gas: The gas it used.
    """

    purpose: str
    hash: str
    gas: int


class SendingJournal(Protocol):
    """Where a sender keeps what it sent and what failed."""

    def add_transaction(self, subject: str, transaction: TransactionRecord) -> None:
        """Keep a mined transaction with what it was for."""

    def transactions(self, subject: str) -> tuple[TransactionRecord, ...]:
        """Return the transactions of a subject, in the order in which they were mined."""

    def failures(self, subject: str, purpose: str) -> int:
        """Return how many transactions of a kind failed for a subject."""

    def add_failure(self, subject: str, purpose: str, number: int) -> None:
        """Note that the transaction of this try did not do what it was for."""


class CreditContract(Protocol):
    """The binding of a contract that keeps credits."""

    @property
    def address(self) -> Address:
        """Where it lies."""

    def credit_of(self, account: Address, token: Address) -> Call[int]:
        """What an account can withdraw."""

    def withdraw(self, token: Address, amount: int, to: Address) -> Call[None]:
        """Pay out of the caller's credit."""


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


class Sender:
    """One account that acts on one contract.

    Args:
        chain: The chain.
        account: The account's transaction manager.
        journal: Keeps what was sent.
        contract: The contract's binding.
    """

    PREFIX: ClassVar[str]
    """What its idempotency keys begin with."""
    journal: SendingJournal
    contract: CreditContract

    def __init__(self, *, chain: Chain, account: Account, journal: SendingJournal, contract: CreditContract) -> None:
        self.chain = chain
        self.account = account
        self.journal = journal
        self.contract = contract

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

    def late(self, now: int) -> int:
        """Return the later of the chain's time and this machine's; a devnet has a clock of its own.

        A node that lags behind must not make anything come too late that gives a secret away.
        """
        return now if self.chain.is_devnet else max(now, int(time.time()))

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
        receipt = self.account.transact(call, key=f"{self.PREFIX}:{key}")
        record = TransactionRecord(purpose, str(receipt.hash), receipt.gas_used)
        self.journal.add_transaction(self._subject(subject), record)
        return record

    def send_once(
        self,
        subject: object,
        purpose: str,
        call: Call[Any],
        *,
        confirmations: int | None = None,
        max_gas: int | None = None,
    ) -> TransactionRecord:
        """Send the one transaction of a kind that an order or a sale needs; after a failure the next has a new key.

        Args:
            subject: The sale or the order that it is for.
            purpose: One word for people.
            call: What to send.
            confirmations: Blocks on top of it to wait for; the chain's own number when left out.
            max_gas: The most gas that it may take; left out, whatever it takes.
        """
        return self.finish(self.begin(subject, purpose, call, max_gas=max_gas), confirmations=confirmations)

    def begin(self, subject: object, purpose: str, call: Call[Any], *, max_gas: int | None = None) -> Started:
        """Send a transaction as :meth:`send_once` does, and do not wait for it."""
        number = self.failures(subject, purpose)
        content = keccak256(bytes(call.data))[:8].hex()
        try:
            key = f"{self.PREFIX}:{purpose}:{subject}:{content}:{number}"
            pending = self.account.send(call, key=key, max_gas=max_gas)
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
        pending = self.account.find(f"{self.PREFIX}:{self._withdrawal_key(subject)}")
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
