"""Readings bought one by one over one connection: an iterator that pays for each before the next one comes.

In the *locked* mode neither side is ever a reading ahead: a reading comes sealed, its voucher is locked by the hash of
its key, and whoever claims that voucher publishes the key. The key may still open garbage: what can be lost is one
reading's price. In the *plain* mode the voucher is paid first: what can be lost is one reading's price, too, to a
gateway that takes it and delivers nothing.

A stream that broke, on either side and at any moment, goes on with the reading that did not come, and pays nothing
twice. It needs the extra ``gateway``.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from pyiot_evm.exceptions import ConfigurationError, InputError, PyIotEvmError, TransportError
from pyiot_evm.market.locks import LockedElsewhereError, try_lock
from pyiot_evm.payment.stream_buyer import StreamBuyer, StreamQuote, StreamTerms
from pyiot_evm.payment.stream_errors import StreamRefusedError, StreamStalledError
from pyiot_evm.payment.stream_messages import MAX_REPLY, MAX_SEQ, Message
from pyiot_evm.types import DeviceId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal
    from types import TracebackType
    from typing import IO

    from pyiot_evm.device import Reading, Signer
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.stream_purchases import BoughtReading, Purchase

__all__ = ["ReadingStream", "StreamPlace", "StreamedReading"]

_PATH: Final = re.compile(r"(.*/v1/devices/)(0x[0-9a-fA-F]{64})(/stream)?/?")
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_FIRST_PAUSE, _LONGEST_PAUSE, _CLOSING = 0.1, 2.0, 5.0


@dataclass(frozen=True, slots=True)
class StreamedReading:
    """A reading that was bought, checked and written down.

    Attributes:
        seq: Its number.
        time: When it was measured, Unix milliseconds.
        values: What was measured, by the schema's names.
        price: What it cost, base units.
        reading: The signed reading.
    """

    seq: int
    time: int
    values: dict[str, Decimal]
    price: int
    reading: Reading

    @classmethod
    def of(cls, bought: BoughtReading) -> Self:
        """Return what the book has as a reading for people."""
        reading = bought.reading()
        values = dict(zip(bought.schema.names, bought.schema.unfix(reading.values), strict=True))
        return cls(reading.seq, reading.time, values, bought.price, reading)


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream is, and where it begins.

    Attributes:
        url: The gateway's address, ``http://…`` or ``https://…``.
        device: The device.
        start: The reading to begin with, by number, or ``"next"`` for the next one that is measured.
        since: Unix milliseconds: begin with the first reading at or after that. Without ``start`` and ``since`` a
            stream goes on where it ended, and a new one begins with the first reading that there is.
        follows: Whether to wait for readings that are not measured yet; else the stream ends after the last one.
    """

    url: str
    device: DeviceId
    start: int | Literal["next"] | None = None
    since: int | None = None
    follows: bool = True

    def __post_init__(self) -> None:
        if self.start is not None and self.since is not None:
            raise InputError("a stream begins with a reading or at a time, not with both")

    @classmethod
    def parse(
        cls,
        url: str,
        device: DeviceId | str | None = None,
        *,
        start: int | str | None = None,
        since: int | None = None,
        follows: bool = True,
    ) -> Self:
        """Read an address that names a gateway, or a gateway and a device.

        Args:
            url: E.g. ``http://127.0.0.1:8402`` or ``http://127.0.0.1:8402/v1/devices/0x…/stream``.
            device: The device, where the address does not name it.
            start: The reading to begin with, a number as text too.
            since: Unix milliseconds to begin at.
            follows: Whether to wait for readings that are not measured yet.

        Raises:
            InputError: It is no address of a gateway, or no device is named, or two.
        """
        parts = _split(url)
        if parts.scheme not in _SCHEMES or not parts.netloc:
            raise InputError(f"not an address of a gateway: {url!r}", hint="e.g. http://127.0.0.1:8402")
        match = _PATH.fullmatch(parts.path)
        named = None if match is None else DeviceId(match[2])
        if named is None and device is None:
            raise InputError("no device is named", hint=f"GET {parts.scheme}://{parts.netloc}/v1/devices lists them")
        if named is not None and device is not None and named != DeviceId(device):
            raise InputError(f"the address names device {named}, wanted is {device}")
        base = parts.path.rstrip("/") if match is None else match[1].removesuffix("/v1/devices/")
        chosen = named or DeviceId(device or b"")
        return cls(urlunsplit((parts.scheme, parts.netloc, base, "", "")), chosen, _start(start), since, follows)

    def address(self, mode: str) -> str:
        """Return the address of the WebSocket."""
        parts = urlsplit(self.url)
        query = {"mode": mode, "follow": str(int(self.follows))}
        query |= {"seq": str(self.start)} if self.start is not None else {}
        query |= {"from": str(self.since)} if self.since is not None else {}
        path = f"{parts.path}/v1/devices/{self.device}/stream"
        return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, urlencode(query), ""))


