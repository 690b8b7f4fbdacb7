"""Rulings without a person: an agreement of owner and renter on what a device's readings must show.

"Above 8 °C for an hour" is an agreement: so many readings in a row, signed by that device, each outside of these
bounds, so far apart. "Still in the bay ten minutes after the end" is one whose readings count from then on. The terms
bind it, the suite's ``RuleArbiter`` rules by it, and anybody with the readings submits them.

Example:
    >>> from pyiot_evm.device import Field, LocalSigner, Schema
    >>> sensor, schema = LocalSigner.create(), Schema((Field("temperature", unit="Cel", scale=2),))
    >>> too_warm = ReadingAgreement(
    ...     schema, {"temperature": (0, 8)}, sensor.device, sensor.signer_bytes, count=3, span=3600, award=5_000_000
    ... ).bind(rule=Address("0x" + "11" * 20), start=1_800_000_000, end=1_800_086_400)
    >>> too_warm.count, too_warm.span, too_warm.from_
    (3, 3600000, 1800000000000)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.chain.abi import encode
from pyiot_evm.contracts.rule_arbiter import Agreement
from pyiot_evm.device.reading import MAX_INT128, MIN_INT128
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.documents import hex_text, read_fields, read_hex, write_fields
from pyiot_evm.market.rules import RuleParams, SignedReadingRule
from pyiot_evm.types import Address, Bytes32, DeviceId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from pyiot_evm.device.reading import Reading
    from pyiot_evm.device.schema import Schema

__all__ = [
    "CHECK_OUT_GRACE",
    "Agreement",
    "ReadingAgreement",
    "agreement_fields",
    "check_agreement",
    "find_evidence",
    "limits_of",
    "read_agreement",
    "terms_hash",
]

CHECK_OUT_GRACE: Final = 24 * 60 * 60
"""So many seconds after a slot's end the escrow takes a check-out, and readings can count."""

_MILLISECONDS: Final = 1000
_FOREVER: Final = (1 << 64) - 1
_FIELDS: Final = (
    ("rule", "address"),
    ("device", "bytes32"),
    ("schema", "bytes32"),
    ("fields", "uint32"),
    ("from_", "uint64"),
    ("until", "uint64"),
    ("count", "uint32"),
    ("span", "uint64"),
    ("award", "uint96"),
)
_MAX_PARAMS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class ReadingAgreement:
    """What readings show that the owner is right, before it is bound to a rental.

    Attributes:
        schema: What the device measures.
        limits: By field, the least and the greatest value that is fine, in the field's unit; a reading outside of one
            of them counts against the renter.
        device: Who measures.
        signer: Its signer bytes.
        count: How many readings in a row must be outside.
        span: Seconds between the first of them and the last.
        award: What the owner gets, base units; at most what it claims.
        from_: From when on readings count, Unix seconds; from the slot's start when left out. For a late return: some
            minutes after its end.
        until: Until when they count; until the slot's end when left out, at most a day after it. What was measured
            before a check-in that was shown, or after the check-out, never counts.
    """

    schema: Schema
    limits: Mapping[str, tuple[float | Decimal, float | Decimal]]
    device: DeviceId
    signer: bytes
    count: int
    span: int
    award: int
    from_: int | None = None
    until: int | None = None

    def bind(self, *, rule: Address, start: int, end: int) -> Agreement:
        """Return the agreement for a slot, in the contract's form.

        Args:
            rule: The suite's signed-reading rule.
            start: When the slot begins, Unix seconds.
            end: When it ends.

        Raises:
            InputError: The schema has no such field, a bound does not fit, or no reading could ever show it.
        """
        unknown = set(self.limits) - {field.name for field in self.schema.fields}
        if unknown or not self.limits:
            raise InputError(f"the schema has no field {', '.join(sorted(unknown)) or 'with a limit'}")
        if self.count < 1:
            raise InputError("at least one reading must show it")
        first, last = self._times(start, end)
        bounds = [self._bounds(place) for place in range(len(self.schema.fields))]
        low, high = (tuple(bound[side] for bound in bounds) for side in (0, 1))
        params = RuleParams(self.signer, self.device, self.schema.hash, 0, 0, _FOREVER, low, high)
        return Agreement(
            rule=rule,
            params=params.encode(),
            signer=self.signer,
            device=self.device,
            schema=Bytes32(self.schema.hash),
            fields=len(bounds),
            from_=first * _MILLISECONDS,
            until=last * _MILLISECONDS,
            count=self.count,
            span=self.span * _MILLISECONDS,
            award=self.award,
        )

    def _times(self, start: int, end: int) -> tuple[int, int]:
        """Return from when on and until when readings count."""
        first = start if self.from_ is None else self.from_
        last = end if self.until is None else self.until
        if not start <= first <= last <= end + CHECK_OUT_GRACE:
            raise InputError(
                f"readings cannot count from {first} until {last}",
                hint=f"the slot begins at {start}, and a day after its end is {end + CHECK_OUT_GRACE}",
            )
        if not 0 <= self.span <= last - first:
            raise InputError(
                f"readings that count for {last - first} seconds are never {self.span} seconds apart",
                hint="agree on a shorter span, or let readings count for longer",
            )
        return first, last

    def _bounds(self, place: int) -> tuple[int, int]:
        field = self.schema.fields[place]
        if field.name not in self.limits:
            return MIN_INT128, MAX_INT128
        low, high = self.limits[field.name]
        return field.fix(low), field.fix(high)


