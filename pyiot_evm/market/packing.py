"""Making bundles and taking them apart: files and readings in, files and readings out, in a stream.

A file of any size is sealed, checked and unsealed in the memory of a few batches. What is written appears whole or not
at all.

Example:
    >>> import pathlib, tempfile
    >>> from pyiot_evm.market.bundle import Bundle
    >>> from pyiot_evm.market.key_release import ContentKey
    >>> from pyiot_evm.market.offers import blank_offer
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "model.bin").write_bytes(b"weights" * 1000)
    >>> key, draft = ContentKey.create(), blank_offer(seller=bytes(20), token=bytes(20), price=1)
    >>> place = Place(chain_id=31337, market=Address(bytes(20)))
    >>> metadata = file_metadata(folder / "model.bin", title="A model")
    >>> offer = seal_file(
    ...     folder / "model.bin", folder / "b.pyiot", key=key, draft=draft, metadata=metadata, place=place)
    >>> with Bundle.open_own(folder / "b.pyiot") as bundle:
    ...     unseal_file(bundle, key, folder / "copy.bin")
    >>> (folder / "copy.bin").read_bytes() == b"weights" * 1000
    True
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from pyiot_evm.exceptions import InputError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.atomic import atomic_file
from pyiot_evm.market.bundle import BundleHeader
from pyiot_evm.market.metadata import Licence, Metadata, is_plain_name
from pyiot_evm.market.sealing import (
    CHUNK_SIZE,
    SALT_SIZE,
    chunk_count,
    chunks_of,
    last_chunk_leaf_size,
    seal_batches,
    sealed_leaves,
    unseal_leaves,
)
from pyiot_evm.merkle import RootBuilder
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pyiot_evm.market.bundle import Bundle
    from pyiot_evm.market.key_release import ContentKey
    from pyiot_evm.market.offers import Offer

__all__ = [
    "Place",
    "Progress",
    "file_metadata",
    "rooted_records",
    "seal_file",
    "seal_readings",
    "unseal_bytes",
    "unseal_file",
]

Progress = Callable[[int, int], None]
"""Called now and then with the number of leaves that are done and the number of all."""

_WRITE_BATCH = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where an offer stands.

    Args:
        chain_id: The chain.
        market: The market contract.
    """

    chain_id: int
    market: Address


