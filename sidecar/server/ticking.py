"""Time, as connections count it: one timer for all of them, since one for each costs more than an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

PATIENCE = 10.0
"""Seconds for a new connection to send its first head, for any head from its first byte to its last, and for
a client to fetch what it is sent last."""

TICKS = 10
"""As many are in that time. The one in which it begins is not a whole one, and does not count."""


class Ticked(Protocol):
    """A connection."""

    def tick(self) -> None:
        """A tick of time has passed."""


class Ticking:
    """Tells a listener's connections ten times in `patience` that time passes, while there are any."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.seconds = patience / TICKS
        self._is_running = False

    def start(self, connections: Collection[Any]) -> None:
        """Begins, unless it is running."""
        if not self._is_running:
            self._is_running = True
            asyncio.get_running_loop().call_later(self.seconds, self._tick, connections)

    def _tick(self, connections: Collection[Ticked]) -> None:
        for connection in list(connections):
            connection.tick()
        self._is_running = False
        if connections:
            self.start(connections)
