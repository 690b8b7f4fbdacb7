"""What is signed about a rental: the owner's terms, and what the device says of who came in and what was used.

::

    Terms(address owner,address token,uint96 fee,uint96 rate,uint96 meterCap,uint96 deposit,bytes32 device,
          bytes32 signerHash,address arbiter,uint256 keyX,uint256 keyY,uint40 start,uint40 end,uint32 grace,
          uint32 claimWindow,uint32 replyWindow,uint32 rulingWindow,bytes32 terms,uint256 salt)
    CheckIn(bytes32 termsId,uint40 time,bytes32 condition)
    CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)

All are EIP-712 structs in the domain ``pyiot DepositEscrow``, version 1, of one contract on one chain. The digest of
the terms is the *terms id*; a device without a network signs over it and needs to know nothing of the renter.

Example:
    >>> from pyiot_evm.device import LocalSigner
    >>> messages = RentalMessages(chain_id=31337, contract=Address("0x" + "11" * 20))
    >>> charger = LocalSigner.create("p256")
    >>> said = messages.sign(CheckOut(terms_id=bytes(32), time=1_700_003_600, units=14), charger)
    >>> SignedStatement.decode(said.encode()) == said, messages.is_signed(said)
    (True, True)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from pyiot_evm.device.schema import check_depth
from pyiot_evm.device.signers import verify_signature
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, TermsId

if TYPE_CHECKING:
    from pyiot_evm.device.signers import Signer

__all__ = ["CheckIn", "CheckOut", "RentalMessages", "SignedStatement", "Statement", "Terms"]

TERMS_TYPE: Final = (
    "Terms(address owner,address token,uint96 fee,uint96 rate,uint96 meterCap,uint96 deposit,bytes32 device,"
    "bytes32 signerHash,address arbiter,uint256 keyX,uint256 keyY,uint40 start,uint40 end,uint32 grace,"
    "uint32 claimWindow,uint32 replyWindow,uint32 rulingWindow,bytes32 terms,uint256 salt)"
)
CHECK_IN_TYPE: Final = "CheckIn(bytes32 termsId,uint40 time,bytes32 condition)"
CHECK_OUT_TYPE: Final = "CheckOut(bytes32 termsId,uint40 time,uint64 units,bytes32 condition)"

_TERMS: Final = type_hash(TERMS_TYPE)
_CHECK_IN: Final = type_hash(CHECK_IN_TYPE)
_CHECK_OUT: Final = type_hash(CHECK_OUT_TYPE)
_FORMAT: Final = "pyiot statement"
_PLACE: Final = {"format", "kind", "chainId", "contract", "termsId", "time", "condition", "signer", "signature"}
_MAX_STATEMENT: Final = 4096
_MAX_SIGNER: Final = 84
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2}){0,84}", re.ASCII)
_WORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner offers, for a device that must not know the chain's bindings.

    Attributes:
        owner: Who hands over, is paid and may claim, 20 bytes.
        token: The ERC-20 in which everything is paid, 20 bytes.
        fee: Base units for the rental as such.
        rate: Base units for each unit that the device meters.
        meter_cap: The most that metering can cost, base units.
        deposit: Base units that the owner may claim of after check-out.
        device: The device's id.
        signer_hash: keccak256 of the signer bytes that check in and out.
        arbiter: Who rules on a claim, 20 bytes; zero for nobody.
        key_x: x of the access key's point.
        key_y: y of it.
        start: When the slot begins, Unix seconds.
        end: When it ends, Unix seconds.
        grace: Seconds after ``start`` that the owner has to hand over.
        claim_window: Seconds to claim after the check-out.
        reply_window: Seconds to answer a claim.
        ruling_window: Seconds to rule.
        terms: keccak256 of the rental's document.
        salt: A nonce of the owner's.
    """

    owner: bytes
    token: bytes
    fee: int
    rate: int
    meter_cap: int
    deposit: int
    device: bytes
    signer_hash: bytes
    arbiter: bytes
    key_x: int
    key_y: int
    start: int
    end: int
    grace: int
    claim_window: int
    reply_window: int
    ruling_window: int
    terms: bytes
    salt: int


@dataclass(frozen=True, slots=True)
class CheckIn:
    """The device saw the renter get in.

    Attributes:
        terms_id: Which rental.
        time: The device's clock, Unix seconds.
        condition: keccak256 of what the device saw (a photo, an odometer), or zero.
    """

    terms_id: bytes
    time: int
    condition: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class CheckOut:
    """The device saw the rental end.

    Attributes:
        terms_id: Which rental.
        time: The device's clock, Unix seconds.
        units: What the device metered.
        condition: keccak256 of what the device saw, or zero.
    """

    terms_id: bytes
    time: int
    units: int = 0
    condition: bytes = bytes(32)


