"""A slot: the terms that an owner signed, as a lock keeps them. Which key opens, from when to when.

A slot is read from an offer file (``pyiot rental offer``): a lock takes the terms, where they hold and the signature,
and leaves the rest. The file may have gone through any hands: the signature must be the lock's owner's.

Example:
    >>> Slot.decode(b"{}")
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.InputError: not a rental offer
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from coincurve import PublicKey

from pyiot_evm.device.lock_messages import number, parsed, raw
from pyiot_evm.device.rental_messages import TERMS_TYPE, RentalMessages, Terms
from pyiot_evm.device.signers import SECP256K1_ORDER, address_of
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, TermsId

__all__ = ["Slot"]

_FORMAT: Final = "pyiot rental offer"
_NEEDED: Final = {"format", "chainId", "escrow", "terms", "signature"}
_FIELDS: Final = tuple(
    (name, kind) for kind, name in (part.split(" ") for part in TERMS_TYPE[len("Terms(") : -1].split(","))
)
_SIGNATURE: Final = 65
_MAX_OFFER: Final = 64 * 1024
_PLAIN_BITS: Final = 40


@dataclass(frozen=True)
class Slot:
    """One rental of a lock.

    Attributes:
        chain_id: The chain whose escrow the terms are for.
        escrow: The escrow.
        terms: The terms.
        signature: The owner's over the terms id, 65 bytes.

    Raises:
        InputError: The terms cannot be any escrow's: a field does not fit, the slot has no length, or the access key's
            point is not on secp256k1.
    """

    chain_id: int
    escrow: Address
    terms: Terms
    signature: bytes

    def __post_init__(self) -> None:
        self.terms_id, self.key_address  # noqa: B018 - both check what they read
        if self.terms.start >= self.terms.end:
            raise InputError(f"the slot has no length: from {self.terms.start} to {self.terms.end}")

    @cached_property
    def messages(self) -> RentalMessages:
        """What is signed in the terms' escrow."""
        return RentalMessages(chain_id=self.chain_id, contract=self.escrow)

    @cached_property
    def terms_id(self) -> TermsId:
        """The terms id: what the owner signed, and what the device signs about."""
        return self.messages.terms_id(self.terms)

    @cached_property
    def key_address(self) -> Address:
        """The address of the access key's point: who must have signed an answer."""
        x, y = self.terms.key_x, self.terms.key_y
        try:
            if not 0 < x < SECP256K1_ORDER:
                raise ValueError("x is not below the group order")  # noqa: TRY301 - the escrow's own bound
            return address_of(PublicKey.from_point(x, y))
        except (ValueError, OverflowError) as error:
            raise InputError("the access key's point is not on secp256k1") from error

    def fields(self) -> dict[str, Any]:
        """Return the slot as the part of an offer file that a lock needs."""
        return {
            "format": _FORMAT,
            "chainId": self.chain_id,
            "escrow": str(self.escrow),
            "terms": {name: _written(getattr(self.terms, _snake(name)), kind) for name, kind in _FIELDS},
            "signature": "0x" + self.signature.hex(),
        }

    @classmethod
    def of(cls, fields: object) -> Self:
        """Read an offer; its signature is checked by the lock.

        Raises:
            InputError: It is none, or its terms cannot be any escrow's.
        """
        if not isinstance(fields, dict) or not set(fields) >= _NEEDED or fields["format"] != _FORMAT:
            raise InputError("not a rental offer")
        terms = fields["terms"]
        if not isinstance(terms, dict) or set(terms) != {name for name, _ in _FIELDS}:
            raise InputError("a rental offer's terms have other fields")
        return cls(
            chain_id=number(fields["chainId"], bits=256),
            escrow=Address(raw(fields["escrow"], size=20)),
            terms=Terms(**{_snake(name): _read(terms[name], kind) for name, kind in _FIELDS}),
            signature=raw(fields["signature"], size=_SIGNATURE),
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the bytes of an offer file.

        Raises:
            InputError: It is none, or its terms cannot be any escrow's.
        """
        if len(data) > _MAX_OFFER:
            raise InputError(f"a rental offer has at most {_MAX_OFFER} bytes")
        return cls.of(parsed(data))


def _written(value: Any, kind: str) -> Any:
    if kind == "address":
        return str(Address(value))
    if kind == "bytes32":
        return "0x" + bytes(value).hex()
    return value if int(kind.removeprefix("uint")) <= _PLAIN_BITS else str(value)


def _read(value: object, kind: str) -> Any:
    if kind in ("address", "bytes32"):
        return raw(value, size=20 if kind == "address" else 32)
    return number(value, bits=int(kind.removeprefix("uint")))


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)
