"""A clock that tests set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Stands still until it is told to go on."""

    wall: float = 1_800_000_000.0
    ticks: float = 1000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.wall += seconds
        self.ticks += seconds
