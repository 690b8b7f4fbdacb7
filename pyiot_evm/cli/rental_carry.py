"""``pyiot rental``, what one signs and another one carries: carry, cosign."""

from typing import Annotated

import typer

from pyiot_evm.cli import documents as shared
from pyiot_evm.cli import rental_documents as documents
from pyiot_evm.cli import rental_signing as given
from pyiot_evm.cli.files import writable
from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, TOKEN, As, command
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.session import Session

__all__: list[str] = []


@command(nouns, "carry", CHAIN, TOKEN, SENDS, KEYS)
def carry(session: Session, *, files: given.SignedFiles, name: As, max_gas: given.MaxGas = 1_000_000) -> None:
    """Send what somebody else signed with --sign-only, and pay the gas for it.

    It does what its signer said and nothing else: it is decoded and checked first, and one that was changed, is late or
    is for another chain is not sent. It works once. Give all files of a ruling that several signed.

    Example:
        pyiot rental carry withdraw.json --as driver
        pyiot rental carry r-anna.json r-ben.json --as host
    """
    rentals, signed = given.rentals_of(session, name), given.carried_of(files)
    shown = documents.signed(session.chain, signed)  # before anything is sent: afterwards nothing may get lost
    sent = rentals.carry(signed, max_gas=max_gas)
    session.output.show(shown | {"state": "carried", "transactions": shared.transactions([sent])})


@command(nouns, "cosign", KEYS)
def cosign(
    session: Session,
    *,
    file: given.SignedFile,
    name: As,
    offer: given.RuledOffer,
    out: given.SignedOut,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would sign; sign nothing.")] = False,
) -> None:
    """Sign a ruling that another member of the arbiter's account signed; needs no chain.

    The offer file says what the ruling is about: one on other terms, or by another account, is not signed. Read what
    --dry-run prints first: without a chain, the award and the deposit are in base units of the token, 1000000 to a
    dollar of six decimals.

    Example:
        pyiot rental cosign r.json --as ben --offer flat.json --out r-ben.json
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.escrow.panel import check_ruling, cosign_ruling  # noqa: PLC0415
    from pyiot_evm.escrow.signed import read_signed  # noqa: PLC0415

    terms, ruling = RentalOffer.read(offer), read_signed(file)
    shown = documents.signed(None, check_ruling(ruling, terms))  # before anything is signed
    shown |= {"deposit": f"{terms.terms.deposit} base units", "token_address": terms.terms.token}
    shown |= {"title": terms.document.title, "arbitration": terms.document.arbitration}
    if dry_run:
        session.output.show({"dry_run": True, **shown})
        return
    key = session.opened(session.keyring.account(name))
    writable(out, new=True)
    signed = cosign_ruling(ruling, terms, key)
    signed.write(out)
    shown |= documents.signed(None, signed)
    session.output.show(shown | {"state": "signed", "signed_file": str(out)})
    session.output.say(f"next: the others cosign {out}, or: pyiot rental carry {out} --as NAME")
