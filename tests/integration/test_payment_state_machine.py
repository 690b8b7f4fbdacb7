"""The channels as a state machine: Hypothesis plays them on a real Anvil, a Python model says what must happen.

Each rule predicts either success, a row's exact outcome, or the exact error. After every step balances, claims,
withdrawals, vault, receivers and tokens on the chain must equal the model's: PC-1, PC-2, PC-3, PC-5 and PC-6. At the
end of each example the payer leaves every channel with all that is unclaimed (PC-4).
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pyiot_evm.chain import Devnet
from pyiot_evm.chain import contract_errors as errors
from pyiot_evm.chain.abi import encode
from pyiot_evm.contracts import DevDollar
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.contracts.payment_channels import ClaimOutcome, ClaimSkipped, PaymentChannels
from pyiot_evm.device import LocalSigner
from pyiot_evm.hashing import keccak256
from pyiot_evm.payment.places import additions_place
from pyiot_evm.payment.tokens import sign_receive, token_domain
from pyiot_evm.payment.vouchers import ChannelDomain, channel_config, sign_voucher, signature_field
from pyiot_evm.types import Bytes32

if TYPE_CHECKING:
    from pyiot_evm.chain import Chain
    from pyiot_evm.contracts.payment_channels import ChannelConfig
    from pyiot_evm.payment.vouchers import SignedVoucher
    from pyiot_evm.types import Address

TOP = (1 << 128) - 1
DELAY = 900
AMOUNTS = st.sampled_from([0, 1, 2, 7, 500, 1_000, 1 << 127, TOP - 1, TOP]) | st.integers(0, 2_000)
TOTALS = st.none() | st.none() | st.none() | AMOUNTS
"""What is claimed of a voucher: mostly all of it."""
SALTS = itertools.count(1)
GOOD, FORGED, OTHER_CHAIN, OTHER_CONTRACT, OTHER_CHANNEL = range(5)
PREIMAGES = [bytes([number]) * 32 for number in (1, 2)]
FOREVER = 1 << 48
FEWEST = {
    "claim": 10, "claim_available": 15, "claim_locked": 8, "claim_with_signature": 10, "deposit": 3, "fund": 43,
    "vault_deposit": 44, "vault_withdraw": 3, "initiate_withdraw": 45, "finalize_withdraw": 45, "refund": 5,
    "refund_with_signature": 5, "settle": 15, "row claimed": 40, "refused": 150,
}  # fmt: skip
"""How often each must have come to pass in a run: less than half of what runs have shown. Forty examples begin with one
funding and one deposit into the vault each, and end with withdrawals."""


@dataclass
class Model:
    """One channel as it must be."""

    config: ChannelConfig
    receiver: str
    balance: int = 0
    claimed: int = 0
    nonce: int = 0
    pending: int = 0
    is_pending: bool = False
    is_due: bool = False
    signed: int = 0

    @property
    def unclaimed(self):
        return self.balance - self.claimed


@dataclass
class Held:
    """What one receiver has."""

    claimed: int = 0
    settled: int = 0


@dataclass
class Row:
    """A voucher that somebody may hand in, and whether the payer's side signed it for that channel."""

    channel: int
    voucher: SignedVoucher
    is_good: bool
    preimage: bytes = b""


@dataclass
class Stage:
    """The chain and its contract, for all examples."""

    chain: Chain
    contract: PaymentChannels = field(init=False)
    domain: ChannelDomain = field(init=False)
    collector: Address = field(init=False)

    def __post_init__(self):
        place = additions_place(self.chain)
        self.contract, self.collector = PaymentChannels(place.channels), place.collector
        self.domain = ChannelDomain(self.chain.chain_id, self.contract.address)


def name_of(call):
    """Return the name of what a call calls, as Python has it."""
    name = call.function.partition("(")[0]
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def objection(channel, row, total, *, is_signed):
    """Return the error with which a claim of more than was claimed must fail, ``None`` where it must not."""
    if total > row.voucher.ceiling:
        return errors.ClaimExceedsCeiling
    if total > channel.balance:
        return errors.ClaimExceedsBalance
    return None if is_signed else errors.InvalidSignature


