"""Bundles: made, fetched, checked and opened; and what a stranger's bundle may try."""

import contextlib
import dataclasses
import functools
import http.server
import io
import json
import os
import threading
from dataclasses import replace

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyiot_evm.device.reading import Reading
from pyiot_evm.device.schema import Field, Schema
from pyiot_evm.device.signers import LocalSigner
from pyiot_evm.exceptions import InputError, TransportError, VerificationError
from pyiot_evm.hashing import keccak256
from pyiot_evm.market.bundle import MAGIC, PREAMBLE_SIZE, Bundle, BundleHeader
from pyiot_evm.market.datasets import Table
from pyiot_evm.market.fetch import FetchPolicy
from pyiot_evm.market.key_release import ContentKey
from pyiot_evm.market.metadata import Metadata, Statistics
from pyiot_evm.market.offers import blank_offer
from pyiot_evm.market.packing import Place, file_metadata, seal_file, seal_readings, unseal_bytes, unseal_file
from pyiot_evm.market.rules import RuleParams, SignedReadingRule
from pyiot_evm.market.sealing import seal_leaves, sealed_leaf
from pyiot_evm.market.verification import (
    FalseClaimWarning,
    PurchasePolicy,
    check_bundle,
    check_chain,
    check_offer,
    disclose,
    find_fraud,
    open_readings,
    rule_of,
)
from pyiot_evm.merkle import root_of, verify_proof
from pyiot_evm.types import Address, Bytes32

PLACE = Place(chain_id=31337, market=Address(b"\x0a" * 20))
RULE = Address(b"\x0b" * 20)
RULES = {RULE: SignedReadingRule.from_params}
SCHEMA = Schema((Field("value", unit="%", scale=2),))
DATA = os.urandom(10_000)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def draft(**changes):
    return replace(blank_offer(seller=b"\x01" * 20, token=b"\x02" * 20, price=500_000), **changes)


def signed(signer, count=5, *, schema=SCHEMA):
    readings, prev = [], bytes(32)
    for seq in range(count):
        values = (seq * 10 - 20,)
        readings.append(Reading.sign(signer, seq=seq, time=1000 + seq, schema=schema.hash, values=values, prev=prev))
        prev = readings[-1].digest
    return readings


@dataclasses.dataclass
class Packed:
    path: object
    key: ContentKey
    offer: object
    readings: list = dataclasses.field(default_factory=list)

    def open(self):
        return Bundle.open_own(self.path)

    def check(self, bundle, **options):
        return check_bundle(bundle, self.offer, PLACE, rules=RULES, **options)


@pytest.fixture
def blob(tmp_path):
    (tmp_path / "data.bin").write_bytes(DATA)
    key = ContentKey.create()
    metadata = file_metadata(tmp_path / "data.bin", title="Data")
    path = tmp_path / "blob.pyiot"
    offer = seal_file(tmp_path / "data.bin", path, key=key, draft=draft(), metadata=metadata, place=PLACE)
    return Packed(path, key, offer)


def pack_readings(path, readings, signer, *, params=None, leaves=None, metadata=None):
    key = ContentKey.create()
    params = (params or RuleParams.of(readings, signer.signer_bytes)).encode()
    leaves = leaves or [reading.leaf() for reading in readings]
    metadata = metadata or Table.from_readings(readings, SCHEMA).metadata(title="Readings")
    offer = seal_readings(
        leaves, path, key=key, draft=draft(rule=RULE), rule_params=params, metadata=metadata, place=PLACE
    )
    return Packed(path, key, offer, readings)


@pytest.fixture(params=["secp256k1", "p256"])
def series(request, tmp_path):
    signer = LocalSigner.create(request.param)
    return pack_readings(tmp_path / "readings.pyiot", signed(signer), signer)


# MAKE AND OPEN


def test_seal_file__when_unsealed__gives_the_same_bytes(blob, tmp_path):
    with blob.open() as bundle:
        assert blob.check(bundle) is None
        assert find_fraud(bundle, blob.key, None) is None
        unseal_file(bundle, blob.key, tmp_path / "copy.bin")
        assert unseal_bytes(bundle, blob.key) == DATA
    assert (tmp_path / "copy.bin").read_bytes() == DATA


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 5000))
def test_seal_file__when_any_size__comes_back(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "any").write_bytes(data)
    key, metadata = ContentKey.create(), file_metadata(tmp_path / "any")
    seal_file(tmp_path / "any", tmp_path / "any.pyiot", key=key, draft=draft(), metadata=metadata, place=PLACE)
    with Bundle.open_own(tmp_path / "any.pyiot") as bundle:
        assert unseal_bytes(bundle, key) == data


