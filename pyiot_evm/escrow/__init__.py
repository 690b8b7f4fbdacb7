"""Deposits that a device releases: offer, open, hand over, check in and out, claim, rule, close."""
