"""``pyiot data``: one noun in three modules, for sellers, for everybody, for buyers."""

from pyiot_evm.cli import data_sell, data_find, data_buy  # noqa: F401, I001 - in the order of the help page
from pyiot_evm.cli.data_options import nouns

__all__ = ["nouns"]
