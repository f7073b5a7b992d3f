"""Counts in windows of time: in this process alone, and in the store, where all processes count as one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import inf

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

_LOOKED_AT_ONCE = 512
"""Windows that are looked at before others have their turn: half a millisecond."""

TOLD_EVERY = 60.0
"""Seconds between two lines in the log that say that the store cannot be written."""


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

    def __len__(self) -> int:
        """How many are open."""
        now = self._clock.now()
        return sum(window.ends_at > now for window in self._windows.values())

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

    async def fullest(self) -> list[Counter]:
        """The open windows in which most was counted, at most MOST_KEPT of them.

        Others have their turn between: of very many windows, looking at all takes longer than a check may.
        """
        kept: list[tuple[int, str, float]] = []
        for number, key in enumerate(tuple(self._windows), 1):
            if not number % _LOOKED_AT_ONCE:
                await asyncio.sleep(0)
            found = self.find(key)
            if found is None:
                continue
            heappush(kept, (found.count, key, found.ends_at))
            if len(kept) > MOST_KEPT:
                heappop(kept)
        return [Counter(key, count, ends_at) for count, key, ends_at in kept]

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
    """The windows of several limits in the store, where the library's limiter counts.

    `lengths` are the limits and the seconds that a window of each has; a key begins with its limit and `/`.

    What cannot be written is counted in this process's memory, until it can: a count is the sum of both, so
    that nobody gains by a store that is locked or full. Where the store cannot even be read, every method
    raises StoreUnavailable.
    """

    def __init__(self, lengths: Mapping[str, float], store: CounterStore, clock: Clock) -> None:
        super().__init__()
        self._lengths = lengths
        self._store = store
        self._clock = clock
        # Each for itself: a flood of sign-ins must not push out a ban.
        self._unwritten = {limit: Windows(clock) for limit in lengths}
        self._settling = asyncio.Lock()
        self._is_settled = True
        self._is_outage_told = False
        self._told_at = -inf

    def go_on_from(self, before: SharedWindows) -> None:
        """Counts on with what these could not write, together with them."""
        self._unwritten, self._settling = before._unwritten, before._settling
        self._is_settled = False  # the next count looks

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
            self._tell(error)
            self._unwritten[_limit(key)].add(key, expiry, amount)
            self._is_settled = False
            return await self.get(key)
        await self._settle_where_it_can_be_written()
        unwritten = self._unwritten[_limit(key)].find(key)
        return stored.count + (unwritten.count if unwritten else 0)

    async def find(self, key: str) -> Counter | None:
        """The window that is open: all that was counted in it, and when the last of it ends."""
        stored = await self._find_stored(key)
        unwritten = self._unwritten[_limit(key)].find(key)
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
        self._unwritten[_limit(key)].clear(key)
        try:
            await self._store.clear([key])
        except StoreUnavailable as error:
            self._tell(error)

    async def settle(self) -> None:
        """Writes what could not be written before. Raises StoreUnavailable where it still cannot."""
        async with self._settling:  # what two of these found would be counted twice
            for windows in self._unwritten.values():
                for counter in await windows.fullest():
                    await self._store.add(
                        counter.key, now=self._clock.now(), ends_at=counter.ends_at, amount=counter.count
                    )
                    windows.take(counter)
            self._is_settled = not any(map(len, self._unwritten.values()))
        if self._is_settled and self._is_outage_told:
            self._is_outage_told = False
            log.info("counting_in_store_again")

    async def check(self) -> bool:
        """Whether it works: the store says so itself."""
        return self._is_settled

    async def reset(self) -> None:
        """Nobody forgets everything: the library offers it where a storage can."""
        raise NotImplementedError

    async def _find_stored(self, key: str) -> Counter | None:
        """What the store has. A window of a clock that was ahead is made as long as others, once for all."""
        now = self._clock.now()
        stored = await self._store.find(key, now=now)
        latest = now + self._lengths[_limit(key)]
        if stored is None or stored.ends_at <= latest:
            return stored
        try:
            return await self._store.add(key, now=now, ends_at=latest, amount=0)
        except StoreUnavailable as error:
            self._tell(error)
            return Counter(key, stored.count, latest)

    async def _settle_where_it_can_be_written(self) -> None:
        """A ban that is in memory alone, nobody else can see or lift: it waits for no next minute."""
        if self._is_settled or self._settling.locked():
            return
        try:
            await self.settle()
        except StoreUnavailable as error:
            self._tell(error)

    def _tell(self, error: StoreUnavailable) -> None:
        """Now and then, however much is counted: also a store that is merely busy comes and goes."""
        now = self._clock.monotonic()
        if now >= self._told_at + TOLD_EVERY:
            self._told_at, self._is_outage_told = now, True
            log.warning("counting_in_memory", error=str(error))


def _limit(key: str) -> str:
    """The limit whose window it is."""
    return key.partition("/")[0]
