"""What ``pyiot rental`` signs for somebody else to carry: ``--sign-only``, and the files that it writes and reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyiot_evm.cli import rental_documents as documents
from pyiot_evm.cli.data_options import duration
from pyiot_evm.cli.files import writable
from pyiot_evm.cli.rental_options import rentals_of
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiot_evm.cli.session import Session
    from pyiot_evm.escrow.facade import Rentals
    from pyiot_evm.escrow.signed import SignedAct, SignedOpening
    from pyiot_evm.escrow.signing import Signing

__all__ = ["acting", "carried_of", "rentals_of", "show_signed", "signing"]

SignedFiles = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="What was signed with --sign-only; all files of one ruling.")
]
SignedFile = Annotated[Path, typer.Argument(metavar="FILE", help="A ruling that another member signed.")]
RuledOffer = Annotated[Path, typer.Option("--offer", metavar="FILE", help="The offer file of the rental.")]
MaxGas = Annotated[int, typer.Option("--max-gas", metavar="GAS", min=1, help="Send nothing that takes more gas.")]
SignedOut = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the file with both signatures goes.")]


def acting(session: "Session", rentals: "Rentals") -> "Rentals | Signing":
    """Return what acts: the rentals themselves or, with ``--sign-only``, what signs the same acts."""
    return rentals if session.sign_only is None else signing(session, rentals, session.sign_only)


def signing(session: "Session", rentals: "Rentals", out: Path) -> "Signing":
    """Return what signs acts for somebody else to carry.

    Raises:
        InputError: The file is there already, or cannot be: nothing was signed.
    """
    writable(out, new=True)
    return rentals.signing(lifetime=duration(session.good_for))


def carried_of(paths: "Sequence[Path]") -> "SignedAct | SignedOpening":
    """Read what was signed; the files of one ruling are joined.

    Raises:
        InputError: They are not of one act.
    """
    from pyiot_evm.escrow.signed import SignedAct, read_signed  # noqa: PLC0415 - not for `--help`

    first, *others = [read_signed(path) for path in paths]
    if not others:
        return first
    acts = [one for one in (first, *others) if isinstance(one, SignedAct)]
    if len(acts) != len(paths):
        raise InputError("an opening is carried by itself", hint="give several files for one ruling alone")
    return acts[0].join(*acts[1:])


def show_signed(session: "Session", found: "SignedAct | SignedOpening") -> None:
    """Write what was signed for somebody else to carry to the file of ``--sign-only``, and print what it does."""
    out = session.sign_only
    if out is None or session.dry_run:
        return
    found.write(out)
    shown = documents.signed(session.chain, found)
    session.output.show(shown | {"state": "signed", "signed_file": str(out)})
    if shown["act"] == "handOver":
        session.output.say(f"{out} is as good to the renter as the access key: give it to a carrier that you trust")
    session.output.say(f"next: whoever pays the gas: pyiot rental carry {out} --as NAME")
