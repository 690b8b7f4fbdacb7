"""What ``pyiot rental`` shows: offers, rentals, what the loop did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyiot_evm.cli.documents import money, transactions
from pyiot_evm.cli.output import clock, short
from pyiot_evm.escrow.agreements import limits_of
from pyiot_evm.types import length_of_time

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.contracts.rule_arbiter import Agreement
    from pyiot_evm.escrow.facade import Rentals
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.records import OfferRecord
    from pyiot_evm.escrow.serving import RentalAction
    from pyiot_evm.escrow.signed import SignedAct, SignedOpening
    from pyiot_evm.escrow.views import RentalView, Shown
    from pyiot_evm.types import Address

__all__ = [
    "COLUMNS",
    "OFFER_COLUMNS",
    "action",
    "action_line",
    "next_step",
    "offer",
    "offer_row",
    "rental",
    "row",
    "signed",
]

COLUMNS = {"id": "RENTAL", "role": "ROLE", "state": "STATE", "until": "UNTIL", "held": "HELD", "title": "TITLE"}
OFFER_COLUMNS = {"id": "TERMS", "state": "STATE", "start": "START", "end": "END", "price": "PRICE", "title": "TITLE"}
_MINUTE = 16

_NEXT = {
    ("owner", "opened"): "pyiot rental handover {id} --as {name}",
    ("owner", "active"): "when the device has checked out: pyiot rental checkout FILE --as {name}",
    ("owner", "checked-in"): "when the device has checked out: pyiot rental checkout FILE --as {name}",
    ("owner", "checked-out"): "pyiot rental claim {id} AMOUNT --as {name}, or pyiot rental waive {id} --as {name}",
    ("owner", "closed"): "pyiot rental withdraw --as {name}",
    ("renter", "opened"): "wait for the owner: pyiot rental serve --as {name} takes the access key",
    ("renter", "active"): "pyiot rental key {id} --as {name} --out access-key.json",
    ("renter", "checked-in"): "when the device has checked out: pyiot rental checkout FILE --as {name}",
    ("renter", "claimed"): "pyiot rental accept {id} --as {name}, or pyiot rental reject {id} --as {name}",
    ("renter", "closed"): "pyiot rental withdraw --as {name}",
    ("arbiter", "disputed"): "pyiot rental rule {id} AMOUNT --as {name}",
}


_AWAITED = {
    "awaits-claim": _NEXT["owner", "checked-out"],
    "awaits-answer": _NEXT["renter", "claimed"],
    "awaits-ruling": _NEXT["arbiter", "disputed"],
    "awaits-signature": "pyiot rental rule {id} AMOUNT --as {name} --sign-only FILE, or pyiot rental cosign another's",
    "awaits-evidence": "pyiot rental rule {id} --readings FILE --as {name}",
    "awaits-court": "pyiot rental bring {id} --as {name}",
}


def offer(chain: Chain, found: RentalOffer) -> dict[str, Any]:
    """Return what is shown of an offer."""
    terms, document = found.terms, found.document
    windows = {"claim": terms.claim_window, "reply": terms.reply_window, "ruling": terms.ruling_window}
    return {
        "terms_id": str(found.id),
        "title": document.title,
        "place": document.place,
        "rules": document.rules,
        "start": clock(terms.start),
        "end": clock(terms.end),
        "fee": money(chain, terms.token, terms.fee),
        "rate": f"{money(chain, terms.token, terms.rate)} per {document.unit or 'unit'}" if terms.rate else None,
        "meter_cap": money(chain, terms.token, terms.meter_cap) if terms.meter_cap else None,
        "deposit": money(chain, terms.token, terms.deposit),
        "price": money(chain, terms.token, found.price),
        "price_units": found.price,
        "token": str(terms.token),
        "owner": str(terms.owner),
        "device": str(terms.device),
        "arbiter": str(terms.arbiter) if any(terms.arbiter) else None,
        "arbitration": document.arbitration,
        "hand_over_until": clock(found.hand_over_deadline),
        "agreement": None if found.agreement is None else agreement(chain, terms.token, found.agreement),
        "windows": {name: length_of_time(seconds) for name, seconds in windows.items()},
        "window_seconds": windows,
    }


def agreement(chain: Chain, token: Address, found: Agreement) -> dict[str, Any]:
    """Return what readings must show for the owner to win a claim; limits are fixed-point numbers of the schema."""
    return {
        "award": money(chain, token, found.award),
        "readings": found.count,
        "span": length_of_time(found.span // 1000),
        "from": clock(found.from_ // 1000),
        "until": clock(found.until // 1000),
        "limits": [[None if bound is None else str(bound) for bound in pair] for pair in limits_of(found)],
        "schema": str(found.schema),
        "device": str(found.device),
    }


def offer_row(chain: Chain, found: OfferRecord) -> dict[str, Any]:
    """Return an offer with what a table shows beside it."""
    shown = offer(chain, found.offer)
    times = {name: shown[name][:_MINUTE] for name in ("start", "end")}
    return shown | times | {"id": short(found.terms_id), "state": found.state.value}


def rental(chain: Chain, rentals: Rentals, found: RentalView, *, ending: bool = False) -> dict[str, Any]:
    """Return what is shown of a rental.

    Args:
        chain: The chain.
        rentals: The account's rentals.
        found: One of them.
        ending: Whether to look on the chain for what was shown, how it ended and who got what.
    """
    token = found.offer.terms.token
    shown: dict[str, Any] = {
        "rental_id": str(found.rental_id),
        "terms_id": str(found.terms_id),
        "role": found.role.value,
        "state": found.state.value,
        "title": found.title,
        "owner": str(found.owner),
        "renter": str(found.renter),
        "start": clock(found.offer.terms.start),
        "end": clock(found.offer.terms.end),
        "deadline": clock(found.deadline),
        "held": money(chain, token, found.held),
        "claimed": money(chain, token, found.claimed) if found.claimed else None,
        "token": str(token),
    }
    if ending:
        how = rentals.ending(found.rental_id)
        shown |= evidence(how.shown)
        shown |= {
            "ending": how.how,
            "units": how.units,
            "charge": None if how.charge is None else money(chain, token, how.charge),
            "to_owner": money(chain, token, how.to_owner),
            "to_renter": money(chain, token, how.to_renter),
        }
    return shown | {"transactions": transactions(found.transactions)}


def evidence(found: Shown) -> dict[str, Any]:
    """Return what the device and the owner showed the chain: times of the device's clock, and hashes of files."""
    hashes = {name: str(digest) for name, digest in found.hashes.items()}
    return {
        "checked_in": clock(found.checked_in_at or 0) or None,
        "check_in_condition": hashes.get("check-in"),
        "checked_out": clock(found.checked_out_at or 0) or None,
        "check_out_condition": hashes.get("check-out"),
        "evidence": hashes.get("evidence"),
    }


