r"""The bundle: one file with everything that a buyer needs before paying, and everything but the key after it.

::

    8 bytes   magic        89 70 79 69 6F 74 0D 0A    ("\x89pyiot\r\n")
    4 bytes   format       00 00 00 01
    4 bytes   header size  L, big-endian
    L bytes   header       JSON, padded with spaces: offer, rule parameters, metadata, sizes
    then, for each leaf:   h (32 bytes) ‖ c (leafSize bytes; lastLeafSize in the last one)

All leaves but the last have one size, so that any leaf is found by its index, and the file's length follows from its
header: a body that is longer or shorter is refused before its end. ``docs/reference/bundle-format.md`` describes every
field and gives test vectors. Whoever opens a bundle reads a stranger's file; nothing in it is trusted until
``verification`` has rebuilt the sealed root.

Example:
    >>> Bundle.open("/nowhere/else.pyiot", FetchPolicy.local("/nowhere"))
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.TransportError: /nowhere/else.pyiot: there is no such file
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from pyiot_evm.exceptions import InputError, PyIotEvmError, TransportError, VerificationError
from pyiot_evm.market.atomic import atomic_file
from pyiot_evm.market.documents import OFFER_FIELDS, hex_text, read_fields, read_hex, read_number, write_fields
from pyiot_evm.market.fetch import FetchPolicy, fetch, open_local
from pyiot_evm.market.metadata import Kind, Metadata, strict_json
from pyiot_evm.market.offers import Offer, offer_id
from pyiot_evm.market.sealing import MAX_LEAF_SIZE, sealed_leaves
from pyiot_evm.merkle import proof_of, root_of
from pyiot_evm.types import Address, OfferId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Bundle", "BundleHeader"]

MAGIC: Final = b"\x89pyiot\r\n"
FORMAT: Final = 1
PREAMBLE_SIZE: Final = 16
HASH_SIZE: Final = 32
_READ_SIZE: Final = 1 << 16
_HEADER_KEYS: Final = {
    "format", "chainId", "market", "kind", "leafSize", "lastLeafSize", "offer", "ruleParams", "metadata"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BundleHeader:
    """What a bundle says about itself.

    Args:
        chain_id: The chain of the offer.
        market: The market contract of the offer.
        kind: ``"readings"`` or ``"blob"``.
        leaf_size: The size of every leaf but the last.
        last_leaf_size: The size of the last leaf.
        offer: The seller's terms.
        rule_params: The preimage of the offer's ``rule_params_hash``.
        metadata: The metadata document, whose hash is the offer's ``terms``.
    """

    chain_id: int
    market: Address
    kind: Kind
    leaf_size: int
    last_leaf_size: int
    offer: Offer
    rule_params: bytes
    metadata: Metadata

    @property
    def body_size(self) -> int:
        """How many bytes follow the header."""
        return self.offer.leaf_count * (HASH_SIZE + self.leaf_size) - self.leaf_size + self.last_leaf_size

    def encode(self) -> bytes:
        """Return preamble and header; the same length whatever the sealed root."""
        document = {
            "format": "pyiot bundle",
            "chainId": self.chain_id,
            "market": str(self.market),
            "kind": self.kind,
            "leafSize": self.leaf_size,
            "lastLeafSize": self.last_leaf_size,
            "offer": write_fields(self.offer, OFFER_FIELDS),
            "ruleParams": hex_text(self.rule_params),
            "metadata": self.metadata.document(),
        }
        header = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        header = header.ljust((len(header) + 63) // 64 * 64)
        return MAGIC + FORMAT.to_bytes(4, "big") + len(header).to_bytes(4, "big") + header

    @classmethod
    def decode(cls, header: bytes) -> Self:
        """Read the header of a stranger's bundle.

        Raises:
            VerificationError: It is no header.
        """
        document = strict_json(header)
        if set(document) != _HEADER_KEYS or document["format"] != "pyiot bundle":
            raise VerificationError("not a bundle's header")
        if not isinstance(document["metadata"], dict):
            raise VerificationError("the metadata is no object")
        metadata = Metadata.from_document(document["metadata"])
        if document["kind"] != metadata.kind:
            raise VerificationError(f"the header and its metadata differ in kind: {document['kind']!r:.40}")
        header_fields = cls(
            chain_id=read_number(document["chainId"], bits=256),
            market=Address(read_hex(document["market"], size=20)),
            kind=metadata.kind,
            leaf_size=read_number(document["leafSize"], bits=32),
            last_leaf_size=read_number(document["lastLeafSize"], bits=32),
            offer=Offer(**read_fields(document["offer"], OFFER_FIELDS)),
            rule_params=read_hex(document["ruleParams"]),
            metadata=metadata,
        )
        header_fields.check_sizes()
        return header_fields

    def check_sizes(self) -> None:
        """Check that the leaves can be disputed.

        Raises:
            VerificationError: A leaf is empty or larger than 4,096 bytes, or there is none.
        """
        if not 0 < self.last_leaf_size <= self.leaf_size <= MAX_LEAF_SIZE:
            raise VerificationError(
                f"leaves of {self.leaf_size} and at last {self.last_leaf_size} bytes: they have 1 to {MAX_LEAF_SIZE}",
                hint="a leaf that is too large could not be disputed in one transaction",
            )
        if not self.offer.leaf_count:
            raise VerificationError("the bundle has no leaves")


class Bundle:
    """An open bundle. Use it as a context manager; it is safe to read from several threads.

    Make one with :meth:`open`.
    """

    def __init__(self, *, file: BinaryIO, header: BundleHeader, body: int, path: Path | None) -> None:
        self._file = file
        self._body = body
        self.header = header
        self.path = path

    @classmethod
    def open(cls, url: str | Path, policy: FetchPolicy | None = None, *, into: Path | None = None) -> Self:
        """Open a bundle.

        A local file is read where it lies. Anything else is fetched first, with every limit of ``policy``, and read
        from the copy: a server must not be able to show one bundle before the payment and another one after it.

        Args:
            url: A path or an fsspec URL.
            policy: What may be fetched; public web servers only, when left out.
            into: Where the copy is kept; a temporary file that ends with the bundle, when left out.

        Raises:
            InputError: The policy does not allow the address.
            TransportError: It cannot be fetched.
            VerificationError: It is no bundle, or larger than the policy allows, or has another length than it says.
        """
        policy = policy or FetchPolicy()
        address = str(url)
        if policy.check(address) == "file":
            path = open_local(address, policy)
            return cls._over(path.file, path.path, policy)
        if into is not None:
            cls.fetch(address, policy, into=into)
            return cls._over(into.open("rb"), into, policy)
        temporary = tempfile.TemporaryFile()  # noqa: SIM115 - the bundle closes it
        try:
            _copy(address, temporary, policy)
        except BaseException:
            temporary.close()
            raise
        return cls._over(temporary, None, policy)

    @classmethod
    def open_own(cls, path: Path) -> Self:
        """Open a bundle that this machine made or fetched itself.

        Raises:
            TransportError: There is no such file.
            VerificationError: It is no bundle.
        """
        path = path.resolve()
        return cls.open(path, FetchPolicy.local(path.parent, max_bytes=1 << 63))

    @staticmethod
    def fetch(url: str | Path, policy: FetchPolicy, *, into: Path) -> None:
        """Copy a bundle from anywhere, a local folder too, and end the download as soon as it cannot be one.

        Args:
            url: A path or an fsspec URL.
            policy: What may be fetched.
            into: Where the copy appears, whole or not at all.

        Raises:
            InputError: The policy does not allow the address.
            TransportError: It cannot be fetched.
            VerificationError: It is no bundle, or larger than the policy allows, or has another length than it says.
        """
        with atomic_file(into) as copy:
            _copy(str(url), copy, policy)

    @classmethod
    def _over(cls, file: BinaryIO, path: Path | None, policy: FetchPolicy) -> Self:
        try:
            size = os.fstat(file.fileno()).st_size
            preamble = os.pread(file.fileno(), PREAMBLE_SIZE, 0)
            length = _header_size(preamble, policy)
            header = BundleHeader.decode(os.pread(file.fileno(), length, PREAMBLE_SIZE))
            _check_length(header, PREAMBLE_SIZE + length, policy, size)
        except PyIotEvmError:
            file.close()
            raise
        return cls(file=file, header=header, body=PREAMBLE_SIZE + length, path=path)

    @property
    def offer(self) -> Offer:
        """The seller's terms, as the bundle gives them."""
        return self.header.offer

    @property
    def metadata(self) -> Metadata:
        """The metadata document."""
        return self.header.metadata

    @property
    def rule_params(self) -> bytes:
        """The rule's parameters."""
        return self.header.rule_params

    @property
    def offer_id(self) -> OfferId:
        """The id of the offer on its chain."""
        return offer_id(self.offer, chain_id=self.header.chain_id, market=self.header.market)

    def __len__(self) -> int:
        return self.offer.leaf_count

    def leaf(self, index: int) -> tuple[bytes, bytes]:
        """Return ``(h, c)`` of one leaf.

        Raises:
            InputError: There is no leaf at ``index``.
            TransportError: The file was cut off since it was opened.
        """
        count = len(self)
        if not 0 <= index < count:
            raise InputError(f"there is no leaf {index} in a bundle of {count} leaves")
        stride = HASH_SIZE + self.header.leaf_size
        size = HASH_SIZE + (self.header.leaf_size if index < count - 1 else self.header.last_leaf_size)
        record = self._read(self._body + index * stride, size)
        return record[:HASH_SIZE], record[HASH_SIZE:]

    def records(self, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(h, c)`` of every leaf in order, from ``first`` on, in memory of a few leaves.

        Raises:
            TransportError: The file was cut off since it was opened.
        """
        for batch in self.batches(first):
            yield from batch

    def batches(self, first: int = 0) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield the leaves of :meth:`records`, many at a time.

        Raises:
            TransportError: The file was cut off since it was opened.
        """
        stride = HASH_SIZE + self.header.leaf_size
        count = max(1, _READ_SIZE // stride)
        last = len(self) - 1
        for start in range(first, last, count):
            end = min(start + count, last)
            block = self._read(self._body + start * stride, (end - start) * stride)
            offsets = range(0, len(block), stride)
            yield [(block[at : at + HASH_SIZE], block[at + HASH_SIZE : at + stride]) for at in offsets]
        if first <= last:
            yield [self.leaf(last)]

    def sealed_leaves(self) -> Iterator[bytes]:
        """Yield the tree's leaf hashes in order."""
        index = 0
        for batch in self.batches():
            yield from sealed_leaves(batch, first=index)
            index += len(batch)

    def sealed_root(self) -> bytes:
        """Return the root that the leaves really have; reads the whole file."""
        return root_of(self.sealed_leaves())

    def proof(self, index: int) -> list[bytes]:
        """Return the inclusion proof of one leaf; reads the whole file.

        Raises:
            InputError: There is no leaf at ``index``.
        """
        return proof_of(self.sealed_leaves(), index, len(self))

    def _read(self, offset: int, size: int) -> bytes:
        if self._file.closed:
            raise InputError("the bundle is closed")
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise TransportError("the bundle was cut off while it was read", retryable=False)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Bundle(offer_id={self.offer_id}, kind={self.header.kind!r}, leaves={len(self)})"


def _copy(address: str, target: Any, policy: FetchPolicy) -> None:
    intake = _Intake(target, policy)
    fetch(address, intake.take, policy)
    intake.finish()


class _Intake:
    """Takes a body piece by piece and ends the download as soon as it cannot be a bundle."""

    def __init__(self, target: Any, policy: FetchPolicy) -> None:
        self._target = target
        self._policy = policy
        self._head = b""
        self._count = 0
        self._expected: int | None = None

    def take(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._count += len(piece)
        if self._expected is None:
            self._head += piece
            self._look()
        if self._expected is not None and self._count > self._expected:
            raise VerificationError(f"the bundle is longer than the {self._expected} bytes that its header says")
        self._target.write(piece)

    def _look(self) -> None:
        if len(self._head) < PREAMBLE_SIZE:
            return
        end = PREAMBLE_SIZE + _header_size(self._head, self._policy)
        if len(self._head) >= end:
            header = BundleHeader.decode(self._head[PREAMBLE_SIZE:end])
            _check_length(header, end, self._policy, None)
            self._expected = end + header.body_size
            self._head = b""

    def finish(self) -> None:
        """Check that the body is complete."""
        if self._expected is None:
            raise VerificationError(f"not a bundle: {self._count} bytes end within its header")
        if self._count != self._expected:
            raise VerificationError(f"the bundle has {self._count} bytes, not {self._expected} as its header says")


def _header_size(preamble: bytes, policy: FetchPolicy) -> int:
    if preamble[:8] != MAGIC or len(preamble) < PREAMBLE_SIZE:
        raise VerificationError("not a bundle: it does not begin like one")
    version, length = int.from_bytes(preamble[8:12], "big"), int.from_bytes(preamble[12:16], "big")
    if version != FORMAT:
        raise VerificationError(f"a bundle of format {version}, which this version cannot read")
    if length > policy.max_header_bytes:
        raise VerificationError(f"the bundle's header has {length} bytes, more than {policy.max_header_bytes}")
    return length


def _check_length(header: BundleHeader, start: int, policy: FetchPolicy, size: int | None) -> None:
    expected = start + header.body_size
    if expected > policy.max_bytes:
        raise VerificationError(f"the bundle has {expected} bytes, more than {policy.max_bytes}")
    if size is not None and size != expected:
        raise VerificationError(f"the bundle has {size} bytes, not {expected} as its header says")
