"""What a transaction offers for gas (EIP-1559), and how far it may go when it is stuck.

Example:
    >>> quote = FeeQuote(base_fee=1_000_000_000, tip=1_000_000_000)
    >>> FeePolicy().first_offer(quote)
    FeeOffer(max_fee=3000000000, tip=1000000000)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyiot_evm.chain.calls import to_int
from pyiot_evm.chain.rpc import Request, RpcError
from pyiot_evm.exceptions import TransactionError, TransportError

__all__ = ["FEE_REQUESTS", "FeeOffer", "FeePolicy", "FeeQuote"]

GWEI: Final = 10**9

FEE_REQUESTS: Final[tuple[Request, ...]] = (
    ("eth_getBlockByNumber", ["latest", False]),
    ("eth_maxPriorityFeePerGas", []),
)
"""The two requests whose answers :meth:`FeeQuote.from_rpc` reads."""


@dataclass(frozen=True, slots=True)
class FeeQuote:
    """What the chain asks now, in wei a unit of gas."""

    base_fee: int
    tip: int

    @classmethod
    def from_rpc(cls, block: Mapping[str, Any] | RpcError, tip: str | RpcError) -> FeeQuote:
        """Read the answers to :data:`FEE_REQUESTS`; a node without the second gets 1 gwei."""
        if isinstance(block, RpcError):
            raise block
        if not isinstance(block, Mapping):
            raise TransportError("the node has no latest block")
        if "baseFeePerGas" not in block:
            raise TransactionError("this chain has no base fee (EIP-1559); such chains are not supported")
        return cls(to_int(block["baseFeePerGas"]), GWEI if isinstance(tip, RpcError) else to_int(tip))

    @property
    def per_gas(self) -> int:
        """What a unit of gas would cost in the next block."""
        return self.base_fee + self.tip


@dataclass(frozen=True, slots=True)
class FeeOffer:
    """What one signed attempt offers, in wei a unit of gas."""

    max_fee: int
    tip: int


@dataclass(frozen=True, slots=True)
class FeePolicy:
    """How much a key's transactions may offer.

    Attributes:
        max_fee_per_gas: The cap: no attempt offers more, in wei a unit of gas.
        bump_percent: By how much a replacement raises both fees; nodes ask for at least 10.
        stuck_after: Seconds without being mined before a transaction is replaced; ``None`` takes the chain's own
            (3 on a devnet, 45 elsewhere).
        gas_margin_percent: Gas limit above the estimate.
    """

    max_fee_per_gas: int = 500 * GWEI
    bump_percent: int = 15
    stuck_after: float | None = None
    gas_margin_percent: int = 20

    def first_offer(self, quote: FeeQuote) -> FeeOffer:
        """Return the first attempt's fees: twice the base fee (six full blocks of rises) and the tip, within the cap.

        Raises:
            TransactionError: Even the base fee is above the cap.
        """
        if quote.per_gas > self.max_fee_per_gas:
            raise TransactionError(
                f"the chain asks {quote.per_gas} wei for a unit of gas, the cap is {self.max_fee_per_gas}",
                hint="wait until it is cheaper, or raise FeePolicy.max_fee_per_gas",
                retryable=True,
            )
        return FeeOffer(min(2 * quote.base_fee + quote.tip, self.max_fee_per_gas), quote.tip)

    def replacement(self, last: FeeOffer, quote: FeeQuote) -> FeeOffer | None:
        """Return the fees of a replacement, or ``None`` where the cap leaves no room for one that nodes accept."""
        least_fee, least_tip = self._raised(last.max_fee), self._raised(last.tip)
        if least_fee > self.max_fee_per_gas:
            return None
        tip = max(least_tip, quote.tip)
        fee = min(max(least_fee, 2 * quote.base_fee + tip), self.max_fee_per_gas)
        return FeeOffer(fee, min(tip, fee))

    def gas_limit(self, estimate: int) -> int:
        """Return the gas limit for an estimate."""
        return estimate + estimate * self.gas_margin_percent // 100

    def _raised(self, fee: int) -> int:
        return fee + max(-(-fee * self.bump_percent // 100), 1)  # rounded up: nodes compare exactly
