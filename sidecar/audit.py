"""The audit: who came in and out, whose credential was refused, who was banned, and who changed what.

One line each. Recording never waits: a thread of its own writes, and what it cannot keep up with is lost and
counted. Nothing in a line is a credential, or what somebody typed into a sign-in form.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any, Protocol, Self, TypedDict, Unpack

import structlog

from sidecar.errors import AuditUnusable
from sidecar.model import IPAddress, Reason
from sidecar.ports import Clock
from sidecar.settings import AuditSettings
from sidecar.telemetry import CURRENT_REQUEST, Metrics

log = structlog.get_logger(__name__)

LONGEST_QUEUE = 8192
"""Lines that wait to be written: about 4 MiB."""

_AT_ONCE = 256
"""Lines that are written in one go: after each of those, the thread waits for its turn again."""

_GATHERING = 0.01
"""Seconds in which lines gather: a thread that wakes for each one takes more time from the checks than it
uses."""

LONGEST_VALUE = 1024
"""Characters of one value."""

_PATIENCE = 2.0
"""Seconds that the end of a process waits, where what is written to hangs: for room, and for the thread."""

_PRIVATE = 0o600

Line = Mapping[str, Any]


class Event(StrEnum):
    """What happened."""

    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    CREDENTIAL_REFUSED = "credential_refused"
    BANNED = "banned"
    ADMINISTERED = "administered"


class Result(StrEnum):
    """What came of it, where that is no check's Reason."""

    DONE = "done"
    FAILED = "failed"
    WRONG_SECRET = "wrong_secret"
    WRONG_SIGNATURE = "wrong_signature"
    SIGNATURE_OUT_OF_TIME = "signature_out_of_time"
    SIGNATURE_REPLAYED = "signature_replayed"


class About(TypedDict, total=False):
    """Who and what it was about. What is empty is left out of the line."""

    user_id: int | None
    client: IPAddress | None
    session_id: str
    key_id: str
    rule: str
    who: str
    seconds: float | None
    by: str
    what: str
    arguments: str


class Audit:
    """Takes what happened, and as a context writes it.

    At the end everything that was taken is written, unless what it is written to hangs.
    """

    def __init__(self, settings: AuditSettings, clock: Clock, metrics: Metrics) -> None:
        self._path = settings.file
        self._clock = clock
        self._count_lost = metrics.audit_dropped.inc
        self._queue: Queue[dict[str, Any] | None] = Queue(LONGEST_QUEUE)
        # Each is written by one thread: the first by who records, the others by the one that writes.
        self._refused = self._failed = self._told = 0
        self._is_failing = False

    def record(self, event: Event, result: Reason | Result, **about: Unpack[About]) -> None:
        """Takes one line. Where the queue is full it is lost, and a later line says how many were."""
        line: dict[str, Any] = {"time": self._clock.now(), "event": event, "result": result, **about}
        request = CURRENT_REQUEST.get()
        if request is not None:
            line["route"], line["request_id"] = request.route, str(request)
        try:
            self._queue.put_nowait(line)
        except Full:
            self._refused += 1
            self._count_lost()

    async def __aenter__(self) -> Self:
        """Begins to write. Raises AuditUnusable."""
        self._sink: _Sink = _File(self._path) if self._path else _Log()
        # No process waits for it to end: what it writes to may hang.
        self._writer = Thread(target=self._write_all, name="audit", daemon=True)
        self._writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        with suppress(Full):
            self._queue.put(None, timeout=_PATIENCE)
        self._writer.join(_PATIENCE)
        if not self._writer.is_alive():
            self._sink.close()
        elif self._path:  # else it is the log that hangs
            log.error("audit_not_finished", lines=self._queue.qsize())

    def _write_all(self) -> None:
        lines, is_last = self._next()
        while not is_last:
            self._write(lines)
            lines, is_last = self._next()
        self._write(lines)

    def _next(self) -> tuple[list[dict[str, Any]], bool]:
        """What waits, soon after something does; whether nothing comes after it."""
        lines: list[dict[str, Any]] = []
        line = self._queue.get()
        time.sleep(_GATHERING)
        while line is not None:
            lines.append(line)
            if len(lines) == _AT_ONCE or self._queue.empty():  # nobody else takes anything
                return lines, False
            line = self._queue.get()
        return lines, True

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        lost = self._refused + self._failed - self._told
        lines[0]["lost"] = lost or None
        try:
            written = self._sink.write([_readable(line) for line in lines])
        except OSError as error:
            written = 0
            self._say_whether_writable(error)
        else:
            self._told += lost if written else 0
            self._say_whether_writable(None)
        self._failed += len(lines) - written
        self._count_lost(len(lines) - written)

    def _say_whether_writable(self, error: OSError | None) -> None:
        """Once when it begins to fail and once when that ends, however many lines are lost."""
        if not self._path:  # it is the log itself that fails
            return
        if error is not None and not self._is_failing:
            log.error("audit_not_written", file=self._path, error=error.strerror)
        elif error is None and self._is_failing:
            log.info("audit_written_again", file=self._path)
        self._is_failing = error is not None


