"""``pyiot rental``, the deal: offer, open, hand over, refund, cancel, restore, list, show."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyiot_evm.cli import rental_documents as documents
from pyiot_evm.cli import rental_options as given
from pyiot_evm.cli.data_options import duration
from pyiot_evm.cli.files import writable
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, SIGNS, TOKEN, As, command
from pyiot_evm.cli.rental_agreement import agreement_of
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.rental_signing import acting, show_signed, signing
from pyiot_evm.cli.session import Session

if TYPE_CHECKING:
    from pyiot_evm.escrow.facade import Rentals
    from pyiot_evm.escrow.signed import SignedAct, SignedOpening
    from pyiot_evm.escrow.views import RentalView

__all__ = ["show_rental"]


@command(nouns, "offer", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def offer(
    session: Session,
    *,
    name: As,
    title: given.Title,
    fee: given.Fee,
    out: given.OfferOut,
    start: given.Start = "now",
    end: given.End = None,
    length: given.Length = None,
    rate: given.Rate = "0",
    meter_cap: given.Cap = "0",
    deposit: given.Deposit = "0",
    arbiter: given.ArbiterRef = None,
    device: given.Device = None,
    agreement: given.Agreement = None,
    place: given.Place = "",
    rules: given.Rules = "",
    unit: given.Unit = "",
    arbitration: given.Arbitration = "",
    grace: given.Grace = None,
    claim_window: given.ClaimWindow = "1d",
    reply_window: given.ReplyWindow = "2d",
    ruling_window: given.RulingWindow = "7d",
    again: given.Again = False,
) -> None:
    """Sign an offer to rent something out, and write it to a file for whoever may rent it.

    The device that guards it (a lock, a charger) signs the check-in and the check-out; its key is pinned in the offer.
    The renter pays fee, meter cap and deposit when it opens the rental; the check-out pays you the fee and what was
    metered, and gives the deposit free, unless you claim. Give the file to the lock too: it is all that it needs.

    Example:
        pyiot rental offer --as bay-7 --title "Bay 7" --for 1h --fee 0.50 --out 7.json
    """
    file = writable(out, new=True)
    begins, ends = given.slot(session, start, end, length)
    lock, signer = given.device_of(session, device, name)
    windows = {"claim_window": claim_window, "reply_window": reply_window, "ruling_window": ruling_window}
    made = session.machine(name).rent_out(
        title,
        start=begins,
        end=ends,
        fee=fee,
        rate=rate,
        meter_cap=meter_cap,
        deposit=deposit,
        arbiter=given.account_of(session, arbiter),
        place=place,
        rules=rules,
        unit=unit,
        arbitration=arbitration,
        grace=None if grace is None else duration(grace),
        **{key: duration(text) for key, text in windows.items()},  # type: ignore[arg-type]
        device=lock,
        signer=signer,
        agreement=agreement_of(session, agreement, slot=(begins, ends), device=lock, signer=signer),
        again=again,
    )
    if session.dry_run:
        return
    shown = documents.offer(session.chain, made) | {"offer_file": str(out)}
    session.output.show_written(shown, partial(made.write, file))
    for warning in given.doubts(made):
        session.output.say(f"warning: {warning}")
    session.output.say(f"next: give {out} to the renter and to the lock, then pyiot rental serve --as {name}")


@command(nouns, "open", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def open_(
    session: Session,
    *,
    file: given.OfferFile,
    name: As,
    max_price: given.MaxPrice = None,
    max_grace: given.MaxGrace = "1h",
    min_reply_window: given.MinReply = "1h",
    max_claim_window: given.MaxClaim = "7d",
    allow_own_arbiter: given.OwnArbiter = False,
    allow_unregistered: given.Unregistered = False,
) -> None:
    """Check an offer, pay fee, meter cap and deposit, and so open the rental.

    Nothing is paid unless the owner signed the offer, its device is who it says, and every window and amount suits.
    If the owner does not hand over in time, everything comes back. The same command again goes on where it was stopped
    and never pays twice.

    Example:
        pyiot rental open bay-7.json --as driver --max-price 25
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`

    rentals = given.rentals_of(session, name)
    windows = {"max_grace": max_grace, "min_reply_window": min_reply_window, "max_claim_window": max_claim_window}
    allowed = {"allow_own_arbiter": allow_own_arbiter, "allow_unregistered": allow_unregistered}
    rentals.renting = given.renting(session, max_price, windows, **allowed)
    show_rental(session, rentals, acting(session, rentals).open(RentalOffer.read(file)), name)


@command(nouns, "handover", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def handover(session: Session, *, rental: given.Rental, name: As) -> None:
    """Release the access key to the renter, and to nobody else.

    From then on the rental is active. `pyiot rental serve` does it by itself. Not done for a rental that a refund was
    signed for, and not in the last minutes before the deadline.

    Example:
        pyiot rental handover 0x77aa01bc --as charger
    """
    rentals = given.rentals_of(session, name)
    acts = acting(session, rentals)
    show_rental(session, rentals, acts.hand_over(given.rental_id(rentals, rental)), name)


@command(nouns, "refund", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def refund(session: Session, *, rental: given.Rental, name: As) -> None:
    """Give everything back to the renter.

    As owner at any time before the check-out; as renter once the owner's time to hand over has passed.

    Example:
        pyiot rental refund 0x77aa01bc --as driver
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, acting(session, rentals).refund(given.rental_id(rentals, rental)), name)


@command(nouns, "cancel", CHAIN, TOKEN, SENDS, SIGNS, KEYS)
def cancel(session: Session, *, file: given.OfferFile, name: As) -> None:
    """Take an offer back: nobody can open it any more. A rental that was opened goes on.

    Example:
        pyiot rental cancel bay-7.json --as charger
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`

    rentals, terms_id = given.rentals_of(session, name), RentalOffer.read(file).id
    if session.sign_only is not None:
        show_signed(session, signing(session, rentals, session.sign_only).cancel(terms_id))
        return
    found = rentals.cancel(terms_id)
    session.output.show(documents.offer(session.chain, found.offer) | {"state": found.state.value})


