"""The one clock. Nothing else in the product asks for the time."""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """The system's time, but never going backwards within a process.

    Where the system clock jumps back, time goes on at its ordinary pace until the system has caught
    up, so that nothing that expired is valid again. A jump forward is followed: it may end something
    early, by no more than the jump.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._latest = wall()
        self._latest_at = monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        ticks = self.monotonic()
        self._latest = max(self._wall(), self._latest + ticks - self._latest_at)
        self._latest_at = ticks
        return self._latest
