"""Gas from receipts: the snapshot, and the design's limits."""

import sys
from pathlib import Path

import pytest

from pyiot_evm.chain import Devnet

sys.path.insert(0, str(Path(__file__).parent))
from gas_escrow import EscrowGas
from gas_payment import PaymentGas
from gas_story import measure

LIMITS = {
    "DataMarket": {
        "list": 95_000,
        "buy": 97_000,
        "buyWithAuthorization": 125_000,
        "reveal": 45_000,
        "settlePerOrderOf20": 42_000,
        "dispute": 92_000,
        "disputeP256": 108_000,
    },
    "DepositEscrow": {
        "open": 88_000,
        "handOver": 47_000,
        "checkInP256": 54_000,
        "checkOut": 65_000,
        "checkOutP256": 70_000,
        "close": 60_000,
        "closeMissed": 60_000,
    },
    "DeviceRegistry": {"registerSecp256k1": 62_000, "registerP256": 70_000},
    "PaymentChannels": {
        "fundPerChannelOf50": 36_000,
        "claimPerChannelOf50": 21_000,
        "claimLocked": 50_000,
        "settle": 47_000,
    },
}


@pytest.fixture(scope="module")
def figures():
    with Devnet() as chain:
        payments = {"PaymentChannels": PaymentGas(chain).measure()}
        return measure(chain) | payments | {"DepositEscrow": EscrowGas(chain).measure()}


def test_gas__when_measured_from_receipts__is_the_snapshot(figures, snapshot):
    snapshot("gas.json", figures)


@pytest.mark.parametrize(
    ("contract", "call", "limit"),
    [(contract, call, limit) for contract, calls in LIMITS.items() for call, limit in calls.items()],
)
def test_gas__when_compared_with_the_design__is_within_its_limit(figures, contract, call, limit):
    assert figures[contract][call] <= limit
