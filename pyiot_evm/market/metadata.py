"""The metadata document: what a seller says about a data set, and what the offer's ``terms`` is the hash of.

It is JSON in the canonical form of RFC 8785 without fractions: a number that is no integer stands as text, so that all
languages make the same bytes. It holds title, description, tags, licence, the schema with its units, the time range,
statistics, a free sample and, for a table that came as CSV, how the text looked, so that the buyer's file equals the
seller's. Whoever reads one reads a stranger's words: unknown keys, wrong types and huge numbers are refused.

Example:
    >>> metadata = Metadata(kind="blob", title="A model", tags=("weights",), size=2048, filename="model.bin")
    >>> Metadata.parse(metadata.canonical()) == metadata
    True
    >>> metadata.hash == Bytes32(keccak256(metadata.canonical()))
    True
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from pyiot_evm.device.schema import Schema, canonical_json, check_depth
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.csv_style import CsvStyle
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Kind", "Licence", "Metadata", "Statistics", "strict_json"]

Kind = Literal["readings", "blob"]

_TYPE: Final = "pyiot data set 1"
_MAX_TEXT: Final = 16 * 1024
_MAX_TITLE: Final = 200
_MAX_TAGS: Final = 16
_MAX_TAG: Final = 48
_MAX_SAMPLE: Final = 100
_MAX_DIGITS: Final = 80
_MAX_NAME: Final = 255
_MAX_UINT64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Licence:
    """What a buyer may do with the data; people and courts read it, no contract does.

    Args:
        name: An SPDX identifier or a title.
        purpose: What the data may be used for.
        retention: How long it may be kept.
        derivatives: Whether, and how, results may be passed on.
        url: Where the whole text lies.
    """

    name: str = ""
    purpose: str = ""
    retention: str = ""
    derivatives: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """One column in numbers, as decimal text in the column's unit."""

    minimum: str
    maximum: str
    mean: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """A data set's metadata.

    Args:
        kind: ``"readings"`` or ``"blob"``.
        title: One line, at most 200 characters.
        description: Free text.
        tags: At most 16 words to find it by, each at most 48 characters.
        licence: What a buyer may do with it.
        rows: How many readings.
        size: How many bytes, for a blob.
        filename: The file's own name, for a blob.
        media_type: The file's MIME type, for a blob.
        schema: The readings' schema.
        first_time: The earliest reading, Unix milliseconds.
        last_time: The latest reading.
        statistics: One for each of the schema's fields.
        sample: The first rows, free of charge: Unix milliseconds, then the fixed-point values.
        csv: How the seller's CSV looked.
    """

    kind: Kind
    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    licence: Licence = Licence()
    rows: int = 0
    size: int = 0
    filename: str = ""
    media_type: str = ""
    schema: Schema | None = None
    first_time: int = 0
    last_time: int = 0
    statistics: tuple[Statistics, ...] = ()
    sample: tuple[tuple[int, ...], ...] = ()
    csv: CsvStyle | None = None

    def __post_init__(self) -> None:
        for name in ("tags", "statistics"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "sample", tuple(tuple(row) for row in self.sample))
        _check(self)

    def document(self) -> dict[str, Any]:
        """Return the document; what is empty is left out."""
        document: dict[str, Any] = {"type": _TYPE, "kind": self.kind, "title": self.title}
        for name in ("description", "rows", "size", "filename", "media_type", "first_time", "last_time"):
            if value := getattr(self, name):
                document[name] = value
        if self.tags:
            document["tags"] = list(self.tags)
        if licence := {key: value for key, value in dataclasses.asdict(self.licence).items() if value}:
            document["licence"] = licence
        if self.schema is not None:
            document["schema"] = self.schema.document()
        if self.statistics:
            document["statistics"] = [dataclasses.asdict(entry) for entry in self.statistics]
        if self.sample:
            document["sample"] = [[str(value) for value in row] for row in self.sample]
        if self.csv is not None:
            document["csv"] = self.csv.document()
        return document

    def canonical(self) -> bytes:
        """Return the canonical bytes of the document, which are hashed."""
        return canonical_json(self.document())

    @property
    def hash(self) -> Bytes32:
        """keccak256 of the canonical document: the offer's ``terms``."""
        return Bytes32(keccak256(self.canonical()))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Metadata:
        """Take a document that a stranger may have written.

        Raises:
            VerificationError: It is no metadata document.
        """
        values = dict(document)
        if values.pop("type", None) != _TYPE:
            raise VerificationError(f'not a metadata document: it has no "type": "{_TYPE}"')
        try:
            if "schema" in values:
                values["schema"] = Schema.from_document(values["schema"])
            if "licence" in values:
                values["licence"] = Licence(**values["licence"])
            if "statistics" in values:
                values["statistics"] = tuple(Statistics(**entry) for entry in values["statistics"])
            if "sample" in values:
                values["sample"] = tuple(tuple(_integer(text) for text in row) for row in values["sample"])
            if "csv" in values:
                values["csv"] = CsvStyle.from_document(values["csv"])
            return cls(**values)
        except (InputError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise VerificationError(f"not a metadata document: {error}") from error

    @classmethod
    def parse(cls, data: bytes) -> Metadata:
        """Read a document that a stranger may have written.

        Raises:
            VerificationError: It is no metadata document in canonical form.
        """
        metadata = cls.from_document(strict_json(data))
        if metadata.canonical() != data:
            raise VerificationError("the metadata document is not in its canonical form (RFC 8785)")
        return metadata


def _check(metadata: Metadata) -> None:
    if metadata.kind not in ("readings", "blob"):
        raise InputError(f"a data set is readings or a blob, not {metadata.kind!r}")
    texts = (metadata.title, metadata.description, metadata.filename, metadata.media_type, *metadata.tags)
    licence = tuple(dataclasses.asdict(metadata.licence).values())
    statistics = tuple(text for entry in metadata.statistics for text in dataclasses.astuple(entry))
    if not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in texts + licence + statistics):
        raise InputError(f"the metadata's texts are texts of at most {_MAX_TEXT} characters")
    if any("\ud800" <= character <= "\udfff" for text in texts + licence + statistics for character in text):
        raise InputError("the metadata's texts are Unicode: half of a surrogate pair cannot be encoded")
    if len(metadata.title) > _MAX_TITLE or not metadata.title.isprintable():
        raise InputError(f"a title is one line of at most {_MAX_TITLE} characters")
    if len(metadata.tags) > _MAX_TAGS or not all(
        0 < len(tag) <= _MAX_TAG and tag.isprintable() for tag in metadata.tags
    ):
        raise InputError(f"a data set has at most {_MAX_TAGS} tags of 1 to {_MAX_TAG} characters")
    if not is_plain_name(metadata.filename):
        raise InputError(f"not a file's own name: {metadata.filename!r}")
    for name in ("rows", "size", "first_time", "last_time"):
        value = getattr(metadata, name)
        if type(value) is not int or not 0 <= value <= _MAX_UINT64:
            raise InputError(f"{name} is a number of at most 64 bits, not {value!r}")
    _check_columns(metadata)


