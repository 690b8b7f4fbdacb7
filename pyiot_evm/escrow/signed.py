r"""What one account signs and another one carries to the chain, as files: acts and openings of rentals.

A :class:`SignedAct` is one call of the escrow (a claim, an answer, a withdrawal, …) that its signer decided on; a
:class:`SignedOpening` opens and pays a rental. Who reads such a file reads a stranger's: it is decoded, and the
signatures are checked, before anything is sent. Nobody but the signer can change what it does, and it works once.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.contracts.deposit_escrow import DepositEscrow
    >>> escrow, signer = DepositEscrow(Address("0x" + "11" * 20)), LocalSigner.create()
    >>> call = escrow.withdraw(Address("0x" + "22" * 20), 5_000_000, signer.address)
    >>> signed = SignedAct.sign(call, chain_id=1, signer=signer, deadline=2_000_000_000)
    >>> signed.check()
    >>> read = SignedAct.decode(signed.encode())
    >>> read == signed, read.act.function, read.act.values["amount"]
    (True, 'withdraw', 5000000)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.contracts.shared import Rental, SignedCall
from pyiot_evm.device.files import write_new
from pyiot_evm.device.rental_messages import RentalMessages
from pyiot_evm.device.signers import verify_signature
from pyiot_evm.escrow.acts import decode_act
from pyiot_evm.escrow.offers import RentalOffer, terms_id_of
from pyiot_evm.escrow.records import rental_id
from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.market.documents import hex_text, read_hex, read_number
from pyiot_evm.market.metadata import strict_json
from pyiot_evm.relay import contract_domain, sign_call, signed_call_digest
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.device import Signer
    from pyiot_evm.escrow.acts import DecodedAct
    from pyiot_evm.types import RentalId, TermsId

__all__ = ["SignedAct", "SignedOpening", "read_signed"]

_ACT: Final = "pyiot signed rental act"
_OPENING: Final = "pyiot signed rental opening"
_ACT_KEYS: Final = {"format", "chainId", "escrow", "sender", "call", "nonce", "deadline", "signatures"}
_OPENING_KEYS: Final = {
    *("format", "offer", "renter", "mask", "ephemeralX", "ephemeralY", "validBefore", "signature"),
}
_MAX_BYTES: Final = 128 * 1024
_MAX_SIGNATURES: Final = 64
_MAX_SIGNATURE: Final = 4096


@dataclass(frozen=True, slots=True)
class SignedAct:
    """One call of the escrow, signed, on its way to whoever carries it.

    Attributes:
        chain_id: The chain that it is for.
        escrow: The contract that it is for.
        call: Who acts, the call, its nonce, and until when it is good.
        signatures: Signer bytes and signature of each key that signed: the sender's own, or an account's members'.
    """

    chain_id: int
    escrow: Address
    call: SignedCall
    signatures: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def sign(
        cls, call: Call[Any], *, chain_id: int, signer: Signer, deadline: int, sender: Address | None = None
    ) -> Self:
        """Sign a call of the escrow.

        Args:
            call: What is to be done.
            chain_id: The chain.
            signer: Whose key.
            deadline: It is good before this time, Unix seconds.
            sender: The account of several keys that acts, where the signer is one of them; else the signer's own.

        Raises:
            VerificationError: It is no act that anybody signs.
        """
        decode_act(call.data)
        domain = _domain(chain_id, call.to)
        request = sign_call(call, signer=signer, domain=domain, deadline=deadline, sender=sender)
        return cls(chain_id, call.to, request.call, ((bytes(signer.signer_bytes), request.signature),))

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return signed_call_digest(self.call, domain=_domain(self.chain_id, self.escrow))

    @property
    def act(self) -> DecodedAct:
        """What it does.

        Raises:
            VerificationError: It is no act that anybody signs.
        """
        return decode_act(self.call.call)

    @property
    def ids(self) -> tuple[TermsId, RentalId] | None:
        """The terms and the rental that it is about, where it is about one."""
        rental = self.act.rental
        if rental is None:
            return None
        terms_id = terms_id_of(rental.terms, RentalMessages(chain_id=self.chain_id, contract=self.escrow))
        point = (rental.ephemeral_x, rental.ephemeral_y)
        return terms_id, rental_id(terms_id, renter=rental.renter, mask=rental.mask, ephemeral=point)

    def describe(self) -> dict[str, Any]:
        """Return what it does in values that JSON can carry; amounts in base units of ``token``, no secret."""
        act, ids = self.act, self.ids
        shown: dict[str, Any] = {"act": act.function}
        if act.rental is not None and ids is not None:
            shown |= {"rental_id": str(ids[1]), "terms_id": str(ids[0]), "token": act.rental.terms.token}
        shown |= {name: value for name, value in act.values.items() if name != "released_key"}
        if "to" in shown:
            shown["to"] = str(shown["to"])
        if "evidence" in shown:
            shown["evidence"] = str(shown["evidence"]) if any(shown["evidence"]) else None
        signers = [hex_text(signer) for signer, _ in self.signatures]
        return shown | {"sender": str(self.call.sender), "signers": signers, "until": self.call.deadline}

    def check(self) -> None:
        """Check that it can be decoded, and that every key which is named as a signer signed it.

        Raises:
            VerificationError: It was changed after it was signed, or it is no act that anybody signs.
        """
        decode_act(self.call.call)
        for signer, signature in self.signatures:
            if not verify_signature(signer, self.digest, signature):
                raise VerificationError(f"0x{signer.hex()} did not sign this: the file was changed")

    def cosign(self, signer: Signer) -> SignedAct:
        """Add the signature of one more key of the account that acts; needs no chain.

        Raises:
            VerificationError: The act was changed after it was signed.
        """
        self.check()
        mine = (bytes(signer.signer_bytes), signer.sign_digest(self.digest))
        return self.join(replace(self, signatures=(mine,)))

    def join(self, *others: SignedAct) -> SignedAct:
        """Return the same act with the signatures of all.

        Raises:
            InputError: They are of different acts.
        """
        if any(replace(other, signatures=self.signatures) != self for other in others):
            raise InputError("the files are of different acts: each must be a copy of one that was signed first")
        every = dict(pair for one in (self, *others) for pair in one.signatures)
        return replace(self, signatures=tuple(every.items()))

    def encode(self) -> str:
        """Return it as JSON."""
        document = {
            "format": _ACT,
            "chainId": self.chain_id,
            "escrow": str(self.escrow),
            "sender": str(self.call.sender),
            "call": hex_text(self.call.call),
            "nonce": str(self.call.nonce),
            "deadline": self.call.deadline,
            "signatures": [[hex_text(signer), hex_text(signature)] for signer, signature in self.signatures],
        }
        return json.dumps(document, indent=1)

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Read what a stranger may have written; :meth:`check` says whether it was signed.

        Raises:
            VerificationError: It is no signed act.
        """
        document = _fields(text, _ACT, _ACT_KEYS)
        pairs = document["signatures"]
        is_list = isinstance(pairs, list) and 0 < len(pairs) <= _MAX_SIGNATURES
        if not is_list or any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):  # noqa: PLR2004
            raise VerificationError("not a signed act: the signatures are no list of pairs")
        call = SignedCall(
            sender=Address(read_hex(document["sender"], size=20)),
            call=read_hex(document["call"]),
            nonce=read_number(document["nonce"], bits=256),
            deadline=read_number(document["deadline"], bits=40),
        )
        return cls(
            chain_id=read_number(document["chainId"], bits=256),
            escrow=Address(read_hex(document["escrow"], size=20)),
            call=call,
            signatures=tuple((_signature(signer), _signature(signature)) for signer, signature in pairs),
        )

    def write(self, path: str | Path) -> None:
        """Write it to a new file that only its owner reads.

        Raises:
            InputError: There is a file already.
        """
        _write(path, self.encode())


