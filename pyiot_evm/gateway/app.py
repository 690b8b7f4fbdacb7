"""The gateway's HTTP surface: what is free, what is paid, and how much one client may ask."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from pyiot_evm.exceptions import InputError, PyIotEvmError
from pyiot_evm.gateway.openapi import BUNDLE, FREE, LATEST, READINGS, VERSION
from pyiot_evm.gateway.readings import RowRange
from pyiot_evm.gateway.till import BY_ALL, BY_CHANNEL, PaidRequest, Reply, decode_payment

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.gateway.config import GatewayConfig
    from pyiot_evm.gateway.offers import OfferSource
    from pyiot_evm.gateway.readings import ReadingSource
    from pyiot_evm.gateway.till import Till

__all__ = ["Limits", "Shop", "create_app"]

_log = logging.getLogger(__name__)

_MAX_BODY: Final = 8192
_MAX_HEAD: Final = 32_768
_HEALTH: Final = "/health"
_MAX_CLIENTS: Final = 10_000
_TRY_LATER: Final = 1013


@dataclass(frozen=True, slots=True)
class Shop:
    """What a gateway serves.

    Attributes:
        readings: The machine's device, ``None`` where it has none.
        offers: Its listings.
        network: The chain's CAIP-2 name.
    """

    config: GatewayConfig
    till: Till
    readings: ReadingSource | None
    offers: OfferSource
    network: str

    def devices(self) -> dict[str, Any]:
        """Return what can be bought from which device, and for how much."""
        found = [] if self.readings is None else [self.readings.describe()]
        config = self.config
        prices = {"row": config.price_row, "latest": config.price_latest, "stream": config.price_stream}
        return {
            "network": self.network,
            "prices": {name: str(price) for name, price in prices.items()},
            "max_rows": self.config.max_rows,
            "devices": found,
        }

    def sell(self, request: Request, *, latest: bool, device: str) -> Reply:
        """Answer a request for readings."""
        source = self.readings
        if len(request.headers.getlist("payment-signature")) > 1:
            return Reply.problem(400, "one payment a request")
        if source is None or device.lower() != str(source.device).lower():
            return Reply.problem(404, "there is no such device here: GET /v1/devices lists them")
        path, payment = request.url.path, decode_payment(request.headers.get("payment-signature"))
        fixed = _fixed_by(payment, path)
        wanted = self._latest(source, fixed) if latest else self._range(source, fixed, request.url.query)
        if wanted is None:
            return Reply.problem(404, "there are no such readings")
        price = self.config.price_latest if latest else self.config.price_row * wanted.count
        url = f"{request.url.scheme}://{request.url.netloc}{path}?{urlencode({'rows': str(wanted)})}"

        def produce() -> bytes:
            document = {"device": str(source.device), "rows": str(wanted), "readings": source.rows(wanted)}
            return json.dumps(document, separators=(",", ":")).encode()

        return self.till.serve(
            PaidRequest(
                path=path,
                url=url,
                headers=request.headers,
                payment=payment,
                price=price,
                route=BY_ALL if price >= self.config.exact_from else BY_CHANNEL,
                produce=produce,
            )
        )

    def _range(self, source: ReadingSource, fixed: RowRange | None, query: str) -> RowRange | None:
        """Return the rows that the payment's 402 fixed, else those that are asked for.

        Raises:
            InputError: They are too many, or asked for in a way that cannot be read.
        """
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        if fixed is not None or "rows" in asked:
            wanted = fixed or RowRange.parse(asked["rows"])
            if wanted.count > self.config.max_rows:
                raise InputError(f"a request gets at most {self.config.max_rows} rows, not {wanted.count}")
            return wanted if source.has(wanted) else None
        limit = min(_whole(asked.get("limit")) or self.config.max_rows, self.config.max_rows)
        return source.find(start=_whole(asked.get("from")), end=_whole(asked.get("to")), limit=limit)

    @staticmethod
    def _latest(source: ReadingSource, fixed: RowRange | None) -> RowRange | None:
        """Return the reading that the payment's 402 fixed, else the one of now; never more than one."""
        if fixed is None:
            return source.latest()
        return fixed if fixed.count == 1 and source.has(fixed) else None


