"""The escrow's calls whose caller counts: what one account may sign for another one to send, read back from calldata.

Example:
    >>> from pyiot_evm.contracts.deposit_escrow import DepositEscrow
    >>> escrow = DepositEscrow(Address("0x" + "11" * 20))
    >>> decode_act(escrow.cancel_nonce(7).data)
    DecodedAct(function='cancelNonce', rental=None, values={'nonce': 7})
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.contracts.shared import Rental
from pyiot_evm.exceptions import ConsistencyError, VerificationError
from pyiot_evm.types import Address, Bytes32

__all__ = ["DecodedAct", "decode_act"]

_RENTAL: Final = ("rental", Rental.ABI)
_ACTS: Final = {
    "handOver": (_RENTAL, ("released_key", "uint256")),
    "refund": (_RENTAL,),
    "claim": (_RENTAL, ("amount", "uint96"), ("evidence", "bytes32")),
    "waive": (_RENTAL,),
    "accept": (_RENTAL,),
    "reject": (_RENTAL,),
    "rule": (_RENTAL, ("award", "uint96")),
    "withdraw": (("token", "address"), ("amount", "uint256"), ("to", "address")),
    "cancelNonce": (("nonce", "uint256"),),
}
"""The escrow's calls whose caller counts; everything else anybody may send, and needs no signature."""


@dataclass(frozen=True, slots=True)
class DecodedAct:
    """What a signed call does.

    Attributes:
        function: The escrow's function.
        rental: The rental that it is about, where it is about one.
        values: The other arguments by name.
    """

    function: str
    rental: Rental | None
    values: dict[str, Any]


def decode_act(data: bytes) -> DecodedAct:
    """Read what a call of the escrow does.

    Raises:
        VerificationError: It is no act that anybody signs, or is not written as the ABI says.
    """
    for name, arguments in _ACTS.items():
        kinds = [kind for _, kind in arguments]
        if data[:4] != selector(f"{name}({','.join(kinds)})"):
            continue
        try:
            values = decode(kinds, data[4:])
        except ConsistencyError as error:
            raise VerificationError(f"the signed call of {name} cannot be read") from error
        if encode(kinds, values) != data[4:]:
            raise VerificationError(f"the signed call of {name} is not written as the ABI says")
        named = {argument: _typed(kind, value) for (argument, kind), value in zip(arguments, values, strict=True)}
        return DecodedAct(name, named.pop("rental", None), named)
    raise VerificationError(f"0x{data[:4].hex()} is no call of a rental that is signed for somebody else to carry")


def _typed(kind: str, value: Any) -> Any:
    if kind == Rental.ABI:
        return Rental.from_abi(value)
    if kind == "address":
        return Address(value)
    return Bytes32(value) if kind == "bytes32" else value