class Channels(RuleBasedStateMachine):
    """Three channels of one payer to two receivers, one of them with vouchers by P-256, and a vault."""

    stage: Stage
    counts: Counter[str]
    rows = Bundle("rows")

    @initialize(target=rows)
    def begin(self):
        chain, self.signer = self.stage.chain, LocalSigner.create()
        self.keys = {name: LocalSigner.create() for name in ("payee", "other", "stranger")}
        self.names = {name: chain.account(key) for name, key in self.keys.items()}
        self.names["payer"] = chain.account(self.signer)
        self.signers = [self.signer, LocalSigner.create("p256"), self.signer]
        self.money, self.deposits = token_domain(chain, chain.token), 0
        for account in self.names.values():
            chain.fund(account, ether=10)
        self.token = DevDollar(chain.addresses.dev_dollar)
        self.names["payer"].transact(self.token.mint(self.names["payer"].address, 1 << 130))
        self.names["payer"].transact(self.token.approve(self.stage.contract.address, 1 << 131))
        self.base = self.held(self.stage.contract.address)
        self.wallet, self.vault = 1 << 130, 0
        self.receivers = {"payee": Held(), "other": Held()}
        self.channels = [self.channel(*each) for each in zip(self.signers, ("payee", "payee", "other"), strict=True)]
        self.vault_deposit(10_000)
        self.fund([(number, 1_500) for number in range(3)])
        first = [(number, 400, b"") for number in range(3)] + [(number, 700, PREIMAGES[0]) for number in range(3)]
        return multiple(*(self.sign(n, ceiling, on_top=False, kind=GOOD, preimage=key) for n, ceiling, key in first))

    def channel(self, signer, receiver):
        payee, salt = self.names[receiver].address, next(SALTS).to_bytes(32, "big")
        payer = self.names["payer"].address
        return Model(channel_config(signer, payee, payer=payer, token=self.token.address, salt=salt), receiver)

    def held(self, address):
        return self.stage.chain.call(Erc20(self.stage.chain.token).balance_of(address))

    def run(self, name, call, error=None):
        """Send what must work; ask for what must not, and see that it fails as predicted."""
        account = self.names[name]
        if error is None:
            receipt = account.transact(call)
            self.counts[name_of(call)] += 1
            return receipt
        with pytest.raises(error):
            self.stage.chain.call(call, sender=account.address)
        self.counts["refused"] += 1
        return None

    # Money in

    @rule(amount=AMOUNTS)
    def vault_deposit(self, amount):
        error = errors.ERC20InsufficientBalance if amount > self.wallet else None
        if self.run("payer", self.stage.contract.vault_deposit(self.token.address, amount), error):
            self.vault, self.wallet = self.vault + amount, self.wallet - amount

    @rule(amount=AMOUNTS)
    def vault_withdraw(self, amount):
        error = errors.VaultTooLow if amount > self.vault else None
        call = self.stage.contract.vault_withdraw(self.token.address, amount, self.names["payer"].address)
        if self.run("payer", call, error):
            self.vault, self.wallet = self.vault - amount, self.wallet + amount

    @rule(parts=st.lists(st.tuples(st.integers(0, 2), AMOUNTS), max_size=4))
    def fund(self, parts):
        error, balances = errors.EmptyBatch if not parts else None, [c.balance for c in self.channels]
        for number, amount in parts:
            if error is None and amount == 0:
                error = errors.ZeroDeposit
            if error is None and balances[number] + amount > TOP:
                error = errors.DepositOverflow
            balances[number] += amount
        total = sum(amount for _, amount in parts)
        if error is None and total > self.vault:
            error = errors.VaultTooLow
        configs = [self.channels[number].config for number, _ in parts]
        if self.run("payer", self.stage.contract.fund(configs, [amount for _, amount in parts]), error):
            self.vault -= total
            for channel, balance in zip(self.channels, balances, strict=True):
                channel.balance = balance

    @rule(number=st.integers(0, 2), amount=AMOUNTS, fault=st.sampled_from(["", "", "", "forged", "late", "again"]))
    def deposit(self, number, amount, fault):
        """Pay in by the payer's authorization, which a stranger carries."""
        channel, payer = self.channels[number], self.names["payer"].address
        collector, salt = self.stage.collector, self.deposits
        until = 1 if fault == "late" else FOREVER
        nonce = keccak256(encode(["bytes32", "uint256"], [self.stage.domain.channel_id(channel.config), salt]))
        key = self.keys["stranger"] if fault == "forged" else self.signer
        terms = {"payer": payer, "to": collector, "amount": amount, "valid_before": until, "nonce": nonce}
        signature = sign_receive(key, self.money, **terms)
        data = encode(["uint256", "uint256", "uint256", "bytes"], [0, until, salt, signature])
        call = self.stage.contract.deposit(channel.config, amount, collector, data)
        error: Any = errors.ZeroDeposit if amount == 0 else None
        if error is None and channel.balance + amount > TOP:
            error = errors.DepositOverflow
        elif error is None and fault == "late":
            error = errors.ERC3009InvalidAuthorizationTime
        elif error is None and fault == "forged":
            error = errors.ERC3009InvalidSignature
        elif error is None and amount > self.wallet:
            error = errors.ERC20InsufficientBalance
        if self.run("stranger", call, error):
            self.deposits += 1
            channel.balance, self.wallet = channel.balance + amount, self.wallet - amount
            if fault == "again" and channel.balance + amount <= TOP:
                self.run("stranger", call, errors.ERC3009UsedAuthorization)

    # Vouchers

    @rule(
        target=rows,
        number=st.integers(0, 2),
        ceiling=AMOUNTS | st.integers(1, 700),
        on_top=st.booleans(),
        kind=st.sampled_from([GOOD] * 6 + [FORGED, OTHER_CHAIN, OTHER_CONTRACT, OTHER_CHANNEL]),
        preimage=st.sampled_from([b"", b"", *PREIMAGES]),
    )
    def sign(self, number, ceiling, on_top, kind, preimage):
        channel, domain, signer = self.channels[number], self.stage.domain, self.signers[number]
        ceiling = min(ceiling + (channel.claimed if on_top else 0), TOP)
        lock = keccak256(preimage) if preimage else b""
        good = sign_voucher(signer, domain, channel.config, ceiling, lock=lock)
        if kind == GOOD:
            channel.signed = max(channel.signed, ceiling)
            return Row(number, good, is_good=True, preimage=preimage)
        if kind == FORGED:
            signature = signature_field(LocalSigner.create(signer.curve), good.digest)
        elif kind == OTHER_CHAIN:
            signature = signature_field(signer, replace(good, domain=ChannelDomain(1, domain.contract)).digest)
        elif kind == OTHER_CONTRACT:
            elsewhere = ChannelDomain(domain.chain_id, self.token.address)
            signature = signature_field(signer, replace(good, domain=elsewhere).digest)
        else:
            twin = self.channels[(number + 1) % 3].config
            signature = signature_field(signer, replace(good, config=twin).digest)
        return Row(number, replace(good, signature=signature), is_good=False, preimage=preimage)

    @rule(row=rows, total=TOTALS, caller=st.sampled_from(["receiver"] * 4 + ["stranger"]))
    def claim(self, row, total, caller):
        channel = self.channels[row.channel]
        total = row.voucher.ceiling if total is None else total
        name = channel.receiver if caller == "receiver" else caller
        receiver = self.receivers[channel.receiver]
        if receiver.claimed + max(total - channel.claimed, 0) > TOP:
            return
        error: Any = errors.NotAuthorizedToClaim if name != channel.receiver else None
        if error is None and total > channel.claimed:
            error = objection(channel, row, total, is_signed=row.is_good and not row.preimage)
        if self.run(name, self.stage.contract.claim([row.voucher.claim(total)]), error):
            self.take(channel, total)

    @rule(row=rows, total=TOTALS, key=st.sampled_from(["receiver"] * 4 + ["stranger"]))
    def claim_with_signature(self, row, total, key):
        """A stranger carries a claim that the receiver signed, or another did."""
        channel, receiver = self.channels[row.channel], self.receivers[self.channels[row.channel].receiver]
        total = row.voucher.ceiling if total is None else total
        if receiver.claimed + max(total - channel.claimed, 0) > TOP:
            return
        entry = (self.stage.domain.channel_id(channel.config), row.voucher.ceiling, total)
        signer = self.keys[channel.receiver if key == "receiver" else key]
        signature = signer.sign_digest(self.stage.domain.claim_batch_digest([entry]))
        error: Any = None if key == "receiver" else errors.InvalidSignature
        if error is None and total > channel.claimed:
            error = objection(channel, row, total, is_signed=row.is_good and not row.preimage)
        call = self.stage.contract.claim_with_signature([row.voucher.claim(total)], signature)
        if self.run("stranger", call, error):
            self.take(channel, total)

    @rule(row=rows, total=TOTALS, preimage=st.none() | st.none() | st.sampled_from(PREIMAGES))
    def claim_locked(self, row, total, preimage):
        """The receiver claims by a key: mostly the one that was released for this voucher."""
        channel, receiver = self.channels[row.channel], self.receivers[self.channels[row.channel].receiver]
        total = row.voucher.ceiling if total is None else total
        preimage = preimage or row.preimage or PREIMAGES[0]
        if receiver.claimed + max(total - channel.claimed, 0) > TOP:
            return
        if total <= channel.claimed:
            error: Any = errors.NothingToClaim
        else:
            error = objection(channel, row, total, is_signed=row.is_good and preimage == row.preimage)
        call = self.stage.contract.claim_locked(row.voucher.claim(total), Bytes32(preimage))
        if self.run(channel.receiver, call, error):
            self.take(channel, total)

    @rule(number=st.integers(0, 2), part=st.integers(1, 3), how=st.sampled_from(["plain", "locked", "carried"]))
    def sell(self, number, part, how):
        """Pay by a part of what is left and claim it, as honest sides do."""
        channel = self.channels[number]
        if not (amount := channel.unclaimed // part) or self.receivers[channel.receiver].claimed + amount > TOP:
            return
        preimage = PREIMAGES[1] if how == "locked" else b""
        row = self.sign(number, channel.claimed + amount, on_top=False, kind=GOOD, preimage=preimage)
        if how == "locked":
            self.claim_locked(row, None, None)
        elif how == "carried":
            self.claim_with_signature(row, None, "receiver")
        else:
            self.claim(row, None, "receiver")

    def take(self, channel, total):
        """Let the model's receiver have what was claimed."""
        taken = max(total - channel.claimed, 0)
        self.receivers[channel.receiver].claimed += taken
        channel.claimed += taken
        self.counts["row claimed"] += taken > 0

    @rule(parts=st.lists(st.tuples(rows, TOTALS), min_size=1, max_size=5))
    def claim_available(self, parts):
        parts = [(row, row.voucher.ceiling if total is None else total) for row, total in parts]
        expected = [self.outcome(row, total) for row, total in parts]
        call = self.stage.contract.claim_available([row.voucher.claim(total) for row, total in parts])
        receipt = self.run("payee", call)
        skipped = [ClaimOutcome(event.outcome) for event in receipt.events(ClaimSkipped)]
        assert skipped == [outcome for outcome in expected if outcome > ClaimOutcome.CLAIMED_IN_PART]

    def outcome(self, row, total):  # noqa: PLR0911 - one for each outcome
        """Return what must become of a row that the payee hands in, and let it."""
        channel, receiver = self.channels[row.channel], self.receivers["payee"]
        if channel.receiver != "payee":
            return ClaimOutcome.NOT_AUTHORIZED
        if total > row.voucher.ceiling:
            return ClaimOutcome.CEILING_EXCEEDED
        if total <= channel.claimed:
            return ClaimOutcome.ALREADY_CLAIMED
        target = min(total, channel.balance)
        if target == channel.claimed:
            return ClaimOutcome.BALANCE_EXHAUSTED
        if receiver.claimed + target - channel.claimed > TOP:
            return ClaimOutcome.RECEIVER_TOTAL_EXCEEDED
        if not row.is_good or row.preimage:
            return ClaimOutcome.SIGNATURE_INVALID
        self.take(channel, target)
        return ClaimOutcome.CLAIMED if target == total else ClaimOutcome.CLAIMED_IN_PART

    @rule(name=st.sampled_from(["payee", "other"]), caller=st.sampled_from(["payee", "stranger"]))
    def settle(self, name, caller):
        self.run(caller, self.stage.contract.settle(self.names[name].address, self.token.address))
        self.receivers[name].settled = self.receivers[name].claimed

    # Money back

    @rule(number=st.integers(0, 2), amount=AMOUNTS, is_receiver=st.booleans())
    def refund(self, number, amount, is_receiver):
        channel = self.channels[number]
        error = None if is_receiver else errors.NotAuthorizedToRefund
        if error is None and amount == 0:
            error = errors.ZeroRefund
        name = channel.receiver if is_receiver else "payer"
        if self.run(name, self.stage.contract.refund(channel.config, amount), error):
            self.give_back(channel, amount)

    @rule(number=st.integers(0, 2), amount=AMOUNTS, fault=st.sampled_from(["", "", "", "forged", "nonce"]))
    def refund_with_signature(self, number, amount, fault):
        """A stranger carries a refund that the receiver signed."""
        channel = self.channels[number]
        nonce = channel.nonce + (fault == "nonce")
        digest = self.stage.domain.refund_digest(self.stage.domain.channel_id(channel.config), nonce, amount)
        signature = self.keys["stranger" if fault == "forged" else channel.receiver].sign_digest(digest)
        error: Any = {"forged": errors.InvalidSignature, "nonce": errors.InvalidRefundNonce}.get(fault)
        if error is None and amount == 0:
            error = errors.ZeroRefund
        call = self.stage.contract.refund_with_signature(channel.config, amount, nonce, signature)
        if self.run("stranger", call, error):
            self.give_back(channel, amount)

    def give_back(self, channel, amount):
        """Let the model's payer have what was refunded."""
        back, channel.nonce = min(amount, channel.unclaimed), channel.nonce + 1
        if not back:
            return
        channel.balance, self.wallet = channel.balance - back, self.wallet + back
        channel.pending = max(channel.pending - back, 0)
        channel.is_pending = channel.pending > 0

    @rule(number=st.integers(0, 2), amount=AMOUNTS, is_payer=st.sampled_from([True, True, True, False]))
    def initiate_withdraw(self, number, amount, is_payer):
        channel = self.channels[number]
        error: Any = None if is_payer else errors.InvalidChannel
        if error is None and amount == 0:
            error = errors.NothingToWithdraw
        elif error is None and channel.is_pending:
            error = errors.WithdrawalAlreadyPending
        elif error is None and amount > channel.unclaimed:
            error = errors.WithdrawAmountExceedsAvailable
        name = "payer" if is_payer else "stranger"
        if self.run(name, self.stage.contract.initiate_withdraw(channel.config, amount), error):
            channel.pending, channel.is_pending, channel.is_due = amount, True, False

    @rule(number=st.integers(0, 2), is_payer=st.sampled_from([True, True, True, False]))
    def finalize_withdraw(self, number, is_payer):
        channel = self.channels[number]
        error: Any = None if is_payer else errors.NotAuthorizedToFinalizeWithdraw
        if error is None and not channel.is_pending:
            error = errors.WithdrawalNotPending
        elif error is None and not channel.is_due:
            error = errors.WithdrawDelayNotElapsed
        name = "payer" if is_payer else "stranger"
        if self.run(name, self.stage.contract.finalize_withdraw(channel.config), error):
            back = min(channel.pending, channel.unclaimed)
            channel.balance, self.wallet = channel.balance - back, self.wallet + back
            channel.pending, channel.is_pending = 0, False

    @rule()
    def wait(self):
        self.stage.chain.increase_time(DELAY)
        for channel in self.channels:
            channel.is_due = channel.is_pending

    # What must hold

    @invariant()
    def chain_holds_what_the_model_holds(self):
        if not hasattr(self, "channels"):
            return
        contract, chain, payer = self.stage.contract, self.stage.chain, self.names["payer"].address
        ids = [self.stage.domain.channel_id(channel.config) for channel in self.channels]
        states = chain.call_many([call for i in ids for call in (contract.channels(i), contract.refund_nonce(i))])
        for channel, state, nonce in zip(self.channels, states[::2], states[1::2], strict=True):
            assert (state.balance, state.total_claimed, nonce) == (channel.balance, channel.claimed, channel.nonce)
            assert channel.claimed <= min(channel.balance, max(channel.signed, channel.claimed))
            assert channel.claimed <= channel.signed  # PC-2
        pending = chain.call_many([contract.pending_withdrawals(i) for i in ids])
        assert [bool(item.initiated_at) for item in pending] == [channel.is_pending for channel in self.channels]
        assert [item.amount for item in pending] == [channel.pending for channel in self.channels]
        for name, receiver in self.receivers.items():
            address = self.names[name].address
            state = chain.call(contract.receivers(address, self.token.address))
            assert (state.total_claimed, state.total_settled) == (receiver.claimed, receiver.settled)
            assert self.held(address) == receiver.settled  # PC-3
        assert chain.call(contract.vault_of(payer, self.token.address)) == self.vault
        assert self.held(payer) == self.wallet
        owed = sum(channel.unclaimed for channel in self.channels) + self.vault
        owed += sum(receiver.claimed - receiver.settled for receiver in self.receivers.values())
        assert self.held(contract.address) == self.base + owed  # PC-1

    def teardown(self):
        """PC-4: within one delay after what is pending, the payer is out."""
        for channel in getattr(self, "channels", []):
            if channel.is_pending:
                self.wait()
                self.finalize_withdraw(self.channels.index(channel), is_payer=True)
            if channel.unclaimed:
                self.initiate_withdraw(self.channels.index(channel), channel.unclaimed, is_payer=True)
                self.wait()
                self.finalize_withdraw(self.channels.index(channel), is_payer=True)
            assert channel.unclaimed == 0
        self.chain_holds_what_the_model_holds()


@pytest.mark.timeout(900)
def test_channels__when_played_at_random__do_what_the_model_says(capfd):
    with Devnet() as chain:
        Channels.stage, Channels.counts = Stage(chain), Counter()
        run_state_machine_as_test(
            Channels,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    counts = Channels.counts
    with capfd.disabled():
        sys.stdout.write(f"\n  the channels' state machine: {dict(sorted(counts.items()))}\n")
    assert {name: counts[name] for name in FEWEST if counts[name] < FEWEST[name]} == {}