class UnwrittenAudit(Audit):
    """The audit of a process that changes nothing: nothing that it tries out has happened."""

    def record(self, event: Event, result: Reason | Result, **about: Unpack[About]) -> None:
        """Takes nothing."""


def _readable(line: Line) -> Line:
    """As it is written: the time (RFC 3339, UTC), and no more of any text than is kept."""
    moment = datetime.fromtimestamp(line["time"], UTC).isoformat(timespec="milliseconds")
    given = {**line, "time": moment.replace("+00:00", "Z")}
    return {
        name: value if isinstance(value, int | float) else str(value)[:LONGEST_VALUE]
        for name, value in given.items()
        if value not in {None, ""}
    }


# --- where it is written -------------------------------------------------------------------------


class _Sink(Protocol):
    def write(self, lines: Sequence[Line]) -> int:
        """Writes these lines, and may take as long as it takes. How many of them, from the first on.

        Raises OSError where it is none.
        """

    def close(self) -> None:
        """Nothing more comes."""


class _Log:
    """The log, whatever its level: nobody loses the audit by asking for fewer messages."""

    def __init__(self) -> None:
        self._log = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger("info"))

    def write(self, lines: Sequence[Line]) -> int:
        """See _Sink.write."""
        for line in lines:
            self._log.info(**line)
        return len(lines)

    def close(self) -> None:
        """See _Sink.close."""


class _File:
    """A JSON object a line, added to a file that others may add to as well.

    Where the file was moved or removed, a new one is begun. One that it makes is private to its owner.
    """

    def __init__(self, path: str) -> None:
        """Raises AuditUnusable."""
        self._path = path
        self._is_torn = False
        try:
            self._open()
        except OSError as error:
            raise AuditUnusable(f"the audit cannot be written to {path}: {error.strerror}") from None

    def write(self, lines: Sequence[Line]) -> int:
        """See _Sink.write. All at once, so that the lines of several processes do not mix."""
        self._follow()
        # What a full disk has cut off is no beginning of these.
        start = b"\n" if self._is_torn else b""
        data = start + b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines)
        taken = data[: os.write(self._file, data)]
        self._is_torn = not taken.endswith(b"\n")
        return taken.count(b"\n") - len(start)

    def close(self) -> None:
        """See _Sink.close."""
        os.close(self._file)

    def _follow(self) -> None:
        try:
            is_there = os.path.samestat(Path(self._path).stat(), os.fstat(self._file))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            before = self._file
            self._open()
            os.close(before)

    def _open(self) -> None:
        # A pipe that nobody reads is refused at once, and not waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._file = os.open(self._path, flags, _PRIVATE)
        os.set_blocking(self._file, True)
