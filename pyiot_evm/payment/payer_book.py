"""The payer's channel book: what was promised to whom, written down before it is signed.

A payment raises its channel's ceiling, is counted against the budget and gets its key, all in one transaction. So
parallel payments each have a ceiling of their own, a crash forgets nothing that may have been signed, and the same key
is the same payment for ever. Signatures are made anew from the book: they are deterministic.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.http_book import is_http_salt
from pyiot_evm.payment.records import Deposit, PayerChannel, Payment
from pyiot_evm.payment.stream_keys import is_stream_salt
from pyiot_evm.payment.vouchers import MAX_WITHDRAW_DELAY, ChannelDomain, ChannelId, config_fields, config_of
from pyiot_evm.types import Address

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pyiot_evm.contracts.payment_channels import ChannelConfig
    from pyiot_evm.payment.budgets import Budgets
    from pyiot_evm.payment.store import PaymentStore

__all__ = ["DepositNeeded", "PayerBook"]


class DepositNeeded(Exception):  # noqa: N818 - no error: the channel must be paid into first
    """A channel's balance does not cover a payment."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} base units are missing")
        self.missing = missing


class PayerBook:
    """The channels that one account pays through.

    Args:
        store: Where it is kept.
        payer: The account.
        budgets: What it may spend.
        clock: Unix seconds.
    """

    def __init__(
        self, store: PaymentStore, payer: Address, budgets: Budgets, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.payer = payer
        self._budgets = budgets
        self._clock = clock

    # Channels

    def add(self, domain: ChannelDomain, config: ChannelConfig) -> PayerChannel:
        """Write a channel down, empty; one that is there stays as it is."""
        channel_id = domain.channel_id(config)
        row = (channel_id.hex(), domain.chain_id, domain.contract.hex(), config.payer.hex(), config.receiver.hex())
        with self.store.write() as database:
            database.execute(
                "INSERT OR IGNORE INTO payer_channels (channel_id, chain_id, contract, payer, payee, token, config)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, config.token.hex(), json.dumps(config_fields(config))),
            )
        return self.channel(channel_id)

    def channel(self, channel_id: bytes) -> PayerChannel:
        """Return a channel.

        Raises:
            InputError: The book has none of this id.
        """
        found = self.store.read("SELECT * FROM payer_channels WHERE channel_id = ?", channel_id.hex())
        if not found or Address(found[0]["payer"]) != self.payer:
            raise InputError(
                f"{self.payer} has no channel {ChannelId(channel_id)}", hint="`pyiot pay list` shows the channels"
            )
        return _channel(found[0])

    def channels(self) -> list[PayerChannel]:
        """Return every channel of this payer."""
        query = "SELECT * FROM payer_channels WHERE payer = ? ORDER BY rowid"
        return [_channel(row) for row in self.store.read(query, self.payer.hex())]

    def open_channel(
        self, payee: Address, token: Address, contract: Address, *, longest: int = MAX_WITHDRAW_DELAY
    ) -> PayerChannel | None:
        """Return the channel through which a payee is paid now, HTTP and streams apart.

        Anybody can open a channel in this account's name, and a rebuilt book has it: one whose vouchers another key
        signs, whose claims are not the payee's, or that holds money for longer than ``longest`` is not paid into.
        """
        query = (
            "SELECT * FROM payer_channels WHERE payer = ? AND payee = ? AND token = ? AND contract = ?"
            " AND closing = 0 ORDER BY rowid"
        )
        found = map(_channel, self.store.read(query, self.payer.hex(), payee.hex(), token.hex(), contract.hex()))
        mine = (self.payer, payee)
        return next(
            (
                channel
                for channel in found
                if not _is_apart(channel.config.salt)
                and (channel.config.payer_authorizer, channel.config.receiver_authorizer) == mine
                and channel.config.withdraw_delay <= longest
            ),
            None,
        )

    def sync(self, channel_id: bytes, *, balance: int, claimed: int) -> PayerChannel:
        """Take over what the chain says; the ceiling is never below what was claimed."""
        with self.store.write() as database:
            ceiling = max(self.channel(channel_id).ceiling, claimed)
            database.execute(
                "UPDATE payer_channels SET balance = ?, claimed = ?, ceiling = ? WHERE channel_id = ?",
                (str(balance), str(claimed), str(ceiling), channel_id.hex()),
            )
        return self.channel(channel_id)

    def raise_ceiling(self, channel_id: bytes, ceiling: int) -> PayerChannel:
        """Take over a ceiling that this side signed before, as the counterparty shows it; never a lower one."""
        with self.store.write() as database:
            known = max(self.channel(channel_id).ceiling, ceiling)
            database.execute(
                "UPDATE payer_channels SET ceiling = ? WHERE channel_id = ?", (str(known), channel_id.hex())
            )
        return self.channel(channel_id)

    def set_closing(self, channel_id: bytes, *, closing: bool) -> None:
        """Note that a withdrawal was announced, or that it is over."""
        with self.store.write() as database:
            database.execute(
                "UPDATE payer_channels SET closing = ? WHERE channel_id = ?", (int(closing), channel_id.hex())
            )

    # Payments

    def named(self, key: str, payee: Address, token: Address, amount: int) -> Payment | None:
        """Return the payment that a key names already.

        Raises:
            InputError: The key names another one.
        """
        query = "SELECT * FROM payments WHERE payer = ? AND key = ?"
        found = self.store.read(query, self.payer.hex(), key)
        if not found:
            return None
        known = _payment(found[0])
        if (known.payee, known.token, known.amount) != (payee, token, amount):
            raise InputError(f"the key {key!r} names another payment: {known.amount} of {known.token} to {known.payee}")
        return known

    def payments(self) -> list[Payment]:
        """Return every payment, oldest first."""
        query = "SELECT * FROM payments WHERE payer = ? ORDER BY rowid"
        return [_payment(row) for row in self.store.read(query, self.payer.hex())]

    def reserve(self, channel_id: bytes, amount: int, key: str) -> Payment:
        """Write a payment down: its key, its ceiling, its part of the budget.

        Raises:
            BudgetError: It would go over a limit; nothing was written.
            DepositNeeded: The channel's balance does not cover it; nothing was written.
            InputError: The key names another payment, or the channel is closing.
        """
        with self.store.write() as database:
            channel = self.channel(channel_id)
            payee, token = channel.config.receiver, channel.config.token
            if (known := self.named(key, payee, token, amount)) is not None:
                return known
            if channel.closing:
                raise InputError(f"channel {channel.channel_id} is closing", hint="pay again: a new one is opened")
            ceiling = channel.ceiling + amount
            self._budgets.spend(database, self.payer, token, payee, amount)
            if ceiling > channel.balance:
                raise DepositNeeded(ceiling - channel.balance)
            at = int(self._clock())
            row = (self.payer.hex(), key, channel_id.hex(), payee.hex(), token.hex(), str(amount), str(ceiling), at)
            database.execute("INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "UPDATE payer_channels SET ceiling = ? WHERE channel_id = ?", (str(ceiling), channel_id.hex())
            )
        return Payment(key, channel.channel_id, payee, token, amount, ceiling, at)

    def check_payee(self, payee: Address, token: Address) -> None:
        """Raise when nothing may be put aside for a payee; nothing is counted: what is not promised comes back.

        Raises:
            BudgetError: The budget has ended, or the payee is not on its list.
        """
        self._budgets.check_payee(self.payer, token, payee)

    def check_budget(self, channel: PayerChannel, price: int) -> None:
        """Raise when a price would go over a limit; nothing is counted.

        Raises:
            BudgetError: It would.
        """
        self._budgets.check(self.payer, channel.config.token, channel.config.receiver, price)

    def spend(self, database: sqlite3.Connection, channel: PayerChannel, amount: int, *, price: int) -> None:
        """Count a part of a price against the budget, inside the transaction that writes it down.

        Raises:
            BudgetError: The price, or the amount, would go over a limit.
        """
        party = (self.payer, channel.config.token, channel.config.receiver)
        self._budgets.check_each(*party[:2], price)
        self._budgets.spend(database, *party, amount)

    # Deposits

    def begin_deposit(self, channel_id: bytes, amount: int, *, valid_before: int) -> Deposit:
        """Write a deposit down before it is signed; one that is not done yet is gone on with."""
        with self.store.write() as database:
            deposits = self._deposits(database, channel_id)
            if deposits and not deposits[-1].done:
                return deposits[-1]
            made = Deposit(ChannelId(channel_id), len(deposits), amount, valid_before, done=False)
            database.execute(
                "INSERT INTO deposits VALUES (?, ?, ?, ?, 0)",
                (channel_id.hex(), made.number, str(amount), valid_before),
            )
        return made

    def unfinished_deposit(self, channel_id: bytes) -> Deposit | None:
        """Return a deposit that a crash may have interrupted."""
        with self.store.write() as database:
            deposits = self._deposits(database, channel_id)
        return deposits[-1] if deposits and not deposits[-1].done else None

    def end_deposit(self, deposit: Deposit) -> None:
        """Note that a deposit was mined, or that it can no longer be."""
        with self.store.write() as database:
            database.execute(
                "UPDATE deposits SET done = 1 WHERE channel_id = ? AND number = ?",
                (deposit.channel_id.hex(), deposit.number),
            )

    @staticmethod
    def _deposits(database: sqlite3.Connection, channel_id: bytes) -> list[Deposit]:
        query = "SELECT * FROM deposits WHERE channel_id = ? ORDER BY number"
        return [
            Deposit(
                ChannelId(row["channel_id"]), row["number"], int(row["amount"]), row["valid_before"], bool(row["done"])
            )
            for row in database.execute(query, (channel_id.hex(),))
        ]


def _is_apart(salt: bytes) -> bool:
    """Whether a channel counts by rules of its own."""
    return is_http_salt(salt) or is_stream_salt(salt)


def _channel(row: Any) -> PayerChannel:
    return PayerChannel(
        channel_id=ChannelId(row["channel_id"]),
        domain=ChannelDomain(row["chain_id"], Address(row["contract"])),
        config=config_of(json.loads(row["config"])),
        balance=int(row["balance"]),
        claimed=int(row["claimed"]),
        ceiling=int(row["ceiling"]),
        closing=bool(row["closing"]),
    )


def _payment(row: Any) -> Payment:
    return Payment(
        key=row["key"],
        channel_id=ChannelId(row["channel_id"]),
        payee=Address(row["payee"]),
        token=Address(row["token"]),
        amount=int(row["amount"]),
        ceiling=int(row["ceiling"]),
        at=row["at"],
    )
