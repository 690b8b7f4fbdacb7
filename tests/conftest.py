"""A desk for tests of trades on a real market, below the SDK's traders: every step by hand, honest or not."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings

from pyiot_evm.contracts.data_market import DataMarket, Disclosure, Order, OrderRevealed, Resale
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.device import Field, Pkcs11Key, ReadingJournal, Schema
from pyiot_evm.device.lock import Lock
from pyiot_evm.device.lock_messages import AccessKey, Purpose
from pyiot_evm.device.lock_policy import LockHardware, LockPolicy
from pyiot_evm.device.lock_slots import Slot
from pyiot_evm.device.rental_messages import CheckOut, RentalMessages, Terms
from pyiot_evm.device.signers import LocalSigner, device_id
from pyiot_evm.escrow.offering import RentalAsk
from pyiot_evm.escrow.offers import RentalDocument
from pyiot_evm.exceptions import ContractError
from pyiot_evm.hashing import keccak256
from pyiot_evm.identity import Devices
from pyiot_evm.machine import Machine
from pyiot_evm.market.key_release import ContentKey, Ephemeral, Sale, mask_of, release
from pyiot_evm.market.offers import Summary, blank_offer, offer_id
from pyiot_evm.market.rules import SignedReadingRule
from pyiot_evm.market.sealing import sealed_leaf
from pyiot_evm.merkle import MerkleTree
from pyiot_evm.types import ZERO_ADDRESS, Address, Bytes32, DeviceId, OfferId

PRICE, BOND = 500_000, 70_000

settings.register_profile("suite", deadline=None)  # a busy machine is no bug
settings.load_profile("suite")


def pytest_configure() -> None:
    """Hear SIGINT, and let children hear it: what a shell starts in the background is born deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


ONE_BY_ONE = ("tests/docs/test_docs_blocks.py", "kills.py")
"""Files of few and long tests that share nothing: each of their tests is a piece of work of its own."""


def pytest_xdist_make_scheduler(config, log):
    """Give a worker a file at a time, as its tests share a devnet; or one test, where that takes a minute."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.split("::", 1)[0]
            return nodeid if path.endswith(ONE_BY_ONE) else path

    return Scheduling(config, log)


NO_RESALE = Resale(OfferId(bytes(32)), ZERO_ADDRESS, ZERO_ADDRESS, 0, 0, 0)


@dataclass
class Trade:
    """One offer on the chain, and one order of it."""

    desk: "Desk"
    key: ContentKey
    offer: object
    records: list
    params: bytes
    rule: SignedReadingRule | None
    order: Order | None = None
    ephemeral: Ephemeral | None = None
    released: int = 0
    tree: MerkleTree = field(init=False)

    def __post_init__(self):
        self.tree = MerkleTree(sealed_leaf(index, c, h) for index, (h, c) in enumerate(self.records))

    @property
    def sale(self):
        desk = self.desk
        place = {"chain_id": desk.chain.chain_id, "market": desk.market.address}
        return Sale(**place, sale_id=offer_id(self.offer, **place), buyer=desk.buyer.address)

    def buy(self):
        self.ephemeral = Ephemeral.create()
        mask = mask_of(self.sale, self.key.point, self.ephemeral)
        self.desk.buyer.transact(self.desk.market.buy(self.offer, b"", mask, *self.ephemeral.point))
        self.order = Order(self.offer, NO_RESALE, self.desk.buyer.address, mask, *self.ephemeral.point)
        return self

    def reveal(self):
        self.released = release(self.sale, self.key, self.ephemeral.point, self.order.mask)
        receipt = self.desk.seller.transact(self.desk.market.reveal(self.order, self.released))
        (event,) = receipt.events(OrderRevealed)
        assert event.released_key == self.released
        return self

    def disclose(self, index):
        leaf_hash, sealed = self.records[index]
        proof = tuple(Bytes32(sibling) for sibling in self.tree.proof(index))
        return Disclosure(int(self.key), index, sealed, Bytes32(leaf_hash), proof, self.params)

    def dispute(self, disclosure):
        """Return None for a dispute that would be won, else the contract's error."""
        try:
            self.desk.chain.call(self.desk.market.dispute(self.order, disclosure), sender=self.desk.stranger)
        except ContractError as error:
            return error
        return None


