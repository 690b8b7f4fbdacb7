"""The gas of every call that people make daily, from receipts of a real Anvil.

Keys, salts and deadlines are fixed, so that the same contracts always give the same figures. What is measured is the
second use of each slot, with an unlimited allowance and no bond, as the design's limits are stated.
"""

from dataclasses import dataclass

from pyiot_evm.chain import Chain
from pyiot_evm.contracts.data_market import DataMarket, Disclosure, Offer, Order, Resale, Row
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.contracts.device_registry import DeviceRegistry, Registration, RegistrationRow
from pyiot_evm.device import LocalSigner, Reading, device_id
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, release
from pyiot_evm.market.offers import Summary, blank_offer, offer_id, order_id, resale_id
from pyiot_evm.market.rules import RuleParams
from pyiot_evm.market.sealing import open_leaf, seal_leaves, sealed_leaf
from pyiot_evm.merkle import MerkleTree
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32

FAR = (1 << 40) - 1
PRICE = 500_000
TREE_SIZE = 1 << 16
FORGED_INDEX = 40_000
UNLIMITED = (1 << 256) - 1


def secret(name: str) -> bytes:
    return keccak256(f"gas:{name}".encode())


@dataclass
class Party:
    """An account with money, and its transactions."""

    chain: Chain
    name: str

    def __post_init__(self):
        self.signer = LocalSigner.from_secret(secret(self.name))
        self.account = self.chain.account(self.signer)
        self.address = self.account.address
        self.chain.fund(self.address, ether=100, dollars=1000)
        self.gas(DevDollar(self.chain.addresses.dev_dollar).approve(self.chain.addresses.data_market, UNLIMITED))

    def gas(self, call) -> int:
        return self.account.transact(call).gas_used


