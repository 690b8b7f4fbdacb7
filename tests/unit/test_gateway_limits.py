"""How much one client may ask of a gateway: so much at once, and so much a second after that."""

import asyncio

import pytest

from pyiot_evm.gateway.app import Limits
from pyiot_evm.gateway.config import GatewayConfig


class Desk:
    """A gateway that answers everything with 200, behind limits whose clock stands still."""

    def __init__(self, **config):
        self.now = 100.0
        self.limits = Limits(self.answer, config=GatewayConfig(**config), clock=lambda: self.now)
        self.sent = []

    async def answer(self, scope, _receive, send):
        await send({"type": "http.response.start" if scope["type"] == "http" else "websocket.accept", "status": 200})

    def ask(self, client="10.0.0.1", kind="http"):
        """Return what the client is told: a status, or the type of a WebSocket's answer."""
        scope = {
            "type": kind, "client": (client, 4711), "headers": [],
            "path": "/v1", "raw_path": b"/v1", "query_string": b"",
        }  # fmt: skip
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.limits(scope, None, send))
        return sent[0].get("status") if kind == "http" else sent[0]["type"]


@pytest.fixture
def desk():
    return Desk(requests_each_second=2, burst=5)


def test_limits__when_a_client_asks_more_than_at_once__is_told_to_slow_down(desk):
    assert [desk.ask() for _ in range(7)] == [200] * 5 + [429] * 2
    assert desk.ask("10.0.0.2") == 200  # another one has its own


def test_limits__when_a_client_waits__may_ask_as_often_as_it_waited(desk):
    assert [desk.ask() for _ in range(6)][-1] == 429
    desk.now += 0.49
    assert desk.ask() == 429
    desk.now += 0.01
    assert [desk.ask(), desk.ask()] == [200, 429]
    desk.now += 3600
    assert [desk.ask() for _ in range(6)] == [200] * 5 + [429]  # no more than at first


def test_limits__when_the_request_opens_a_stream__counts_it_too(desk):
    assert [desk.ask(kind="websocket") for _ in range(6)] == ["websocket.accept"] * 5 + ["websocket.close"]
    assert desk.ask() == 429