def test_seal_file__when_sealed_again_with_the_same_key__makes_the_same_bundle(blob, tmp_path):
    first = blob.path.read_bytes()
    same = {"draft": draft(salt=blob.offer.salt), "metadata": file_metadata(tmp_path / "data.bin", title="Data")}
    seal_file(tmp_path / "data.bin", blob.path, key=blob.key, place=PLACE, **same)
    assert blob.path.read_bytes() == first


def test_seal_file__when_complete__fills_in_what_comes_from_the_data(blob):
    with blob.open() as bundle:
        offer = blob.offer
        assert offer == bundle.offer
        assert (offer.key_x, offer.key_y) == blob.key.point
        assert offer.leaf_count == 10 == len(bundle)
        assert offer.terms == bundle.metadata.hash
        assert offer.rule_params_hash == keccak256(b"")
        assert offer.sealed_root == bundle.sealed_root()


def test_seal_file__when_the_file_changes_meanwhile__leaves_nothing_behind(tmp_path):
    (tmp_path / "f").write_bytes(DATA)
    metadata = file_metadata(tmp_path / "f")
    for changed in (DATA + b"more", DATA[:-1], DATA[:5000]):
        (tmp_path / "f").write_bytes(changed)
        with pytest.raises(InputError, match="changed while it was sealed"):
            seal_file(
                tmp_path / "f", tmp_path / "b", key=ContentKey.create(), draft=draft(), metadata=metadata, place=PLACE
            )
    assert names(tmp_path) == ["f"]


def test_seal_file__when_it_is_stopped__leaves_the_old_bundle(blob, tmp_path):
    before = blob.path.read_bytes()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_file(
            tmp_path / "data.bin", blob.path, key=ContentKey.create(), draft=draft(),
            metadata=file_metadata(tmp_path / "data.bin"), place=PLACE, progress=stop,
        )  # fmt: skip
    assert blob.path.read_bytes() == before
    assert names(tmp_path) == ["blob.pyiot", "data.bin"]


