"""Ids as people write them."""

import pytest

from pyiot_evm.cli.ids import find_id
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
