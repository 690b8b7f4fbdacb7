"""The rows of the transaction journal.

Example:
    >>> from pyiot_evm.types import Address
    >>> target = Address("0x" + "11" * 20)
    >>> Intent(target, b"", 0, 21000, "pay", "rent:2026-11").key
    'rent:2026-11'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pyiot_evm.chain.fees import FeeOffer
    from pyiot_evm.types import Address, Bytes32, TransactionHash

__all__ = ["Attempt", "Entry", "Intent", "Outcome", "State", "check_same_intent"]

State = Literal["reserved", "signed", "mined", "cancelled"]


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants to have sent.

    Attributes:
        key: The idempotency key: an account sends one transaction for it, ever.
    """

    to: Address
    data: bytes
    value: int
    gas: int
    function: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: an intent, its nonce and what became of it."""

    id: int
    address: Address
    nonce: int
    key: str | None
    to: Address
    data: bytes
    value: int
    gas: int
    function: str
    offer: FeeOffer
    state: State
    updated: float
    hash: TransactionHash | None
    status: int | None
    block_number: int | None
    block_hash: Bytes32 | None
    error: bytes | None

    @property
    def is_live(self) -> bool:
        """Whether it still waits to be mined."""
        return self.state in {"reserved", "signed"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed form of a row; a later one replaces an earlier one by higher fees."""

    entry_id: int
    hash: TransactionHash
    raw: bytes
    offer: FeeOffer
    cancels: bool
    created: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row ended."""

    hash: TransactionHash
    status: int
    block_number: int
    block_hash: Bytes32
    error: bytes | None = None


def check_same_intent(entry: Entry, intent: Intent) -> None:
    """Raise when a key is used again for something else.

    Raises:
        InputError: The key's row has another target, calldata or value.
    """
    if (entry.to, entry.data, entry.value) != (intent.to, intent.data, intent.value):
        raise InputError(
            f"the key {entry.key!r} belongs to another transaction ({entry.function} at nonce {entry.nonce})",
            hint="use one key for one intention; a further attempt needs a key of its own",
        )
