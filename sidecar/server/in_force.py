"""The settings under which workers serve, and how they follow when those are read again."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sidecar.server.channel import Follow
from sidecar.server.logging import set_up_log
from sidecar.server.reloading import ReadSettings, read_again
from sidecar.server.workers import Worker
from sidecar.settings import Settings, with_fixed

log = structlog.get_logger(__name__)


class InForce:
    """`settings` are those in force: new processes begin under them.

    One worker follows first, and tells the log and the audit. Where it cannot, nothing changes in any.
    """

    def __init__(self, settings: Settings, read: ReadSettings, workers: Sequence[Worker]) -> None:
        self.settings = settings
        self._read = read
        self._workers = workers
        self._is_asked = False
        self._given: Settings | None = None
        self._first: Worker | None = None
        self._was_good = True

    def ask(self) -> None:
        """The settings are to be read again. Who asks meanwhile has them read once more afterwards."""
        self._is_asked = True

    def read_where_asked(self) -> None:
        """As soon as a worker serves that can be the first to follow."""
        first = next((worker for worker in self._workers if worker.is_serving), None)
        if not self._is_asked or self._first is not None or first is None:
            return
        self._is_asked = False
        self._given, self._first = read_again(self._read), first
        first.tell(Follow(self._given, tells=True))

    def followed(self, worker: Worker, *, is_done: bool) -> None:
        """What came of it in the first worker; the others follow, or learn that nobody does."""
        if worker is not self._first:
            return  # it answered while it began to drain: another one has been asked
        given, self._first, self._given = self._given, None, None
        self._was_good = is_done
        if given is not None and is_done:
            self.settings = worker.settings = with_fixed(given, self.settings)
            set_up_log(self.settings)
        for each in self._workers:
            if each is not worker and each.is_serving:
                self.bring_up_to_date(each)

    def left(self, worker: Worker) -> None:
        """It ends in order, and follows no more: where it was to be the first, another one is."""
        if worker is self._first:
            self._first = self._given = None
            self.ask()

    def died(self, worker: Worker, status: int) -> None:
        """The first to follow may have died of it: the others do not try."""
        if worker is self._first:
            log.error("reload_failed", faults=0, worker=worker.slot, status=status)
            self.followed(worker, is_done=False)

    def bring_up_to_date(self, worker: Worker) -> None:
        """Tells one that serves what the others have been told before."""
        if worker.settings is not self.settings:
            worker.settings = self.settings
            worker.tell(Follow(self.settings, tells=False))
        if not self._was_good:
            worker.tell(Follow(None, tells=False))
