"""What ape builds is what the wheel ships, and it lands at the same addresses."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "pyiot_evm" / "contracts" / "artifacts"
SUITE = [
    "DataMarket",
    "DepositEscrow",
    "DeviceRegistry",
    "DevDollar",
    "ERC3009DepositCollector",
    "P256Verifier",
    "PaymentChannels",
    "RuleArbiter",
    "SignedReadingRule",
]


@pytest.mark.parametrize("name", SUITE)
def test_compile__when_ape_builds_a_contract__bytecode_equals_the_artifact(project, name):
    artifact = json.loads((ARTIFACTS / f"{name}.json").read_text())
    built = project.get_contract(name).contract_type.deployment_bytecode.bytecode
    assert built.removeprefix("0x") == artifact["bytecode"].removeprefix("0x")


def test_dev_dollar__when_anyone_mints__balance_and_event_are_exact(project, accounts):
    owner = accounts[0]
    dollar = owner.deploy(project.DevDollar)
    receipt = dollar.mint(owner, 1_500_000, sender=owner)
    assert dollar.balanceOf(owner) == 1_500_000
    assert [(log["from"], log["value"]) for log in receipt.decode_logs(dollar.Transfer)] == [
        ("0x" + "0" * 40, 1_500_000)
    ]
