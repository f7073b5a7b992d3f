"""The `nonces` table as a NonceStore."""

from __future__ import annotations

from sidecar.stores.sqlite.database import Database
from sidecar.stores.sqlite.records import purge, run

# One statement that reads and writes: an expired mark, which no purge has reached yet, is made anew.
_USE = """
    INSERT INTO nonces VALUES (:nonce, :expires_at)
    ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at WHERE nonces.expires_at <= :now"""


class SqliteNonces:
    """Marks on what may be used once. They are no change to anybody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def use(self, nonce: str, *, now: float, expires_at: float) -> bool:
        """Marks the nonce until `expires_at`; False where it has a mark that did not expire by `now`.

        A check waits for this, and a crash of the process undoes no transaction: hence a note.
        """
        values = {"nonce": nonce, "now": now, "expires_at": expires_at}
        return await self._database.note("nonces.use", run, _USE, values) == 1

    async def purge(self, *, now: float) -> int:
        """Deletes what expired by `now`."""
        return await purge(self._database, "nonces", "nonce", "expires_at <= ?", now)
