r"""A rental's offer: what an owner signs, in a file for whoever it is given to.

The terms are the contract's; the document beside them is for people, and its hash is in the terms. Who reads an offer
reads a stranger's file: nothing in it is believed before it was checked (see ``inspection``).

Example:
    >>> document = RentalDocument(title="Bay 7, charger", unit="kWh")
    >>> RentalDocument.of(document.fields()) == document, len(document.hash)
    (True, 32)
    >>> RentalOffer.decode("{}")
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.VerificationError: not a rental offer
"""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.contracts.deposit_escrow import Terms
from pyiot_evm.device import rental_messages
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.escrow.agreements import CHECK_OUT_GRACE, agreement_fields, read_agreement, terms_hash
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.atomic import atomic_file
from pyiot_evm.market.documents import hex_text, read_fields, read_hex, read_number, write_fields
from pyiot_evm.market.metadata import strict_json
from pyiot_evm.types import Address, Bytes32, DeviceId, TermsId

if TYPE_CHECKING:
    from pyiot_evm.contracts.rule_arbiter import Agreement
    from pyiot_evm.device.rental_messages import RentalMessages

__all__ = ["CHECK_OUT_GRACE", "RentalDocument", "RentalOffer", "Terms", "terms_id_of"]

TERMS_FIELDS: Final = tuple(
    (name, kind)
    for kind, name in (
        part.split(" ") for part in rental_messages.TERMS_TYPE.removeprefix("Terms(").removesuffix(")").split(",")
    )
)
_FORMAT: Final = "pyiot rental offer"
_KEYS: Final = {"format", "chainId", "escrow", "block", "terms", "signer", "document", "agreement", "signature"}
_MAX_BYTES: Final = 64 * 1024
_MAX_SIGNATURE: Final = 4096
_LENGTHS: Final = {"title": 200, "place": 200, "rules": 8192, "unit": 32, "arbitration": 4096}


@dataclass(frozen=True, slots=True)
class RentalDocument:
    """What a rental is, for people; its hash is in the terms.

    Attributes:
        title: One line.
        place: Where it is.
        rules: The house rules.
        unit: What the device meters, e.g. ``kWh``.
        arbitration: What the arbiter goes by.

    Raises:
        InputError: A text is too long.
    """

    title: str
    place: str = ""
    rules: str = ""
    unit: str = ""
    arbitration: str = ""

    def __post_init__(self) -> None:
        for name, most in _LENGTHS.items():
            text = getattr(self, name)
            if len(text.encode(errors="replace")) > most:
                raise InputError(f"the rental's {name} has more than {most} bytes")
            if any(0xD800 <= ord(character) <= 0xDFFF for character in text):  # noqa: PLR2004 - no text of UTF-8
                raise InputError(f"the rental's {name} is not a text")

    def fields(self) -> dict[str, str]:
        """Return the document as a JSON object."""
        return asdict(self)

    @property
    def hash(self) -> Bytes32:
        """keccak256 of its canonical form (RFC 8785)."""
        return Bytes32(keccak256(canonical_json(self.fields())))

    @classmethod
    def of(cls, fields: object) -> Self:
        """Read a document that a stranger may have written.

        Raises:
            VerificationError: It is none.
        """
        if not isinstance(fields, dict) or set(fields) != set(_LENGTHS):
            raise VerificationError(f"a rental's document has exactly the fields {', '.join(_LENGTHS)}")
        if not all(isinstance(text, str) for text in fields.values()):
            raise VerificationError("a rental's document holds texts alone")
        try:
            return cls(**fields)
        except InputError as error:
            raise VerificationError(str(error)) from error


