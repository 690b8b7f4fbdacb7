"""What the commands of ``pyiot pay`` share: the noun, their options, and what they print."""

from __future__ import annotations

import sys
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyiot_evm.cli.documents import money as money_text
from pyiot_evm.cli.ids import account_address, find_id
from pyiot_evm.cli.root import HelpfulGroup, printable
from pyiot_evm.exceptions import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pyiot_evm.cli.session import Session
    from pyiot_evm.payment.budgets import Budget, Spending
    from pyiot_evm.payment.facade import Payments
    from pyiot_evm.payment.http_client import Bought, Quote
    from pyiot_evm.payment.http_waiting import WaitingPayment
    from pyiot_evm.payment.payer import SentPayment
    from pyiot_evm.payment.records import PayeeChannel, PayerChannel
    from pyiot_evm.payment.stream_buyer import StreamQuote
    from pyiot_evm.payment.vault import Moved
    from pyiot_evm.payment.vouchers import ChannelId
    from pyiot_evm.types import Address

__all__ = ["Amount", "ChannelRef", "Payee", "budgets", "nouns", "vaults"]

nouns = typer.Typer(cls=HelpfulGroup, help="Pay and be paid by the reading, through channels.", no_args_is_help=True)
budgets = typer.Typer(cls=HelpfulGroup, help="Limit what a name may spend.", no_args_is_help=True)
vaults = typer.Typer(cls=HelpfulGroup, help="Keep money from which many channels are filled.", no_args_is_help=True)
nouns.add_typer(budgets, name="budget")
nouns.add_typer(vaults, name="vault")

Payee = Annotated[str, typer.Argument(metavar="PAYEE", help="An account's address, or a name of this home.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Whole tokens, e.g. 0.001.")]
ChannelRef = Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel's id, or its first digits.")]


def payments_of(session: Session, name: str) -> Payments:
    """Open a name's payments on the chain."""
    return session.machine(name).payments


def channel_id(payments: Payments, text: str) -> ChannelId:
    """Find the channel that this is the id of, or its beginning.

    Raises:
        InputError: None or more than one is.
    """
    from pyiot_evm.payment.vouchers import ChannelId  # noqa: PLC0415 - not for `--help`

    def known() -> list[ChannelId]:
        paying, paid = payments.channels()
        return [c.channel_id for c in paying] + [c.channel_id for c in paid]

    return ChannelId(find_id("channel", text, known, hint="`pyiot pay list --as NAME` shows them"))


def payer_row(session: Session, channel: PayerChannel) -> dict[str, Any]:
    """Return what is shown of a channel that is paid through."""
    state = "closing" if channel.closing else "open" if channel.balance else "empty"
    return {
        "id": channel.channel_id,
        "role": "payer",
        "state": state,
        "with": channel.config.receiver,
        "balance": money(session, channel.balance, channel.config.token),
        "promised": money(session, channel.ceiling, channel.config.token),
        "claimed": money(session, channel.claimed, channel.config.token),
    }


def payee_row(session: Session, channel: PayeeChannel) -> dict[str, Any]:
    """Return what is shown of a channel that is paid into."""
    return {
        "id": channel.channel_id,
        "role": "payee",
        "state": "closing" if channel.withdraw_at else "open" if channel.balance else "empty",
        "with": channel.config.payer,
        "balance": money(session, channel.balance, channel.config.token),
        "promised": money(session, channel.charged, channel.config.token),
        "claimed": money(session, channel.claimed, channel.config.token),
    }


def paying_row(session: Session, payments: Payments, channel: PayerChannel) -> dict[str, Any]:
    """Return a channel that is paid through, and when an announced withdrawal can be taken."""
    return payer_row(session, channel) | {"withdrawable_at": payments.withdrawable_at(channel) or None}


def paid_row(session: Session, channel: PayeeChannel) -> dict[str, Any]:
    """Return a channel that is paid into, the last voucher, and until when to claim where its payer is leaving."""
    until = channel.withdraw_at + channel.config.withdraw_delay if channel.withdraw_at else None
    voucher = {"voucher": channel.voucher.encode()} if channel.signature else {}
    return payee_row(session, channel) | {"claim_until": until} | voucher


def stream_row(session: Session, payments: Payments, channel: ChannelId) -> dict[str, Any]:
    """Return what is shown of a stream that is bought through a channel; nothing where none is."""
    bought = payments.purchases.find(channel)
    if bought is None:
        return {}
    return {
        "stream": bought.device,
        "mode": bought.mode,
        "came": money(session, bought.paid),
        "next": bought.next_seq,
        "fault": bought.fault,
        "at_stake": money(session, bought.lost) if bought.lost else None,
    }


