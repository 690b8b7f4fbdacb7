"""The vault's journal: money that goes in, out or into channels, written down before it is signed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, TransactionHash

if TYPE_CHECKING:
    import sqlite3

    from pyiot_evm.payment.budgets import Budgets
    from pyiot_evm.payment.store import PaymentStore

__all__ = ["Kind", "VaultBook", "VaultMove"]

_HERE: Final = "WHERE account = ? AND contract = ? AND token = ? AND number = ?"
Kind = Literal["deposit", "withdraw", "withdraw all", "fund"]


@dataclass(frozen=True, slots=True)
class VaultMove:
    """One movement of a vault's money.

    Attributes:
        number: Counts the movements of an account in one token.
        kind: Into the vault, out of it, or from it into channels. ``withdraw all`` is the same movement as another
            one to the same account, however much was there.
        amount: Base units.
        parts: Where it goes: (account, amount) for a withdrawal, (channel id, amount) each for a funding.
        key: Names it: the same key never moves anything twice.
        transaction: The hash, once it is mined.
    """

    number: int
    kind: Kind
    token: Address
    amount: int
    parts: tuple[tuple[str, int], ...] = ()
    key: str | None = None
    transaction: TransactionHash | None = None

    @property
    def payee(self) -> Address | None:
        """Who gets it for good, where it leaves vault and channels."""
        return Address(self.parts[0][0]) if self.kind in {"withdraw", "withdraw all"} else None

    def is_same(self, other: VaultMove) -> bool:
        """Whether it is for the same money and the same places."""
        return self._asked == other._asked

    @property
    def _asked(self) -> tuple[Any, ...]:
        """What was asked for: of a withdrawal of all, no amount."""
        if self.kind == "withdraw all":
            return (self.kind, self.token, self.parts[0][0])
        return (self.kind, self.token, self.amount, self.parts)


class VaultBook:
    """The movements of one account's vault at one contract.

    Args:
        store: Where they are kept.
        account: The account.
        contract: The contract that has the vault.
        budgets: What the account may spend.
    """

    def __init__(self, store: PaymentStore, account: Address, contract: Address, budgets: Budgets) -> None:
        self._store = store
        self._account = account
        self._owner = (account.hex(), contract.hex())
        self._budgets = budgets

    def named(self, wanted: VaultMove) -> VaultMove | None:
        """Return the movement that a key names already.

        Raises:
            InputError: The key names another one.
        """
        if wanted.key is None:
            return None
        query = "SELECT * FROM vault_moves WHERE account = ? AND contract = ? AND key = ?"
        found = self._store.read(query, *self._owner, wanted.key)
        if not found:
            return None
        known = _move(found[0])
        if not known.is_same(wanted):
            raise InputError(f"the key {wanted.key!r} names another movement: {known.kind} of {known.amount}")
        return known

    def unfinished(self, token: Address) -> list[VaultMove]:
        """Return what a crash may have interrupted."""
        query = (
            "SELECT * FROM vault_moves WHERE account = ? AND contract = ? AND token = ? AND state = 'begun'"
            " ORDER BY number"
        )
        return [_move(row) for row in self._store.read(query, *self._owner, token.hex())]

    def begin(self, wanted: VaultMove) -> VaultMove:
        """Write a movement down; it gets its number. What goes to somebody else counts against the budget.

        Raises:
            BudgetError: It would go over a limit; nothing was written.
        """
        with self._store.write() as database:
            number = _next(database, (*self._owner, wanted.token.hex()))
            payee = wanted.payee
            if payee is not None and payee != self._account:
                hour = self._budgets.spend(database, self._account, wanted.token, payee, wanted.amount)
                place = (*self._owner, wanted.token.hex(), number)
                database.execute("INSERT INTO vault_spending VALUES (?, ?, ?, ?, ?, ?)", (*place, payee.hex(), hour))
            row = (*self._owner, wanted.token.hex(), number, wanted.kind, str(wanted.amount), _text(wanted.parts))
            database.execute("INSERT INTO vault_moves VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'begun', '')", (*row, wanted.key))
        return VaultMove(number, wanted.kind, wanted.token, wanted.amount, wanted.parts, wanted.key)

    def end(self, move: VaultMove, transaction: TransactionHash | None) -> None:
        """Note that it was mined, or (``None``) that the chain refused it: it cost nothing, and its key is free."""
        state, key = ("failed", None) if transaction is None else ("done", move.key)
        mined = "" if transaction is None else transaction.hex()
        place = (*self._owner, move.token.hex(), move.number)
        with self._store.write() as database:
            change = f"UPDATE vault_moves SET state = ?, key = ?, hash = ? {_HERE}"  # noqa: S608
            database.execute(change, (state, key, mined, *place))
            counted = database.execute(f"SELECT payee, hour FROM vault_spending {_HERE}", place).fetchone()  # noqa: S608
            if counted is not None and transaction is None:
                payee, hour = Address(counted["payee"]), counted["hour"]
                self._budgets.unspend(database, self._account, move.token, payee, move.amount, hour)
            database.execute(f"DELETE FROM vault_spending {_HERE}", place)  # noqa: S608


def _next(database: sqlite3.Connection, owner: tuple[str, ...]) -> int:
    query = "SELECT max(number) AS last FROM vault_moves WHERE account = ? AND contract = ? AND token = ?"
    last = database.execute(query, owner).fetchone()["last"]
    return 0 if last is None else int(last) + 1


def _text(parts: tuple[tuple[str, int], ...]) -> str:
    return json.dumps([[name, str(amount)] for name, amount in parts])


def _move(row: Any) -> VaultMove:
    parts = tuple((name, int(amount)) for name, amount in json.loads(row["parts"]))
    token, amount = Address(row["token"]), int(row["amount"])
    mined = TransactionHash(row["hash"]) if row["hash"] else None
    return VaultMove(row["number"], row["kind"], token, amount, parts, row["key"], mined)
