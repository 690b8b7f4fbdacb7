"""What the gateway's OpenAPI document says of parameters, payment headers and answers."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["BUNDLE", "FREE", "LATEST", "READINGS", "VERSION"]

VERSION: Final = "1"

_PROBLEM: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "what is wrong"}},
}
_READING: Final = {
    "type": "object",
    "required": ["seq", "time", "values", "leaf"],
    "properties": {
        "seq": {"type": "integer", "description": "the device's count"},
        "time": {"type": "integer", "description": "Unix milliseconds"},
        "values": {"type": "array", "items": {"type": "string"}, "description": "in the order of the schema's fields"},
        "leaf": {"type": "string", "description": "the signed bytes of the reading, hex"},
    },
}
_ROWS: Final = {
    "type": "object",
    "required": ["device", "rows", "readings"],
    "properties": {
        "device": {"type": "string"},
        "rows": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
        "readings": {"type": "array", "items": _READING},
    },
}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", "format": "byte"}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _PROBLEM}}}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_PAYMENT: Final = {
    "name": "PAYMENT-SIGNATURE",
    "in": "header",
    "required": False,
    "description": (
        "The payment, x402 version 2: base64 of a JSON `PaymentPayload`. Once only. With the extension "
        "`payment-identifier` a repeated request gets the same answer and is charged once."
    ),
    "schema": {"type": "string", "format": "byte", "maxLength": 16384},
}
_LIMITED: Final[dict[int | str, dict[str, Any]]] = {
    413: _problem("There is a body."),
    429: _problem("Too many requests of one client: slow down."),
    431: _problem("The head of the request is too long."),
    500: _problem("A fault of the gateway, its node or its books; nothing was delivered."),
    503: _problem("Too many requests at once: try again."),
}
_PAID: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The readings that the 402 named.",
        "headers": {"PAYMENT-RESPONSE": _header("base64 of x402's settlement response")},
        "content": {"application/json": {"schema": _ROWS}},
    },
    400: _problem("A parameter cannot be read, or there is more than one payment."),
    402: {
        "description": "What it costs and how it is paid; after a payment, why that one was refused.",
        "headers": {"PAYMENT-REQUIRED": _header("base64 of x402's `PaymentRequired`; `resource.url` names the rows")},
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    404: _problem("No such device, or no such readings; nothing was charged."),
    409: _problem("The payment identifier was used for another request."),
    **_LIMITED,
}

FREE: Final[dict[str, Any]] = {"responses": _LIMITED}
BUNDLE: Final[dict[str, Any]] = {
    "responses": {
        200: {"description": "The bundle.", "content": {"application/octet-stream": {}}},
        404: _problem("No such offer."),
        **_LIMITED,
    },
}
LATEST: Final[dict[str, Any]] = {"responses": _PAID, "openapi_extra": {"parameters": [_PAYMENT]}}
READINGS: Final[dict[str, Any]] = {
    "responses": _PAID,
    "openapi_extra": {
        "parameters": [
            _query("from", "The first time, Unix milliseconds.", type="integer", minimum=1),
            _query("to", "The first time that is not wanted, Unix milliseconds.", type="integer", minimum=1),
            _query("limit", "At most this many rows.", type="integer", minimum=1),
            _query("rows", "Rows by number, FIRST-LAST, instead of times.", type="string", pattern="^[0-9]+-[0-9]+$"),
            _PAYMENT,
        ]
    },
}