class Desk:
    """A market with a seller and a buyer who have money."""

    def __init__(self, chain):
        self.chain = chain
        self.market = DataMarket(chain.addresses.data_market)
        self.dollar = DevDollar(chain.addresses.dev_dollar)
        self.stranger = Address(b"\x77" * 20)
        self.seller, self.buyer = (chain.account(LocalSigner.create()) for _ in range(2))
        for account in (self.seller, self.buyer):
            chain.fund(account, ether=1000, dollars=1_000_000)
            account.transact(self.dollar.approve(self.market.address, 1 << 200))
        self.seller.transact(self.market.deposit(self.dollar.address, 10**11))

    def sell(self, records, *, key, promise=None, **changes):
        """List what the records say, honest or not."""
        params = promise.encode() if promise else b""
        rule = self.chain.addresses.signed_reading_rule if promise else ZERO_ADDRESS
        tree = MerkleTree(sealed_leaf(index, c, h) for index, (h, c) in enumerate(records))
        blank = blank_offer(
            seller=self.seller.address, token=self.dollar.address, price=PRICE, bond=BOND, expiry=(1 << 40) - 1
        )
        offer = replace(
            blank,
            sealed_root=Bytes32(tree.root),
            leaf_count=len(records),
            key_x=key.point[0],
            key_y=key.point[1],
            rule=rule,
            rule_params_hash=Bytes32(keccak256(params)),
            **changes,
        )
        summary = Summary(DeviceId(bytes(32)), 0, 0, len(records), "t").encode()
        self.seller.transact(self.market.list(offer, "", summary))
        return Trade(self, key, offer, records, params, SignedReadingRule(promise) if promise else None)

    def credit(self, account):
        return self.chain.call(self.market.credit_of(account.address, self.dollar.address))


@pytest.fixture(scope="module")
def desk(devnet):
    return Desk(devnet)


class Door:
    """A lock whose clock, meter, sensors and bolt a test holds, and the owner who programs it."""

    START, END = 1_800_000_000, 1_800_003_600

    def __init__(self, path, *, signer=None, policy=None, chain_id=31337, escrow=b"\x11" * 20, now=START + 60):
        self.path, self.policy = path, policy or LockPolicy()
        self.owner, self.signer = LocalSigner.create(), signer or LocalSigner.create("p256")
        self.messages = RentalMessages(chain_id=chain_id, contract=escrow)
        self.now, self.meter, self.condition, self.openings = now, 1000, keccak256(b"photo"), 0
        self.lock = self.switched_on()

    def switched_on(self):
        """A lock on the journal as it lies; the one before must be gone."""
        hardware = LockHardware(unlock=self.unlock, condition=lambda: self.condition, meter=lambda: self.meter)
        return Lock.open(
            self.path, signer=self.signer, owner=self.owner.address, policy=self.policy, hardware=hardware,
            clock=lambda: self.now,
        )  # fmt: skip

    def unplugged(self):
        """The power fails and comes back."""
        self.lock.close()
        self.lock = self.switched_on()
        return self.lock

    def unlock(self):
        self.openings += 1

    def terms(self, key, **changes):
        x, y = LocalSigner.from_secret(key).public_point
        given = {
            "owner": self.owner.address, "token": bytes(20), "fee": 5, "rate": 2, "meter_cap": 100, "deposit": 50,
            "device": device_id(self.signer.signer_bytes), "signer_hash": keccak256(self.signer.signer_bytes),
            "arbiter": bytes(20), "key_x": x, "key_y": y, "start": self.START, "end": self.END, "grace": 600,
            "claim_window": 600, "reply_window": 600, "ruling_window": 600, "terms": bytes(32), "salt": 1,
        }  # fmt: skip
        return Terms(**given | changes)

    def slot(self, key, *, signed_by=None, **changes):
        terms = self.terms(key, **changes)
        signature = (signed_by or self.owner).sign_digest(self.messages.terms_id(terms))
        return Slot(self.messages.chain_id, self.messages.contract, terms, signature)

    def rent(self, **changes):
        """Program a slot and return the renter's key to it."""
        secret = LocalSigner.create().secret
        slot = self.slot(secret, **changes)
        return AccessKey(slot.terms.device, self.lock.program(slot), secret)

    def try_it(self, key, purpose=Purpose.OPEN):
        """Ask, sign, answer: what the renter's phone does."""
        return self.lock.answer(key.answer(self.lock.challenge(key.terms_id, purpose)))


@pytest.fixture
def door(tmp_path):
    made = []

    def make(**options):
        made.append(Door(tmp_path / f"door-{len(made)}.lock", **options))
        return made[-1]

    yield make
    for one in made:
        one.lock.close()


