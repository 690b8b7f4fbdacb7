"""The options of ``pyiot rental``, each said once, and how their texts are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeVar

import typer

from pyiot_evm.cli.data_options import duration, instant
from pyiot_evm.cli.ids import account_address, find_id
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.cli.session import Session
    from pyiot_evm.device import ReadingJournal
    from pyiot_evm.device.rental_messages import SignedStatement
    from pyiot_evm.escrow.facade import Rentals
    from pyiot_evm.escrow.offers import RentalOffer
    from pyiot_evm.escrow.policies import RenterPolicy
    from pyiot_evm.types import Address, DeviceId, RentalId

# Typer reads these annotations when it builds the commands: ``Optional`` stands for what it is.
# ruff: noqa: UP045

__all__ = ["nouns"]

_T = TypeVar("_T")

nouns = typer.Typer(cls=HelpfulGroup, help="Rent and rent out what a device guards.", no_args_is_help=True)

OfferFile = Annotated[Path, typer.Argument(metavar="FILE", help="An offer file of `pyiot rental offer`.")]
Rental = Annotated[
    str, typer.Argument(metavar="RENTAL", help="A rental's id, any unique beginning of it, or its offer file.")
]
RentalOrFile = Annotated[
    str, typer.Argument(metavar="RENTAL", help="A rental's id, any unique beginning of it, or an offer file.")
]
StatementFile = Annotated[Path, typer.Argument(metavar="FILE", help="What the device signed, one JSON object.")]
Award = Annotated[
    Optional[str], typer.Argument(metavar="AMOUNT", help="What the owner gets of the claim, in whole tokens.")
]
Readings = Annotated[
    Optional[Path], typer.Option("--readings", metavar="FILE", help="A device's journal of signed readings.")
]
Agreement = Annotated[
    Optional[Path],
    typer.Option("--agreement", metavar="FILE", help="What readings must show for you to win; no --arbiter then."),
]
Claimed = Annotated[str, typer.Argument(metavar="AMOUNT", help="What you claim of the deposit, in whole tokens.")]
Title = Annotated[str, typer.Option(metavar="TEXT", help="What it is, in one line.")]
Start = Annotated[
    str, typer.Option(metavar="TIME", help="When the slot begins: now, +2h, or like 2026-12-24T15:00 (UTC).")
]
End = Annotated[Optional[str], typer.Option("--end", metavar="TIME", help="When it ends.")]
Length = Annotated[Optional[str], typer.Option("--for", metavar="TIME", help="Or how long it is, like 1h or 3d.")]
Fee = Annotated[str, typer.Option(metavar="AMOUNT", help="For the rental as such, in whole tokens.")]
Rate = Annotated[str, typer.Option(metavar="AMOUNT", help="For each unit that the device meters.")]
Cap = Annotated[str, typer.Option("--meter-cap", metavar="AMOUNT", help="The most that metering can cost.")]
Deposit = Annotated[str, typer.Option(metavar="AMOUNT", help="What you may claim of after the check-out.")]
ArbiterRef = Annotated[
    Optional[str],
    typer.Option("--arbiter", metavar="ADDRESS", help="Who rules on a claim; without one the renter keeps it all."),
]
Place = Annotated[str, typer.Option(metavar="TEXT", help="Where it is.")]
Rules = Annotated[str, typer.Option(metavar="TEXT", help="The house rules.")]
Unit = Annotated[str, typer.Option(metavar="TEXT", help="What the device meters, like kWh.")]
Arbitration = Annotated[str, typer.Option(metavar="TEXT", help="What the arbiter goes by.")]
Grace = Annotated[
    Optional[str],
    typer.Option(metavar="TIME", help="How long after the start you may hand over; a quarter of the slot, at most 1h."),
]
ClaimWindow = Annotated[str, typer.Option(metavar="TIME", help="How long you may claim after check-out: 10m to 30d.")]
ReplyWindow = Annotated[str, typer.Option(metavar="TIME", help="How long the renter has to answer: 10m to 30d.")]
RulingWindow = Annotated[str, typer.Option(metavar="TIME", help="How long the arbiter has to rule: 10m to 30d.")]
Device = Annotated[
    Optional[str],
    typer.Option("--device", metavar="DEVICE", help="The lock: a name of this home or a device id; NAME's own device."),
]
OfferOut = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the offer file is written.")]
KeyOut = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the access key is written, for you alone.")]
Again = Annotated[bool, typer.Option("--again", help="Sign one more, instead of giving the one that was signed.")]
MaxPrice = Annotated[
    Optional[str],
    typer.Option("--max-price", metavar="AMOUNT", help="Refuse what costs more, deposit included, in whole tokens."),
]
Unregistered = Annotated[
    bool, typer.Option("--allow-unregistered", help="Take a device that the registry does not know.")
]
OwnArbiter = Annotated[bool, typer.Option("--allow-own-arbiter", help="Take the owner, or NAME, as the arbiter.")]
MaxGrace = Annotated[
    str, typer.Option("--max-grace", metavar="TIME", help="Refuse an owner who may hand over later in the slot.")
]
MinReply = Annotated[
    str, typer.Option("--min-reply-window", metavar="TIME", help="Refuse less time to answer a claim.")
]
MaxClaim = Annotated[
    str, typer.Option("--max-claim-window", metavar="TIME", help="Refuse a deposit that may be held for longer.")
]
Evidence = Annotated[
    Optional[Path], typer.Option("--evidence", metavar="FILE", help="What shows the damage; its hash goes on chain.")
]
Compared = Annotated[
    Optional[Path], typer.Option("--evidence", metavar="FILE", help="A file to compare with the hashes on the chain.")
]
Hold = Annotated[bool, typer.Option("--hold", help="Only keep it: `pyiot rental serve` shows it when it is time.")]
Offers = Annotated[
    Optional[list[Path]],
    typer.Option("--offer", metavar="FILE", help="An offer file that names NAME as its arbiter."),
]
OfferOf = Annotated[
    Optional[Path], typer.Option("--offer", metavar="FILE", help="The offer file, where the rental is not NAME's own.")
]
Account = Annotated[
    Optional[str],
    typer.Option("--account", metavar="ADDRESS", help="The arbiter, where it is an account that NAME is a member of."),
]
Once = Annotated[bool, typer.Option("--once", help="Do what can be done now, and end.")]
Waive = Annotated[bool, typer.Option("--waive", help="Give deposits back as soon as the device has checked out.")]
MaxCost = Annotated[str, typer.Option(metavar="ETHER", help="Refuse a court that asks more, in ether.")]
AcceptUpTo = Annotated[
    Optional[str],
    typer.Option("--accept-up-to", metavar="AMOUNT", help="Accept claims up to this, reject higher ones."),
]
TakeOut = Annotated[bool, typer.Option("--withdraw", help="Take out what comes in.")]
To = Annotated[Optional[str], typer.Option(metavar="ADDRESS", help="Who gets it; NAME's own account when left out.")]
Sum = Annotated[Optional[str], typer.Option("--amount", metavar="AMOUNT", help="How much; everything when left out.")]


def rentals_of(
    session: "Session",
    name: str,
    *,
    offers: "Iterable[Path]" = (),
    account: str | None = None,
    offer: Path | None = None,
) -> "Rentals":
    """Open a name's rentals, and take note of offers: as arbiter or as a member of one; of one offer as anybody."""
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`

    rentals = session.machine(name).rentals
    for path in offers:
        rentals.judge(RentalOffer.read(path), account=account_of(session, account))
    if offer is not None:
        rentals.find(RentalOffer.read(offer))
    return rentals


def moment(text: str, now: int) -> int:
    """Read a time: ``now``, ``+2h`` or ISO 8601; return Unix seconds.

    Raises:
        InputError: It is none.
    """
    if text.strip().lower() == "now":
        return now
    return now + duration(text.strip()[1:]) if text.strip().startswith("+") else instant(text) // 1000


def slot(session: "Session", start: str, end: str | None, length: str | None) -> tuple[int, int]:
    """Read when a rental begins and ends, Unix seconds.

    Raises:
        InputError: Neither an end nor a length is given, or both.
    """
    if (end is None) == (length is None):
        raise InputError("a slot needs an end or a length", hint="give either --end or --for")
    now = session.chain.now()
    begins = moment(start, now)
    return begins, moment(end, now) if end is not None else begins + duration(length or "")


def device_of(session: "Session", text: str | None, name: str) -> "tuple[DeviceId, bytes]":
    """Find a device and its present signer: by a name of this home or by its id; NAME's own when none is named.

    Raises:
        InputError: There is no such device.
    """
    from pyiot_evm.identity import Devices  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.types import DeviceId  # noqa: PLC0415

    if text is None:
        return session.machine(name).own_device()
    if text in session.keyring:
        entry = session.keyring.entry(text)
        if entry.device is None or entry.signer is None:
            raise InputError(f"{text} has no device key")
        return entry.device, entry.signer
    device = _read(DeviceId, text, "a device id")
    current = [window.signer for window in Devices(session.chain).signers(device) if window.is_current]
    if not current:
        raise InputError(f"the device {device} was revoked")
    return device, current[0]


def account_of(session: "Session", text: str | None) -> "Address | None":
    """Read an account: an address, or a name of this home."""
    return None if text is None else account_address(session, text)


def _read(kind: "type[_T]", text: str, what: str) -> "_T":
    try:
        return kind(text)  # type: ignore[call-arg]
    except InputError as error:
        raise InputError(f"{text!r} is neither {what} nor a name of this home") from error


def offer_state(rentals: "Rentals", offer: "RentalOffer") -> str:
    """Say where an offer of one's own stands; check one of somebody else."""
    own = [record.state.value for record in rentals.offers() if record.terms_id == offer.id]
    if own:
        return own[0]
    rentals.check(offer)
    return "verified"


def rental_id(rentals: "Rentals", text: str) -> "RentalId":
    """Find the rental that this is the id of, or its beginning, or the offer file.

    Raises:
        InputError: None or more than one of this account's rentals is.
    """
    from pyiot_evm.escrow.offers import RentalOffer  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.types import RentalId  # noqa: PLC0415

    if Path(text).is_file():
        return rentals.find(RentalOffer.read(text)).rental_id
    hint = "`pyiot rental list` shows them; who is neither owner nor renter names the offer's file instead"
    known = find_id("rental", text, lambda: [item.rental_id for item in rentals.all()], hint=hint)
    return RentalId(known)


def units_of(session: "Session", rentals: "Rentals", rental: "RentalId", amount: str) -> int:
    """Read an amount of the token that a rental is in; return base units."""
    return session.chain.token_info(rentals.get(rental).offer.terms.token).to_units(amount)


def statement_of(path: Path, *, is_check_in: bool) -> "SignedStatement":
    """Read what a device signed.

    Raises:
        InputError: There is no such file, or it is no statement, or the other one.
    """
    from pyiot_evm.device.rental_messages import CheckIn, SignedStatement  # noqa: PLC0415 - not for `--help`

    try:
        with path.expanduser().open("rb") as file:
            said = SignedStatement.decode(file.read(1 << 16).strip())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if isinstance(said.statement, CheckIn) is not is_check_in:
        kinds = ("check-out", "checkout") if is_check_in else ("check-in", "checkin")
        raise InputError(f"{path} is a {kinds[0]}", hint=f"show it with `pyiot rental {kinds[1]}`")
    return said


def renting(session: "Session", max_price: str | None, windows: dict[str, str], **allowed: bool) -> "RenterPolicy":
    """Return what a renter agrees to: a price, bounds of windows, and what it takes beside the usual."""
    from pyiot_evm.escrow.policies import RenterPolicy  # noqa: PLC0415 - not for `--help`

    info = None if max_price is None else session.chain.token_info()
    return RenterPolicy(
        max_price=None if info is None else info.to_units(max_price or ""),
        token=None if info is None else info.address,
        **{name: duration(text) for name, text in windows.items()},  # type: ignore[arg-type]
        **allowed,  # type: ignore[arg-type]
    )


def readings_of(path: Path) -> "ReadingJournal":
    """Open a device's journal.

    Raises:
        InputError: There is none.
    """
    from pyiot_evm.device import ReadingJournal  # noqa: PLC0415 - not for `--help`

    if not path.expanduser().is_file():
        raise InputError(f"there is no journal {path}")
    return ReadingJournal.open(path.expanduser())


def needed(text: str | None, what: str) -> str:
    """Return a text that must be there.

    Raises:
        InputError: It is not.
    """
    if text is None:
        raise InputError(f"this needs {what}")
    return text


def evidence_of(path: Path | None) -> bytes:
    """Return the hash of a file, or zero.

    Raises:
        InputError: There is no such file.
    """
    from pyiot_evm.hashing import keccak256  # noqa: PLC0415

    if path is None:
        return bytes(32)
    try:
        return keccak256(path.expanduser().read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def compared(rentals: "Rentals", rental: "RentalId", path: Path) -> list[str]:
    """Say what a file is of all that a rental's device and owner showed the chain the hash of.

    Raises:
        InputError: There is no such file.
        VerificationError: It is nothing of that.
    """
    from pyiot_evm.exceptions import VerificationError  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.types import Bytes32  # noqa: PLC0415

    shown, digest = rentals.ending(rental).shown, evidence_of(path)
    if found := shown.named(digest):
        return found
    others = ", ".join(f"{name} {other}" for name, other in shown.hashes.items()) or "nothing was shown"
    raise VerificationError(
        f"{path} is nothing that was shown of this rental: its hash is {Bytes32(digest)}; {others}",
        hint="the file must be the very same, to the byte",
    )


def set_policies(
    session: "Session", rentals: "Rentals", *, waive: bool, accept_up_to: str | None, withdraw: bool
) -> None:
    """Say how a loop acts."""
    from pyiot_evm.escrow.policies import OwnerPolicy, RenterPolicy  # noqa: PLC0415 - not for `--help`

    info = None if accept_up_to is None else session.chain.token_info()
    rentals.owning = OwnerPolicy(waive=waive, withdraw=withdraw)
    rentals.renting = RenterPolicy(
        accept_up_to=None if info is None else info.to_units(accept_up_to or ""),
        token=None if info is None else info.address,
        withdraw=withdraw,
    )


def doubts(offer: "RentalOffer") -> list[str]:
    """Say why renters would refuse an offer, unless they say that they take it."""
    from pyiot_evm.escrow.inspection import objections  # noqa: PLC0415 - not for `--help`
    from pyiot_evm.escrow.policies import RenterPolicy  # noqa: PLC0415

    found = objections(offer.terms, RenterPolicy())
    return [f"renters refuse this by default: {objection} ({objection.hint})" for objection in found]
