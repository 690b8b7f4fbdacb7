// The unmodified @x402/fetch and @x402/evm: buys an address a number of times by one scheme, prints the answers.
// node x402_fetch_client.mjs URL RPC_URL TOKEN SCHEME COUNT, the account's key in X402_KEY
// COUNT "-": once for each line that it reads, and only the status is printed.
import { wrapFetchWithPaymentFromConfig, decodePaymentResponseHeader } from "@x402/fetch";
import { ExactEvmScheme, toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { createInterface } from "node:readline";

const [url, rpcUrl, token, schemeName, count] = process.argv.slice(2);
const publicClient = createPublicClient({ transport: http(rpcUrl) });
const network = `eip155:${await publicClient.getChainId()}`;
const signer = toClientEvmSigner(privateKeyToAccount(process.env.X402_KEY), publicClient);
const scheme = schemeName === "exact" ? new ExactEvmScheme(signer) : new BatchSettlementEvmScheme(signer);
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network, client: scheme }],
  spendControls: { allowedAssets: [{ network, asset: token }] },
});

if (count === "-") {
  for await (const _ of createInterface({ input: process.stdin })) {
    const response = await pay(url);
    await response.text();
    console.log(response.status);
  }
  process.exit(0);
}

const answers = [];
for (let i = 0; i < Number(count); i++) {
  const response = await pay(url);
  const settled = response.headers.get("payment-response");
  answers.push({
    status: response.status,
    settled: settled ? decodePaymentResponseHeader(settled).success : false,
    rows: response.status === 200 ? (await response.json()).rows : await response.text(),
  });
}
console.log(JSON.stringify(answers));
