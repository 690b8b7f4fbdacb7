"""``pyiot device``: who a device is, in the registry of a chain."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyiot_evm.cli.files import read_text
from pyiot_evm.cli.ids import account_address
from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, As, command
from pyiot_evm.cli.output import clock, fields, short
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.cli.session import Session
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, DeviceId

if TYPE_CHECKING:
    from pyiot_evm.identity import DeviceChange, DeviceDetails, DeviceMetadata, DeviceRecord, Devices

__all__ = ["nouns"]

nouns = typer.Typer(cls=HelpfulGroup, help="Register, show and look after devices.", no_args_is_help=True)

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id, or a name of this home.")]
Owner = Annotated[str | None, typer.Option("--owner", metavar="ADDRESS", help="Who owns it; NAME when left out.")]
Owned = Annotated[str | None, typer.Option("--owner", metavar="ADDRESS", help="Only what this account owns.")]
Document = Annotated[
    Path | None, typer.Option("--metadata", metavar="FILE", help="A JSON document: name, maker, model, sensors.")
]
Uri = Annotated[str, typer.Option("--uri", metavar="URL", help="Where the metadata document can be fetched.")]
NewOwner = Annotated[str, typer.Argument(metavar="ADDRESS", help="The new owner's account, or a name of this home.")]
NewCurve = Annotated[
    Literal["secp256k1", "p256", "same"], typer.Option("--curve", metavar="CURVE", help="The new key's curve.")
]


@command(nouns, "register", CHAIN, SENDS, KEYS)
def register(session: Session, *, name: As, owner: Owner = None, metadata: Document = None, uri: Uri = "") -> None:
    """Put NAME's device into the registry, with an owner.

    The device's own key signs owner and metadata, so nobody else can register it; NAME's account pays. A device that is
    there already as asked costs nothing. A device need not be registered to sign or to sell: only to be rotated,
    transferred or revoked later.

    Example:
        pyiot device register --as sensor
    """
    devices = devices_of(session, name)
    to = None if owner is None else account_address(session, owner)
    signer = session.opened(session.keyring.device(name))
    change = devices.register(signer, owner=to, metadata=read_metadata(metadata), uri=uri)
    session.output.show(changed(devices, change))


@command(nouns, "show", CHAIN)
def show(session: Session, *, device: Device) -> None:
    """Show a device: owner, keys over time, metadata, DID document.

    Example:
        pyiot device show sensor --json
    """
    devices, found = devices_of(session), find(session, device)
    details = devices.show(found, genesis=genesis_of(session, found))
    session.output.show(details_document(details), *([] if session.output.json else details_lines(details)))


@command(nouns, "list", CHAIN)
def list_(session: Session, *, owner: Owned = None) -> None:
    """List the registered devices, the oldest first.

    Example:
        pyiot device list
    """
    records = devices_of(session).list(owner=None if owner is None else Address(owner))
    columns = {"id": "DEVICE", "owner": "OWNER", "registered": "REGISTERED", "epoch": "EPOCH", "revoked": "REVOKED"}
    session.output.show_rows("devices", [record_row(record) for record in records], columns, "no device is registered")


@command(nouns, "rotate", CHAIN, SENDS, KEYS)
def rotate(session: Session, *, name: As, curve: NewCurve = "same") -> None:
    """Give NAME's device a new key; the old one signs nothing more.

    The new key is made and kept first, so that a crash in between loses nothing: the same command goes on. All of the
    device's sessions end.

    Example:
        pyiot device rotate --as sensor
    """
    devices, entry = devices_of(session, name), session.keyring.entry(name)
    wanted = (entry.curve or "secp256k1") if curve == "same" else curve
    staged = session.opened(session.keyring.stage_device(name, curve=wanted))
    device = DeviceId(entry.device or b"")
    change = devices.rotate(device, staged, old_signer=own_key(session, devices, name, device))
    session.keyring.activate_device(name)
    session.output.show(changed(devices, change))


@command(nouns, "transfer", CHAIN, SENDS, KEYS)
def transfer(session: Session, *, device: Device, to: NewOwner, name: As) -> None:
    """Hand a device that NAME owns to another owner; its key stays, its sessions end.

    Example:
        pyiot device transfer sensor buyer --as sensor
    """
    devices = devices_of(session, name)
    owner = account_address(session, to)
    session.output.show(changed(devices, devices.transfer(find(session, device), owner)))


@command(nouns, "revoke", CHAIN, SENDS, KEYS)
def revoke(session: Session, *, device: Device, name: As) -> None:
    """End a device for ever: nothing dated from now on counts, what is dated before stays good.

    The owner does it, or whoever holds the device's own key.

    Example:
        pyiot device revoke sensor --as sensor
    """
    devices, found = devices_of(session, name), find(session, device)
    change = devices.revoke(found, signer=own_key(session, devices, name, found))
    session.output.show(changed(devices, change))


def devices_of(session: Session, name: str | None = None) -> "Devices":
    """Open the registry; with a name, so that its account can send."""
    from pyiot_evm.identity import Devices  # noqa: PLC0415 - not for `--help`

    return Devices(session.chain, account=None if name is None else session.account(name))


def find(session: Session, device: str) -> DeviceId:
    """Read a device's id, or take the device of a name.

    Raises:
        InputError: It is neither, or the name has no device key.
    """
    if device not in session.keyring:
        return DeviceId(device)
    entry = session.keyring.entry(device)
    if entry.device is None:
        raise InputError(f"{device} has no device key", hint="names with one: `pyiot key list`")
    return entry.device


def genesis_of(session: Session, device: DeviceId) -> bytes | None:
    """Return the first signer of a device of this home; a device that was never registered has no other source."""
    found = [entry for entry in session.keyring.list() if entry.device == device]
    return found[0].genesis if found else None


def own_key(session: Session, devices: "Devices", name: str, device: DeviceId) -> Any:
    """Return the device's own key where NAME does not own the device but holds that key."""
    if devices.get(device).owner == devices.account.address or session.keyring.entry(name).device != device:
        return None
    return session.opened(session.keyring.device(name))


