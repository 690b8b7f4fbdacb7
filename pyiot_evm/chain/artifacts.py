"""The compiled contracts that ship in the wheel: ABI, bytecode and the hash of the sources.

Example:
    >>> artifact = load_artifact("DevDollar")
    >>> artifact.name, len(artifact.source_hash) > 0
    ('DevDollar', True)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pyiot_evm.exceptions import ConfigurationError

__all__ = ["Artifact", "artifact_names", "load_artifact"]

_FOLDER = files("pyiot_evm").joinpath("contracts", "artifacts")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    Attributes:
        bytecode: The init code, without constructor arguments.
        deployed_bytecode: The code that the chain keeps, zeros where immutables are written.
        immutables: Where immutables stand in the deployed code: (start, length) in bytes.
        source_hash: The hash of the sources and the compiler's settings.
    """

    name: str
    abi: list[dict[str, Any]] = field(repr=False)
    bytecode: bytes = field(repr=False)
    deployed_bytecode: bytes = field(repr=False)
    immutables: tuple[tuple[int, int], ...]
    source_hash: str

    def matches(self, code: bytes) -> bool:
        """Whether ``code``, read from a chain, is this contract's, whatever its immutables are."""
        return len(code) == len(self.deployed_bytecode) and self._masked(code) == self._masked(self.deployed_bytecode)

    def _masked(self, code: bytes) -> bytes:
        buffer = bytearray(code)
        for start, length in self.immutables:
            buffer[start : start + length] = bytes(length)
        return bytes(buffer)


@cache
def load_artifact(name: str) -> Artifact:
    """Read one contract's artifact.

    Raises:
        ConfigurationError: There is none of that name.
    """
    try:
        document = json.loads(_FOLDER.joinpath(f"{name}.json").read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"there is no compiled contract {name}", hint="in a source tree, run `scripts/setup` to compile them"
        ) from error
    references = document.get("immutableReferences") or {}
    return Artifact(
        name=name,
        abi=document["abi"],
        bytecode=_code(document["bytecode"]),
        deployed_bytecode=_code(document["deployedBytecode"]),
        immutables=tuple((item["start"], item["length"]) for group in references.values() for item in group),
        source_hash=str(document.get("sourceHash", "")),
    )


def artifact_names() -> list[str]:
    """Return the names of all compiled contracts, sorted."""
    if not _FOLDER.is_dir():
        return []
    return sorted(item.name.removesuffix(".json") for item in _FOLDER.iterdir() if item.name.endswith(".json"))


def _code(value: Any) -> bytes:
    text = value["object"] if isinstance(value, dict) else value
    return bytes.fromhex(text.removeprefix("0x"))
