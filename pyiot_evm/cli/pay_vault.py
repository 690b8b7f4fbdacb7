"""``pyiot pay vault`` and ``pyiot pay fund``: money paid in once, and many channels filled from it."""

from typing import Annotated

import typer

from pyiot_evm.cli import pay_options as shared
from pyiot_evm.cli.ids import account_address
from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, TOKEN, As, command
from pyiot_evm.cli.pay_options import Amount, nouns, vaults
from pyiot_evm.cli.session import Session

__all__: list[str] = []

_COLUMNS = {"id": "CHANNEL", "with": "WITH", "state": "STATE", "balance": "BALANCE", "promised": "PROMISED"}
Key = Annotated[str | None, typer.Option(metavar="TEXT", help="Names the movement: made once, ever.")]


@command(vaults, "deposit", CHAIN, TOKEN, SENDS, KEYS)
def deposit(session: Session, *, amount: Amount, name: As, key: Key = None) -> None:
    """Pay AMOUNT into NAME's vault, from which `pyiot pay fund` fills channels.

    Example:
        pyiot pay vault deposit 5.00 --as buyer
    """
    units = session.chain.token_info().to_units(amount)
    session.output.show(shared.moved_row(session, shared.payments_of(session, name).vault.deposit(units, key=key)))


@command(vaults, "withdraw", CHAIN, TOKEN, SENDS, KEYS)
def withdraw(
    session: Session,
    *,
    name: As,
    amount: Annotated[str | None, typer.Argument(metavar="AMOUNT", help="Whole tokens; all when left out.")] = None,
    to: Annotated[str | None, typer.Option(metavar="PAYEE", help="Who gets it; NAME itself when left out.")] = None,
    key: Key = None,
) -> None:
    """Pay AMOUNT out of NAME's vault, all of it when no amount is given.

    With --to it is a payment, inside NAME's budget.

    Example:
        pyiot pay vault withdraw 1.00 --as buyer
    """
    units = None if amount is None else session.chain.token_info().to_units(amount)
    target = None if to is None else account_address(session, to)
    moved = shared.payments_of(session, name).vault.withdraw(units, to=target, key=key)
    session.output.show(shared.moved_row(session, moved))


@command(vaults, "show", CHAIN, TOKEN, KEYS)
def show(session: Session, *, name: As) -> None:
    """Show what is in NAME's vault, and where it is.

    Example:
        pyiot pay vault show --as buyer
    """
    payments = shared.payments_of(session, name)
    session.output.show(
        {"vault": shared.money(session, payments.vault.credit()), "contract": payments.additions.channels}
    )


@command(nouns, "fund", CHAIN, TOKEN, SENDS, KEYS)
def fund(
    session: Session,
    *,
    parts: Annotated[list[str], typer.Argument(metavar="PAYEE=AMOUNT", help="Whom, and how much; up to 256.")],
    name: As,
    key: Key = None,
) -> None:
    """Pay out of NAME's vault into the channels to many payees, in one transaction.

    The first time this opens a channel. What is not promised by vouchers comes back with `pyiot pay close`.

    Example:
        pyiot pay fund sensor=1.00 meter=0.50 --as buyer
    """
    amounts = shared.funding(session, parts)
    channels = shared.payments_of(session, name).vault.fund(amounts, key=key)
    rows = [shared.payer_row(session, channel) for channel in channels]
    session.output.show_rows("channels", rows, _COLUMNS, "no channel was filled")
