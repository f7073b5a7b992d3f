"""The `apps` table as an AppStore."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple

from sidecar.errors import Conflict, NotFound
from sidecar.records import App
from sidecar.stores.sqlite import changes
from sidecar.stores.sqlite.database import Database, Row
from sidecar.stores.sqlite.records import run

_SELECT = "SELECT id, name, disabled, created_at FROM apps"


class SqliteApps:
    """Apps. Every change concerns everybody: nothing says whose identities were judged by an app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, app: App) -> None:
        """Raises Conflict where the id is taken."""
        await self._database.write("apps.add", _add, app)

    async def find(self, app_id: str) -> App | None:
        """The app with this id."""
        rows = self._database.rows("apps.find", f"{_SELECT} WHERE id = ?", (app_id,))
        return _app(rows[0]) if rows else None

    async def list(self) -> Sequence[App]:
        """All apps, by id."""
        return [_app(row) for row in self._database.rows("apps.list", f"{_SELECT} ORDER BY id")]

    async def set_disabled(self, app_id: str, disabled: bool) -> None:
        """Raises NotFound."""
        await self._database.write("apps.set_disabled", _set_disabled, app_id, disabled)


def _app(row: Row) -> App:
    app_id, name, disabled, created_at = row
    return App(app_id, name, bool(disabled), created_at)


def _add(connection: sqlite3.Connection, app: App) -> None:
    insert = "INSERT INTO apps VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if not run(connection, insert, astuple(app)):
        raise Conflict(f"there is an app {app.id!r} already")
    changes.record(connection, [changes.EVERYBODY])


def _set_disabled(connection: sqlite3.Connection, app_id: str, disabled: bool) -> None:
    if not run(connection, "UPDATE apps SET disabled = ? WHERE id = ?", (disabled, app_id)):
        raise NotFound(f"there is no app {app_id!r}")
    changes.record(connection, [changes.EVERYBODY])
