"""Micropayments: channels, vouchers, budgets. One façade: :class:`pyiot_evm.payment.facade.Payments`.

A payer pays into a channel once and then signs vouchers, each for the sum of all payments so far; the payee claims the
latest one whenever it likes. The channels are x402's `batch-settlement` scheme to the letter, so every x402 client and
server can be the other side.
"""
