"""Paid answers, kept for a while: a retry with the same payment identifier gets the same answer and is charged once.

An answer is written before it is settled. A voucher's settlement is an entry in the same file, and both are committed
together; where the chain settles, the answer is marked after the receipt, and a retry after a crash in between asks the
chain whether the payment moved its money (`proofs`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyiot_evm.payment.store import PaymentStore
    from pyiot_evm.types import Address

__all__ = ["Answer", "Answers"]

_TIDY_EVERY: Final = 600


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer.

    Attributes:
        request: What was asked, whole: an identifier is good for one request.
        paid: Whether it was paid for.
        headers: The headers of a paid answer; of another one, by what the chain knows its payment.
    """

    request: str
    paid: bool
    headers: dict[str, str]
    body: bytes


class Answers:
    """The answers of one payee.

    Args:
        store: Where they are kept.
        payee: Whose gateway gave them.
        keep: Seconds for which a paid answer can be asked for again.
    """

    def __init__(self, store: PaymentStore, payee: Address, *, keep: int = 24 * 3600) -> None:
        self._store = store
        self._payee = payee.hex()
        self._keep = keep
        self._tidied = 0

    def find(self, payer: str, identifier: str) -> Answer | None:
        """Return the answer that a payer's identifier names."""
        query = "SELECT * FROM answers WHERE payee = ? AND payer = ? AND identifier = ?"
        found = self._store.read(query, self._payee, payer, identifier)
        if not found:
            return None
        row = found[0]
        return Answer(row["request"], row["state"] == "paid", json.loads(row["headers"]), bytes(row["body"]))

    def prepare(
        self, payer: str, identifier: str, request: str, body: bytes, proof: dict[str, str], *, at: int
    ) -> None:
        """Write an answer down that is about to be paid for; a paid one stays. Old ones are forgotten.

        So is another one that waits for the same authorization: one payment is the proof of one answer.
        """
        if at - self._tidied >= _TIDY_EVERY:
            self._tidied = at
            self.forget(before=at - self._keep)
        row = (self._payee, identifier, request, payer, "prepared", 200, json.dumps(proof), body, at)
        with self._store.write() as database:
            database.execute(
                "DELETE FROM answers WHERE payee = ? AND payer = ? AND identifier != ? AND state != 'paid'"
                " AND json_extract(headers, '$.nonce') = ?",
                (self._payee, payer, identifier, proof.get("nonce")),
            )
            database.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " request = excluded.request, headers = excluded.headers, body = excluded.body, at = excluded.at"
                " WHERE state != 'paid'",
                row,
            )

    def settle(self, payer: str, identifier: str, headers: dict[str, str]) -> None:
        """Note that it was paid for."""
        with self._store.write() as database:
            database.execute(
                "UPDATE answers SET state = 'paid', headers = ? WHERE payee = ? AND payer = ? AND identifier = ?",
                (json.dumps(headers), self._payee, payer, identifier),
            )

    def forget(self, *, before: int) -> None:
        """Forget answers older than this, Unix seconds."""
        with self._store.write() as database:
            database.execute("DELETE FROM answers WHERE payee = ? AND at < ?", (self._payee, before))

    def drop(self, payer: str, identifier: str) -> None:
        """Forget an answer whose payment came to nothing; one that is paid stays."""
        with self._store.write() as database:
            database.execute(
                "DELETE FROM answers WHERE payee = ? AND payer = ? AND identifier = ? AND state != 'paid'",
                (self._payee, payer, identifier),
            )
