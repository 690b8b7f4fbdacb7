"""The unmodified x402 package buys an address by requests or httpx: once for each line that it reads.

python x402_python_client.py KIND URL RPC_URL TOKEN SCHEME, the account's key in X402_KEY
"""

import asyncio
import os
import sys

from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http.clients.httpx import x402HttpxClient
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner, EthAccountSignerWithRPC

KIND, URL, RPC_URL, TOKEN, SCHEME = sys.argv[1:]


def set_up(client):
    account = Account.from_key(os.environ["X402_KEY"])
    client.set_spend_controls({"allowed_assets": [{"network": "eip155:31337", "asset": TOKEN}]})
    if SCHEME == "exact":
        client.register("eip155:*", ExactEvmScheme(EthAccountSigner(account)))
    else:
        client.register("eip155:*", BatchSettlementEvmScheme(EthAccountSignerWithRPC(account, RPC_URL)))
    return client


async def by_httpx():
    async with x402HttpxClient(set_up(x402Client()), timeout=30) as client:
        for _ in sys.stdin:
            sys.stdout.write(f"{(await client.get(URL)).status_code}\n")
            sys.stdout.flush()


def by_requests():
    session = x402_requests(set_up(x402ClientSync()))
    for _ in sys.stdin:
        sys.stdout.write(f"{session.get(URL, timeout=30).status_code}\n")
        sys.stdout.flush()


by_requests() if KIND == "requests" else asyncio.run(by_httpx())
