"""A devnet that lives as long as a ``with`` block: a node, the suite deployed, a dollar that anyone can mint.

Example:
    >>> with Devnet() as chain:
    ...     chain.token_info().symbol
    'DUSD'
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyiot_evm.chain.connection import Chain
from pyiot_evm.chain.deployment import deploy_suite
from pyiot_evm.chain.nodes import Engine, Node, free_port, node_command
from pyiot_evm.chain.rpc import RpcClient
from pyiot_evm.device import LocalSigner
from pyiot_evm.exceptions import ConfigurationError
from pyiot_evm.home import LIGHT, Home

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Devnet", "deploy_by_anyone"]

_TRIES: Final = 3


class Devnet:
    """A local chain for development and tests. The node ends with this process, however that ends.

    Args:
        engine: ``"anvil"`` or ``"hardhat"``.
        port: Where it listens (loopback only); 0 takes a free one.
        state: A file that keeps the chain over restarts (Anvil only).
        home: The folder of keys and journals; left out, a temporary one whose keys are encrypted under a passphrase
            that only this object holds.
        deploy: Whether to deploy the suite.
        block_time: Seconds between blocks; left out, a block for each transaction.
    """

    def __init__(
        self,
        engine: Engine = "anvil",
        *,
        port: int = 0,
        state: str | Path | None = None,
        home: Home | str | Path | None = None,
        deploy: bool = True,
        block_time: float | None = None,
    ) -> None:
        self.engine: Engine = engine
        self._port = port
        self._state = Path(state).absolute() if state is not None else None
        self._home = home
        self._deploy = deploy
        self._block_time = block_time
        self._scratch: Path | None = None
        self._node: Node | None = None
        self._chain: Chain | None = None

    @property
    def chain(self) -> Chain:
        """The chain, while the devnet runs.

        Raises:
            ConfigurationError: It does not run.
        """
        if self._chain is None:
            raise ConfigurationError("the devnet does not run", hint="use it as a context manager, or call start()")
        return self._chain

    @property
    def node(self) -> Node:
        """The node's process, while the devnet runs."""
        if self._node is None:
            raise ConfigurationError("the devnet does not run", hint="use it as a context manager, or call start()")
        return self._node

    def start(self) -> Chain:
        """Start the node, deploy, and return the chain; :meth:`close` ends it."""
        self._scratch = Path(tempfile.mkdtemp(prefix="pyiot-devnet-"))
        try:
            self._node = self._start_node(self._scratch)
            self._chain = Chain(RpcClient(self._node.url), home=self._home_of(self._scratch))
            if self._state is not None:
                self._chain.resume_time()
            if self._deploy:
                deploy_by_anyone(self._chain)
        except BaseException:
            self.close()
            raise
        return self._chain

    def close(self) -> None:
        """End the node and remove what was temporary."""
        if self._chain is not None:
            self._chain.close()
        if self._node is not None:
            self._node.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._chain = self._node = self._scratch = None

    def __enter__(self) -> Chain:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _home_of(self, scratch: Path) -> Home:
        if self._home is None:
            passphrase = secrets.token_hex(16)
            return Home(scratch / "home", passphrase=lambda: passphrase, cost=LIGHT)
        return self._home if isinstance(self._home, Home) else Home(self._home)

    def _start_node(self, scratch: Path) -> Node:
        for left in reversed(range(1 if self._port else _TRIES)):
            port = self._port or free_port()
            command = node_command(
                self.engine, port=port, folder=scratch / "node", state=self._state, block_time=self._block_time
            )
            node = Node(command, port=port, log=scratch / "node.log")
            try:
                node.wait_until_ready()
            except ConfigurationError:  # somebody may have taken the port meanwhile
                node.close()
                if not left:
                    raise
            except BaseException:
                node.close()
                raise
            else:
                return node
        raise AssertionError("unreachable")  # pragma: no cover


def deploy_by_anyone(chain: Chain) -> None:
    """Deploy the suite on a devnet from a fresh key; the suite has no owner, so nobody needs to remember it."""
    account = chain.account(LocalSigner.create())
    chain.fund(account, ether=10)
    deploy_suite(chain, account)
