"""``pyiot pay``: one noun in two modules, for channels and for the vault that fills them."""

from pyiot_evm.cli import pay_channels, pay_vault  # noqa: F401 - in the order of the help page
from pyiot_evm.cli.pay_options import nouns

__all__ = ["nouns"]
