"""What the generated bindings stand on: calls from signatures, results and events from bytes.

Example:
    >>> split_types("mint(address,(uint256,bytes)[],bool)")
    ['address', '(uint256,bytes)[]', 'bool']
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.calls import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyiot_evm.chain.calls import Log
    from pyiot_evm.types import Address

__all__ = ["event_values", "make_call", "split_types"]

T = TypeVar("T")


def make_call(  # noqa: PLR0917 - generated code calls it
    address: Address,
    contract: str,
    signature: str,
    arguments: Mapping[str, Any],
    outputs: Sequence[str],
    build: Callable[[tuple[Any, ...]], T],
    value: int = 0,
) -> Call[T]:
    """Make an unsent call.

    Args:
        address: The contract.
        contract: Its name.
        signature: The function's signature.
        arguments: The arguments by name, in order; structs are dataclasses with ``to_abi``.
        outputs: The ABI types of the result.
        build: Turns the decoded result into what the function returns.
        value: Wei to send along.

    Raises:
        InputError: An argument does not fit its type.
    """
    data = selector(signature) + encode(_types(signature), [_plain(argument) for argument in arguments.values()])
    return Call(
        to=address,
        data=data,
        function=signature,
        decode=lambda answer: build(decode(outputs, answer)),
        value=value,
        contract=contract,
        arguments=arguments,
    )


def event_values(log: Log, indexed: Sequence[str], plain: Sequence[str]) -> tuple[list[Any], tuple[Any, ...]]:
    """Decode a log: the indexed values and the others, each in their order.

    An indexed value of dynamic type is only there as its hash.

    Raises:
        ConsistencyError: The log is not of these types.
    """
    topics = log.topics[1:]
    values = [decode([kind], topic)[0] for kind, topic in zip(indexed, topics, strict=True)]
    return values, decode(plain, log.data)


def split_types(signature: str) -> list[str]:
    """Return the parameter types in a signature; tuples stay whole."""
    types, depth, start = [], 0, signature.index("(") + 1
    inner = signature[start:-1]
    word = 0
    for position, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            types.append(inner[word:position])
            word = position + 1
    return [*types, inner[word:]] if inner else []


@cache
def _types(signature: str) -> tuple[str, ...]:
    return tuple(split_types(signature))


def _plain(value: Any) -> Any:
    """Turn dataclasses into the tuples that the codec takes."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.to_abi() if hasattr(value, "to_abi") else value
