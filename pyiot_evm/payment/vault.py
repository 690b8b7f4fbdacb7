"""The vault: money paid in once, from which one transaction opens and fills the channels to many payees.

What is in a channel is kept for its payee alone, so the same money is never promised twice. Every movement is written
down before it is signed; one that a crash interrupted is finished by the next call, and counts as that call where it
is the same movement.

Example:
    >>> from pyiot_evm import Devnet, Machine
    >>> with Devnet() as chain:
    ...     hub = Machine.create(chain, "hub")
    ...     sensors = [Machine.create(chain, f"sensor{n}") for n in range(3)]
    ...     _ = hub.payments.vault.deposit(50_000)
    ...     channels = hub.payments.vault.fund({sensor.address: 10_000 for sensor in sensors})
    ...     [channel.balance for channel in channels], hub.payments.vault.credit()
    ([10000, 10000, 10000], 20000)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.exceptions import ContractError, InputError
from pyiot_evm.market.locks import file_lock
from pyiot_evm.payment.vault_book import VaultBook, VaultMove
from pyiot_evm.payment.vouchers import ChannelId
from pyiot_evm.payment.x402_terms import MAX_AMOUNT
from pyiot_evm.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pyiot_evm.chain import Account, Call, Chain
    from pyiot_evm.payment.budgets import Budgets
    from pyiot_evm.payment.payer import Payer
    from pyiot_evm.payment.records import PayerChannel
    from pyiot_evm.payment.store import PaymentStore
    from pyiot_evm.payment.vault_book import Kind
    from pyiot_evm.types import TransactionHash

__all__ = ["MAX_FUNDED", "Moved", "Vault"]

MAX_FUNDED: Final = 256
"""How many channels one transaction fills: about 9 million gas."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A movement of a vault's money, mined.

    Attributes:
        amount: Base units.
        transaction: The hash.
        credit: What is in the vault now.
    """

    amount: int
    transaction: TransactionHash
    credit: int


class Vault:
    """One account's vault in the suite's channels.

    Args:
        payer: The paying side at the contract that has the vault.
        store: Where movements are written down.
        budgets: What the account may spend.
    """

    def __init__(self, payer: Payer, store: PaymentStore, budgets: Budgets) -> None:
        self._payer = payer
        self._contract = payer.contract
        self._book = VaultBook(store, payer.account.address, payer.contract.address, budgets)

    @property
    def chain(self) -> Chain:
        """The chain."""
        return self._payer.chain

    @property
    def account(self) -> Account:
        """The account whose vault it is."""
        return self._payer.account

    def credit(self, token: Address | None = None) -> int:
        """Return what is in the vault, base units (of the chain's token, when left out)."""
        return int(self.chain.call(self._contract.vault_of(self.account.address, token or self.chain.token)))

    def deposit(self, amount: int, *, token: Address | None = None, key: str | None = None) -> Moved:
        """Pay into the vault, by allowance.

        Args:
            amount: Base units, at least 1.
            token: The ERC-20; the chain's when left out.
            key: Names the movement: the same key never pays in twice.

        Raises:
            InputError: The account does not hold it.
            ContractError: The token or the channels refused.
        """
        wanted = self._wanted("deposit", amount, token, key)

        with self._lock(wanted.token):
            return self._move(wanted, self._held)

    def withdraw(
        self,
        amount: int | None = None,
        *,
        token: Address | None = None,
        to: Address | None = None,
        key: str | None = None,
    ) -> Moved:
        """Pay out of the vault, all of it when no amount is given; to somebody else it is a payment.

        Args:
            amount: Base units.
            token: The ERC-20; the chain's when left out.
            to: Who gets it; the account itself when left out. Any other one counts against the budget.
            key: Names the movement: the same key never pays out twice.

        Raises:
            BudgetError: It would go over a limit; nothing was signed.
            InputError: There is not as much in the vault.
        """
        coin, name = token or self.chain.token, str(to or self.account.address)
        if amount is None:
            wanted = VaultMove(-1, "withdraw all", coin, 0, ((name, 0),), key)
        else:
            wanted = self._wanted("withdraw", amount, coin, key, ((name, amount),))
        with self._lock(coin):
            return self._move(wanted, self._covered)

    def fund(
        self, amounts: Mapping[Address, int], *, token: Address | None = None, key: str | None = None
    ) -> list[PayerChannel]:
        """Pay out of the vault into the channels to many payees, in one transaction: all or none.

        Args:
            amounts: Base units for each payee, 256 payees at most. The first time this opens the channel.
            token: The ERC-20; the chain's when left out.
            key: Names the movement: the same key never pays in twice.

        Returns:
            The channels, in the order of the payees.

        Raises:
            BudgetError: One of them may be paid nothing; nothing was signed.
            InputError: There is not as much in the vault.
        """
        if not 1 <= len(amounts) <= MAX_FUNDED:
            raise InputError(f"one transaction fills 1 to {MAX_FUNDED} channels, not {len(amounts)}")
        if bad := [amount for amount in amounts.values() if not 1 <= amount <= MAX_AMOUNT]:
            raise InputError(f"a channel is paid 1 to 2^128 - 1 base units, not {bad[0]}")
        coin = token or self.chain.token
        with self._lock(coin):
            channels = [self._payer.channel_to(payee, coin) for payee in amounts]
            parts = zip((str(channel.channel_id) for channel in channels), amounts.values(), strict=True)
            wanted = self._wanted("fund", sum(amounts.values()), coin, key, tuple(parts))
            self._move(wanted, lambda move: self._allowed(move, list(amounts)))
            return [self._payer.sync(channel.channel_id) for channel in channels]

    # Below

    def _wanted(
        self, kind: Kind, amount: int, token: Address | None, key: str | None, parts: tuple[tuple[str, int], ...] = ()
    ) -> VaultMove:
        if amount < 1:
            raise InputError(f"the vault moves at least 1 base unit, not {amount}")
        return VaultMove(-1, kind, token or self.chain.token, amount, parts, key)

    def _lock(self, token: Address) -> AbstractContextManager[None]:
        return file_lock(self.chain.path / f"vault-{self.account.address}-{token}.lock")

    def _move(self, wanted: VaultMove, covered: Callable[[VaultMove], VaultMove]) -> Moved:
        """Finish what a crash interrupted; then do what is wanted and covered, unless that was it."""
        known = self._book.named(wanted)
        for unfinished in self._book.unfinished(wanted.token):
            done = self._try(unfinished)
            is_it = unfinished == known if wanted.key is not None else unfinished.is_same(wanted)
            if is_it and done is not None:
                return done
        known = self._book.named(wanted)
        if known is not None and known.transaction is not None:
            return Moved(known.amount, known.transaction, self.credit(known.token))
        move = self._book.begin(covered(wanted))
        try:
            return self._finish(move)
        except ContractError:
            self._book.end(move, None)
            raise

    def _try(self, move: VaultMove) -> Moved | None:
        """Finish an interrupted movement; ``None`` where the chain refuses it now."""
        try:
            return self._finish(move)
        except ContractError:
            self._book.end(move, None)
            return None

    def _finish(self, move: VaultMove) -> Moved:
        """Send a movement, or find that it was sent: its idempotency key is its number."""
        key = f"pay:vault:{self._contract.address}:{move.token}:{move.number}"
        if move.kind == "deposit" and self.account.find(key) is None:
            self._allow(move, key)
        receipt = self.account.transact(self._call(move), key=key)
        self._book.end(move, receipt.hash)
        return Moved(move.amount, receipt.hash, self.credit(move.token))

    def _allow(self, move: VaultMove, key: str) -> None:
        token = Erc20(move.token)
        allowed = int(self.chain.call(token.allowance(self.account.address, self._contract.address)))
        if allowed < move.amount:
            self.account.transact(token.approve(self._contract.address, move.amount), key=f"{key}:approve")

    def _call(self, move: VaultMove) -> Call[None]:
        if move.kind == "deposit":
            return self._contract.vault_deposit(move.token, move.amount)
        if move.kind in {"withdraw", "withdraw all"}:
            return self._contract.vault_withdraw(move.token, move.amount, Address(move.parts[0][0]))
        configs = [self._payer.book.channel(ChannelId(channel)).config for channel, _ in move.parts]
        return self._contract.fund(configs, [amount for _, amount in move.parts])

    def _held(self, wanted: VaultMove) -> VaultMove:
        held = int(self.chain.call(Erc20(wanted.token).balance_of(self.account.address)))
        if held < wanted.amount:
            info = self.chain.token_info(wanted.token)
            shown = f"{info.from_units(held)} {info.symbol}, wanted are {info.from_units(wanted.amount)}"
            raise InputError(f"{self.account.address} holds {shown}")
        return wanted

    def _allowed(self, wanted: VaultMove, payees: Sequence[Address]) -> VaultMove:
        """See that money may be put aside for payees, and is there."""
        for payee in payees:
            self._payer.book.check_payee(payee, wanted.token)
        return self._covered(wanted)

    def _covered(self, wanted: VaultMove) -> VaultMove:
        """See that a movement out of the vault is covered, and how much a withdrawal of everything is now."""
        credit = self.credit(wanted.token)
        if wanted.kind == "withdraw all":
            if not credit:
                raise InputError(f"the vault of {self.account.address} is empty")
            return replace(wanted, amount=credit, parts=((wanted.parts[0][0], credit),))
        if credit < wanted.amount:
            info = self.chain.token_info(wanted.token)
            raise InputError(
                f"the vault of {self.account.address} has {info.from_units(credit)} {info.symbol}, "
                f"wanted are {info.from_units(wanted.amount)}",
                hint="pay into it with `pyiot pay vault deposit`",
            )
        return wanted
