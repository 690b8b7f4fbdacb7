"""The gas of payment channels: opened from a vault, claimed in batches, settled once.

Measured where machines pay on a devnet: at x402's address, where the code stands without its constructor having run.
"""

from gas_story import FAR, UNLIMITED, Party, secret

from pyiot_evm.chain import Chain
from pyiot_evm.chain.abi import encode
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.contracts.payment_channels import ChannelConfig, PaymentChannels, Voucher, VoucherClaim
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.hashing import keccak256
from pyiot_evm.payment.places import additions_place
from pyiot_evm.types import Address, Bytes32

BATCH = 50
DAY = 86_400
RECEIVE = type_hash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


class PaymentGas:
    """Each step in a channel's life, measured."""

    def __init__(self, chain: Chain):
        self.chain = chain
        self.place = additions_place(chain)
        self.channels = PaymentChannels(self.place.channels)
        self.payer, self.payee = Party(chain, "payer"), Party(chain, "payee")
        self.authorizer = LocalSigner.from_secret(secret("authorizer"))
        self.payer.gas(DevDollar(chain.token).approve(self.channels.address, UNLIMITED))

    def config(self, number: int, payer: Address | None = None) -> ChannelConfig:
        return ChannelConfig(
            payer or self.payer.address, self.authorizer.address, self.payee.address, self.payee.address,
            self.chain.token, DAY, Bytes32(secret(f"channel {number}")),
        )  # fmt: skip

    def row(self, config: ChannelConfig, amount: int, lock: bytes | None = None) -> VoucherClaim:
        """Return a voucher's claim; the digest comes from the contract, so that nothing but gas is in question."""
        channel_id = self.chain.call(self.channels.get_channel_id(config))
        call = (
            self.channels.get_voucher_digest(channel_id, amount)
            if lock is None
            else self.channels.get_locked_voucher_digest(channel_id, amount, Bytes32(lock))
        )
        return VoucherClaim(Voucher(config, amount), self.authorizer.sign_digest(self.chain.call(call)), amount)

    def deposit(self, config: ChannelConfig, payer: Party, number: int) -> int:
        """Return the gas of a deposit by ERC-3009, carried by the payee."""
        channel_id = self.chain.call(self.channels.get_channel_id(config))
        nonce = keccak256(encode(["bytes32", "uint256"], [channel_id, number]))
        domain = domain_separator("pyiot dev dollar", "1", chain_id=self.chain.chain_id, contract=self.chain.token)
        collector, amount = self.place.collector, 10_000_000
        fields = (address_word(payer.address), address_word(collector), word(amount), word(0), word(FAR), nonce)
        signature = payer.signer.sign_digest(typed_digest(domain, struct_hash(RECEIVE, *fields)))
        data = encode(["uint256", "uint256", "uint256", "bytes"], [0, FAR, number, signature])
        return self.payee.gas(self.channels.deposit(config, amount, collector, data))

    def measure(self) -> dict[str, int]:
        """Return the gas of opening, claiming and ending channels."""
        channels, token, figures = self.channels, self.chain.token, {}
        self.payer.gas(channels.vault_deposit(token, 300_000_000))
        figures["vaultDeposit"] = self.payer.gas(channels.vault_deposit(token, 300_000_000))
        configs = [self.config(number) for number in range(BATCH)]
        figures["fundPerChannelOf50"] = self.payer.gas(channels.fund(configs, [10_000_000] * BATCH)) // BATCH
        self.payee.gas(channels.claim([self.row(config, 1_000_000) for config in configs]))
        again = [self.row(config, 2_000_000) for config in configs]
        figures["claimPerChannelOf50"] = self.payee.gas(channels.claim(again)) // BATCH
        third = [self.row(config, 3_000_000) for config in configs]
        figures["claimAvailablePerChannelOf50"] = self.payee.gas(channels.claim_available(third)) // BATCH
        preimage = secret("preimage")
        locked = self.row(configs[0], 4_000_000, keccak256(preimage))
        figures["claimLocked"] = self.payee.gas(channels.claim_locked(locked, Bytes32(preimage)))
        self.payee.gas(channels.settle(self.payee.address, token))
        self.payee.gas(channels.claim([self.row(configs[0], 5_000_000)]))
        figures["settle"] = self.payee.gas(channels.settle(self.payee.address, token))
        figures["refund"] = self.payee.gas(channels.refund(configs[1], 1_000))
        opened = self.config(BATCH)
        figures["deposit"] = self.deposit(opened, self.payer, 1)
        figures["depositMore"] = self.deposit(opened, self.payer, 2)
        figures["initiateWithdraw"] = self.payer.gas(channels.initiate_withdraw(configs[2], 1_000))
        self.chain.increase_time(DAY)
        figures["finalizeWithdraw"] = self.payer.gas(channels.finalize_withdraw(configs[2]))
        return figures
