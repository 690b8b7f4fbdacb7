"""The suite's contracts at the same addresses on every chain.

Each contract is created by CREATE2 through the deterministic-deployment proxy (Arachnid's, at the same address on
nearly every chain; where it is missing, its published keyless transaction is sent first). An address follows from the
init code alone, so :func:`plan` knows it without a chain, and deploying twice is the same as deploying once.

x402's clients have the addresses of their contracts written down: a devnet gets our channels and our collector there
too, and Multicall3 where everybody looks for it. On other chains x402's own deployment stands there.

Example:
    >>> [deployment.name for deployment in plan()][0]
    'P256Verifier'
    >>> Addresses.planned().p256_verifier == plan()[0].address
    True
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Final, Self

from pyiot_evm.chain.artifacts import Artifact, load_artifact
from pyiot_evm.chain.calls import Call, to_hex, to_int
from pyiot_evm.chain.rpc import RpcError
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, TransactionError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from pyiot_evm.chain.connection import Chain
    from pyiot_evm.chain.transactions import Account

__all__ = [
    "CREATE2_PROXY",
    "MULTICALL3",
    "X402_CHANNELS",
    "X402_COLLECTOR",
    "Addresses",
    "Deployment",
    "check_suite",
    "deploy_once",
    "deploy_suite",
    "plan",
]

CREATE2_PROXY: Final = Address("0x4e59b44847b379578588920cA78FbF26c0B4956C")
"""The deterministic-deployment proxy: it takes a 32-byte salt and the init code."""
PROXY_SIGNER: Final = Address("0x3fAB184622Dc19b6109349B94811493BF2a45362")
"""Who the keyless transaction comes from; nobody has its key."""
PROXY_TRANSACTION: Final = bytes.fromhex(
    "f8a58085174876e800830186a08080b853604580600e600039806000f350fe"
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
    "1ba02222222222222222222222222222222222222222222222222222222222222222"
    "a02222222222222222222222222222222222222222222222222222222222222222"
)
"""The published transaction (not for any one chain, before EIP-155) that creates the proxy."""
PROXY_CODE_HASH: Final = "2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"
X402_CHANNELS: Final = Address("0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003")
"""Where x402's clients expect the `batch-settlement` contract, on every chain."""
X402_COLLECTOR: Final = Address("0x4020806089470a89826cB9fB1f4059150b550004")
"""Where they expect its ERC-3009 collector."""
MULTICALL3: Final = Address("0xcA11bde05977b3631167028862bE2a173976CA11")
"""Where everybody expects Multicall3."""
_PROXY_COST: Final = 100_000 * 100 * 10**9
_SALT: Final = bytes(32)

_SUITE: Final[dict[str, tuple[str, ...]]] = {
    "P256Verifier": (),
    "DeviceRegistry": ("P256Verifier",),
    "SignedReadingRule": ("P256Verifier",),
    "DataMarket": (),
    "PaymentChannels": ("P256Verifier",),
    "ERC3009DepositCollector": ("PaymentChannels",),
    "DepositEscrow": ("P256Verifier",),
    "RuleArbiter": ("DepositEscrow", "P256Verifier"),
    "DevDollar": (),
}
"""Contract → whose addresses its constructor takes, in the order of deployment."""
_DEVNET_ONLY: Final = frozenset({"DevDollar"})


