"""The schema of a device's readings: which values, in which unit, with how many decimals, in which range.

The schema *document* is JSON; its canonical form (RFC 8785: sorted keys, no spaces, UTF-8) is hashed, and the hash
stands in every reading. Names and units are SenML's (RFC 8428). A value is a decimal number kept as a fixed-point
integer: 21.5 °C with scale 2 is 2150.

Example:
    >>> schema = Schema((Field("temperature", unit="Cel", scale=2, minimum="-40", maximum="85"),))
    >>> schema.fix(["21.5"]), schema.unfix((2150,))
    ((2150,), (Decimal('21.50'),))
    >>> schema.canonical().decode()[:52]
    '{"fields":[{"maximum":"85.00","minimum":"-40.00","na'
    >>> Schema.parse(schema.canonical()) == schema
    True
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, Self

from pyiot_evm.device.reading import MAX_INT128, MAX_VALUES, MIN_INT128, pack_values, unpack_values
from pyiot_evm.device.units import UNITS
from pyiot_evm.exceptions import InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Bytes32

__all__ = ["Field", "Schema", "canonical_json", "check_depth"]

Number = Decimal | str | int | float

_KIND: Final = "pyiot schema 1"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,63}")
_MAX_SCALE: Final = 38
_MAX_LABEL: Final = 128
_MAX_DOCUMENT: Final = 256 * 1024
_EXACT: Final = Context(prec=120)
_MAX_DEPTH: Final = 16
_STRUCTURE: Final = re.compile(rb'["\\\[\]{}]')
_FIELD_KEYS: Final = {"name", "unit", "scale", "minimum", "maximum", "label"}


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a reading.

    Args:
        name: SenML name: letters, digits and ``-:./_``, beginning with a letter or a digit, at most 64 characters.
        unit: SenML unit, e.g. ``"Cel"``; empty where the registry has none.
        scale: Decimals kept: the fixed-point integer is the value times ``10**scale``; 0 to 38.
        minimum: The least value that the sensor can measure, in the unit; left out, whatever fits.
        maximum: The greatest.
        label: What people call it, where the name cannot say it, e.g. a CSV's column title.

    Attributes:
        lowest: The least fixed-point integer that is in range.
        highest: The greatest.

    Raises:
        InputError: Something of the above does not hold.
    """

    name: str
    unit: str = ""
    scale: int = 0
    minimum: Decimal | str | int | None = None
    maximum: Decimal | str | int | None = None
    label: str = ""
    lowest: int = dataclasses.field(init=False, repr=False, compare=False)
    highest: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(_text(self.name)):
            raise InputError(
                f"not a SenML name: {self.name!r}", hint="letters, digits and -:./_ (RFC 8428); use label= for the rest"
            )
        if _text(self.unit) and self.unit not in UNITS:
            raise InputError(
                f"field {self.name}: not a SenML unit: {self.unit!r}",
                hint='a unit of RFC 8428 or RFC 8798, such as Cel, %RH, W; "" where there is none',
            )
        if type(self.scale) is not int or not 0 <= self.scale <= _MAX_SCALE:
            raise InputError(f"field {self.name}: scale is from 0 to {_MAX_SCALE}, not {self.scale!r}")
        if len(_text(self.label)) > _MAX_LABEL or not self.label.isprintable():
            raise InputError(f"field {self.name}: a label is at most {_MAX_LABEL} printable characters")
        for limit, bound, widest in (("minimum", "lowest", MIN_INT128), ("maximum", "highest", MAX_INT128)):
            given = getattr(self, limit)
            fixed = widest if given is None else _scaled(self, given, exact=True)
            object.__setattr__(self, limit, None if given is None else self.unfix(fixed))
            object.__setattr__(self, bound, fixed)
        if self.lowest > self.highest:
            raise InputError(f"field {self.name}: minimum {self.minimum} is over maximum {self.maximum}")

    def fix(self, value: Number) -> int:
        """Turn a measured value into its fixed-point integer.

        Args:
            value: In the field's unit. Text, ``Decimal`` and ``int`` must be exact in the field's scale; a ``float``
                is a measurement and is rounded to it (half to even).

        Raises:
            InputError: No number, too many decimals, or out of range.
        """
        fixed = _scaled(self, value, exact=not isinstance(value, float))
        self.check(fixed)
        return fixed

    def unfix(self, fixed: int) -> Decimal:
        """Turn a fixed-point integer back into a value with ``scale`` decimals."""
        return Decimal(fixed).scaleb(-self.scale, _EXACT)

    def check(self, fixed: int) -> None:
        """Check that a fixed-point integer is in range.

        Raises:
            InputError: It is not.
        """
        if not self.lowest <= fixed <= self.highest:
            raise InputError(
                f"field {self.name}: {self.unfix(fixed)} is not from {self.unfix(self.lowest)} "
                f"to {self.unfix(self.highest)} {self.unit}".rstrip()
            )

    def document(self) -> dict[str, str | int]:
        """Return the field as it stands in the schema document; what is not given is left out."""
        document: dict[str, str | int] = {"name": self.name, "scale": self.scale}
        if self.unit:
            document["unit"] = self.unit
        if self.minimum is not None:
            document["minimum"] = f"{self.minimum:f}"
        if self.maximum is not None:
            document["maximum"] = f"{self.maximum:f}"
        if self.label:
            document["label"] = self.label
        return document