def test_seal_file__when_a_rule_is_asked_for__raises(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    metadata = file_metadata(tmp_path / "f")
    with pytest.raises(InputError, match="a file has no rule"):
        seal_file(
            tmp_path / "f",
            tmp_path / "b",
            key=ContentKey.create(),
            draft=draft(rule=RULE),
            metadata=metadata,
            place=PLACE,
        )


def test_file_metadata__when_empty_or_absent__raises(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="a file of 0 bytes cannot be sold"):
        file_metadata(tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be read"):
        file_metadata(tmp_path / "absent")


def test_seal_readings__when_opened__gives_the_same_readings(series):
    with series.open() as bundle:
        rule = series.check(bundle)
        assert find_fraud(bundle, series.key, rule) is None
        readings = open_readings(bundle, series.key)
    assert readings == series.readings
    assert check_chain(readings, bytes(32)) is None
    assert check_chain(readings) is None


@pytest.mark.parametrize("change", ["longer", "shorter", "missing", "more", "none"])
def test_seal_readings__when_leaves_do_not_fit__raises(tmp_path, change):
    signer = LocalSigner.create()
    readings = signed(signer)
    leaves = [reading.leaf() for reading in readings]
    bad = {
        "longer": [*leaves[:-1], leaves[-1] + b"x"],
        "shorter": [leaves[0], leaves[1][:-1], *leaves[2:]],
        "missing": leaves[:-1],
        "more": [*leaves, leaves[-1]],
        "none": iter(()),
    }[change]
    with pytest.raises(InputError):
        pack_readings(tmp_path / "b", readings, signer, leaves=bad)
    assert not (tmp_path / "b").exists()


def test_progress__when_sealed_and_checked__reaches_the_end(blob):
    seen = []
    with blob.open() as bundle:
        blob.check(bundle, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 10)
    assert seen[-1] == (10, 10)


def test_leaf__when_any_index__equals_the_record(blob):
    with blob.open() as bundle:
        records = list(bundle.records())
        assert [bundle.leaf(index) for index in range(len(bundle))] == records
        assert list(bundle.records(first=7)) == records[7:]
        for index in (-1, len(bundle)):
            with pytest.raises(InputError, match=f"there is no leaf {index}"):
                bundle.leaf(index)


def test_proof__when_any_index__verifies_under_the_offers_root(blob):
    with blob.open() as bundle:
        for index in range(len(bundle)):
            leaf_hash, sealed = bundle.leaf(index)
            hashed = sealed_leaf(index, sealed, leaf_hash)
            assert verify_proof(hashed, index, len(bundle), bundle.proof(index), blob.offer.sealed_root)


def test_disclose__when_asked__has_what_the_contract_takes(series):
    with series.open() as bundle:
        disclosure = disclose(bundle, series.key, 3)
        assert (disclosure.leaf_hash, disclosure.sealed_leaf) == bundle.leaf(3)
    assert disclosure.content_key == int(series.key)
    assert keccak256(disclosure.rule_params) == series.offer.rule_params_hash


def test_unseal_file__when_it_holds_readings__raises(series, tmp_path):
    with series.open() as bundle:
        with pytest.raises(InputError, match="holds readings"):
            unseal_file(bundle, series.key, tmp_path / "x")
        with pytest.raises(InputError, match="holds readings"):
            unseal_bytes(bundle, series.key)


def test_open_readings__when_it_holds_a_file__raises(blob):
    with blob.open() as bundle, pytest.raises(InputError, match="holds a file"):
        open_readings(bundle, blob.key)


# FETCH


@pytest.fixture
def web(tmp_path):
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_open__when_on_the_web__fetches_and_opens(blob, web, tmp_path):
    policy = FetchPolicy(allow_private_hosts=True)
    with Bundle.open(f"{web}/blob.pyiot", policy) as bundle:
        assert bundle.path is None
        assert unseal_bytes(bundle, blob.key) == DATA
    with Bundle.open(f"{web}/blob.pyiot", policy, into=tmp_path / "kept" / "b") as bundle:
        assert bundle.path == tmp_path / "kept" / "b"
        assert unseal_bytes(bundle, blob.key) == DATA
    assert names(tmp_path / "kept") == ["b"]


def test_open__when_in_memory__fetches_and_opens(blob):
    fsspec.filesystem("memory").pipe_file("/bundles/blob.pyiot", blob.path.read_bytes())
    with Bundle.open("memory://bundles/blob.pyiot", FetchPolicy.local()) as bundle:
        assert unseal_bytes(bundle, blob.key) == DATA


def test_fetch__when_local__makes_a_copy_of_ones_own(blob, tmp_path):
    Bundle.fetch(blob.path, FetchPolicy.local(tmp_path), into=tmp_path / "own")
    blob.path.write_bytes(b"gone")
    with Bundle.open_own(tmp_path / "own") as bundle:
        assert unseal_bytes(bundle, blob.key) == DATA


def test_open__when_the_policy_is_left_out__reads_no_local_file(blob):
    with pytest.raises(InputError, match="the scheme file is not allowed"):
        Bundle.open(blob.path)


# HOSTILE BYTES


def rewrite(packed, **changes):
    """Give the bundle another header, as a hostile seller would."""
    data = packed.path.read_bytes()
    length = int.from_bytes(data[12:16], "big")
    document = {**json.loads(data[16 : 16 + length]), **changes}
    header = json.dumps(document).encode()
    packed.path.write_bytes(data[:12] + len(header).to_bytes(4, "big") + header + data[16 + length :])


def test_open__when_cut_off_anywhere__raises(blob):
    data = blob.path.read_bytes()
    for size in (0, 1, 7, 8, 15, 16, 17, 200, len(data) - 1):
        blob.path.write_bytes(data[:size])
        with pytest.raises(VerificationError):
            blob.open()


def test_open__when_something_is_appended__raises(blob):
    size = blob.path.stat().st_size
    with blob.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(VerificationError, match=f"has {size + 1} bytes, not {size} as its header says"):
        blob.open()


@pytest.mark.parametrize(
    ("preamble", "message"),
    [
        (b"PK\x03\x04" + bytes(12), "does not begin like one"),
        (MAGIC + bytes([0, 0, 0, 2]) + bytes(4), "format 2, which this version cannot read"),
        (MAGIC + bytes([0, 0, 0, 1]) + b"\xff\xff\xff\xff", "header has 4294967295 bytes"),
    ],
)
def test_open__when_the_preamble_is_wrong__raises(blob, preamble, message):
    blob.path.write_bytes(preamble + blob.path.read_bytes()[16:])
    with pytest.raises(VerificationError, match=message):
        blob.open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leafSize": 4097}, "they have 1 to 4096"),
        ({"leafSize": 0}, "they have 1 to 4096"),
        ({"leafSize": -5}, "not a uint32"),
        ({"leafSize": "x"}, "not a uint32"),
        ({"lastLeafSize": 2000}, "they have 1 to 4096"),
        ({"lastLeafSize": 0}, "they have 1 to 4096"),
        ({"leafSize": 1041}, "as its header says"),
        ({"chainId": -1}, "not a uint256"),
        ({"market": "0x00"}, "not hex of 20 bytes"),
        ({"kind": "readings"}, "differ in kind"),
        ({"kind": []}, "differ in kind"),
        ({"format": "tar"}, "not a bundle's header"),
        ({"surprise": 1}, "not a bundle's header"),
        ({"metadata": []}, "the metadata is no object"),
        ({"metadata": {}}, "not a metadata document"),
        ({"offer": {}}, "exactly the fields"),
        ({"ruleParams": "0x0"}, "not hex of any length"),
    ],
)
def test_open__when_the_header_is_nonsense__raises(blob, change, message):
    rewrite(blob, **change)
    with pytest.raises(VerificationError, match=message):
        blob.open()


