"""What goes wrong in a stream of readings.

Example:
    >>> StreamFaultError("reading 7 is no reading", seq=7, lost=100).lost
    100
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyiot_evm.exceptions import TransportError, VerificationError

if TYPE_CHECKING:
    from pyiot_evm.payment.vouchers import SignedVoucher

__all__ = ["StreamFaultError", "StreamRefusedError", "StreamStalledError"]


class StreamFaultError(VerificationError):
    """What was paid for is no reading of the device. The stream ended; nothing more is bought from the payee.

    Attributes:
        seq: The reading's number.
        lost: What the payee can take for it, base units: the price of one reading.
    """

    code: ClassVar[str] = "stream_fault"
    default_hint: ClassVar[str] = (
        "buy from somebody else; `--again` asks this gateway for the same reading, for nothing more"
    )

    def __init__(self, message: str, *, seq: int, lost: int) -> None:
        super().__init__(message)
        self.seq = seq
        self.lost = lost


class StreamRefusedError(TransportError):
    """The other side ended the stream and said why.

    Attributes:
        reason: Its code for that.
        last: This payer's own last voucher, where it says that it has a newer one.
    """

    code: ClassVar[str] = "stream_refused"
    default_hint: ClassVar[str] = ""

    def __init__(
        self, message: str, *, reason: str, retryable: bool = False, last: SignedVoucher | None = None
    ) -> None:
        super().__init__(f"the gateway ended the stream: {message}", retryable=retryable)
        self.reason = reason
        self.last = last


class StreamStalledError(TransportError):
    """The other side took a voucher and did not answer in time, or the connection broke.

    What was signed is in the book: the same call again asks for the same reading, and pays nothing more for it.
    """

    code: ClassVar[str] = "stream_stalled"
    default_hint: ClassVar[str] = "the same call again goes on with the reading that did not come"