class ReadingStream:
    """Iterates over a device's readings and pays for each; a context manager that ends the connection.

    A reading counts as taken when the next one is asked for, or the stream is closed: one that came and was not taken
    is given out again after a crash.

    Args:
        payments: Whose account, books and budget.
        place: Which readings.
        terms: What they may cost, and how they are paid.
        signer: The key that signs vouchers; the account's when left out.
        timeout: Seconds in which the gateway must answer.
        patience: Seconds for which a broken connection is tried again.
    """

    def __init__(
        self,
        payments: Payments,
        place: StreamPlace,
        terms: StreamTerms,
        *,
        signer: Signer | None = None,
        timeout: float = 60.0,
        patience: float = 30.0,
    ) -> None:
        self._payments = payments
        self._place = place
        self._terms = terms
        self._timeout = timeout
        self._patience = patience
        self._buyer = StreamBuyer(payments.payers, terms, signer=signer)
        self._socket: Any = None
        self._lock: IO[str] | None = None
        self._purchase: Purchase | None = None
        self._stored: list[BoughtReading] = []
        self._given: BoughtReading | None = None
        self._ended = self._was_there = self._unsettled = False

    @property
    def purchase(self) -> Purchase | None:
        """The stream as the book has it; ``None`` before the first reading was asked for."""
        return None if self._purchase is None else self._buyer.purchases.get(self._purchase.channel_id)

    def __iter__(self) -> Iterator[StreamedReading]:
        return self

    def __next__(self) -> StreamedReading:
        """Return the next reading.

        Raises:
            BudgetError: It costs more than it may; nothing was signed.
            StreamFaultError: What came is no reading; nothing more is bought.
            StreamRefusedError: The gateway ended the stream.
            StreamStalledError: It did not answer in time.
            VerificationError: What it offers is not the next reading; nothing was signed for it.
        """
        self._take()
        end, pause = None, _FIRST_PAUSE
        while not self._ended:
            try:
                return self._next()
            except (StreamStalledError, StreamRefusedError) as error:
                self._disconnect()
                end = time.monotonic() + self._patience if end is None else end
                if not error.retryable or not self._was_there or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except BaseException:
                self._disconnect()
                raise
        raise StopIteration

    def quote(self) -> StreamQuote:
        """Ask the gateway for its terms, check them as ever, and end the connection; nothing is signed or sent.

        Raises:
            BudgetError: A reading costs more than it may.
            InputError: The terms are not what was asked for.
            StreamRefusedError: The gateway does not sell it.
            StreamStalledError: It did not answer in time.
        """
        self._socket = _dial(self._place.address(self._terms.mode), self._timeout)
        try:
            return self._buyer.quote(self._receive(only="terms"))
        finally:
            self._disconnect()

    def close(self) -> None:
        """End the connection; what was signed and came is in the book. A second call does nothing."""
        try:
            self._take()
            with suppress(PyIotEvmError):  # whatever it answers: this side has its books in order
                if self._socket is not None:
                    self._wait_settled()
        finally:
            self._disconnect()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self._given = None  # whether the last one was taken is not known: it comes again
        self.close()

    # Below

    def _take(self) -> None:
        if self._given is not None:
            self._buyer.purchases.take(self._given)
            self._given = None

    def _next(self) -> StreamedReading:
        if self._socket is None:
            self._connect()
        if self._stored:
            self._given = self._stored.pop(0)
            return StreamedReading.of(self._given)
        while True:
            message = self._receive()
            purchase = self._current()
            if message.kind == "schema":
                self._buyer.schema(message)
            elif message.kind == "offer":
                self._send(self._buyer.buy(purchase, message))
            elif message.kind in {"key", "reading"}:
                self._given = self._buyer.take(purchase, message)
                if message.kind == "key":
                    self._settle()
                return StreamedReading.of(self._given)
            elif message.kind == "end":
                self._wait_settled()
                self._ended = True
                raise StopIteration

    def _settle(self) -> None:
        """Send the plain voucher for all that came; a broken connection sends it again when it is opened."""
        paid = self._buyer.pay(self._current())
        self._unsettled = True
        with suppress(StreamStalledError):
            self._send(paid)

    def _wait_settled(self) -> None:
        while self._unsettled:
            self._receive(timeout=self._timeout)

    def _connect(self) -> None:
        """Connect, agree, take what is in the book and on the chain, and open the stream."""
        self._socket = _dial(self._place.address(self._terms.mode), self._timeout)
        self._was_there = True
        stated = self._receive(only="terms")
        purchase = self._buyer.agree(stated)
        self._hold(purchase)
        self._purchase = purchase
        self._buyer.recover(purchase)
        self._stored = self._buyer.purchases.untaken(purchase.channel_id)
        self._send(self._buyer.open(self._current(), stated["price"]))

    def _hold(self, purchase: Purchase) -> None:
        """Keep others of this home from the same stream."""
        if self._lock is None:
            path = self._payments.chain.path / f"stream-{purchase.channel_id.hex()}.lock"
            try:
                self._lock = try_lock(path)
            except LockedElsewhereError as error:
                raise InputError("this stream is being bought already", hint="end the other one first") from error

    def _current(self) -> Purchase:
        assert self._purchase is not None
        return self._buyer.purchases.get(self._purchase.channel_id)

    def _receive(self, *, only: str | None = None, timeout: float | None = None) -> Message:
        waits = self._waits() if timeout is None else timeout
        message = Message.decode(_received(self._socket, waits), sent_by="seller")
        if message.kind == "settled":
            self._unsettled = False
        if message.kind == "refused":
            refusal = StreamRefusedError(
                message["message"], reason=message["code"], retryable=message["retryable"], last=message["last"]
            )
            if self._purchase is not None and refusal.last is not None:
                self._buyer.adopt(self._current(), refusal)
                refusal.retryable = True
            raise refusal
        if only is not None and message.kind != only:
            raise InputError(f"the gateway began with a message of type {message.kind}, not {only}")
        return message

    def _waits(self) -> float | None:
        """Return how long the gateway may be silent: for ever, where the device has to measure first."""
        signed = None if self._purchase is None else self._current().signed
        return None if self._place.follows and self._purchase is not None and signed is None else self._timeout

    def _send(self, message: Message) -> None:
        with _wire_errors():
            self._socket.send(message.encode())

    def _disconnect(self) -> None:
        if self._socket is not None:
            socket, self._socket, self._unsettled = self._socket, None, False
            with suppress(TransportError), _wire_errors():
                socket.close()


