"""Counts in windows of time: in this process alone, and in the store, where all processes count as one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import nlargest

import structlog
from limits.aio.storage import Storage

from sidecar.errors import StoreUnavailable
from sidecar.ports import Clock, CounterStore
from sidecar.records import Counter

log = structlog.get_logger(__name__)

MOST_KEYS = 65_536
"""Windows of one limit in memory; beyond that those that began first are forgotten."""

MOST_KEPT = 4096
"""Windows of one limit that are written to the store at once: the fullest. A few milliseconds."""


class _Window:
    __slots__ = ("count", "ends_at")

    def __init__(self, count: int, ends_at: float) -> None:
        self.count = count
        self.ends_at = ends_at


class Windows:
    """The windows of one limit, by our clock, at most MOST_KEYS of them.

    All have the same length, so that those which began first also end first. The library's own memory
    goes by the system's clock, and has no bound.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def add(self, key: str, seconds: float, amount: int = 1) -> int:
        """The count in the window that is open; else in one that begins now, `seconds` long."""
        now = self._clock.now()
        window = self._windows.get(key)
        if window is None or window.ends_at <= now:
            self._windows.pop(key, None)
            window = self._begin(key, 0, now + seconds)
        window.count += amount
        return window.count

    def find(self, key: str) -> Counter | None:
        """The window that is open."""
        window = self._windows.get(key)
        if window is None or window.ends_at <= self._clock.now():
            return None
        return Counter(key, window.count, window.ends_at)

    def take(self, counter: Counter) -> None:
        """Takes away what was found in a window; nothing where it is not the same any more."""
        window = self._windows.get(counter.key)
        if window is None or window.ends_at != counter.ends_at:
            return
        window.count -= counter.count
        if not window.count:
            del self._windows[counter.key]

    def clear(self, key: str) -> None:
        """Forgets one window."""
        self._windows.pop(key, None)

    def fullest(self) -> list[Counter]:
        """The open windows in which most was counted, at most MOST_KEPT of them."""
        now = self._clock.now()
        still_open = (item for item in self._windows.items() if item[1].ends_at > now)
        found = nlargest(MOST_KEPT, still_open, key=lambda item: item[1].count)
        return [Counter(key, window.count, window.ends_at) for key, window in found]

    def restore(self, counters: Iterable[Counter], longest: float) -> None:
        """Goes on with these, in the order of their ends; none for more than `longest` seconds from now."""
        latest = self._clock.now() + longest
        for counter in counters:
            self._begin(counter.key, counter.count, min(counter.ends_at, latest))

    def _begin(self, key: str, count: int, ends_at: float) -> _Window:
        self._forget_some()
        window = self._windows[key] = _Window(count, ends_at)
        return window

    def _forget_some(self) -> None:
        """Those that have ended, and the oldest where there are too many."""
        now = self._clock.now()
        while self._windows:
            oldest = next(iter(self._windows.values()))
            if oldest.ends_at > now and len(self._windows) < MOST_KEYS:
                return
            self._windows.popitem(last=False)


class SharedWindows(Storage):
    """The windows of one limit in the store, where the library's limiter counts.

    What cannot be written is counted in this process's memory, until it can: a count is the sum of both, so
    that nobody gains by a store that is locked or full. Where the store cannot even be read, every method
    raises StoreUnavailable.
    """

    def __init__(self, limit: str, store: CounterStore, clock: Clock) -> None:
        super().__init__()
        self._limit = limit
        self._store = store
        self._clock = clock
        self._unwritten = Windows(clock)
        self._is_writable = True

    def go_on_from(self, before: SharedWindows) -> None:
        """Counts on with what these could not write, together with them."""
        self._unwritten = before._unwritten
        self._is_writable = before._is_writable

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What the library is to take for a failing storage: what fails here, the caller is to know."""
        return ()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Counts, in a window of `expiry` seconds that begins with its first count."""
        now = self._clock.now()
        try:
            stored = await self._store.add(key, now=now, ends_at=now + expiry, amount=amount)
        except StoreUnavailable as error:
            self._say_whether_writable(error)
            self._unwritten.add(key, expiry, amount)
            return await self.get(key)
        self._say_whether_writable(None)
        unwritten = self._unwritten.find(key)
        return stored.count + (unwritten.count if unwritten else 0)

    async def find(self, key: str) -> Counter | None:
        """The window that is open: all that was counted in it, and when the last of it ends."""
        stored = await self._store.find(key, now=self._clock.now())
        unwritten = self._unwritten.find(key)
        if stored is None or unwritten is None:
            return stored or unwritten
        return Counter(key, stored.count + unwritten.count, max(stored.ends_at, unwritten.ends_at))

    async def get(self, key: str) -> int:
        """The count in the window that is open."""
        found = await self.find(key)
        return found.count if found else 0

    async def get_expiry(self, key: str) -> float:
        """When the window ends."""
        found = await self.find(key)
        return found.ends_at if found else self._clock.now()

    async def clear(self, key: str) -> None:
        """Forgets one window, as far as the store can be written."""
        self._unwritten.clear(key)
        try:
            await self._store.clear([key])
        except StoreUnavailable as error:
            self._say_whether_writable(error)

    async def settle(self) -> None:
        """Writes what could not be written before. Raises StoreUnavailable where it still cannot."""
        for counter in self._unwritten.fullest():
            await self._store.add(
                counter.key, now=self._clock.now(), ends_at=counter.ends_at, amount=counter.count
            )
            self._unwritten.take(counter)

    async def check(self) -> bool:
        """Whether it works: the store says so itself."""
        return self._is_writable

    async def reset(self) -> None:
        """Nobody forgets everything: the library offers it where a storage can."""
        raise NotImplementedError

    def _say_whether_writable(self, error: StoreUnavailable | None) -> None:
        """Once when an outage begins and once when it ends, however much is counted."""
        if error is not None and self._is_writable:
            log.error("counting_in_memory", limit=self._limit, error=str(error))
        elif error is None and not self._is_writable:
            log.info("counting_in_store_again", limit=self._limit)
        self._is_writable = error is None
