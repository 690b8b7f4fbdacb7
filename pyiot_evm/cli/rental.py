"""``pyiot rental``: one noun in four modules, for the deal, for its use, for claims and money, and for others' acts."""

from pyiot_evm.cli import rental_deal, rental_use, rental_claim, rental_court, rental_carry  # noqa: F401, I001 - as the help page has it
from pyiot_evm.cli.rental_options import nouns

__all__ = ["nouns"]
