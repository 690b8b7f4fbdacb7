"""Payers that spoil their own payment on its way: a used authorization is no proof that money moved."""

import secrets
import sys
import time
from pathlib import Path

import pytest
import requests
from eth_account import Account

from pyiot_evm import Machine, connect
from pyiot_evm.chain import Devnet
from pyiot_evm.chain.abi import encode
from pyiot_evm.chain.deployment import MULTICALL3, X402_CHANNELS, X402_COLLECTOR
from pyiot_evm.contracts.dev_dollar import DevDollar
from pyiot_evm.contracts.multicall3 import Call3, Multicall3
from pyiot_evm.contracts.payment_channels import PaymentChannels
from pyiot_evm.device import LocalSigner
from pyiot_evm.gateway.config import GatewayConfig
from pyiot_evm.gateway.proofs import Payment, payment_of
from pyiot_evm.gateway.server import Gateway
from pyiot_evm.gateway.signer import FacilitatorSigner
from pyiot_evm.payment.vouchers import config_of
from pyiot_evm.payment.x402_terms import deposit_nonce
from pyiot_evm.types import Address, Bytes32

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))
from gateway_kit import LATEST, client_for, dollars, headers_of, terms_of

CHANNELS = PaymentChannels(X402_CHANNELS)
SCHEMES = ["exact", "batch-settlement"]
FIELDS = {
    "TransferWithAuthorization": [
        ("from", "address"), ("to", "address"), ("value", "uint256"),
        ("validAfter", "uint256"), ("validBefore", "uint256"), ("nonce", "bytes32"),
    ],
    "CancelAuthorization": [("authorizer", "address"), ("nonce", "bytes32")],
}  # fmt: skip


@pytest.fixture(scope="module")
def devnet():
    """A devnet of its own: x402's clients go by the wall clock, and other tests move the shared chain's."""
    with Devnet() as chain:
        yield chain


@pytest.fixture(scope="module")
def gateway(devnet, measure):
    with Machine.create(devnet, "seller", curve="p256") as seller:
        measure(seller, 1)
        made = Gateway(seller, GatewayConfig(price_latest=LATEST))
        made.latest = f"{made.start()}/v1/devices/{seller.device}/latest"
        yield made
        made.close()


@pytest.fixture(scope="module")
def rushing(devnet):
    """The account by which calls get in before the gateway's."""
    with Machine.create(devnet, "rushing") as machine:
        yield machine.payments.payer.account


@pytest.fixture
def wallet(devnet):
    account = Account.from_key(secrets.token_bytes(32))
    devnet.fund(Address(account.address), dollars=10, ether=1)
    return account


@pytest.fixture
def rush(monkeypatch, rushing):
    """Have calls mined between a payment's verification and its settlement."""

    def prepare(*calls):
        settle = FacilitatorSigner.write_contract

        def late(signer, *arguments, **options):
            monkeypatch.setattr(FacilitatorSigner, "write_contract", settle)
            for call in calls:
                rushing.transact(call)
            return settle(signer, *arguments, **options)

        monkeypatch.setattr(FacilitatorSigner, "write_contract", late)

    return prepare


def signed(chain, wallet, kind, message):
    domain = {"name": "pyiot dev dollar", "version": "1", "chainId": chain.chain_id}
    types = {kind: [{"name": name, "type": type_} for name, type_ in FIELDS[kind]]}
    contract = {"verifyingContract": str(chain.token)}
    return Account.sign_typed_data(wallet.key, domain | contract, types, message)


def nothing(chain, wallet, nonce):
    """Return a transfer of nothing to oneself by the nonce of a payment."""
    me, before = Address(wallet.address), int(time.time()) + 3600
    parties = {"from": wallet.address, "to": wallet.address, "value": 0}
    message = parties | {"validAfter": 0, "validBefore": before, "nonce": nonce}
    signature = bytes(signed(chain, wallet, "TransferWithAuthorization", message).signature)
    return DevDollar(chain.token).transfer_with_authorization(me, me, 0, 0, before, Bytes32(nonce), signature)


def cancelled(chain, wallet, nonce):
    """Return the cancellation of a payment's nonce."""
    done = signed(chain, wallet, "CancelAuthorization", {"authorizer": wallet.address, "nonce": nonce})
    r, s = (Bytes32(part.to_bytes(32, "big")) for part in (done.r, done.s))
    return DevDollar(chain.token).cancel_authorization(Address(wallet.address), Bytes32(nonce), done.v, r, s)


def nonce_of(payment):
    if "authorization" in payment:
        return bytes.fromhex(payment["authorization"]["nonce"][2:])
    salt = payment["deposit"]["authorization"]["erc3009Authorization"]["salt"]
    return deposit_nonce(bytes.fromhex(payment["voucher"]["channelId"][2:]), int(salt, 16))


def payment_for(chain, wallet, url, scheme):
    payload = client_for(chain, wallet, scheme).create_payment_payload(terms_of(url))
    return payload.payload, headers_of(payload, "pay_" + secrets.token_hex(16))