def _fixed_by(payment: Any, path: str) -> RowRange | None:
    """Return which rows the 402 of a payment fixed, ``None`` where it is no payment for this path.

    Raises:
        InputError: They cannot be read.
    """
    if payment is None or payment.resource is None:
        return None
    try:
        resource = urlsplit(payment.resource.url)
    except ValueError:  # no address
        return None
    rows = parse_qs(resource.query).get("rows") if resource.path == path else None
    return None if rows is None else RowRange.parse(rows[0])


class Limits:
    """How much clients may ask: a rate each, streams too, a number at once for all, no bodies; an ASGI middleware.

    Args:
        app: What is protected.
        config: The limits.
        clock: Seconds, which never go back.
    """

    def __init__(self, app: Any, *, config: GatewayConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._config = config
        self._clock = clock
        self._running = 0
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket" and not self._may_ask(_client_of(scope)):
                await send({"type": "websocket.close", "code": _TRY_LATER})
                return
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await _send(send, refused)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1

    def _refusal(self, scope: Any) -> Reply | None:
        headers = dict(scope["headers"])
        head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
        if head > _MAX_HEAD:
            return Reply.problem(431, "the head of the request is too long")
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > _MAX_BODY:
            return Reply.problem(413, "requests here have no body")
        if self._running >= self._config.parallel and scope["path"] != _HEALTH:
            return Reply.problem(503, "the gateway is busy: try again")
        if not self._may_ask(_client_of(scope)):
            return Reply.problem(429, "too many requests: slow down")
        return None

    def _may_ask(self, client: str) -> bool:
        now = self._clock()
        with self._lock:
            left, at = self._buckets.pop(client, (float(self._config.burst), now))
            left = min(left + (now - at) * self._config.requests_each_second, self._config.burst)
            allowed = left >= 1
            self._buckets[client] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        return allowed


def _client_of(scope: Any) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def create_app(shop: Shop) -> FastAPI:
    """Return the gateway as an ASGI application; it starts nothing by itself."""
    app = FastAPI(title="pyiot gateway", version=VERSION, redirect_slashes=False)
    app.add_middleware(Limits, config=shop.config)
    app.add_exception_handler(PyIotEvmError, _refuse)
    _add_free(app, shop)
    _add_paid(app, shop)
    return app


def _add_free(app: FastAPI, shop: Shop) -> None:
    @app.get(_HEALTH, summary="Whether the gateway runs", **FREE)
    async def health() -> dict[str, str]:  # in the event loop: it waits for no thread, whatever payments wait for
        return {"status": "ok", "network": shop.network}

    @app.get("/v1/devices", summary="The devices, their schemas and the prices", **FREE)
    def devices() -> dict[str, Any]:
        return shop.devices()

    @app.get("/v1/offers", summary="What the machine has on sale at the market", **FREE)
    def offers() -> dict[str, Any]:
        return {"offers": shop.offers.documents()}

    @app.get(
        "/v1/offers/{offer}/bundle",
        summary="The sealed bundle of an offer (free: its key is what costs)",
        response_class=FileResponse,
        **BUNDLE,
    )
    def bundle(offer: str) -> Response:
        path = shop.offers.bundle(offer)
        if path is None:
            return _response(Reply.problem(404, "there is no such offer here: GET /v1/offers lists them"))
        return FileResponse(path, media_type="application/octet-stream")


def _add_paid(app: FastAPI, shop: Shop) -> None:
    threads = anyio.CapacityLimiter(shop.config.parallel)  # of their own: free answers do not wait for payments

    async def sell(request: Request, *, latest: bool, device: str) -> Response:
        work = partial(shop.sell, request, latest=latest, device=device)
        return _response(await anyio.to_thread.run_sync(work, limiter=threads))

    @app.get("/v1/devices/{device}/readings", summary="Readings by time or by rows, paid by the row", **READINGS)
    async def readings(request: Request, device: str) -> Response:
        return await sell(request, latest=False, device=device)

    @app.get("/v1/devices/{device}/latest", summary="The latest reading, paid", **LATEST)
    async def latest(request: Request, device: str) -> Response:
        return await sell(request, latest=True, device=device)


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, InputError):
        return _response(Reply.problem(400, str(error)))
    _log.error("a request failed: %s", error)
    return _response(Reply.problem(500, "the gateway cannot answer now: try again"))


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, headers=reply.headers)


async def _send(send: Any, reply: Reply) -> None:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) == 0:  # noqa: PLR2004 - uint64
        raise InputError(f"not a whole number from 1: {text[:40]!r}", hint="times are Unix milliseconds")
    return int(text)