def test_open__when_the_leaf_count_is_a_bomb__reads_no_body(blob):
    with blob.open() as bundle:
        fields = {**json.loads(bundle.header.encode()[16:])["offer"], "leafCount": (1 << 32) - 1}
    rewrite(blob, offer=fields)
    with pytest.raises(VerificationError, match="more than 8589934592"):
        Bundle.open(blob.path, FetchPolicy.local(blob.path.parent))


def test_open__when_there_are_no_leaves__raises(blob):
    with blob.open() as bundle:
        fields = {**json.loads(bundle.header.encode()[16:])["offer"], "leafCount": 0}
    rewrite(blob, offer=fields)
    with pytest.raises(VerificationError, match="the bundle has no leaves"):
        blob.open()


class Endless(io.RawIOBase):
    """A body that begins like a bundle and never ends."""

    def __init__(self, data):
        self.data, self.given = io.BytesIO(data), 0

    def read(self, size=-1):
        self.given += size
        return self.data.read(size) or bytes(size)


@pytest.mark.parametrize("begin", [b"", b"not a bundle"])
def test_fetch__when_an_endless_body_is_no_bundle__stops_at_once(tmp_path, monkeypatch, begin):
    body = Endless(begin)
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "open", lambda *_, **__: body)
    with pytest.raises(VerificationError, match="does not begin like one"):
        Bundle.fetch("memory://endless", FetchPolicy.local(), into=tmp_path / "copy")
    assert body.given <= 1 << 17
    assert not names(tmp_path)


def test_fetch__when_the_body_goes_on_after_the_bundle__stops_at_once(blob, tmp_path, monkeypatch):
    body = Endless(blob.path.read_bytes())
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "open", lambda *_, **__: body)
    with pytest.raises(VerificationError, match="longer than the"):
        Bundle.fetch("memory://endless", FetchPolicy.local(), into=tmp_path / "copy")
    assert body.given <= 1 << 18


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_open__when_any_byte_is_changed__fails_before_the_payment_or_changes_no_leaf(blob, data):
    """Whatever a stranger changes in a bundle, the checks before the payment find it or it does not matter."""
    good = blob.path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.integers(1, 255))
    blob.path.write_bytes(good[:at] + bytes([good[at] ^ value]) + good[at + 1 :])
    with contextlib.suppress(VerificationError), blob.open() as bundle:
        blob.check(bundle)
        assert unseal_bytes(bundle, blob.key) == DATA
    blob.path.write_bytes(good)


def test_leaf__when_the_file_is_cut_off_while_it_is_open__raises(blob):
    with blob.open() as bundle:
        os.truncate(blob.path, 2000)
        with pytest.raises(TransportError, match="cut off while it was read"):
            bundle.leaf(9)
        with pytest.raises(TransportError, match="cut off while it was read"):
            list(bundle.records())


# BEFORE PAYING


