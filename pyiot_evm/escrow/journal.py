"""The rental journal: what owners, renters and arbiters must not forget, written before anything is signed or sent.

Example:
    >>> import tempfile
    >>> from pyiot_evm.types import ZERO_ADDRESS
    >>> with tempfile.TemporaryDirectory() as folder, RentalJournal(f"{folder}/rentals.sqlite") as journal:
    ...     first, second = journal.draw_salt(ZERO_ADDRESS), journal.draw_salt(ZERO_ADDRESS)
    ...     second - first, first >> 8 == second >> 8
    (1, True)
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from pyiot_evm.device.rental_messages import CheckOut, SignedStatement
from pyiot_evm.escrow.offers import RentalOffer
from pyiot_evm.escrow.records import OfferRecord, OfferState, RentalRecord, Role, Standing, State
from pyiot_evm.journals import SqliteJournal, insert
from pyiot_evm.types import Address, Bytes32, RentalId, TermsId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

__all__ = ["RentalJournal"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS salts (owner TEXT PRIMARY KEY, base TEXT NOT NULL, next INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS offers (
  terms_id TEXT NOT NULL, owner TEXT NOT NULL, request TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
  offer TEXT NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (terms_id, owner), UNIQUE (owner, request, number)
) STRICT;
CREATE TABLE IF NOT EXISTS rentals (
  rental_id TEXT NOT NULL, terms_id TEXT NOT NULL, account TEXT NOT NULL, role TEXT NOT NULL, state TEXT NOT NULL,
  deadline INTEGER NOT NULL, held TEXT NOT NULL, claimed TEXT NOT NULL, offer TEXT NOT NULL, renter TEXT NOT NULL,
  mask TEXT NOT NULL, ephemeral_x TEXT NOT NULL, ephemeral_y TEXT NOT NULL, created_at INTEGER NOT NULL,
  decision TEXT, access_key BLOB, PRIMARY KEY (rental_id, account, role)
) STRICT;
CREATE INDEX IF NOT EXISTS rentals_by_account ON rentals (account, role, state);
CREATE TABLE IF NOT EXISTS watched (
  terms_id TEXT NOT NULL, arbiter TEXT NOT NULL, owner TEXT NOT NULL, offer TEXT NOT NULL,
  PRIMARY KEY (terms_id, arbiter)
) STRICT;
CREATE TABLE IF NOT EXISTS statements (
  terms_id TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (terms_id, kind)
) STRICT;
"""
_SALTS_OF_A_WORD = 256


