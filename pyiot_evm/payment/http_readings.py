"""The readings that a gateway sold over HTTP, checked: each is the device's own, and none is missing between two.

Example:
    >>> from pyiot_evm.device import Field, LocalSigner, Reading, Schema
    >>> from pyiot_evm.identity.lookups import SignerWindow
    >>> from pyiot_evm.payment.stream_checks import ReadingCheck
    >>> signer, schema = LocalSigner.create("p256"), Schema((Field("temperature", scale=2),))
    >>> check = ReadingCheck(signer.device, lambda: [SignerWindow(signer.signer_bytes, 0, 2**40 - 1)])
    >>> device = SoldDevice("http://127.0.0.1:8402", schema, check)
    >>> leaf = Reading.sign(signer, seq=7, time=1000, schema=schema.hash, values=(2150,)).leaf()
    >>> answer = {"device": str(signer.device), "readings": [{"seq": 7, "leaf": "0x" + leaf.hex()}]}
    >>> [reading.values for reading in device.readings(device.rows(7, 7), json.dumps(answer).encode())]
    [(2150,)]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from pyiot_evm.device import Schema
from pyiot_evm.device.schema import check_depth
from pyiot_evm.exceptions import InputError, TransportError, VerificationError
from pyiot_evm.payment.stream_checks import ReadingCheck
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.device import Reading

__all__ = ["SoldDevice"]

_NONSENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError)


@dataclass(frozen=True, slots=True)
class SoldDevice:
    """A device whose readings a gateway sells.

    Attributes:
        gateway: The gateway's address.
        schema: What its readings hold, by the gateway's word; a reading under another schema fails its signature.
        check: Checks readings by the device's signers, as the registry has them.
    """

    gateway: str
    schema: Schema
    check: ReadingCheck

    @property
    def device(self) -> DeviceId:
        """The device."""
        return self.check.device

    @classmethod
    def described(cls, chain: Chain, gateway: str, body: bytes, device: DeviceId | None = None) -> Self:
        """Read what a gateway says of a device, and ask the registry for the device's signers.

        Args:
            chain: The chain with the registry.
            gateway: The gateway's address.
            body: Its answer to ``/v1/devices``.
            device: Which one; the first when left out.

        Raises:
            InputError: It sells no such device's readings, or the device is not registered and not of the stated key.
            TransportError: The answer makes no sense.
        """
        try:
            check_depth(body)
            told = {DeviceId(item["device"]): item for item in json.loads(body)["devices"]}
            found = told.get(device) if device is not None else next(iter(told.values()), None)
            schema = Schema.from_document(found["schema"]) if found and found["schema"] else None
            stated = bytes.fromhex(found["signer"].removeprefix("0x")) if found else b""
        except _NONSENSE as error:
            raise TransportError(f"{gateway}/v1/devices makes no sense: {error}") from error
        if found is None or schema is None:
            raise InputError(f"{gateway} sells no readings of {device or 'any device'}")
        check = ReadingCheck.by_registry(chain, DeviceId(found["device"]), stated)
        check.begin()
        return cls(gateway, schema, check)

    def rows(self, first: int, last: int) -> str:
        """Return the address of readings by their numbers, both ends included."""
        return f"{self.gateway}/v1/devices/{self.device}/readings?rows={first}-{last}"

    def readings(self, url: str, body: bytes, *, before: Reading | None = None) -> list[Reading]:
        """Return the readings that an answer holds.

        Args:
            url: What was asked for; where it names rows, exactly those must have come.
            body: The answer.
            before: The reading that the first one must follow, where it is known.

        Raises:
            VerificationError: One is not the device's, or is missing, or others came than were asked for.
        """
        try:
            check_depth(body)
            answer = json.loads(body)
            rows = [(int(row["seq"]), bytes.fromhex(row["leaf"].removeprefix("0x"))) for row in answer["readings"]]
            device = DeviceId(answer["device"])
        except _NONSENSE as error:
            raise VerificationError(f"the answer holds no readings: {error}") from error
        if device != self.device or not rows:
            raise VerificationError(f"the answer holds no readings of device {self.device}")
        first = rows[0][0] if before is None else before.seq + 1
        wanted = parse_qs(urlsplit(url).query).get("rows")
        if wanted is not None and wanted != [f"{first}-{first + len(rows) - 1}"]:
            raise VerificationError(f"{len(rows)} readings from number {first} came, rows {wanted[0]} were bought")
        found: list[Reading] = []
        for seq, (_, leaf) in enumerate(rows, start=first):
            before = self.check.check(leaf, self.schema, seq=seq, before=before)
            found.append(before)
        return found

    def values(self, reading: Reading) -> dict[str, Any]:
        """Return what a reading holds, by the fields' names."""
        return dict(zip(self.schema.names, self.schema.unfix(reading.values), strict=True))
