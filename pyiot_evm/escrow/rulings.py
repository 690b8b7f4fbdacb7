"""Rulings by contracts: by readings, and by an outside court (ERC-792).

Owner and renter may both bring a dispute before them, and carry a ruling to the escrow: neither has to wait for the
other, and neither for a person.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> from pyiot_evm.device import Field, Schema
    >>> from pyiot_evm.escrow.agreements import ReadingAgreement
    >>> schema, bounds = Schema((Field("temperature", unit="Cel", scale=2),)), {"temperature": (2, 8)}
    >>> with Devnet() as chain:
    ...     host, slot = Machine.create(chain, "host", curve="p256"), (chain.now(), chain.now() + 86_400)
    ...     cold = ReadingAgreement(schema, bounds, *host.own_device(), count=3, span=1800, award=50_000_000)
    ...     offer = host.rent_out("Fridge", start=slot[0], end=slot[1], fee=5, deposit=100, agreement=cold)
    ...     offer.terms.arbiter == chain.addresses.rule_arbiter, offer.agreement.count
    (True, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiot_evm.chain.abi import decode, encode, selector
from pyiot_evm.chain.artifacts import load_artifact
from pyiot_evm.chain.calls import Call
from pyiot_evm.chain.deployment import deploy_once
from pyiot_evm.contracts.court_arbiter import CourtArbiter
from pyiot_evm.contracts.rule_arbiter import RuleArbiter
from pyiot_evm.escrow.agreements import find_evidence
from pyiot_evm.escrow.owner import require_state
from pyiot_evm.escrow.records import State
from pyiot_evm.exceptions import BudgetError, ConsistencyError, ContractError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiot_evm.chain import Chain
    from pyiot_evm.contracts.rule_arbiter import Agreement
    from pyiot_evm.device.reading import Reading
    from pyiot_evm.escrow.clerk import Clerk
    from pyiot_evm.escrow.records import RentalRecord
    from pyiot_evm.sending import TransactionRecord
    from pyiot_evm.types import Address

__all__ = ["Rulings", "court_fee", "deploy_court_arbiter"]


class Rulings:
    """Disputes of one account's rentals before contracts.

    Args:
        clerk: Whose.
    """

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk

    # By readings

    def by_readings(self, record: RentalRecord, readings: Iterable[Reading]) -> RentalRecord:
        """Submit the readings that show what was agreed; the suite's rule arbiter rules at once.

        Args:
            record: A disputed rental.
            readings: The device's, in its own order, e.g. its ``ReadingJournal``.

        Raises:
            InputError: It is not disputed, has no agreement, or no readings show what was agreed.
        """
        require_state(record, State.DISPUTED)
        call = self.readings_call(record, readings)
        if call is None:
            raise InputError(f"no readings show what was agreed for rental {record.rental_id}")
        return self._clerk.act(record, "rule", call)

    def readings_call(self, record: RentalRecord, readings: Iterable[Reading]) -> Call[None] | None:
        """Return the call that submits the readings which show what was agreed, or ``None`` where none do."""
        clerk, agreement = self._clerk, self.agreement(record)
        times = clerk.chain.call(clerk.contract.times_of(record.rental_id))
        leaves = find_evidence(agreement, readings, came=times.checked_in_at, left=times.checked_out_at or None)
        if not leaves:
            return None
        arbiter = RuleArbiter(record.offer.terms.arbiter)
        return arbiter.rule(clerk.struct(record), record.offer.document.hash, agreement, leaves)

    def agreement(self, record: RentalRecord) -> Agreement:
        """Return what owner and renter agreed on.

        Raises:
            InputError: Nothing.
        """
        if record.offer.agreement is None:
            raise InputError(f"rental {record.rental_id} has no agreement on readings")
        return record.offer.agreement

    # By a court

    def court_of(self, record: RentalRecord) -> CourtArbiter | None:
        """Return the court's adapter, where the arbiter is one of this escrow, by its code: others are not called."""
        chain, arbiter = self._clerk.chain, CourtArbiter(record.offer.terms.arbiter)
        if not load_artifact("CourtArbiter").matches(chain.code_at(arbiter.address)):
            return None
        return arbiter if chain.call(arbiter.escrow()) == self._clerk.contract.address else None

    def bring(self, record: RentalRecord, *, max_cost: int | None = None) -> TransactionRecord:
        """Take a disputed rental to the court, and pay the court's fee in ether.

        Args:
            record: The rental.
            max_cost: The most that the court may ask, in wei; left out, whatever it asks.

        Raises:
            InputError: It is not disputed, or its arbiter is no court.
            BudgetError: The court asks more.
        """
        require_state(record, State.DISPUTED)
        court = self._court(record)
        cost = self._clerk.chain.call(court.cost())
        if max_cost is not None and cost > max_cost:
            raise BudgetError(f"the court asks {cost} wei, the limit is {max_cost}")
        return self._clerk.send_once(record.rental_id, "bring", court.bring(self._clerk.struct(record), value=cost))

    def enforce(self, record: RentalRecord) -> RentalRecord:
        """Carry the court's ruling to the escrow.

        Raises:
            InputError: It is not disputed, or its arbiter is no court.
            RentalNotRuled: The court has not ruled yet.
        """
        require_state(record, State.DISPUTED)
        return self._clerk.act(record, "enforce", self._court(record).enforce(self._clerk.struct(record)))

    def enforce_call(self, record: RentalRecord) -> Call[None] | None:
        """Return the call that carries the court's ruling to the escrow, where there is one."""
        court, chain = self.court_of(record), self._clerk.chain
        if court is None:
            return None
        case = chain.call(court.dispute_of(record.rental_id))
        if not case.is_brought or not chain.call(court.ruling_of(case.dispute_id)).is_ruled:
            return None
        return court.enforce(self._clerk.struct(record))

    def awaits_court(self, record: RentalRecord) -> bool:
        """Whether a disputed rental's arbiter is a court to which nobody has taken the claim."""
        court = self.court_of(record)
        return court is not None and not self._clerk.chain.call(court.dispute_of(record.rental_id)).is_brought

    def _court(self, record: RentalRecord) -> CourtArbiter:
        court = self.court_of(record)
        if court is None:
            raise InputError(f"the arbiter {record.offer.terms.arbiter} is no court's adapter for this escrow")
        return court


