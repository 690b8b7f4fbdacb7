"""How the names of Solidity become those of Python in the generated bindings."""

from __future__ import annotations

import keyword
import re

CLASSES = {"IERC20Metadata": "Erc20", "IERC1271": "Erc1271"}
"""Artifact → class, where the class is not called like the contract."""

RETRYABLE = {
    "WindowIsOpen": "wait until the deadline has passed on the chain's clock",
    "CreditTooLow": "deposit more, or withdraw less",
    "RuleGasTooLow": "send it with a higher gas limit",
}
"""Errors after which the same call may succeed later → what to do."""

_IDS = {"device": "DeviceId", "deviceId": "DeviceId", "offerId": "OfferId", "orderId": "OrderId"} | {
    "rentalId": "RentalId",
    "resaleId": "ResaleId",
    "saleId": "SaleId",
    "termsId": "TermsId",
}
_PLAIN_IDS = {"offer": "OfferId", "order": "OrderId", "resale": "ResaleId", "device": "DeviceId", "sale": "SaleId"} | {
    "rental": "RentalId"
}


_ASCII = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-"})
_RENAMED = {"hash": "digest", "str": "text", "id": "token_id", "type": "kind"}
"""Parameters that would hide a builtin of Python."""


def parameter(name: str, kind: str, owner: str) -> str:
    """Return a parameter's Python name; a plain ``id`` says whose it is."""
    if name == "id" and kind == "bytes32":
        return snake(id_type(name, owner))
    return _RENAMED.get(name, snake(name))


def snake(name: str) -> str:
    """Turn ``ephemeralX`` into ``ephemeral_x`` and ``DOMAIN_SEPARATOR`` into ``domain_separator``."""
    text = re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])", r"_\1\2", name.lstrip("_")).lower()
    return f"{text}_" if keyword.iskeyword(text) else text


def words(name: str) -> str:
    """Turn ``OrderNotPaid`` into ``order not paid``."""
    return snake(name).replace("_", " ").capitalize() + "."


def module_name(artifact: str) -> str:
    """Return the module of an artifact's binding."""
    class_name = CLASSES.get(artifact, artifact)
    return snake(class_name).replace("p256_", "p256_").strip("_")


def id_type(name: str, owner: str) -> str:
    """Return the type of a ``bytes32``: one of the ids by its name, or ``id`` by whose it is, else ``Bytes32``."""
    if name in _IDS:
        return _IDS[name]
    if name in {"id", ""}:
        for prefix, kind in _PLAIN_IDS.items():
            if re.match(rf"{prefix}(Of|Id|[A-Z]|$)", owner[0].lower() + owner[1:]):
                return kind
    return "Bytes32"


def first_sentence(text: str) -> str:
    """Return NatSpec's first sentence on one line, fit for a docstring and for an error's message."""
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'").translate(_ASCII)
    return re.split(r"(?<=[.;])\s+(?=[A-Z])", text)[0].rstrip(";")
