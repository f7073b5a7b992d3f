"""A bounded memory that is read as fast as a dictionary, and that a flood of new entries does not empty."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from sidecar.telemetry import Metrics

CHANCES = 64
"""That are given at once: as many entries as can be looked at in the time of a check."""


class Entry(Protocol):
    """What is kept."""

    size: int
    """In bytes."""

    def take_chance(self) -> bool:
        """Whether it was used since this was last asked."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Entry)


class SecondChance(Generic[K, V]):
    """Entries of `most_bytes` together. The oldest goes first, unless it was used since it was last its turn.

    Of so many that were, one goes all the same: nobody waits until thousands have had their turn.

    Whoever reads looks into `entries` and notes the use in the entry itself, which is a store and no call.
    `dropped` is called with what went.
    """

    def __init__(
        self, name: str, most_bytes: float, metrics: Metrics, dropped: Callable[[V], None] = lambda _: None
    ) -> None:
        self.entries: OrderedDict[K, V] = OrderedDict()
        self.size = 0
        self._most = most_bytes
        self._dropped = dropped
        self._name = (name,)
        self._evictions = metrics.cache_evictions

    def put(self, key: K, entry: V) -> None:
        """Adds what was not there."""
        self.entries[key] = entry
        self.grow(entry.size)

    def grow(self, size: int) -> None:
        """Makes room for what an entry has become larger by."""
        self.size += size
        chances = CHANCES
        while self.size > self._most:
            key, entry = self.entries.popitem(last=False)
            if chances and entry.take_chance():
                chances -= 1
                self.entries[key] = entry
                continue
            self.size -= entry.size
            self._evictions.inc(self._name)
            self._dropped(entry)

    def clear(self) -> None:
        """Forgets everything."""
        self.entries.clear()
        self.size = 0
