"""Where a user's or machine's state lies: keys, journals, bundles, one folder a network.

::

    $PYIOT_HOME (default ~/.pyiot)
    ├── keys/NAME/account.json            the account key of NAME (it owns, sells, pays), encrypted
    ├── keys/NAME/device-0.json|.pem      its device key, if it has one (it signs readings); device-1 after a rotation
    ├── journals/  bundles/  devnet/
    └── networks/<chain id>-<genesis>/    what belongs to one chain only

Folders are made when they are first asked for, for their owner alone (0700); keys are never written in the clear.

Example:
    >>> import tempfile
    >>> home = Home(tempfile.mkdtemp(), passphrase=lambda: "correct horse", cost=LIGHT)
    >>> sensor = home.keyring.new("sensor", curve="p256")
    >>> [entry.name for entry in home.keyring.list()], sensor.device == home.keyring.device("sensor").device
    (['sensor'], True)
    >>> home.network("31337-0123abcd").relative_to(home.path)
    PosixPath('networks/31337-0123abcd')
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyiot_evm.device.files import make_private_folder, sync_folder
from pyiot_evm.device.keystore import LIGHT, STANDARD, Cost, KeystoreSigner, read_signer
from pyiot_evm.device.signers import Curve, LocalSigner, check_signer, device_id
from pyiot_evm.exceptions import InputError, PassphraseError
from pyiot_evm.types import Address, DeviceId

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIGHT", "STANDARD", "Home", "KeyEntry", "Keyring", "cost_of_environment", "passphrase_of_environment"]

_COSTS: Final = {"standard": STANDARD, "light": LIGHT}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DEVICE: Final = re.compile(r"device-(\d+)\.(json|pem)")
_ACCOUNT: Final = "account.json"
_STAGED: Final = "device-next"
_ENDINGS: Final[dict[Curve, str]] = {"secp256k1": ".json", "p256": ".pem"}


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """What is known of a name without opening its keys.

    Args:
        name: The name.
        address: Its account.
        device: Its device's id (of the first device key), None where it has no device key.
        genesis: The signer bytes of its first device key, None where it has none.
        signer: The signer bytes of its present device key, None where it has none.
        curve: That key's curve.
        path: The folder of its keystores.
    """

    name: str
    address: Address
    device: DeviceId | None
    genesis: bytes | None
    signer: bytes | None
    curve: Curve | None
    path: Path


class Home:
    """A folder of state.

    Args:
        path: The folder; ``$PYIOT_HOME``, else ``~/.pyiot``, when left out.
        passphrase: Asked once, when a key is first opened or made; the environment's when left out.
        cost: What a guess at the passphrase costs, for new keys; the environment's when left out.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        passphrase: Callable[[], str] | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.path = Path(path or os.environ.get("PYIOT_HOME") or "~/.pyiot").expanduser().absolute()
        self.keyring = Keyring(self, passphrase=passphrase, cost=cost)

    @property
    def keys(self) -> Path:
        """The folder of keystores."""
        return self._folder("keys")

    @property
    def journals(self) -> Path:
        """The folder of devices' reading journals."""
        return self._folder("journals")

    @property
    def bundles(self) -> Path:
        """The folder where bundles are written by default."""
        return self._folder("bundles")

    @property
    def devnet(self) -> Path:
        """The folder of the devnet that runs for this home."""
        return self._folder("devnet")

    def network(self, network: str) -> Path:
        """Return the folder of what belongs to one chain only.

        Args:
            network: The network's name, e.g. ``"31337-0123abcd"``.
        """
        return self._folder("networks", _checked(network))

    def _folder(self, *parts: str) -> Path:
        make_private_folder(self.path)
        return make_private_folder(self.path.joinpath(*parts))

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"