class MarketGas:
    """Each step of a sale, measured."""

    def __init__(self, chain: Chain):
        self.chain = chain
        self.market = DataMarket(chain.addresses.data_market)
        self.seller, self.buyer, self.second = (Party(chain, name) for name in ("seller", "buyer", "second buyer"))
        self.key = ContentKey.from_bytes(secret("content key"))

    def offer(self, salt: int, **changes) -> Offer:
        blank = blank_offer(seller=self.seller.address, token=self.chain.token, price=PRICE, expiry=FAR, salt=salt)
        sealed = {"sealed_root": Bytes32(secret("root")), "leaf_count": 2380, "terms": Bytes32(secret("terms"))}
        fields = {name: getattr(blank, name) for name in Offer.__slots__} | sealed | changes
        fields["key_x"], fields["key_y"] = self.key.point
        return Offer(**{name: fields[name] for name in Offer.__dataclass_fields__ if name in fields})

    def ids(self) -> dict:
        return {"chain_id": self.chain.chain_id, "market": self.market.address}

    def order(self, offer: Offer, buyer: Address, attempt: int = 0, resale: Resale | None = None) -> Order:
        sale_id = resale_id(resale, **self.ids()) if resale else offer_id(offer, **self.ids())
        ephemeral = Ephemeral.derive(secret("ephemeral"), sale_id, attempt)
        mask = mask_of(Sale(self.chain.chain_id, self.market.address, sale_id, buyer), self.key.point, ephemeral)
        none = Resale(Bytes32(bytes(32)), ZERO_ADDRESS, ZERO_ADDRESS, 0, 0, 0)
        return Order(offer, resale or none, buyer, mask, *ephemeral.point)

    def sale_id(self, order: Order):
        if order.resale.holder == ZERO_ADDRESS:
            return offer_id(order.offer, **self.ids())
        return resale_id(order.resale, **self.ids())

    def released(self, order: Order) -> int:
        sale = Sale(self.chain.chain_id, self.market.address, self.sale_id(order), order.buyer)
        return release(sale, self.key, (order.ephemeral_x, order.ephemeral_y), order.mask)

    def list(self, offer: Offer) -> int:
        summary = Summary(
            device=Bytes32(secret("device")), first_time=1_441_115_100_000, last_time=1_442_507_400_000, rows=2380,
            title="Road occupancy in percent, detector 6005", tags=(),
        )  # fmt: skip
        encoded = summary.encode()
        assert len(encoded) == 320
        return self.seller.gas(self.market.list(offer, "https://data.example/bundles/occupancy.pyiot", encoded))

    def buy(self, order: Order, buyer: Party) -> int:
        return buyer.gas(self.market.buy(order.offer, b"", order.mask, order.ephemeral_x, order.ephemeral_y))

    def buy_with_authorization(self, order: Order, buyer: Party, carrier: Party) -> int:
        domain = domain_separator(
            "pyiot dev dollar", "1", chain_id=self.chain.chain_id, contract=self.chain.addresses.dev_dollar
        )
        declaration = (
            "ReceiveWithAuthorization(address from,address to,uint256 value,"
            "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        )
        point = (order.ephemeral_x, order.ephemeral_y)
        nonce = order_id(self.sale_id(order), buyer=order.buyer, mask=order.mask, ephemeral=point)
        fields = [address_word(order.buyer), address_word(self.market.address), word(order.offer.price)]
        digest = typed_digest(domain, struct_hash(type_hash(declaration), *fields, word(0), word(FAR), bytes(nonce)))
        call = self.market.buy_with_authorization(order, b"", 0, FAR, buyer.signer.sign_digest(digest))
        return carrier.gas(call)

    def reveal(self, order: Order) -> int:
        return self.seller.gas(self.market.reveal(order, self.released(order)))

    def measure(self) -> dict[str, int]:
        """Return the gas of the happy path, its exits and a resale."""
        warm, offer = self.offer(1), self.offer(2)
        figures: dict[str, int] = {}
        self.list(warm)
        figures["list"] = self.list(offer)
        first = self.order(offer, self.buyer.address)
        self.buy(first, self.buyer)
        self.reveal(first)
        self.buyer.gas(self.market.settle(offer, [row_of(first)]))
        figures["buy"] = self.buy(second := self.order(offer, self.second.address), self.second)
        figures["reveal"] = self.reveal(second)
        signed = self.order(offer, self.buyer.address, 7)
        figures["buyWithAuthorization"] = self.buy_with_authorization(signed, self.buyer, self.second)
        figures["refundBySeller"] = self.seller.gas(self.market.refund(signed))
        figures |= self.measure_batch(offer)
        figures |= self.measure_resale(offer)
        figures["withdraw"] = self.seller.gas(self.market.withdraw(self.chain.token, 1, self.seller.address))
        figures["cancel"] = self.seller.gas(self.market.cancel(self.offer(3)))
        return figures

    def measure_batch(self, offer: Offer) -> dict[str, int]:
        """Return settle's gas an order, in a batch of 20 with each buyer's first token."""
        orders = []
        for number in range(20):
            buyer = Party(self.chain, f"batch {number}")
            orders.append(self.order(offer, buyer.address))
            self.buy(orders[-1], buyer)
            self.reveal(orders[-1])
        self.chain.increase_time(offer.dispute_window)
        gas = self.second.gas(self.market.settle(offer, [row_of(order) for order in orders]))
        ids = [int.from_bytes(offer_id(offer, **self.ids()), "big")] * len(orders)
        held = self.chain.call(self.market.balance_of_batch([order.buyer for order in orders], ids))
        assert held == (1,) * len(orders)
        return {"settlePerOrderOf20": gas // len(orders)}

    def measure_resale(self, offer: Offer) -> dict[str, int]:
        """Return the gas of a resale with royalty."""
        offered = Resale(
            Bytes32(offer_id(offer, **self.ids())), self.buyer.address, self.chain.token, PRICE // 2, FAR, 5
        )
        order = self.order(offer, self.second.address, resale=offered)
        figures = {"listResale": self.buyer.gas(self.market.list_resale(offer, offered, "https://data.example/again"))}
        buy = self.market.buy_resale(offer, offered, b"", order.mask, order.ephemeral_x, order.ephemeral_y)
        figures["buyResale"] = self.second.gas(buy)
        figures["revealResale"] = self.buyer.gas(self.market.reveal(order, self.released(order)))
        figures["settleResale"] = self.second.gas(self.market.settle_resale(offer, offered, row_of(order)))
        return figures

    def measure_dispute(self, curve: str) -> int:
        """Return the gas of a won dispute on a reading with one value in a tree of 2^16 leaves."""
        device, forger = (
            LocalSigner.from_secret(secret(f"{who} {curve}"), curve=curve) for who in ("device", "forger")
        )
        schema, salt = secret("schema"), secret("salt")[:16]
        forged = Reading.sign(
            forger, seq=FORGED_INDEX, time=1_441_115_100_000, schema=schema, values=[306], prev=secret("prev"),
            salt=salt, device=device_id(device.signer_bytes),
        )  # fmt: skip
        params = RuleParams(
            device.signer_bytes, forged.device, schema, 0, forged.time - 1, forged.time + 1, (0,), (10_000,)
        ).encode()
        ((leaf_hash, sealed),) = seal_leaves(self.key, [forged.leaf()], first=FORGED_INDEX)
        assert open_leaf(self.key.seal_key, FORGED_INDEX, sealed) == forged.leaf()
        hashes = [keccak256(number.to_bytes(4, "big")) for number in range(TREE_SIZE)]
        hashes[FORGED_INDEX] = sealed_leaf(FORGED_INDEX, sealed, leaf_hash)
        tree = MerkleTree(hashes)
        offer = self.offer(
            100 + len(curve), sealed_root=Bytes32(tree.root), leaf_count=TREE_SIZE,
            rule=self.chain.addresses.signed_reading_rule, rule_params_hash=Bytes32(keccak256(params)),
        )  # fmt: skip
        self.list(offer)
        # The buyer's credit and the offer's slot have been used before.
        self.buy(undone := self.order(offer, self.second.address, 1), self.second)
        self.seller.gas(self.market.refund(undone))
        self.buy(other := self.order(offer, self.second.address, 2), self.second)
        self.buy(order := self.order(offer, self.buyer.address), self.buyer)
        self.reveal(order)
        proof = [Bytes32(item) for item in tree.proof(FORGED_INDEX)]
        disclosure = Disclosure(int(self.key), FORGED_INDEX, sealed, Bytes32(leaf_hash), proof, params)
        gas = self.buyer.gas(self.market.dispute(order, disclosure))
        assert other.buyer != order.buyer
        return gas


class RegistryGas:
    """Each step in a device's life, measured."""

    def __init__(self, chain: Chain):
        self.chain = chain
        self.registry = DeviceRegistry(chain.addresses.device_registry)
        self.owner = Party(chain, "owner")
        self.domain = domain_separator(
            "pyiot DeviceRegistry", "1", chain_id=chain.chain_id, contract=self.registry.address
        )

    def row(self, device: LocalSigner) -> RegistrationRow:
        registration = Registration(
            device_id(device.signer_bytes), self.owner.address, Bytes32(secret("metadata")), FAR
        )
        declaration = "Register(bytes32 device,address owner,bytes32 metadata,uint40 deadline)"
        fields = (registration.device, address_word(registration.owner), registration.metadata, word(FAR))
        digest = typed_digest(self.domain, struct_hash(type_hash(declaration), *fields))
        return RegistrationRow(
            registration, device.signer_bytes, device.sign_digest(digest), "https://data.example/device"
        )

    def register(self, device: LocalSigner) -> int:
        row = self.row(device)
        return self.owner.gas(self.registry.register(row.registration, row.signer, row.signature, row.uri))

    def measure(self) -> dict[str, int]:
        """Return the gas of a device's life."""
        first = LocalSigner.from_secret(secret("first device"))
        point = LocalSigner.from_secret(secret("p256 device"), curve="p256")
        figures = {"registerSecp256k1": self.register(first), "registerP256": self.register(point)}
        fleet = [self.row(LocalSigner.from_secret(secret(f"fleet {number}"))) for number in range(50)]
        figures["registerManyPerDeviceOf50"] = self.owner.gas(self.registry.register_many(fleet)) // 50
        device = device_id(first.signer_bytes)
        new = LocalSigner.from_secret(secret("new key"))
        declaration = "Rotate(bytes32 device,bytes32 newSigner,uint16 epoch,uint40 deadline)"
        fields = (device, keccak256(new.signer_bytes), word(self.chain.call(self.registry.epoch_of(device))), word(FAR))
        consent = new.sign_digest(typed_digest(self.domain, struct_hash(type_hash(declaration), *fields)))
        figures["rotate"] = self.owner.gas(self.registry.rotate(device, new.signer_bytes, FAR, consent))
        figures["transfer"] = self.owner.gas(self.registry.transfer(device, Address(secret("heir")[:20])))
        figures["revoke"] = self.owner.gas(self.registry.revoke(device_id(point.signer_bytes)))
        return figures


def row_of(order: Order) -> Row:
    return Row(order.buyer, order.mask, order.ephemeral_x, order.ephemeral_y)


def measure(chain: Chain) -> dict[str, dict[str, int]]:
    """Return every figure, by contract and call."""
    market = MarketGas(chain)
    figures = market.measure()
    figures["dispute"] = market.measure_dispute("secp256k1")
    figures["disputeP256"] = market.measure_dispute("p256")
    return {"DataMarket": figures, "DeviceRegistry": RegistryGas(chain).measure()}


__all__ = ["measure"]
