"""What sessions, API keys and access keys share: rows by id that are used, expire and are revoked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Generic, TypeVar

from sidecar.records import AccessKey, ApiKey, Session
from sidecar.stores.sqlite import changes
from sidecar.stores.sqlite.database import Database, Row

R = TypeVar("R", bound=Session | ApiKey | AccessKey)

BATCH = 250
"""How many rows one transaction purges: some milliseconds, after which other writers have their turn."""


class Records(Generic[R]):
    """A table whose columns are the fields of `kind`, in their order.

    `read` and `row` turn a row into its record and back; `owner` is whom a revocation concerns: the column
    with the user's id, or `NULL` for everybody. The statements are put together from names in this package
    alone; values are always bound.
    """

    def __init__(
        self,
        database: Database,
        table: str,
        kind: type[R],
        *,
        owner: str,
        read: Callable[[Row], R],
        row: Callable[[R], Row],
    ) -> None:
        columns = [field.name for field in fields(kind)]
        self._database = database
        self._table = table
        self._read = read
        self._row = row
        self._owner = owner
        self._select = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - see the class
        # The one read that every check makes: nothing is put together for it.
        self._finding, self._find = f"{table}.find", f"{self._select} WHERE id = ?"
        self._insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - as above
        self._delete = f"DELETE FROM {table}"  # noqa: S608 - as above
        self.use = (
            f"UPDATE {table} SET last_used_at = :now"  # noqa: S608 - as above
            " WHERE id = :id AND (last_used_at IS NULL OR last_used_at <= :unused_since)"
        )

    async def add(self, record: R) -> None:
        """Adds it. Raises Conflict where its id is taken, NotFound where its user does not exist."""
        await self._database.write(f"{self._table}.add", run, self._insert, self._row(record))

    def find(self, id: str) -> R | None:
        """The record with this id."""
        rows = self._database.rows(self._finding, self._find, (id,))
        return self._read(rows[0]) if rows else None

    def list(self, user_id: int | None = None) -> Sequence[R]:
        """The records, oldest first: all, or a user's. Unbounded, and so for the command line alone."""
        condition, values = ("", ()) if user_id is None else ("WHERE user_id = ?", (user_id,))
        sql = f"{self._select} {condition} ORDER BY created_at, id"
        return [self._read(row) for row in self._database.rows(f"{self._table}.list", sql, values)]

    async def touch(self, id: str, now: float, unused_since: float) -> bool:
        """Notes a use where the last one was `unused_since` or before; True where it did."""
        values = {"id": id, "now": now, "unused_since": unused_since}
        return await self._database.note(f"{self._table}.touch", run, self.use, values) == 1

    async def revoke(self, column: str, values: Iterable[object]) -> int:
        """Deletes the rows that have one of these values, and tells the change feed whom that concerns."""
        delete = f"{self._delete} WHERE {column} = ? RETURNING {self._owner}"
        return await self._database.write(f"{self._table}.revoke", _delete_each, delete, tuple(values))

    async def revoke_all(self) -> int:
        """Deletes every row, and tells the change feed."""
        return await self._database.write(f"{self._table}.revoke", _delete_all, self._delete)

    async def purge(self, condition: str, *values: float) -> int:
        """Deletes the rows that nobody can use any more, which is no change to anybody."""
        return await purge(self._database, self._table, "id", condition, *values)


async def purge(database: Database, table: str, key: str, condition: str, *values: float) -> int:
    """Deletes the rows of which the condition holds, in batches; `key` is the table's primary key."""
    keys = f"SELECT {key} FROM {table} WHERE {condition} LIMIT {BATCH}"  # noqa: S608 - as in Records
    delete = f"DELETE FROM {table} WHERE {key} IN ({keys})"  # noqa: S608 - as in Records
    purged = 0
    while True:
        batch = await database.write(f"{table}.purge", run, delete, values)
        purged += batch
        if batch < BATCH:
            return purged


def run(
    connection: sqlite3.Connection, sql: str, values: Sequence[object] | Mapping[str, object] = ()
) -> int:
    """Runs one statement; the number of rows that it wrote."""
    return connection.execute(sql, values).rowcount


def _delete_each(connection: sqlite3.Connection, delete: str, values: Sequence[object]) -> int:
    owners = [owner for value in values for (owner,) in connection.execute(delete, (value,)).fetchall()]
    changes.record(connection, owners)
    return len(owners)


def _delete_all(connection: sqlite3.Connection, delete: str) -> int:
    changes.record(connection, [changes.EVERYBODY])
    return run(connection, delete)