class RentalJournal(SqliteJournal):
    """The rental journal of one network.

    Args:
        path: The SQLite file; made, with its folder, when it is missing.
    """

    SCHEMA = _SCHEMA

    # Offers

    def draw_salt(self, owner: Address) -> int:
        """Return a salt that no offer of this owner had: 256 in a row share one word of the contract's nonces."""
        with self.write() as database:
            return _draw_salt(database, owner)

    def open_offer(
        self, owner: Address, request: Bytes32, *, again: bool, make: Callable[[int, int], OfferRecord]
    ) -> OfferRecord:
        """Return the offer of a request, or draft it.

        Args:
            owner: Who offers.
            request: The hash of what is asked for.
            again: Whether to draft another offer when the newest one is signed.
            make: Called with the new offer's number and its salt.
        """
        with self.write() as database:
            found = database.execute(
                "SELECT * FROM offers WHERE owner = ? AND request = ? ORDER BY number DESC LIMIT 1",
                (owner.hex(), request.hex()),
            ).fetchone()
            newest = _offer(found) if found else None
            finished = (OfferState.CANCELLED, OfferState.SIGNED) if again else (OfferState.CANCELLED,)
            if newest is not None and newest.state not in finished:
                return newest
            record = make(newest.number + 1 if newest else 0, _draw_salt(database, owner))
            insert(database, "offers", _from_offer(record))
            return record

    def set_offer(self, record: OfferRecord) -> None:
        """Keep an offer as it is now; one that came from a file is added."""
        with self.write() as database:
            insert(database, "offers", _from_offer(record), verb="INSERT OR REPLACE")

    def offer(self, terms_id: TermsId, owner: Address) -> OfferRecord | None:
        """Return an owner's offer."""
        found = self.read("SELECT * FROM offers WHERE terms_id = ? AND owner = ?", terms_id.hex(), owner.hex())
        return _offer(found[0]) if found else None

    def offers(self, owner: Address) -> list[OfferRecord]:
        """Return every offer of an owner, oldest first."""
        return [_offer(row) for row in self.read("SELECT * FROM offers WHERE owner = ? ORDER BY rowid", owner.hex())]

    def watch_offer(self, offer: RentalOffer, arbiter: Address) -> None:
        """Keep an offer for its arbiter, or for a member of the account that is its arbiter."""
        values = (offer.id.hex(), arbiter.hex(), offer.terms.owner.hex(), offer.encode())
        with self.write() as database:
            database.execute("INSERT OR IGNORE INTO watched VALUES (?, ?, ?, ?)", values)

    def watched_owners(self, arbiter: Address) -> list[Address]:
        """Return whose offers an arbiter keeps."""
        found = self.read("SELECT DISTINCT owner FROM watched WHERE arbiter = ? ORDER BY owner", arbiter.hex())
        return [Address(row["owner"]) for row in found]

    def watched_offers(self, arbiter: Address, owner: Address) -> list[RentalOffer]:
        """Return an owner's offers that an arbiter keeps."""
        query = "SELECT offer FROM watched WHERE arbiter = ? AND owner = ? ORDER BY rowid"
        return [RentalOffer.decode(row["offer"]) for row in self.read(query, arbiter.hex(), owner.hex())]

    def watched_offer(self, terms_id: TermsId, arbiter: Address) -> RentalOffer | None:
        """Return an offer that an arbiter keeps."""
        query = "SELECT offer FROM watched WHERE terms_id = ? AND arbiter = ?"
        found = self.read(query, terms_id.hex(), arbiter.hex())
        return RentalOffer.decode(found[0]["offer"]) if found else None

    # Rentals

    def add_rentals(self, rentals: Iterable[RentalRecord]) -> None:
        """Add rentals; those that are known stay as they are."""
        with self.write() as database:
            for rental in rentals:
                insert(database, "rentals", _from_rental(rental), verb="INSERT OR IGNORE")

    def rental(self, rental_id: RentalId, account: Address, role: Role) -> RentalRecord | None:
        """Return a rental as an account in a role sees it."""
        query = "SELECT * FROM rentals WHERE rental_id = ? AND account = ? AND role = ?"
        found = self.read(query, rental_id.hex(), account.hex(), role)
        return _rental(found[0]) if found else None

    def rentals(
        self, account: Address, *, role: Role | None = None, is_open: bool = False, abandoned: bool = False
    ) -> list[RentalRecord]:
        """Return an account's rentals, oldest first: all, of one role, or those that are not over.

        Args:
            account: Whose.
            role: As what; in every role when left out.
            is_open: Whether to leave out those that are over.
            abandoned: Whether those count as open that were never paid: somebody may still carry a signed payment.
        """
        over = "'closed'" if abandoned else "'closed', 'abandoned'"
        where = f" AND state NOT IN ({over})" if is_open else ""
        roles = tuple(Role) if role is None else (role,)
        query = f"SELECT * FROM rentals WHERE account = ? AND role IN ({', '.join('?' * len(roles))}){where}"  # noqa: S608
        return [_rental(row) for row in self.read(f"{query} ORDER BY rowid", account.hex(), *roles)]

    def set_standing(self, record: RentalRecord, standing: Standing) -> None:
        """Keep what the chain says of a rental."""
        with self.write() as database:
            _change(database, record, _from_standing(standing))

    def redraft(self, record: RentalRecord, *, created_at: int) -> None:
        """Take up a payment anew that never reached the chain."""
        with self.write() as database:
            _change(database, record, {"created_at": created_at, "state": State.DRAFTED})

    def keep_access_key(self, record: RentalRecord, sealed: bytes) -> None:
        """Keep the encrypted access key of a rental."""
        with self.write() as database:
            _change(database, record, {"access_key": sealed})

    def decide(self, record: RentalRecord, decision: str) -> str:
        """Decide once and for all whether a rental is handed over or refunded.

        Returns:
            The decision that stands: the first one, whoever made it.
        """
        where = (record.rental_id.hex(), record.account.hex(), record.role)
        condition = "rental_id = ? AND account = ? AND role = ?"
        with self.write() as database:
            database.execute(
                f"UPDATE rentals SET decision = ? WHERE {condition} AND decision IS NULL",  # noqa: S608
                (decision, *where),
            )
            found = database.execute(f"SELECT decision FROM rentals WHERE {condition}", where).fetchone()  # noqa: S608
            return str(found["decision"])

    # What devices said

    def keep_statement(self, said: SignedStatement) -> None:
        """Keep a check-in or a check-out; the first of a kind stays."""
        values = (said.statement.terms_id.hex(), _kind(said), said.encode())
        with self.write() as database:
            database.execute("INSERT OR IGNORE INTO statements VALUES (?, ?, ?)", values)

    def statement(self, terms_id: TermsId, kind: str) -> SignedStatement | None:
        """Return what is kept: ``check-in`` or ``check-out``."""
        found = self.read("SELECT text FROM statements WHERE terms_id = ? AND kind = ?", terms_id.hex(), kind)
        return SignedStatement.decode(found[0]["text"]) if found else None


