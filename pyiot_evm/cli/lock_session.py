"""What the commands of ``pyiot lock`` share: a lock of this home, a lock at the other end of a wire, documents."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from pyiot_evm.cli.output import clock as written_time
from pyiot_evm.cli.output import fields, table
from pyiot_evm.device.files import require_new, write_new
from pyiot_evm.device.lock import Lock
from pyiot_evm.device.lock_book import LockBook
from pyiot_evm.device.lock_client import LockClient
from pyiot_evm.device.lock_command import BoltCommand
from pyiot_evm.device.lock_messages import AccessError
from pyiot_evm.device.lock_policy import LockHardware, LockPolicy, hash_in, number_in
from pyiot_evm.device.lock_server import LockServer
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import CheckOut
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pyiot_evm.cli.session import Session
    from pyiot_evm.device import Signer
    from pyiot_evm.device.lock_state import LockState, Try
    from pyiot_evm.device.rental_messages import SignedStatement

__all__ = [
    "Doorkeeper",
    "client",
    "keep",
    "lines_of",
    "lock_document",
    "require_out",
    "slot_document",
    "slot_in",
    "state_of",
    "statement_document",
    "try_document",
]

_MAX_OFFER = 64 * 1024
_T = TypeVar("_T")


class Doorkeeper:
    """Puts a lock together from the options of ``pyiot lock run``.

    Args:
        session: The command's session.
        name: Whose device it is.
        journal: The lock's journal; the name's in this home when left out.
        owner: Whose offers it obeys; what the journal says, else the name's account, when left out.
        chip: The PKCS#11 URI of the device's key; the name's keystore when left out.
        tolerance: How wrong the clock may be, seconds.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        journal: Path | None,
        owner: str | None,
        chip: str | None,
        tolerance: int,
    ) -> None:
        self._session = session
        self._name = name
        self._path = journal_of(session, name, journal)
        self._owner = owner
        self._chip = chip
        self._policy = LockPolicy(tolerance=tolerance)
        self._hardware = LockHardware()
        self._clock: Callable[[], float] = time.time
        self._notes: list[str] = []

    def build(self, *, meter: Path | None, condition: Path | None, clock: Path | None, on_open: str | None) -> None:
        """Take meter, sensors and clock from files, each of which is read once, and the bolt from a command.

        Raises:
            InputError: A file cannot be read, or holds no number; or there is no such command.
        """
        parts: dict[str, Any] = {}
        if meter is not None:
            parts["meter"] = number_in(meter.expanduser())
            stands = _tried("meter", parts["meter"])
            self._notes.append(f"the meter stands at {stands}; whole units count, decimals are cut off")
        if condition is not None:
            parts["condition"] = hash_in(condition.expanduser())
            _tried("condition", parts["condition"])
        if on_open is not None:
            parts["unlock"] = BoltCommand(on_open)
        self._hardware = LockHardware(**parts)
        if clock is not None:
            self._clock = number_in(clock.expanduser())
            _tried("clock", self._clock)

    def lock(self) -> Lock:
        """Start the lock."""
        return Lock.open(
            self._path,
            signer=self._signer(),
            owner=self._owner_address(),
            device=None if self._chip else self._session.keyring.entry(self._name).device,
            policy=self._policy,
            hardware=self._hardware,
            clock=self._clock,
            watch=self._tell,
        )

    def listening(self, lock: Lock, path: Path | None, port: int | None) -> LockServer:
        """Return what listens for the lock."""
        require_place(path, port)
        return LockServer(lock, path=None if path is None else path.expanduser(), port=port)

    def prepare(self, lock: Lock, offers: Iterable[Path], *, trust_clock: bool) -> None:
        """Program a lock with the offers that it takes, and say who it is."""
        if trust_clock:
            lock.trust_clock()
        for file in offers:
            try:
                lock.program(slot_in(file))
            except AccessError as error:
                self._session.output.say(f"{file} is no slot: {error}")
        self._session.output.say(f"device {lock.device} obeys {lock.owner}; Ctrl-C ends it")
        for note in self._notes:
            self._session.output.say(note)

    def document(self, lock: Lock) -> dict[str, Any]:
        """Return what a run leaves behind."""
        return {
            "device": str(lock.device),
            "owner": str(lock.owner),
            "journal": str(self._path),
            "tries": [try_document(one) for one in lock.log()],
        }

    def _signer(self) -> Signer:
        if self._chip is None:
            return self._session.opened(self._session.keyring.device(self._name))
        from pyiot_evm.device import Pkcs11Signer  # noqa: PLC0415 - an extra

        return self._session.opened(Pkcs11Signer.open(self._chip))

    def _owner_address(self) -> Address:
        if self._owner is not None:
            return Address(self._owner)
        if self._path.exists():
            return Address(LockBook.read(self._path).identity["owner"])
        return self._session.keyring.entry(self._name).address

    def _tell(self, one: Try) -> None:
        if not self._session.output.json:
            times = f" ({one.count} times)" if one.count > 1 else ""
            self._session.output.line(
                f"{written_time(one.time)}  {one.what}  {one.outcome}{times}  {one.terms_id[:10]}"
            )


