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


def test_config__when_the_token_has_other_decimals__its_defaults_are_for_the_same_money():
    usual, fine, coarse = GatewayConfig(), GatewayConfig.parse("gas_factor = 5", decimals=18), GatewayConfig.of(2)
    for name in ("price_row", "price_latest", "price_stream", "max_exposure", "token_per_ether"):
        assert getattr(fine, name) == getattr(usual, name) * 10**12
    assert (fine.gas_factor, fine.exact_from, GatewayConfig.of(6)) == (5, 1, usual)
    assert (coarse.price_row, coarse.max_exposure, coarse.token_per_ether) == (1, 1_000, 300_000)
    written = GatewayConfig.parse('token_per_ether = "0.2"\nclaim_every = 60', decimals=18)
    assert (written.token_per_ether, written.claim_every) == (2 * 10**17, 60)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("price_row = ", "is no TOML"),
        ('price_rows = "1"', "has no price_rows"),
        ('price_row = "0"', "price_row is at least one base unit of the token, not 0"),
        ('price_row = "0.0000001"', "price_row: 0.0000001 has more than the token's 6 decimals"),
        ('price_row = "-1"', "price_row: an amount must be 0 or more: -1"),
        ('token_per_ether = "0"', "token_per_ether is at least one base unit of the token, not 0"),
        ("claim_every = 0", "claim_every is a whole number from 1, not 0"),
        ("gas_factor = 0.5", "gas_factor is a whole number from 1, not 0.5"),
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
