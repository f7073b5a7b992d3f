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
"""A session's secret by its number; as long as a real one. `%` and Lua's `format` read it alike."""

_LIFETIME = 12 * 3600.0

_FAST = (
    "journal_mode = OFF",  # a store that fails half way is thrown away; the product turns WAL on again
    "synchronous = OFF",
    "cache_size = -1000000",
)


def build_stores(folder: Path) -> tuple[Path, Path]:
    """The files of a store with few sessions, and of the same store with many."""
    few, many = folder / "few.db", folder / "many.db"
    asyncio.run(_add_users(few))
    _add_sessions(few, range(FEW))
    asyncio.run(_copy(few, many))
    _add_sessions(many, range(FEW, MANY))
    return few, many


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


def _add_sessions(file: Path, numbers: range) -> None:
    """In the order of their numbers, which is a random one for the index: as sign-ins come."""
    insert = """INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, apps)
        VALUES (?, ?, ?, ?, ?, '[]')"""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in _FAST:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.executemany(insert, _rows(numbers))
        connection.execute("COMMIT")


def _rows(numbers: range) -> Iterator[tuple[str, int, float, float, float]]:
    now = time.time()
    for number in numbers:
        session_id = id_of_secret((SECRET % number).encode("ascii"))
        yield session_id, 1 + number % USERS, now, now, now + _LIFETIME