def _start(start: int | str | None) -> int | Literal["next"] | None:
    if start is None or start == "next":
        return None if start is None else "next"
    with suppress(ValueError):  # also of a number with thousands of digits
        if str(start).isdecimal() and int(start) <= MAX_SEQ:
            return int(start)
    shown = f": {start[:40]!r}" if isinstance(start, str) else ""
    raise InputError(f"not a reading to begin with{shown}", hint="its number, or next")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read when it is asked for
    except ValueError as error:
        raise InputError(f"not an address of a gateway: {url!r}", hint="e.g. http://127.0.0.1:8402") from error
    return parts


@contextmanager
def _wire_errors() -> Iterator[None]:
    """Raise what goes wrong on the wire as what it means for a stream."""
    from websockets.exceptions import WebSocketException  # noqa: PLC0415 - the extra `gateway`

    try:
        yield
    except TimeoutError as error:
        raise StreamStalledError("the gateway did not answer in time") from error
    except (WebSocketException, OSError) as error:
        raise StreamStalledError(f"the connection to the gateway broke: {error}") from error


def _dial(address: str, timeout: float) -> Any:
    try:
        from websockets.sync.client import connect  # noqa: PLC0415 - the extra `gateway`
    except ImportError as error:
        hint = "pip install 'pyiot-evm[gateway]'"
        raise ConfigurationError(f"streams are not possible: {error}", hint=hint) from error
    with _wire_errors():
        return connect(address, max_size=MAX_REPLY, compression=None, open_timeout=timeout, close_timeout=_CLOSING)


def _received(socket: Any, timeout: float | None) -> str:
    with _wire_errors():
        text = socket.recv(timeout=timeout)
    if not isinstance(text, str):
        raise InputError("the gateway sent bytes, messages are texts")
    return text
