"""The change feed: which users' cached identities are no longer true."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from sidecar.records import Changes
from sidecar.stores.sqlite.database import Database, Row

EVERYBODY = None
"""In place of a user's id: all of them."""

KEPT = 10_000
"""How many changes are kept. A number and not a time: no clock then decides who learns of a revocation."""

MOST = 1_000
"""How many changes are told one by one; for more it is cheaper to forget everybody."""


def record(connection: sqlite3.Connection, users: Iterable[int | None]) -> None:
    """Notes in the caller's transaction that these users changed, each once, or EVERYBODY."""
    changed = set(users)
    if not changed:
        return
    if EVERYBODY in changed or len(changed) > MOST:
        changed = {EVERYBODY}
    connection.executemany("INSERT INTO changes (user_id) VALUES (?)", [(user,) for user in changed])
    connection.execute("DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", (KEPT,))


class SqliteChanges:
    """The `changes` table as a ChangeFeed. Each look also makes sure that the file is still the right one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, position: int) -> Changes:
        """The changes after `position`; everybody where they are too many, or where nobody knows them.

        The row at `position` is read along: where it is gone, rows after it may be gone too, and where it
        never was, the file is older than the caller (a restored backup).
        """
        if position == 0:
            return Changes(self._latest())
        rows = self._read(
            "SELECT seq, user_id FROM changes WHERE seq >= ? ORDER BY seq LIMIT ?", (position, MOST + 2)
        )
        if not rows or rows[0][0] != position or len(rows) > MOST + 1:
            return Changes(self._latest(), everybody=True)
        users = {user for _, user in rows[1:]}
        return Changes(rows[-1][0], frozenset(users - {EVERYBODY}), EVERYBODY in users)

    def _latest(self) -> int:
        # Never empty: the schema puts the first row in, and the newest one is never deleted.
        ((latest,),) = self._read("SELECT max(seq) FROM changes")
        return int(latest)

    def _read(self, sql: str, parameters: tuple[int, ...] = ()) -> list[Row]:
        return self._database.rows("changes.since", sql, parameters, verified=True)
