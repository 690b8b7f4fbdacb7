"""Channels, vouchers and budgets: the commands of ``pyiot pay`` but the vault's."""

from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from pyiot_evm.cli import pay_options as shared
from pyiot_evm.cli.files import read_text, writable
from pyiot_evm.cli.ids import account_address
from pyiot_evm.cli.options import CHAIN, KEYS, SENDS, TOKEN, As, command
from pyiot_evm.cli.pay_options import Amount, ChannelRef, Payee, budgets, nouns
from pyiot_evm.cli.session import Session

__all__: list[str] = []

_COLUMNS = {"id": "CHANNEL", "role": "ROLE", "state": "STATE", "with": "WITH"} | {
    "balance": "BALANCE", "promised": "PROMISED", "claimed": "CLAIMED",
}  # fmt: skip
_WAITING = {"id": "PAYMENT", "price": "PRICE", "payee": "PAYEE", "url": "URL"}
Limit = str | None


@command(nouns, "open", CHAIN, TOKEN, SENDS, KEYS)
def open_(session: Session, *, payee: Payee, amount: Amount, name: As) -> None:
    """Pay AMOUNT into the channel to PAYEE; the first time this opens it.

    What is not promised to the payee by vouchers comes back with `pyiot pay close`.

    Example:
        pyiot pay open sensor 1.00 --as buyer
    """
    units = session.chain.token_info().to_units(amount)
    channel = shared.payments_of(session, name).open(account_address(session, payee), units)
    session.output.show(shared.payer_row(session, channel))


@command(nouns, "send", CHAIN, TOKEN, SENDS, KEYS)
def send(
    session: Session,
    *,
    payee: Payee,
    amount: Amount,
    name: As,
    key: Annotated[str | None, typer.Option(metavar="TEXT", help="Names the payment: sent once, ever.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the voucher here.")] = None,
) -> None:
    """Pay AMOUNT to PAYEE: open the channel, fill it and sign a voucher, as is needed.

    The voucher is for the sum of all payments so far. Hand it to the payee, who takes it with `pyiot pay claim`.

    Example:
        pyiot pay send sensor 0.001 --as buyer --out voucher.json
    """
    file = None if out is None else writable(out)
    payments = shared.payments_of(session, name)
    units = session.chain.token_info().to_units(amount)
    sent = payments.pay(account_address(session, payee), units, key=key)
    write = None if file is None else partial(file.write_text, sent.voucher.encode() + "\n")
    session.output.show_written(shared.sent_row(session, sent), write)


@command(nouns, "claim", CHAIN, TOKEN, SENDS, KEYS)
def claim(
    session: Session,
    *,
    name: As,
    voucher: Annotated[Path | None, typer.Argument(metavar="VOUCHER", help="A voucher to take first.")] = None,
) -> None:
    """Claim what NAME was paid by vouchers; with a file, take that voucher first.

    A claim books the money to NAME; `pyiot pay settle` has it paid out, one transfer for any number of claims.

    Example:
        pyiot pay claim voucher.json --as sensor
    """
    from pyiot_evm.payment.vouchers import SignedVoucher  # noqa: PLC0415 - not for `--help`

    payments = shared.payments_of(session, name)
    if voucher is not None:
        payments.collect(SignedVoucher.decode(read_text(voucher)))
    claims = payments.claim()
    total = shared.money(session, sum(item.amount for item in claims))
    shown = [str(item.transaction) for item in claims]
    session.output.show({"claimed": total, "channels": sum(c.channels for c in claims), "transactions": shown})


@command(nouns, "settle", CHAIN, TOKEN, SENDS, KEYS)
def settle(session: Session, *, name: As) -> None:
    """Have everything that was claimed for NAME paid out.

    Example:
        pyiot pay settle --as sensor
    """
    payments = shared.payments_of(session, name)
    settled = shared.money(session, payments.unsettled())
    session.output.show({"settled": settled, "transactions": [str(hash_) for hash_ in payments.settle()]})


