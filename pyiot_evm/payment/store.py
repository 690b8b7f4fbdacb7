"""The SQLite file that both channel books and the budgets of a network live in.

Write-ahead mode with full syncs, shared by every thread and process of the home; whatever is promised to somebody is
committed here before it is signed or sent. Amounts are text: they have 128 bits.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, PaymentStore(f"{folder}/payments.sqlite") as store:
    ...     store.read("SELECT count(*) FROM payments")[0][0]
    0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyiot_evm.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PaymentStore"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payer_channels (
  channel_id TEXT PRIMARY KEY, chain_id INTEGER NOT NULL, contract TEXT NOT NULL, payer TEXT NOT NULL,
  payee TEXT NOT NULL, token TEXT NOT NULL, config TEXT NOT NULL, balance TEXT NOT NULL DEFAULT '0',
  claimed TEXT NOT NULL DEFAULT '0', ceiling TEXT NOT NULL DEFAULT '0', closing INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS payer_channels_by_payee ON payer_channels (payer, payee, token);
CREATE TABLE IF NOT EXISTS payments (
  payer TEXT NOT NULL, key TEXT NOT NULL, channel_id TEXT NOT NULL, payee TEXT NOT NULL, token TEXT NOT NULL,
  amount TEXT NOT NULL, ceiling TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (payer, key)
) STRICT;
CREATE TABLE IF NOT EXISTS deposits (
  channel_id TEXT NOT NULL, number INTEGER NOT NULL, amount TEXT NOT NULL, valid_before INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (channel_id, number)
) STRICT;
CREATE TABLE IF NOT EXISTS vault_moves (
  account TEXT NOT NULL, contract TEXT NOT NULL, token TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL,
  amount TEXT NOT NULL, parts TEXT NOT NULL, key TEXT, state TEXT NOT NULL, hash TEXT NOT NULL,
  PRIMARY KEY (account, contract, token, number), UNIQUE (account, contract, key)
) STRICT;
CREATE TABLE IF NOT EXISTS vault_spending (
  account TEXT NOT NULL, contract TEXT NOT NULL, token TEXT NOT NULL, number INTEGER NOT NULL, payee TEXT NOT NULL,
  hour INTEGER NOT NULL, PRIMARY KEY (account, contract, token, number)
) STRICT;
CREATE TABLE IF NOT EXISTS payee_channels (
  channel_id TEXT PRIMARY KEY, chain_id INTEGER NOT NULL, contract TEXT NOT NULL, payee TEXT NOT NULL,
  token TEXT NOT NULL, config TEXT NOT NULL, balance TEXT NOT NULL DEFAULT '0', claimed TEXT NOT NULL DEFAULT '0',
  charged TEXT NOT NULL DEFAULT '0', ceiling TEXT NOT NULL DEFAULT '0', signature BLOB NOT NULL DEFAULT x'',
  withdraw_at INTEGER NOT NULL DEFAULT 0, refund_nonce INTEGER NOT NULL DEFAULT 0,
  synced_at INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS payee_channels_by_payee ON payee_channels (payee, token);
CREATE TABLE IF NOT EXISTS budgets (
  payer TEXT NOT NULL, token TEXT NOT NULL, terms TEXT NOT NULL, PRIMARY KEY (payer, token)
) STRICT;
CREATE TABLE IF NOT EXISTS spending (
  payer TEXT NOT NULL, token TEXT NOT NULL, payee TEXT NOT NULL, hour INTEGER NOT NULL, amount TEXT NOT NULL,
  PRIMARY KEY (payer, token, payee, hour)
) STRICT;
CREATE TABLE IF NOT EXISTS http_channels (
  payer TEXT NOT NULL, key TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (payer, key)
) STRICT;
CREATE TABLE IF NOT EXISTS stream_purchases (
  channel_id TEXT PRIMARY KEY, payer TEXT NOT NULL, payee TEXT NOT NULL, device TEXT NOT NULL, mode TEXT NOT NULL,
  paid TEXT NOT NULL DEFAULT '0', next_seq INTEGER NOT NULL, signed_seq INTEGER NOT NULL DEFAULT -1,
  signed_ceiling TEXT NOT NULL DEFAULT '0', lock TEXT NOT NULL DEFAULT '', sealed BLOB NOT NULL DEFAULT x'',
  schema TEXT NOT NULL DEFAULT '', fault TEXT NOT NULL DEFAULT '', lost TEXT NOT NULL DEFAULT '0'
) STRICT;
CREATE INDEX IF NOT EXISTS stream_purchases_by_payee ON stream_purchases (payer, payee, device, mode);
CREATE TABLE IF NOT EXISTS bought_readings (
  payer TEXT NOT NULL, device TEXT NOT NULL, seq INTEGER NOT NULL, channel_id TEXT NOT NULL, schema TEXT NOT NULL,
  signer BLOB NOT NULL, leaf BLOB NOT NULL, price TEXT NOT NULL, at INTEGER NOT NULL,
  taken INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (payer, device, seq)
) STRICT;
CREATE INDEX IF NOT EXISTS bought_readings_untaken ON bought_readings (channel_id, seq) WHERE taken = 0;
CREATE TABLE IF NOT EXISTS bought_schemas (hash TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS stream_sales (
  channel_id TEXT PRIMARY KEY, payee TEXT NOT NULL, device TEXT NOT NULL, mode TEXT NOT NULL, seq INTEGER NOT NULL,
  base TEXT NOT NULL, ceiling TEXT NOT NULL, lock TEXT NOT NULL, preimage BLOB NOT NULL, signature BLOB NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS http_purchases (
  payer TEXT NOT NULL, identifier TEXT NOT NULL, url TEXT NOT NULL, payee TEXT NOT NULL, lane INTEGER NOT NULL,
  token TEXT NOT NULL, channel TEXT NOT NULL, paid TEXT NOT NULL, hour INTEGER NOT NULL, header TEXT NOT NULL,
  answer TEXT, PRIMARY KEY (payer, identifier)
) STRICT;
CREATE TABLE IF NOT EXISTS payee_events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, payee TEXT NOT NULL, contract TEXT NOT NULL, channel_id TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS answers (
  payee TEXT NOT NULL, identifier TEXT NOT NULL, request TEXT NOT NULL, payer TEXT NOT NULL, state TEXT NOT NULL,
  status INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (payee, payer, identifier)
) STRICT;
"""


class PaymentStore(SqliteFile):
    """The file.

    Args:
        path: Where it lies; made, with its folder, when it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._migrate(_SCHEMA)

    def mark(self, name: str) -> int | None:
        """Return a number that was kept under a name."""
        found = self.read("SELECT value FROM marks WHERE name = ?", name)
        return int(found[0]["value"]) if found else None

    def set_mark(self, name: str, value: int | None) -> None:
        """Keep a number under a name; ``None`` forgets it."""
        with self.write() as database:
            if value is None:
                database.execute("DELETE FROM marks WHERE name = ?", (name,))
            else:
                database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))
