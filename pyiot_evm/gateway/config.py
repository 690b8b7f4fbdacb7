r"""What a gateway asks for and how much it takes on, from options or a TOML file.

Example:
    >>> GatewayConfig.parse('price_row = "0.001"\nmax_rows = 100\n', decimals=6).price_row
    1000
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.exceptions import InputError
from pyiot_evm.payment.vouchers import MIN_WITHDRAW_DELAY
from pyiot_evm.payment.x402_terms import BATCH, SCHEMES
from pyiot_evm.types import scale_units, to_units

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GatewayConfig"]

_SCALED: Final = ("price_row", "price_latest", "price_stream", "max_exposure", "token_per_ether")
_MONEY: Final = (*_SCALED, "exact_from")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """A gateway's terms. Money is in base units of the chain's token; its defaults are for one of 6 decimals.

    Attributes:
        price_row: What one reading of a range costs.
        price_latest: What the latest reading costs.
        price_stream: What one reading of a stream costs.
        exact_from: The least price that can be paid by the scheme `exact`, each payment of which costs the gateway a
            transaction; what is cheaper is paid through a channel.
        max_rows: How many readings one request gets at most.
        max_exposure: What may be delivered through one channel and not be claimed.
        token_per_ether: What one ether costs, or one of whatever gas is paid in: vouchers are claimed, and claims paid
            out, once they are worth the gas.
        gas_factor: How many times the gas they must be worth.
        claim_every: Seconds after which that is done anyway.
        withdraw_delay: Seconds that a channel must leave to claim in.
        schemes: How can be paid.
        requests_each_second: What one client may ask, on average.
        burst: What it may ask at once.
        parallel: How many requests are served at once; the rest gets 503.
        keep_answers: Seconds for which a paid answer can be asked for again.
        settle_seconds: How long a settlement on the chain is waited for; a request that waits for longer gets 500, and
            the same payment finds it again.
        streams: How many streams there are at once; of too many the oldest on which nothing was paid yet ends.
        streams_each_client: How many of them one address may have.
        stream_idle: Seconds after which a stream ends whose client owes an answer.
    """

    price_row: int = 100
    price_latest: int = 1_000
    price_stream: int = 100
    exact_from: int = 1
    max_rows: int = 1_000
    max_exposure: int = 10_000_000
    token_per_ether: int = 3_000_000_000
    gas_factor: int = 20
    claim_every: int = 24 * 3600
    withdraw_delay: int = MIN_WITHDRAW_DELAY
    schemes: tuple[str, ...] = SCHEMES
    requests_each_second: int = 100
    burst: int = 400
    parallel: int = 64
    keep_answers: int = 24 * 3600
    settle_seconds: int = 120
    streams: int = 64
    streams_each_client: int = 16
    stream_idle: int = 120

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "schemes" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                least = "at least one base unit of the token" if field.name in _MONEY else "a whole number from 1"
                raise InputError(f"{field.name} is {least}, not {value!r}")
        if not self.schemes or any(scheme not in SCHEMES for scheme in self.schemes):
            raise InputError(f"schemes are {' and '.join(SCHEMES)}, not {', '.join(map(str, self.schemes))}")
        if self.exact_from > 1 and BATCH not in self.schemes:
            raise InputError(f"exact_from needs the scheme {BATCH} beside exact: what is cheaper is paid by it")

    @classmethod
    def of(cls, decimals: int) -> GatewayConfig:
        """Return the defaults for a token of other decimals."""
        usual = cls()
        scaled: dict[str, Any] = {name: scale_units(getattr(usual, name), decimals=decimals) for name in _SCALED}
        return replace(usual, **scaled)

    @classmethod
    def parse(cls, text: str, *, decimals: int) -> GatewayConfig:
        """Read a TOML document; money is written as text in whole tokens, whatever decimals they have.

        Raises:
            InputError: It is no TOML, or has a name or a value that it must not have.
        """
        try:
            found: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"the gateway's configuration is no TOML: {error}") from error
        unknown = sorted(found.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"the gateway's configuration has no {', '.join(unknown)}")
        for name in _MONEY:
            if name in found:
                try:
                    found[name] = to_units(found[name], decimals=decimals)
                except InputError as error:
                    raise InputError(
                        f"{name}: {error.message}", hint='money is text in whole tokens: "0.001"'
                    ) from error
        if "schemes" in found:
            found["schemes"] = tuple(found["schemes"]) if isinstance(found["schemes"], list) else (found["schemes"],)
        return replace(cls.of(decimals), **found)

    @classmethod
    def read(cls, path: Path, *, decimals: int) -> GatewayConfig:
        """Read a TOML file; see :meth:`parse`."""
        try:
            return cls.parse(path.read_text(), decimals=decimals)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
