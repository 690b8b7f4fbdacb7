"""What one command works with: the home, the chain, the keys, the output. Each is opened when it is first asked for.

Example:
    >>> with Session(json=True) as session:
    ...     session.output.json
    True
"""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from pyiot_evm.cli.output import Output, amount
from pyiot_evm.exceptions import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.chain import Account, Chain
    from pyiot_evm.home import Home, Keyring
    from pyiot_evm.machine import Machine
    from pyiot_evm.machine_policies import Policies
    from pyiot_evm.types import Address

__all__ = ["Session"]

T = TypeVar("T", bound="AbstractContextManager[Any]")
_DEVNET_ETHER = 10
_DEVNET_DOLLARS = 1000


class Session:
    """One run of one command.

    Args:
        json: Whether stdout gets one JSON object.
        rpc: The node's address; the running devnet's when left out.
        confirmations: Blocks on top of a transaction; the chain's own number when left out.
        token: The ERC-20 token that prices are in; a devnet's dollar when left out.
        dry_run: Whether calls are shown instead of sent.
        quiet: Whether stdout gets ids alone.
        passphrase_file: Where the keystore's passphrase stands.
        sign_only: Where what is signed for somebody else to carry is written; None where it is sent.
        good_for: How long what is signed is good.
        new_passphrase: Whether this command sets a passphrase, so that it is asked for twice.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        rpc: str | None = None,
        confirmations: int | None = None,
        token: str | None = None,
        dry_run: bool = False,
        quiet: bool = False,
        passphrase_file: Path | None = None,
        sign_only: Path | None = None,
        good_for: str = "1d",
        new_passphrase: bool = False,
    ) -> None:
        self.output = Output(json=json, quiet=quiet, muted=dry_run)
        self.rpc = rpc
        self.dry_run = dry_run
        self.sign_only = sign_only
        self.good_for = good_for
        self._confirmations = confirmations
        self._token = token
        self._passphrase_file = passphrase_file
        self._new_passphrase = new_passphrase
        self._open = ExitStack()
        self._real_home: Home | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._open.close()
        if not self.dry_run:
            return False
        from pyiot_evm.cli.dry_run import DryRunEnd, RehearsalChain, show  # noqa: PLC0415 - only in a dry run

        if error is not None and not isinstance(error, DryRunEnd):
            return False
        chain = self.__dict__.get("chain")
        show(Output(json=self.output.json), chain.rehearsals if isinstance(chain, RehearsalChain) else [])
        return True

    @cached_property
    def home(self) -> Home:
        """The folder of keys, journals and bundles; in a dry run a copy of it that is thrown away."""
        from pyiot_evm.home import Home  # noqa: PLC0415 - not for `--help`

        home = Home(passphrase=self._passphrase)
        if not self.dry_run:
            return home
        from pyiot_evm.cli.dry_run import scratch_copy  # noqa: PLC0415

        self._real_home = home
        return Home(self._open.enter_context(scratch_copy(home.path)), passphrase=self._passphrase)

    @property
    def keyring(self) -> Keyring:
        """The named keys."""
        return self.home.keyring

    @cached_property
    def chain(self) -> Chain:
        """The chain that ``--rpc``, the environment or the running devnet names."""
        from pyiot_evm.chain import connect  # noqa: PLC0415

        chain = connect(self.rpc, home=self.home, confirmations=self._confirmations, token=self._token)
        if self.dry_run:
            from pyiot_evm.cli.dry_run import RehearsalChain  # noqa: PLC0415

            chain.close()
            chain = RehearsalChain.like(chain)
        return self.opened(chain)

    def account(self, name: str | None) -> Account:
        """Return a name's transaction manager; on a devnet, a fresh funded key's where no name is given.

        Raises:
            InputError: No name is given, and this is no devnet.
        """
        if name is not None:
            return self.chain.account(self.opened(self.keyring.account(name)))
        if not self.chain.is_devnet:
            raise InputError("somebody must pay for it", hint="name a funded key: --as NAME")
        from pyiot_evm.device import LocalSigner  # noqa: PLC0415

        signer = LocalSigner.create()
        if not self.dry_run:
            self.chain.fund(signer.address, ether=_DEVNET_ETHER)
        return self.chain.account(signer)

    @cached_property
    def optional_chain(self) -> Chain | None:
        """The chain where there is one: None when none is named and no devnet is running."""
        try:
            return self.chain
        except ConfigurationError:
            if self.rpc is None:
                return None
            raise

    def funding(self) -> Callable[[Address], dict[str, str]]:
        """Return what gives a new account ether and dollars on a devnet, and does nothing elsewhere.

        The chain is looked for here, so that a chain that does not answer is known before a key is made.
        """
        chain = self.optional_chain
        if chain is None or not chain.is_devnet:
            return lambda _address: {}

        def fund(address: Address) -> dict[str, str]:
            chain.fund(address, ether=_DEVNET_ETHER, dollars=_DEVNET_DOLLARS)
            return self.balances_of(address)

        return fund

    def fund_the_poor(self, url: str) -> None:
        """Give every name of the home that has no ether on a devnet some, and dollars."""
        from pyiot_evm.chain import connect  # noqa: PLC0415

        with connect(url, home=self.home) as chain:
            for entry in self.keyring.list():
                if not chain.balance(entry.address):
                    chain.fund(entry.address, ether=_DEVNET_ETHER, dollars=_DEVNET_DOLLARS)

    def balances_of(self, address: Address) -> dict[str, str]:
        """Return an account's ether and money, where there is a chain."""
        chain = self.optional_chain
        if chain is None:
            return {}
        return {"network": chain.network, **balances(chain, address)}

    def machine(self, name: str, **policies: Unpack[Policies]) -> Machine:
        """Open a name's machine on the chain; policies as for ``Machine.open``."""
        from pyiot_evm.machine import Machine  # noqa: PLC0415

        policies.setdefault("progress", self.output.progress)
        return self.opened(Machine.open(self.chain, name, **policies))

    def opened(self, resource: T) -> T:
        """Close something when the command ends, and return it."""
        self._open.push(resource)
        return resource

    def own_bundles(self) -> list[Path]:
        """Return the folder of the real home's bundles, which a dry run's copy leaves out."""
        return [self._real_home.bundles] if self.dry_run and self._real_home is not None else []

    @contextmanager
    def stop_signal(self) -> Iterator[threading.Event]:
        """Give an event that Ctrl-C and SIGTERM set while the context is open."""
        stop = threading.Event()
        before = {kind: signal.signal(kind, lambda *_: stop.set()) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield stop
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    @contextmanager
    def reporting(self, show: Callable[[Any], None]) -> Iterator[tuple[threading.Event, Callable[[Any], None]]]:
        """Give what ends a loop, and what it tells its news to; a reader of our output that went away ends it, too."""
        gone: list[BrokenPipeError] = []
        with self.stop_signal() as stop:

            def report(news: Any) -> None:
                try:
                    show(news)
                except BrokenPipeError as error:
                    gone.append(error)
                    stop.set()

            yield stop, report
        if gone:
            raise gone[0]

    def _passphrase(self) -> str:
        """Return the passphrase of the file, the environment or the terminal, in this order."""
        from pyiot_evm.cli.secrets import passphrase_of  # noqa: PLC0415

        return passphrase_of(self._passphrase_file, new=self._new_passphrase)


def balances(chain: Chain, address: Address) -> dict[str, str]:
    """Return an account's ether and its money in the chain's token, as text."""
    from pyiot_evm.contracts.erc20 import Erc20  # noqa: PLC0415
    from pyiot_evm.types import from_units  # noqa: PLC0415

    found = {"ether": amount(from_units(chain.balance(address), decimals=18), "ETH", most=6)}
    try:
        info = chain.token_info()
        units = chain.call(Erc20(info.address).balance_of(address))
    except ConfigurationError:  # no token is named, or the suite is not deployed
        return found
    return found | {"money": amount(info.from_units(units), info.symbol)}
