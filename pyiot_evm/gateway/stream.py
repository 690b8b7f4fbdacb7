"""Readings one by one over one connection: a WebSocket, on which each reading is paid before the next one comes.

Books and signatures are handled in threads, so that the event loop never waits; what a stranger can make the gateway
keep open, read or wait for has a limit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from fastapi import FastAPI, WebSocket  # noqa: TC002 - FastAPI reads the annotations
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect, WebSocketState

from pyiot_evm.exceptions import InputError, PyIotEvmError, TransportError, VerificationError
from pyiot_evm.payment.payee_book import VoucherRefusedError
from pyiot_evm.payment.places import is_ours
from pyiot_evm.payment.stream_keys import MODES, StreamKeys
from pyiot_evm.payment.stream_messages import MAX_SEQ, Message
from pyiot_evm.payment.stream_seller import StreamSeller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyiot_evm.gateway.config import GatewayConfig
    from pyiot_evm.gateway.readings import ReadingSource
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.stream_keys import Mode
    from pyiot_evm.types import Address

__all__ = ["StreamDesk", "StreamLimitError", "add_streams"]

_log = logging.getLogger(__name__)
_POLL: Final = 0.2
_REFUSED, _TRY_LATER = 1008, 1013
_MAX_DIGITS: Final = 20


class StreamLimitError(TransportError):
    """A client has too many streams, or lets one wait for too long."""

    code: ClassVar[str] = "stream_limit"


@dataclass(eq=False, slots=True)
class _Place:
    """A stream's place among those that a gateway has at once."""

    client: str
    has_paid: bool = False
    taken_away: asyncio.Event = field(default_factory=asyncio.Event)


class StreamDesk:
    """The streams of a gateway: how many there are, and on what terms.

    Args:
        payments: Who is paid.
        source: What is sold; ``None`` where the machine has no device.
        token: In which token.
        config: The terms.
    """

    def __init__(
        self, *, payments: Payments, source: ReadingSource | None, token: Address, config: GatewayConfig
    ) -> None:
        self.source = source
        self.config = config
        self._payments = payments
        self._token = token
        self._keys = StreamKeys.of(payments.signer.secret)
        self._places: list[_Place] = []

    def begin(self, client: str) -> _Place:
        """Return a place for a stream; where all are taken, the oldest on which nothing was paid yet loses its own.

        Raises:
            StreamLimitError: There are too many of this client, or too many that pay.
        """
        if sum(place.client == client for place in self._places) >= self.config.streams_each_client:
            raise StreamLimitError("there are too many streams: try again later")
        if len(self._places) >= self.config.streams:
            idle = next((place for place in self._places if not place.has_paid), None)
            if idle is None:
                raise StreamLimitError("there are too many streams: try again later")
            idle.taken_away.set()
            self.end(idle)
        place = _Place(client)
        self._places.append(place)
        return place

    def end(self, place: _Place) -> None:
        """Give a place back; a second time does nothing."""
        if place in self._places:
            self._places.remove(place)

    def seller(self, device: str, mode: str) -> StreamSeller:
        """Return the selling side of a new stream.

        Raises:
            InputError: There is no such device, or it is not sold in this mode.
        """
        if self.source is None or device.lower() != str(self.source.device).lower():
            raise InputError("there is no such device here: GET /v1/devices lists them")
        if mode not in MODES:
            raise InputError(f"modes are {' and '.join(MODES)}, not {mode[:20]!r}")
        payees = self._payments.payees
        if mode == "locked":
            payees = [payee for payee in payees if is_ours(payee.chain, payee.contract.address)]
        if not payees:
            raise InputError("the channels on this chain take no locked vouchers: use the plain mode")
        return StreamSeller(
            payee=payees[0],
            keys=self._keys,
            feed=self.source,
            token=self._token,
            price=self.config.price_stream,
            mode=cast("Mode", mode),
        )

    def first(self, query: Mapping[str, str]) -> int:
        """Return the reading that a client asks to begin with: by number, by time, the next one, or the first.

        Raises:
            InputError: It asks in a way that cannot be read.
        """
        assert self.source is not None
        first, after = self.source.bounds()
        seq, start = query.get("seq"), query.get("from")
        if seq == "next":
            return after
        if seq is not None:
            return _whole(seq)
        if start is None:
            return first
        found = self.source.find(start=_whole(start), end=None, limit=1)
        return after if found is None else found.first


