"""The generated bindings: up to date, complete, and true to the artifacts."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from pyiot_evm import contracts
from pyiot_evm.chain import contract_errors
from pyiot_evm.chain.artifacts import artifact_names, load_artifact
from pyiot_evm.chain.binding import split_types
from pyiot_evm.chain.calls import Log
from pyiot_evm.chain.contract_errors import ERRORS, OrderNotPaid, OrderState, SuiteError, WindowIsOpen
from pyiot_evm.contracts import DataMarket, DevDollar
from pyiot_evm.contracts.data_market import OfferCancelled
from pyiot_evm.contracts.shared import Transfer
from pyiot_evm.exceptions import ConsistencyError, InputError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, Bytes32, OfferId, OrderId, TransactionHash

ROOT = Path(__file__).resolve().parents[2]
TARGET = Address("0x" + "22" * 20)
PAYEE = Address("0x" + "33" * 20)


def canonical(part: dict) -> str:
    if not part["type"].startswith("tuple"):
        return part["type"]
    return f"({','.join(canonical(item) for item in part['components'])}){part['type'][5:]}"


def signatures(kind: str) -> dict[str, str]:
    return {
        item["name"]: f"{item['name']}({','.join(canonical(part) for part in item['inputs'])})"
        for name in artifact_names()
        for item in load_artifact(name).abi
        if item["type"] == kind
    }


def log_of(topics: list[bytes], data: bytes) -> Log:
    zero = Bytes32(bytes(32))
    return Log(TARGET, tuple(map(Bytes32, topics)), data, 1, zero, TransactionHash(zero), 0, 0)


def test_generate_bindings__when_run_again__changes_nothing():
    command = [sys.executable, str(ROOT / "scripts/tools/generate_bindings.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_errors__when_compared_with_the_artifacts__are_one_to_one():
    declared = signatures("error")
    generated = {kind.__name__: kind.SIGNATURE for kind in ERRORS.values()}
    assert generated == declared
    assert {selector: keccak256(kind.SIGNATURE.encode())[:4] for selector, kind in ERRORS.items()} == {
        s: s for s in ERRORS
    }
    classes = {
        name
        for name, kind in inspect.getmembers(contract_errors, inspect.isclass)
        if issubclass(kind, SuiteError) and kind is not SuiteError
    }
    assert classes == set(declared)


def test_errors__when_decoded__carry_the_compared_values():
    error = OrderNotPaid.from_abi(b"\x11" * 32 + (2).to_bytes(32, "big"))
    assert (error.order_id, error.state) == (OrderId(b"\x11" * 32), OrderState.REVEALED)
    assert isinstance(error.order_id, OrderId)
    assert (error.code, error.retryable) == ("OrderNotPaid", False)
    assert "state=REVEALED" in str(error)
    open_window = WindowIsOpen.from_abi((20).to_bytes(32, "big") + (10).to_bytes(32, "big"))
    assert (open_window.retryable, open_window.deadline, open_window.timestamp) == (True, 20, 10)
    assert "wait until the deadline" in open_window.hint


def test_bindings__when_a_contract_has_a_function__has_a_method_for_each():
    for name in contracts.__all__:
        kind = getattr(contracts, name)
        methods = [item for item in vars(kind).values() if inspect.isfunction(item) and item.__name__ != "__init__"]
        artifact = {"Erc20": "IERC20Metadata", "Erc1271": "IERC1271"}.get(name, name)
        functions = [item for item in load_artifact(artifact).abi if item["type"] == "function"]
        assert len(methods) == len(functions), name


def test_binding__when_called__returns_an_unsent_call_that_describes_itself():
    call = DevDollar(TARGET).transfer(PAYEE, 2**60)
    assert (call.to, call.function, call.contract, call.value) == (TARGET, "transfer(address,uint256)", "DevDollar", 0)
    assert call.data == bytes.fromhex("a9059cbb") + bytes(12) + PAYEE + (2**60).to_bytes(32, "big")
    assert call.decode((1).to_bytes(32, "big")) is True
    assert call.describe()["arguments"] == {"to": str(PAYEE), "value": str(2**60)}
    with pytest.raises(ConsistencyError, match="cannot be decoded"):
        call.decode(b"")


@pytest.mark.parametrize("value", [-1, 2**256, "12", 1.5, None])
def test_binding__when_an_argument_does_not_fit__raises_input_error(value):
    with pytest.raises(InputError, match="does not fit"):
        DevDollar(TARGET).mint(PAYEE, value)


def test_binding__when_functions_are_overloaded__have_names_of_their_own():
    dollar = DevDollar(TARGET)
    arguments = (PAYEE, PAYEE, 1, 0, 9, Bytes32(bytes(32)))
    plain = dollar.receive_with_authorization(*arguments, b"\x01" * 65)
    parts = dollar.receive_with_authorization_vrs(*arguments, 27, Bytes32(bytes(32)), Bytes32(bytes(32)))
    assert plain.function.endswith("bytes32,bytes)")
    assert parts.function.endswith("uint8,bytes32,bytes32)")


def test_binding__when_a_result_has_several_values__names_them():
    words = [(1).to_bytes(32, "big"), bytes(32), (7).to_bytes(32, "big")]
    status = DataMarket(TARGET).offer_of(OfferId(bytes(32))).decode(b"".join(words))
    assert (status.listed, status.cancelled, status.copies) == (True, False, 7)


def test_event__when_decoded__has_typed_fields_and_its_log():
    topic = keccak256(b"Transfer(address,address,uint256)")
    log = log_of([topic, bytes(12) + TARGET, bytes(12) + PAYEE], (5).to_bytes(32, "big"))
    event = Transfer.from_log(log)
    assert (event.from_, event.to, event.value, event.log) == (TARGET, PAYEE, 5, log)
    assert (topic, 3) == (Transfer.TOPIC, Transfer.TOPIC_COUNT)
    cancelled = OfferCancelled.from_log(log_of([OfferCancelled.TOPIC, b"\x05" * 32], b""))
    assert cancelled.offer_id == OfferId(b"\x05" * 32)


def test_split_types__when_tuples_are_nested__keeps_them_whole():
    assert split_types("f()") == []
    assert split_types("f((uint8,(bytes,bool[])[]),address)") == ["(uint8,(bytes,bool[])[])", "address"]


def test_contracts__when_imported__loads_neither_web3_nor_eth_abi():
    code = (
        "import sys, pyiot_evm.contracts.data_market, pyiot_evm.chain.devnet\n"
        "print([name for name in ('web3', 'eth_abi', 'pandas', 'eth_account') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = contracts.Nothing
