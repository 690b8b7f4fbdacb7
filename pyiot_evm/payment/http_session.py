"""Gets addresses over HTTP: whole answers, up to a size and a time; no redirect and no cookie is followed.

It needs the extra ``gateway``.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

from pyiot_evm.device.schema import check_depth
from pyiot_evm.exceptions import ConfigurationError, InputError, TransportError

__all__ = ["HttpSession", "check_url"]

_MAX_BODY: Final = 1 << 26
_PART: Final = 1 << 16


class HttpSession:
    """Keeps connections open; each thread has its own.

    Args:
        timeout: Seconds for one request.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._local = threading.local()

    def get(self, url: str, headers: dict[str, str] | None = None) -> Any:
        """Return an answer as requests' `Response`, read to its end.

        Raises:
            InputError: It is no address of a server.
            TransportError: The server does not answer, or with more than can be taken.
            ConfigurationError: The extra `gateway` is not installed.
        """
        try:
            import requests  # noqa: PLC0415 - the extra `gateway`
            import x402  # noqa: F401, PLC0415
        except ImportError as error:
            hint = "pip install 'pyiot-evm[gateway]'"
            raise ConfigurationError(f"paying over HTTP is not possible: {error}", hint=hint) from error
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        options: Any = {"headers": headers, "timeout": self._timeout, "allow_redirects": False, "stream": True}
        try:
            with self._local.session.get(url, **options) as response:
                self._read(url, response)
                return response
        except requests.Timeout as error:
            raise TransportError(f"{url} did not answer within {self._timeout:g} s") from error
        except requests.ConnectionError as error:
            reached = not any(name in str(error) for name in ("NewConnectionError", "NameResolutionError"))
            message = f"the connection to {url} broke before it answered" if reached else f"nothing answers at {url}"
            raise TransportError(message) from error
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
            raise InputError(f"not an address of a server: {url!r}") from error
        except requests.RequestException as error:
            raise TransportError(f"the answer of {url} cannot be read: {error}") from error
        except ValueError as error:  # urllib3's own, of a host's name
            raise InputError(f"not an address of a server: {url!r}") from error

    def _read(self, url: str, response: Any) -> None:
        _check_headers(response)
        end, body = time.monotonic() + self._timeout, bytearray()
        for part in response.iter_content(_PART):
            body += part
            if len(body) > _MAX_BODY:
                raise TransportError(f"{url} sends more than {_MAX_BODY >> 20} MiB", retryable=False)
            if time.monotonic() > end:
                raise TransportError(f"the answer of {url} did not come whole within {self._timeout:g} s")
        response._content = bytes(body)  # noqa: SLF001 - what `content` returns once it was read


def check_url(url: str) -> None:
    """See that an address is one that can be asked.

    Raises:
        InputError: It is none.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"not an address of a server: {url!r}")


def _check_headers(response: Any) -> None:
    """Check what x402's client parses of an answer's head: a parser that recurses can end the process."""
    for name in ("payment-required", "payment-response"):
        try:
            check_depth(b64decode(response.headers.get(name) or ""))
        except ValueError:
            continue  # no base64: nothing will parse it
        except InputError as error:
            raise TransportError(f"the answer's {name} cannot be read: {error}") from error
