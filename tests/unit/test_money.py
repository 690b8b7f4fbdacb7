"""Amounts of money: from what a human writes to base units and back, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiot_evm.exceptions import InputError
from pyiot_evm.types import from_units, to_units

MOST = (1 << 256) - 1


@given(st.integers(0, MOST), st.integers(0, 30))
def test_units__when_they_go_to_whole_tokens_and_back__are_the_same(units: int, decimals: int) -> None:
    amount = from_units(units, decimals=decimals)
    assert to_units(amount, decimals=decimals) == to_units(str(amount), decimals=decimals) == units


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        ("0", 0), ("-0", 0), ("0e99999999999", 0), ("0e-999999999", 0), ("1.50", 1_500_000), ("1e3", 10**9),
        ("1E-6", 1), ("0.10000000000000", 100_000), (5, 5_000_000), (Decimal("0.1"), 100_000), ("1e71", 10**77),
        (Decimal(f"{MOST}e-6"), MOST),
    ],
)  # fmt: skip
def test_to_units__when_it_is_an_amount__is_exact(amount: str, units: int) -> None:
    assert to_units(amount, decimals=6) == units


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        (0.5, "money is never a float"),
        (True, "not an amount of money: 'True'"),
        (None, "not an amount of money"),
        ([1], "not an amount of money"),
        ((0, (1,), 0), "not an amount of money"),
        ("", "not an amount of money"),
        ("ten", "not an amount of money: 'ten'"),
        ("1_000", "not an amount of money"),
        ("1,5", "not an amount of money"),
        ("٣", "not an amount of money"),
        ("1" * 5000, "not an amount of money"),
        ("-1", "must be 0 or more: -1"),
        ("NaN", "must be 0 or more"),
        ("Infinity", "must be 0 or more"),
        ("1e72", "less than 2²⁵⁶ base units: 1e72"),
        ("1e99999999", "less than 2²⁵⁶ base units"),
        (10**400, "less than 2²⁵⁶ base units"),
        (Decimal(f"{MOST + 1}e-6"), "less than 2²⁵⁶ base units"),
        ("1e-7", "more than the token's 6 decimals"),
        ("1e-999999999", "more than the token's 6 decimals"),
        ("0." + "0" * 90 + "1", "more than the token's 6 decimals"),
        (Decimal(1) / 3, "more than the token's 6 decimals"),
    ],
)
def test_to_units__when_it_is_no_amount__is_an_error_that_says_why(amount: object, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        to_units(amount, decimals=6)  # type: ignore[arg-type]
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200