@pytest.mark.parametrize("spoil", [nothing, cancelled])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_retry__when_the_payer_burnt_the_nonce_of_its_payment__gets_nothing(
    devnet, gateway, wallet, rush, scheme, spoil
):
    """A used nonce was taken as a payment: the second request was answered, and a deposit that never came charged."""
    payment, headers = payment_for(devnet, wallet, gateway.latest, scheme)
    rush(spoil(devnet, wallet, nonce_of(payment)))
    before = dollars(devnet, wallet.address)
    codes = [requests.get(gateway.latest, headers=headers, timeout=30).status_code for _ in range(3)]
    assert codes == [402, 402, 402]
    assert dollars(devnet, wallet.address) == before
    assert sum(charged_to(gateway, wallet)) == 0
    kept = gateway.payments.store.read("SELECT count(*) FROM answers WHERE payer = ?", wallet.address.lower())
    assert kept[0][0] == 0


def sent(chain, payment):
    """Return the call by which a payment's own money moves, whoever makes it."""
    if "authorization" in payment:
        parts = payment["authorization"]
        parties, value = (Address(parts["from"]), Address(parts["to"])), int(parts["value"])
        rest = int(parts["validAfter"]), int(parts["validBefore"]), Bytes32(parts["nonce"])
        signature = bytes.fromhex(payment["signature"][2:])
        return DevDollar(chain.token).transfer_with_authorization(*parties, value, *rest, signature)
    parts = payment["deposit"]["authorization"]["erc3009Authorization"]
    signature = bytes.fromhex(parts["signature"][2:])
    values = [int(parts["validAfter"]), int(parts["validBefore"]), int(parts["salt"], 16), signature]
    data = encode(["uint256", "uint256", "uint256", "bytes"], values)
    config, amount = config_of(payment["channelConfig"]), int(payment["deposit"]["amount"])
    return CHANNELS.deposit(config, amount, X402_COLLECTOR, data)


def leave(chain, wallet, call):
    """Send a call as the payer."""
    chain.account(LocalSigner.from_secret(bytes(wallet.key))).transact(call)


def exact_proof(chain, payment, at):
    proof = {name: payment["authorization"][name] for name in ("from", "to")}
    return proof | {
        "token": str(chain.token),
        "amount": str(LATEST),
        "nonce": nonce_of(payment).hex(),
        "at": str(at),
    }


def charged_to(gateway, wallet):
    return [c.charged for c in gateway.payments.payee.book.channels() if c.config.payer == Address(wallet.address)]


def test_retry__when_a_stranger_sent_the_payers_transfer_first__is_answered(devnet, gateway, wallet, rush):
    """The settlement fails, but the money came: by the very authorization that the gateway was shown."""
    payment, headers = payment_for(devnet, wallet, gateway.latest, "exact")
    rush(sent(devnet, payment))
    before = dollars(devnet, wallet.address)
    codes = [requests.get(gateway.latest, headers=headers, timeout=30).status_code for _ in range(3)]
    assert (codes[1:], before - dollars(devnet, wallet.address)) == ([200, 200], LATEST)


def test_retry__when_the_payer_made_its_deposit_first_and_leaves__gets_nothing(devnet, gateway, wallet, rush):
    """The deposit came, no voucher was taken for it, and it is on its way back."""
    payment, headers = payment_for(devnet, wallet, gateway.latest, "batch-settlement")
    rush(sent(devnet, payment))
    assert requests.get(gateway.latest, headers=headers, timeout=30).status_code == 402
    config, amount = config_of(payment["channelConfig"]), int(payment["deposit"]["amount"])
    leave(devnet, wallet, CHANNELS.initiate_withdraw(config, amount))
    codes = [requests.get(gateway.latest, headers=headers, timeout=30).status_code for _ in range(2)]
    assert (codes, sum(charged_to(gateway, wallet))) == ([402, 402], 0)


def test_proof__when_one_transaction_holds_two_payments_and_one_transfer__is_of_one(devnet, gateway, wallet, rushing):
    """The payer batches a payment with the burnt nonce of another one: a transfer proves the use before it only."""
    (paid, _), (burnt, _) = (payment_for(devnet, wallet, gateway.latest, "exact") for _ in range(2))
    calls = [nothing(devnet, wallet, nonce_of(burnt)), sent(devnet, paid)]
    rows = [Call3(call.to, allow_failure=False, call_data=call.data) for call in calls]
    at = devnet.block_number()
    rushing.transact(Multicall3(MULTICALL3).aggregate3(rows))
    proofs = [exact_proof(devnet, payment, at) for payment in (paid, burnt)]
    found = [payment_of(devnet, X402_CHANNELS, one) for one in proofs]
    assert found == [Payment.CONFIRMED, Payment.NONE]


def test_proof__when_the_block_may_still_go__is_not_final(devnet, gateway, wallet, rushing):
    payment, _ = payment_for(devnet, wallet, gateway.latest, "exact")
    proof = exact_proof(devnet, payment, devnet.block_number())
    careful = connect(devnet.url, home=devnet.home, confirmations=2)
    found = [payment_of(careful, X402_CHANNELS, proof)]
    rushing.transact(sent(devnet, payment))
    for _ in range(3):
        found.append(payment_of(careful, X402_CHANNELS, proof))
        devnet.mine(1)
    assert found == [Payment.NONE, Payment.SEEN, Payment.SEEN, Payment.CONFIRMED]
