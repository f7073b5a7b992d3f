"""Keys of every kind: of users, of management clients, those that tokens are signed with, and secrets."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Generic, TypeVar

from sidecar.errors import NotFound
from sidecar.records import AccessKey, ApiKey, SigningKey
from sidecar.stores.sqlite import changes
from sidecar.stores.sqlite.columns import decoded, encoded
from sidecar.stores.sqlite.database import Database, Row
from sidecar.stores.sqlite.records import Records, run

K = TypeVar("K", ApiKey, AccessKey)


class _Keys(Generic[K]):
    """What both kinds of secret keys have in common."""

    _records: Records[K]

    async def find(self, key_id: str) -> K | None:
        """The key with this id."""
        return self._records.find(key_id)

    async def touch(self, key_id: str, *, now: float, unused_since: float) -> bool:
        """Notes a use where the last one was `unused_since` or before."""
        return await self._records.touch(key_id, now, unused_since)

    async def revoke(self, key_ids: Iterable[str]) -> int:
        """Deletes these keys."""
        return await self._records.revoke("id", key_ids)

    async def purge(self, *, now: float) -> int:
        """Deletes what expired by `now`."""
        return await self._records.purge("expires_at <= ?", now)


class SqliteApiKeys(_Keys[ApiKey]):
    """The `api_keys` table as an ApiKeyStore."""

    def __init__(self, database: Database) -> None:
        self._records = Records(
            database, "api_keys", ApiKey, owner="user_id", read=_api_key, row=_api_key_row
        )

    async def add(self, key: ApiKey) -> None:
        """Raises NotFound where the user does not exist, Conflict where the id is taken."""
        try:
            await self._records.add(key)
        except NotFound as error:
            raise NotFound(f"there is no user {key.user_id}") from error

    async def list(self, user_id: int | None = None) -> Sequence[ApiKey]:
        """All keys, or a user's, oldest first."""
        return self._records.list(user_id)


def _api_key(row: Row) -> ApiKey:
    key_id, user_id, name, scopes, *times = row
    return ApiKey(key_id, user_id, name, tuple(decoded(scopes)), *times)


def _api_key_row(key: ApiKey) -> Row:
    times = key.created_at, key.last_used_at, key.expires_at
    return key.id, key.user_id, key.name, encoded(key.scopes), *times


class SqliteAccessKeys(_Keys[AccessKey]):
    """The `access_keys` table as an AccessKeyStore."""

    def __init__(self, database: Database) -> None:
        self._records = Records(
            database, "access_keys", AccessKey, owner="NULL", read=_access_key, row=astuple
        )

    async def add(self, key: AccessKey) -> None:
        """Raises Conflict where the id is taken."""
        await self._records.add(key)

    async def list(self) -> Sequence[AccessKey]:
        """All keys, oldest first."""
        return self._records.list()


def _access_key(row: Row) -> AccessKey:
    return AccessKey(*row)


class SqliteSigningKeys:
    """The `signing_keys` table as a SigningKeyStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, *, now: float) -> Sequence[SigningKey]:
        """Those that still verify at `now`, the signing one first, then the newest."""
        rows = self._database.rows(
            "signing_keys.list",
            "SELECT id, algorithm, private, created_at, verifies_until FROM signing_keys"
            " WHERE verifies_until IS NULL OR verifies_until > ?"
            " ORDER BY verifies_until IS NOT NULL, created_at DESC, id",
            (now,),
        )
        return [SigningKey(*row) for row in rows]

    async def add_first(self, key: SigningKey) -> None:
        """Adds the key as the signing one unless there is one."""
        await self._database.write("signing_keys.add_first", _add_first, key)

    async def rotate(self, key: SigningKey, *, verifies_until: float) -> None:
        """Makes `key` the signing one; the one before verifies until then."""
        await self._database.write("signing_keys.rotate", _rotate, key, verifies_until)

    async def purge(self, *, now: float) -> int:
        """Deletes what no longer verifies at `now`."""
        delete = "DELETE FROM signing_keys WHERE verifies_until <= ?"
        return await self._database.write("signing_keys.purge", run, delete, (now,))


def _add_first(connection: sqlite3.Connection, key: SigningKey) -> None:
    signing = "SELECT 1 FROM signing_keys WHERE verifies_until IS NULL"
    if connection.execute(signing).fetchone() is None:
        _add_signing(connection, key)


def _rotate(connection: sqlite3.Connection, key: SigningKey, verifies_until: float) -> None:
    retire = "UPDATE signing_keys SET verifies_until = ? WHERE verifies_until IS NULL"
    run(connection, retire, (verifies_until,))
    _add_signing(connection, key)


def _add_signing(connection: sqlite3.Connection, key: SigningKey) -> None:
    insert = "INSERT INTO signing_keys VALUES (?, ?, ?, ?, NULL)"
    run(connection, insert, (key.id, key.algorithm, key.private, key.created_at))
    changes.record(connection, [changes.EVERYBODY])


async def named_secret(database: Database, name: str) -> bytes:
    """The 256 random bits under this name, made by whoever asks first."""
    select = "SELECT value FROM secrets WHERE name = ?"
    for (value,) in database.rows("secrets.find", select, (name,)):
        return bytes(value)
    return await database.write("secrets.add", _secret, name, select)


def _secret(connection: sqlite3.Connection, name: str, select: str) -> bytes:
    insert = "INSERT INTO secrets VALUES (?, ?) ON CONFLICT DO NOTHING"
    run(connection, insert, (name, secrets.token_bytes(32)))
    (value,) = connection.execute(select, (name,)).fetchone()
    return bytes(value)
