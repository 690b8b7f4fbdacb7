"""``pyiot pay``: one noun in three modules: channels, streams of readings, and the vault that fills channels."""

from pyiot_evm.cli import pay_channels, pay_stream, pay_vault  # noqa: F401 - in the order of the help page
from pyiot_evm.cli.pay_options import nouns

__all__ = ["nouns"]
