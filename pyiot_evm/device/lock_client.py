"""What talks to a lock: the renter's phone, and the owner's tool that programs it.

Example:
    >>> from pathlib import Path
    >>> LockClient(Path("/nowhere/door")).hello()
    Traceback (most recent call last):
    ...
    pyiot_evm.exceptions.TransportError: nobody answers at /nowhere/door: No such file or directory
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pyiot_evm.device.lock_messages import (
    AccessError,
    AccessKey,
    Answer,
    Challenge,
    Purpose,
    Refusal,
    parsed,
    raw,
)
from pyiot_evm.device.lock_server import MAX_LINE
from pyiot_evm.device.rental_messages import CheckIn, CheckOut, RentalMessages, SignedStatement
from pyiot_evm.device.schema import canonical_json
from pyiot_evm.exceptions import InputError, TransportError, VerificationError
from pyiot_evm.types import Address, DeviceId, TermsId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from pyiot_evm.device.lock_slots import Slot

__all__ = ["Greeting", "LockClient"]

_T = TypeVar("_T")
_SECONDS: Final = 10.0
_SIGNERS: Final = {42: 20, 170: 84}


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who a lock says that it is; believe only what it signs.

    Attributes:
        device: Its device id.
        signer: Its signer bytes.
        owner: Whose terms it obeys.
    """

    device: DeviceId
    signer: bytes
    owner: Address


class LockClient:
    """A connection to a lock, made at the first request.

    Args:
        place: The lock's Unix socket, or its port on the loopback.
        seconds: How long to wait for each answer.
    """

    def __init__(self, place: Path | int, *, seconds: float = _SECONDS) -> None:
        self._place = place
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._rest = b""

    def hello(self) -> Greeting:
        """Ask a lock who it is.

        Raises:
            TransportError: It does not answer.
        """
        return self._ask("hello", _greeting)

    def program(self, slot: Slot) -> TermsId:
        """Give a lock a slot.

        Raises:
            AccessError: It refuses.
            TransportError: It does not answer.
        """
        return self._ask("program", lambda done: TermsId(raw(done["termsId"], size=32)), offer=slot.fields())

    def challenge(self, terms_id: TermsId, purpose: Purpose) -> Challenge:
        """Ask for what has to be signed.

        Raises:
            AccessError: The lock refuses.
            VerificationError: It gave the challenge of another rental, or for something else than was asked.
            TransportError: It does not answer.
        """
        asked = {"termsId": str(terms_id), "purpose": purpose.value}
        found = self._ask("challenge", lambda done: Challenge.of(done["challenge"]), **asked)
        if (found.terms_id, found.purpose) != (terms_id, purpose):
            raise VerificationError(
                f"the challenge is to {found.purpose} in another rental, or not to {purpose}",
                hint="do not sign it: somebody may stand between you and the lock",
            )
        return found

    def answer(self, answer: Answer) -> SignedStatement:
        """Hand in a signed challenge.

        Raises:
            AccessError: The lock refuses.
            TransportError: It does not answer; ask for the statements, it may have taken the answer.
        """
        return self._ask("answer", lambda done: SignedStatement.decode(done["statement"]), answer=answer.fields())

    def statements(self, terms_id: TermsId) -> tuple[SignedStatement, ...]:
        """Ask for what was signed about a rental.

        Raises:
            TransportError: The lock does not answer.
        """
        return self._ask("statements", _statements, termsId=str(terms_id))

    def open(self, key: AccessKey) -> SignedStatement:
        """Open the lock with the access key.

        Returns:
            The check-in, checked; the same at every opening.

        Raises:
            AccessError: The lock refuses.
            VerificationError: What it gave is no check-in of this rental, or the challenge was another lock's.
            TransportError: It does not answer.
        """
        said = self.answer(key.answer(self.challenge(key.terms_id, Purpose.OPEN)))
        return _checked(said, key, CheckIn)

    def check_out(self, key: AccessKey) -> SignedStatement:
        """End the rental with the access key; the check-out of a rental that is over is given again.

        Raises:
            AccessError: The lock refuses.
            VerificationError: What it gave is no check-out of this rental, or the challenge was another lock's.
            TransportError: It does not answer.
        """
        said: SignedStatement | None
        try:
            said = self.answer(key.answer(self.challenge(key.terms_id, Purpose.CHECK_OUT)))
        except AccessError as error:
            if error.reason is not Refusal.CHECKED_OUT:
                raise
            said = next(reversed(self.statements(key.terms_id)), None)
        return _checked(said, key, CheckOut)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, what: str, read: Callable[[dict[str, Any]], _T], **fields: Any) -> _T:
        try:
            line = self._exchange(canonical_json({"do": what, **fields}) + b"\n")
        except OSError as error:
            self.close()
            reason = error.strerror or "the time is over"
            raise TransportError(f"nobody answers at {self._place}: {reason}", hint="is the lock running?") from error
        try:
            return read(_unwrapped(parsed(line)))
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise TransportError(f"what answers at {self._place} is no lock") from error

    def _exchange(self, line: bytes) -> bytes:
        connection = self._connected()
        connection.sendall(line)
        data = self._rest
        while b"\n" not in data:
            part = connection.recv(MAX_LINE)
            data += part
            if not part or len(data) > 2 * MAX_LINE:
                raise ConnectionResetError(0, "it hung up")
        line, _, self._rest = data.partition(b"\n")
        return line

    def _connected(self) -> socket.socket:
        if self._socket is None:
            family = socket.AF_INET if isinstance(self._place, int) else socket.AF_UNIX
            self._socket = socket.socket(family)
            self._socket.settimeout(self._seconds)
            self._socket.connect(("127.0.0.1", self._place) if isinstance(self._place, int) else str(self._place))
        return self._socket


def _unwrapped(answer: Any) -> dict[str, Any]:
    if "done" in answer:
        done = answer["done"]
        if not isinstance(done, dict):
            raise InputError("a lock's answer is an object")
        return done
    if "refused" in answer:
        reason = answer["refused"]["reason"]
        if reason not in [known.value for known in Refusal]:
            raise InputError(f"no such reason: {reason!r:.40}")
        raise AccessError(Refusal(reason), f"{answer['refused']['detail']:.200}")
    raise TransportError(f"the lock failed: {answer['error']['message']:.200}", hint="try again")


def _greeting(done: dict[str, Any]) -> Greeting:
    signer = done["signer"]
    return Greeting(
        device=DeviceId(raw(done["device"], size=32)),
        signer=raw(signer, size=_SIGNERS.get(len(signer), 0)),
        owner=Address(raw(done["owner"], size=20)),
    )


def _statements(done: dict[str, Any]) -> tuple[SignedStatement, ...]:
    return tuple(SignedStatement.decode(text) for text in done["statements"])


def _checked(said: SignedStatement | None, key: AccessKey, kind: type[CheckIn | CheckOut]) -> SignedStatement:
    """Check a statement before its lock is left behind: it is what brings the deposit back."""
    if (
        said is None
        or not isinstance(said.statement, kind)
        or said.statement.terms_id != key.terms_id
        or not RentalMessages(chain_id=said.chain_id, contract=said.contract).is_signed(said)
    ):
        raise VerificationError(
            "what the lock gave is no signed statement of this rental", hint="keep it as evidence, and ask the owner"
        )
    return said