@dataclass(frozen=True, slots=True)
class Schema:
    """What a device's readings hold.

    Args:
        fields: The values of a reading, in order: 1 to 247, with different names.

    Raises:
        InputError: No field, too many, or a name twice.
    """

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        if not 1 <= len(self.fields) <= MAX_VALUES:
            raise InputError(f"a schema has 1 to {MAX_VALUES} fields, not {len(self.fields)}")
        names = [field.name for field in self.fields]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise InputError(f"a schema names a field twice: {', '.join(sorted(twice))}")

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Take a schema document that was read from somewhere; strict, since a stranger may have written it.

        Raises:
            InputError: Not a schema document, or unknown keys in it.
        """
        rows = _entry(document, "fields")
        if _entry(document, "type") != _KIND or set(document) != {"type", "fields"}:
            raise InputError(f'not a schema document: it has "type": "{_KIND}" and "fields"')
        if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
            raise InputError("a schema document's fields are a list of objects")
        for row in rows:
            if not {"name", "scale"} <= set(row) <= _FIELD_KEYS:
                raise InputError(f"a field has name and scale, and may have {sorted(_FIELD_KEYS)}: {sorted(row)}")
        return cls(tuple(Field(**row) for row in rows))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a canonical schema document.

        Raises:
            InputError: Not a schema document, or not in its canonical form (its hash would be another).
        """
        if len(data) > _MAX_DOCUMENT:
            raise InputError(f"a schema document has at most {_MAX_DOCUMENT} bytes, not {len(data)}")
        check_depth(data)
        try:
            document = json.loads(data)
        except ValueError as error:
            raise InputError("a schema document is JSON") from error
        schema = cls.from_document(document)
        if schema.canonical() != data:
            raise InputError("the schema document is not in its canonical form (RFC 8785)")
        return schema

    def document(self) -> dict[str, Any]:
        """Return the schema document."""
        return {"type": _KIND, "fields": [field.document() for field in self.fields]}

    def canonical(self) -> bytes:
        """Return the canonical bytes of the document, which are hashed."""
        return canonical_json(self.document())

    @property
    def hash(self) -> Bytes32:
        """keccak256 of the canonical document; every reading carries it."""
        return Bytes32(keccak256(self.canonical()))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    def fix(self, values: Sequence[Number]) -> tuple[int, ...]:
        """Turn measured values into fixed-point integers; see :meth:`Field.fix`.

        Raises:
            InputError: Another number of values than fields, or a value that its field does not take.
        """
        self._check_count(values)
        return tuple([field.fix(value) for field, value in zip(self.fields, values, strict=True)])

    def unfix(self, fixed: Sequence[int]) -> tuple[Decimal, ...]:
        """Turn fixed-point integers back into values.

        Raises:
            InputError: Another number of values than fields.
        """
        self._check_count(fixed)
        return tuple([field.unfix(value) for field, value in zip(self.fields, fixed, strict=True)])

    def check(self, fixed: Sequence[int]) -> None:
        """Check that fixed-point integers are as many as the fields and in their ranges.

        Raises:
            InputError: They are not.
        """
        self._check_count(fixed)
        for field, value in zip(self.fields, fixed, strict=True):
            field.check(value)

    def pack(self, fixed: Sequence[int]) -> bytes:
        """Pack fixed-point integers, 16 bytes each, once they are checked.

        Raises:
            InputError: See :meth:`check`.
        """
        self.check(fixed)
        return pack_values(fixed)

    def unpack(self, data: bytes) -> tuple[int, ...]:
        """Read packed values back and check them.

        Raises:
            InputError: A wrong length or a value out of range.
        """
        fixed = unpack_values(data)
        self.check(fixed)
        return fixed

    def _check_count(self, values: Sequence[object]) -> None:
        if len(values) != len(self.fields):
            raise InputError(f"the schema has {len(self.fields)} fields, not {len(values)}")


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return a document of texts, integers, lists and objects in the canonical form of RFC 8785."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check_depth(data: bytes) -> None:
    """Check a stranger's JSON before a parser sees it: one that recurses can end the process.

    Raises:
        InputError: A bracket outside a text is nested more than 16 deep.
    """
    depth, in_text, escaped = 0, False, -1
    for token in _STRUCTURE.finditer(data):
        at, character = token.start(), token[0]
        if in_text:
            if at != escaped and character == b"\\":
                escaped = at + 1
            elif at != escaped and character == b'"':
                in_text = False
        elif character == b'"':
            in_text = True
        elif character in b"[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise InputError(f"the document is nested more than {_MAX_DEPTH} deep")
        elif character in b"]}":
            depth -= 1


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"not a text: {value!r}")
    return value


def _entry(document: object, key: str) -> object:
    return document.get(key) if isinstance(document, Mapping) else None


def _scaled(field: Field, value: Number, *, exact: bool) -> int:
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise InputError(f"field {field.name}: not a number: {value!r}") from error
    if not number.is_finite() or number.adjusted() > _MAX_SCALE + 1:
        raise InputError(f"field {field.name}: not a number that fits: {value!r}")
    scaled = number.scaleb(field.scale, _EXACT)
    whole = scaled.to_integral_value(ROUND_HALF_EVEN, _EXACT)
    if exact and whole != scaled:
        raise InputError(f"field {field.name}: {value} has more than {field.scale} decimals")
    fixed = int(whole)
    if not MIN_INT128 <= fixed <= MAX_INT128:
        raise InputError(f"field {field.name}: {value} does not fit int128 with {field.scale} decimals")
    return fixed