def signed(chain: Chain | None, found: SignedAct | SignedOpening) -> dict[str, Any]:
    """Return what is shown of something signed for somebody else to carry; without a chain amounts are base units."""
    shown = found.describe()
    token = shown.pop("token", None)
    for name in {"amount", "award", "price"} & set(shown):
        units = shown[name]
        shown[name] = f"{units} base units" if chain is None or token is None else money(chain, token, units)
    return shown | {"until": clock(shown["until"])}


def row(chain: Chain, rentals: Rentals, found: RentalView) -> dict[str, Any]:
    """Return a rental with what a table shows beside it."""
    return rental(chain, rentals, found) | {"id": short(found.rental_id), "until": clock(found.deadline)[:_MINUTE]}


def next_step(found: RentalView, name: str, *, token: Address | None = None) -> str:
    """Say what a person does next about a rental; empty where there is nothing to do.

    Args:
        found: The rental.
        name: Who does it.
        token: What it is in, where that is not the chain's own token.
    """
    text = _NEXT.get((found.role.value, found.state.value), "").format(id=short(found.rental_id), name=name)
    return f"{text} --token {token}" if token is not None and found.state.is_over and text else text


def action(found: RentalAction, name: str) -> dict[str, Any]:
    """Return what is shown of something that the loop did, or leaves to a person."""
    return {
        "state": found.kind,
        "role": found.role.value,
        "rental_id": None if found.rental_id is None else str(found.rental_id),
        "transactions": [{"purpose": found.kind, "gas": found.gas, "hash": found.transaction}]
        if found.transaction
        else [],
        "error": None if found.error is None else found.error.message,
        "deadline": clock(found.deadline) or None,
        "next": awaited(found, name) or None,
    }


def awaited(found: RentalAction, name: str) -> str:
    """Return the command by which a person does what the loop leaves to it."""
    return _AWAITED.get(found.kind, "").format(id=short(found.rental_id), name=name)


def action_line(found: RentalAction, name: str) -> str:
    """Return something that the loop did, or leaves to a person, as one line."""
    when = datetime.now(UTC).strftime("%H:%M:%SZ")
    subject = f" rental {short(found.rental_id)}" if found.rental_id else ""
    gas = f"  gas {found.gas:,}" if found.gas else ""
    until = f" until {clock(found.deadline)}" if found.deadline else ""
    more = found.error.message if found.error else awaited(found, name)
    return f"{when}  {found.role.value}: {found.kind}{subject}{until}{gas}" + (f": {more}" if more else "")