def _check_columns(metadata: Metadata) -> None:
    columns = len(metadata.schema.fields) if metadata.schema is not None else 0
    if (metadata.kind == "readings") != (columns > 0):
        raise InputError("readings have a schema, a blob has none")
    if len(metadata.statistics) not in (0, columns):
        raise InputError("there is one line of statistics for each field")
    if len(metadata.sample) > _MAX_SAMPLE or any(len(row) != columns + 1 for row in metadata.sample):
        raise InputError(f"a sample has at most {_MAX_SAMPLE} rows of a time and each field's value")
    if not all(type(value) is int for row in metadata.sample for value in row):
        raise InputError("a sample's values are integers")
    if metadata.csv is not None and len(metadata.csv.numbers) != columns:
        raise InputError("the CSV style has one number style for each field")


def is_plain_name(name: str) -> bool:
    """Return whether a name stays inside the folder that it is written to, and shows as what it is."""
    return (
        len(name) <= _MAX_NAME and name.isprintable() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')
    )


def strict_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object that a stranger may have written: no fractions, no key twice, no depth without end.

    Raises:
        VerificationError: It is no such object.
    """

    def refuse(text: str) -> NoReturn:
        raise VerificationError(f"the document holds a number that is no integer: {text[:40]}")

    try:
        check_depth(data)
        document = json.loads(
            data.decode("utf-8"),
            parse_float=refuse,
            parse_constant=refuse,
            object_pairs_hook=_unique,
            parse_int=_integer,
        )
    except InputError as error:
        raise VerificationError(str(error)) from error
    except ValueError as error:
        raise VerificationError(f"the document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise VerificationError("the document is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise VerificationError("the document has a key twice")
    return result


def _integer(text: object) -> int:
    if not isinstance(text, str) or len(text) > _MAX_DIGITS or str(number := int(text)) != text:
        raise VerificationError(f"not an integer in its shortest form: {text!r:.80}")
    return number