@dataclass(frozen=True, slots=True)
class RentalOffer:
    """Terms, signed, with all that a renter must know to check them.

    Attributes:
        chain_id: The chain that they are for.
        escrow: The contract that they are for.
        block: A height below which nothing about the rental lies on the chain.
        terms: The contract's terms.
        signer: The device's signer bytes, whose hash the terms pin.
        document: What it is, for people.
        agreement: What readings must show, where the arbiter is the suite's ``RuleArbiter``.
        signature: The owner's, over the terms id; empty in a draft.
    """

    chain_id: int
    escrow: Address
    block: int
    terms: Terms
    signer: bytes
    document: RentalDocument
    agreement: Agreement | None = None
    signature: bytes = b""

    @property
    def messages(self) -> RentalMessages:
        """What is signed in the offer's escrow."""
        return rental_messages.RentalMessages(chain_id=self.chain_id, contract=self.escrow)

    @property
    def id(self) -> TermsId:
        """The terms id."""
        return terms_id_of(self.terms, self.messages)

    @property
    def price(self) -> int:
        """What the renter pays when it opens the rental, base units: fee, meter cap and deposit."""
        return self.terms.fee + self.terms.meter_cap + self.terms.deposit

    @property
    def hand_over_deadline(self) -> int:
        """Before this time the owner hands over, Unix seconds."""
        return min(self.terms.start + self.terms.grace, self.terms.end)

    @property
    def check_out_deadline(self) -> int:
        """Before this time a check-out is taken, Unix seconds."""
        return self.terms.end + CHECK_OUT_GRACE

    def check_parts(self) -> None:
        """Check that what is not in the terms themselves is what they name by its hash.

        Raises:
            VerificationError: The document, the agreement or the signer is another one.
        """
        if self.terms.terms != terms_hash(self.document.hash, self.agreement):
            raise VerificationError("the offer's document or agreement is not the one that its terms name")
        if keccak256(self.signer) != self.terms.signer_hash:
            raise VerificationError("the offer's signer is not the one that its terms pin")

    def charge(self, units: int) -> int:
        """Return what the owner gets for a rental in which the device metered ``units``."""
        return self.terms.fee + min(self.terms.rate * units, self.terms.meter_cap)

    def encode(self) -> str:
        """Return the offer as JSON."""
        document: dict[str, Any] = {
            "format": _FORMAT,
            "chainId": self.chain_id,
            "escrow": str(self.escrow),
            "block": self.block,
            "terms": write_fields(self.terms, TERMS_FIELDS),
            "signer": hex_text(self.signer),
            "document": self.document.fields(),
            "agreement": None if self.agreement is None else agreement_fields(self.agreement),
            "signature": hex_text(self.signature),
        }
        return json.dumps(document, indent=1)

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Read an offer that a stranger may have written; see ``inspection`` for whether it can be trusted.

        Raises:
            VerificationError: It is no offer.
        """
        data = text.encode(errors="replace") if isinstance(text, str) else text
        if len(data) > _MAX_BYTES:
            raise VerificationError(f"a rental offer has at most {_MAX_BYTES} bytes")
        document = strict_json(data)
        if set(document) != _KEYS or document["format"] != _FORMAT:
            raise VerificationError("not a rental offer")
        fields = read_fields(document["terms"], TERMS_FIELDS)
        signature = read_hex(document["signature"])
        if len(signature) > _MAX_SIGNATURE:
            raise VerificationError(f"a signature has at most {_MAX_SIGNATURE} bytes")
        return cls(
            chain_id=read_number(document["chainId"], bits=256),
            escrow=Address(read_hex(document["escrow"], size=20)),
            block=read_number(document["block"], bits=40),
            terms=Terms(**fields | {"device": DeviceId(fields["device"])}),
            signer=read_hex(document["signer"]),
            document=RentalDocument.of(document["document"]),
            agreement=None if document["agreement"] is None else read_agreement(document["agreement"]),
            signature=signature,
        )

    def write(self, path: str | Path) -> None:
        """Write the offer file, whole or not at all."""
        with atomic_file(Path(path).expanduser()) as file:
            file.write(self.encode().encode())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read an offer file.

        Raises:
            InputError: There is no such file.
            VerificationError: It is no offer.
        """
        try:
            with Path(path).expanduser().open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"cannot read the offer file {path}: {error.strerror}") from error
        try:
            return cls.decode(data)
        except VerificationError as error:
            raise VerificationError(f"{path} is no rental offer: {error}", hint=error.hint) from error


def terms_id_of(terms: Terms, messages: RentalMessages) -> TermsId:
    """Return the terms id of the contract's struct."""
    return messages.terms_id(rental_messages.Terms(*astuple(terms)))
