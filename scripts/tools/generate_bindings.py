#!/usr/bin/env python3
"""Write the typed bindings of the contracts from their compiled artifacts.

One module for each contract in pyiot_evm/contracts/, and one error class for each Solidity error in
pyiot_evm/chain/contract_errors.py. The output depends on the artifacts and the sources' enums alone.

Usage: scripts/tools/generate_bindings.py [--check]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from binding_names import CLASSES, module_name
from binding_writers import (
    ERRORS,
    NOTICE,
    ROOT,
    SHARED,
    Abi,
    Artifact,
    Module,
    Types,
    canonical,
    enums_of,
    package,
    signature,
    struct_name,
    structs_of,
    write_contract,
    write_enum,
    write_errors,
    write_event,
    write_struct,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARTIFACTS = ROOT / "pyiot_evm/contracts/artifacts"


def load_artifacts() -> list[Artifact]:
    """Read all artifacts, sorted by name."""
    found = []
    for path in sorted(ARTIFACTS.glob("*.json")):
        document = json.loads(path.read_text())
        natspec = document.get("natspec") or {}
        found.append(Artifact(path.stem, document["abi"], natspec.get("userdoc", {}), natspec.get("devdoc", {})))
    return found


def find_homes(artifacts: list[Artifact]) -> dict[str, str]:
    """Return in which module each struct, enum and event lives: its contract's, or ``shared`` if several have it.

    Events that only share their name are left out: each stays in the module of its contract.
    """
    users: dict[str, list[str]] = {}
    shapes: dict[str, set[str]] = {}
    events: set[str] = set()
    for artifact in artifacts:
        named = {struct_name(part): canonical({**part, "type": "tuple"}) for part in structs_of(artifact.abi)}
        named |= dict.fromkeys(enums_of(artifact.abi), "enum")
        emitted = {
            item["name"]: f"{signature(item)} {[p['indexed'] for p in item['inputs']]}"
            for item in artifact.items("event")
        }
        events |= emitted.keys()
        named |= emitted
        for name, shape in named.items():
            users.setdefault(name, []).append(module_name(artifact.name))
            shapes.setdefault(name, set()).add(shape)
    for name, known in shapes.items():
        if len(known) > 1 and name not in events:
            raise SystemExit(f"two contracts mean different things by {name}: {sorted(known)}")
        if len(known) > 1:
            del users[name]
    homes = {name: modules[0] if len(modules) == 1 else SHARED for name, modules in users.items()}
    failing = enums_of(item for artifact in artifacts for item in artifact.items("error"))
    return homes | dict.fromkeys(failing, ERRORS)  # the errors are a layer below the contracts


def generate() -> dict[Path, str]:
    """Return every generated file's text, formatted."""
    artifacts = load_artifacts()
    homes = find_homes(artifacts)
    modules = {SHARED: Module(SHARED), ERRORS: Module(ERRORS)}
    written: set[tuple[str, str]] = set()
    exports: dict[str, str] = {}
    docs = {SHARED: "Structs and events that several contracts have."}
    for artifact in artifacts:
        own = module_name(artifact.name)
        modules[own] = Module(own)
        docs[own] = f"The contract {artifact.name}: its structs, events and calls."
        for kind, name, item in declarations(artifact):
            home = homes.get(name, own)
            if home != own and kind != "struct":
                modules[own].use(package(home), name)
                modules[own].names = sorted({*modules[own].names, name})
            if (home, name) in written:
                continue
            written.add((home, name))
            types = Types(modules[home], homes, home)
            text = declare(kind, name, item, artifact, types)
            modules[home].body.append(text)
            modules[home].names.append(name)
        modules[own].body.append(write_contract(artifact, Types(modules[own], homes, own)))
        class_name = CLASSES.get(artifact.name, artifact.name)
        modules[own].names.append(class_name)
        exports[class_name] = own
    folder = ROOT / "pyiot_evm/contracts"
    errors = modules.pop(ERRORS)
    files = {folder / f"{name}.py": module.text(docs[name]) for name, module in modules.items() if module.body}
    files[folder / "__init__.py"] = write_package(exports)
    files[ROOT / "pyiot_evm/chain/contract_errors.py"] = write_errors(artifacts, errors, homes)
    return {path: formatted(path, text) for path, text in files.items()}


def declare(kind: str, name: str, item: Abi, artifact: Artifact, types: Types) -> str:
    """Return the text of one enum, struct or event."""
    if kind == "enum":
        return write_enum(name, types.module)
    return write_struct(item, types) if kind == "struct" else write_event(item, artifact, types)


def declarations(artifact: Artifact) -> Iterator[tuple[str, str, Abi]]:
    """Yield the enums, structs and events that an artifact needs, each before it is used."""
    for name in sorted(enums_of(artifact.abi)):
        yield "enum", name, {}
    for part in structs_of(artifact.abi):
        yield "struct", struct_name(part), part
    for item in artifact.items("event"):
        yield "event", item["name"], item


def write_package(exports: dict[str, str]) -> str:
    """Return the package's ``__init__``, which loads a binding when it is first used."""
    hints = [f"    from pyiot_evm.contracts.{module} import {name}" for name, module in sorted(exports.items())]
    homes = [f'    "{name}": "{module}",' for name, module in sorted(exports.items())]
    return "\n".join(
        [
            f'"""Typed bindings of the contracts, one module a contract.\n\n{NOTICE}\n"""',
            "from __future__ import annotations", "from importlib import import_module",
            "from typing import TYPE_CHECKING, Any",
            "if TYPE_CHECKING:", *hints, f"__all__ = {json.dumps(sorted(exports))}", "_HOMES = {", *homes, "}", "", "",
            "def __getattr__(name: str) -> Any:", "    if name not in _HOMES:",
            '        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")',
            '    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)', "",
        ]
    )  # fmt: skip


def formatted(path: Path, text: str) -> str:
    """Return the text as the project's formatter writes it."""
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(path)]
    sort = [*ruff, "check", "--quiet", "--select", "I,TC,RUF022,F401", "--fix-only", "--unsafe-fixes"]
    sort += ["--config", "lint.isort.known-first-party=['pyiot_evm']", *name, "-"]
    for command in (sort, [*ruff, "format", "--quiet", *name, "-"]):
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with what is there and write nothing")
    check = parser.parse_args().check
    files = generate()
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    known = {ROOT / "pyiot_evm/contracts" / path.name for path in (ROOT / "pyiot_evm/contracts").glob("*.py")}
    extra = sorted(known - set(files))
    for path in stale + extra:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    if check:
        return 1 if stale or extra else 0
    for path in stale:
        path.write_text(files[path])
    for path in extra:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
