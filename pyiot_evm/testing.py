"""A pytest plugin for the users of pyiot_evm."""
