"""Every error that pyiot_evm raises on purpose.

The tree::

    PyIotEvmError
    ├── ConfigurationError      something is not set up: a tool, a node, a deployment
    │   └── PassphraseError     a key is needed and nobody gave the passphrase
    ├── InputError              an argument, a file or a document is not what it must be
    │   └── BudgetError         a payment would go over a limit that its owner set
    ├── SigningError            a signer cannot or will not sign
    ├── VerificationError       a proof, a signature, a bundle or a reading does not hold
    ├── StorageError            a database of the home failed: the disk is full, another process holds it, it is broken
    ├── TransportError          a node, a server or a file store did not answer as it should
    ├── TransactionError        a transaction was not sent, was not mined or reverted
    │   └── ContractError       a contract refused: one generated subclass for each Solidity error
    ├── CallbackError           a function that the program gave us (a policy) raised
    └── ConsistencyError        two things that must agree do not: chain and artifact, journal and chain

Each carries ``code`` (stable, for programs), ``retryable`` (the same call may succeed later) and ``hint`` (what to
do about it).

Example:
    >>> try:
    ...     raise InputError("price is negative: -1", hint="give a price of 0 or more")
    ... except PyIotEvmError as error:
    ...     print(error.code, error.retryable, error.hint)
    input False give a price of 0 or more
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BudgetError",
    "CallbackError",
    "ConfigurationError",
    "ConsistencyError",
    "ContractError",
    "InputError",
    "PassphraseError",
    "PyIotEvmError",
    "SigningError",
    "StorageError",
    "TransactionError",
    "TransportError",
    "VerificationError",
]


class PyIotEvmError(Exception):
    """The root of the tree.

    Args:
        message: What happened, with the values that were compared.
        hint: What to do about it; the class's own hint when left out.
        retryable: Whether the same call may succeed later; the class's own answer when left out.
    """

    code: ClassVar[str] = "error"
    default_retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.retryable = self.default_retryable if retryable is None else retryable


class ConfigurationError(PyIotEvmError):
    """Something is not set up."""

    code = "configuration"
    default_hint = "run `pyiot doctor`: it names what is missing and how to get it"


class PassphraseError(ConfigurationError):
    """A key is needed and nobody gave the passphrase."""

    code = "passphrase"
    default_hint = "set PYIOT_PASSPHRASE, or PYIOT_PASSPHRASE_FILE, or run the command in a terminal"


class InputError(PyIotEvmError):
    """An argument, a file or a document is not what it must be; nothing was sent."""

    code = "input"


class BudgetError(InputError):
    """A payment would go over a limit that its owner set; nothing was signed."""

    code = "budget"


class SigningError(PyIotEvmError):
    """A signer cannot or will not sign."""

    code = "signing"


class VerificationError(PyIotEvmError):
    """A proof, a signature, a bundle or a reading does not hold."""

    code = "verification"


class StorageError(PyIotEvmError):
    """A database of the home failed; nothing of what was to be written is in it."""

    code = "storage"
    default_hint = "see that the disk has room and works, and that no other process holds the file"


class TransportError(PyIotEvmError):
    """A node, a server or a file store did not answer as it should."""

    code = "transport"
    default_retryable = True
    default_hint = "check the address and the network, then try again"


class TransactionError(PyIotEvmError):
    """A transaction was not sent, was not mined or reverted."""

    code = "transaction"


class ContractError(TransactionError):
    """A contract refused a call. Each Solidity error of the suite has a subclass of its own (generated)."""

    code = "contract"


class CallbackError(PyIotEvmError):
    """A function that the program gave us, a policy for example, raised or answered with what it must not.

    Args:
        what: What it is.
        raised: What it raised.
    """

    code = "callback"
    default_hint = "mend that function: it is asked again"

    def __init__(self, what: str, raised: Exception) -> None:
        super().__init__(f"{what} raised {type(raised).__name__}: {raised}")
        self.what = what
        self.raised = raised


class ConsistencyError(PyIotEvmError):
    """Two things that must agree do not: the chain and an artifact, a journal and the chain."""

    code = "consistency"