def read_metadata(path: Path | None) -> "DeviceMetadata | None":
    """Read a metadata document.

    Raises:
        InputError: It is none.
    """
    if path is None:
        return None
    from pyiot_evm.identity import DeviceMetadata  # noqa: PLC0415 - not for `--help`

    try:
        return DeviceMetadata.from_document(json.loads(read_text(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON document: {error}") from error


def changed(devices: "Devices", change: "DeviceChange") -> dict[str, Any]:
    """Return what is shown of an act: the device as it is now, and the transaction."""
    receipt = change.receipt
    sent = [] if receipt is None else [{"purpose": "device", "gas": receipt.gas_used, "hash": str(receipt.hash)}]
    return record_document(devices.get(change.device)) | {"transactions": sent}


def record_document(record: "DeviceRecord") -> dict[str, Any]:
    """Return what is shown of a device."""
    return {
        "device": str(record.device),
        "owner": None if record.owner is None else str(record.owner),
        "registered": clock(record.registered_at),
        "epoch": record.epoch,
        "revoked": record.is_revoked,
    }


def record_row(record: "DeviceRecord") -> dict[str, Any]:
    """Return a device with what a table shows beside it."""
    return record_document(record) | {"id": short(record.device)}


def details_document(details: "DeviceDetails") -> dict[str, Any]:
    """Return everything that is known of a device."""
    keys = [{"from": clock(w.start), "until": _end(w), "signer": "0x" + w.signer.hex()} for w in details.signers]
    return record_document(details.record) | {
        "did": details.did,
        "metadata": str(details.metadata) if any(details.metadata) else None,
        "uri": details.uri,
        "keys": keys,
        "did_document": details.did_document,
    }


def details_lines(details: "DeviceDetails") -> list[str]:
    """Return everything that is known of a device as text: the fields, then the DID document."""
    document = details_document(details)
    did_document = document.pop("did_document")
    return [*fields(document), "", *json.dumps(did_document, indent=2).splitlines()]


def _end(window: Any) -> str:
    return "" if window.is_current else clock(window.end)