def terms_hash(document: Bytes32, agreement: Agreement | None) -> Bytes32:
    """Return what ``Terms.terms`` is for a rental's document, and for its agreement where it has one."""
    if agreement is None:
        return document
    return Bytes32(keccak256(document + keccak256(encode([Agreement.ABI], [agreement.to_abi()]))))


def agreement_fields(agreement: Agreement) -> dict[str, Any]:
    """Return an agreement as a JSON object."""
    fields = write_fields(agreement, _FIELDS)
    fields["from"] = fields.pop("from_")
    return fields | {"params": hex_text(agreement.params), "signer": hex_text(agreement.signer)}


def read_agreement(document: object) -> Agreement:
    """Read an agreement that a stranger may have written.

    Raises:
        VerificationError: It is none.
    """
    if not isinstance(document, dict):
        raise VerificationError("not an agreement")
    rest = dict(document)
    rest["from_"] = rest.pop("from", None)
    params, signer = read_hex(rest.pop("params", None)), read_hex(rest.pop("signer", None))
    if len(params) > _MAX_PARAMS:
        raise VerificationError(f"an agreement's parameters have at most {_MAX_PARAMS} bytes")
    fields = read_fields(rest, _FIELDS)
    return Agreement(**fields | {"params": params, "signer": signer, "device": DeviceId(fields["device"])})


def check_agreement(agreement: Agreement, *, rule: Address, start: int, last: int) -> None:
    """Check, before paying, that only true readings outside of the limits can speak for the owner.

    Args:
        agreement: What a stranger wrote.
        rule: The suite's signed-reading rule; no other one is known here.
        start: When the rental begins, Unix seconds.
        last: Until when a check-out is taken.

    Raises:
        VerificationError: Something else than a reading outside of the limits would break the rule, too.
    """
    if agreement.rule != rule:
        raise VerificationError(f"the agreement's rule {agreement.rule} is not one that is known")
    params = RuleParams.decode(agreement.params)
    named = replace(params, minimum=(), maximum=())
    wanted = RuleParams(agreement.signer, agreement.device, agreement.schema, 0, 0, _FOREVER, (), ())
    counts = {len(params.minimum), len(params.maximum), agreement.fields}
    if named != wanted or len(counts) != 1 or not agreement.count:
        raise VerificationError("the agreement's rule would be broken by readings that are within the limits")
    if any(low > high for low, high in zip(params.minimum, params.maximum, strict=True)):
        raise VerificationError("the agreement's rule would be broken by every reading")
    if agreement.from_ < start * _MILLISECONDS or agreement.until > last * _MILLISECONDS:
        raise VerificationError("the agreement would take readings from before the rental, or from long after it")


def limits_of(agreement: Agreement) -> tuple[tuple[int | None, int | None], ...]:
    """Return the least and the greatest value of each field that is fine, as fixed-point numbers; None for no bound."""
    params = RuleParams.decode(agreement.params)
    lows = (None if low == MIN_INT128 else low for low in params.minimum)
    highs = (None if high == MAX_INT128 else high for high in params.maximum)
    return tuple(zip(lows, highs, strict=True))


def find_evidence(
    agreement: Agreement, readings: Iterable[Reading], *, came: int = 0, left: int | None = None
) -> tuple[bytes, ...]:
    """Find readings that show what was agreed: in a row, each outside of the limits, far enough apart.

    Args:
        agreement: What was agreed.
        readings: The device's, in its own order, e.g. its ``ReadingJournal``.
        came: The device's time of the check-in, Unix seconds, where one was shown.
        left: The device's time of the check-out.

    Returns:
        The leaves; none where nothing shows it.
    """
    rule = SignedReadingRule.from_params(agreement.params)
    start = max(agreement.from_, came * _MILLISECONDS)
    end = agreement.until if left is None else min(agreement.until, left * _MILLISECONDS + _MILLISECONDS - 1)
    run: list[Reading] = []
    for reading in readings:
        follows = not run or (reading.seq == run[-1].seq + 1 and reading.prev == run[-1].digest)
        if not start <= reading.time <= end or not _counts(agreement, rule, reading):
            run = []
            continue
        run = [*run, reading][-agreement.count :] if follows else [reading]
        if len(run) == agreement.count and run[-1].time - run[0].time >= agreement.span:
            return tuple(found.leaf() for found in run)
    return ()


def _counts(agreement: Agreement, rule: SignedReadingRule, reading: Reading) -> bool:
    """Whether a reading is the agreed device's, by the agreed key, and outside of the limits."""
    if (reading.device, reading.schema) != (agreement.device, agreement.schema):
        return False
    return rule.violation(reading.leaf(), reading.seq) is not None and reading.is_signed_by(agreement.signer)
