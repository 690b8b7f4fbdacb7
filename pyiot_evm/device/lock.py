"""A lock without a network: it opens for who has the released access key, in that key's slot, and for nobody else.

The owner's signed terms program it. Who stands at the door asks for a challenge and signs it with the access key. The
first opening signs the check-in; the same key ends the rental by a check-out; both statements are the same whenever
they are asked for again. Everything is in the journal before it takes effect: the lock may lose power at any moment.

It trusts its owner for nothing but the terms, the renter for nothing but the key, and its own clock only forwards.

Example:
    >>> import tempfile, pathlib
    >>> from pyiot_evm.device import LocalSigner
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "door.lock"
    >>> owner, signer = LocalSigner.create(), LocalSigner.create("p256")
    >>> with Lock.open(path, signer=signer, owner=owner.address) as lock:
    ...     lock.challenge(TermsId(bytes(32)), Purpose.OPEN)
    Traceback (most recent call last):
    ...
    pyiot_evm.device.lock_messages.AccessError: the lock refuses (unknown-slot): it has no slot of these terms
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from pyiot_evm.device.lock_book import LockBook
from pyiot_evm.device.lock_guards import closed_because, objections
from pyiot_evm.device.lock_messages import Answer, Challenge, Purpose, Refusal
from pyiot_evm.device.lock_policy import LockHardware, LockPolicy
from pyiot_evm.device.rental_messages import CheckIn, CheckOut, SignedStatement, Statement
from pyiot_evm.device.signers import device_id, verify_signature
from pyiot_evm.exceptions import PyIotEvmError, SigningError
from pyiot_evm.hashing import keccak256
from pyiot_evm.types import Address, DeviceId, TermsId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.device.lock_slots import Slot
    from pyiot_evm.device.lock_state import Try, Use
    from pyiot_evm.device.signers import Signer

__all__ = ["Lock"]

_LOG: Final = logging.getLogger(__name__)
_WORD: Final = 32
_RETRY: Final = 60


class Lock:
    """A lock. Threads may share it; one process has it at a time.

    Make one with :meth:`open`; call :meth:`tick` about once a minute.
    """

    def __init__(self, *, book: LockBook, signer: Signer, policy: LockPolicy, hardware: LockHardware) -> None:
        self.policy = policy
        self._book = book
        self._signer = signer
        self._hardware = hardware
        self._mutex = threading.RLock()
        self._challenges: dict[tuple[TermsId, Purpose], Challenge] = {}
        self._retry_at = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        signer: Signer,
        owner: bytes,
        device: bytes | None = None,
        policy: LockPolicy | None = None,
        hardware: LockHardware | None = None,
        clock: Callable[[], float] = time.time,
        watch: Callable[[Try], None] | None = None,
    ) -> Self:
        """Start a lock on its journal, or provision a new one where there is none.

        Args:
            path: The journal.
            signer: The device's key, in memory, in a file or in a chip.
            owner: The account whose terms it obeys, 20 bytes; pinned in the journal. It must be a key: a lock without a
                network cannot ask a contract.
            device: The device's id; needed once its key was rotated, else taken from the key.
            policy: How it is set.
            hardware: Bolt, sensors and meter.
            clock: Unix seconds. An OSError of it is a clock that shows nothing, and nothing opens.
            watch: Called with each entry of the log once it is durable, while the lock is held; its errors are logged.

        Raises:
            InputError: The journal is another device's, another key's or another owner's.
            ConfigurationError: Another process has it.
            ConsistencyError: It is damaged, or an older copy.
        """
        identity = {
            "device": str(DeviceId(device_id(signer.signer_bytes) if device is None else device)),
            "signer": "0x" + signer.signer_bytes.hex(),
            "owner": str(Address(owner)),
        }
        policy = policy or LockPolicy()
        book = LockBook.open(path, identity=identity, clock=clock, policy=policy, watch=watch)
        return cls(book=book, signer=signer, policy=policy, hardware=hardware or LockHardware())

    # What it is

    @property
    def device(self) -> DeviceId:
        """The device's id."""
        return DeviceId(self._book.identity["device"])

    @property
    def owner(self) -> Address:
        """The account whose terms it obeys."""
        return Address(self._book.identity["owner"])

    @property
    def signer_bytes(self) -> bytes:
        """The device's signer bytes."""
        return self._signer.signer_bytes

    def uses(self) -> tuple[Use, ...]:
        """Return its slots, and how far each rental is."""
        with self._mutex:
            return tuple(self._book.state.uses.values())

    def log(self) -> tuple[Try, ...]:
        """Return the last tries, the oldest first."""
        with self._mutex:
            return tuple(self._book.state.tries)

    # The owner

    def program(self, slot: Slot) -> TermsId:
        """Take a slot; the same one again changes nothing.

        Raises:
            AccessError: The terms are not the owner's, name another device or another key, use an access key a second
                time, or are over; or the lock is full.
        """
        with self._mutex:
            now = self._now("program", slot.terms_id)
            if slot.terms_id in self._book.state.uses and verify_signature(self.owner, slot.terms_id, slot.signature):
                return slot.terms_id
            against = objections(
                slot,
                self._book.state,
                owner=self.owner,
                device=self.device,
                pinned=keccak256(self.signer_bytes),
                now=now,
                most=self.policy.max_slots,
            )
            for reason, detail in against:
                self._book.refuse(reason, "program", slot.terms_id, detail)
            self._book.write({"kind": "slot", "slot": slot.fields()})
            return slot.terms_id

    # The renter

    def challenge(self, terms_id: TermsId, purpose: Purpose) -> Challenge:
        """Return what the access key has to sign.

        There is one at a time for a slot and a purpose: whoever asks gets the same, until half of its life is over.

        Raises:
            AccessError: There is no such slot, it is not the time, or the rental is over.
        """
        with self._mutex:
            use, now = self._use_of(terms_id, purpose), self._now(purpose, terms_id)
            self._require_usable(use, purpose, now)
            standing = self._challenges.get((terms_id, purpose))
            life = self.policy.challenge_life
            if standing is None or standing.expiry - now < life // 2:
                counter, nonce = self._book.next_counter(), secrets.token_bytes(_WORD)
                standing = Challenge(self.device, terms_id, purpose, counter, nonce, now + life)
                self._challenges[terms_id, purpose] = standing
            return standing

    def answer(self, answer: Answer) -> SignedStatement:
        """Take an answer: open, or end the rental.

        A wrong answer leaves the challenge as it is, so that a stranger cannot spoil the renter's.

        Returns:
            The check-in (of the first opening), or the check-out.

        Raises:
            AccessError: The answer is not right; the try is in the log.
            SigningError: The device's key cannot sign; nothing opened.
        """
        with self._mutex:
            what, terms_id = answer.purpose, answer.terms_id
            if answer.device != self.device:
                self._book.refuse(Refusal.OTHER_DEVICE, what, terms_id, f"the answer is for 0x{answer.device.hex()}")
            use, now = self._use_of(terms_id, what), self._now(what, terms_id)
            challenge = self._standing(answer, now)
            if not verify_signature(use.slot.key_address, challenge.digest, answer.signature):
                self._book.refuse(Refusal.WRONG_KEY, what, terms_id, "the access key did not sign this challenge")
            self._require_usable(use, what, now, proven=True)
            del self._challenges[terms_id, what]
            if what is Purpose.CHECK_OUT:
                return self._check_out(use, now, by="renter")
            return self._open(use, now)

    def statements(self, terms_id: TermsId) -> tuple[SignedStatement, ...]:
        """Return what was signed about a rental, again: nothing, the check-in, or both.

        Anyone may ask: whoever shows a statement to the escrow, it says the same.
        """
        with self._mutex:
            use = self._book.state.uses.get(terms_id)
            found = () if use is None else (use.check_in, use.check_out)
            return tuple(said for said in found if said is not None)

    def refuse_malformed(self, what: str, detail: str) -> NoReturn:
        """Log a try that could not even be read.

        Raises:
            AccessError: Always.
        """
        with self._mutex:
            self._book.refuse(Refusal.MALFORMED, what, None, detail)

    # Time

    def tick(self) -> None:
        """Do what is due: check out by itself after the end, note the time and the meter, log what was held back."""
        with self._mutex:
            now = self._book.clock.read()
            if now is None:
                return
            if now >= self._book.backoff.until:
                self._book.log_unlogged()
            self._check_out_late(now)
            if now - self._book.state.latest >= self.policy.beat:
                self._book.write({"kind": "beat", "meter": self._meter()})

    def _check_out_late(self, now: int) -> None:
        """Check out the rentals whose renters went without a word; when the key does not sign, again in a minute."""
        after = self.policy.check_out_after
        if after is None or now < self._retry_at:
            return
        self._check_out_ended(now, after=after)

    def _check_out_ended(self, now: int, *, after: int) -> None:
        for use in tuple(self._book.state.uses.values()):
            if use.is_running and now >= use.slot.terms.end + after:
                try:
                    self._check_out(use, now, by="lock")
                except SigningError as error:
                    _LOG.warning("the check-out of %s is not signed yet: %s", use.slot.terms_id, error)
                    self._retry_at = now + _RETRY

    def trust_clock(self) -> None:
        """Take the clock as it is, even if it goes back: for its owner, at the device, after it was set wrongly.

        No statement is taken back, and no challenge comes again.
        """
        with self._mutex:
            self._book.clock.trust()
            self._retry_at = 0
            self._challenges.clear()
            self._book.write({"kind": "clock"})

    def close(self) -> None:
        """Write what was held back and let go of the journal; the signer stays open."""
        with self._mutex:
            self._book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Guards

    def _use_of(self, terms_id: TermsId, what: str) -> Use:
        use = self._book.state.uses.get(terms_id)
        if use is None:
            self._book.refuse(Refusal.UNKNOWN_SLOT, what, terms_id, "it has no slot of these terms")
        return use

    def _now(self, what: str, terms_id: TermsId) -> int:
        now = self._book.clock.read()
        if now is None:
            detail = f"its clock says {self._book.clock.raw()}, and it was {self._book.clock.seen} already"
            self._book.refuse(Refusal.CLOCK_WENT_BACK, what, terms_id, detail)
        return now

    def _require_usable(self, use: Use, purpose: Purpose, now: int, *, proven: bool = False) -> None:
        closed = closed_because(use, purpose, now, self.policy.tolerance)
        if closed is not None:
            self._book.refuse(closed[0], purpose, use.slot.terms_id, closed[1], proven=proven)

    def _standing(self, answer: Answer, now: int) -> Challenge:
        """Return the challenge that an answer is to."""
        place = (answer.terms_id, answer.purpose)
        challenge = self._challenges.get(place)
        if challenge is None or answer.counter != challenge.counter:
            reason = Refusal.OLD_CHALLENGE if 0 < answer.counter <= self._book.counter else Refusal.NO_CHALLENGE
            self._book.refuse(reason, answer.purpose, answer.terms_id, f"challenge {answer.counter} does not stand")
        if now >= challenge.expiry:
            del self._challenges[place]
            detail = f"it was good until {challenge.expiry}, and it is {now}"
            self._book.refuse(Refusal.CHALLENGE_EXPIRED, answer.purpose, answer.terms_id, detail)
        return challenge

    # Acts

    def _open(self, use: Use, now: int) -> SignedStatement:
        if use.check_in is None and self.policy.check_out_after is not None:
            self._check_out_ended(now, after=0)  # what the next renter does and breaks is not theirs
        record: dict[str, Any] = {"kind": "opened", "termsId": str(use.slot.terms_id), "meter": self._meter()}
        counting = [str(i) for i, one in self._book.state.uses.items() if one.is_running and one.meter_end is None]
        if use.check_in is None:
            said = CheckIn(use.slot.terms_id, now, self._condition())
            record["checkIn"] = self._sign(use, said, Purpose.OPEN).encode()
        self._book.write(record)
        try:
            self._hardware.unlock()
        except BaseException:
            self._book.write({"kind": "jammed", "termsId": str(use.slot.terms_id), "counting": counting})
            raise
        return _present(use.check_in)

    def _check_out(self, use: Use, now: int, *, by: str) -> SignedStatement:
        meter = max(self._meter(), self._book.state.meter)
        said = CheckOut(use.slot.terms_id, now, use.units(meter), self._condition())
        signed = self._sign(use, said, Purpose.CHECK_OUT)
        self._book.write(
            {
                "kind": "checked-out",
                "termsId": str(use.slot.terms_id),
                "meter": meter,
                "by": by,
                "checkOut": signed.encode(),
            }
        )
        return _present(use.check_out)

    def _sign(self, use: Use, said: Statement, what: Purpose) -> SignedStatement:
        try:
            return use.slot.messages.sign(said, self._signer)
        except SigningError as error:
            self._book.log_refusal(Refusal.SIGNER_FAILED, what, use.slot.terms_id)
            raise SigningError(f"the lock's key does not sign: {error}", hint=error.hint, retryable=True) from error

    def _condition(self) -> bytes:
        try:
            condition = bytes(self._hardware.condition())
        except (OSError, PyIotEvmError) as error:
            _LOG.warning("the lock's sensors do not answer: %s", error)
            return bytes(_WORD)
        return condition if len(condition) == _WORD else keccak256(condition)

    def _meter(self) -> int:
        """Return the meter; the last known reading where it does not answer or went back."""
        try:
            reading = int(self._hardware.meter())
        except (OSError, ValueError, OverflowError, PyIotEvmError) as error:
            _LOG.warning("the lock's meter does not answer: %s", error)
            return self._book.state.meter
        if reading < self._book.state.meter:
            _LOG.warning("the lock's meter went back from %d to %d", self._book.state.meter, reading)
        return max(reading, self._book.state.meter)


def _present(said: SignedStatement | None) -> SignedStatement:
    assert said is not None, "the record that was just applied sets it"
    return said
