"""The file of ``pyiot rental offer --agreement``: what readings must show for the owner to win."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pyiot_evm.cli.data_options import duration, instant
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.cli.session import Session
    from pyiot_evm.escrow.agreements import ReadingAgreement
    from pyiot_evm.types import DeviceId

__all__ = ["agreement_of"]

_KEYS: Final = {"fields", "limits", "count", "span", "award", "from", "until"}
_EXAMPLE: Final = (
    'write {"fields": [{"name": "temperature", "unit": "Cel", "scale": 2}], "limits": {"temperature": ["2", "8"]}, '
    '"count": 3, "span": "30m", "award": "50"}; where not the slot counts, "from": "end+10m", "until": "end+1h"'
)


def agreement_of(
    session: "Session", path: "Path | None", *, slot: tuple[int, int], device: "DeviceId", signer: bytes
) -> "ReadingAgreement | None":
    """Read what a device's readings must show.

    Args:
        session: The command's session.
        path: The file: ``fields``, ``limits``, ``count``, ``span`` and ``award``; ``from`` and ``until``.
        slot: When the rental begins and ends, Unix seconds.
        device: Who measures.
        signer: Its signer bytes.

    Raises:
        InputError: It is not that.
    """
    from pyiot_evm.market.metadata import strict_json  # noqa: PLC0415 - not for `--help`

    if path is None:
        return None
    try:
        asked = strict_json(path.expanduser().read_bytes())
        if unknown := set(asked) - _KEYS:
            raise InputError(f"{path} is no agreement: {', '.join(sorted(unknown))} means nothing", hint=_EXAMPLE)
        return _agreement(session, asked, slot=slot, device=device, signer=signer)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} is no agreement: {error!r}", hint=_EXAMPLE) from error


def _agreement(
    session: "Session", asked: dict[str, Any], *, slot: tuple[int, int], device: "DeviceId", signer: bytes
) -> "ReadingAgreement":
    from pyiot_evm.device import Field, Schema  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.escrow.agreements import ReadingAgreement  # noqa: PLC0415

    return ReadingAgreement(
        schema=Schema(tuple(Field(**row) for row in asked["fields"])),
        limits={name: (Decimal(low), Decimal(high)) for name, (low, high) in asked["limits"].items()},
        device=device,
        signer=signer,
        count=int(asked["count"]),
        span=duration(asked["span"]),
        award=session.chain.token_info().to_units(asked["award"]),
        from_=_moment(asked.get("from", "start"), slot),
        until=_moment(asked.get("until", "end"), slot),
    )


def _moment(text: str, slot: tuple[int, int]) -> int:
    """Read a time: ``start`` or ``end`` of the slot, so much later (``end+10m``), or ISO 8601; return Unix seconds."""
    edge, plus, later = text.strip().lower().partition("+")
    if edge.strip() in ("start", "end"):
        return slot[edge.strip() == "end"] + (duration(later) if plus else 0)
    try:
        return instant(text) // 1000
    except InputError as error:
        hint = "write it like start, start+2h, end, end+10m or 2026-12-24T15:00"
        raise InputError(f"not a time: {text!r}", hint=hint) from error
