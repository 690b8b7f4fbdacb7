"""pyiot_evm: keys, a wallet and a market for machines, on any EVM chain.

Names load when they are first used, so that ``import pyiot_evm`` is quick and a device loads only what it needs.

Example:
    >>> import pyiot_evm
    >>> "Machine" in pyiot_evm.__all__
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain, Devnet, connect, deploy_suite
    from pyiot_evm.device import Field, LocalSigner, Reading, ReadingJournal, Schema
    from pyiot_evm.exceptions import ContractError, InputError, PyIotEvmError, VerificationError
    from pyiot_evm.home import Home
    from pyiot_evm.machine import Machine
    from pyiot_evm.market.facade import Market
    from pyiot_evm.market.metadata import Licence
    from pyiot_evm.market.purchases import Purchase
    from pyiot_evm.market.results import Listing, SaleDisputedError, SaleRefundedError

__all__ = [
    "Chain",
    "ContractError",
    "Devnet",
    "Field",
    "Home",
    "InputError",
    "Licence",
    "Listing",
    "LocalSigner",
    "Machine",
    "Market",
    "Purchase",
    "PyIotEvmError",
    "Reading",
    "ReadingJournal",
    "SaleDisputedError",
    "SaleRefundedError",
    "Schema",
    "VerificationError",
    "connect",
    "deploy_suite",
]

_MODULES = {
    "chain": ("Chain", "Devnet", "connect", "deploy_suite"),
    "device": ("Field", "LocalSigner", "Reading", "ReadingJournal", "Schema"),
    "exceptions": ("ContractError", "InputError", "PyIotEvmError", "VerificationError"),
    "home": ("Home",),
    "machine": ("Machine",),
    "market.facade": ("Market",),
    "market.metadata": ("Licence",),
    "market.purchases": ("Purchase",),
    "market.results": ("Listing", "SaleDisputedError", "SaleRefundedError"),
}
_HOME_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
