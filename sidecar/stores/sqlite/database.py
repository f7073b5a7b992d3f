"""One database: who reads, who writes, and how long anybody waits.

Reads run on the event loop, each one statement and so one snapshot: in WAL mode a reader waits for no writer,
and an indexed look-up costs a fifth of a hop to a thread and back. Writes run one after the other in one
thread, each a transaction of its own that has the write lock from its start (`BEGIN IMMEDIATE`), so that what
it reads is what it changes. The thread finishes what it began, whatever becomes of the caller.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from sidecar.errors import Conflict, InvalidValue, NotFound, StoreUnavailable, StoreUnusable
from sidecar.stores.observe import Observe
from sidecar.stores.sqlite.backup import back_up
from sidecar.stores.sqlite.connections import reading, writing
from sidecar.stores.sqlite.faults import UNSTORABLE, opening_failed, translated
from sidecar.stores.sqlite.file import StoreFile
from sidecar.stores.sqlite.schema import migrate, require_current

P = ParamSpec("P")
T = TypeVar("T")
Row = tuple[Any, ...]

_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a transaction waits for its turn and reaches the disk."""

    synchronous: Literal["FULL", "NORMAL"]
    patience: float


_NOTED = _Manner("NORMAL", patience=0.1)


class Database:
    """The connections to one file. Every method raises StoreUnavailable where the file cannot be used now,
    and works again by itself once it can."""

    def __init__(
        self,
        file: StoreFile,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        *,
        read_only: bool,
        busy_timeout: float,
        observe: Observe,
    ) -> None:
        self._read_only = read_only
        self._file = file
        self._writer = writer
        self._reader = reader
        self._observe = observe
        self._durable = _Manner("FULL", busy_timeout)
        self._manner: _Manner | None = None
        self._suspect = False
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sidecar-store")

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self._file.path

    def verify(self) -> None:
        """Returns where the path still leads to the database that was opened.

        Reads cost too little to look at the path each time; they do so while the last look has failed.
        """
        self._suspect = True
        if fault := self._file.fault():
            raise StoreUnavailable(
                f"the store {self.path}: {fault}; put the file back, or restart to use another one"
            )
        self._suspect = False

    def rows(
        self, operation: str, sql: str, parameters: Sequence[object] = (), *, verified: bool = False
    ) -> list[Row]:
        """All rows that one statement reads; with `verified`, from a file that is still the right one."""
        started = perf_counter()
        try:
            if verified or self._suspect:
                self.verify()
            found = self._reader.execute(sql, parameters).fetchall()
        except UNSTORABLE:
            found = []  # what cannot be stored is in no row
        except Exception:
            # Every check reads, and nearly none fails: only then is the context manager made.
            with _Operation(operation, self._observe, self.path, started):
                raise
        self._observe(operation, "ok", perf_counter() - started)
        return found

    async def write(
        self,
        operation: str,
        job: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs the job in a transaction, which has reached the disk when this returns.

        Without `synchronous = FULL` SQLite would acknowledge what a power failure can undo: a revocation.
        """
        with _Operation(operation, self._observe, self.path):
            transaction = self._submit(
                self._transact, self._durable, lambda connection: job(connection, *args, **kwargs)
            )
            return await asyncio.wrap_future(transaction)

    async def note(
        self,
        operation: str,
        job: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs the job in a transaction that a power failure may undo, and that a check can wait for.

        It waits a tenth of a second for its turn in the thread, and as long for other processes.
        """
        with _Operation(operation, self._observe, self.path):
            submitted = self._submit(
                self._transact, _NOTED, lambda connection: job(connection, *args, **kwargs)
            )
            done: asyncio.Future[T] = asyncio.wrap_future(submitted)
            try:
                await asyncio.wait({done}, timeout=_NOTED.patience)
                # What has begun cannot be cancelled, and its caller hears how it ended.
                if submitted.cancel():
                    raise StoreUnavailable(f"the store {self.path}: it is busy with another write")
                return await done
            finally:
                done.cancel()

    async def copy(self, operation: str, target: str) -> None:
        """Writes a consistent copy to a new file. Nobody waits for it."""
        with _Operation(operation, self._observe, self.path):
            self.verify()
            await asyncio.to_thread(back_up, self.path, target)

    async def close(self) -> None:
        """Closes the database when all writes before it are done. May be called again."""
        if self._closed:
            return
        closing = self._submit(self._disconnect)
        self._closed = True
        await asyncio.wrap_future(closing)
        self._thread.shutdown()

    def _submit(self, job: Callable[..., T], *args: object) -> Future[T]:
        if self._closed:
            raise StoreUnavailable(f"the store {self.path}: it is closed")
        return self._thread.submit(job, *args)

    def _transact(self, manner: _Manner, job: Callable[[sqlite3.Connection], T]) -> T:
        # What is written to a file that was replaced is lost, and in the place of a file that was
        # overwritten it would make a database again.
        self.verify()
        self._adopt(manner)
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = job(self._writer)
            self._writer.execute("COMMIT")
        finally:
            self._writer.rollback()  # nothing is left to roll back after a COMMIT that succeeded
        return result

    def _adopt(self, manner: _Manner) -> None:
        if manner is self._manner:
            return
        self._writer.execute(f"PRAGMA busy_timeout = {round(manner.patience * 1000)}")
        self._writer.execute(f"PRAGMA synchronous = {manner.synchronous}")
        self._manner = manner

    def _disconnect(self) -> None:
        """The last connection to close writes the journal into the file: that must be the file's own.

        The reader's connection cannot write, so that closing it last leaves both as they are: also the
        journal of a server that crashed, where nothing is to be written. An empty one is removed.
        """
        first, last = self._reader, self._writer
        if self._file.fault() or (self._read_only and self._file.has_journal()):
            first, last = last, first
        first.close()
        last.close()
        self._file.close()


def open_database(path: Path, *, read_only: bool, busy_timeout: float, observe: Observe) -> Database:
    """Opens the database at the absolute `path`, created or migrated where that is needed and allowed."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise StoreUnusable(f"SQLite {oldest} or later is needed; this Python has {sqlite3.sqlite_version}")
    with ExitStack() as opened:
        file = StoreFile(path, create=not read_only)
        opened.callback(file.close)
        try:
            writer = writing(opened, path, patience=busy_timeout)
            if not read_only:
                _prepare(writer, path)
            reader = reading(opened, path)
            if read_only:
                _forbid_writing(writer, reader)
        except sqlite3.Error as error:
            raise opening_failed(error, path) from error
        opened.pop_all()
        return Database(file, writer, reader, read_only=read_only, busy_timeout=busy_timeout, observe=observe)


def _prepare(writer: sqlite3.Connection, path: Path) -> None:
    migrate(writer)
    # After the migration: the file's own header then has our application id from its first byte on, where
    # in WAL mode it would stay in the journal for a while.
    (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnusable(f"{path}: its file system has no shared memory, which SQLite's WAL mode needs")
    # Cuts the journal back after the rare large transaction.
    writer.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")


def _forbid_writing(writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
    """Not `mode=ro` for both: the last of them to close would leave an empty journal's files behind."""
    writer.execute("PRAGMA query_only = ON")
    require_current(writer)
    # Only what has read holds the journal open, and so keeps another that closes from writing it back.
    require_current(reader)


class _Operation:
    """Times one operation, and raises what the ports promise for what SQLite raised.

    `error` is a store that could not do it. That something is taken or does not exist is an answer, and a
    caller who has gone says nothing of the store.
    """

    __slots__ = ("_name", "_observe", "_path", "_started")

    def __init__(self, name: str, observe: Observe, path: Path, started: float | None = None) -> None:
        self._name = name
        self._observe = observe
        self._path = path
        self._started = perf_counter() if started is None else started

    def __enter__(self) -> None:
        """Begun when it was made."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception):
            self._observe(self._name, "ok", perf_counter() - self._started)
            return
        raised = translated(error, self._path)
        result = "ok" if isinstance(raised, NotFound | Conflict | InvalidValue) else "error"
        self._observe(self._name, result, perf_counter() - self._started)
        if raised is not error:
            raise raised from error
