"""All the parts over one database."""

from __future__ import annotations

from pathlib import Path

from sidecar.errors import InvalidValue
from sidecar.ports import (
    AccessKeyStore,
    ApiKeyStore,
    AppStore,
    ChangeFeed,
    CounterStore,
    NonceStore,
    SessionStore,
    SigningKeyStore,
    UserStore,
)
from sidecar.stores.observe import Observe
from sidecar.stores.sqlite.apps import SqliteApps
from sidecar.stores.sqlite.changes import SqliteChanges
from sidecar.stores.sqlite.counters import SqliteCounters
from sidecar.stores.sqlite.database import Database, open_database
from sidecar.stores.sqlite.keys import SqliteAccessKeys, SqliteApiKeys, SqliteSigningKeys, named_secret
from sidecar.stores.sqlite.nonces import SqliteNonces
from sidecar.stores.sqlite.sessions import SqliteSessions
from sidecar.stores.sqlite.users import SqliteUsers

_TOUCH_EVERY_TABLE = """
    SELECT (SELECT max(id) FROM users), (SELECT max(key) FROM sign_in_names), (SELECT max(name) FROM roles),
        (SELECT max(user_id) FROM user_roles), (SELECT max(id) FROM sessions), (SELECT max(id) FROM api_keys),
        (SELECT max(id) FROM access_keys), (SELECT max(id) FROM apps), (SELECT max(id) FROM signing_keys),
        (SELECT max(name) FROM secrets), (SELECT max(nonce) FROM nonces), (SELECT max(key) FROM counters),
        (SELECT max(seq) FROM changes)"""


class SqliteStore:
    """A Store in one file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.users: UserStore = SqliteUsers(database)
        self.sessions: SessionStore = SqliteSessions(database)
        self.api_keys: ApiKeyStore = SqliteApiKeys(database)
        self.access_keys: AccessKeyStore = SqliteAccessKeys(database)
        self.apps: AppStore = SqliteApps(database)
        self.signing_keys: SigningKeyStore = SqliteSigningKeys(database)
        self.nonces: NonceStore = SqliteNonces(database)
        self.counters: CounterStore = SqliteCounters(database)
        self.changes: ChangeFeed = SqliteChanges(database)

    async def check(self) -> None:
        """Returns where the file is the one that was opened, and every table's root can be read."""
        self._database.rows("store.check", _TOUCH_EVERY_TABLE, verified=True)

    async def secret(self, name: str) -> bytes:
        """The 256 random bits kept under this name."""
        return await named_secret(self._database, name)

    async def backup(self, target: str) -> None:
        """Writes a consistent copy to a new file of mode 0600. Raises InvalidValue where it exists."""
        await self._database.copy("store.backup", target)

    async def close(self) -> None:
        """Closes the file when all writes before it are done."""
        await self._database.close()


def open_sqlite(location: str, *, read_only: bool, busy_timeout: float, observe: Observe) -> SqliteStore:
    """Opens `/relative/path` or `//absolute/path`: what follows `sqlite://` in an address."""
    path = location.removeprefix("/")
    if path == location or not path or path.endswith("/") or set("?#\0") & set(path):
        raise InvalidValue(
            "the store's url must be sqlite:///path/below/the/working/directory or sqlite:////absolute/path"
        )
    file = Path(path).absolute()
    return SqliteStore(open_database(file, read_only=read_only, busy_timeout=busy_timeout, observe=observe))
