"""One file with all that a home cannot get back from a chain: keystores, journals, and with them the content keys.

A seller who loses the content keys of what is on sale cannot reveal any more and loses that income; a device that
loses its journal would number its readings from the start again. Both are in the backup. Nothing in it is in the clear
that was not so in the home: keystores stay encrypted by their passphrase, content keys by the account key. Bundles and
the catalog are left out: they can be fetched and read again (``bundles=True`` takes the bundles too).

Restoring never writes over anything: it stops before the first byte when a name or a journal is there already.

Example:
    >>> import tempfile, pathlib
    >>> from pyiot_evm.home import LIGHT, Home
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> old = Home(folder / "old", passphrase=lambda: "correct horse", cost=LIGHT)
    >>> entry = old.keyring.new("sensor")
    >>> write_backup(old, folder / "backup.tar.gz").names
    ('sensor',)
    >>> new = Home(folder / "new", passphrase=lambda: "correct horse", cost=LIGHT)
    >>> restore_backup(new, folder / "backup.tar.gz").names, new.keyring.entry("sensor").address == entry.address
    (('sensor',), True)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pyiot_evm.device.files import make_private_folder, sync_folder
from pyiot_evm.exceptions import InputError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiot_evm.home import Home

__all__ = ["Backup", "restore_backup", "write_backup"]

_MANIFEST: Final = "pyiot-backup.json"
_VERSION: Final = 1
_FOLDERS: Final = ("keys", "journals", "networks", "bundles")
_CATALOG: Final = "catalog.sqlite"
_TEMPORARY: Final = ("-wal", "-shm", "-journal", ".lock")


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds.

    Attributes:
        created_at: Unix seconds.
        names: The names whose keystores are in it.
        networks: The networks whose journals (and so whose content keys) are in it.
        files: SHA-256 of each file, by its path in the home.
    """

    created_at: int
    names: tuple[str, ...]
    networks: tuple[str, ...]
    files: dict[str, str]


def write_backup(home: Home, path: Path, *, bundles: bool = False) -> Backup:
    """Write a backup of a home to one new file (0600).

    Databases are copied as they stand at one moment, also while a seller is at work.

    Args:
        home: The home.
        path: The file; it must not exist.
        bundles: Whether to take the bundles too; they can be large.

    Raises:
        InputError: ``path`` exists, or the home has no keys.
    """
    if path.exists():
        raise InputError(f"{path} exists already", hint="choose another file, or move that one away")
    with tempfile.TemporaryDirectory(prefix=".pyiot-backup-", dir=path.parent) as folder:
        files = {}
        temporary = Path(folder) / "backup"
        with temporary.open("xb") as raw, tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as archive:
            temporary.chmod(0o600)
            for name, source in _snapshot(home, Path(folder), bundles=bundles):
                archive.add(source, name, recursive=False)
                files[name] = _sha256(source)
            backup = _backup(files)
            document = json.dumps({"version": _VERSION, **asdict(backup)}, indent=1).encode()
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(document)
            archive.addfile(entry, io.BytesIO(document))
        os.link(temporary, path)
    sync_folder(path.parent)
    return backup


def restore_backup(home: Home, path: Path) -> Backup:
    """Put a backup's files into a home; all of them, or none.

    Raises:
        InputError: It is no backup, or something that it holds is in the home already.
        VerificationError: A file in it is damaged.
    """
    make_private_folder(home.path)
    with _unpacked(path, home.path) as (folder, backup):
        taken = [name for name in sorted(backup.files) if (home.path / name).exists()]
        taken += [f"keys/{name}" for name in backup.names if (home.path / "keys" / name).exists()]
        if taken:
            raise InputError(
                f"{taken[0]} is in {home.path} already",
                hint="restore into an empty home: PYIOT_HOME=/a/new/folder pyiot key restore FILE",
            )
        for name in sorted(backup.files):
            target = home.path / name
            make_private_folder(target.parent)
            (folder / name).rename(target)
            sync_folder(target.parent)
    return backup


def _backup(files: dict[str, str]) -> Backup:
    parts = [PurePosixPath(name).parts for name in files]
    names = sorted({part[1] for part in parts if part[0] == "keys"})
    if not names:
        raise InputError("there is nothing to back up: the home has no keys", hint="make one: `pyiot key new NAME`")
    networks = sorted({part[1] for part in parts if part[0] == "networks"})
    return Backup(int(time.time()), tuple(names), tuple(networks), files)


def _snapshot(home: Home, folder: Path, *, bundles: bool) -> Iterator[tuple[str, Path]]:
    """Give each file's path in the home, and a copy of it that does not change any more."""
    for top in _FOLDERS if bundles else _FOLDERS[:-1]:
        for source in sorted((home.path / top).rglob("*")):
            name = source.relative_to(home.path).as_posix()
            hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
            if hidden or not source.is_file() or source.name == _CATALOG or source.name.endswith(_TEMPORARY):
                continue
            copy = folder / "copy"
            copy.unlink(missing_ok=True)
            if source.suffix == ".sqlite":
                with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(copy)) as new:
                    old.backup(new)
            else:
                shutil.copyfile(source, copy)
            copy.chmod(0o600)
            yield name, copy


@contextmanager
def _unpacked(path: Path, beside: Path) -> Iterator[tuple[Path, Backup]]:
    """Unpack a backup next to where it goes, and check every file."""
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=beside) as name:
        folder = Path(name)
        try:
            with tarfile.open(path, "r:gz") as archive:
                archive.extractall(folder, filter="data")
            document = json.loads((folder / _MANIFEST).read_text())
            version = document.pop("version")
            backup = Backup(
                int(document["created_at"]), tuple(document["names"]), tuple(document["networks"]), document["files"]
            )
        except FileNotFoundError as error:
            raise InputError(f"there is no backup at {path}") from error
        except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"{path} is not a backup that `pyiot key backup` wrote") from error
        if version != _VERSION:
            raise InputError(f"{path} is a backup of version {version}, this program reads {_VERSION}")
        for file, digest in backup.files.items():
            _check(folder, file, digest)
        yield folder, backup


def _check(folder: Path, name: str, digest: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] not in _FOLDERS or ".." in parts:
        raise InputError(f"the backup holds a file that is no part of a home: {name}")
    if not (folder / name).is_file() or _sha256(folder / name) != digest:
        raise VerificationError(
            f"the backup is damaged: {name} is not what was backed up", hint="try another copy of it"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