@dataclass(frozen=True, slots=True)
class SignedOpening:
    """A rental's opening and its payment in one signature, for whoever carries it to the chain.

    Attributes:
        offer: What is rented.
        renter: Who pays.
        mask: The renter's mask.
        ephemeral: The renter's point E.
        valid_before: The payment is good before this time, Unix seconds.
        signature: Of the renter over ERC-3009's ``receiveWithAuthorization``.
    """

    offer: RentalOffer
    renter: Address
    mask: Address
    ephemeral: tuple[int, int]
    valid_before: int
    signature: bytes = field(repr=False)

    @property
    def rental_id(self) -> RentalId:
        """The rental that it opens."""
        return rental_id(self.offer.id, renter=self.renter, mask=self.mask, ephemeral=self.ephemeral)

    @property
    def rental(self) -> Rental:
        """The contract's struct."""
        return Rental(self.offer.terms, self.renter, self.mask, *self.ephemeral)

    def describe(self) -> dict[str, Any]:
        """Return what it does in values that JSON can carry; the price in base units of ``token``."""
        return {
            "act": "open",
            "rental_id": str(self.rental_id),
            "terms_id": str(self.offer.id),
            "title": self.offer.document.title,
            "token": self.offer.terms.token,
            "price": self.offer.price,
            "sender": str(self.renter),
            "until": self.valid_before,
        }

    def encode(self) -> str:
        """Return it as JSON."""
        document = {
            "format": _OPENING,
            "offer": json.loads(self.offer.encode()),
            "renter": str(self.renter),
            "mask": str(self.mask),
            "ephemeralX": str(self.ephemeral[0]),
            "ephemeralY": str(self.ephemeral[1]),
            "validBefore": self.valid_before,
            "signature": hex_text(self.signature),
        }
        return json.dumps(document, indent=1)

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Read what a stranger may have written; who carries it checks it.

        Raises:
            VerificationError: It is no signed opening.
        """
        document = _fields(text, _OPENING, _OPENING_KEYS)
        return cls(
            offer=RentalOffer.decode(json.dumps(document["offer"])),
            renter=Address(read_hex(document["renter"], size=20)),
            mask=Address(read_hex(document["mask"], size=20)),
            ephemeral=(read_number(document["ephemeralX"], bits=256), read_number(document["ephemeralY"], bits=256)),
            valid_before=read_number(document["validBefore"], bits=40),
            signature=_signature(document["signature"]),
        )

    def write(self, path: str | Path) -> None:
        """Write it to a new file that only its owner reads.

        Raises:
            InputError: There is a file already.
        """
        _write(path, self.encode())


def read_signed(path: str | Path) -> SignedAct | SignedOpening:
    """Read a file that somebody signed.

    Raises:
        InputError: There is no such file.
        VerificationError: It is neither a signed act nor a signed opening.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the signed file {path}: {error.strerror}") from error
    try:
        document = strict_json(data)
        kind: Callable[[bytes], SignedAct | SignedOpening] = SignedAct.decode
        if document.get("format") == _OPENING:
            kind = SignedOpening.decode
        return kind(data)
    except VerificationError as error:
        raise VerificationError(f"{path} is nothing that can be carried: {error}", hint=error.hint) from error


def _domain(chain_id: int, escrow: Address) -> bytes:
    return contract_domain("pyiot DepositEscrow", chain_id=chain_id, contract=escrow)


def _fields(text: str | bytes, form: str, keys: set[str]) -> dict[str, Any]:
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if len(data) > _MAX_BYTES:
        raise VerificationError(f"a signed file has at most {_MAX_BYTES} bytes")
    document = strict_json(data)
    if set(document) != keys or document["format"] != form:
        raise VerificationError(f"not a {form.removeprefix('pyiot ')}")
    return document


def _signature(value: object) -> bytes:
    signature = read_hex(value)
    if len(signature) > _MAX_SIGNATURE:
        raise VerificationError(f"a signature has at most {_MAX_SIGNATURE} bytes")
    return signature


def _write(path: str | Path, text: str) -> None:
    target = Path(path).expanduser()
    try:
        write_new(target, text.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
