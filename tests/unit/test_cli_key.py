"""``pyiot key`` without a chain: keys are made, imported, listed, backed up and restored; secrets never show."""

import io
import json
import tarfile

import pytest
from typer.testing import CliRunner

from pyiot_evm.cli import app
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.keystore import LIGHT, KeystoreSigner
from pyiot_evm.home import Home

PASSPHRASE = "correct horse battery staple"
SECRET = bytes(31) + b"\x07"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYIOT_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("PYIOT_RPC_URL", raising=False)
    monkeypatch.delenv("PYIOT_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr("pyiot_evm.home.STANDARD", LIGHT)
    monkeypatch.setattr("pyiot_evm.home.Home.__init__.__kwdefaults__", {"passphrase": None, "cost": LIGHT})
    return tmp_path / "home"


def run(*words, code=0, **kwargs):
    result = CliRunner().invoke(app, ["key", *map(str, words)], **kwargs)
    assert result.exit_code == code, result.output
    return result


def document(*words, **kwargs):
    return json.loads(run(*words, "--json", **kwargs).stdout)


@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_new__when_a_curve_is_asked_for__makes_an_account_and_a_device_key(curve):
    made = document("new", "sensor", "--curve", curve)
    entry = Home().keyring.entry("sensor")
    assert made["name"] == "sensor"
    assert made["address"] == str(entry.address)
    assert made["device"] == str(entry.device)
    assert made["curve"] == curve
    assert "ether" not in made, "nothing is funded where no devnet runs"


def test_new__when_no_curve_is_asked_for__makes_no_device_key():
    assert document("new", "buyer")["device"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [("../x", "not a name: '../x'"), ("", "not a name: ''"), ("a" * 65, "not a name"), (".x", "not a name: '.x'")],
)
def test_new__when_the_name_is_none__exits_2(name, message):
    assert message in run("new", name, code=2).stderr


def test_new__when_the_name_is_taken__exits_2_and_leaves_the_key_alone():
    address = document("new", "sensor")["address"]
    assert "the name sensor is taken" in run("new", "sensor", code=2).stderr
    assert document("show", "sensor")["address"] == address


def test_new__when_there_is_no_passphrase_and_no_terminal__exits_2_with_a_hint(monkeypatch, home):
    monkeypatch.delenv("PYIOT_PASSPHRASE")
    result = run("new", "sensor", code=2)
    assert "there is no passphrase" in result.stderr
    assert "PYIOT_PASSPHRASE" in result.stderr
    assert not (home / "keys" / "sensor").exists()
    body = json.loads(run("new", "sensor", "--json", code=2).stdout)["error"]
    assert body["code"] == "passphrase"


def test_new__when_a_passphrase_file_is_named__uses_its_first_line(monkeypatch, tmp_path):
    monkeypatch.delenv("PYIOT_PASSPHRASE")
    file = tmp_path / "passphrase"
    file.write_text("from a file\nsecond line\n")
    run("new", "sensor", "--passphrase-file", file)
    with KeystoreSigner.open(Home().keyring.entry("sensor").path / "account.json", "from a file") as signer:
        assert signer.address == Home().keyring.entry("sensor").address


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_new__when_the_passphrase_file_is_bad__exits_2(content, tmp_path):
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_bytes(content)
    assert "passphrase file" in run("new", "sensor", "--passphrase-file", file, code=2).stderr


def test_new__when_the_curve_is_unknown__exits_2_and_names_those_that_are():
    error = run("new", "sensor", "--curve", "ed25519", code=2).stderr
    assert "ed25519" in error
    assert "secp256k1" in error


def test_import__when_the_secret_comes_through_a_pipe__makes_that_account():
    made = document("import", "seller", input=f"0x{SECRET.hex()}\n")
    assert made["address"] == str(LocalSigner.from_secret(SECRET).address)


@pytest.mark.parametrize("text", ["", "xyz", "00" * 32, "ff" * 32, "01" * 31])
def test_import__when_the_secret_is_none__exits_2_and_does_not_repeat_it(text):
    result = run("import", "seller", input=f"{text}\n", code=2)
    assert "Traceback" not in result.output
    assert not text or text not in result.output


def test_import__when_a_keystore_is_named__asks_for_its_own_passphrase(monkeypatch, tmp_path):
    file = tmp_path / "wallet.json"
    KeystoreSigner.save(LocalSigner.from_secret(SECRET), file, "another one", cost=LIGHT).close()
    assert (
        "wrong passphrase"
        in run("import", "a", "--keystore", file, code=2, env={"PYIOT_IMPORT_PASSPHRASE": "no"}).stderr
    )
    assert "PYIOT_IMPORT_PASSPHRASE" in run("import", "a", "--keystore", file, code=2).stderr
    monkeypatch.setenv("PYIOT_IMPORT_PASSPHRASE", "another one")
    assert document("import", "a", "--keystore", file)["address"] == str(LocalSigner.from_secret(SECRET).address)


def test_list__when_there_are_keys__shows_them_without_a_passphrase(monkeypatch):
    run("new", "sensor", "--curve", "p256")
    run("new", "buyer")
    monkeypatch.delenv("PYIOT_PASSPHRASE")
    assert [key["name"] for key in document("list")["keys"]] == ["buyer", "sensor"]
    assert run("list").stdout.splitlines()[0].split() == ["NAME", "ACCOUNT", "SIGNS", "DEVICE"]


def test_list__when_there_are_none__says_how_to_make_one():
    result = run("list")
    assert result.stdout == ""
    assert "pyiot key new NAME" in result.stderr


def test_show__when_the_name_is_unknown__exits_2():
    assert "there is no key named nobody" in run("show", "nobody", code=2).stderr


def test_show__when_a_keystore_is_damaged__exits_2_without_a_traceback(home):
    run("new", "sensor")
    (home / "keys" / "sensor" / "account.json").write_text("{")
    assert "is not a keystore" in run("show", "sensor", code=2).stderr


def test_backup__when_restored_elsewhere__gives_the_same_keys_and_holds_no_secret(monkeypatch, tmp_path, home):
    document("import", "seller", "--curve", "p256", input=f"{SECRET.hex()}\n")
    before = document("show", "seller")
    file = tmp_path / "backup.tar.gz"
    made = document("backup", file)
    assert made["names"] == ["seller"]
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        everything = b"".join(archive.extractfile(member).read() for member in archive if member.isfile())
    assert SECRET not in everything
    assert SECRET.hex().encode() not in everything
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path / "second"))
    assert document("restore", file)["names"] == ["seller"]
    after = document("show", "seller")
    assert {**before, "path": ""} == {**after, "path": ""}
    assert "is in" in run("restore", file, code=2).stderr
    assert list((tmp_path / "second").glob(".restore*")) == []


