"""What was promised over HTTP: a payment is written down before it is signed, and as it was sent.

A process that is killed after that finds its payment again and sends the very same one, so that a server which knows
x402's payment identifiers charges it once. Channels that are paid through over HTTP are in the payer's book like all
others, each in a lane: one request at a time uses a lane, as x402 wants it, and parallel requests take others.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.exceptions import BudgetError, InputError, TransportError
from pyiot_evm.payment.vouchers import ChannelId
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from pyiot_evm.payment.budgets import Budgets
    from pyiot_evm.payment.payer_book import PayerBook
    from pyiot_evm.payment.store import PaymentStore

__all__ = ["HttpBook", "Purchase", "http_salt", "identifier_of", "is_http_salt"]

_SALT: Final = b"pyiot http channel"
_LANE_BYTES: Final = 2
_NAMED: Final = "key_"
_IDENTIFIER: Final = b"pyiot http payment 1 "


def http_salt(lane: int, generation: int) -> Bytes32:
    """Return the salt of a lane's channel: those of `Machine.pay` are others, so two books never share one."""
    rest = 32 - len(_SALT) - _LANE_BYTES
    return Bytes32(_SALT + lane.to_bytes(_LANE_BYTES, "big") + generation.to_bytes(rest, "big"))


def is_http_salt(salt: bytes) -> bool:
    """Whether a channel is one that is paid through over HTTP."""
    return salt.startswith(_SALT)


@dataclass(frozen=True, slots=True)
class Purchase:
    """One payment over HTTP.

    Attributes:
        identifier: Names it for the server.
        url: What was asked for.
        payee: Who is paid.
        lane: The lane that it took.
        token: The ERC-20 in which it is paid.
        channel: The channel's id; empty where the payment is a transfer of its own.
        paid: What it added to what is promised, base units; with a key, all that was promised under it.
        hour: In which hour since 1970 it was counted against the budget.
        header: The payment as it was sent; empty before it was signed.
    """

    identifier: str
    url: str
    payee: Address
    lane: int
    token: Address
    channel: str = ""
    paid: int = 0
    hour: int = 0
    header: str = ""

    @property
    def is_named(self) -> bool:
        """Whether its payer gave it a key: its answer is kept, and it is nobody else's."""
        return self.identifier.startswith(_NAMED)

    @property
    def price(self) -> int:
        """What it costs, base units, as it was signed; what it promised where it was not."""
        return int(json.loads(b64decode(self.header))["accepted"]["amount"]) if self.header else self.paid


def identifier_of(key: str, secret: bytes) -> str:
    """Return the payment identifier of a payment that has a key.

    A gateway gives a paid answer to whoever shows its identifier, so nobody may guess it from a key like ``order 1``.

    Args:
        key: The key.
        secret: The payer's account key; the same key is the same payment for ever.
    """
    return _NAMED + hmac.digest(secret, _IDENTIFIER + key.encode(), "sha256").hex()