def test_check_bundle__when_of_another_offer_chain_or_market__raises(blob):
    with blob.open() as bundle:
        for offer, place in (
            (replace(blob.offer, price=1), PLACE),
            (blob.offer, Place(1, PLACE.market)),
            (blob.offer, Place(31337, RULE)),
        ):
            with pytest.raises(VerificationError, match="the bundle is of offer"):
                check_bundle(bundle, offer, place, rules=RULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_x": 5}, "key is not on the curve"),
        ({"dispute_window": 599}, "gives 599 seconds to dispute, less than 600"),
        ({"reveal_window": 172_801}, "windows of 172801 and 3600 seconds are longer"),
        ({"dispute_window": 1_209_601}, "windows of 1800 and 1209601 seconds are longer"),
        ({"terms": Bytes32(b"\x01" * 32)}, "the metadata has the hash"),
        ({"rule_params_hash": Bytes32(b"\x01" * 32)}, "does not hold the preimage"),
        ({"rule": Address(b"\x66" * 20)}, "is not one whose code is known"),
        ({"sealed_root": Bytes32(b"\x01" * 32)}, "the leaves have the root"),
    ],
)
def test_check_bundle__when_the_offer_could_not_be_disputed__raises(blob, change, message):
    blob.offer = replace(blob.offer, **change)
    with blob.open() as bundle:
        changed = BundleHeader(**{**_fields(bundle.header), "offer": blob.offer})
    _replace_header(blob, changed)
    with blob.open() as bundle, pytest.raises(VerificationError, match=message):
        blob.check(bundle)


def _fields(header):
    return {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}


def _replace_header(packed, header):
    data = packed.path.read_bytes()
    length = int.from_bytes(data[12:16], "big")
    packed.path.write_bytes(header.encode() + data[PREAMBLE_SIZE + length :])


def test_check_bundle__when_the_policy_allows_it__takes_a_short_window(blob):
    blob.offer = replace(blob.offer, dispute_window=300)
    with blob.open() as bundle:
        changed = BundleHeader(**{**_fields(bundle.header), "offer": blob.offer})
    _replace_header(blob, changed)
    with blob.open() as bundle:
        assert blob.check(bundle, policy=PurchasePolicy(min_dispute_window=300)) is None


def test_check_bundle__when_the_registry_says_no__raises(series):
    asked = []

    def is_signer_at(device, signer, time):
        asked.append((device, signer, time))
        return len(asked) == 1

    with series.open() as bundle, pytest.raises(VerificationError, match="was not device"):
        series.check(bundle, is_signer_at=is_signer_at)
    promise = RuleParams.decode(bundle.rule_params)
    assert asked == [(promise.device, promise.signer, 1), (promise.device, promise.signer, 1)]


def _of(signer, /, **changes):
    return replace(RuleParams.of(signed(signer), signer.signer_bytes), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signer": bytes(20)}, "name no device signer"),
        ({"signer": b"\x01" * 84}, "name no device signer"),
        ({"signer": b"\x01" * 21}, "name no device signer"),
        ({"schema": bytes(32)}, "the schema is not the one"),
        ({"minimum": (), "maximum": ()}, "the rule bounds 0 values"),
        ({"maximum": (1, 2)}, "the rule bounds 1 values"),
        ({"t0": 1001}, "says times from 1000 to 1004, the rule promises 1001 to 1004"),
        ({"t1": 1003}, "the rule promises 1000 to 1003"),
        ({"t0": 0, "t1": (1 << 64) - 1}, "the rule promises 0 to 18446744073709551615"),
        ({"minimum": (-(1 << 127),)}, "says value from -0.2 to 0.2, the rule promises"),
        ({"maximum": (21,)}, "the rule promises -0.2 to 0.21"),
    ],
)
def test_check_bundle__when_the_promise_does_not_fit_the_metadata__raises(tmp_path, changes, message):
    signer = LocalSigner.create()
    packed = pack_readings(tmp_path / "b", signed(signer), signer, params=_of(signer, **changes))
    with packed.open() as bundle, pytest.raises(VerificationError, match=message):
        packed.check(bundle)


def test_check_bundle__when_the_promise_is_of_another_curve__raises(tmp_path):
    signer, other = LocalSigner.create(), LocalSigner.create("p256")
    packed = pack_readings(tmp_path / "b", signed(signer), signer, params=_of(signer, signer=other.signer_bytes))
    with packed.open() as bundle, pytest.raises(VerificationError, match="leaves have 145 bytes, not 144"):
        packed.check(bundle)