Statement = CheckIn | CheckOut


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A check-in or a check-out on its way from the device to the chain, by whatever wire or memory stick.

    Attributes:
        chain_id: The chain that it is for.
        contract: The escrow that it is for.
        statement: What the device says.
        signer: The device's signer bytes, 20 or 84.
        signature: Of that signer.
    """

    chain_id: int
    contract: Address
    statement: Statement
    signer: bytes
    signature: bytes

    def encode(self) -> str:
        """Return the statement as one line of JSON."""
        said = self.statement
        document: dict[str, Any] = {
            "format": _FORMAT,
            "kind": "check-out" if isinstance(said, CheckOut) else "check-in",
            "chainId": self.chain_id,
            "contract": str(self.contract),
            "termsId": "0x" + said.terms_id.hex(),
            "time": said.time,
            "condition": "0x" + said.condition.hex(),
            "signer": "0x" + self.signer.hex(),
            "signature": "0x" + self.signature.hex(),
        }
        if isinstance(said, CheckOut):
            document["units"] = str(said.units)
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Read a statement that a stranger may have written; whether it is signed, :class:`RentalMessages` knows.

        Raises:
            InputError: It is no statement.
        """
        fields = _object(text)
        kind = fields.get("kind")
        if set(fields) != _PLACE | ({"units"} if kind == "check-out" else set()) or fields["format"] != _FORMAT:
            raise InputError("not a signed check-in or check-out: fields are missing or unknown")
        terms_id, condition = _raw(fields["termsId"], size=_WORD_BYTES), _raw(fields["condition"], size=_WORD_BYTES)
        time = _number(fields["time"], bits=40)
        said: Statement
        if kind == "check-out":
            said = CheckOut(terms_id, time, _number(fields["units"], bits=64), condition)
        elif kind == "check-in":
            said = CheckIn(terms_id, time, condition)
        else:
            raise InputError(f"not a check-in or check-out: {kind!r:.40}")
        place = (_number(fields["chainId"], bits=256), Address(_raw(fields["contract"], size=20)))
        return cls(*place, said, _raw(fields["signer"]), _raw(fields["signature"]))


class RentalMessages:
    """The digests of rentals in one escrow on one chain.

    Args:
        chain_id: The chain's id.
        contract: The escrow's address.
    """

    def __init__(self, *, chain_id: int, contract: bytes) -> None:
        self.chain_id = chain_id
        self.contract = Address(contract)

    @cached_property
    def domain(self) -> bytes:
        """The domain separator."""
        return domain_separator("pyiot DepositEscrow", "1", chain_id=self.chain_id, contract=self.contract)

    def terms_id(self, terms: Terms) -> TermsId:
        """Return the terms id: what the owner signs.

        Raises:
            InputError: A field does not fit its Solidity type.
        """
        return TermsId(typed_digest(self.domain, struct_hash(_TERMS, *_terms_words(terms))))

    def digest(self, statement: Statement) -> bytes:
        """Return what the device signs.

        Raises:
            InputError: A field does not fit its Solidity type.
        """
        head = (_word32(statement.terms_id), word(statement.time, bits=40))
        end = _word32(statement.condition)
        if isinstance(statement, CheckOut):
            hashed = struct_hash(_CHECK_OUT, *head, word(statement.units, bits=64), end)
        else:
            hashed = struct_hash(_CHECK_IN, *head, end)
        return typed_digest(self.domain, hashed)

    def sign(self, statement: Statement, signer: Signer) -> SignedStatement:
        """Sign a check-in or check-out with the device's key.

        Raises:
            InputError: A field does not fit its Solidity type.
            SigningError: The signer refuses.
        """
        signature = signer.sign_digest(self.digest(statement))
        return SignedStatement(self.chain_id, self.contract, statement, signer.signer_bytes, signature)

    def is_signed(self, said: SignedStatement) -> bool:
        """Return whether a statement is for this escrow and its signature is the signer's that it names."""
        if (said.chain_id, said.contract) != (self.chain_id, self.contract):
            return False
        return verify_signature(said.signer, self.digest(said.statement), said.signature)


def _terms_words(terms: Terms) -> tuple[bytes, ...]:
    return (
        address_word(terms.owner),
        address_word(terms.token),
        word(terms.fee, bits=96),
        word(terms.rate, bits=96),
        word(terms.meter_cap, bits=96),
        word(terms.deposit, bits=96),
        _word32(terms.device),
        _word32(terms.signer_hash),
        address_word(terms.arbiter),
        word(terms.key_x),
        word(terms.key_y),
        word(terms.start, bits=40),
        word(terms.end, bits=40),
        word(terms.grace, bits=32),
        word(terms.claim_window, bits=32),
        word(terms.reply_window, bits=32),
        word(terms.ruling_window, bits=32),
        _word32(terms.terms),
        word(terms.salt),
    )


def _word32(value: bytes) -> bytes:
    if len(value) != _WORD_BYTES:
        raise InputError(f"a bytes32 has 32 bytes, not {len(value)}")
    return bytes(value)


def _object(text: str | bytes) -> dict[str, Any]:
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if len(data) > _MAX_STATEMENT:
        raise InputError(f"a signed statement has at most {_MAX_STATEMENT} bytes")
    check_depth(data)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("not a signed check-in or check-out: no JSON") from error
    if not isinstance(fields, dict):
        raise InputError("not a signed check-in or check-out: no JSON object")
    return fields


def _raw(value: object, *, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value) or (size is not None and len(value) != 2 + 2 * size):
        raise InputError(f"not hex of {f'at most {_MAX_SIGNER}' if size is None else size} bytes: {value!r:.80}")
    return bytes.fromhex(value[2:])


def _number(value: object, *, bits: int) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise InputError(f"not a uint{bits}: {value!r:.80}")
    return number
