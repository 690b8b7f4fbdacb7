"""``pyiot rental court``: a court of ERC-792 as the arbiter of offers."""

from typing import Annotated

import typer

from pyiot_evm.cli import rental_options as given
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, TOKEN, As, command
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.session import Session
from pyiot_evm.exceptions import InputError
from pyiot_evm.types import Address, from_units

__all__: list[str] = []


@command(nouns, "court", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def court(
    session: Session,
    *,
    court: Annotated[str, typer.Argument(metavar="COURT", help="The court's address, a contract of ERC-792.")],
    name: As,
    extra_data: Annotated[
        str, typer.Option("--extra-data", metavar="HEX", help="How it is to sit, in the court's own encoding.")
    ] = "",
) -> None:
    """Deploy the adapter of a court, where it is missing: it is the arbiter that offers name.

    There is one for each court and each way in which it sits, at an address that is the same for everybody. NAME pays
    for the deployment and gets no rights by it. Then: `pyiot rental offer … --arbiter ADAPTER`.

    Example:
        pyiot rental court 0x988b3a538b618c7a603e1c11ab82cd16dbe28069 --as host
    """
    from pyiot_evm.escrow.rulings import court_fee, deploy_court_arbiter  # noqa: PLC0415 - not for `--help`

    try:
        data = bytes.fromhex(extra_data.removeprefix("0x"))
    except ValueError as error:
        raise InputError(f"--extra-data is hex, not {extra_data!r}") from error
    clerk, address = given.rentals_of(session, name).clerk, Address(court)
    fee = court_fee(clerk.chain, address, extra_data=data)
    adapter = deploy_court_arbiter(clerk, address, extra_data=data)
    session.output.show({"arbiter": adapter, "court": address, "fee_now": f"{from_units(fee, decimals=18):f} ETH"})
