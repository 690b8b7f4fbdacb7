"""Budgets: what a machine may spend, checked in the same transaction in which a payment is written down.

A budget is for one payer and one token. Its periods begin at multiples of their length since 1970, so that a restart
or a new budget starts no new period; what was spent before it was set counts. Without a budget nothing is limited.

Example:
    >>> Budget(each_payment=500, each_period=1000, period=3600).period
    3600
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyiot_evm.exceptions import BudgetError, InputError
from pyiot_evm.types import Address

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pyiot_evm.payment.store import PaymentStore

__all__ = ["DAY", "HOUR", "Budget", "Budgets", "Spending"]

HOUR: Final = 3600
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one payer in one token; base units, ``None`` for no limit.

    Attributes:
        each_payment: What one payment may be.
        each_period: What all payments of one period may be.
        period: Its length in seconds, whole hours.
        each_payee: What one payee may get in all.
        payees: The only payees there are; empty for anyone.
        ends_at: Unix seconds from which nothing may be paid; 0 for no end.
    """

    each_payment: int | None = None
    each_period: int | None = None
    period: int = DAY
    each_payee: int | None = None
    payees: tuple[Address, ...] = ()
    ends_at: int = 0

    def __post_init__(self) -> None:
        if self.period < HOUR or self.period % HOUR:
            raise InputError(f"a budget's period is a whole number of hours, not {self.period} s")
        for limit in (self.each_payment, self.each_period, self.each_payee):
            if limit is not None and limit < 0:
                raise InputError(f"a limit is 0 or more, not {limit}")

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(
            {
                "each_payment": _text(self.each_payment),
                "each_period": _text(self.each_period),
                "period": self.period,
                "each_payee": _text(self.each_payee),
                "payees": [str(payee) for payee in self.payees],
                "ends_at": self.ends_at,
            }
        )

    @classmethod
    def decode(cls, text: str) -> Budget:
        """Read what :meth:`encode` wrote."""
        fields = json.loads(text)
        return cls(
            each_payment=_number(fields["each_payment"]),
            each_period=_number(fields["each_period"]),
            period=fields["period"],
            each_payee=_number(fields["each_payee"]),
            payees=tuple(Address(payee) for payee in fields["payees"]),
            ends_at=fields["ends_at"],
        )


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent in one token: in this period, and to each payee in all."""

    in_period: int
    by_payee: dict[Address, int]


class Budgets:
    """The budgets of a network.

    Args:
        store: Where they are kept.
        clock: Unix seconds.
        money: Writes base units of a token for people.
    """

    def __init__(
        self,
        store: PaymentStore,
        *,
        clock: Callable[[], float] = time.time,
        money: Callable[[Address, int], str] = lambda _token, units: f"{units} base units",
    ) -> None:
        self._store = store
        self._clock = clock
        self.money = money

    def set(self, payer: Address, token: Address, budget: Budget | None) -> None:
        """Set a payer's budget in a token; ``None`` takes it away. What was spent stays counted."""
        with self._store.write() as database:
            database.execute("DELETE FROM budgets WHERE payer = ? AND token = ?", (payer.hex(), token.hex()))
            if budget is not None:
                database.execute("INSERT INTO budgets VALUES (?, ?, ?)", (payer.hex(), token.hex(), budget.encode()))

    def get(self, payer: Address, token: Address) -> Budget | None:
        """Return a payer's budget in a token."""
        found = self._store.read("SELECT terms FROM budgets WHERE payer = ? AND token = ?", payer.hex(), token.hex())
        return Budget.decode(found[0]["terms"]) if found else None

    def spending(self, payer: Address, token: Address) -> Spending:
        """Return what a payer spent in a token."""
        budget = self.get(payer, token) or Budget()
        first = self._period_start(budget)
        in_period, by_payee = 0, dict[Address, int]()
        query = "SELECT payee, hour, amount FROM spending WHERE payer = ? AND token = ?"
        for row in self._store.read(query, payer.hex(), token.hex()):
            payee, amount = Address(row["payee"]), int(row["amount"])
            by_payee[payee] = by_payee.get(payee, 0) + amount
            in_period += amount if row["hour"] >= first else 0
        return Spending(in_period, by_payee)

    def check(self, payer: Address, token: Address, payee: Address, amount: int) -> None:
        """Raise when a payment would go over a limit; nothing is counted.

        Raises:
            BudgetError: It would.
        """
        self.check_payee(payer, token, payee)
        budget = self.get(payer, token)
        if budget is None:
            return
        spent = self.spending(payer, token)
        limits = (
            ("a payment", budget.each_payment, 0),
            (f"a period of {budget.period} s", budget.each_period, spent.in_period),
            (f"the payee {payee}", budget.each_payee, spent.by_payee.get(payee, 0)),
        )
        for what, limit, before in limits:
            if limit is not None and before + amount > limit:
                allowed, gone, asked = (self.money(token, units) for units in (limit, before, amount))
                raise BudgetError(
                    f"the budget allows {allowed} for {what}: {gone} are spent, {asked} more are asked", hint=_HINT
                )

    def check_payee(self, payer: Address, token: Address, payee: Address) -> None:
        """Raise when a payee may be paid nothing at all; nothing is counted.

        Raises:
            BudgetError: The budget has ended, or the payee is not on its list.
        """
        budget = self.get(payer, token)
        if budget is None:
            return
        if budget.ends_at and self._clock() >= budget.ends_at:
            raise BudgetError(f"the budget of {payer} ended at {budget.ends_at}", hint=_HINT)
        if budget.payees and payee not in budget.payees:
            raise BudgetError(f"{payee} is not on the budget's list of payees", hint=_HINT)

    def check_each(self, payer: Address, token: Address, price: int) -> None:
        """Raise when one price is over what one payment may be, however much of it was counted before.

        Raises:
            BudgetError: It is.
        """
        budget = self.get(payer, token)
        if budget is not None and budget.each_payment is not None and price > budget.each_payment:
            allowed, asked = self.money(token, budget.each_payment), self.money(token, price)
            raise BudgetError(f"the budget allows {allowed} for a payment: {asked} are asked", hint=_HINT)

    def spend(self, database: sqlite3.Connection, payer: Address, token: Address, payee: Address, amount: int) -> int:
        """Check and count a payment inside the transaction that writes it down.

        Returns:
            The hour since 1970 in which it is counted.

        Raises:
            BudgetError: It would go over a limit.
        """
        self.check(payer, token, payee, amount)
        hour = int(self._clock()) // HOUR
        self._count(database, (payer.hex(), token.hex(), payee.hex(), hour), amount)
        return hour

    def unspend(  # noqa: PLR0917 - as `spend`, and the hour that it returned
        self, database: sqlite3.Connection, payer: Address, token: Address, payee: Address, amount: int, hour: int
    ) -> None:
        """Take a payment out of the count that was never signed or never left."""
        self._count(database, (payer.hex(), token.hex(), payee.hex(), hour), -amount)

    @staticmethod
    def _count(database: sqlite3.Connection, key: tuple[str, str, str, int], amount: int) -> None:
        where = "payer = ? AND token = ? AND payee = ? AND hour = ?"
        row = database.execute(f"SELECT amount FROM spending WHERE {where}", key).fetchone()  # noqa: S608
        total = amount + (int(row["amount"]) if row else 0)
        database.execute("INSERT OR REPLACE INTO spending VALUES (?, ?, ?, ?, ?)", (*key, str(total)))

    def _period_start(self, budget: Budget) -> int:
        """Return the first hour of the present period, counted from 1970."""
        return int(self._clock()) // budget.period * budget.period // HOUR


_HINT: Final = "`pyiot pay budget show` shows it; its owner can raise it with `pyiot pay budget set`"


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _number(value: str | None) -> int | None:
    return None if value is None else int(value)
