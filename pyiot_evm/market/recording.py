r"""A table becomes readings: each row signed by the device, in its one sequence, each content only once.

A device never signs two readings with one number, so its journals follow one another: one file for each table that was
sold, named by the first number and by the content. Selling the same content again, at another price or after a crash,
finds the file and signs nothing twice; a file that a crash left unfinished is finished, if nothing came after it.

Example:
    >>> import pathlib, tempfile
    >>> from pyiot_evm.device import LocalSigner
    >>> from pyiot_evm.market.datasets import read_csv
    >>> from pyiot_evm.types import Bytes32
    >>> signer, folder = LocalSigner.create(), pathlib.Path(tempfile.mkdtemp())
    >>> table = read_csv(b"time,value\n2024-01-01,21.5\n2024-01-02,21.7\n")
    >>> name = {"device": signer.device, "signer": signer, "content": Bytes32(bytes(32))}
    >>> first, again = (record_table(folder, table, **name) for _ in range(2))
    >>> [reading.seq for reading in first], first == again
    ([0, 1], True)
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pyiot_evm.device.journal import ReadingJournal
from pyiot_evm.device.reading import ZERO_DIGEST
from pyiot_evm.exceptions import InputError
from pyiot_evm.market.locks import file_lock

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.device.reading import Reading
    from pyiot_evm.device.signers import Signer
    from pyiot_evm.market.datasets import Table
    from pyiot_evm.types import Bytes32, DeviceId

__all__ = ["record_table"]

_BATCH = 2_000
_ENDING = ".readings"


def record_table(folder: Path, table: Table, *, device: DeviceId, signer: Signer, content: Bytes32) -> list[Reading]:
    """Sign every row of a table, or find the readings that were signed for it before.

    Args:
        folder: Where this device's journals lie.
        table: The rows.
        device: The device's id.
        signer: The device's present key.
        content: What names the table: equal content is signed once.

    Returns:
        One reading a row, with neighbouring sequence numbers.

    Raises:
        InputError: A row does not fit the schema, or the table is empty.
        SigningError: The device's signer refuses.
    """
    if not len(table):
        raise InputError("the table has no rows")
    with file_lock(folder / "lock"):
        path = _unfinished_or_whole(folder, table, content, signer)
        journal = _begin(folder, table, device, signer, content) if path is None else ReadingJournal.open(path)
        with journal:
            rows = islice(zip(table.times, table.rows, strict=True), len(journal), None)
            while batch := list(islice(rows, _BATCH)):
                journal.sign_many(signer, batch)
            return list(journal)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_ENDING}"))


def _unfinished_or_whole(folder: Path, table: Table, content: Bytes32, signer: Signer) -> Path | None:
    """Return this content's journal when it is whole, or when it can still be gone on with."""
    files = _files(folder)
    for path in reversed(files):
        if path.name.endswith(f"-{content.hex()}{_ENDING}"):
            with ReadingJournal.open(path) as journal:
                whole = len(journal) == len(table)
                if whole or (path == files[-1] and journal.curve == signer.curve):
                    return path
    return None


def _begin(folder: Path, table: Table, device: DeviceId, signer: Signer, content: Bytes32) -> ReadingJournal:
    first_seq, prev = 0, ZERO_DIGEST
    for path in reversed(_files(folder)):
        with ReadingJournal.open(path) as last:
            first_seq, prev, signed = last.head.seq + 1, last.head.digest, len(last)
        if signed:
            break
        path.unlink()  # begun and never signed in: its number is free
    return ReadingJournal.open(
        folder / _name(first_seq, content),
        device=device,
        schema=table.schema,
        curve=signer.curve,
        first_seq=first_seq,
        prev=prev,
    )


def _name(first_seq: int, content: Bytes32) -> str:
    return f"{first_seq:020d}-{content.hex()}{_ENDING}"