@dataclass(frozen=True, slots=True)
class Deployment:
    """One contract as it will be, or is, deployed on every chain."""

    name: str
    address: Address
    init_code: bytes = field(repr=False)

    @property
    def call(self) -> Call[Address]:
        """The call of the proxy that creates it."""
        return Call(
            to=CREATE2_PROXY,
            data=_SALT + self.init_code,
            function=f"deploy {self.name}",
            decode=lambda data: Address(data[-20:]),
            contract="deterministic-deployment proxy",
            arguments={"contract": self.name, "address": self.address},
        )


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the suite's contracts are.

    Attributes:
        dev_dollar: The dollar for devnets; nothing stands there elsewhere.
    """

    p256_verifier: Address
    device_registry: Address
    signed_reading_rule: Address
    data_market: Address
    payment_channels: Address
    deposit_collector: Address
    deposit_escrow: Address
    rule_arbiter: Address
    dev_dollar: Address

    @classmethod
    def planned(cls) -> Self:
        """Return the addresses of this version of the suite, the same on every chain."""
        by_name = {item.name: item.address for item in plan()}
        return cls(
            p256_verifier=by_name["P256Verifier"],
            device_registry=by_name["DeviceRegistry"],
            signed_reading_rule=by_name["SignedReadingRule"],
            data_market=by_name["DataMarket"],
            payment_channels=by_name["PaymentChannels"],
            deposit_collector=by_name["ERC3009DepositCollector"],
            deposit_escrow=by_name["DepositEscrow"],
            rule_arbiter=by_name["RuleArbiter"],
            dev_dollar=by_name["DevDollar"],
        )

    def as_dict(self) -> dict[str, str]:
        """Return name → checksummed address."""
        return {item.name: str(getattr(self, item.name)) for item in fields(self)}


@cache
def plan() -> tuple[Deployment, ...]:
    """Return what will be deployed where, in order; no chain is needed."""
    planned: dict[str, Deployment] = {}
    for name, arguments in _SUITE.items():
        words = [bytes(12) + planned[argument].address for argument in arguments]
        init_code = load_artifact(name).bytecode + b"".join(words)
        planned[name] = Deployment(name, _create2(init_code), init_code)
    return tuple(planned.values())


def deploy_suite(chain: Chain, account: Account) -> Addresses:
    """Deploy what is missing of the suite, and check what is there.

    Args:
        chain: Where.
        account: Who pays for it; it gets no rights by that.

    Raises:
        ConsistencyError: Other code stands at one of the addresses.
        TransactionError: The account cannot pay, or a deployment failed.
    """
    wanted = [item for item in plan() if chain.is_devnet or item.name not in _DEVNET_ONLY]
    present = _present(chain, wanted)
    missing = [item for item in wanted if item not in present]
    if missing:
        _ensure_proxy(chain, account)
        pending = account.send_many(
            [item.call for item in missing], keys=[f"deploy:{item.address}" for item in missing]
        )
        account.wait_many(pending)
    if chain.is_devnet:
        _copy_to_known_addresses(chain)
    return check_suite(chain)


def deploy_once(account: Account, name: str, init_code: bytes) -> Address:
    """Deploy a contract by CREATE2 where it is missing; its address follows from its init code.

    Args:
        account: Who pays for it.
        name: The contract's name.
        init_code: Its bytecode and its constructor's arguments.
    """
    address = _create2(init_code)
    if not account.chain.code_at(address):
        _ensure_proxy(account.chain, account)
        account.transact(Deployment(name, address, init_code).call, key=f"deploy:{address}")
    return address


def check_suite(chain: Chain) -> Addresses:
    """Return the suite's addresses after a look at the code that stands there.

    Raises:
        ConfigurationError: A contract is missing.
        ConsistencyError: Other code stands there than this version's.
    """
    wanted = [item for item in plan() if chain.is_devnet or item.name not in _DEVNET_ONLY]
    present = _present(chain, wanted)
    missing = [item.name for item in wanted if item not in present]
    if missing:
        raise ConfigurationError(
            f"not deployed on network {chain.network}: {', '.join(missing)}",
            hint="run `pyiot deploy`, or call deploy_suite(chain, account)",
        )
    return Addresses.planned()


def _known() -> dict[Address, tuple[str, tuple[Address, ...]]]:
    """Return what a devnet gets at a fixed address: the contract, and its constructor's addresses."""
    return {
        MULTICALL3: ("Multicall3", ()),
        X402_CHANNELS: ("PaymentChannels", (Addresses.planned().p256_verifier,)),
        X402_COLLECTOR: ("ERC3009DepositCollector", (X402_CHANNELS,)),
    }


def _copy_to_known_addresses(chain: Chain) -> None:
    """Put what x402's clients look for where they look for it; what its constructor would return is simulated."""
    for address, (name, arguments) in _known().items():
        artifact = load_artifact(name)
        if artifact.matches(chain.code_at(address)):
            continue
        chain.set_code(address, _runtime(chain, artifact, arguments))


def _runtime(chain: Chain, artifact: Artifact, arguments: tuple[Address, ...]) -> bytes:
    init_code = artifact.bytecode + b"".join(bytes(12) + argument for argument in arguments)
    return bytes.fromhex(chain.rpc("eth_call", {"data": to_hex(init_code)}, "latest")[2:])


def _create2(init_code: bytes) -> Address:
    return Address(keccak256(b"\xff" + CREATE2_PROXY + _SALT + keccak256(init_code))[12:])


def _present(chain: Chain, wanted: list[Deployment]) -> list[Deployment]:
    codes = chain.rpc_batch([("eth_getCode", [str(item.address), "latest"]) for item in wanted])
    present = []
    for item, text in zip(wanted, codes, strict=True):
        code = bytes.fromhex(text[2:])
        if code and not load_artifact(item.name).matches(code):
            raise ConsistencyError(
                f"the code at {item.address} is not this version's {item.name}",
                hint="the node and this package do not belong together: check the address of the node",
            )
        if code:
            present.append(item)
    return present


def _ensure_proxy(chain: Chain, account: Account) -> None:
    if _proxy_stands(chain):
        return
    if chain.is_devnet:
        chain.fund(PROXY_SIGNER, ether="0.01")
    elif (held := chain.balance(PROXY_SIGNER)) < _PROXY_COST:
        gift = Call(PROXY_SIGNER, b"", "pay for the proxy", bytes, value=_PROXY_COST - held)
        account.transact(gift, key=f"deploy:{CREATE2_PROXY}")
    try:
        transaction = chain.rpc("eth_sendRawTransaction", to_hex(PROXY_TRANSACTION))
    except RpcError as error:
        if _proxy_stands(chain):  # somebody else was faster
            return
        raise TransactionError(
            f"the node refuses the proxy's keyless transaction: {error.rpc_message}",
            hint="some nodes accept only transactions with a chain id: ask the chain's operator to deploy the proxy",
        ) from error
    receipt = chain.wait_for_receipt(transaction)
    if to_int(receipt["status"]) != 1 or not _proxy_stands(chain):
        raise TransactionError("the proxy's keyless transaction did not create it")


def _proxy_stands(chain: Chain) -> bool:
    code = chain.code_at(CREATE2_PROXY)
    if code and keccak256(code).hex() != PROXY_CODE_HASH:
        raise ConsistencyError(f"other code stands at the proxy's address {CREATE2_PROXY}")
    return bool(code)
