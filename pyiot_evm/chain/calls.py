"""What goes to a chain and what comes back: unsent calls, logs, receipts.

A binding's method returns a :class:`Call`; nothing is sent until a chain or an account is given it. So the same object
can be simulated, priced, printed, batched, relayed or sent.

Example:
    >>> ping = Call(to=Address("0x" + "11" * 20), data=b"", function="ping()", decode=bytes)
    >>> ping.describe()["function"], ping.value
    ('ping()', 0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from pyiot_evm.types import Address, Bytes32, TransactionHash, from_units, to_units

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["Call", "Event", "Log", "Receipt", "Simulation", "TokenInfo", "to_hex", "to_int"]

T = TypeVar("T")
E = TypeVar("E", bound="Event")


def to_hex(value: int | bytes) -> str:
    """Write a quantity (no leading zeros) or data as JSON-RPC wants it."""
    return hex(value) if isinstance(value, int) else "0x" + value.hex()


def to_int(value: str | int | None) -> int:
    """Read a JSON-RPC quantity; a missing one is 0."""
    if value is None:
        return 0
    return value if isinstance(value, int) else int(value, 16)


def _data(value: str | None) -> bytes:
    return bytes.fromhex(value[2:]) if value else b""


def _plain(value: Any) -> Any:
    """Turn an argument into something that JSON can carry; numbers beyond 53 bits become text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    if isinstance(value, bytes) and not isinstance(value, Address):
        return "0x" + value.hex()
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call of a contract function that has not been sent.

    Attributes:
        to: The contract.
        data: The calldata.
        function: The function's signature, e.g. ``mint(address,uint256)``.
        decode: Turns the answer's bytes into the function's result.
        value: Ether to send along, in wei.
        contract: The contract's name, for people.
        arguments: The arguments by name, for people.
    """

    to: Address
    data: bytes
    function: str
    decode: Callable[[bytes], T] = field(repr=False, compare=False)
    value: int = 0
    contract: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return what this call would do, in values that JSON can carry (``--dry-run`` prints it)."""
        return {
            "contract": self.contract,
            "to": str(self.to),
            "function": self.function,
            "arguments": _plain(self.arguments),
            "value": str(self.value),
            "data": to_hex(self.data),
        }


@dataclass(frozen=True, slots=True)
class Log:
    """One log entry as the chain keeps it."""

    address: Address
    topics: tuple[Bytes32, ...]
    data: bytes
    block_number: int
    block_hash: Bytes32
    transaction_hash: TransactionHash
    transaction_index: int
    log_index: int

    @property
    def key(self) -> tuple[Bytes32, TransactionHash, int]:
        """What makes this entry unique on its chain: block hash, transaction, log index."""
        return self.block_hash, self.transaction_hash, self.log_index

    @classmethod
    def from_rpc(cls, item: Mapping[str, Any]) -> Self:
        """Read a log object of JSON-RPC."""
        return cls(
            address=Address(item["address"]),
            topics=tuple(Bytes32(topic) for topic in item["topics"]),
            data=_data(item["data"]),
            block_number=to_int(item["blockNumber"]),
            block_hash=Bytes32(item["blockHash"]),
            transaction_hash=TransactionHash(item["transactionHash"]),
            transaction_index=to_int(item["transactionIndex"]),
            log_index=to_int(item["logIndex"]),
        )


class Event(Protocol):
    """What a generated event class offers."""

    TOPIC: ClassVar[Bytes32]
    """keccak256 of the event's signature."""
    TOPIC_COUNT: ClassVar[int]
    """The signature's topic and the indexed fields: twin events that index differently are not mixed up."""

    @classmethod
    def from_log(cls, log: Log) -> Self:
        """Decode one log entry."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction.

    Attributes:
        status: 1 when it went through, 0 when it reverted.
        effective_gas_price: Wei paid for one unit of gas.
    """

    hash: TransactionHash
    block_number: int
    block_hash: Bytes32
    status: int
    gas_used: int
    effective_gas_price: int
    sender: Address
    to: Address | None
    logs: tuple[Log, ...] = field(default=(), repr=False)

    @property
    def cost(self) -> int:
        """What the sender paid for gas, in wei."""
        return self.gas_used * self.effective_gas_price

    def events(self, kind: type[E], *, address: Address | None = None) -> list[E]:
        """Return this transaction's events of one kind, in their order.

        Args:
            kind: A generated event class.
            address: Only those of this contract. Leave it out only where any contract will do: a stranger's contract
                can emit an event that looks the same.
        """
        return [
            kind.from_log(log)
            for log in self.logs
            if len(log.topics) == kind.TOPIC_COUNT
            and log.topics[0] == kind.TOPIC
            and (address is None or log.address == address)
        ]

    @classmethod
    def from_rpc(cls, item: Mapping[str, Any]) -> Self:
        """Read a receipt object of JSON-RPC."""
        return cls(
            hash=TransactionHash(item["transactionHash"]),
            block_number=to_int(item["blockNumber"]),
            block_hash=Bytes32(item["blockHash"]),
            status=to_int(item["status"]),
            gas_used=to_int(item["gasUsed"]),
            effective_gas_price=to_int(item.get("effectiveGasPrice")),
            sender=Address(item["from"]),
            to=Address(item["to"]) if item.get("to") else None,
            logs=tuple(Log.from_rpc(log) for log in item.get("logs", ())),
        )


@dataclass(frozen=True, slots=True)
class Simulation(Generic[T]):
    """What a call would return and cost, found out without sending it.

    Attributes:
        value: The decoded result.
        gas: The gas that it needs now.
        fee_per_gas: Wei for a unit of gas in the next block, tip included.
    """

    value: T
    gas: int
    fee_per_gas: int

    @property
    def cost(self) -> int:
        """Gas times fee, in wei."""
        return self.gas * self.fee_per_gas


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """An ERC-20 token's facts that a price needs."""

    address: Address
    symbol: str
    decimals: int

    def to_units(self, amount: str | Decimal | int) -> int:
        """Turn whole tokens into base units, exactly."""
        return to_units(amount, decimals=self.decimals)

    def from_units(self, units: int) -> Decimal:
        """Turn base units into whole tokens, exactly."""
        return from_units(units, decimals=self.decimals)
