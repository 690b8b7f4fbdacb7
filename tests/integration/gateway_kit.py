"""What the gateway's tests share: a device's journal, the x402 package's own clients, a gateway as a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests
from x402 import x402Client, x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.http.utils import decode_payment_required_header, encode_payment_signature_header
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner, EthAccountSignerWithRPC

from pyiot_evm.chain.nodes import free_port
from pyiot_evm.contracts.erc20 import Erc20
from pyiot_evm.device import Field, ReadingJournal, Schema
from pyiot_evm.types import Address

PYIOT = str(Path(sys.executable).with_name("pyiot"))
SCHEMA = Schema((Field("temperature", unit="Cel", scale=2),))
ROW, LATEST = 100, 1_000


def journal_of(chain, name, count):
    """Let a device measure."""
    entry = chain.home.keyring.entry(name)
    folder = chain.home.journals / entry.device.hex()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{0:020d}-{'00' * 32}.readings"
    with ReadingJournal.open(path, device=entry.device, schema=SCHEMA, curve=entry.curve) as journal:
        signer = chain.home.keyring.device(name)
        first = len(journal)
        for number in range(first, first + count):
            journal.sign(signer, time=1_700_000_000_000 + 1000 * number, values=SCHEMA.fix([20 + number % 10]))
    return path


def dollars(chain, address):
    return chain.call(Erc20(chain.token).balance_of(Address(address)))


def controls(chain):
    return {"allowed_assets": [{"network": f"eip155:{chain.chain_id}", "asset": str(chain.token)}]}


def client_for(chain, account, scheme, kind=x402ClientSync):
    """Return the package's own client, by its public options only."""
    client = kind()
    client.set_spend_controls(controls(chain))
    if scheme == "exact":
        client.register("eip155:*", ExactEvmScheme(EthAccountSigner(account)))
    else:
        client.register("eip155:*", BatchSettlementEvmScheme(EthAccountSignerWithRPC(account, chain.url)))
    return client


def session_for(chain, account, scheme, kind=x402ClientSync):
    client = client_for(chain, account, scheme, kind)
    return client if kind is x402Client else x402_requests(client)


def terms_of(url):
    return decode_payment_required_header(requests.get(url, timeout=10).headers["payment-required"])


def headers_of(payload, identifier=None):
    if identifier is not None:
        payload.extensions["payment-identifier"]["info"]["id"] = identifier
    return {"payment-signature": encode_payment_signature_header(payload)}


def pay_once(devnet, wallet, url, scheme, identifier=None):
    """Return the headers of a payment for what a URL asks."""
    return headers_of(client_for(devnet, wallet, scheme).create_payment_payload(terms_of(url)), identifier)


class GatewayProcess:
    """A gateway in a process of its own, which can be killed and started again at its port."""

    def __init__(self, chain, name, passphrase):
        self.chain = chain
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {
            "PYIOT_HOME": str(chain.home.path), "PYIOT_PASSPHRASE": passphrase, "PYIOT_RPC_URL": chain.url,
        }  # fmt: skip
        self.process = None

    @property
    def latest(self):
        return f"{self.url}/v1/devices/{self.chain.home.keyring.entry(self.name).device}/latest"

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        command = [PYIOT, "gateway", "run", "--as", self.name, "--port", str(self.port), "--price-latest", "0.001"]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        until(lambda: requests.get(f"{self.url}/health", timeout=2).status_code == 200)
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        _, talk = self.process.communicate(timeout=60)
        assert "Traceback" not in talk, talk


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except requests.exceptions.RequestException:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)