class HttpBook:
    """The payments over HTTP of one account; it is x402's `ClientChannelStorage` too.

    Args:
        store: Where they are kept.
        payer: The account's channel book.
        budgets: What it may spend.
    """

    def __init__(self, store: PaymentStore, payer: PayerBook, budgets: Budgets) -> None:
        self._store = store
        self._payer = payer
        self._budgets = budgets

    # Payments

    def promise(self, purchase: Purchase, *, amount: int, ceiling: int, most: int) -> Purchase:
        """Write a payment down: its part of the budget, and the channel's ceiling with it.

        A ceiling that was promised before costs nothing again: it is the same promise. A key whose payment was refused
        is paid on from what it promised, up to its price.

        Args:
            purchase: The payment.
            amount: What it costs, base units.
            ceiling: The channel's ceiling with it; 0 where it is a transfer of its own.
            most: What it may add to what is promised.

        Raises:
            BudgetError: It would go over ``most`` or over a limit; nothing was written.
            TransportError: Its key promised its price already; nothing was written.
        """
        with self._store.write() as database:
            before = self._named(purchase.identifier)
            paid = amount
            if purchase.channel:
                channel = ChannelId(purchase.channel)
                paid = max(ceiling - self._payer.channel(channel).ceiling, 0)
                self._payer.raise_ceiling(channel, ceiling)
            _check_key(before, purchase, amount=amount, more=paid)
            if paid > most:
                more, allowed = (self._budgets.money(purchase.token, units) for units in (paid, most))
                raise BudgetError(f"it costs {more} more, at most {allowed} may be paid; nothing was signed")
            self._budgets.check_each(self._payer.payer, purchase.token, amount)
            hour = self._budgets.spend(database, self._payer.payer, purchase.token, purchase.payee, paid)
            made = replace(purchase, paid=paid, hour=hour)
            if before is not None:  # what was sent stays, until there is something else to send
                made = replace(made, paid=before.paid + paid, header=before.header)
            row = (self._payer.payer.hex(), made.identifier, made.url, made.payee.hex(), made.lane, made.token.hex())
            database.execute(
                "INSERT OR REPLACE INTO http_purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (*row, made.channel, str(made.paid), hour, made.header),
            )
        return made

    def undo(self, purchase: Purchase) -> None:
        """Take back a payment that was not sent, whatever was signed for it: nobody has it.

        A channel's ceiling stays where it is; the next payment up to there costs nothing again. What was promised under
        a key stays its own.
        """
        if purchase.is_named and purchase.channel and purchase.paid:
            return
        with self._store.write() as database:
            self.finish(purchase)
            if not purchase.channel:
                self._budgets.unspend(
                    database, self._payer.payer, purchase.token, purchase.payee, purchase.paid, purchase.hour
                )

    def sign(self, purchase: Purchase, header: str) -> Purchase:
        """Keep a payment as it will be sent."""
        self._change("header = ?", purchase, header)
        return replace(purchase, header=header)

    def finish(self, purchase: Purchase) -> None:
        """Forget a payment that was answered."""
        with self._store.write() as database:
            database.execute(
                "DELETE FROM http_purchases WHERE payer = ? AND identifier = ?",
                (self._payer.payer.hex(), purchase.identifier),
            )

    def refuse(self, purchase: Purchase) -> None:
        """Ask no more for the answer to a transfer without a key: it counts until nobody can take it any more."""
        self.keep_answer(purchase, b"", "", HTTPStatus.PAYMENT_REQUIRED)

    def in_lane(self, payee: Address, lane: int) -> list[Purchase]:
        """Return the payments of a lane that were not answered, and those refused that could still be taken."""
        query = "SELECT * FROM http_purchases WHERE payer = ? AND answer IS NOT NULL AND substr(identifier, 1, 4) <> ?"
        refused = [_purchase(row) for row in self._store.read(query, self._payer.payer.hex(), _NAMED)]
        return [p for p in self.unanswered() + refused if (p.payee, p.lane) == (payee, lane)]

    def keep_answer(self, purchase: Purchase, body: bytes, content_type: str, status: int) -> None:
        """Keep the answer to a payment that has a key."""
        answer = json.dumps({"status": status, "type": content_type, "body": body.hex()})
        self._change("answer = ?", purchase, answer)

    def named(self, identifier: str, url: str) -> tuple[Purchase, dict[str, Any] | None] | None:
        """Return the payment of a key, and its answer where it has one.

        Raises:
            InputError: The key names a payment for another address.
        """
        query = "SELECT * FROM http_purchases WHERE payer = ? AND identifier = ?"
        found = self._store.read(query, self._payer.payer.hex(), identifier)
        if not found:
            return None
        if found[0]["url"] != url:
            raise InputError(f"the key names a payment for {found[0]['url']}")
        return _purchase(found[0]), None if found[0]["answer"] is None else json.loads(found[0]["answer"])

    def _named(self, identifier: str) -> Purchase | None:
        query = "SELECT * FROM http_purchases WHERE payer = ? AND identifier = ?"
        found = self._store.read(query, self._payer.payer.hex(), identifier)
        return _purchase(found[0]) if found else None

    def unanswered(self) -> list[Purchase]:
        """Return payments that were begun and not answered: under way, or interrupted where nobody holds their lane."""
        query = "SELECT * FROM http_purchases WHERE payer = ? AND answer IS NULL ORDER BY rowid"
        return [_purchase(row) for row in self._store.read(query, self._payer.payer.hex())]

    def is_unanswered(self, purchase: Purchase) -> bool:
        """Whether a payment is as it was: not answered meanwhile."""
        query = "SELECT * FROM http_purchases WHERE payer = ? AND identifier = ? AND answer IS NULL"
        return purchase in map(_purchase, self._store.read(query, self._payer.payer.hex(), purchase.identifier))

    def _change(self, what: str, purchase: Purchase, value: str) -> None:
        with self._store.write() as database:
            database.execute(
                f"UPDATE http_purchases SET {what} WHERE payer = ? AND identifier = ?",  # noqa: S608
                (value, self._payer.payer.hex(), purchase.identifier),
            )

    # x402's storage

    def get(self, key: str) -> Any:
        """Return what x402's client keeps of a channel."""
        from x402.mechanisms.evm.batch_settlement.client import BatchSettlementClientContext  # noqa: PLC0415

        query = "SELECT document FROM http_channels WHERE payer = ? AND key = ?"
        found = self._store.read(query, self._payer.payer.hex(), key)
        return BatchSettlementClientContext.from_dict(json.loads(found[0]["document"])) if found else None

    def set(self, key: str, context: Any) -> None:
        """Keep what x402's client knows of a channel."""
        row = (self._payer.payer.hex(), key, json.dumps(context.to_dict()))
        with self._store.write() as database:
            database.execute("INSERT OR REPLACE INTO http_channels VALUES (?, ?, ?)", row)
            known = self._payer.channel(ChannelId(key))
            balance, claimed = int(context.balance or 0), int(context.total_claimed or 0)
            self._payer.sync(known.channel_id, balance=balance, claimed=max(claimed, known.claimed))

    def delete(self, key: str) -> None:
        """Forget a channel; the chain and the server know it still."""
        with self._store.write() as database:
            database.execute(
                "DELETE FROM http_channels WHERE payer = ? AND key = ?", (self._payer.payer.hex(), key.lower())
            )


def _purchase(row: Any) -> Purchase:
    return Purchase(
        identifier=row["identifier"],
        url=row["url"],
        payee=Address(row["payee"]),
        lane=row["lane"],
        token=Address(row["token"]),
        channel=row["channel"],
        paid=int(row["paid"]),
        hour=row["hour"],
        header=row["header"],
    )


def _check_key(before: Purchase | None, purchase: Purchase, *, amount: int, more: int) -> None:
    """See that a key whose payment was refused pays no more than its price, whatever its server shows.

    Raises:
        TransportError: It would.
    """
    if before is None:
        return
    is_same = bool(before.channel) and before.channel == purchase.channel
    price = min(amount, before.price) if before.header else amount
    if not is_same or (before.header and amount > before.price) or (more and before.paid + more > price):
        raise TransportError(
            "the server refused the payment of this key, and may have taken it: no other one is signed",
            hint="the same key sends the same payment again; another key makes another payment",
            retryable=False,
        )