def test_check_bundle__when_readings_are_offered_without_a_rule__raises(tmp_path):
    signer = LocalSigner.create()
    readings, key = signed(signer), ContentKey.create()
    metadata = Table.from_readings(readings, SCHEMA).metadata(title="x")
    leaves = [reading.leaf() for reading in readings]
    offer = seal_readings(
        leaves, tmp_path / "b", key=key, draft=draft(), rule_params=b"", metadata=metadata, place=PLACE
    )
    with Bundle.open_own(tmp_path / "b") as bundle, pytest.raises(VerificationError, match="without a rule"):
        check_bundle(bundle, offer, PLACE, rules=RULES)


def test_check_bundle__when_the_size_is_a_lie__raises(tmp_path):
    key, metadata = ContentKey.create(), Metadata(kind="blob", title="x", size=3000)
    (tmp_path / "f").write_bytes(bytes(3000))
    seal_file(tmp_path / "f", tmp_path / "b", key=key, draft=draft(), metadata=metadata, place=PLACE)
    with Bundle.open_own(tmp_path / "b") as bundle:
        lie = replace(metadata, size=2999)
        offer = replace(bundle.offer, terms=lie.hash)
        header = BundleHeader(**{**_fields(bundle.header), "offer": offer, "metadata": lie})
    packed = Packed(tmp_path / "b", key, offer)
    _replace_header(packed, header)
    with packed.open() as bundle, pytest.raises(VerificationError, match="do not hold the 2999 bytes"):
        packed.check(bundle)


def test_rule_of__when_the_parameters_are_not_canonical__raises():
    params = RuleParams(b"\x01" * 20, bytes(32), bytes(32), 0, 0, 1, (1,), (2,)).encode()
    loose = params + bytes(32)
    offer = draft(rule=RULE, rule_params_hash=Bytes32(keccak256(loose)))
    with pytest.raises(VerificationError, match="not in their canonical encoding"):
        rule_of(offer, loose, RULES)


# AFTER THE REVEAL


def reseal(packed, leaves):
    """Seal other leaves under the same terms, as a cheat does: the root fits, the promise does not."""
    records = list(seal_leaves(packed.key, leaves))
    _put(packed, records)


def _put(packed, records):
    root = root_of(sealed_leaf(index, c, h) for index, (h, c) in enumerate(records))
    packed.offer = replace(packed.offer, sealed_root=Bytes32(root))
    with packed.open() as bundle:
        header = BundleHeader(**{**_fields(bundle.header), "offer": packed.offer})
    packed.path.write_bytes(header.encode() + b"".join(h + c for h, c in records))


@pytest.mark.parametrize("index", [0, 2, 4])
def test_find_fraud__when_a_ciphertext_is_garbage__names_the_leaf(series, index):
    with series.open() as bundle:
        records = list(bundle.records())
    records[index] = (records[index][0], os.urandom(len(records[index][1])))
    _put(series, records)
    with series.open() as bundle:
        rule = series.check(bundle)
        fraud = find_fraud(bundle, series.key, rule)
        with pytest.raises(VerificationError, match=f"leaf {index} does not decrypt"):
            open_readings(bundle, series.key)
    assert (fraud.index, fraud.kind) == (index, "hash")


CHEATS = {
    "forged value": (lambda r, s: _resign(r, s, 2, values=(-21,)), 2, "value 0 is -21, not from -20 to 20"),
    "gap": (lambda r, _: [*r[:2], *r[3:], r[4]], 2, "the sequence number is 3, not 2"),
    "duplicate": (lambda r, _: [r[0], r[0], *r[1:4]], 1, "the sequence number is 0, not 1"),
    "reorder": (lambda r, _: [r[0], r[2], r[1], *r[3:]], 1, "the sequence number is 2, not 1"),
    "too early": (lambda r, s: _resign(r, s, 3, time=999), 3, "the time 999 is not from 1000 to 1004"),
    "too late": (lambda r, s: _resign(r, s, 3, time=1005), 3, "the time 1005 is not from 1000 to 1004"),
    "another device's": (lambda r, s: _resign(r, LocalSigner.create(s.curve), 4), 4, "the signature is not"),
    "altered after signing": (lambda r, _: [replace(r[0], values=(-19,)), *r[1:]], 0, "the signature is not"),
}