@command(nouns, "close", CHAIN, TOKEN, SENDS, KEYS)
def close(session: Session, *, channel: ChannelRef, name: As) -> None:
    """Leave a channel: announce it, and after the delay take back what was not promised.

    The first time this announces the withdrawal, and the payee has the channel's delay to claim; run it again then.

    Example:
        pyiot pay close 0x3fa9c1d2 --as buyer
    """
    payments = shared.payments_of(session, name)
    closed = payments.close(shared.channel_id(payments, channel))
    session.output.show(shared.paying_row(session, payments, closed))
    if payments.withdrawable_at(closed):
        session.output.say("next: run it again then")


@command(nouns, "list", CHAIN, TOKEN, KEYS)
def list_(session: Session, *, name: As) -> None:
    """List the channels that NAME pays through, and those that it is paid through.

    As NAME's books have them; `pyiot pay show` asks the chain.

    Example:
        pyiot pay list --as buyer
    """
    paying, paid = shared.payments_of(session, name).channels()
    rows = [shared.payer_row(session, c) for c in paying] + [shared.payee_row(session, c) for c in paid]
    session.output.show_rows("channels", rows, _COLUMNS, f"{name} has no channels")


@command(nouns, "waiting", CHAIN, TOKEN, KEYS)
def waiting(session: Session, *, name: As) -> None:
    """List NAME's payments over HTTP that wait for their answers.

    The server was not reached, or does not answer. `pyiot pay get` for the same URL sends the same payment again. After
    a day an answer is not waited for any more. A payment counts against the budget until nobody can take it.

    Example:
        pyiot pay waiting --as buyer
    """
    rows = [shared.waiting_row(session, item) for item in shared.payments_of(session, name).waiting.all()]
    session.output.show_rows("payments", rows, _WAITING, f"no payment of {name} waits")


@command(nouns, "drop", CHAIN, TOKEN, KEYS)
def drop(
    session: Session,
    *,
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="A payment's id, or its first characters.")],
    name: As,
) -> None:
    """Wait no longer for the answer to a payment over HTTP: its URL is bought anew then.

    The server may still take what it was sent, so it stays counted. A payment with a key waits while it can be taken.

    Example:
        pyiot pay drop pay_3fa9c1d2 --as buyer
    """
    session.output.show(shared.waiting_row(session, shared.payments_of(session, name).waiting.drop(payment)))


@command(nouns, "show", CHAIN, TOKEN, KEYS)
def show(session: Session, *, channel: ChannelRef, name: As) -> None:
    """Show a channel as the chain has it now, its terms and, to its payee, the last voucher.

    Example:
        pyiot pay show 0x3fa9c1d2 --as buyer
    """
    from pyiot_evm.payment.vouchers import config_fields  # noqa: PLC0415 - not for `--help`

    payments = shared.payments_of(session, name)
    wanted = shared.channel_id(payments, channel)
    if (paid := payments.sync_paid(wanted)) is not None:
        row, config = shared.paid_row(session, paid), paid.config
    else:
        paying = payments.sync(wanted)
        row, config = shared.paying_row(session, payments, paying), paying.config
    session.output.show(row | shared.stream_row(session, payments, wanted) | {"terms": config_fields(config)})


@command(nouns, "rebuild", CHAIN, TOKEN, KEYS)
def rebuild(
    session: Session,
    *,
    name: As,
    vouchers: Annotated[
        list[Path] | None, typer.Argument(metavar="VOUCHER", help="Payees' last vouchers, a file each.")
    ] = None,
) -> None:
    """Find NAME's channels on the chain and write down what its books lack.

    For when a home was lost. What was signed and not claimed only the payee knows: `pyiot pay show` prints its last
    voucher. Hand those in before you pay through a channel again. A payee gets its own back with the payers' next
    vouchers.

    Example:
        pyiot pay rebuild voucher.json --as buyer
    """
    from pyiot_evm.payment.vouchers import SignedVoucher  # noqa: PLC0415 - not for `--help`

    last = [SignedVoucher.decode(read_text(path)) for path in vouchers or ()]
    paying, paid = shared.payments_of(session, name).rebuild(*last)
    rows = [shared.payer_row(session, c) for c in paying] + [shared.payee_row(session, c) for c in paid]
    session.output.show_rows("channels", rows, _COLUMNS, f"{name} has no channels")