@command(nouns, "restore", CHAIN, TOKEN, KEYS, QUIET)
def restore(session: Session, *, file: given.OfferFile, name: As) -> None:
    """Read an offer and its rental back from the offer's file and the chain.

    For when the journal was lost: as owner, as renter or as arbiter. Nothing is paid or sent, and the access key comes
    out of NAME's own key. Statements of the device that were only held are lost, and so is the note that a refund was
    signed.

    Example:
        pyiot rental restore bay-7.json --as charger
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`

    rentals, offer = given.rentals_of(session, name), RentalOffer.read(file)
    if (found := rentals.restore(offer)) is not None:
        show_rental(session, rentals, found, name)
    else:
        session.output.show(documents.offer(session.chain, offer) | {"state": given.offer_state(rentals, offer)})


@command(nouns, "list", CHAIN, TOKEN, KEYS)
def list_(session: Session, *, name: As) -> None:
    """List NAME's rentals, as owner, as renter and as arbiter, and the offers that it signed.

    UNTIL is when the present state ends, in UTC; `pyiot rental serve` acts before that by itself.

    Example:
        pyiot rental list --as charger
    """
    rentals = given.rentals_of(session, name)
    offers = [documents.offer_row(session.chain, found) for found in rentals.offers()]
    rows = [documents.row(session.chain, rentals, found) for found in rentals.all()]
    if session.output.json:
        session.output.show({"rentals": rows, "offers": offers})
        return
    session.output.show_rows("rentals", rows, documents.COLUMNS, f"{name} has no rentals")
    if offers:
        session.output.show_rows("offers", offers, documents.OFFER_COLUMNS, "")


@command(nouns, "show", CHAIN, TOKEN, KEYS)
def show(session: Session, *, rental: given.RentalOrFile, name: As, evidence: given.Compared = None) -> None:
    """Show a rental as the chain has it now; or check an offer file, without paying anything.

    With the times at which the device checked in and out, by its own clock, and the hashes of what it saw then and of
    the owner's evidence. --evidence takes a file and says which of them it is; a file that is none ends with 1.

    Example:
        pyiot rental show 0x77aa01bc --as driver
        pyiot rental show bay-7.json --as driver
        pyiot rental show flat.json --evidence photo.jpg --as judge
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`

    rentals = given.rentals_of(session, name)
    if Path(rental).is_file() and evidence is None:
        file = RentalOffer.read(rental)
        session.output.show(documents.offer(session.chain, file) | {"state": given.offer_state(rentals, file)})
        return
    found = rentals.get(given.rental_id(rentals, rental))
    compared = {} if evidence is None else {"file_is": given.compared(rentals, found.rental_id, evidence)}
    session.output.show(documents.rental(session.chain, rentals, found, ending=True) | compared)
    tell_next(session, rentals, found, name)


def show_rental(
    session: Session, rentals: "Rentals", found: "RentalView | SignedAct | SignedOpening", name: str
) -> None:
    """Print a rental, and what comes next; or write what was signed to its file."""
    from pyiot_evm.escrow.views import RentalView  # noqa: PLC0415 - not for `--help`

    if not isinstance(found, RentalView):
        show_signed(session, found)
        return
    session.output.show(documents.rental(session.chain, rentals, found, ending=found.state.is_over))
    tell_next(session, rentals, found, name)


def tell_next(session: Session, rentals: "Rentals", found: "RentalView", name: str) -> None:
    """Say what comes next: nothing, once a rental is over and there is no money to take out."""
    token = found.offer.terms.token
    if found.state.is_over and not rentals.credit(token):
        return
    if text := documents.next_step(found, name, token=None if token == session.chain.token else token):
        session.output.say(f"next: {text}")
