"""A gateway's configuration file."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from pyiot_evm.exceptions import InputError
from pyiot_evm.gateway.config import GatewayConfig

HOW_TO = Path(__file__).parents[2] / "docs/how-to/pay-over-http.md"


def test_config__when_it_is_the_one_of_the_documentation__names_every_setting_and_its_default():
    (text,) = re.findall(r"```toml\n(.+?)```", HOW_TO.read_text(), re.DOTALL)
    parsed = GatewayConfig.parse(text, decimals=6)
    names = {field.name for field in fields(GatewayConfig)}
    assert set(re.findall(r"^(\w+) =", text, re.MULTILINE)) == names
    assert {name for name in names if getattr(parsed, name) != getattr(GatewayConfig(), name)} == {"exact_from"}
    assert parsed.exact_from == 50_000


def test_config__when_its_documentation_is_read__explains_every_setting():
    """`settle_seconds` was left out."""
    explained = re.findall(r"^\s+(\w+): ", GatewayConfig.__doc__.partition("Attributes:")[2], re.MULTILINE)
    assert explained == [field.name for field in fields(GatewayConfig)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("price_row = ", "is no TOML"),
        ('price_rows = "1"', "has no price_rows"),
        ('price_row = "0"', "price_row is at least one base unit of the token, not 0"),
        ('price_row = "0.0000001"', "price_row: 0.0000001 has more than the token's 6 decimals"),
        ('price_row = "-1"', "price_row: an amount must be 0 or more: -1"),
        ("burst = 0", "burst is a whole number from 1, not 0"),
        ("burst = true", "burst is a whole number from 1, not True"),
        ('burst = "4"', "burst is a whole number from 1, not '4'"),
        ("parallel = 1.5", "parallel is a whole number from 1, not 1.5"),
        ("schemes = []", "schemes are exact and batch-settlement"),
        ("price_row = true", "price_row: "),
        ("price_row = [1]", "price_row: "),
        ("schemes = 7", "schemes are exact and batch-settlement, not 7"),
        ("schemes = [[1]]", "schemes are exact and batch-settlement, not [1]"),
        ('schemes = ["upto"]', "schemes are exact and batch-settlement, not upto"),
        ('schemes = "exact"\nexact_from = "1"', "exact_from needs the scheme batch-settlement"),
    ],
)
def test_config__when_it_says_what_cannot_be__is_an_error_that_names_it(text, problem):
    with pytest.raises(InputError) as caught:
        GatewayConfig.parse(text, decimals=6)
    assert problem in str(caught.value)


def test_config__when_its_file_cannot_be_read__is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        GatewayConfig.read(tmp_path / "none.toml", decimals=6)
    (tmp_path / "other.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"cannot read .*other\.toml"):
        GatewayConfig.read(tmp_path / "other.toml", decimals=6)
