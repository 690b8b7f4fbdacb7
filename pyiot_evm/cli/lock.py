"""``pyiot lock``: a lock on a rented device, and who stands at it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pyiot_evm.cli.options import KEYS, As, command
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.cli.session import Session

__all__ = ["nouns"]

nouns = typer.Typer(cls=HelpfulGroup, help="Run a lock without a network, program it, open it.", no_args_is_help=True)

Socket = Annotated[Path | None, typer.Option("--socket", metavar="PATH", help="The lock's Unix socket.")]
Port = Annotated[
    int | None, typer.Option(metavar="PORT", min=0, max=65_535, help="Its port on this computer, instead of a socket.")
]
Journal = Annotated[Path | None, typer.Option(metavar="PATH", help="The lock's journal, if not NAME's in this home.")]
Out = Annotated[Path | None, typer.Option(metavar="PATH", help="Also write the signed statement to this new file.")]
Owner = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Whose offers it obeys, from the first run on; NAME's account by default."),
]
Offers = Annotated[
    list[Path] | None, typer.Option("--offer", metavar="FILE", help="An offer that the owner signed: one slot.")
]
Tolerance = Annotated[
    int, typer.Option(metavar="SECONDS", min=0, max=3600, help="How wrong its clock may be, at most an hour.")
]
Meter = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A file with what was ever used; only whole units count. 0 without one."),
]
Condition = Annotated[
    Path | None, typer.Option(metavar="PATH", help="A file (a photo, an inventory) whose hash it signs.")
]
Clock = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A file with the time in Unix seconds; the computer's clock without."),
]
OnOpen = Annotated[
    str | None,
    typer.Option(
        "--on-open",
        metavar="COMMAND",
        help="What moves the bolt: run at each opening, without a shell, for at most 5 seconds.",
    ),
]
Chip = Annotated[
    str | None,
    typer.Option("--chip", metavar="URI", help="The device's key in a chip: a PKCS#11 URI; the keystore without one."),
]
Trust = Annotated[bool, typer.Option("--trust-clock", help="Take the clock as it is, after it was set wrongly.")]


@command(nouns, "run", KEYS)
def run(
    session: Session,
    *,
    name: As,
    socket: Socket = None,
    port: Port = None,
    owner: Owner = None,
    offer: Offers = None,
    chip: Chip = None,
    tolerance: Tolerance = 60,
    meter: Meter = None,
    condition: Condition = None,
    clock: Clock = None,
    on_open: OnOpen = None,
    journal: Journal = None,
    trust_clock: Trust = False,
) -> None:
    r"""Run NAME's device as a lock, without any network, until Ctrl-C.

    It opens for who has the access key that the owner handed over, in the slot of the owner's offer, and for nothing
    else. The first opening signs the check-in, `pyiot lock try --check-out` the check-out. It may lose power at any
    moment. The socket stands for Bluetooth or NFC. Each file that is named must be there when it starts. Where the
    command of --on-open fails, the lock logs `jammed` and the opening does not count.

    Example:
        pyiot lock run --as bay-7 --socket /run/bay-7 --offer 7.json
        pyiot lock run --as door --owner 0x90F8bf6A479f320ead074411a4B0e7944Ea8c9C1 \
          --socket /run/door --condition photo.jpg --on-open "bolt back"
    """
    from pyiot_evm.cli.lock_session import Doorkeeper  # noqa: PLC0415 - not for `--help`

    keeper = Doorkeeper(session, name, journal=journal, owner=owner, chip=chip, tolerance=tolerance)
    keeper.build(meter=meter, condition=condition, clock=clock, on_open=on_open)
    with keeper.lock() as lock, keeper.listening(lock, socket, port) as server, session.stop_signal() as stop:
        keeper.prepare(lock, offer or [], trust_clock=trust_clock)
        server.wait(stop)
        session.output.end(keeper.document(lock))


@command(nouns, "program")
def program(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An offer that the lock's owner signed.")],
    socket: Socket = None,
    port: Port = None,
) -> None:
    """Give a running lock a slot.

    Anybody may carry the offer to the lock: it checks the owner's signature, and that the offer is for its own device
    and key.

    Example:
        pyiot lock program 7.json --socket /run/bay-7
    """
    from pyiot_evm.cli.lock_session import client, slot_document, slot_in  # noqa: PLC0415 - not for `--help`

    slot = slot_in(file)
    client(session, socket, port).program(slot)
    session.output.show(slot_document(slot))


@command(nouns, "try")
def try_(
    session: Session,
    *,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The access key that `pyiot rental key` wrote.")],
    socket: Socket = None,
    port: Port = None,
    check_out: Annotated[bool, typer.Option("--check-out", help="End the rental; the key opens no more.")] = False,
    out: Out = None,
) -> None:
    r"""Open a lock with an access key, or end the rental: what a renter's phone does at the door.

    Prints what the device signed, and checks it first. `pyiot rental checkin` and `checkout` show the file to the
    chain. A second try gives the same statement.

    Example:
        pyiot lock try --key access-key.json --socket /run/bay-7
        pyiot lock try --key access-key.json --socket /run/bay-7 --check-out \
          --out check-out.json
    """
    from pyiot_evm.cli.lock_session import client, keep, require_out, statement_document  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.device.lock_messages import AccessKey  # noqa: PLC0415

    require_out(out)
    found, phone = AccessKey.read(key.expanduser()), client(session, socket, port)
    said = phone.check_out(found) if check_out else phone.open(found)
    session.output.show_written(statement_document(said), partial(keep, said, out))


@command(nouns, "statements")
def statements(
    session: Session,
    *,
    terms: Annotated[str, typer.Argument(metavar="TERMS", help="The terms id of a rental, 64 hex digits.")],
    socket: Socket = None,
    port: Port = None,
    out: Out = None,
) -> None:
    """Ask a lock again for what it signed about a rental; --out gets the last of it.

    Anybody may ask; a statement says the same whoever shows it to the chain.

    Example:
        pyiot lock statements 0x4f…e1 --socket /run/bay-7 --out last.json
    """
    from pyiot_evm.cli.lock_session import client, keep, require_out, statement_document  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.types import TermsId  # noqa: PLC0415

    require_out(out)
    found = client(session, socket, port).statements(TermsId(terms))
    keep(found[-1] if found else None, out)
    rows = [statement_document(said) for said in found]
    columns = {"kind": "SIGNED", "at": "AT", "units": "UNITS", "condition": "CONDITION"}
    session.output.show_rows("statements", rows, columns, "nothing was signed yet")


@command(nouns, "show")
def show(session: Session, *, name: As, journal: Journal = None) -> None:
    """Show what NAME's lock knows: its owner, its slots, how far each rental is.

    Reads the journal, also while the lock runs.

    Example:
        pyiot lock show --as bay-7
    """
    from pyiot_evm.cli.lock_session import lines_of, lock_document, state_of  # noqa: PLC0415 - not for `--help`

    document = lock_document(state_of(session, name, journal))
    session.output.show(document, *lines_of(document))


@command(nouns, "log")
def log(session: Session, *, name: As, journal: Journal = None) -> None:
    """List the tries at NAME's lock, the oldest first: who was let in, who was refused and why.

    Reads the journal, also while the lock runs.

    Example:
        pyiot lock log --as bay-7
    """
    from pyiot_evm.cli.lock_session import state_of, try_document  # noqa: PLC0415 - not for `--help`

    rows = [try_document(one) for one in state_of(session, name, journal).tries]
    columns = {"at": "AT", "what": "TRY", "outcome": "OUTCOME", "terms_id": "TERMS", "count": "TIMES"}
    session.output.show_rows("tries", rows, columns, "nobody tried yet")
