"""A pytest plugin for the users of pyiot_evm: a devnet, the suite, machines and hostile counterparties, as fixtures.

It is registered by the package's entry point; nothing is started or imported until a test asks for a fixture.
``--pyiot-engine hardhat`` runs the same tests on Hardhat.

Example::

    def test_sale(devnet, suite):
        account = devnet.account(LocalSigner.create())
        devnet.fund(account, ether=1, dollars=10)
        assert devnet.code_at(suite.data_market)
"""

from __future__ import annotations

import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.chain import Addresses, Chain
    from pyiot_evm.hostile import Hostile
    from pyiot_evm.machine import Machine

__all__ = ["Machines", "devnet", "hostile", "machines", "suite"]


class Machines:
    """Funded machines in roles, made when they are first asked for, new ones for each test.

    ``machines.seller``, ``machines.buyer``, ``machines.stranger``, or any other role by ``machines.new("owner")``.

    Args:
        chain: The devnet.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._made: dict[str, Machine] = {}

    def new(self, role: str, **options: Any) -> Machine:
        """Make another machine; options as for ``Machine.create``."""
        from pyiot_evm.machine import Machine  # noqa: PLC0415 - only where a test asks for it

        name = f"{role}-{secrets.token_hex(6)}"
        self._made[name] = Machine.create(self._chain, name, **options)
        return self._made[name]

    @cached_property
    def seller(self) -> Machine:
        """A machine that sells."""
        return self.new("seller")

    @cached_property
    def buyer(self) -> Machine:
        """A machine that buys."""
        return self.new("buyer")

    @cached_property
    def stranger(self) -> Machine:
        """A machine that has nothing to do with the others."""
        return self.new("stranger")

    def close(self) -> None:
        """Stop what the machines do in the background."""
        for machine in self._made.values():
            machine.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the node."""
    group = parser.getgroup("pyiot_evm")
    group.addoption("--pyiot-engine", choices=("anvil", "hardhat"), default="anvil", help="the node behind `devnet`")


@pytest.fixture(scope="session")
def devnet(request: pytest.FixtureRequest) -> Iterator[Chain]:
    """A local chain with the suite deployed, for the whole session; it ends with the session, however that ends."""
    from pyiot_evm.chain import Devnet  # noqa: PLC0415 - only where a test asks for it

    with Devnet(request.config.getoption("--pyiot-engine")) as chain:
        yield chain


@pytest.fixture(scope="session")
def suite(devnet: Chain) -> Addresses:
    """The addresses of the suite's contracts on the devnet."""
    return devnet.addresses


@pytest.fixture
def machines(devnet: Chain) -> Iterator[Machines]:
    """Funded machines on the devnet: ``machines.seller``, ``machines.buyer``, ``machines.stranger``."""
    made = Machines(devnet)
    yield made
    made.close()


@pytest.fixture
def hostile() -> Hostile:
    """Counterparties that lie, stall, forge and replay; see :class:`pyiot_evm.hostile.Hostile`."""
    from pyiot_evm.hostile import Hostile  # noqa: PLC0415 - only where a test asks for it

    return Hostile()
