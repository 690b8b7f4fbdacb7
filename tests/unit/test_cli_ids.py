"""Ids as people write them."""

import pytest

from pyiot_evm.cli.ids import account_address, find_id
from pyiot_evm.cli.session import Session
from pyiot_evm.exceptions import InputError

KNOWN = [bytes.fromhex("3fa9c1d2" + "00" * 28), bytes.fromhex("3fa9c1ff" + "00" * 28)]


@pytest.mark.parametrize("text", ["0x3fa9c1d2", "3fa9c1d2", "3FA9C1D", "0X3fa9c1d2", "3fa9c1d2" + "00" * 28])
def test_find_id__when_it_is_cut_or_whole_with_or_without_0x__finds_it(text):
    # `pyiot pay show 3fa9c1d2` found nothing: only ids with 0x were found there, while other nouns took both.
    assert find_id("channel", text, lambda: KNOWN, hint="") == KNOWN[0]


def test_find_id__when_it_is_whole_and_unknown__is_that_id():
    assert find_id("channel", "0x" + "ab" * 32, lambda: KNOWN, hint="") == b"\xab" * 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3fa", "neither an id nor a file: '3fa'"),
        ("0x", "neither an id nor a file: '0x'"),
        ("door", "neither an id nor a file: 'door'"),
        ("0x" + "ab" * 33, "neither an id nor a file"),
        ("0xffff", "no channel begins with 0xffff"),
        ("3fa9c1", f"2 channels begin with 3fa9c1: 0x{KNOWN[0].hex()}, 0x{KNOWN[1].hex()}"),
    ],
)
def test_find_id__when_it_is_none_or_not_unique__says_so(text, said):
    with pytest.raises(InputError) as caught:
        find_id("channel", text, lambda: KNOWN, hint="")
    assert said in str(caught.value)


ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # of EIP-55


@pytest.mark.parametrize("text", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_account_address__when_it_is_one__is_that(text, tmp_path, monkeypatch):
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path))
    assert str(account_address(Session(), text)) == ADDRESS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ADDRESS[:-1] + "c", "is mistyped: its capitals do not fit its digits"),
        (ADDRESS[:-1] + "D", "is mistyped: its capitals do not fit its digits"),
        ("nobody", "'nobody' is no name of this home and no address"),
    ],
)
def test_account_address__when_it_is_mistyped_or_none__says_so(text, said, tmp_path, monkeypatch):
    # `pyiot pay send` took an address with one wrong digit, whose checksum said so, and paid it.
    monkeypatch.setenv("PYIOT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=said):
        account_address(Session(), text)
