"""Compile contracts/ with py-solc-x and the pinned npm compiler into artifacts.

The contracts of the suite go to pyiot_evm/contracts/artifacts/NAME.json (committed, shipped in the wheel), everything
else that can be deployed (mocks, for tests) to .build/artifacts/NAME.json. An artifact carries the hash of each source
that it was made from, so nothing is compiled where the committed ones are what the sources say.

    python scripts/tools/compile_contracts.py            compile where an artifact of the suite is out of date
    python scripts/tools/compile_contracts.py --all      the mocks too
    python scripts/tools/compile_contracts.py --check    compile again, write nothing, fail when an artifact differs
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from pyiot_evm.hashing import keccak256

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "pyiot_evm" / "contracts" / "artifacts"
BUILT = ROOT / ".build" / "artifacts"
SOLC = ROOT / "scripts" / "tools" / "solc.js"
OPENZEPPELIN = "@openzeppelin/contracts"

# The contracts that a chain gets, and the outside interfaces that the SDK speaks.
SUITE = (
    "DataMarket",
    "DepositEscrow",
    "DeviceRegistry",
    "DevDollar",
    "ERC3009DepositCollector",
    "P256Verifier",
    "PaymentChannels",
    "RuleArbiter",
    "SignedReadingRule",
)
# What somebody may want for a purpose of their own: one for each court.
ON_REQUEST = ("CourtArbiter",)
# What only a devnet gets, at addresses that its users have written down.
DEVNET = ("Multicall3",)
INTERFACES = ("IERC1271", "IERC20Metadata")
NODE_ID = re.compile(r"\)\d+(?=_)")
"""The compiler's number of a struct or enum in a type's name; it changes with every file beside it."""


def compiler_settings() -> dict[str, Any]:
    """Return the standard-JSON settings; foundry.toml is the one place where they are chosen."""
    profile = tomllib.loads((ROOT / "foundry.toml").read_text())["profile"]["default"]
    return {
        "evmVersion": profile["evm_version"],
        "viaIR": profile["via_ir"],
        "optimizer": {"enabled": profile["optimizer"], "runs": profile["optimizer_runs"]},
        "remappings": profile["remappings"],
    }


def sources() -> dict[str, str]:
    """Return every Solidity file of the suite by its source unit name."""
    return {str(p.relative_to(ROOT)): p.read_text() for p in sorted((ROOT / "contracts").rglob("*.sol"))}


def fingerprint(texts: dict[str, str]) -> str:
    """Return a hash over the sources, the settings and the locked packages: what the output depends on."""
    digest = hashlib.sha256(json.dumps([texts, compiler_settings(), SUITE, ON_REQUEST, DEVNET]).encode())
    digest.update((ROOT / "package-lock.json").read_bytes())
    digest.update(SOLC.read_bytes())
    return digest.hexdigest()


def settings_hash() -> str:
    """Return a hash over the compiler's version and its settings."""
    lock = json.loads((ROOT / "package-lock.json").read_text())
    version = lock["packages"]["node_modules/solc"]["version"]
    return hashlib.sha256(json.dumps([version, compiler_settings()]).encode()).hexdigest()


def is_current(name: str) -> bool:
    """Return whether the artifact of a contract was made from the sources and settings that stand in the tree."""
    text = _read(SHIPPED / f"{name}.json")
    artifact = json.loads(text) if text else {}
    return artifact.get("settingsHash") == settings_hash() and all(
        (ROOT / unit).is_file() and "0x" + keccak256((ROOT / unit).read_bytes()).hex() == digest
        for unit, digest in artifact["sources"].items()
    )


