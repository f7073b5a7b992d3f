"""Workers as their parent sees them: each is a place, in which one process follows another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import structlog

from sidecar.ports import Clock
from sidecar.server.channel import Channel
from sidecar.server.forking import Signals, fork
from sidecar.settings import Settings

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds until a process that died is replaced: twice as many each time."""

LONG_ENOUGH = 60.0
"""Seconds of life after which a death is no reason to wait longer than the first time."""

log = structlog.get_logger(__name__)


class Backoff:
    """How long to wait before what has died begins again."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def pause_after(self, lived: float) -> float:
        """Seconds to wait, where it has lived for so many."""
        pause = FIRST_PAUSE if lived >= LONG_ENOUGH else self._next
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class Worker:
    """One of the workers. Its `settings` are those under which its process serves, or begins to.

    `pid` is 0 while it has no process; `last_words` are those of the last process that has ended.
    """

    def __init__(self, slot: int, clock: Clock) -> None:
        self.slot = slot
        self.pid = 0
        self.settings: Settings | None = None
        self.channel: Channel | None = None
        self.is_serving = self.has_served = False
        self.last_words = ""
        self.due_at = -inf
        self._clock = clock
        self._began_at = -inf
        self._backoff = Backoff()

    def start(
        self,
        work: Callable[[Channel], None],
        settings: Settings,
        signals: Signals,
        channels: Iterable[Channel],
    ) -> None:
        """Begins a process (see `fork`). Where the system refuses one, it is due again later."""
        self.settings, self.last_words = settings, ""
        self._began_at = self._clock.monotonic()
        try:
            self.pid, self.channel = fork(work, signals, channels)
        except OSError as error:
            log.warning("worker_not_started", worker=self.slot, error=error.strerror, again_in=self.rest())

    def tell(self, message: object) -> None:
        """One that takes no message hangs: it is killed."""
        try:
            if self.channel is not None:
                self.channel.send(message)
        except OSError:
            self._break_off()

    def receive(self) -> Any:
        """What it says next; None where it says nothing any more."""
        try:
            return self.channel.receive() if self.channel is not None else None
        except (EOFError, OSError):
            self._break_off()
            return None

    def signal(self, number: signal.Signals) -> None:
        """To its process, where it has one."""
        if self.pid:
            os.kill(self.pid, number)

    def reap(self) -> int | None:
        """The exit status where its process has ended, negative where a signal ended it. Else None."""
        pid, status = os.waitpid(self.pid, os.WNOHANG) if self.pid else (0, 0)
        if not pid:
            return None
        self.pid, self.is_serving = 0, False
        return os.waitstatus_to_exitcode(status)

    def rest(self) -> float:
        """After an end: seconds until the next process is due."""
        now = self._clock.monotonic()
        pause = self._backoff.pause_after(now - self._began_at)
        self.due_at = now + pause
        return pause

    def _break_off(self) -> None:
        """Where it is not ending already, it hangs."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.signal(signal.SIGKILL)