class Keyring:
    """The named keys of a home. A name has an account key, and a device key where it signs readings.

    Args:
        home: Where the keystores lie.
        passphrase: Asked once, when a key is first opened or made; the environment's when left out.
        cost: What a guess at the passphrase costs, for new keys; the environment's when left out.
    """

    def __init__(self, home: Home, *, passphrase: Callable[[], str] | None = None, cost: Cost | None = None) -> None:
        self._home = home
        self._ask = passphrase or passphrase_of_environment
        self._cost = cost or cost_of_environment()
        self._passphrase: str | None = None

    def new(
        self, name: str, *, curve: Curve | None = None, account: bytes | None = None, device: bytes | None = None
    ) -> KeyEntry:
        """Make the keys of a new name: all of them are there afterwards, or none.

        Args:
            name: Letters, digits and ``_.-``, at most 64.
            curve: The device key's curve; left out, the name gets no device key.
            account: A secret that exists already, to import it; a new random key when left out.
            device: The same for the device key; it needs ``curve``.

        Raises:
            InputError: The name is taken or not a name, or a secret is none.
            PassphraseError: There is no passphrase.
        """
        folder = self._home.keys / _checked(name)
        if folder.exists():
            raise InputError(f"the name {name} is taken", hint="choose another one: `pyiot key list` shows them")
        if device is not None and curve is None:
            raise InputError("a device key to import needs its curve")
        keys = [(_ACCOUNT, _key(account, "secp256k1"))]
        if curve is not None:
            keys.append((f"device-0{_ending(curve)}", _key(device, curve)))
        temporary = self._home.keys / f".{name}.{os.urandom(4).hex()}"
        make_private_folder(temporary)
        try:
            for file, signer in keys:
                KeystoreSigner.save(signer, temporary / file, self._secret(), cost=self._cost).close()
            _rename_new(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(folder.parent)
        return self.entry(name)

    def add_device(self, name: str, *, curve: Curve, secret: bytes | None = None) -> KeyEntry:
        """Give a name a device key.

        Args:
            name: The name.
            curve: The key's curve.
            secret: A secret that exists already, to import it.

        Raises:
            InputError: No such name, or it has a device key.
            PassphraseError: There is no passphrase.
        """
        if self.entry(name).device is not None:
            raise InputError(f"{name} has a device key already", hint="a device gets a new key by rotation")
        path = self._path(name) / f"device-0{_ending(curve)}"
        KeystoreSigner.save(_key(secret, curve), path, self._secret(), cost=self._cost).close()
        return self.entry(name)

    def account(self, name: str) -> KeystoreSigner:
        """Open a name's account key.

        Raises:
            InputError: No such name, or a wrong passphrase.
            PassphraseError: There is no passphrase.
        """
        return self._open(self._path(name) / _ACCOUNT)

    def device(self, name: str) -> KeystoreSigner:
        """Open a name's present device key.

        Raises:
            InputError: No such name, no device key, or a wrong passphrase.
            PassphraseError: There is no passphrase.
        """
        files = _device_files(self._path(name))
        if not files:
            raise InputError(f"{name} has no device key", hint="make one with `pyiot key new NAME --curve p256`")
        return self._open(files[-1])

    def stage_device(self, name: str, *, curve: Curve) -> KeystoreSigner:
        """Make the key that a device will be rotated to, or open it when it was made before; the old one stays in use.

        Raises:
            InputError: No such name, no device key, or a key on another curve was staged.
            PassphraseError: There is no passphrase.
        """
        self.device(name).close()
        staged = self._staged(name)
        if staged is None:
            path = self._path(name) / f"{_STAGED}{_ending(curve)}"
            return KeystoreSigner.create(path, self._secret(), curve, cost=self._cost)
        signer = self._open(staged)
        if signer.curve != curve:
            raise InputError(f"{name} has a key on {signer.curve} staged, not {curve}")
        return signer

    def activate_device(self, name: str) -> KeyEntry:
        """Put the staged device key in use, once the registry has it; harmless when that was done before.

        Raises:
            InputError: No such name.
        """
        staged, files = self._staged(name), _device_files(self._path(name))
        if staged is not None:
            staged.rename(staged.with_name(f"device-{len(files)}{staged.suffix}"))
            sync_folder(staged.parent)
        return self.entry(name)

    def entry(self, name: str) -> KeyEntry:
        """Return what is known of a name without opening its keys.

        Raises:
            InputError: No such name, or a file in its folder is no keystore.
        """
        folder = self._path(name)
        signers = [_stated(path) for path in _device_files(folder)]
        return KeyEntry(
            name=name,
            address=Address(_stated(folder / _ACCOUNT)),
            device=device_id(signers[0]) if signers else None,
            genesis=signers[0] if signers else None,
            signer=signers[-1] if signers else None,
            curve=check_signer(signers[-1]) if signers else None,
            path=folder,
        )

    def list(self) -> list[KeyEntry]:
        """Return every name, sorted."""
        names = sorted(path.name for path in self._home.keys.iterdir() if (path / _ACCOUNT).is_file())
        return [self.entry(name) for name in names if not name.startswith(".")]

    def __contains__(self, name: str) -> bool:
        return bool(_NAME.fullmatch(name)) and (self._home.keys / name / _ACCOUNT).is_file()

    def _path(self, name: str) -> Path:
        folder = self._home.keys / _checked(name)
        if not (folder / _ACCOUNT).is_file():
            raise InputError(f"there is no key named {name}", hint=f"make one with `pyiot key new {name}`")
        return folder

    def _staged(self, name: str) -> Path | None:
        folder = self._path(name)
        return next((path for ending in _ENDINGS.values() if (path := folder / f"{_STAGED}{ending}").is_file()), None)

    def _open(self, path: Path) -> KeystoreSigner:
        return KeystoreSigner.open(path, self._secret())

    def _secret(self) -> str:
        if self._passphrase is None:
            self._passphrase = self._ask()
        return self._passphrase

    def __repr__(self) -> str:
        return f"Keyring({str(self._home.path)!r})"


def passphrase_of_environment() -> str:
    """Return the passphrase of ``PYIOT_PASSPHRASE``, or of the file that ``PYIOT_PASSPHRASE_FILE`` names.

    Raises:
        PassphraseError: Neither is set, or the file cannot be read.
    """
    passphrase = os.environ.get("PYIOT_PASSPHRASE")
    if passphrase:
        return passphrase
    file = os.environ.get("PYIOT_PASSPHRASE_FILE")
    if not file:
        raise PassphraseError("there is no passphrase for the keys")
    try:
        text = Path(file).expanduser().read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PassphraseError(f"cannot read the passphrase file {file}") from error
    if not text:
        raise PassphraseError(f"the passphrase file {file} is empty")
    return text


def cost_of_environment() -> Cost:
    """Return what a guess at the passphrase of a new key costs: ``PYIOT_KEY_COST``, ``standard`` or ``light``.

    Raises:
        InputError: It is something else.
    """
    name = os.environ.get("PYIOT_KEY_COST") or "standard"
    if name not in _COSTS:
        raise InputError(f"PYIOT_KEY_COST is {' or '.join(_COSTS)}, not {name[:40]!r}")
    return _COSTS[name]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"not a name: {name!r}", hint="letters, digits, dots, dashes and underscores, at most 64")
    return name


def _key(secret: bytes | None, curve: Curve) -> LocalSigner:
    return LocalSigner.create(curve) if secret is None else LocalSigner.from_secret(secret, curve)


def _ending(curve: Curve) -> str:
    if curve not in _ENDINGS:
        raise InputError(f"no such curve: {curve!r}", hint="secp256k1 or p256")
    return _ENDINGS[curve]


def _device_files(folder: Path) -> list[Path]:
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _DEVICE.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _stated(path: Path) -> bytes:
    signer_bytes = read_signer(path)
    if signer_bytes is None:
        raise InputError(f"{path} does not say whose key it holds")
    return signer_bytes


def _rename_new(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        raise InputError(f"the name {folder.name} is taken") from error
