"""Whether what came is the device's next reading: its signature, its number, its link to the one before, its time.

Example:
    >>> from pyiot_evm.device import Field, LocalSigner, Reading, Schema
    >>> signer, schema = LocalSigner.create("p256"), Schema((Field("temperature", scale=2),))
    >>> leaf = Reading.sign(signer, seq=0, time=1000, schema=schema.hash, values=(2150,)).leaf()
    >>> window = SignerWindow(signer.signer_bytes, 0, 2**40 - 1)
    >>> check = ReadingCheck(signer.device, lambda: [window])
    >>> check.check(leaf, schema, seq=0).values
    (2150,)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pyiot_evm.device import Reading, check_signer
from pyiot_evm.device.reading import leaf_length
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.identity.lookups import DeviceLookups, SignerWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from pyiot_evm.chain import Chain
    from pyiot_evm.device import Schema
    from pyiot_evm.types import DeviceId

__all__ = ["ReadingCheck"]

_FRESH_FOR: Final = 60.0


class ReadingCheck:
    """Checks the readings of one device, one after the other.

    Args:
        device: The device.
        windows: Asks the registry for the device's signers and when each signs.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        device: DeviceId,
        windows: Callable[[], Sequence[SignerWindow]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self._ask = windows
        self._clock = clock
        self._known: Sequence[SignerWindow] = ()
        self._asked_at: float | None = None

    @classmethod
    def by_registry(cls, chain: Chain, device: DeviceId, stated: bytes) -> Self:
        """Return a check by a chain's device registry.

        Args:
            chain: The chain.
            device: The device.
            stated: The signer that the payee names; it counts only where the device was never registered and this is
                the key that the device's id is made of.
        """
        lookups = DeviceLookups(chain)
        return cls(device, lambda: lookups.signers(device, genesis=stated))

    def begin(self) -> None:
        """Ask the registry for the device's signers.

        Raises:
            InputError: The device is not registered, and the stated signer is not the key that its id is made of.
        """
        self._windows()

    def lengths(self, schema: Schema) -> set[int]:
        """Return how many bytes a reading of a schema may have."""
        return {leaf_length(len(schema.fields), check_signer(window.signer)) for window in self._windows()}

    def check(self, leaf: bytes, schema: Schema, *, seq: int, before: Reading | None = None) -> Reading:
        """Return the reading that a leaf is.

        Args:
            leaf: What came.
            schema: What it holds.
            seq: The number that it must have.
            before: The reading of the number before, where it is known.

        Raises:
            VerificationError: It is not the device's reading of this number.
        """
        for window in self._windows():
            reading = self._read(leaf, schema, window)
            if reading is not None and reading.is_signed_by(window.signer):
                self._check_place(reading, schema, seq, before)
                return reading
        raise VerificationError(f"what came for reading {seq} is signed by no key of device {self.device}")

    def signer_of(self, reading: Reading) -> bytes:
        """Return the key that signed a checked reading."""
        return next(window.signer for window in self._windows() if reading.is_signed_by(window.signer))

    # Below

    def _windows(self) -> Sequence[SignerWindow]:
        if self._asked_at is None or self._clock() - self._asked_at > _FRESH_FOR:
            self._known, self._asked_at = self._ask(), self._clock()
        return self._known

    def _read(self, leaf: bytes, schema: Schema, window: SignerWindow) -> Reading | None:
        curve = check_signer(window.signer)
        count = len(schema.fields)
        if len(leaf) != leaf_length(count, curve):
            return None
        reading = Reading.from_leaf(leaf, device=self.device, schema=schema.hash, value_count=count, curve=curve)
        return reading if window.start <= reading.time // 1000 < window.end else None

    @staticmethod
    def _check_place(reading: Reading, schema: Schema, seq: int, before: Reading | None) -> None:
        if reading.seq != seq:
            raise VerificationError(f"reading {reading.seq} came for reading {seq}")
        if before is not None and reading.prev != before.digest:
            raise VerificationError(f"reading {seq} does not follow the reading {before.seq} that was bought")
        try:
            schema.check(reading.values)
        except InputError as error:
            raise VerificationError(f"reading {seq} holds what its schema forbids: {error}") from error
