"""A pytest plugin for the users of pyiot_evm: a devnet and the suite, as fixtures.

It is registered by the package's entry point; nothing is started or imported until a test asks for a fixture.
``--pyiot-engine hardhat`` runs the same tests on Hardhat.

Example::

    def test_sale(devnet, suite):
        account = devnet.account(LocalSigner.create())
        devnet.fund(account, ether=1, dollars=10)
        assert devnet.code_at(suite.data_market)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.chain import Addresses, Chain

__all__ = ["devnet", "suite"]


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
