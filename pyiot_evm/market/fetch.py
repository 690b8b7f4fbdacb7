"""Fetching what a stranger listed, and publishing what one sells oneself.

An address in a listing is hostile until proved otherwise: it may name a file of this machine, a server of the house, a
redirect to either, a body without end or one that drips. A :class:`FetchPolicy` says what is allowed; the default is
public web servers and nothing else. ``http`` and ``https`` are read by a client of our own, because the address that is
checked must be the address that is connected to, at every redirect; all other schemes go through fsspec and have to be
allowed by name.

Example:
    >>> FetchPolicy().check("file:///etc/passwd")
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.InputError: file:///etc/passwd: the scheme file is not allowed
    >>> FetchPolicy().check("https://data.example.org/occupancy.pyiot")
    'https'
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from pyiot_evm.exceptions import InputError, PyIotEvmError, TransportError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["FetchPolicy", "fetch", "is_local", "local_path", "open_local", "publish"]

_WEB = frozenset({"http", "https"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE = 1 << 16
_MAX_URL = 2048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OK = 200
_SERVER_ERROR = 500
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched.

    Args:
        schemes: The allowed URL schemes, by fsspec's names. ``file`` needs ``allowed_roots`` too.
        allowed_roots: Local files are read only below these folders, symbolic links resolved.
        allow_private_hosts: Whether addresses that are not public (loopback, private, link-local) may be asked.
        max_bytes: The largest body.
        max_header_bytes: The largest header of a bundle.
        max_redirects: How many redirects are followed; each target is checked like the first address.
        timeout: Seconds for a connection, and for each read.
        max_seconds: Seconds for a whole download.
    """

    schemes: frozenset[str] = _WEB
    allowed_roots: tuple[Path, ...] = ()
    allow_private_hosts: bool = False
    max_bytes: int = 8 << 30
    max_header_bytes: int = 1 << 20
    max_redirects: int = 3
    timeout: float = 30.0
    max_seconds: float = 3600.0

    @classmethod
    def local(cls, *roots: Path | str, schemes: frozenset[str] = frozenset({"file", "memory"}), **limits: Any) -> Self:
        """Return a policy for one machine or one network: private hosts, and files below ``roots``, are allowed too."""
        paths = tuple(Path(root).resolve() for root in roots)
        return cls(schemes=_WEB | schemes, allowed_roots=paths, allow_private_hosts=True, **limits)

    def with_root(self, root: Path | str) -> Self:
        """Return the same policy with files below one more folder allowed."""
        roots = (*self.allowed_roots, Path(root).resolve())
        return replace(self, schemes=self.schemes | {"file"}, allowed_roots=roots)

    def check(self, url: str) -> str:
        """Return the scheme of an address that this policy allows.

        Raises:
            InputError: The address cannot be read, or its scheme, host or folder is not allowed.
        """
        if is_local(url):
            if "file" not in self.schemes:
                raise InputError(f"{_shown(url)}: the scheme file is not allowed", hint=_HINT)
            self._check_path(local_path(url), url)
            return "file"
        parts = _split(url)
        if parts.scheme not in self.schemes:
            raise InputError(f"{_shown(url)}: the scheme {parts.scheme} is not allowed", hint=_HINT)
        if parts.scheme in _WEB:
            self._check_host(parts, url)
        return parts.scheme

    def _check_path(self, path: Path, url: str) -> None:
        resolved = path.resolve()
        if not any(resolved.is_relative_to(root.resolve()) for root in self.allowed_roots):
            raise InputError(f"{_shown(url)}: not below an allowed folder", hint=_HINT)

    def _check_host(self, parts: SplitResult, url: str) -> None:
        if not parts.hostname or parts.username is not None or parts.password is not None:
            raise InputError(f"{_shown(url)}: a web address has a host and no user name")
        try:
            address = ipaddress.ip_address(parts.hostname)
        except ValueError:
            return  # a name: checked when it is resolved
        if not self.allow_private_hosts and not is_public(str(address)):
            raise InputError(f"{_shown(url)}: {address} is not a public address", hint=_HINT)


