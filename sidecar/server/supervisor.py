"""The parent of the workers: it begins them, replaces those that die, and ends them.

It has neither an event loop nor threads: it may fork at any time.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

import structlog

from sidecar.clock import SystemClock
from sidecar.errors import WorkerFailed
from sidecar.server.channel import Channel, Ending, Failed, Followed, Serving
from sidecar.server.forking import Signals
from sidecar.server.in_force import InForce
from sidecar.server.reloading import ReadSettings
from sidecar.server.scoreboard import Scoreboard
from sidecar.server.shared_metrics import retire
from sidecar.server.workers import Worker
from sidecar.settings import Settings

_GRACE = 5.0
"""Seconds that workers get beyond the drain, for what they do after it."""

_IN_ORDER = {0, -signal.SIGTERM}
"""Exit statuses. The signal may come before it is heard."""

log = structlog.get_logger(__name__)


class Seat(NamedTuple):
    """Where a process works. Of all that ever do, the one that begins first `is_first`."""

    slot: int
    is_first: bool


Work = Callable[[Seat, Settings, Channel], None]
"""What a process does, from its beginning to its end."""


class Supervisor:
    """Runs as many workers as the settings say, on listeners that the parent has bound."""

    def __init__(
        self,
        settings: Settings,
        read: ReadSettings,
        work: Work,
        board: Scoreboard,
        listeners: Sequence[socket.socket],
    ) -> None:
        self._work = work
        self._board = board
        self._listeners = listeners
        self._clock = SystemClock()
        self._workers = [Worker(slot, self._clock) for slot in range(board.slots)]
        self._in_force = InForce(settings, read, self._workers)
        self._kill_at = inf
        self._is_stopping = False
        self._failure = ""
        self._is_orderly = True

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and the end of every worker.

        Raises WorkerFailed where one ends before it has ever served; SystemExit(1) where not all ended
        in order.
        """
        with Signals() as signals:
            self._start_those_due(signals)
            while not self._is_over():
                self._wait(signals)
                self._obey(signals.take())
                self._look_after_workers()
                if not self._is_stopping:
                    self._in_force.read_where_asked()
                    self._start_those_due(signals)
        if self._failure:
            raise WorkerFailed(self._failure)
        if not self._is_orderly:
            sys.exit(1)

    def _is_over(self) -> bool:
        return self._is_stopping and not any(worker.pid for worker in self._workers)

    def _wait(self, signals: Signals) -> None:
        """For a signal, a message, or the next moment at which something is due. Hears the messages."""
        moments = [self._kill_at] if self._is_stopping else [each.due_at for each in self._to_be_started()]
        moment = min(moments, default=inf)
        seconds = None if moment == inf else max(0.0, moment - self._clock.monotonic())
        talking = {each.channel.fileno(): each for each in self._workers if each.channel is not None}
        readable, _, _ = select.select([signals.fileno(), *talking], [], [], seconds)
        for number in talking.keys() & readable:
            self._hear(talking[number])

    def _obey(self, came: set[int]) -> None:
        if signal.SIGTERM in came or signal.SIGINT in came:
            self._stop()
        if signal.SIGHUP in came:
            self._in_force.ask()

    # --- the workers' lives --------------------------------------------------------------------------

    def _to_be_started(self) -> list[Worker]:
        """At the first start one after the other: the first makes the store and its keys, or says why not."""
        newcomer = next((worker for worker in self._workers if not worker.has_served), None)
        return [each for each in self._workers if not each.pid and (each.has_served or each is newcomer)]

    def _start_those_due(self, signals: Signals) -> None:
        for worker in self._to_be_started():
            if self._clock.monotonic() >= worker.due_at:
                seat = Seat(worker.slot, is_first=not any(each.has_served for each in self._workers))
                settings = self._in_force.settings
                others = [each.channel for each in self._workers if each.channel is not None]
                worker.start(partial(self._work, seat, settings), settings, signals, others)

    def _hear(self, worker: Worker) -> bool:
        """Whether it has said something."""
        match worker.receive():
            case Serving():
                self._serves(worker)
            case Followed(is_done):
                self._in_force.followed(worker, is_done=is_done)
            case Ending():
                worker.is_serving = False
                self._in_force.left(worker)
            case Failed(why):
                worker.last_words = why
            case _:
                return False
        return True

    def _serves(self, worker: Worker) -> None:
        is_new = not worker.has_served
        worker.is_serving = worker.has_served = True
        self._in_force.bring_up_to_date(worker)
        if not is_new:
            log.info("worker_serves_again", worker=worker.slot, pid=worker.pid)
        elif all(each.has_served for each in self._workers):
            server = self._in_force.settings.server
            log.info(
                "started",
                listen=server.listen,
                admin_listen=server.admin_listen,
                workers=len(self._workers),
            )

    def _look_after_workers(self) -> None:
        for worker in self._workers:
            status = worker.reap()
            if status is not None:
                while self._hear(worker):
                    pass
                self._ended(worker, status)
        if self._clock.monotonic() >= self._kill_at:
            self._kill()

    def _ended(self, worker: Worker, status: int) -> None:
        retire(self._board, worker.slot)
        what = {"worker": worker.slot, "status": status, "error": worker.last_words}
        if self._is_stopping:
            if status not in _IN_ORDER:
                self._is_orderly = False
                log.error("worker_ended", **what)
        elif not worker.has_served:
            self._failure = worker.last_words or f"a worker ended with status {status} before it served"
            self._stop()
        elif status in _IN_ORDER:
            log.info("worker_drained", worker=worker.slot, again_in=worker.rest())
            self._in_force.left(worker)
        else:
            log.error("worker_ended", **what, again_in=worker.rest())
            self._in_force.died(worker, status)

    # --- the end -------------------------------------------------------------------------------------

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._kill_at = self._clock.monotonic() + self._in_force.settings.server.drain + _GRACE
        for listener in self._listeners:
            listener.close()  # or whoever connects when no worker accepts any more would wait here
        for worker in self._workers:
            worker.signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = inf
        for worker in self._workers:
            if worker.pid:
                log.error("worker_killed", worker=worker.slot, pid=worker.pid)
                worker.signal(signal.SIGKILL)
