"""Calls that one account signs and another one sends: how a machine without ether acts.

Every contract of the suite takes ``SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)`` as EIP-712
typed data in its own domain. Nonces are random and unordered. Whoever signs has the decoded call before it, never a
bare hash, and may refuse it by a policy.

A reveal carries a secret in its calldata: hand such a request only to a relayer that you trust (the design's README).

Example:
    >>> from pyiot_evm.chain.calls import Call
    >>> from pyiot_evm.device import LocalSigner
    >>> ping = Call(to=Address("0x" + "11" * 20), data=bytes(4), function="ping()", decode=bytes)
    >>> domain = domain_separator("pyiot DataMarket", "1", chain_id=1, contract=ping.to)
    >>> request = sign_call(ping, signer=LocalSigner.create(), domain=domain, deadline=2_000_000_000)
    >>> RelayRequest.decode(request.encode()) == request, request.call.call == ping.data
    (True, True)
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from pyiot_evm.contracts.shared import SignedCall
from pyiot_evm.device.schema import check_depth
from pyiot_evm.device.typed import (
    address_word,
    bytes_word,
    domain_separator,
    struct_hash,
    type_hash,
    typed_digest,
    word,
)
from pyiot_evm.exceptions import InputError, SigningError
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.chain.calls import Call
    from pyiot_evm.device import Signer

__all__ = ["RelayRequest", "RelayedContract", "carry", "contract_domain", "sign_call", "signed_call_digest"]

_TYPE_HASH: Final = type_hash("SignedCall(address sender,bytes call,uint256 nonce,uint40 deadline)")
_MAX_REQUEST: Final = 256 * 1024


class RelayedContract(Protocol):
    """The binding of a contract whose calls can be relayed."""

    @property
    def address(self) -> Address:
        """Where it lies."""

    def relay(self, request: SignedCall, signature: bytes) -> Call[bytes]:
        """Return the call that carries a signed call."""


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """A signed call on its way to whoever sends it.

    Args:
        contract: The contract that it is for.
        call: The signed struct.
        signature: The sender's.
    """

    contract: Address
    call: SignedCall
    signature: bytes

    def encode(self) -> str:
        """Return the request as JSON, to hand to a relayer."""
        fields = {
            "contract": str(self.contract),
            "sender": str(self.call.sender),
            "call": "0x" + self.call.call.hex(),
            "nonce": str(self.call.nonce),
            "deadline": self.call.deadline,
            "signature": "0x" + self.signature.hex(),
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a request that somebody handed in.

        Raises:
            InputError: Not a request.
        """
        if len(text) > _MAX_REQUEST:
            raise InputError(f"a relay request has at most {_MAX_REQUEST} characters, not {len(text)}")
        check_depth(text.encode(errors="replace"))
        try:
            fields: dict[str, Any] = json.loads(text)
            call = SignedCall(
                sender=Address(fields["sender"]),
                call=_raw(fields["call"]),
                nonce=int(fields["nonce"]),
                deadline=int(fields["deadline"]),
            )
            return cls(Address(fields["contract"]), call, _raw(fields["signature"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("not a relay request") from error


def contract_domain(name: str, *, chain_id: int, contract: bytes) -> bytes:
    """Return the EIP-712 domain separator of a contract of the suite, e.g. ``"pyiot DataMarket"``, version 1."""
    return domain_separator(name, "1", chain_id=chain_id, contract=contract)


def signed_call_digest(call: SignedCall, *, domain: bytes) -> bytes:
    """Return the digest that the sender of a call signs.

    Args:
        call: The struct.
        domain: The contract's domain separator.

    Raises:
        InputError: A number does not fit its field.
    """
    words = (address_word(call.sender), bytes_word(call.call), word(call.nonce), word(call.deadline, bits=40))
    return typed_digest(domain, struct_hash(_TYPE_HASH, *words))


def sign_call(
    call: Call[Any],
    *,
    signer: Signer,
    domain: bytes,
    deadline: int,
    nonce: int | None = None,
    sender: Address | None = None,
    policy: Callable[[Call[Any]], None] | None = None,
) -> RelayRequest:
    """Sign a call, so that anyone can send it in the signer's name, once, before the deadline.

    Args:
        call: An unsent call of a binding; it shows what is signed.
        signer: The account that acts (secp256k1).
        domain: The domain separator of ``call.to``, of :func:`contract_domain`.
        deadline: Unix seconds; good before it.
        nonce: Random when left out.
        sender: The account of several keys that acts, where the signer is one of them; the signer's own when left out.
        policy: Looks at the call and raises SigningError to refuse it.

    Raises:
        InputError: The call sends ether along, which cannot be relayed, or a number does not fit.
        SigningError: The signer has no account, or the policy or the signer refuses.
    """
    if signer.curve != "secp256k1" and sender is None:
        raise SigningError("only an account key signs calls", hint="use a secp256k1 key")
    if call.value:
        raise InputError("a call that sends ether along cannot be relayed")
    if policy is not None:
        policy(call)
    struct = SignedCall(
        sender=sender or Address(signer.signer_bytes),
        call=call.data,
        nonce=secrets.randbits(256) if nonce is None else nonce,
        deadline=deadline,
    )
    signature = signer.sign_digest(signed_call_digest(struct, domain=domain))
    return RelayRequest(call.to, struct, signature)


def carry(request: RelayRequest, contract: RelayedContract) -> Call[bytes]:
    """Return the call that a relayer sends for a request.

    Raises:
        InputError: The request is for another contract.
    """
    if request.contract != contract.address:
        raise InputError(f"the request is for {request.contract}, not for {contract.address}")
    return contract.relay(request.call, request.signature)


def _raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
