"""Reverts as typed errors: what a contract answered when it refused.

Example:
    >>> error = decode_revert(bytes.fromhex("4e487b71") + (0x12).to_bytes(32, "big"))
    >>> str(error)
    'the contract panicked: division by zero (0x12)'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyiot_evm.chain.abi import decode
from pyiot_evm.exceptions import ConsistencyError, ContractError, PyIotEvmError, TransactionError

if TYPE_CHECKING:
    from pyiot_evm.chain.rpc import RpcError

__all__ = ["decode_revert", "error_of"]

_ERROR_STRING: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")
_PANICS: Final = {
    0x01: "an assertion does not hold",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "no such enum value",
    0x22: "a storage array is badly encoded",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "too much memory",
    0x51: "a function pointer is zero",
}
_REVERT_WORDS: Final = ("revert", "vm exception", "invalid opcode", "out of gas", "outofgas", "stack", "execution")
_FUNDS_WORDS: Final = (
    "insufficient funds",
    "insufficient balance",
    "doesn't have enough funds",
    "does not have enough",
)


def decode_revert(data: bytes, *, reason: str = "") -> ContractError:
    """Return the typed error for a revert's data.

    Args:
        data: What the contract answered: a custom error of the suite, ``Error(string)``, ``Panic(uint256)``, or else.
        reason: The node's own words, for when the data says nothing.
    """
    from pyiot_evm.chain.contract_errors import ERRORS  # noqa: PLC0415 - only where a call fails

    head, body = data[:4], data[4:]
    try:
        if head == _ERROR_STRING:
            return ContractError(f"the contract refused: {decode(['string'], body)[0]}")
        if head == _PANIC:
            number = decode(["uint256"], body)[0]
            return ContractError(f"the contract panicked: {_PANICS.get(number, 'unknown panic')} (0x{number:02x})")
        if head in ERRORS:
            return ERRORS[head].from_abi(body)
    except (ConsistencyError, ValueError):
        pass  # a stranger's contract can answer anything; what cannot be read is shown as it is
    if data:
        return ContractError(f"the contract refused with an unknown error: 0x{data[:256].hex()}")
    return ContractError(f"the contract refused without a reason{': ' + reason if reason else ''}")


def error_of(failure: RpcError) -> PyIotEvmError:
    """Turn a node's refusal of a call or an estimate into the error that a caller wants to see."""
    data = failure.revert_data
    if data:
        return decode_revert(data)
    words = failure.rpc_message.lower()
    if any(text in words for text in _FUNDS_WORDS):
        return TransactionError(
            f"the account cannot pay: {failure.rpc_message}",
            hint="send ether to it, or let a relayer carry the call",
            retryable=True,
        )
    if any(text in words for text in _REVERT_WORDS):
        return decode_revert(b"", reason=failure.rpc_message)
    return failure