def court_fee(chain: Chain, court: Address, *, extra_data: bytes = b"") -> int:
    """Return what a court of ERC-792 (``arbitrationCost``) asks for a dispute now, in wei.

    Args:
        chain: The chain.
        court: The court.
        extra_data: How it is to sit, in its own encoding.

    Raises:
        InputError: There is no such court.
    """
    function = "arbitrationCost(bytes)"
    data = selector(function) + encode(["bytes"], [extra_data])
    try:
        return int(chain.call(Call(court, data, function, lambda answer: decode(["uint256"], answer)[0])))
    except (ContractError, ConsistencyError) as error:
        raise InputError(f"{court} is no court of ERC-792: it does not say what a dispute costs") from error


def deploy_court_arbiter(clerk: Clerk, court: Address, *, extra_data: bytes = b"") -> Address:
    """Deploy the adapter of a court of ERC-792 for this escrow, where it is missing; it is the arbiter of the terms.

    Args:
        clerk: Who pays for it; the account gets no rights by that.
        court: The court.
        extra_data: How the court is to sit, in its own encoding.

    Returns:
        The adapter's address, the same for everybody.

    Raises:
        InputError: There is no court of ERC-792.
    """
    court_fee(clerk.chain, court, extra_data=extra_data)
    arguments = encode(["address", "address", "bytes"], [clerk.contract.address, court, extra_data])
    return deploy_once(clerk.account, "CourtArbiter", load_artifact("CourtArbiter").bytecode + arguments)
