"""The HTTP gateway: a machine's readings and offers behind HTTP 402, for every x402 client.

It needs the extra ``gateway`` (``pip install 'pyiot-evm[gateway]'``); nothing of that is imported until it is run.
"""