def _resign(readings, signer, index, **changes):
    fields = {"seq": index, "time": readings[index].time, "values": readings[index].values, **changes}
    old = readings[index]
    new = Reading.sign(signer, schema=old.schema, prev=old.prev, device=old.device, **fields)
    return [*readings[:index], new, *readings[index + 1 :]]


@pytest.mark.parametrize("cheat", CHEATS)
@pytest.mark.parametrize("curve", ["secp256k1", "p256"])
def test_find_fraud__when_a_leaf_breaks_the_rule__names_it_and_why(tmp_path, curve, cheat):
    signer = LocalSigner.create(curve)
    packed = pack_readings(tmp_path / "b", signed(signer), signer)
    change, index, reason = CHEATS[cheat]
    reseal(packed, [reading.leaf() for reading in change(packed.readings, signer)])
    with packed.open() as bundle:
        fraud = find_fraud(bundle, packed.key, packed.check(bundle))
    assert (fraud.index, fraud.kind) == (index, "rule")
    assert reason in fraud.reason


def test_find_fraud__when_the_copy_changed_since_the_check__raises(series):
    with series.open() as bundle:
        rule = series.check(bundle)
    data = bytearray(series.path.read_bytes())
    data[-1] ^= 1
    series.path.write_bytes(data)
    with series.open() as bundle, pytest.raises(VerificationError, match="the leaves have the root"):
        find_fraud(bundle, series.key, rule)


def test_find_fraud__when_the_key_is_wrong__blames_the_first_leaf(series):
    with series.open() as bundle:
        assert find_fraud(bundle, ContentKey.create(), series.check(bundle)).index == 0


def test_unseal_file__when_a_chunk_is_garbage__writes_nothing(blob, tmp_path):
    with blob.open() as bundle:
        records = list(bundle.records())
    records[9] = (records[9][0], bytes(len(records[9][1])))
    _put(blob, records)
    with blob.open() as bundle:
        assert find_fraud(bundle, blob.key, blob.check(bundle)).index == 9
        with pytest.raises(VerificationError, match="leaf 9 does not decrypt"):
            unseal_file(bundle, blob.key, tmp_path / "out" / "x")
    assert not names(tmp_path / "out")


def test_check_chain__when_a_reading_does_not_name_the_one_before__gives_its_position(series):
    readings = series.readings
    assert check_chain([*readings[:2], replace(readings[2], prev=bytes(32)), *readings[3:]]) == 2
    assert check_chain(readings, b"\x01" * 32) == 0


def test_open_readings__when_the_chain_is_broken__warns_and_gives_them(tmp_path):
    """No rule sees two leaves at once: a seller who replaced a journal cannot be disputed, but is told on."""
    signer = LocalSigner.create()
    readings = signed(signer)
    readings[3] = Reading.sign(signer, seq=3, time=1003, schema=SCHEMA.hash, values=(10,), prev=bytes(32))
    packed = pack_readings(tmp_path / "b", readings, signer)
    with packed.open() as bundle:
        assert find_fraud(bundle, packed.key, packed.check(bundle)) is None
        with pytest.warns(FalseClaimWarning, match="reading 3 does not name the one before it"):
            assert open_readings(bundle, packed.key) == readings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": ((1000, -19),)}, "the free sample is not how the data begins"),
        ({"statistics": (Statistics("-0.2", "0.2", "0.1"),)}, "the statistics are not those of the data"),
    ],
)
def test_open_readings__when_the_metadata_lied__warns(tmp_path, change, message):
    signer = LocalSigner.create()
    readings = signed(signer)
    metadata = replace(Table.from_readings(readings, SCHEMA).metadata(title="Readings"), **change)
    packed = pack_readings(tmp_path / "b", readings, signer, metadata=metadata)
    with packed.open() as bundle:
        assert find_fraud(bundle, packed.key, packed.check(bundle)) is None
        with pytest.warns(FalseClaimWarning, match=message):
            open_readings(bundle, packed.key)


def test_leaf__when_the_bundle_is_closed__raises(blob):
    with blob.open() as bundle:
        pass
    with pytest.raises(InputError, match="the bundle is closed"):
        bundle.leaf(0)


