"""The stores that are asked: the product's own schema, filled with users and live sessions."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sidecar.credentials import id_of_secret
from sidecar.records import Account, NewUser, Role
from sidecar.stores import open_store

USERS = 1_000
FEW = 1_000
MANY = 1_000_000

SECRET = "bench-session-%029d"
API_KEY = "sk_bench-key-%033d"
"""A session's secret and an API key by their numbers; as long as real ones."""

_LIFETIME = 12 * 3600.0

_Row = tuple[str | int | float, ...]

_SESSION = """INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, apps)
    VALUES (?, ?, ?, ?, ?, '[]')"""
_API_KEY = """INSERT INTO api_keys (id, user_id, name, scopes, created_at, last_used_at)
    VALUES (?, ?, ?, '[]', ?, ?)"""

_FAST = (
    "journal_mode = OFF",  # a store that fails half way is thrown away; the product turns WAL on again
    "synchronous = OFF",
    "cache_size = -1000000",
)


def build_few(folder: Path) -> Path:
    """The file of a store with users, each with one session and one API key."""
    few = folder / "few.db"
    asyncio.run(_add_users(few))
    _insert(few, _SESSION, _sessions(range(FEW)))
    _insert(few, _API_KEY, _api_keys(range(FEW)))
    return few


def build_many(folder: Path, few: Path) -> Path:
    """The file of the same store with many more sessions."""
    many = folder / "many.db"
    asyncio.run(_copy(few, many))
    _insert(many, _SESSION, _sessions(range(FEW, MANY)))
    return many


def url(file: Path) -> str:
    """The store's address in the settings."""
    return f"sqlite:///{file}"


async def _add_users(file: Path) -> None:
    store, now = open_store(url(file)), time.time()
    await store.users.set_role(Role("staff", ("read", "write")))
    for number in range(USERS):
        user = NewUser(
            username=f"user{number}",
            emails=(f"user{number}@example.com",),
            name=f"User Number {number}",
            roles=("staff",),
            accounts=(Account(f"a{number % 50}", "An account", primary=True),),
        )
        await store.users.add(user, now=now, by="bench")
    await store.close()


async def _copy(source: Path, target: Path) -> None:
    store = open_store(url(source))
    await store.backup(str(target))
    await store.close()


def _insert(file: Path, statement: str, rows: Iterator[_Row]) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in _FAST:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")


def _sessions(numbers: range) -> Iterator[_Row]:
    """In the order of their numbers, which is a random one for the index: as sign-ins come."""
    now = time.time()
    for number in numbers:
        session_id = id_of_secret((SECRET % number).encode("ascii"))
        yield session_id, 1 + number % USERS, now, now, now + _LIFETIME


def _api_keys(numbers: range) -> Iterator[_Row]:
    now = time.time()
    for number in numbers:
        key_id = id_of_secret((API_KEY % number).encode("ascii"))
        yield key_id, 1 + number % USERS, f"key {number}", now, now