def test_backup__when_the_file_exists__exits_2_and_leaves_it_alone(tmp_path):
    run("new", "sensor")
    file = tmp_path / "backup.tar.gz"
    file.write_text("mine")
    assert "exists already" in run("backup", file, code=2).stderr
    assert file.read_text() == "mine"


def test_backup__when_there_are_no_keys__exits_2_and_writes_nothing(tmp_path):
    assert "nothing to back up" in run("backup", tmp_path / "b", code=2).stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
def test_restore__when_the_file_is_no_backup__exits_2(content, tmp_path):
    file = tmp_path / "b.tar.gz"
    file.write_bytes(content)
    assert "is not a backup" in run("restore", file, code=2).stderr


def test_restore__when_the_file_is_missing__exits_2(tmp_path):
    assert "there is no backup" in run("restore", tmp_path / "none", code=2).stderr


def test_restore__when_a_file_in_it_was_changed__exits_1_and_restores_nothing(monkeypatch, tmp_path):
    run("new", "sensor")
    file, changed = tmp_path / "b.tar.gz", tmp_path / "c.tar.gz"
    run("backup", file)
    with tarfile.open(file) as old, tarfile.open(changed, "w:gz") as new:
        for member in old:
            data = old.extractfile(member).read()
            if member.name.endswith("account.json"):
                data = data.replace(b'"version": 3', b'"version": 4')
            member.size = len(data)

            new.addfile(member, io.BytesIO(data))
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path / "second"))
    assert "the backup is damaged" in run("restore", changed, code=1).stderr
    assert document("list")["keys"] == []


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "keys/../../outside"])
def test_restore__when_a_file_would_land_outside__restores_nothing(name, monkeypatch, tmp_path):

    manifest = {"version": 1, "created_at": 1, "names": ["x"], "networks": [], "files": {name: "0" * 64}}
    file = tmp_path / "evil.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for member, data in ((name, b"evil"), ("pyiot-backup.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path / "second"))
    assert run("restore", file, code=2).stderr.startswith("error: ")
    assert not (tmp_path / "outside").exists()