def test_open_own__when_the_path_is_a_link__opens_what_it_names(blob, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(blob.path)
    with Bundle.open_own(tmp_path / "elsewhere" / "link") as bundle:
        assert len(bundle) == 10


@pytest.mark.parametrize("target", [".", "data.bin/below"])
def test_unseal_file__when_nothing_can_be_written_there__raises(blob, tmp_path, target):
    with blob.open() as bundle, pytest.raises(InputError, match=r"is a folder|cannot be written"):
        unseal_file(bundle, blob.key, tmp_path / target)


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_fetch__when_the_body_ends_too_early__leaves_nothing_behind(blob, tmp_path, kept):
    (tmp_path / "out").mkdir()
    blob.path.write_bytes(blob.path.read_bytes()[:kept])
    for into in (tmp_path / "out" / "copy", None):
        fsspec.filesystem("memory").pipe_file("/short", blob.path.read_bytes())
        with pytest.raises(VerificationError, match=r"end within its header|as its header says"):
            Bundle.open("memory://short", FetchPolicy.local(), into=into)
    assert not names(tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_bytes": 5000}, "more than 5000"), ({"max_header_bytes": 100}, "header has .* bytes, more than 100")],
)
def test_fetch__when_the_header_says_too_much__reads_no_body(blob, tmp_path, limits, message):
    with pytest.raises(VerificationError, match=message):
        Bundle.fetch(blob.path, FetchPolicy.local(tmp_path, **limits), into=tmp_path / "out" / "copy")
    assert not names(tmp_path / "out")


def test_check_bundle__when_the_rows_are_a_lie__raises(tmp_path):
    signer = LocalSigner.create()
    readings = signed(signer)
    packed = pack_readings(tmp_path / "b", readings, signer)
    with packed.open() as bundle:
        lie = replace(bundle.metadata, rows=6)
        packed.offer = replace(packed.offer, terms=lie.hash)
        header = BundleHeader(**{**_fields(bundle.header), "offer": packed.offer, "metadata": lie})
    _replace_header(packed, header)
    with packed.open() as bundle, pytest.raises(VerificationError, match="says 6 rows, the bundle has 5"):
        packed.check(bundle)


def test_check_bundle__when_a_file_comes_with_rule_parameters__raises(blob):
    """They would be sent along with a dispute; a megabyte of them would keep it from fitting a transaction."""
    params = bytes(100_000)
    blob.offer = replace(blob.offer, rule_params_hash=Bytes32(keccak256(params)))
    with blob.open() as bundle:
        changed = BundleHeader(**{**_fields(bundle.header), "offer": blob.offer, "rule_params": params})
    _replace_header(blob, changed)
    with blob.open() as bundle, pytest.raises(VerificationError, match="offered with a rule's parameters"):
        blob.check(bundle)


def test_disclose__when_the_leaf_is_garbage__needs_no_rule_parameters(series):
    with series.open() as bundle:
        records = list(bundle.records())
    records[1] = (records[1][0], bytes(len(records[1][1])))
    _put(series, records)
    with series.open() as bundle:
        assert disclose(bundle, series.key, 1).rule_params == b""
        assert disclose(bundle, series.key, 2).rule_params == bundle.rule_params


def test_check_offer__when_there_are_no_leaves__raises(blob):
    with pytest.raises(VerificationError, match="the offer has no leaves"):
        check_offer(replace(blob.offer, leaf_count=0))


@pytest.mark.parametrize("data", [b"", b"x", bytes(31), bytes(320), b"\xff" * 320])
def test_decode__when_rule_parameters_are_garbage__raises(data):
    with pytest.raises(VerificationError, match=r"cannot be read|canonical"):
        RuleParams.decode(data)


def test_encode__when_a_bound_does_not_fit__raises():
    params = RuleParams(bytes(20), bytes(32), bytes(32), 1 << 64, 0, 1, (), ())
    with pytest.raises(InputError, match="cannot be encoded"):
        params.encode()


def test_of__when_there_are_no_readings__raises():
    with pytest.raises(InputError, match="no readings to promise"):
        RuleParams.of([], bytes(20))


def test_seal_file__when_the_file_is_gone__raises(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    metadata = file_metadata(tmp_path / "f")
    (tmp_path / "f").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        seal_file(
            tmp_path / "f", tmp_path / "b", key=ContentKey.create(), draft=draft(), metadata=metadata, place=PLACE
        )