_HINT = "allow it in the FetchPolicy if you trust whoever listed it"


def is_public(host: str) -> bool:
    """Return whether an IP address, wrapped in IPv6 or not, is one of the public internet."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def is_local(url: str) -> bool:
    """Return whether an address names a local file: a plain path or a ``file:`` URL."""
    return "://" not in url or url.lower().startswith("file://")


def local_path(url: str) -> Path:
    """Return the path of a local address.

    Raises:
        InputError: It cannot be a path of this machine.
    """
    if "::" in url or "\0" in url:
        raise InputError(f"{_shown(url)}: not an address of one file")
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or "\0" in path:
        raise InputError(f"{_shown(url)}: not a file of this machine")
    return Path(path)


def _split(url: str) -> SplitResult:
    problem = InputError(f"{_shown(url)}: not an address that can be fetched")
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise problem
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018
    except ValueError as error:
        raise problem from error
    if parts.scheme not in _WEB and "::" in url:  # fsspec would open one file system inside another
        raise problem
    return parts


def _shown(url: str) -> str:
    text = "".join(character if character.isprintable() else "?" for character in url)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def fetch(url: str, write: Callable[[bytes], object], policy: FetchPolicy) -> int:
    """Fetch a body piece by piece.

    Args:
        url: A web address, or what fsspec takes where the policy allows its scheme.
        write: Takes each piece, and may raise to end the download.
        policy: What is allowed.

    Returns:
        The number of bytes.

    Raises:
        InputError: The policy does not allow the address.
        TransportError: It does not answer, or too slowly.
        VerificationError: The body is larger than the policy allows.
    """
    scheme = policy.check(url)
    meter = _Meter(url, write, policy)
    try:
        if scheme in _WEB:
            _run(_fetch_web(url, meter, policy))
        elif scheme == "file":
            _read(open_local(url, policy).file, meter)
        else:
            import fsspec  # noqa: PLC0415

            _read(fsspec.filesystem(scheme).open(url, "rb"), meter)
    except PyIotEvmError:
        raise
    except FileNotFoundError as error:
        raise TransportError(f"{_shown(url)}: there is no such file") from error
    except TimeoutError as error:
        raise TransportError(f"{_shown(url)}: no answer in time") from error
    except (OSError, ValueError, ImportError) as error:
        raise TransportError(f"{_shown(url)}: {type(error).__name__}: {error}") from error
    return meter.count


@dataclass(slots=True)
class _Meter:
    """Counts what came and when, and ends a download that is over its limits."""

    url: str
    write: Callable[[bytes], object]
    policy: FetchPolicy
    count: int = 0
    started: float = field(default_factory=time.monotonic)

    def __call__(self, piece: bytes) -> None:
        self.count += len(piece)
        if self.count > self.policy.max_bytes:
            raise VerificationError(f"{_shown(self.url)}: more than {self.policy.max_bytes} bytes")
        if time.monotonic() - self.started > self.policy.max_seconds:
            raise TransportError(f"{_shown(self.url)}: not complete after {self.policy.max_seconds} seconds")
        self.write(piece)


def _read(source: Any, meter: _Meter) -> None:
    with source:
        while piece := source.read(_PIECE):
            meter(piece)


class LocalFile(NamedTuple):
    """An open local file and where it really lies."""

    file: BinaryIO
    path: Path


def open_local(url: str, policy: FetchPolicy) -> LocalFile:
    """Open a regular file that the policy allows; a pipe or a device would block or never end.

    Raises:
        InputError: The policy does not allow it, or it is no regular file.
        TransportError: It cannot be opened.
    """
    policy.check(url)
    path = local_path(url).resolve()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise TransportError(f"{_shown(url)}: there is no such file", retryable=False) from error
    except OSError as error:
        raise TransportError(f"{_shown(url)}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{_shown(url)}: not a regular file")
    return LocalFile(os.fdopen(descriptor, "rb"), path)


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, whether or not the caller sits inside an event loop."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pyiot-fetch") as pool:
        pool.submit(asyncio.run, coroutine).result()


async def _fetch_web(url: str, meter: _Meter, policy: FetchPolicy) -> None:
    import aiohttp  # noqa: PLC0415

    limits = aiohttp.ClientTimeout(total=policy.max_seconds, sock_connect=policy.timeout, sock_read=policy.timeout)
    resolver = _guarded_resolver(policy)
    connector = aiohttp.TCPConnector(resolver=resolver, limit=1)
    headers = {"Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(
        connector=connector, timeout=limits, headers=headers, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        for _ in range(policy.max_redirects + 1):
            policy.check(url)
            try:
                async with session.get(url, allow_redirects=False) as answer:
                    if answer.status in _REDIRECTS:
                        url = urljoin(url, answer.headers.get("Location", ""))
                        if urlsplit(url).scheme not in _WEB:
                            raise InputError(f"{_shown(url)}: a redirect leads from the web to another scheme")
                        continue
                    await _read_answer(answer, url, meter)
                    return
            except aiohttp.ClientError as error:
                if resolver.refused:
                    raise InputError(
                        f"{_shown(url)}: {resolver.refused} is not a public address", hint=_HINT
                    ) from error
                raise TransportError(f"{_shown(url)}: {type(error).__name__}: {error}") from error
        raise TransportError(f"{_shown(url)}: more than {policy.max_redirects} redirects", retryable=False)


async def _read_answer(answer: Any, url: str, meter: _Meter) -> None:
    if answer.status != _OK:
        raise TransportError(
            f"{_shown(url)}: the server answered {answer.status}", retryable=answer.status >= _SERVER_ERROR
        )
    if (answer.content_length or 0) > meter.policy.max_bytes:
        raise VerificationError(f"{_shown(url)}: {answer.content_length} bytes are more than {meter.policy.max_bytes}")
    async for piece in answer.content.iter_chunked(_PIECE):
        meter(piece)


def _guarded_resolver(policy: FetchPolicy) -> Any:
    """Return a resolver that gives the addresses of public hosts only, the very ones that are connected to."""
    from aiohttp.abc import AbstractResolver  # noqa: PLC0415
    from aiohttp.resolver import ThreadedResolver  # noqa: PLC0415

    class GuardedResolver(AbstractResolver):
        def __init__(self) -> None:
            self._inner = ThreadedResolver()
            self.refused = ""

        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            results = await self._inner.resolve(host, port, family)
            private = [result["host"] for result in results if not is_public(result["host"])]
            if private and not policy.allow_private_hosts:
                self.refused = f"{host}, that is {private[0]},"
                raise OSError(f"{host} has an address that is not public")
            return results

        async def close(self) -> None:
            await self._inner.close()

    return GuardedResolver()


def publish(path: Path, url: str) -> None:
    """Copy a bundle of one's own to where buyers fetch it.

    Args:
        path: The local file.
        url: A path, or any address that fsspec can write to. A local copy appears whole or not at all.

    Raises:
        InputError: Web addresses cannot be written to.
        TransportError: It cannot be written.
    """
    from pyiot_evm.market.atomic import atomic_file  # noqa: PLC0415

    if url.partition("://")[0].lower() in _WEB:
        raise InputError(f"{_shown(url)}: a web address cannot be written", hint="write below your web server's folder")
    try:
        if is_local(url):
            with path.open("rb") as source, atomic_file(local_path(url)) as target:
                while piece := source.read(_PIECE):
                    target.write(piece)
            return
        import fsspec  # noqa: PLC0415

        fsspec.filesystem(url.partition("://")[0]).put_file(str(path), url)
    except (OSError, ValueError, ImportError) as error:
        raise TransportError(f"{_shown(url)}: cannot be written: {error}") from error