class _Connection:
    """One stream over one connection, from its terms to its end."""

    def __init__(self, desk: StreamDesk, websocket: WebSocket, device: str, place: _Place) -> None:
        self._desk = desk
        self._socket = websocket
        self._device = device
        self._place = place
        self._follows = websocket.query_params.get("follow", "1") != "0"
        self._deadline = time.monotonic() + desk.config.stream_idle
        self._ended = False

    async def run(self) -> None:
        """Serve until the client leaves, or breaks a rule."""
        query = self._socket.query_params
        seller = await run_in_threadpool(self._desk.seller, self._device, query.get("mode", "locked"))
        first = await run_in_threadpool(self._desk.first, query)
        await self._send(seller.terms(first))
        receiving = asyncio.ensure_future(self._socket.receive())
        leaving = asyncio.ensure_future(self._place.taken_away.wait())
        try:
            while True:
                await self._offer(seller)
                await asyncio.wait(
                    {receiving, leaving}, timeout=self._patience(seller), return_when=asyncio.FIRST_COMPLETED
                )
                if leaving.done():
                    raise StreamLimitError(
                        "there are too many streams, and nothing was paid on this one: try again later"
                    )
                if receiving.done():
                    message = Message.decode(_text_of(receiving.result()), sent_by="buyer")
                    receiving = asyncio.ensure_future(self._socket.receive())
                    answers = await run_in_threadpool(seller.receive, message)
                    self._place.has_paid |= seller.has_sold
                    await self._send(*answers)
                    self._wait_anew()
                elif time.monotonic() > self._deadline and not self._is_live(seller):
                    raise StreamLimitError("nothing came for too long: begin again")
        finally:
            receiving.cancel()
            leaving.cancel()

    async def _offer(self, seller: StreamSeller) -> None:
        if not seller.is_open or seller.is_waiting or self._ended:
            return
        offer = await run_in_threadpool(seller.offer)
        if not offer and not self._follows:
            self._ended = True
            offer = [seller.end()]
        if offer:
            await self._send(*offer)
            self._wait_anew()

    def _is_live(self, seller: StreamSeller) -> bool:
        """Whether it is the device's turn: the next reading is not there yet."""
        return seller.is_open and not seller.is_waiting and not self._ended

    def _patience(self, seller: StreamSeller) -> float:
        return _POLL if self._is_live(seller) else max(self._deadline - time.monotonic(), 0) + _POLL

    def _wait_anew(self) -> None:
        self._deadline = time.monotonic() + self._desk.config.stream_idle

    async def _send(self, *messages: Message) -> None:
        for message in messages:
            await self._socket.send_text(message.encode())


def add_streams(app: FastAPI, desk: StreamDesk) -> None:
    """Add the streams to a gateway's application."""

    @app.websocket("/v1/devices/{device}/stream")
    async def stream(websocket: WebSocket, device: str) -> None:
        await websocket.accept()
        client = websocket.client.host if websocket.client else ""
        try:
            place = desk.begin(client)
        except StreamLimitError as error:
            await _refuse(websocket, error)
            return
        try:
            await _Connection(desk, websocket, device, place).run()
        except WebSocketDisconnect:
            return
        except (PyIotEvmError, OSError) as error:
            await _refuse(websocket, error)
        finally:
            desk.end(place)


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """Say why a stream ends, and end it; a fault of ours is not shown."""
    if isinstance(error, InputError | VerificationError | StreamLimitError):
        message, code, retryable = error.message, error.code, error.retryable
    else:
        _log.error("a stream failed: %s", error)
        message, code, retryable = "the gateway cannot go on now: try again", "fault", True
    last = error.last if isinstance(error, VoucherRefusedError) else None
    refusal = Message("refused", code=code, message=message[:512], retryable=retryable, last=last)
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        await websocket.send_text(refusal.encode())
        await websocket.close(_TRY_LATER if retryable else _REFUSED)
    except (WebSocketDisconnect, RuntimeError, OSError):
        _log.debug("a stream's client left before it was told why the stream ends")


def _text_of(event: Any) -> str:
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
    text = event.get("text")
    if text is None:
        raise InputError("messages are texts")
    return str(text)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS) or int(text) > MAX_SEQ:
        raise InputError(f"not a whole number: {text[:40]!r}", hint="seq=N, seq=next, or from=TIME in milliseconds")
    return int(text)
