"""Where channels are: x402's scheme at the address that its clients know, the suite's additions where its code stands.

On a devnet that is one contract. On a public chain x402's own deployment stands at the fixed address: it has the scheme
and nothing else, so the vault, `claimAvailable` and locked vouchers are at the suite's own address.

Example:
    >>> from pyiot_evm import Devnet
    >>> with Devnet() as chain:
    ...     scheme_place(chain) == additions_place(chain), is_ours(chain, scheme_place(chain).channels)
    (True, True)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.deployment import X402_CHANNELS, X402_COLLECTOR

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.types import Address

__all__ = ["Place", "additions_place", "is_ours", "scheme_place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A contract that holds channels, and the collector that takes ERC-3009 authorizations for it."""

    channels: Address
    collector: Address


def is_ours(chain: Chain, contract: Address) -> bool:
    """Whether this suite's channels stand at an address: x402's own lack what the suite adds."""
    return load_artifact("PaymentChannels").matches(chain.code_at(contract))


def scheme_place(chain: Chain) -> Place:
    """Return where x402's clients pay: its fixed address where there is code, else the suite's own.

    Raises:
        ConfigurationError: There is no code there, and the suite is not deployed either.
    """
    if chain.code_at(X402_CHANNELS):
        return Place(X402_CHANNELS, X402_COLLECTOR)
    return Place(chain.addresses.payment_channels, chain.addresses.deposit_collector)


def additions_place(chain: Chain) -> Place:
    """Return where the vault, `fund`, `claimAvailable` and `claimLocked` are.

    Raises:
        ConfigurationError: The suite is not deployed on this chain.
    """
    if is_ours(chain, X402_CHANNELS):
        return Place(X402_CHANNELS, X402_COLLECTOR)
    return Place(chain.addresses.payment_channels, chain.addresses.deposit_collector)
