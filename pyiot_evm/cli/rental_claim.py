"""``pyiot rental``, claims and money: claim, waive, accept, reject, rule, bring, enforce, close, withdraw, serve."""

from pyiot_evm.cli import documents as shared
from pyiot_evm.cli import rental_documents as documents
from pyiot_evm.cli import rental_options as given
from pyiot_evm.cli.loops import Told
from pyiot_evm.cli.options import CHAIN, KEYS, QUIET, SENDS, SIGNS, TOKEN, As, command
from pyiot_evm.cli.rental_deal import show_rental
from pyiot_evm.cli.rental_options import nouns
from pyiot_evm.cli.rental_signing import acting, show_signed, signing
from pyiot_evm.cli.session import Session
from pyiot_evm.types import to_units

__all__: list[str] = []


@command(nouns, "claim", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def claim(
    session: Session, *, rental: given.Rental, amount: given.Claimed, name: As, evidence: given.Evidence = None
) -> None:
    """Claim a part of the deposit after the check-out; the rest goes back to the renter at once.

    The renter accepts or rejects; if it says nothing in time, you get what you claim. Keep the evidence: the arbiter
    will ask for the file whose hash is on the chain, and compare it with `pyiot rental show --evidence`.

    Example:
        pyiot rental claim 0x77aa01bc 80 --evidence broken-window.jpg --as host
    """
    rentals = given.rentals_of(session, name)
    wanted = given.rental_id(rentals, rental)
    units = given.units_of(session, rentals, wanted, amount)
    acts, shown = acting(session, rentals), given.evidence_of(evidence)
    show_rental(session, rentals, acts.claim(wanted, units, evidence=shown), name)


@command(nouns, "waive", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def waive(session: Session, *, rental: given.Rental, name: As) -> None:
    """Give the renter, as owner, all that you could still get of the deposit.

    It is free at once then, and need not wait until the claim window ends.

    Example:
        pyiot rental waive 0x77aa01bc --as charger
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, acting(session, rentals).waive(given.rental_id(rentals, rental)), name)


@command(nouns, "accept", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def accept(session: Session, *, rental: given.Rental, name: As) -> None:
    """Give the owner what it claims, as renter.

    Example:
        pyiot rental accept 0x77aa01bc --as guest
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, acting(session, rentals).accept(given.rental_id(rentals, rental)), name)


@command(nouns, "reject", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def reject(session: Session, *, rental: given.Rental, name: As) -> None:
    """Take the owner's claim to the arbiter, as renter; if nobody rules in time, it is yours.

    Example:
        pyiot rental reject 0x77aa01bc --as guest
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, acting(session, rentals).reject(given.rental_id(rentals, rental)), name)


@command(nouns, "rule", CHAIN, TOKEN, SENDS, SIGNS, KEYS, QUIET)
def rule(
    session: Session,
    *,
    rental: given.Rental,
    name: As,
    amount: given.Award = None,
    readings: given.Readings = None,
    offer: given.Offers = None,
    account: given.Account = None,
) -> None:
    """Split what is claimed, as arbiter: AMOUNT to the owner, the rest to the renter.

    Where the offer has an agreement on readings, the suite's arbiter rules: give the device's journal with --readings,
    as owner or renter, and those that show what was agreed are submitted. Where an account of several keys rules, its
    members sign: one with --account and --sign-only, the others with `pyiot rental cosign`, and anybody carries it.

    Example:
        pyiot rental rule 0x77aa01bc 50 --as judge --offer flat.json
        pyiot rental rule 0x77aa01bc 50 --as anna --account 0x5aAe… --sign-only r.json
        pyiot rental rule 0x77aa01bc --readings fridge.journal --as host
    """
    rentals = given.rentals_of(session, name, offers=offer or (), account=account)
    wanted = given.rental_id(rentals, rental)
    if readings is not None:
        with given.readings_of(readings) as journal:
            show_rental(session, rentals, rentals.rule_by_readings(wanted, journal), name)
        return
    award = given.units_of(session, rentals, wanted, given.needed(amount, "an amount, or --readings"))
    show_rental(session, rentals, acting(session, rentals).rule(wanted, award), name)


@command(nouns, "bring", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def bring(session: Session, *, rental: given.Rental, name: As, max_cost: given.MaxCost = "0.1") -> None:
    """Take a rejected claim to the court that the offer names, and pay its fee in ether.

    For offers whose arbiter is the adapter of a court of ERC-792. Anybody can do it; once the court has ruled,
    `pyiot rental serve` of owner or renter, or `pyiot rental enforce`, carries the ruling to the escrow.

    Example:
        pyiot rental bring 0x77aa01bc --as guest
    """
    rentals = given.rentals_of(session, name)
    wanted = given.rental_id(rentals, rental)
    sent = rentals.bring(wanted, max_cost=to_units(max_cost, decimals=18))
    session.output.show({"rental_id": str(wanted), "state": "brought", "transactions": shared.transactions([sent])})


@command(nouns, "enforce", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def enforce(session: Session, *, rental: given.Rental, name: As) -> None:
    """Carry a court's ruling to the escrow, inside the ruling window.

    Anybody can who has the offer file: give that in place of the rental's id.

    Example:
        pyiot rental enforce 0x77aa01bc --as guest
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, rentals.enforce(given.rental_id(rentals, rental)), name)


@command(nouns, "close", CHAIN, TOKEN, SENDS, KEYS, QUIET)
def close(session: Session, *, rental: given.Rental, name: As) -> None:
    """End a rental by its default, once the deadline of its state has passed.

    Anybody can who has the offer file: give that in place of the rental's id.

    Never handed over, or neither check-in nor check-out: all to the renter. Checked in and never out: the fee to the
    owner, who may still claim. No claim: the deposit to the renter. No answer: the claim to the owner. No ruling: the
    claim to the renter. `pyiot rental serve` does it by itself.

    Example:
        pyiot rental close 0x77aa01bc --as driver
        pyiot rental close bay-7.json --as passer-by
    """
    rentals = given.rentals_of(session, name)
    show_rental(session, rentals, rentals.close(given.rental_id(rentals, rental)), name)


@command(nouns, "withdraw", CHAIN, TOKEN, SENDS, SIGNS, KEYS)
def withdraw(session: Session, *, name: As, amount: given.Sum = None, to: given.To = None) -> None:
    """Take NAME's money out of the escrow: what was earned, and what came back.

    Example:
        pyiot rental withdraw --as driver
    """
    rentals, info = given.rentals_of(session, name), session.chain.token_info()
    units, target = None if amount is None else info.to_units(amount), given.account_of(session, to)
    if session.sign_only is not None:
        show_signed(session, signing(session, rentals, session.sign_only).withdraw(units, to=target))
        return
    before = rentals.credit()
    taken = rentals.withdraw(units, to=target)
    left = rentals.credit() if taken else before
    shown = {"withdrawn": shared.money(session.chain, info.address, before - left)}
    shown["left"] = shared.money(session.chain, info.address, left)
    session.output.show(shown | {"transactions": shared.transactions([taken] if taken else [])})


@command(nouns, "serve", CHAIN, TOKEN, SENDS, KEYS)
def serve(
    session: Session,
    *,
    name: As,
    once: given.Once = False,
    waive: given.Waive = False,
    accept_up_to: given.AcceptUpTo = None,
    withdraw: given.TakeOut = False,
    offer: given.Offers = None,
    account: given.Account = None,
) -> None:
    """Watch NAME's rentals and act before every deadline, until stopped.

    As owner: hands over once the payment has its confirmations, refunds what cannot be handed over. As renter: takes
    the access key, takes back what is due; a claim that nobody answered is rejected shortly before silence would grant
    it. As either: shows what the device signed, where NAME holds it, and enforces a court's ruling. As arbiter of the
    offers that were given with --offer, here or to another command: says what awaits a ruling, and does not rule.

    What awaits you (a claim to make, to answer or to rule on) is told once, with its deadline and the command for it.
    Ctrl-C or SIGTERM ends it; started again it goes on where it was, and tells again what still awaits you. With --json
    each act is a JSON object on a line of its own, as it is done; with --once all are one object in the end.

    Example:
        pyiot rental serve --as charger --waive --withdraw
        pyiot rental serve --as driver --accept-up-to 5
    """
    rentals = given.rentals_of(session, name, offers=offer or (), account=account)
    given.set_policies(session, rentals, waive=waive, accept_up_to=accept_up_to, withdraw=withdraw)
    session.output.say(f"watching the rentals of {name} on network {session.chain.network}")
    told = Told(session.output, once=once)
    with session.reporting(
        lambda found: told.tell(documents.action(found, name), documents.action_line(found, name))
    ) as (stop, report):
        rentals.serve(once=once, stop=stop, report=report)
    told.end({"account": str(rentals.address)}, "nothing is to be done")