def _kind(said: SignedStatement) -> str:
    return "check-out" if isinstance(said.statement, CheckOut) else "check-in"


def _draw_salt(database: sqlite3.Connection, owner: Address) -> int:
    found = database.execute("SELECT base, next FROM salts WHERE owner = ?", (owner.hex(),)).fetchone()
    base, number = (int(found["base"], 16), found["next"]) if found else (0, _SALTS_OF_A_WORD)
    if number == _SALTS_OF_A_WORD:
        base, number = secrets.randbits(248), 0
    values = (owner.hex(), f"{base:x}", number + 1)
    database.execute("INSERT OR REPLACE INTO salts VALUES (?, ?, ?)", values)
    return base << 8 | number


def _change(database: sqlite3.Connection, record: RentalRecord, columns: dict[str, Any]) -> None:
    changes = ", ".join(f"{name} = ?" for name in columns)
    where = (record.rental_id.hex(), record.account.hex(), record.role)
    database.execute(
        f"UPDATE rentals SET {changes} WHERE rental_id = ? AND account = ? AND role = ?",  # noqa: S608
        (*columns.values(), *where),
    )


def _from_offer(record: OfferRecord) -> dict[str, Any]:
    return {
        "terms_id": record.terms_id.hex(),
        "owner": record.owner.hex(),
        "request": record.request.hex(),
        "number": record.number,
        "state": record.state,
        "offer": record.offer.encode(),
        "created_at": record.created_at,
    }


def _offer(row: sqlite3.Row) -> OfferRecord:
    return OfferRecord(
        terms_id=TermsId(row["terms_id"]),
        owner=Address(row["owner"]),
        request=Bytes32(row["request"]),
        number=row["number"],
        state=OfferState(row["state"]),
        offer=RentalOffer.decode(row["offer"]),
        created_at=row["created_at"],
    )


def _from_standing(standing: Standing) -> dict[str, Any]:
    return {
        "state": standing.state,
        "deadline": standing.deadline,
        "held": str(standing.held),  # up to 104 bits, SQLite's integers have 64
        "claimed": str(standing.claimed),
    }


def _from_rental(record: RentalRecord) -> dict[str, Any]:
    return {
        "rental_id": record.rental_id.hex(),
        "terms_id": record.terms_id.hex(),
        "account": record.account.hex(),
        "role": record.role,
        **_from_standing(record.standing),
        "offer": record.offer.encode(),
        "renter": record.renter.hex(),
        "mask": record.mask.hex(),
        "ephemeral_x": str(record.ephemeral_x),
        "ephemeral_y": str(record.ephemeral_y),
        "created_at": record.created_at,
        "decision": record.decision,
        "access_key": record.access_key,
    }


def _rental(row: sqlite3.Row) -> RentalRecord:
    return RentalRecord(
        rental_id=RentalId(row["rental_id"]),
        terms_id=TermsId(row["terms_id"]),
        account=Address(row["account"]),
        role=Role(row["role"]),
        standing=Standing(State(row["state"]), row["deadline"], int(row["held"]), int(row["claimed"])),
        offer=RentalOffer.decode(row["offer"]),
        renter=Address(row["renter"]),
        mask=Address(row["mask"]),
        ephemeral_x=int(row["ephemeral_x"]),
        ephemeral_y=int(row["ephemeral_y"]),
        created_at=row["created_at"],
        decision=row["decision"],
        access_key=row["access_key"],
    )