def file_metadata(
    path: Path,
    *,
    title: str = "",
    description: str = "",
    tags: Sequence[str] = (),
    licence: Licence | None = None,
) -> Metadata:
    """Return the metadata document of a file that is sold as it is.

    Raises:
        InputError: There is no such file, it is empty, or it has a name that cannot be passed on.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    chunk_count(size)
    return Metadata(
        kind="blob",
        title=title or path.name,
        description=description,
        tags=tuple(tags),
        licence=licence or Licence(),
        size=size,
        filename=path.name if is_plain_name(path.name) else "",
        media_type=mimetypes.guess_type(path.name)[0] or "",
    )


def seal_file(
    source: Path,
    target: Path,
    *,
    key: ContentKey,
    draft: Offer,
    metadata: Metadata,
    place: Place,
    progress: Progress | None = None,
) -> Offer:
    """Seal a file into a bundle.

    Args:
        source: The file.
        target: Where the bundle is written.
        key: κ, drawn for this data set only and kept safe before this is called.
        draft: The commercial terms; what comes from the data is filled in.
        metadata: The document of :func:`file_metadata`.
        place: Where the offer will stand.
        progress: Called now and then.

    Returns:
        The offer, complete.

    Raises:
        InputError: The file is not what the metadata says, or changed meanwhile.
    """
    if draft.rule != ZERO_ADDRESS:
        raise InputError("a file has no rule: its leaves are chunks, not readings")
    count, last = chunk_count(metadata.size), last_chunk_leaf_size(metadata.size)
    header = _header(
        draft, count, metadata, place, key=key, leaf_size=SALT_SIZE + CHUNK_SIZE if count > 1 else last, last=last
    )
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from error
    with file:
        return _write(target, chunks_of(key, file), header, key, progress)


def seal_readings(
    leaves: Iterable[bytes],
    target: Path,
    *,
    key: ContentKey,
    draft: Offer,
    rule_params: bytes,
    metadata: Metadata,
    place: Place,
    progress: Progress | None = None,
) -> Offer:
    """Seal readings into a bundle.

    Args:
        leaves: Each reading's leaf, all of one length, as many as the metadata's rows.
        target: Where the bundle is written.
        key: κ, drawn for this data set only and kept safe before this is called.
        draft: The commercial terms and the rule; what comes from the data is filled in.
        rule_params: The rule's encoded parameters.
        metadata: The document of :meth:`pyiot_evm.market.datasets.Table.metadata`.
        place: Where the offer will stand.
        progress: Called now and then.

    Returns:
        The offer, complete.

    Raises:
        InputError: The leaves differ in length or are not as many as the metadata's rows.
    """
    items = iter(leaves)
    first = next(items, b"")
    header = _header(
        draft, metadata.rows, metadata, place, key=key, leaf_size=len(first), last=len(first), rule_params=rule_params
    )

    def all_leaves() -> Iterator[bytes]:
        yield first
        yield from items

    return _write(target, all_leaves(), header, key, progress)


def _header(
    draft: Offer,
    count: int,
    metadata: Metadata,
    place: Place,
    *,
    key: ContentKey,
    leaf_size: int,
    last: int,
    rule_params: bytes = b"",
) -> BundleHeader:
    offer = replace(
        draft,
        sealed_root=Bytes32(bytes(32)),
        leaf_count=count,
        key_x=key.point[0],
        key_y=key.point[1],
        rule_params_hash=Bytes32(keccak256(rule_params)),
        terms=metadata.hash,
    )
    header = BundleHeader(
        place.chain_id, Address(place.market), metadata.kind, leaf_size, last, offer, rule_params, metadata
    )
    try:
        header.check_sizes()
    except VerificationError as error:
        raise InputError(error.message, hint=error.hint) from error
    return header


def _write(
    target: Path, leaves: Iterable[bytes], header: BundleHeader, key: ContentKey, progress: Progress | None
) -> Offer:
    count, builder = header.offer.leaf_count, RootBuilder()
    with atomic_file(target) as file:
        file.write(header.encode())
        for first, batch in seal_batches(key, leaves):
            _check_sizes(header, first, batch)
            builder.extend(sealed_leaves(batch, first=first))
            file.write(b"".join([part for record in batch for part in record]))
            if progress is not None:
                progress(first, count)
        if builder.size != count:
            raise InputError(f"there are {builder.size} leaves, not {count}: the data changed while it was sealed")
        offer = replace(header.offer, sealed_root=Bytes32(builder.root()))
        file.seek(0)
        file.write(replace(header, offer=offer).encode())
    if progress is not None:
        progress(count, count)
    return offer


def _check_sizes(header: BundleHeader, first: int, batch: Sequence[tuple[bytes, bytes]]) -> None:
    last = header.offer.leaf_count - 1
    if first + len(batch) <= last and {len(sealed) for _, sealed in batch} == {header.leaf_size}:
        return
    for index, (_, sealed) in enumerate(batch, first):
        if len(sealed) != (header.leaf_size if index < last else header.last_leaf_size):
            raise InputError(
                f"leaf {index} of {last + 1} has {len(sealed)} bytes: the data changed while it was sealed"
            )


def rooted_records(bundle: Bundle, progress: Progress | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield ``(h, c)`` of every leaf, and check at the end that they lie under the offer's root.

    Raises:
        VerificationError: They do not: the file is not the one that was sold.
    """
    builder, count = RootBuilder(), len(bundle)
    for batch in bundle.batches():
        if progress is not None:
            progress(builder.size, count)
        builder.extend(sealed_leaves(batch, first=builder.size))
        yield from batch
    if builder.root() != bundle.offer.sealed_root:
        raise VerificationError(
            f"the leaves have the root 0x{builder.root().hex()}, not the offer's {bundle.offer.sealed_root}",
            hint="the bundle was changed or damaged: fetch it again",
        )
    if progress is not None:
        progress(count, count)


def unseal_file(bundle: Bundle, key: ContentKey, target: Path, progress: Progress | None = None) -> None:
    """Write the file that a bundle holds, once every chunk and the root are checked; whole or not at all.

    Args:
        bundle: The bundle of a blob.
        key: κ.
        target: Where the file is written.
        progress: Called now and then.

    Raises:
        InputError: The bundle holds readings.
        VerificationError: A chunk does not decrypt to its hash, or the leaves do not lie under the offer's root.
    """
    if bundle.header.kind != "blob":
        raise InputError("the bundle holds readings, not a file")
    with atomic_file(target) as file:
        leaves = unseal_leaves(key, rooted_records(bundle, progress))
        while batch := list(islice(leaves, _WRITE_BATCH)):
            file.write(b"".join([leaf[SALT_SIZE:] for leaf in batch]))


def unseal_bytes(bundle: Bundle, key: ContentKey, *, limit: int = 1 << 30) -> bytes:
    """Return the file that a bundle holds, for files that fit into memory.

    Raises:
        InputError: The bundle holds readings, or more bytes than ``limit``.
        VerificationError: A chunk does not decrypt to its hash, or the leaves do not lie under the offer's root.
    """
    if bundle.header.kind != "blob" or bundle.header.body_size > limit:
        raise InputError(f"the bundle holds readings, or more than {limit} bytes")
    return b"".join(plain[SALT_SIZE:] for plain in unseal_leaves(key, rooted_records(bundle)))
