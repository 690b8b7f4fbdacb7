"""How a machine acts: the policies that :meth:`pyiot_evm.machine.Machine.open` takes, each by its name.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> from pyiot_evm.payment.payer import PayerPolicy
    >>> with Devnet() as chain:
    ...     planner = Machine.create(chain, "planner", paying=PayerPolicy(deposit_factor=100))
    ...     planner.payments.paying.deposit_factor
    100
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiot_evm.escrow.policies import ArbiterPolicy, OwnerPolicy, RenterPolicy
    from pyiot_evm.market.buyer import BuyerPolicy
    from pyiot_evm.market.fetch import FetchPolicy
    from pyiot_evm.market.seller import SellerPolicy
    from pyiot_evm.payment.payee_book import PayeePolicy
    from pyiot_evm.payment.payer import PayerPolicy

__all__ = ["Policies", "check_policies"]


class Policies(TypedDict, total=False):
    """How a machine acts; what is left out is each class's own.

    Attributes:
        buying: How it pays and waits at the market.
        selling: How it answers orders.
        fetching: What it may fetch from the addresses in listings; see :class:`pyiot_evm.market.facade.Market`.
        progress: Told now and then what is being done, how many leaves of it are done, and how many there are.
        paying: How it fills its channels.
        receiving: What it takes through channels.
        owning: How it acts as the owner of what it rents out.
        renting: What it agrees to as a renter, and how it acts.
        arbitrating: How it rules as an arbiter.
    """

    buying: BuyerPolicy | None
    selling: SellerPolicy | None
    fetching: FetchPolicy | None
    progress: Callable[[str, int, int], None] | None
    paying: PayerPolicy | None
    receiving: PayeePolicy | None
    owning: OwnerPolicy | None
    renting: RenterPolicy | None
    arbitrating: ArbiterPolicy | None


def check_policies(policies: Policies) -> None:
    """See that there are no other policies.

    Raises:
        TypeError: There is one that no machine has.
    """
    if unknown := policies.keys() - Policies.__annotations__.keys():
        raise TypeError(f"a machine has no policy {min(unknown)!r}, only {', '.join(Policies.__annotations__)}")
