"""Limits on floods and on guessing passwords: rates per client, and bans for users and clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import structlog
from cachetools import TLRUCache, TTLCache
from limits import RateLimitItem, parse
from limits.limits import RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from sidecar.errors import Throttled
from sidecar.model import IPAddress, Reason
from sidecar.ports import Clock
from sidecar.settings import Limits, Rate
from sidecar.telemetry import Metrics
from sidecar.trust import client_network, contains

log = structlog.get_logger(__name__)

MOST_KEYS = 65_536
"""Users and clients that are counted at once; beyond that the oldest are forgotten."""


@dataclass(slots=True)
class _Window:
    count: int
    ends_at: float


class BoundedStorage(Storage):
    """Counts in this process: at most MOST_KEYS windows, by our clock.

    The library's own memory never forgets a key, and goes by the system's clock.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._windows: TLRUCache[str, _Window] = TLRUCache(
            MOST_KEYS, ttu=lambda _key, window, _now: window.ends_at, timer=clock.now
        )

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What the library is to take for a failing storage: nothing fails here."""
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Counts, in a window of `expiry` seconds that begins with its first count."""
        try:
            window = self._windows[key]
        except KeyError:
            window = self._windows[key] = _Window(0, self._clock.now() + expiry)
        window.count += amount
        return window.count

    def get(self, key: str) -> int:
        """The count in the window that is open."""
        window = self._windows.get(key)
        return window.count if window else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends."""
        window = self._windows.get(key)
        return window.ends_at if window else self._clock.now()

    def check(self) -> bool:
        """Whether it works."""
        return True

    def reset(self) -> int:
        """Forgets everything; how much that was."""
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Forgets one window."""
        self._windows.pop(key, None)


class _Rate:
    """So many in a window. The library's limiter would do, but costs too much for every request."""

    def __init__(self, scope: str, rate: Rate, clock: Clock) -> None:
        self.scope = scope
        self._clock = clock
        self._storage = BoundedStorage(clock)
        item: RateLimitItem = parse(str(rate))
        self._most, self._seconds = item.amount, item.get_expiry()

    def admits(self, key: str) -> bool:
        """Counts one. Whether it is not too many."""
        return self._storage.incr(key, self._seconds) <= self._most

    def ends_in(self, key: str) -> float:
        """Seconds until the window ends."""
        return self._storage.get_expiry(key) - self._clock.now()


class RequestLimits:
    """Counts requests, sign-ins and failed ones. A client is its network; `user` names one user one way.

    What comes from an exempt network is counted for its user alone.
    """

    def __init__(self, settings: Limits, clock: Clock, metrics: Metrics) -> None:
        # Each counts for itself: a flood of requests must not push out who guesses passwords.
        self._windows = FixedWindowRateLimiter(BoundedStorage(clock))
        self._checks = _Rate("checks", settings.checks, clock)
        self._attempts = _Rate("login", settings.login, clock)
        self._failures = RateLimitItemPerSecond(settings.ban.failures, max(1, round(settings.ban.window)))
        self._bans: TTLCache[str, float] = TTLCache(
            MOST_KEYS, ttl=settings.ban.duration, timer=clock.monotonic
        )
        self._ban_duration = settings.ban.duration
        self._exempt = settings.exempt_networks
        self._counted_as = lru_cache(maxsize=4096)(self._key_of_client)
        self._checking: Counter[str] = Counter()
        self._clock = clock
        self._refused = metrics.rate_limited

    def count_check(self, client: IPAddress) -> None:
        """A request to a product's endpoint. Raises Throttled where this client has asked too often."""
        self._count(self._checks, client)

    def count_attempt(self, client: IPAddress) -> None:
        """A sign-in. Raises Throttled where this client has tried too often."""
        self._count(self._attempts, client)

    def refuse_banned(self, client: IPAddress, user: str = "") -> None:
        """Raises Throttled where the client or the user is banned."""
        for key in self._keys(client, user):
            banned_at = self._bans.get(key)
            if banned_at is not None:
                elapsed = self._clock.monotonic() - banned_at
                self._refuse("ban", Reason.BANNED, self._ban_duration - elapsed)

    @contextmanager
    def checking(self, client: IPAddress, user: str) -> Iterator[None]:
        """While a password of this user is checked.

        Raises Throttled where the client or the user is banned, and where as many of the user's
        passwords are being checked as could still be wrong: guesses at once count as guesses. (A client's
        are bounded by the queue in front of the hashes: behind one address there may be many users.)
        """
        self.refuse_banned(client, user)
        if self._checking[user] >= self._windows.get_window_stats(self._failures, _user_key(user)).remaining:
            self._refuse("login", Reason.RATE_LIMITED, 1.0)
        self._checking[user] += 1
        try:
            yield
        finally:
            self._checking[user] -= 1
            if not self._checking[user]:
                del self._checking[user]

    def count_failure(self, client: IPAddress, user: str = "") -> None:
        """A wrong password of this user, or a wrong key; the last one that is allowed bans."""
        for key in self._keys(client, user):
            self._windows.hit(self._failures, key)
            if not self._windows.get_window_stats(self._failures, key).remaining:
                self._bans[key] = self._clock.monotonic()
                log.warning("banned", who=key, seconds=self._ban_duration)
                self._windows.clear(self._failures, key)

    def _count(self, rate: _Rate, client: IPAddress) -> None:
        key = self._counted_as(client)
        if key and not rate.admits(key):
            self._refuse(rate.scope, Reason.RATE_LIMITED, rate.ends_in(key))

    def _refuse(self, scope: str, reason: Reason, retry_after: float) -> NoReturn:
        self._refused.labels(scope).inc()
        raise Throttled(reason, max(1.0, retry_after))

    def _keys(self, client: IPAddress, user: str) -> list[str]:
        """What is counted and banned; nothing of a client that is exempt."""
        return [key for key in (self._counted_as(client), user and _user_key(user)) if key]

    def _key_of_client(self, client: IPAddress) -> str:
        return "" if contains(self._exempt, client) else f"client:{client_network(client)}"


def _user_key(user: str) -> str:
    return f"user:{user}"
