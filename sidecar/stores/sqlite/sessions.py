"""The `sessions` table as a SessionStore."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from sidecar.records import Session
from sidecar.stores.sqlite.columns import decoded, encoded
from sidecar.stores.sqlite.database import Database, Row
from sidecar.stores.sqlite.records import Records, run


class SqliteSessions:
    """Sessions, with the apps that each was used in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = Records(database, "sessions", Session, owner="user_id", read=_session, row=_row)

    async def add(self, session: Session) -> None:
        """Raises Conflict where the id is taken."""
        await self._records.add(session)

    async def find(self, session_id: str) -> Session | None:
        """The session with this id."""
        return self._records.find(session_id)

    async def list(self, user_id: int | None = None) -> Sequence[Session]:
        """All sessions, or a user's, oldest first."""
        return self._records.list(user_id)

    async def touch(self, session_id: str, *, now: float, unused_since: float, app: str = "") -> bool:
        """Notes a use where the last one was `unused_since` or before, and the first use of `app`."""
        if not app:
            return await self._records.touch(session_id, now, unused_since)
        values = {"id": session_id, "now": now, "unused_since": unused_since}
        return await self._database.note("sessions.touch", _use_in_app, self._records.use, values, app)

    async def revoke(self, session_ids: Iterable[str]) -> int:
        """Ends these sessions."""
        return await self._records.revoke("id", session_ids)

    async def revoke_user(self, user_id: int) -> int:
        """Ends all sessions of a user."""
        return await self._records.revoke("user_id", [user_id])

    async def revoke_all(self) -> int:
        """Ends all sessions."""
        return await self._records.revoke_all()

    async def purge(self, *, now: float, unused_since: float) -> int:
        """Deletes what expired by `now`, or was last used at `unused_since` or before."""
        return await self._records.purge("expires_at <= ? OR last_used_at <= ?", now, unused_since)


def _session(row: Row) -> Session:
    session_id, user_id, created_at, last_used_at, expires_at, apps = row
    return Session(session_id, user_id, created_at, last_used_at, expires_at, frozenset(decoded(apps)))


def _row(session: Session) -> Row:
    times = session.created_at, session.last_used_at, session.expires_at
    return session.id, session.user_id, *times, encoded(sorted(session.apps))


def _use_in_app(connection: sqlite3.Connection, use: str, values: dict[str, object], app: str) -> bool:
    select = "SELECT apps FROM sessions WHERE id = :id"
    for (column,) in connection.execute(select, values).fetchall():
        if app not in (apps := decoded(column)):
            update = "UPDATE sessions SET apps = :apps WHERE id = :id"
            run(connection, update, {**values, "apps": encoded(sorted({*apps, app}))})
    return run(connection, use, values) == 1
