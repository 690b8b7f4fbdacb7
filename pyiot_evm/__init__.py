"""pyiot_evm: keys, a wallet and a market for machines, on any EVM chain."""
