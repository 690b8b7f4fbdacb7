"""``pyiot key``: the named keys of this home."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from pyiot_evm.cli.files import writable
from pyiot_evm.cli.options import CHAIN, NEW_KEYS, Name, command
from pyiot_evm.cli.root import HelpfulGroup
from pyiot_evm.cli.session import Session

__all__ = ["nouns"]

nouns = typer.Typer(cls=HelpfulGroup, help="Make, show and keep the keys of your machines.", no_args_is_help=True)

Curve = Annotated[
    Optional[Literal["secp256k1", "p256"]],  # noqa: UP045 - typer reads it at run time
    typer.Option(metavar="CURVE", help="Also make a device key that signs readings: secp256k1 or p256."),
]
KeystoreFile = Annotated[
    Path | None,
    typer.Option("--keystore", metavar="PATH", help="A V3 JSON keystore; its own passphrase is asked for."),
]


@command(nouns, "new", CHAIN, NEW_KEYS)
def new(session: Session, *, name: Name, curve: Curve = None) -> None:
    """Make an account key, and a device key if asked; on a devnet it is funded.

    The account key (secp256k1) owns, sells and pays. A device key signs readings; P-256 is what secure elements and
    TPMs hold. Both are written encrypted, below $PYIOT_HOME/keys.

    Example:
        pyiot key new sensor --curve p256
        pyiot key new buyer
    """
    fund = session.funding()
    entry = session.keyring.new(name, curve=curve)
    session.output.show(key_document(entry) | fund(entry.address))


@command(nouns, "import", CHAIN, NEW_KEYS)
def import_(session: Session, *, name: Name, keystore: KeystoreFile = None, curve: Curve = None) -> None:
    """Take over an account key that exists already.

    The key comes from a keystore file of geth, a wallet or another home, or, without --keystore, as 64 hex digits from
    a hidden prompt (or from standard input where there is no terminal). It never is an argument: arguments end up in
    the shell's history and in every process list.

    Example:
        pyiot key import seller --keystore UTC--2026-01-31T00-00-00Z--0123
    """
    from pyiot_evm.cli.secrets import read_key, read_keystore  # noqa: PLC0415 - not for `--help`

    secret = read_keystore(keystore) if keystore else read_key()
    entry = session.keyring.new(name, account=secret, curve=curve)
    session.output.show(key_document(entry))


@command(nouns, "list")
def list_(session: Session) -> None:
    """List the names of this home with their accounts and devices.

    Needs no passphrase: only public parts are shown.

    Example:
        pyiot key list
    """
    rows = [key_document(entry) for entry in session.keyring.list()]
    columns = {"name": "NAME", "address": "ACCOUNT", "curve": "SIGNS", "device": "DEVICE"}
    session.output.show_rows("keys", rows, columns, "there are no keys yet; make one: pyiot key new NAME")


@command(nouns, "show", CHAIN)
def show(session: Session, *, name: Name) -> None:
    """Show a name's account, device, DID and balances.

    Balances are those on the chain that --rpc names, or on the running devnet; without a chain they are left out.

    Example:
        pyiot key show sensor
    """
    entry = session.keyring.entry(name)
    session.output.show(key_document(entry) | {"path": str(entry.path)} | session.balances_of(entry.address))


@command(nouns, "backup")
def backup(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup to write; it must not exist.")],
    bundles: Annotated[bool, typer.Option("--bundles", help="Take the bundles too; they can be large.")] = False,
) -> None:
    """Write everything that would be lost with this computer to one file.

    Keystores, the journals of all networks (and in them the content keys of what is on sale: a seller who loses those
    loses the income) and the devices' own journals. All secrets in it stay encrypted by your passphrase.

    Example:
        pyiot key backup sensor-2026-11-22.tar.gz
    """
    from pyiot_evm.backup import write_backup  # noqa: PLC0415 - not for `--help`

    made = write_backup(session.home, writable(file, new=True), bundles=bundles)
    session.output.show({"file": str(file), "names": made.names, "networks": made.networks, "files": len(made.files)})


@command(nouns, "restore")
def restore(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `pyiot key backup` wrote.")],
) -> None:
    """Put a backup back into this home; nothing that is there is written over.

    Every file is checked first. When a name or a journal of the backup is in the home already, nothing is restored:
    restore into an empty home then.

    Example:
        PYIOT_HOME=~/.pyiot-restored pyiot key restore sensor-2026-11-22.tar.gz
    """
    from pyiot_evm.backup import restore_backup  # noqa: PLC0415 - not for `--help`

    made = restore_backup(session.home, file.expanduser())
    session.output.show({"home": str(session.home.path), "names": made.names, "networks": made.networks})


def key_document(entry: object) -> dict[str, object]:
    """Return what is shown of a key: public parts alone."""
    shown = {name: getattr(entry, name) for name in ("name", "address", "curve", "device")}
    return shown | {"signer": getattr(entry, "signer", None)}