def _tried(option: str, read: Callable[[], _T]) -> _T:
    """Read what a file of an option says, once, before the lock relies on it."""
    try:
        return read()
    except OSError as error:
        raise InputError(
            f"cannot read the file of --{option}: {error}", hint="it must be there when it starts"
        ) from error
    except ValueError as error:
        raise InputError(
            f"the file of --{option} is of no use: {error}", hint="write a number first, like 1012"
        ) from error


def journal_of(session: Session, name: str, journal: Path | None) -> Path:
    """Return where a name's lock keeps its journal."""
    if journal is not None:
        return journal.expanduser()
    return session.home.journals / f"{session.keyring.entry(name).name}.lock-journal"


def state_of(session: Session, name: str, journal: Path | None) -> LockState:
    """Return what the journal of a name's lock says."""
    return LockBook.read(journal_of(session, name, journal))


def client(session: Session, path: Path | None, port: int | None) -> LockClient:
    """Return a connection to a lock, closed when the command ends."""
    require_place(path, port)
    return session.opened(LockClient(path.expanduser() if path is not None else port or 0))


def require_place(path: Path | None, port: int | None) -> None:
    """Check that a lock's place is named, once.

    Raises:
        InputError: It is not.
    """
    if (path is None) == (port is None):
        raise InputError("where is the lock?", hint="name its place: --socket PATH, or --port PORT")


def slot_in(file: Path) -> Slot:
    """Read the slot of an offer file.

    Raises:
        InputError: There is none.
    """
    try:
        with file.expanduser().open("rb") as opened:
            data = opened.read(_MAX_OFFER + 1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    return Slot.decode(data)


def require_out(out: Path | None) -> None:
    """Check that a statement can be kept, before a lock is asked to do what it states.

    Raises:
        InputError: The file is there already, or cannot be made.
    """
    if out is not None:
        require_new(out.expanduser())


def keep(said: SignedStatement | None, out: Path | None) -> None:
    """Write a statement to a new file, where one is named."""
    if said is not None and out is not None:
        write_new(out.expanduser(), said.encode().encode() + b"\n")


def statement_document(said: SignedStatement) -> dict[str, Any]:
    """Return a signed check-in or check-out as a command prints it."""
    ends = isinstance(said.statement, CheckOut)
    document: dict[str, Any] = {
        "kind": "check-out" if ends else "check-in",
        "terms_id": "0x" + said.statement.terms_id.hex(),
        "time": said.statement.time,
        "at": written_time(said.statement.time),
        "condition": "0x" + said.statement.condition.hex(),
    }
    if isinstance(said.statement, CheckOut):
        document["units"] = said.statement.units
    return document | {
        "chain_id": said.chain_id,
        "contract": str(said.contract),
        "signer": "0x" + said.signer.hex(),
        "signature": "0x" + said.signature.hex(),
    }


def slot_document(slot: Slot) -> dict[str, Any]:
    """Return a slot as a command prints it."""
    return {
        "terms_id": str(slot.terms_id),
        "start": slot.terms.start,
        "from": written_time(slot.terms.start),
        "end": slot.terms.end,
        "until": written_time(slot.terms.end),
    }


def lock_document(state: LockState) -> dict[str, Any]:
    """Return what a lock knows as a command prints it."""
    slots = [
        {
            **slot_document(use.slot),
            "state": "over" if use.check_out else "checked in" if use.check_in else "waiting",
            "openings": use.openings,
        }
        for use in state.uses.values()
    ]
    return {**state.identity, "latest": state.latest, "meter": state.meter, "slots": slots}


def lines_of(document: dict[str, Any]) -> list[str]:
    """Return a lock's document for people: who it is, then its slots."""
    columns = {"terms_id": "TERMS", "from": "FROM", "until": "UNTIL", "state": "STATE", "openings": "OPENED"}
    rows = [[str(slot[key]) for key in columns] for slot in document["slots"]]
    known = {"device": document["device"], "owner": document["owner"], "clock": written_time(document["latest"])}
    return [*fields(known), *(table(rows, list(columns.values())) if rows else [])]


def try_document(one: Try) -> dict[str, Any]:
    """Return an entry of the log as a command prints it."""
    return {
        "time": one.time,
        "at": written_time(one.time),
        "what": one.what,
        "outcome": one.outcome,
        "terms_id": one.terms_id,
        "count": one.count,
    }
