"""``pyiot rental``, its use: the access key, and what the device signed."""

from pathlib import Path

from pyiot_evm.cli import rental_options as given
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, TOKEN, As, command
from pyiot_evm.cli.rental_deal import show_rental
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.session import Session

__all__: list[str] = []


@command(nouns, "key", CHAIN, KEYS)
def key(session: Session, *, rental: given.Rental, name: As, out: given.KeyOut) -> None:
    """Write the access key that the owner handed over, for the one who stands at the lock.

    Whoever has the file can open the lock inside the slot: keep it like a key. `pyiot lock try` uses it.

    Example:
        pyiot rental key 0x77aa01bc --as driver --out access-key.json
    """
    rentals = given.rentals_of(session, name)
    found = rentals.access_key(given.rental_id(rentals, rental))
    found.write(out.expanduser())
    session.output.show({"terms_id": str(found.terms_id), "address": str(found.address), "key_file": str(out)})
    session.output.say(f"next: pyiot lock try --key {out}")


@command(nouns, "checkin", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def checkin(session: Session, *, file: given.StatementFile, name: As, hold: given.Hold = False) -> None:
    """Show the chain that the device saw the renter get in.

    Needed only where the device may die before it checks out: with a check-in the owner keeps the fee, without one
    everything goes back to the renter.

    Example:
        pyiot rental checkin check-in.json --as driver
    """
    show_statement(session, file, name, hold=hold, is_check_in=True)


@command(nouns, "checkout", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def checkout(session: Session, *, file: given.StatementFile, name: As, hold: given.Hold = False) -> None:
    """Show the chain the device's check-out.

    The owner is paid the fee and what was metered; the deposit comes free, unless the owner claims on it. Owner or
    renter can do it, whoever has the file. Only the device that the offer pins can have signed it.

    Example:
        pyiot rental checkout check-out.json --as driver
    """
    show_statement(session, file, name, hold=hold, is_check_in=False)


def show_statement(session: Session, file: Path, name: str, *, hold: bool, is_check_in: bool) -> None:
    """Keep a device's statement, and show it on the chain unless it is only to be kept."""
    said = given.statement_of(file, is_check_in=is_check_in)
    rentals = given.rentals_of(session, name)
    if hold:
        rentals.hold(said)
        session.output.show({"terms_id": "0x" + said.statement.terms_id.hex(), "state": "held"})
        session.output.say(f"next: pyiot rental serve --as {name}")
        return
    show_rental(session, rentals, rentals.show_statement(said), name)
