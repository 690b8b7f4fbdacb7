"""ABI, storage layout and code size of the suite."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "pyiot_evm" / "contracts" / "artifacts"
SUITE = [
    "CourtArbiter",
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


def artifact(name):
    return json.loads((ARTIFACTS / f"{name}.json").read_text())


def canonical(entry):
    """Return one line for an ABI entry: kind, name, types, indexed and mutability."""

    def kind(item):
        inner = f"({','.join(kind(c) for c in item['components'])})" if "components" in item else item["type"]
        suffix = item["type"].removeprefix("tuple") if "components" in item else ""
        return inner + suffix + (" indexed" if item.get("indexed") else "")

    inputs = ",".join(kind(i) for i in entry.get("inputs", []))
    outputs = ",".join(kind(o) for o in entry.get("outputs", []))
    line = f"{entry['type']} {entry.get('name', '')}({inputs})"
    if entry["type"] == "function":
        line += f" {entry['stateMutability']}" + (f" returns ({outputs})" if outputs else "")
    return line


def test_abi__when_compared__is_the_snapshot(snapshot):
    snapshot("abi.json", {name: sorted(canonical(e) for e in artifact(name)["abi"]) for name in SUITE})


def test_storage__when_compared__is_the_snapshot(snapshot):
    # The compiler numbers its types anew with every source; the number says nothing about the layout.
    layouts = {
        name: [{k: v for k, v in slot.items() if k != "type"} for slot in artifact(name)["storageLayout"]]
        for name in SUITE
    }
    snapshot("storage.json", layouts)


def test_size__when_compared__is_the_snapshot(snapshot):
    snapshot("size.json", {name: (len(artifact(name)["deployedBytecode"]) - 2) // 2 for name in SUITE})
