"""pyiot_evm.home: folders, named keys, passphrases."""

import json
import stat
import threading

import pytest

from pyiot_evm.device import LocalSigner, device_id
from pyiot_evm.exceptions import ConfigurationError, InputError, PassphraseError
from pyiot_evm.hashing import keccak256
from pyiot_evm.home import LIGHT, Home, Keyring, passphrase_of_environment

PASSPHRASE = "a passphrase that nothing may show"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home", passphrase=lambda: PASSPHRASE, cost=LIGHT)


@pytest.fixture
def keyring(home):
    return home.keyring


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("PYIOT_HOME", "PYIOT_PASSPHRASE", "PYIOT_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_home__when_made__touches_nothing(tmp_path):
    Home(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_home__when_no_path_is_given__is_the_environment_s_or_the_user_s(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home().path == tmp_path / ".pyiot"
    monkeypatch.setenv("PYIOT_HOME", "~/elsewhere")
    assert Home().path == tmp_path / "elsewhere"
    assert Home(tmp_path / "given").path == tmp_path / "given"


@pytest.mark.parametrize("folder", ["keys", "journals", "bundles", "devnet"])
def test_folder__when_asked_for__is_private(home, folder):
    path = getattr(home, folder)
    assert path == home.path / folder
    for made in (home.path, path):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_network__when_asked_for__is_a_folder_of_its_own(home):
    assert home.network("31337-0123abcd") == home.path / "networks" / "31337-0123abcd"
    assert home.network("1-d4e56740").is_dir()
    for made in home.path.rglob("*"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a b", "ä", "x" * 65, "-flag"])
def test_names__when_they_are_none__raise(home, keyring, name):
    for use in (home.network, keyring.new, keyring.account, keyring.device, keyring.entry):
        with pytest.raises(InputError, match="not a name"):
            use(name)
    assert name not in keyring


def test_new__when_no_curve_is_given__makes_an_account(keyring):
    entry = keyring.new("buyer")
    assert (entry.name, entry.device, entry.signer, entry.curve) == ("buyer", None, None, None)
    assert keyring.account("buyer").address == entry.address
    with pytest.raises(InputError, match="buyer has no device key"):
        keyring.device("buyer")


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_new__when_a_curve_is_given__makes_a_device_too(keyring, curve):
    entry = keyring.new("sensor", curve=curve)
    signer = keyring.device("sensor")
    assert (entry.curve, entry.signer, entry.device) == (curve, signer.signer_bytes, signer.device)
    assert signer.signer_bytes != keyring.account("sensor").signer_bytes
    assert {path.name for path in entry.path.iterdir()} == {
        "account.json",
        "device-0.json" if curve == "secp256k1" else "device-0.pem",
    }


def test_new__when_secrets_are_given__imports_them(keyring):
    account, device = keccak256(b"account"), keccak256(b"device")
    keyring.new("old", curve="p256", account=account, device=device)
    assert keyring.account("old").secret == account
    assert keyring.device("old").secret == device


def test_new__when_a_device_secret_has_no_curve__raises(keyring):
    with pytest.raises(InputError, match="a device key to import needs its curve"):
        keyring.new("old", device=keccak256(b"device"))
    assert "old" not in keyring


def test_new__when_the_name_is_taken__raises_and_keeps_the_key(keyring):
    entry = keyring.new("sensor")
    with pytest.raises(InputError, match="the name sensor is taken"):
        keyring.new("sensor", curve="p256")
    assert keyring.entry("sensor") == entry


def test_new__when_a_secret_is_none__leaves_nothing(home, keyring):
    with pytest.raises(InputError, match="not a secret of secp256k1"):
        keyring.new("sensor", account=bytes(32))
    assert list(home.keys.iterdir()) == []


def test_new__when_threads_race_for_a_name__one_wins(home, keyring):
    outcomes = []

    def work():
        try:
            outcomes.append(keyring.new("sensor").address)
        except InputError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [outcome for outcome in outcomes if outcome != "the name sensor is taken"]
    assert won == [keyring.account("sensor").address]
    assert [path.name for path in home.keys.iterdir()] == ["sensor"]


def test_files__when_written__are_private_and_hold_no_secret(home, keyring):
    secrets = [keccak256(b"account"), keccak256(b"device")]
    keyring.new("sensor", curve="p256", account=secrets[0], device=secrets[1])
    for path in home.path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        data = path.read_bytes() if path.is_file() else b""
        assert not any(secret in data or secret.hex().encode() in data for secret in secrets)
        assert PASSPHRASE.encode() not in data


def test_repr__when_shown__has_no_passphrase(home, keyring):
    keyring.new("sensor")
    assert PASSPHRASE not in repr(home) + repr(keyring) + repr(keyring.entry("sensor")) + repr(
        keyring.account("sensor")
    )


def test_list__when_there_are_names__gives_them_sorted_without_a_passphrase(home, keyring):
    entries = [keyring.new(name, curve="p256") for name in ("b", "a")]
    assert Home(home.path).keyring.list() == entries[::-1]
    assert "a" in keyring
    assert "c" not in keyring


def test_list__when_a_half_made_folder_lies_about__leaves_it_out(home, keyring):
    keyring.new("a")
    (home.keys / ".b.12345678").mkdir()
    (home.keys / "c").mkdir()
    assert [entry.name for entry in keyring.list()] == ["a"]


@pytest.mark.parametrize("use", ["account", "device", "entry"])
def test_keyring__when_there_is_no_such_name__raises(keyring, use):
    with pytest.raises(InputError, match="there is no key named ghost"):
        getattr(keyring, use)("ghost")


def test_add_device__when_the_name_has_none__gives_it_one(keyring):
    keyring.new("sensor")
    entry = keyring.add_device("sensor", curve="p256")
    assert entry.device == keyring.device("sensor").device
    with pytest.raises(InputError, match="sensor has a device key already"):
        keyring.add_device("sensor", curve="p256")


def test_activate_device__when_a_key_was_staged__rotates_and_keeps_the_id(keyring):
    before = keyring.new("sensor", curve="secp256k1")
    staged = keyring.stage_device("sensor", curve="p256")
    assert keyring.entry("sensor") == before
    assert keyring.device("sensor").signer_bytes == before.signer
    assert keyring.stage_device("sensor", curve="p256").signer_bytes == staged.signer_bytes
    with pytest.raises(InputError, match="sensor has a key on p256 staged, not secp256k1"):
        keyring.stage_device("sensor", curve="secp256k1")
    after = keyring.activate_device("sensor")
    assert (after.device, after.signer, after.curve) == (before.device, staged.signer_bytes, "p256")
    assert keyring.device("sensor").signer_bytes == staged.signer_bytes
    assert keyring.activate_device("sensor") == after
    assert after.device != device_id(staged.signer_bytes)


def test_device__when_rotated_more_than_ten_times__takes_the_last(keyring):
    keyring.new("sensor", curve="p256")
    for _ in range(11):
        last = keyring.stage_device("sensor", curve="p256").signer_bytes
        keyring.activate_device("sensor")
    assert keyring.entry("sensor").signer == last


def test_account__when_the_passphrase_is_wrong__raises(home, keyring):
    keyring.new("sensor")
    with pytest.raises(InputError, match="wrong passphrase"):
        Keyring(home, passphrase=lambda: "other").account("sensor")


def test_keyring__when_used_twice__asks_for_the_passphrase_once(home):
    asked = []

    def ask():
        asked.append(1)
        return PASSPHRASE

    keyring = Keyring(home, passphrase=ask, cost=LIGHT)
    keyring.new("a", curve="p256")
    keyring.account("a")
    keyring.device("a")
    assert len(asked) == 1


def test_keyring__when_there_is_no_passphrase__raises_what_to_do(tmp_path):
    keyring = Home(tmp_path, cost=LIGHT).keyring
    with pytest.raises(PassphraseError, match="there is no passphrase for the keys") as caught:
        keyring.new("sensor")
    assert isinstance(caught.value, ConfigurationError)
    assert "PYIOT_PASSPHRASE" in caught.value.hint
    assert list(keyring.list()) == []


def test_passphrase_of_environment__when_set__is_taken(monkeypatch, tmp_path):
    file = tmp_path / "passphrase"
    file.write_text("from the file\n")
    monkeypatch.setenv("PYIOT_PASSPHRASE_FILE", str(file))
    assert passphrase_of_environment() == "from the file"
    monkeypatch.setenv("PYIOT_PASSPHRASE", "from the variable")
    assert passphrase_of_environment() == "from the variable"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_passphrase_of_environment__when_the_file_has_none__raises(monkeypatch, tmp_path, content):
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PYIOT_PASSPHRASE_FILE", str(file))
    with pytest.raises(PassphraseError, match=r"cannot read|is empty"):
        passphrase_of_environment()


def test_new__when_the_environment_has_the_passphrase__uses_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYIOT_PASSPHRASE", PASSPHRASE)
    entry = Home(tmp_path, cost=LIGHT).keyring.new("sensor")
    assert Home(tmp_path).keyring.account("sensor").address == entry.address
    assert isinstance(Home(tmp_path).keyring.account("sensor"), LocalSigner)


@pytest.mark.parametrize(
    ("name", "rounds"), [(None, 1 << 17), ("", 1 << 17), ("standard", 1 << 17), ("light", 1 << 12)]
)
def test_new__when_the_environment_names_a_cost__makes_keystores_of_it(monkeypatch, tmp_path, name, rounds):
    monkeypatch.delenv("PYIOT_KEY_COST", raising=False)
    if name is not None:
        monkeypatch.setenv("PYIOT_KEY_COST", name)
    keyring = Home(tmp_path / "home", passphrase=lambda: "correct horse").keyring
    entry = keyring.new("sensor")
    (file,) = entry.path.glob("account*")
    assert json.loads(file.read_text())["crypto"]["kdfparams"]["n"] == rounds
    monkeypatch.setenv("PYIOT_KEY_COST", "light")
    with keyring.account("sensor") as signer:
        assert signer.address == entry.address


def test_home__when_the_environment_names_no_cost_that_there_is__is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PYIOT_KEY_COST", "none")
    with pytest.raises(InputError, match="PYIOT_KEY_COST is standard or light, not 'none'"):
        Home(tmp_path / "home")
