"""What SQLite raises, in the words of the ports. No message carries a value that was stored."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sidecar.errors import Conflict, InvalidValue, NotFound, SidecarError, StoreUnavailable, StoreUnusable
from sidecar.stores.sqlite.file import RUN_AS

UNSTORABLE = (OverflowError, UnicodeEncodeError)
"""What binding raises for a value that no column can hold: an integer over 64 bits, a lone surrogate."""

_PERMISSIONS = f"this user must be able to write the file and its directory: {RUN_AS}"
_DAMAGED = "the file is damaged: stop the sidecar and restore a backup"

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "it is locked by another writer",
    sqlite3.SQLITE_LOCKED: "it is locked by another writer",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: f"it is read-only: {_PERMISSIONS}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened: {_PERMISSIONS}",
    sqlite3.SQLITE_IOERR: "reading or writing the disk failed",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}

_UNUSABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_CONSTRAINTS: dict[int, tuple[type[SidecarError], str]] = {
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: (Conflict, "it is in the store already"),
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: (Conflict, "it is in the store already"),
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: (NotFound, "what it belongs to does not exist"),
}


def translated(error: Exception, path: Path) -> Exception:
    """The port's error for one that an operation raised; the error itself where it is not SQLite's."""
    if isinstance(error, UNSTORABLE):
        return InvalidValue("a value that the store cannot hold")
    if isinstance(error, sqlite3.IntegrityError):
        kind, message = _CONSTRAINTS.get(_code(error), (InvalidValue, "a value that the store cannot hold"))
        return kind(message)
    if isinstance(error, sqlite3.Error):
        return StoreUnavailable(_message(error, path))
    return error


def opening_failed(error: sqlite3.Error, path: Path) -> StoreUnavailable | StoreUnusable:
    """The port's error for one that SQLite raised while the store was being opened."""
    kind = StoreUnusable if _code(error) & 0xFF in _UNUSABLE else StoreUnavailable
    return kind(_message(error, path))


def _message(error: sqlite3.Error, path: Path) -> str:
    return f"the store {path}: {_UNAVAILABLE.get(_code(error) & 0xFF, str(error))}"


def _code(error: sqlite3.Error) -> int:
    """The extended result code; its low byte is the primary one. Errors of the module itself have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