def compile_all(texts: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Compile and return artifacts by contract name.

    Raises:
        SystemExit: The compiler reported an error, or two contracts share a name.
    """
    from solcx import compile_standard  # noqa: PLC0415 - not needed when nothing has changed
    from solcx.exceptions import SolcError  # noqa: PLC0415

    outside = [f"node_modules/{OPENZEPPELIN}/interfaces/{name}.sol" for name in INTERFACES]
    wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode", "devdoc", "userdoc", "storageLayout", "metadata"]
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in texts.items()}
        | {name: {"content": (ROOT / name).read_text()} for name in outside},
        "settings": {**compiler_settings(), "outputSelection": {"*": {"*": wanted}}},
    }
    try:
        output = compile_standard(request, solc_binary=SOLC, base_path=str(ROOT))
    except SolcError as error:
        problems = json.loads(error.stdout_data or "{}").get("errors", [])
        messages = [problem["formattedMessage"] for problem in problems if problem["severity"] == "error"]
        raise SystemExit("The contracts do not compile:\n\n" + ("\n".join(messages) or str(error))) from error
    for problem in output.get("errors", []):
        if not problem.get("sourceLocation", {}).get("file", "").startswith("node_modules/"):
            print(problem["formattedMessage"], file=sys.stderr)
    artifacts: dict[str, dict[str, Any]] = {}
    for unit, contracts in sorted(output["contracts"].items()):
        for name, contract in contracts.items():
            if unit.startswith("contracts/") or name in INTERFACES:
                if name in artifacts:
                    raise SystemExit(f"Two contracts are called {name}: {artifacts[name]['sourceName']} and {unit}")
                artifacts[name] = artifact_of(name, unit, contract)
    return artifacts


def artifact_of(name: str, unit: str, contract: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the compiler's output that is kept."""
    evm = contract["evm"]
    source_hashes = json.loads(contract["metadata"])["sources"] if contract["metadata"] else {}
    hashes = {source: entry["keccak256"] for source, entry in sorted(source_hashes.items())}
    layout = contract.get("storageLayout") or {}
    return {
        "contractName": name,
        "sourceName": unit,
        "sourceHash": hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
        "sources": hashes,
        "settingsHash": settings_hash(),
        "abi": contract["abi"],
        "bytecode": "0x" + evm["bytecode"]["object"],
        "deployedBytecode": "0x" + evm["deployedBytecode"]["object"],
        "immutableReferences": numbered(evm["deployedBytecode"].get("immutableReferences", {})),
        "natspec": {"devdoc": contract.get("devdoc", {}), "userdoc": contract.get("userdoc", {})},
        "storageLayout": [
            {"label": s["label"], "slot": s["slot"], "offset": s["offset"], "type": NODE_ID.sub(")", s["type"])}
            for s in layout.get("storage", [])
        ],
    }


def numbered(references: dict[str, list[dict[str, int]]]) -> dict[str, list[dict[str, int]]]:
    """Number immutables by their place in the code: the compiler's own numbers change with every file beside it."""
    return {str(number): places for number, places in enumerate(sorted(references.values(), key=str))}


def render(artifact: dict[str, Any]) -> str:
    """Return an artifact's text, the same on every machine."""
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="compile the mocks too")
    parser.add_argument("--check", action="store_true", help="compile again and compare; write nothing")
    arguments = parser.parse_args()
    texts = sources()
    stamp, key = BUILT / "fingerprint", fingerprint(texts)
    shipped_names = {*SUITE, *ON_REQUEST, *DEVNET, *INTERFACES}
    current = all(is_current(name) for name in shipped_names)
    if not arguments.check and current and (not arguments.all or _read(stamp) == key):
        print("contracts: the artifacts are what the sources say")
        return 0
    print(f"contracts: compiling {len(texts)} files (about half a minute)", flush=True)
    artifacts = compile_all(texts)
    missing = shipped_names - artifacts.keys()
    if missing:
        raise SystemExit(f"No source declares: {', '.join(sorted(missing))}")
    if arguments.check:
        differing = [n for n in sorted(shipped_names) if render(artifacts[n]) != _read(SHIPPED / f"{n}.json")]
        if differing:
            print(f"contracts: these artifacts differ from their sources: {', '.join(differing)}")
            print("Run scripts/fix and commit what it writes.")
            return 1
        print(f"contracts: {len(shipped_names)} artifacts are what their sources compile to")
        return 0
    SHIPPED.mkdir(parents=True, exist_ok=True)
    BUILT.mkdir(parents=True, exist_ok=True)
    for name, artifact in artifacts.items():
        text = render(artifact)
        target = SHIPPED / f"{name}.json"
        if name in shipped_names and _read(target) != text:
            if is_current(name):
                raise SystemExit(f"The same sources compile to another {name} than the committed one")
            target.write_text(text)
        (BUILT / f"{name}.json").write_text(text)
    stamp.write_text(key)
    size = {n: len(artifacts[n]["deployedBytecode"]) // 2 - 1 for n in SUITE}
    print("contracts: " + ", ".join(f"{name} {count:,} bytes" for name, count in size.items()))
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
