"""``pyiot rental``: one noun in three modules, for the deal, for its use, and for claims and money."""

from pyiot_evm.cli import rental_deal, rental_use, rental_claim  # noqa: F401, I001 - in the order of the help page
from pyiot_evm.cli.rental_options import nouns

__all__ = ["nouns"]
