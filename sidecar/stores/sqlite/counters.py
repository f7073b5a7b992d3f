"""The `counters` table as a CounterStore."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from sidecar.records import Counter
from sidecar.stores.sqlite.database import Database
from sidecar.stores.sqlite.records import purge, run

# One statement that reads and writes: a window that is over, which no purge has reached yet, begins anew.
_ADD = """
    INSERT INTO counters VALUES (:key, :amount, :ends_at)
    ON CONFLICT DO UPDATE SET
        count = excluded.count + iif(ends_at > :now, count, 0),
        ends_at = iif(ends_at > :now, min(ends_at, excluded.ends_at), excluded.ends_at)
    RETURNING key, count, ends_at"""

_SELECT = "SELECT key, count, ends_at FROM counters WHERE"


class SqliteCounters:
    """Counts in windows of time. They are no change to anybody.

    Sign-ins wait for this, and a crash of the process undoes no transaction: hence notes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: str, *, now: float, ends_at: float, amount: int = 1) -> Counter:
        """Counts in the key's window, and says what is then in it."""
        values = {"key": key, "now": now, "ends_at": ends_at, "amount": amount}
        return await self._database.note("counters.add", _add, values)

    async def find(self, key: str, *, now: float) -> Counter | None:
        """The key's window, where it is not over by `now`."""
        sql = f"{_SELECT} key = ? AND ends_at > ?"
        rows = self._database.rows("counters.find", sql, (key, now))
        return Counter(*rows[0]) if rows else None

    async def list(self, prefix: str, *, now: float) -> Sequence[Counter]:
        """Those of all keys that begin like this, in the order of their ends."""
        sql = f"{_SELECT} substr(key, 1, ?) = ? AND ends_at > ? ORDER BY ends_at, key"
        rows = self._database.rows("counters.list", sql, (len(prefix), prefix, now))
        return [Counter(*row) for row in rows]

    async def put(self, counters: Iterable[Counter]) -> None:
        """Replaces what there is of these keys."""
        await self._database.note("counters.put", _put, list(counters))

    async def clear(self, keys: Iterable[str]) -> int:
        """Forgets these keys; how many there were."""
        return await self._database.note("counters.clear", _clear, list(keys))

    async def purge(self, *, now: float) -> int:
        """Deletes what is over by `now`."""
        return await purge(self._database, "counters", "key", "ends_at <= ?", now)


def _add(connection: sqlite3.Connection, values: Mapping[str, object]) -> Counter:
    (row,) = connection.execute(_ADD, values).fetchall()
    return Counter(*row)


def _put(connection: sqlite3.Connection, counters: Sequence[Counter]) -> None:
    connection.executemany("REPLACE INTO counters VALUES (?, ?, ?)", map(astuple, counters))


def _clear(connection: sqlite3.Connection, keys: Sequence[str]) -> int:
    return sum(run(connection, "DELETE FROM counters WHERE key = ?", (key,)) for key in keys)