@command(nouns, "get", CHAIN, TOKEN, KEYS)
def get(
    session: Session,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="What to buy: any x402 server.")],
    name: As,
    most: Annotated[str, typer.Option("--max", metavar="AMOUNT", help="Pay at most this, whole tokens.")],
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the answer here.")] = None,
    scheme: Annotated[str | None, typer.Option(metavar="SCHEME", help="exact or batch-settlement.")] = None,
    key: Annotated[str | None, typer.Option(metavar="TEXT", help="Names the payment: made once, ever.")] = None,
    device_key: Annotated[bool, typer.Option("--device-key", help="Sign vouchers with NAME's device key.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost; sign nothing.")] = False,
) -> None:
    """Get a URL, and pay for it what its server asks, up to --max and inside NAME's budget.

    After a crash the same command sends the same payment again, which is charged once. With --key its answer is kept.
    It ends with 1 where the server's answer is an error. One that comes before the payment is free; a server that takes
    the payment and then answers with an error keeps it.

    Example:
        pyiot pay get http://127.0.0.1:8402/v1/devices --as buyer --max 0.01
    """
    from pyiot_evm.payment.http_client import HttpPayer  # noqa: PLC0415 - not for `--help`

    file = None if out is None else writable(out)
    key_of_device = session.opened(session.keyring.device(name)) if device_key else None
    payer = HttpPayer(shared.payments_of(session, name), scheme=scheme, voucher_signer=key_of_device)
    units = session.chain.token_info().to_units(most)
    if dry_run:
        session.output.show(shared.quote_row(session, payer.quote(url, most=units)))
        return
    bought = payer.get(url, most=units, key=key)
    shared.show_answer(session, bought, file)
    if bought.status >= HTTPStatus.BAD_REQUEST:
        raise typer.Exit(1)


@command(budgets, "set", CHAIN, TOKEN, KEYS)
def set_(
    session: Session,
    *,
    name: As,
    each_payment: Annotated[Limit, typer.Option(metavar="AMOUNT", help="What one payment may be.")] = None,
    each_period: Annotated[Limit, typer.Option(metavar="AMOUNT", help="What a period's may be in all.")] = None,
    period: Annotated[int, typer.Option(metavar="HOURS", min=1, help="A period's length.")] = 24,
    each_payee: Annotated[Limit, typer.Option(metavar="AMOUNT", help="What one payee may get in all.")] = None,
    payee: Annotated[list[str] | None, typer.Option(metavar="PAYEE", help="Only these may be paid.")] = None,
    ends_at: Annotated[int, typer.Option(metavar="TIME", min=0, help="Unix seconds; 0 for never.")] = 0,
) -> None:
    """Set what NAME may spend; this replaces its limits, and what was spent stays counted.

    Example:
        pyiot pay budget set --as buyer --each-payment 0.01 --each-period 1.00
    """
    from pyiot_evm.payment.budgets import HOUR, Budget  # noqa: PLC0415 - not for `--help`

    info = session.chain.token_info()
    limits = [None if text is None else info.to_units(text) for text in (each_payment, each_period, each_payee)]
    only = tuple(account_address(session, text) for text in payee or ())
    payments = shared.payments_of(session, name)
    payments.set_budget(Budget(limits[0], limits[1], period * HOUR, limits[2], only, ends_at))
    session.output.show(shared.budget_document(session, payments.budget(), payments.spending()))


@command(budgets, "show", CHAIN, TOKEN, KEYS)
def show_budget(session: Session, *, name: As) -> None:
    """Show what NAME may spend, and what it spent.

    Example:
        pyiot pay budget show --as buyer
    """
    payments = shared.payments_of(session, name)
    session.output.show(shared.budget_document(session, payments.budget(), payments.spending()))