def sent_row(session: Session, sent: SentPayment) -> dict[str, Any]:
    """Return what is shown of a payment."""
    return {
        "channel": sent.payment.channel_id,
        "paid": money(session, sent.payment.amount),
        "voucher": sent.voucher.encode(),
        "total": money(session, sent.payment.ceiling),
    }


def answer_row(session: Session, bought: Bought) -> dict[str, Any]:
    """Return what is shown of an answer that was bought; one that is no text is in Base64."""
    text = _text(bought.body)
    body = {"body": text} if text is not None else {"body_base64": b64encode(bought.body).decode()}
    return {"status": bought.status, "paid": money(session, bought.paid), **body}


def answer_lines(body: bytes) -> list[str]:
    """Return what people read of an answer: on a terminal harmless text, else as it is; Base64 where it is no text."""
    text = _text(body)
    if text is None:
        return [b64encode(body).decode()]
    return [printable(line.expandtabs()) if sys.stdout.isatty() else line for line in text.splitlines()]


def show_answer(session: Session, bought: Bought, file: Path | None) -> None:
    """Show an answer that was bought, and write it to a file where one is named."""
    document = answer_row(session, bought)
    session.output.say(f"paid {document['paid']}, status {bought.status}")
    write = None if file is None else partial(file.write_bytes, bought.body)
    text = answer_lines(bought.body)
    session.output.show_written(document, write, lines=[f"written to {file}"], unwritten=text)


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def quote_row(session: Session, quote: Quote) -> dict[str, Any]:
    """Return what is shown of what a URL would cost."""
    if not quote.amount:
        return {"dry_run": True, "status": quote.status, "costs": money(session, 0)}
    costs = {"costs": money(session, quote.amount), "scheme": quote.scheme, "payee": quote.payee}
    return {"dry_run": True, "status": quote.status, **costs}


def waiting_row(session: Session, payment: WaitingPayment) -> dict[str, Any]:
    """Return what is shown of a payment that waits for its answer."""
    return {
        "id": payment.id,
        "url": payment.url,
        "payee": payment.payee,
        "price": money(session, payment.price, payment.token),
        "made_at": payment.at,
        "good_until": payment.good_until,
        "key": payment.has_key,
    }


def stream_quote_row(session: Session, quote: StreamQuote) -> dict[str, Any]:
    """Return what is shown of what a stream would cost."""
    return {
        "dry_run": True,
        "costs": f"{money(session, quote.price)} a reading",
        "payee": quote.payee,
        "begins_with": quote.seq,
        "pays_in": money(session, quote.pays_in),
        "comes_back_after": f"{quote.withdraw_delay} s",
    }


def moved_row(session: Session, moved: Moved) -> dict[str, Any]:
    """Return what is shown of a movement of a vault's money."""
    return {
        "moved": money(session, moved.amount),
        "vault": money(session, moved.credit),
        "transaction": moved.transaction,
    }


def funding(session: Session, parts: list[str]) -> dict[Address, int]:
    """Read who gets how much: ``PAYEE=AMOUNT`` each.

    Raises:
        InputError: One of them is not of this form, or a payee is there twice.
    """
    amounts: dict[Address, int] = {}
    for part in parts:
        who, found, text = part.partition("=")
        if not found:
            raise InputError(f"not PAYEE=AMOUNT: {part!r}", hint="e.g. sensor=1.00")
        payee = account_address(session, who)
        if payee in amounts:
            raise InputError(f"{who} is there twice")
        amounts[payee] = session.chain.token_info().to_units(text)
    return amounts


def money(session: Session, units: int, token: Address | None = None) -> str:
    """Write base units of a token (the chain's, when left out) for people."""
    return money_text(session.chain, token or session.chain.token, units)


def budget_document(session: Session, budget: Budget | None, spent: Spending) -> dict[str, Any]:
    """Return what is shown of a budget and of what was spent of it."""
    limits: dict[str, Any] = {"budget": "none: nothing is limited"}
    if budget is not None:
        limits = {
            "each_payment": _limit(session, budget.each_payment),
            "each_period": _limit(session, budget.each_period),
            "period_hours": budget.period // 3600,
            "each_payee": _limit(session, budget.each_payee),
            "payees": [str(payee) for payee in budget.payees],
            "ends_at": budget.ends_at or None,
        }
    limits["spent_this_period"] = money(session, spent.in_period)
    if budget is not None and budget.each_payee is not None:
        limits["spent_by_payee"] = {str(payee): money(session, units) for payee, units in spent.by_payee.items()}
    return limits


def _limit(session: Session, units: int | None) -> str | None:
    return None if units is None else money(session, units)
