"""The chain layer: nodes, transactions, logs, deployment. The only place that knows web3.

Names load when they are first used, so that a part can be imported without the whole.

Example:
    >>> from pyiot_evm.chain import Call, connect
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiot_evm.chain.background import DevnetStatus, devnet_status, reset_devnet, start_devnet, stop_devnet
    from pyiot_evm.chain.calls import Call, Log, Receipt, Simulation, TokenInfo
    from pyiot_evm.chain.connection import Chain, connect
    from pyiot_evm.chain.deployment import Addresses, deploy_suite, plan
    from pyiot_evm.chain.devnet import Devnet
    from pyiot_evm.chain.fees import FeePolicy
    from pyiot_evm.chain.logs import LogChange, LogFollower
    from pyiot_evm.chain.transactions import Account, Pending

__all__ = [
    "Account",
    "Addresses",
    "Call",
    "Chain",
    "Devnet",
    "DevnetStatus",
    "FeePolicy",
    "Log",
    "LogChange",
    "LogFollower",
    "Pending",
    "Receipt",
    "Simulation",
    "TokenInfo",
    "connect",
    "deploy_suite",
    "devnet_status",
    "plan",
    "reset_devnet",
    "start_devnet",
    "stop_devnet",
]

_MODULES = {
    "background": ("DevnetStatus", "devnet_status", "reset_devnet", "start_devnet", "stop_devnet"),
    "calls": ("Call", "Log", "Receipt", "Simulation", "TokenInfo"),
    "connection": ("Chain", "connect"),
    "deployment": ("Addresses", "deploy_suite", "plan"),
    "devnet": ("Devnet",),
    "fees": ("FeePolicy",),
    "logs": ("LogChange", "LogFollower"),
    "transactions": ("Account", "Pending"),
}
_HOME_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
