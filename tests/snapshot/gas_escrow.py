"""The gas of rentals: opened, handed over, checked in and out, closed, and argued about."""

from dataclasses import replace

from gas_story import UNLIMITED, Party, secret

from pyiot_evm.chain import Chain
from pyiot_evm.contracts.deposit_escrow import CheckIn, CheckOut, DepositEscrow
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.contracts.shared import Rental, Terms
from pyiot_evm.device import LocalSigner
from pyiot_evm.device.typed import address_word, domain_separator, struct_hash, type_hash, typed_digest, word
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, release
from pyiot_evm.types import Bytes32

FEE, RATE, METER_CAP, DEPOSIT = 2_000_000, 450_000, 40_000_000, 50_000_000
SLOT, WINDOW = 7_200, 86_400
START = 0x71111111
RECEIVE = type_hash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


class EscrowGas:
    """Each step in a rental's life, measured on an owner and a renter who have rented before."""

    def __init__(self, chain: Chain):
        self.chain = chain
        self.escrow = DepositEscrow(chain.addresses.deposit_escrow)
        self.owner, self.renter, self.arbiter = (Party(chain, name) for name in ("owner", "renter", "arbiter"))
        self.key = ContentKey.from_bytes(secret("access key"))
        self.devices = {kind: LocalSigner.from_secret(secret(f"lock {kind}"), kind) for kind in ("secp256k1", "p256")}
        self.salt = 0
        self.wait_until(START)
        for party in (self.owner, self.renter):
            party.gas(DevDollar(chain.token).approve(self.escrow.address, UNLIMITED))
            party.gas(DevDollar(chain.token).mint(party.address, 10**12))

    def rental(self, kind: str = "secp256k1", **changes) -> Rental:
        """Return new terms in the renter's hands; the salts of an owner follow one another."""
        self.salt += 1
        pinned = Bytes32(keccak256(self.devices[kind].signer_bytes))
        terms = Terms(
            owner=self.owner.address, token=self.chain.token, fee=FEE, rate=RATE, meter_cap=METER_CAP, deposit=DEPOSIT,
            device=Bytes32(secret("lock's id")), signer_hash=pinned, arbiter=self.arbiter.address,
            key_x=self.key.point[0], key_y=self.key.point[1], start=self.start, end=self.start + SLOT, grace=1_800,
            claim_window=WINDOW, reply_window=WINDOW, ruling_window=WINDOW, terms=Bytes32(secret("document")),
            salt=self.salt,
        )  # fmt: skip
        terms = replace(terms, **changes)
        ephemeral = Ephemeral.derive(secret("renter's secret"), self.salt.to_bytes(32, "big"))
        mask = mask_of(self.sale(terms), self.key.point, ephemeral)
        return Rental(terms, self.renter.address, mask, *ephemeral.point)

    def wait_until(self, start: int) -> None:
        """Move the chain to a fixed time: the figures must not depend on the bytes of today's date."""
        self.start = start
        self.chain.increase_time(start - self.chain.now())

    def terms_id(self, terms: Terms) -> bytes:
        return self.chain.call(self.escrow.terms_id(terms))

    def sale(self, terms: Terms) -> Sale:
        return Sale(self.chain.chain_id, self.escrow.address, self.terms_id(terms), self.renter.address)

    def open(self, rental: Rental) -> int:
        signature = self.owner.signer.sign_digest(self.terms_id(rental.terms))
        point = (rental.ephemeral_x, rental.ephemeral_y)
        return self.renter.gas(self.escrow.open(rental.terms, signature, rental.mask, *point))

    def open_with_authorization(self, rental: Rental) -> int:
        """Return the gas of an opening by ERC-3009, carried by the owner."""
        signature = self.owner.signer.sign_digest(self.terms_id(rental.terms))
        nonce = self.chain.call(self.escrow.rental_id(rental))
        domain = domain_separator("pyiot dev dollar", "1", chain_id=self.chain.chain_id, contract=self.chain.token)
        fields = [address_word(rental.renter), address_word(self.escrow.address), word(FEE + METER_CAP + DEPOSIT)]
        digest = typed_digest(domain, struct_hash(RECEIVE, *fields, word(0), word(UNLIMITED), bytes(nonce)))
        paid = self.renter.signer.sign_digest(digest)
        return self.owner.gas(self.escrow.open_with_authorization(rental, signature, 0, UNLIMITED, paid))

    def hand_over(self, rental: Rental) -> int:
        point = (rental.ephemeral_x, rental.ephemeral_y)
        released = release(self.sale(rental.terms), self.key, point, rental.mask)
        return self.owner.gas(self.escrow.hand_over(rental, released))

    def check_in(self, rental: Rental, kind: str = "secp256k1") -> int:
        said = CheckIn(self.terms_id(rental.terms), rental.terms.start, Bytes32(secret("odometer")))
        signature = self.devices[kind].sign_digest(self.chain.call(self.escrow.check_in_digest(said)))
        return self.renter.gas(self.escrow.check_in(rental, said, self.devices[kind].signer_bytes, signature))

    def check_out(self, rental: Rental, kind: str = "secp256k1") -> int:
        said = CheckOut(self.terms_id(rental.terms), rental.terms.end, 30, Bytes32(secret("odometer")))
        signature = self.devices[kind].sign_digest(self.chain.call(self.escrow.check_out_digest(said)))
        return self.owner.gas(self.escrow.check_out(rental, said, self.devices[kind].signer_bytes, signature))

    def checked_out(self) -> Rental:
        rental = self.rental()
        self.open(rental)
        self.hand_over(rental)
        self.check_out(rental)
        return rental

    def measure(self) -> dict[str, int]:
        """Return the gas of every step, each after one like it has filled the slots that last."""
        figures: dict[str, int] = {}
        for _ in range(2):
            figures |= self.happy() | self.dispute()
        return figures | self.missed()

    def happy(self) -> dict[str, int]:
        """Return the gas of rentals that nobody argues about."""
        figures, escrow = {}, self.escrow
        rental, signed, p256 = self.rental(), self.rental(), self.rental("p256")
        figures["open"], figures["openWithAuthorization"] = self.open(rental), self.open_with_authorization(signed)
        figures["handOver"], figures["refund"] = self.hand_over(rental), self.owner.gas(escrow.refund(signed))
        figures["checkIn"], figures["checkOut"] = self.check_in(rental), self.check_out(rental)
        self.open(p256)
        self.hand_over(p256)
        figures["checkInP256"], figures["checkOutP256"] = self.check_in(p256, "p256"), self.check_out(p256, "p256")
        figures["waive"] = self.owner.gas(escrow.waive(p256))
        figures["withdraw"] = self.owner.gas(escrow.withdraw(self.chain.token, 1, self.owner.address))
        self.wait_until(self.start + 2 * WINDOW)
        figures["close"] = self.renter.gas(escrow.close(rental))
        return figures

    def dispute(self) -> dict[str, int]:
        """Return the gas of claims and of what comes after them."""
        figures, escrow = {}, self.escrow
        accepted, ruled = self.checked_out(), self.checked_out()
        figures["claim"] = self.owner.gas(escrow.claim(accepted, 20_000_000, Bytes32(secret("photo"))))
        figures["accept"] = self.renter.gas(escrow.accept(accepted))
        self.owner.gas(escrow.claim(ruled, 20_000_000, Bytes32(secret("photo"))))
        figures["reject"] = self.renter.gas(escrow.reject(ruled))
        figures["rule"] = self.arbiter.gas(escrow.rule(ruled, 15_000_000))
        return figures

    def missed(self) -> dict[str, int]:
        """Return the gas of the dearest close: the renter came, and no check-out was ever shown."""
        rental = self.rental()
        self.open(rental)
        self.hand_over(rental)
        self.check_in(rental)
        self.wait_until(self.start + 2 * WINDOW)
        return {"closeMissed": self.renter.gas(self.escrow.close(rental))}