class House:
    """An owner with a device, a renter and an arbiter, fresh and with money on a chain, and how they rent."""

    FEE, RATE, CAP, DEPOSIT, HOUR = 500_000, 100_000, 1_000_000, 5_000_000, 3600
    PRICE = FEE + CAP + DEPOSIT
    _numbers = itertools.count()

    def __init__(self, chain, *, curve="p256"):
        self.chain = chain
        name = f"house{next(self._numbers)}-{chain.block_number()}"
        self.owner = Machine.create(chain, f"{name}-owner", curve=curve)
        self.renter = Machine.create(chain, f"{name}-renter")
        self.arbiter = Machine.create(chain, f"{name}-arbiter")

    def ask(self, **changes):
        now = self.owner.rentals.clerk.now()
        given = {
            "document": RentalDocument("Bay 7", unit="kWh"), "start": now, "end": now + self.HOUR, "fee": self.FEE,
            "rate": self.RATE, "meter_cap": self.CAP, "deposit": self.DEPOSIT, "arbiter": self.arbiter.address,
        }  # fmt: skip
        return RentalAsk(**given | changes)

    def offer(self, **changes):
        return self.owner.rentals.offer(self.ask(**changes), again=True)

    def say(self, statement):
        """What the owner's device signs."""
        with self.chain.home.keyring.device(self.owner.name) as device:
            return self.owner.rentals.clerk.messages.sign(statement, device)

    def active(self, **changes):
        opened = self.renter.rentals.open(self.offer(**changes))
        self.owner.rentals.hand_over(opened.id)
        return self.renter.rentals.get(opened.id)

    def checked_out(self, *, units=7, **changes):
        rental = self.active(**changes)
        return self.renter.rentals.show_statement(self.say(CheckOut(rental.terms_id, self.chain.now(), units)))

    def pass_deadline(self, rental, *, but=0):
        """Let the chain's clock pass the deadline of the rental's present state, or come near it."""
        deadline = self.renter.rentals.get(rental.id).deadline
        self.chain.increase_time(deadline - but - self.chain.now())

    def credits(self):
        return self.owner.rentals.credit(), self.renter.rentals.credit()

    def step(self, machine):
        """Let a machine's loop do one step, and return what it did; what awaits a person is no deed."""
        return [action.kind for action in machine.rentals.serve(once=True) if not action.awaits_a_person]


@pytest.fixture
def house(devnet):
    return House(devnet)


@pytest.fixture
def funded(devnet):
    """Return a function that makes an account with some ether."""

    def make():
        account = devnet.account(LocalSigner.create())
        devnet.fund(account, ether=5)
        return account

    return make


@pytest.fixture
def owner(funded):
    return funded()


@pytest.fixture
def stranger(funded):
    return funded()


@pytest.fixture
def devices(devnet, owner):
    """The registry as a device's owner uses it."""
    return Devices(devnet, account=owner)


@pytest.fixture(params=["secp256k1", "p256"])
def sensor(request):
    return LocalSigner.create(request.param)


PIN = "271828"
MODULES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


class Token:
    """A token of its own; calling it gives the place of the key with a label."""

    def __init__(self, module):
        self.module = module

    def __call__(self, label):
        return Pkcs11Key(self.module, "door", label)

    def uri(self, label):
        return f"pkcs11:token=door;object={label}?module-path={self.module}"


def module_path():
    """Return SoftHSM2's module; a machine without it fails here and is told what to do."""
    assert shutil.which("softhsm2-util"), "SoftHSM2 is missing: apt install softhsm2 (scripts/test does it as root)"
    found = [path for root in MODULES for path in Path(root).rglob("libsofthsm2.so")]
    assert found, "softhsm2-util is there, but no libsofthsm2.so"
    return str(found[0])


@pytest.fixture(scope="session")
def token(tmp_path_factory):
    """A fresh token. The module reads its configuration once a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patch.setenv("PYIOT_PKCS11_PIN", PIN)
        command = ["softhsm2-util", "--init-token", "--free", "--label", "door", "--pin", PIN, "--so-pin", "31415926"]
        subprocess.run(command, check=True, capture_output=True)
        yield Token(module_path())


@pytest.fixture(scope="session")
def mock_code():
    """The creation code of a contract that is there for tests alone; compiled where it is missing."""
    root = Path(__file__).resolve().parents[1]

    def code(name):
        path = root / ".build" / "artifacts" / f"{name}.json"
        if not path.exists():
            subprocess.run([sys.executable, root / "scripts" / "tools" / "compile_contracts.py", "--all"], check=True)
        return bytes.fromhex(json.loads(path.read_text())["bytecode"].removeprefix("0x"))

    return code


READING_SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))


@pytest.fixture(scope="session")
def measure():
    """Return a function that lets a machine's device measure some degrees, one a second."""

    def measure_some(machine, count, *, schema=READING_SCHEMA):
        keyring, entry = machine.chain.home.keyring, machine.chain.home.keyring.entry(machine.name)
        folder = machine.chain.home.journals / entry.device.hex()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{0:020d}-{'00' * 32}.readings"
        with ReadingJournal.open(path, device=entry.device, schema=schema, curve=entry.curve) as journal:
            first = len(journal)
            rows = [(1_700_000_000_000 + 1000 * n, schema.fix([20 + n % 10])) for n in range(first, first + count)]
            return journal.sign_many(keyring.device(machine.name), rows)

    return measure_some
