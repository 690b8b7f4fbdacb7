"""The metadata document of a device: what it is, who made it, what it measures.

The document lies behind a URI; its hash stands under the device's signature, so nobody can say something else about it.
It is JSON in the canonical form of RFC 8785; sensors have SenML names and units (RFC 8428); numbers are texts.

Example:
    >>> metadata = DeviceMetadata("roof station", maker="Davis", sensors=(Sensor("temperature", unit="Cel"),))
    >>> DeviceMetadata.parse(metadata.canonical(), expected=metadata.hash) == metadata
    True
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Self

from pyiot_evm.device.schema import Field, Schema, canonical_json, check_depth
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Bytes32

__all__ = ["NO_METADATA", "DeviceMetadata", "Location", "Sensor"]

NO_METADATA: Final = Bytes32(bytes(32))
"""What a device signs that has no metadata document."""

_KIND: Final = "pyiot device 1"
_MAX_DOCUMENT: Final = 64 * 1024
_MAX_TEXT: Final = 256
_MAX_SENSORS: Final = 247
_TEXTS: Final = ("maker", "model", "firmware")
_KEYS: Final = {"type", "name", "sensors", "location", *_TEXTS}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One thing that the device measures.

    Args:
        name: SenML name.
        unit: SenML unit; empty where the registry has none.
        description: What people call it.

    Raises:
        InputError: Not a SenML name or unit.
    """

    name: str
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        Field(self.name, unit=self.unit)
        _check_text("description", self.description)

    def document(self) -> dict[str, str]:
        """Return the sensor as it stands in the document."""
        fields = {"name": self.name, "unit": self.unit, "description": self.description}
        return {key: value for key, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a device stands: WGS 84, degrees and metres, as exact decimal texts.

    Args:
        latitude: -90 to 90.
        longitude: -180 to 180.
        altitude: Metres; empty where it is not known.

    Raises:
        InputError: No number, or out of range.
    """

    latitude: str
    longitude: str
    altitude: str = ""

    def __post_init__(self) -> None:
        for name, limit in (("latitude", 90), ("longitude", 180), ("altitude", 100_000)):
            text = getattr(self, name)
            if name == "altitude" and text == "":
                continue
            try:
                number = Decimal(text) if isinstance(text, str) else Decimal("NaN")
            except InvalidOperation:
                number = Decimal("NaN")
            if not number.is_finite() or abs(number) > limit or len(text) > 32 or not text.isascii():  # noqa: PLR2004
                raise InputError(f"not a {name}: {text!r}", hint=f'write it as text, from "-{limit}" to "{limit}"')

    def document(self) -> dict[str, str]:
        """Return the location as it stands in the document."""
        fields = {"latitude": self.latitude, "longitude": self.longitude, "altitude": self.altitude}
        return {key: value for key, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class DeviceMetadata:
    """What a device says of itself.

    Args:
        name: What its owner calls it.
        maker: Who made it.
        model: The maker's name for it.
        firmware: The version that runs on it.
        sensors: What it measures.
        location: Where it stands, if the owner wants that known.

    Raises:
        InputError: A text is too long or cannot be shown, or a sensor's name stands twice.
    """

    name: str
    maker: str = ""
    model: str = ""
    firmware: str = ""
    sensors: tuple[Sensor, ...] = ()
    location: Location | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensors", tuple(self.sensors))
        for key in ("name", *_TEXTS):
            _check_text(key, getattr(self, key))
        if not self.name:
            raise InputError("a device's metadata has a name")
        names = [sensor.name for sensor in self.sensors]
        if len(names) > _MAX_SENSORS or len(set(names)) != len(names):
            raise InputError(f"a device has at most {_MAX_SENSORS} sensors with different names: {names}")

    @classmethod
    def of_schema(cls, name: str, schema: Schema, *, maker: str = "", model: str = "", firmware: str = "") -> Self:
        """Describe a device by what its readings hold."""
        sensors = tuple(Sensor(field.name, field.unit, field.label) for field in schema.fields)
        return cls(name, maker=maker, model=model, firmware=firmware, sensors=sensors)

    @classmethod
    def parse(cls, data: bytes, *, expected: bytes | None = None) -> Self:
        """Read a document that was fetched from somewhere; strict, since a stranger may have written it.

        Args:
            data: The document's bytes.
            expected: The hash that the device signed.

        Raises:
            VerificationError: The document does not hash to ``expected``.
            InputError: Not a metadata document, or not in its canonical form.
        """
        if len(data) > _MAX_DOCUMENT:
            raise InputError(f"a metadata document has at most {_MAX_DOCUMENT} bytes, not {len(data)}")
        if expected is not None and keccak256(data) != expected:
            raise VerificationError(
                f"the metadata document hashes to 0x{keccak256(data).hex()}, not 0x{expected.hex()}"
            )
        check_depth(data)
        try:
            metadata = cls.from_document(json.loads(data))
        except ValueError as error:
            raise InputError("a metadata document is JSON") from error
        if metadata.canonical() != data:
            raise InputError("the metadata document is not in its canonical form (RFC 8785)")
        return metadata

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Take a document that was read already.

        Raises:
            InputError: Not a metadata document.
        """
        if not isinstance(document, Mapping) or document.get("type") != _KIND or not set(document) <= _KEYS:
            raise InputError(f'not a metadata document: it has "type": "{_KIND}" and keys of {sorted(_KEYS)}')
        sensors, location = document.get("sensors", []), document.get("location")
        if not isinstance(sensors, Sequence) or not all(isinstance(sensor, Mapping) for sensor in sensors):
            raise InputError("a metadata document's sensors are a list of objects")
        try:
            return cls(
                name=document.get("name", ""),
                sensors=tuple(Sensor(**sensor) for sensor in sensors),
                location=None if location is None else Location(**location),
                **{key: document.get(key, "") for key in _TEXTS},
            )
        except TypeError as error:
            raise InputError("a sensor or the location has keys that do not belong there") from error

    def document(self) -> dict[str, Any]:
        """Return the document; what is not given is left out."""
        texts = {key: getattr(self, key) for key in _TEXTS if getattr(self, key)}
        document: dict[str, Any] = {"type": _KIND, "name": self.name, **texts}
        if self.sensors:
            document["sensors"] = [sensor.document() for sensor in self.sensors]
        if self.location is not None:
            document["location"] = self.location.document()
        return document

    def canonical(self) -> bytes:
        """Return the bytes that are published and hashed."""
        return canonical_json(self.document())

    @property
    def hash(self) -> Bytes32:
        """keccak256 of the canonical document: what the device signs."""
        return Bytes32(keccak256(self.canonical()))


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str) or len(text) > _MAX_TEXT or not text.isprintable():
        raise InputError(f"{name} is at most {_MAX_TEXT} printable characters")
