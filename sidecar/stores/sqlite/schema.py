"""The tables, and the way to them from any older version.

What is only ever read and written whole (addresses, accounts, scopes, permissions, the apps of a session) is
a JSON array in its row's column: reading a user or a session is then one statement. What is searched for has
a table or an index.
"""

from __future__ import annotations

import sqlite3

from sidecar.errors import StoreUnusable
from sidecar.stores.sqlite.file import APPLICATION_ID

_USERS = (
    # AUTOINCREMENT: a removed user's id is never given again, so that nothing left of it finds a new owner.
    """CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        username TEXT NOT NULL,
        emails TEXT NOT NULL,
        phone TEXT NOT NULL,
        name TEXT NOT NULL,
        external_id TEXT NOT NULL,
        accounts TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        password_hash TEXT NOT NULL,
        created_at REAL NOT NULL,
        created_by TEXT NOT NULL,
        updated_at REAL NOT NULL,
        updated_by TEXT NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX users_phone ON users (phone) WHERE phone <> ''",
    "CREATE UNIQUE INDEX users_external_id ON users (external_id) WHERE external_id <> ''",
    # User names and e-mail addresses in one table: none of one user's can be another's of either kind.
    """CREATE TABLE sign_in_names (
        key TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX sign_in_names_user ON sign_in_names (user_id)",
    "CREATE TABLE roles (name TEXT PRIMARY KEY, permissions TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # No reference to `roles`: a role that users have need not be set.
    """CREATE TABLE user_roles (
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
        role TEXT NOT NULL,
        PRIMARY KEY (user_id, role)
    ) STRICT, WITHOUT ROWID""",
)

_SESSIONS = (
    # WITHOUT ROWID: the row lies in the tree of its id, so that a look-up walks one tree instead of two. No
    # reference to `users`: sessions may be kept in another store than users.
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        apps TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX sessions_user ON sessions (user_id)",
    # For the purge, which would read the whole table at each turn otherwise.
    "CREATE INDEX sessions_expiry ON sessions (expires_at)",
    "CREATE INDEX sessions_use ON sessions (last_used_at)",
)

_KEYS = (
    """CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX api_keys_user ON api_keys (user_id)",
    """CREATE TABLE access_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE signing_keys (
        id TEXT PRIMARY KEY,
        algorithm TEXT NOT NULL,
        private BLOB NOT NULL,
        created_at REAL NOT NULL,
        verifies_until REAL
    ) STRICT""",
    # At most one key signs. The column itself would not do: a unique index takes each NULL for another value.
    """CREATE UNIQUE INDEX signing_keys_signing ON signing_keys (verifies_until IS NULL)
        WHERE verifies_until IS NULL""",
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
)

_APPS = (
    """CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        created_at REAL NOT NULL
    ) STRICT""",
)

_CHANGES = (
    # AUTOINCREMENT: a position never means two changes. `user_id` NULL: everybody.
    "CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER) STRICT",
    # So that no position is 0, which means the first look: a caller who looked before the very first change
    # would not learn of it otherwise.
    "INSERT INTO changes (user_id) VALUES (NULL)",
)

_NONCES = (
    "CREATE TABLE nonces (nonce TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX nonces_expiry ON nonces (expires_at)",  # for the purge, as that of sessions
)

_COUNTERS = (
    """CREATE TABLE counters (
        key TEXT PRIMARY KEY,
        count INTEGER NOT NULL,
        ends_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX counters_end ON counters (ends_at)",  # for the purge, as that of sessions
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (*_USERS, *_SESSIONS, *_KEYS, *_APPS, *_CHANGES),
    _NONCES,
    _COUNTERS,
)
"""The statements that lead from version n to n + 1, at index n. A released one is never edited."""


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the schema up to date, wholly or not at all. Raises StoreUnusable where it is a newer one."""
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock: several processes start at once, and one of them was first.
        for statements in MIGRATIONS[_version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        connection.rollback()


def require_current(connection: sqlite3.Connection) -> None:
    """Raises StoreUnusable where the schema is an older one, or a newer one."""
    if (version := _version(connection)) < len(MIGRATIONS):
        raise StoreUnusable(
            f"the store has schema version {version}, this release needs {len(MIGRATIONS)}: "
            "it is upgraded when the sidecar starts"
        )


def _version(connection: sqlite3.Connection) -> int:
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreUnusable(
            f"the store has schema version {version}, this release knows up to {len(MIGRATIONS)}: "
            "use the release that wrote it, or restore a backup from before"
        )
    return version
