"""What a lock knows, as the sum of its journal's records: slots, statements, tries, its counter and the latest time.

Each record changes the state in one way (:meth:`LockState.apply`), the same when it is written and when it is read
again after a power loss. :meth:`LockState.summary` is one record that makes the same state.

Example:
    >>> state = LockState()
    >>> state.apply({"kind": "reserved", "time": 1_700_000_000, "counter": 64})
    >>> state.counter, state.latest
    (64, 1700000000)
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import SignedStatement
from pyiot_evm.exceptions import ConsistencyError
from pyiot_evm.types import TermsId

__all__ = ["LockState", "Try", "Use"]

KEPT_TRIES: Final = 1000
"""So many tries a summary keeps."""
KEPT_SECONDS: Final = 30 * 24 * 3600
"""So long after its end a slot and its statements are kept, as long as a claim window can be."""
_MAX_UNITS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Try:
    """One entry of the log.

    Attributes:
        time: The lock's clock, Unix seconds.
        what: ``open``, ``check-out``, ``program`` or ``clock``.
        outcome: ``ok``, or why it was refused.
        terms_id: Of which rental, as hex; empty where that is not known.
        count: How many tries the entry stands for.
    """

    time: int
    what: str
    outcome: str
    terms_id: str = ""
    count: int = 1


@dataclass(slots=True)
class Use:
    """A slot, and how far its rental is.

    Attributes:
        slot: The slot.
        check_in: The signed check-in, once the lock was opened.
        check_out: The signed check-out, once the rental is over; then the key opens nothing any more.
        meter_start: The meter at the check-in.
        meter_end: The meter when the next renter checked in; None while this one's use is counted.
        openings: How often it was opened.
    """

    slot: Slot
    check_in: SignedStatement | None = None
    check_out: SignedStatement | None = None
    meter_start: int = 0
    meter_end: int | None = None
    openings: int = 0

    @property
    def is_running(self) -> bool:
        """Whether somebody is in: checked in and not out."""
        return self.check_in is not None and self.check_out is None

    def units(self, meter: int) -> int:
        """Return what was metered in this slot when the meter stands at ``meter``."""
        return min(max((meter if self.meter_end is None else self.meter_end) - self.meter_start, 0), _MAX_UNITS)


class LockState:
    """What a lock knows."""

    def __init__(self) -> None:
        self.identity: dict[str, str] = {}
        self.counter = 0
        self.latest = 0
        self.meter = 0
        self.uses: dict[TermsId, Use] = {}
        self.used_keys: dict[str, str] = {}
        self.tries: deque[Try] = deque(maxlen=KEPT_TRIES)

    def apply(self, record: dict[str, Any]) -> None:
        """Take in one record.

        Raises:
            ConsistencyError: A record of a kind that this package does not know.
        """
        change = getattr(self, "_" + record["kind"].replace("-", "_"), None)
        if change is None:
            raise ConsistencyError(
                f"the lock's journal has a record of an unknown kind: {record['kind']!r:.40}",
                hint="use a newer package",
            )
        change(record)
        self.latest = record["time"] if record["kind"] == "clock" else max(self.latest, record["time"])
        self.meter = max(self.meter, record.get("meter", 0))

    def summary(self, identity: dict[str, str]) -> dict[str, Any]:
        """Return one record that makes this state, without slots that ended long ago."""
        uses = [u for u in self.uses.values() if u.is_running or self.latest < u.slot.terms.end + KEPT_SECONDS]
        return {
            "kind": "summary",
            "time": self.latest,
            "identity": identity,
            "counter": self.counter,
            "meter": self.meter,
            "uses": [_fields(use) for use in uses],
            "usedKeys": self.used_keys,
            "tries": [asdict(one) for one in self.tries],
        }

    def _summary(self, record: dict[str, Any]) -> None:
        self.identity = record["identity"]
        self.counter, self.used_keys = record["counter"], dict(record["usedKeys"])
        self.uses = {use.slot.terms_id: use for use in map(_use, record["uses"])}
        self.tries = deque((Try(**one) for one in record["tries"]), maxlen=KEPT_TRIES)

    def _begun(self, record: dict[str, Any]) -> None:
        self.identity = record["identity"]

    def _reserved(self, record: dict[str, Any]) -> None:
        self.counter = record["counter"]

    def _beat(self, record: dict[str, Any]) -> None:
        """Only the time and the meter."""

    def _clock(self, record: dict[str, Any]) -> None:
        self.tries.append(Try(record["time"], "clock", "ok"))

    def _slot(self, record: dict[str, Any]) -> None:
        slot = Slot.of(record["slot"])
        self.uses[slot.terms_id] = Use(slot)
        self.used_keys[slot.key_address.hex()] = str(slot.terms_id)
        self.tries.append(Try(record["time"], "program", "ok", str(slot.terms_id)))

    def _refused(self, record: dict[str, Any]) -> None:
        self.tries.append(
            Try(record["time"], record["what"], record["reason"], record.get("termsId", ""), record.get("count", 1))
        )

    def _opened(self, record: dict[str, Any]) -> None:
        use = self.uses[TermsId(record["termsId"])]
        if "checkIn" in record:
            for other in self.uses.values():
                if other.is_running and other.meter_end is None:
                    other.meter_end = record["meter"]
            use.check_in = SignedStatement.decode(record["checkIn"])
            use.meter_start = record["meter"]
        use.openings += 1
        self.tries.append(Try(record["time"], "open", "ok", record["termsId"]))

    def _jammed(self, record: dict[str, Any]) -> None:
        """Take an opening back: the bolt did not move, nobody got the statement, and whose use was counted goes on."""
        use = self.uses[TermsId(record["termsId"])]
        use.openings -= 1
        if not use.openings:
            use.check_in = None
            for terms_id in record["counting"]:
                self.uses[TermsId(terms_id)].meter_end = None
        self.tries.append(Try(record["time"], "open", "jammed", record["termsId"]))

    def _checked_out(self, record: dict[str, Any]) -> None:
        self.uses[TermsId(record["termsId"])].check_out = SignedStatement.decode(record["checkOut"])
        self.tries.append(Try(record["time"], "check-out", record["by"], record["termsId"]))


def _fields(use: Use) -> dict[str, Any]:
    return {
        "slot": use.slot.fields(),
        "checkIn": None if use.check_in is None else use.check_in.encode(),
        "checkOut": None if use.check_out is None else use.check_out.encode(),
        "meterStart": use.meter_start,
        "meterEnd": use.meter_end,
        "openings": use.openings,
    }


def _use(fields: dict[str, Any]) -> Use:
    check_in, check_out = fields["checkIn"], fields["checkOut"]
    return Use(
        slot=Slot.of(fields["slot"]),
        check_in=None if check_in is None else SignedStatement.decode(check_in),
        check_out=None if check_out is None else SignedStatement.decode(check_out),
        meter_start=fields["meterStart"],
        meter_end=fields["meterEnd"],
        openings=fields["openings"],
    )
