"""A chain: one node, its network, the suite's addresses, calls and accounts.

Example:
    >>> from pyiot_evm.chain import Devnet
    >>> with Devnet() as chain:
    ...     chain.is_devnet, chain.block_number() > 0
    (True, True)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from pyiot_evm.chain.abi import decode, selector
from pyiot_evm.chain.calls import Call, Log, Simulation, TokenInfo, to_hex, to_int
from pyiot_evm.chain.controls import DevnetControls
from pyiot_evm.chain.deployment import check_suite
from pyiot_evm.chain.fees import FEE_REQUESTS, FeePolicy, FeeQuote
from pyiot_evm.chain.reverts import error_of
from pyiot_evm.chain.rpc import Request, RpcClient, RpcError
from pyiot_evm.chain.transaction_journal import TransactionJournal
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, ContractError, TransactionError, TransportError
from pyiot_evm.home import Home
from pyiot_evm.types import Address, Bytes32

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from web3 import Web3

    from pyiot_evm.chain.deployment import Addresses
    from pyiot_evm.chain.transactions import Account
    from pyiot_evm.device import Signer

__all__ = ["Chain", "Topics", "connect"]

T = TypeVar("T")
Topics = Sequence[bytes | Sequence[bytes] | None]
"""A log filter: for each position one topic, several (any of them) or ``None`` (whatever)."""

_DEVNET_CLIENTS: Final = ("anvil", "hardhat")
_DEVNET_IDS: Final = frozenset({1337, 31337})
_SAFE_CONFIRMATIONS: Final = 12
_LOG_SPAN: Final = 10_000


class Chain(DevnetControls):
    """One network through one node. Safe to share among threads; make it with :func:`connect` or ``Devnet``.

    Attributes:
        url: The node's address.
        chain_id: EIP-155's.
        genesis: The hash of block 0; with the chain id it tells two devnets apart.
        network: ``<chain id>-<first 8 digits of genesis>``, the name of this network's folder in the home.
        client: What the node calls itself.
        is_devnet: Whether the node is Anvil or Hardhat.
        confirmations: How many blocks must follow before something counts as done.
        home: Where journals and indexes are kept.
    """

    def __init__(
        self,
        client: RpcClient,
        *,
        home: Home | str | Path | None = None,
        confirmations: int | None = None,
        token: Address | str | None = None,
    ) -> None:
        self._client = client
        self.url = client.url
        self.home = home if isinstance(home, Home) else Home(home)
        chain_id, genesis, name = self.rpc_batch(
            [("eth_chainId", []), ("eth_getBlockByNumber", ["0x0", False]), ("web3_clientVersion", [])]
        )
        self.chain_id = to_int(chain_id)
        self.genesis = Bytes32(genesis["hash"])
        self.network = f"{self.chain_id}-{self.genesis.hex()[:8]}"
        self.client = str(name)
        self.is_devnet = _is_devnet(self.client, self.chain_id, client)
        self.confirmations = (0 if self.is_devnet else _SAFE_CONFIRMATIONS) if confirmations is None else confirmations
        self._token = Address(token) if token is not None else None
        self._tokens: dict[Address, TokenInfo] = {}
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Chain {self.network} by {self.client}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have something that lives on this chain closed before the chain is."""
        self._closers.append(closer)

    def close(self) -> None:
        """Close what lives on this chain, then connections and the journal."""
        while self._closers:
            self._closers.pop()()
        self._client.close()
        if "journal" in self.__dict__:
            self.journal.close()

    @property
    def path(self) -> Path:
        """This network's folder in the home."""
        return self.home.network(self.network)

    @cached_property
    def journal(self) -> TransactionJournal:  # type: ignore[override]
        """The transactions of every key on this network."""
        return TransactionJournal(self.path / "transactions.sqlite")

    @cached_property
    def addresses(self) -> Addresses:  # type: ignore[override]
        """Where the suite's contracts are; looked at once.

        Raises:
            ConfigurationError: The suite is not deployed here.
            ConsistencyError: Other code stands at an address of the suite.
        """
        return check_suite(self)

    @cached_property
    def web3(self) -> Web3:
        """A web3.py object on the same node, for what this package does not wrap (takes a second to import)."""
        from web3 import HTTPProvider, Web3  # noqa: PLC0415

        return Web3(HTTPProvider(self.url))

    # --- requests ---

    def rpc(self, method: str, *params: Any) -> Any:
        """Send one JSON-RPC request and return its result.

        Raises:
            RpcError: The node refused it.
            TransportError: The node could not be reached.
        """
        return self._client.call(method, params)

    def rpc_batch(self, requests: Sequence[Request]) -> list[Any]:
        """Send many requests at once and return their results in order.

        Raises:
            RpcError: The node refused one of them.
            TransportError: The node could not be reached.
        """
        answers = self._client.batch(requests)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return answers

    def try_batch(self, requests: Sequence[Request]) -> list[Any]:
        """Send many requests at once; an :class:`RpcError` stands in the place of a refused one."""
        return self._client.batch(requests)

    def wait_for_receipt(self, transaction: str, *, timeout: float = 60.0) -> dict[str, Any]:
        """Wait for the receipt of a transaction that no account of this package sent.

        Raises:
            TransactionError: It was not mined in time.
        """
        end, pause = time.monotonic() + timeout, 0.005
        while (receipt := self.rpc("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > end:
                raise TransactionError(f"{transaction} was not mined within {timeout} s", retryable=True)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        return cast("dict[str, Any]", receipt)

    # --- reading ---

    def block_number(self) -> int:
        """Return the latest block's number."""
        return to_int(self.rpc("eth_blockNumber"))

    def now(self, *, confirmed: bool = False) -> int:
        """Return the time by which deadlines go, Unix seconds: the latest block's, or that of the latest that stays."""
        block = hex(max(self.block_number() - self.confirmations, 0)) if confirmed else "latest"
        return to_int(self.rpc("eth_getBlockByNumber", block, False)["timestamp"])  # noqa: FBT003 - JSON-RPC has no names

    def balance(self, address: Address) -> int:
        """Return an account's ether, in wei."""
        return to_int(self.rpc("eth_getBalance", str(address), "latest"))

    def code_at(self, address: Address, *, block: int | str = "latest") -> bytes:
        """Return the code at an address; empty where there is none."""
        return bytes.fromhex(str(self.rpc("eth_getCode", str(address), _block(block)))[2:])

    def fee_quote(self) -> FeeQuote:
        """Return what a unit of gas costs now."""
        return FeeQuote.from_rpc(*self.try_batch(FEE_REQUESTS))

    def call(self, call: Call[T], *, sender: Address | None = None, block: int | str = "latest") -> T:
        """Run a call without sending it and return its result.

        Raises:
            ContractError: The contract refused; each Solidity error has a class of its own.
            ConsistencyError: What answered is not that contract.
        """
        try:
            answer = self.rpc("eth_call", transaction_object(call, sender), _block(block))
        except RpcError as failure:
            raise error_of(failure) from failure
        return call.decode(bytes.fromhex(answer[2:]))

    def call_many(
        self, calls: Sequence[Call[Any]], *, sender: Address | None = None, block: int | str = "latest"
    ) -> list[Any]:
        """Run many calls as one JSON-RPC batch and return their results in order; the first refusal is raised."""
        requests = [("eth_call", [transaction_object(call, sender), _block(block)]) for call in calls]
        results = []
        for call, answer in zip(calls, self.try_batch(requests), strict=True):
            if isinstance(answer, RpcError):
                raise error_of(answer) from answer
            results.append(call.decode(bytes.fromhex(answer[2:])))
        return results

    def simulate(self, call: Call[T], sender: Address) -> Simulation[T]:
        """Find out what a transaction would return and cost, without sending it.

        Raises:
            ContractError: It would revert.
        """
        request = transaction_object(call, sender)
        result, gas, *fees = self.try_batch(
            [("eth_call", [request, "latest"]), ("eth_estimateGas", [request]), *FEE_REQUESTS]
        )
        for answer in (result, gas):
            if isinstance(answer, RpcError):
                raise error_of(answer) from answer
        value = call.decode(bytes.fromhex(result[2:]))
        return Simulation(value=value, gas=to_int(gas), fee_per_gas=FeeQuote.from_rpc(*fees).per_gas)

    def logs(
        self,
        *,
        address: Address | Sequence[Address] | None = None,
        topics: Topics = (),
        from_block: int = 0,
        to_block: int | None = None,
    ) -> list[Log]:
        """Return the log entries of a range of blocks (both ends included) in the chain's order.

        Long ranges are asked for in parts, and in smaller ones where the node finds them too long.
        """
        last = self.block_number() if to_block is None else to_block
        filters: dict[str, Any] = {"topics": [_topic(topic) for topic in topics]}
        if address is not None:
            filters["address"] = str(address) if isinstance(address, Address) else [str(item) for item in address]
        found: list[Log] = []
        start, span = from_block, _LOG_SPAN
        while start <= last:
            end = min(start + span - 1, last)
            try:
                items = self.rpc("eth_getLogs", filters | {"fromBlock": to_hex(start), "toBlock": to_hex(end)})
            except RpcError:
                if span == 1:
                    raise
                span = max(span // 4, 1)
                continue
            found.extend(Log.from_rpc(item) for item in items if not item.get("removed"))
            start = end + 1
        return found

    # --- tokens ---

    @property
    def token(self) -> Address:
        """The token that prices are in: the one that was given, else a devnet's dollar.

        Raises:
            ConfigurationError: None was given and this is no devnet.
        """
        if self._token is not None:
            return self._token
        if self.is_devnet:
            return self.addresses.dev_dollar
        raise ConfigurationError(
            f"no payment token is set for network {self.network}", hint='give one: connect(url, token="0x…")'
        )

    def token_info(self, token: Address | None = None) -> TokenInfo:
        """Return a token's symbol and decimals (asked once); by default those of :attr:`token`.

        Raises:
            ConsistencyError: There is no ERC-20 token at that address.
        """
        address = self.token if token is None else token
        if address not in self._tokens:
            decimals = Call(address, selector("decimals()"), "decimals()", lambda data: decode(["uint8"], data)[0])
            symbol = Call(address, selector("symbol()"), "symbol()", lambda data: decode(["string"], data)[0])
            try:
                self._tokens[address] = TokenInfo(address, self.call(symbol), self.call(decimals))
            except (ConsistencyError, ContractError) as error:
                raise ConsistencyError(f"there is no ERC-20 token at {address} on this network") from error
        return self._tokens[address]

    # --- sending ---

    def account(self, signer: Signer, *, fees: FeePolicy | None = None) -> Account:
        """Return the transaction manager of a secp256k1 key."""
        from pyiot_evm.chain.transactions import Account  # noqa: PLC0415 - they know each other

        return Account(chain=self, signer=signer, fees=fees or FeePolicy())

    def check_genesis(self, block: Any) -> None:
        """Raise when block 0, as the node tells it now, is not this network's.

        Raises:
            ConsistencyError: The node was started afresh: this object's network is gone.
        """
        if isinstance(block, RpcError) or not block:
            raise TransportError("the node does not show block 0")
        if Bytes32(block["hash"]) != self.genesis:
            raise ConsistencyError(
                f"the node no longer serves network {self.network}: its genesis is {block['hash']}",
                hint="the devnet was reset; connect again",
            )


def connect(
    url: str | None = None,
    *,
    home: Home | str | Path | None = None,
    confirmations: int | None = None,
    token: Address | str | None = None,
    timeout: float = 30.0,
) -> Chain:
    """Connect to an EVM chain.

    Args:
        url: The node's JSON-RPC address; left out, ``PYIOT_RPC_URL``, else the devnet that runs for this home.
        home: The folder of keys, journals and indexes; left out, ``PYIOT_HOME``, else ``~/.pyiot``.
        confirmations: How many blocks must follow; left out, 0 on a devnet and 12 elsewhere.
        token: The ERC-20 token that prices are in; left out, a devnet's dollar.
        timeout: Seconds that one request may take.

    Raises:
        ConfigurationError: No node was named and no devnet is running.
        TransportError: The node does not answer.
    """
    home = home if isinstance(home, Home) else Home(home)
    return Chain(
        RpcClient(url or os.environ.get("PYIOT_RPC_URL") or _running_devnet(home), timeout=timeout),
        home=home,
        confirmations=confirmations,
        token=token,
    )


def transaction_object(call: Call[Any], sender: Address | None) -> dict[str, str]:
    """Return a call as the JSON-RPC object that eth_call and eth_estimateGas take."""
    item = {"to": str(call.to), "data": to_hex(call.data)}
    if sender is not None:
        item["from"] = str(sender)
    if call.value:
        item["value"] = to_hex(call.value)
    return item


def _is_devnet(name: str, chain_id: int, client: RpcClient) -> bool:
    """Whether this is a node to play with: by its name, and by its chain id or its place, so that no name is enough."""
    return name.lower().startswith(_DEVNET_CLIENTS) and (chain_id in _DEVNET_IDS or client.is_local)


def _running_devnet(home: Home) -> str:
    from pyiot_evm.chain.background import devnet_status  # noqa: PLC0415 - only where no address was given

    status = devnet_status(home)
    if status is None or not status.running:
        raise ConfigurationError(
            "no chain is named and no devnet is running",
            hint="run `pyiot devnet up`, or give --rpc URL, or set PYIOT_RPC_URL",
        )
    return status.url


def _block(block: int | str) -> str:
    return block if isinstance(block, str) else to_hex(block)


def _topic(topic: bytes | Sequence[bytes] | None) -> Any:
    if topic is None or isinstance(topic, bytes):
        return None if topic is None else to_hex(topic)
    return [to_hex(item) for item in topic]
