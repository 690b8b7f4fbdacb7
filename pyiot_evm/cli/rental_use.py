"""``pyiot rental``, its use: the access key, and what the device signed."""

from typing import TYPE_CHECKING

from pyiot_evm.cli import rental_options as given
from pyiot_evm.cli.files import writable
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, TOKEN, As, command
from pyiot_evm.cli.rental_deal import show_rental
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.session import Session

if TYPE_CHECKING:
    from pyiot_evm.device.rental_messages import SignedStatement
    from pyiot_evm.escrow.facade import Rentals

__all__: list[str] = []


@command(nouns, "key", CHAIN, KEYS)
def key(session: Session, *, rental: given.Rental, name: As, out: given.KeyOut) -> None:
    """Write the access key that the owner handed over, for the one who stands at the lock.

    Whoever has the file can open the lock inside the slot: keep it like a key. `pyiot lock try` uses it.

    Example:
        pyiot rental key 0x77aa01bc --as driver --out access-key.json
    """
    file = writable(out, new=True)
    rentals = given.rentals_of(session, name)
    found = rentals.access_key(given.rental_id(rentals, rental))
    found.write(file)
    session.output.show({"terms_id": str(found.terms_id), "address": str(found.address), "key_file": str(out)})
    session.output.say(f"next: pyiot lock try --key {out}")


@command(nouns, "checkin", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def checkin(
    session: Session, *, file: given.StatementFile, name: As, hold: given.Hold = False, offer: given.OfferOf = None
) -> None:
    """Show the chain that the device saw the renter get in.

    Needed only where the device may die before it checks out: with a check-in the owner keeps the fee, without one
    everything goes back to the renter.

    Example:
        pyiot rental checkin check-in.json --as driver
    """
    rentals = given.rentals_of(session, name, offer=offer)
    show_statement(session, rentals, given.statement_of(file, is_check_in=True), name, hold=hold)


@command(nouns, "checkout", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def checkout(
    session: Session, *, file: given.StatementFile, name: As, hold: given.Hold = False, offer: given.OfferOf = None
) -> None:
    """Show the chain the device's check-out.

    The owner is paid the fee and what was metered; the deposit comes free, unless the owner claims on it. Whoever has
    the file can do it; who is neither owner nor renter gives the offer file too. Only the device that the offer pins
    can have signed it.

    Example:
        pyiot rental checkout check-out.json --as driver
        pyiot rental checkout check-out.json --as passer-by --offer bay-7.json
    """
    rentals = given.rentals_of(session, name, offer=offer)
    show_statement(session, rentals, given.statement_of(file, is_check_in=False), name, hold=hold)


def show_statement(session: Session, rentals: "Rentals", said: "SignedStatement", name: str, *, hold: bool) -> None:
    """Keep a device's statement, and show it on the chain unless it is only to be kept."""
    if hold:
        rentals.hold(said)
        session.output.show({"terms_id": "0x" + said.statement.terms_id.hex(), "state": "held"})
        session.output.say(f"next: pyiot rental serve --as {name}")
        return
    show_rental(session, rentals, rentals.show_statement(said), name)
