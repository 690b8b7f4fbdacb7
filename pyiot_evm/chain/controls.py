"""What only a devnet can do: make money, mine, move time, go back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pyiot_evm.chain.abi import encode, selector
from pyiot_evm.chain.calls import to_hex, to_int
from pyiot_evm.exceptions import ConfigurationError, TransactionError
from pyiot_evm.types import Address, to_units

if TYPE_CHECKING:
    from decimal import Decimal

    from pyiot_evm.chain.deployment import Addresses
    from pyiot_evm.chain.transaction_journal import TransactionJournal

__all__ = ["DevnetControls"]

_DOLLAR_DECIMALS = 6
_ETHER_DECIMALS = 18
_LOOK_BACK = 64


@runtime_checkable
class _HasAddress(Protocol):
    @property
    def address(self) -> Address: ...


class DevnetControls:
    """The part of a chain that a devnet alone has; everywhere else each of these is a ConfigurationError."""

    is_devnet: bool
    network: str
    client: str
    addresses: Addresses
    journal: TransactionJournal

    def rpc(self, method: str, *params: Any) -> Any:
        """Send one JSON-RPC request."""
        raise NotImplementedError

    def wait_for_receipt(self, transaction: str, *, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until a transaction is mined."""
        raise NotImplementedError

    def fund(
        self,
        target: Address | _HasAddress,
        *,
        ether: str | Decimal | int = 0,
        dollars: str | Decimal | int = 0,
    ) -> None:
        """Give an account ether and dev dollars, in whole units (``"0.5"``)."""
        self._need_devnet("fund an account")
        address = target.address if isinstance(target, _HasAddress) else target
        wei = to_units(ether, decimals=_ETHER_DECIMALS)
        units = to_units(dollars, decimals=_DOLLAR_DECIMALS)
        if wei:
            balance = to_int(self.rpc("eth_getBalance", str(address), "latest"))
            self.rpc(f"{self._dialect}_setBalance", str(address), to_hex(balance + wei))
        if units:
            data = selector("mint(address,uint256)") + encode(["address", "uint256"], [address, units])
            self._send_unlocked(self.addresses.dev_dollar, data)

    def mine(self, blocks: int = 1) -> None:
        """Mine some blocks at once."""
        self._need_devnet("mine a block")
        self.rpc(f"{self._dialect}_mine", to_hex(blocks))

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward, mine a block, and return its time (Unix seconds)."""
        self._need_devnet("move time")
        self.rpc("evm_increaseTime", to_hex(seconds))
        self.rpc("evm_mine")
        return self._time_of("latest")

    def resume_time(self) -> None:
        """Let the clock go on from the latest block after a restart: Anvil forgets that it was moved, and goes back."""
        self._need_devnet("move time")
        height = to_int(self.rpc("eth_blockNumber"))
        times = [self._time_of(to_hex(number)) for number in range(max(height - _LOOK_BACK, 0), height + 1)]
        ahead = max(times) - int(time.time())
        if ahead > 0:
            self.rpc("evm_increaseTime", to_hex(ahead))
            if times[-1] < max(times):  # mined on an interval, before this
                self.rpc("evm_mine")

    def set_code(self, address: Address, code: bytes) -> None:
        """Put code at an address, whatever is there."""
        self._need_devnet("write code")
        self.rpc(f"{self._dialect}_setCode", str(address), to_hex(code))

    def set_automine(self, enabled: bool) -> None:
        """Switch between a block for each transaction and blocks only when :meth:`mine` is called."""
        self._need_devnet("choose when to mine")
        self.rpc("evm_setAutomine", enabled)

    def snapshot(self) -> str:
        """Remember the present state; return its id for :meth:`revert`."""
        self._need_devnet("take a snapshot")
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot; transactions that came after it are forgotten, their idempotency keys too."""
        self._need_devnet("go back to a snapshot")
        if not self.rpc("evm_revert", snapshot):
            raise ConfigurationError(f"there is no snapshot {snapshot}", hint="a snapshot can be used once")
        self.journal.forget_undone(lambda address: to_int(self.rpc("eth_getTransactionCount", str(address), "latest")))

    def _time_of(self, block: str) -> int:
        return to_int(self.rpc("eth_getBlockByNumber", block, False)["timestamp"])  # noqa: FBT003 - JSON-RPC has no names

    @property
    def _dialect(self) -> str:
        return "hardhat" if self.client.lower().startswith("hardhat") else "anvil"

    def _need_devnet(self, act: str) -> None:
        if not self.is_devnet:
            raise ConfigurationError(
                f"network {self.network} is no devnet: it is not possible to {act} there",
                hint="start one with Devnet() or `pyiot devnet up`",
            )

    def _send_unlocked(self, to: Address, data: bytes) -> None:
        """Send from the node's own first account, whose key the node holds."""
        sender = self.rpc("eth_accounts")[0]
        transaction = self.rpc("eth_sendTransaction", {"from": sender, "to": str(to), "data": to_hex(data)})
        if to_int(self.wait_for_receipt(transaction)["status"]) != 1:
            raise TransactionError(f"the devnet's own transaction {transaction} reverted")
