"""Limits on guessing passwords: a rate per client, and bans for users and clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from cachetools import TLRUCache, TTLCache
from limits import RateLimitItem, parse
from limits.limits import RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from sidecar.errors import Throttled
from sidecar.model import Reason
from sidecar.ports import Clock
from sidecar.settings import Limits
from sidecar.telemetry import Metrics

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
        window = self._windows.get(key)
        if window is None:
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


class SignInLimits:
    """Counts attempts and failures. `client` is a network, `user` whatever names one user one way."""

    def __init__(self, settings: Limits, clock: Clock, metrics: Metrics) -> None:
        self._windows = FixedWindowRateLimiter(BoundedStorage(clock))
        self._attempts: RateLimitItem = parse(str(settings.login))
        self._failures = RateLimitItemPerSecond(settings.ban.failures, max(1, round(settings.ban.window)))
        self._bans: TTLCache[str, float] = TTLCache(
            MOST_KEYS, ttl=settings.ban.duration, timer=clock.monotonic
        )
        self._ban_duration = settings.ban.duration
        self._checking: Counter[str] = Counter()
        self._clock = clock
        self._refused = metrics.rate_limited

    def count_attempt(self, client: str) -> None:
        """Raises Throttled where this client network has tried too often."""
        if not self._windows.hit(self._attempts, "attempt", client):
            ends_at, _ = self._windows.get_window_stats(self._attempts, "attempt", client)
            self._refuse("login", Reason.RATE_LIMITED, ends_at - self._clock.now())

    @contextmanager
    def checking(self, client: str, user: str) -> Iterator[None]:
        """While a password of this user is checked.

        Raises Throttled where the client or the user is banned, and where as many of the user's
        passwords are being checked as could still be wrong: guesses at once count as guesses. (A client's
        are bounded by the queue in front of the hashes: behind one address there may be many users.)
        """
        for key in _keys(client, user):
            self._refuse_banned(key)
        if self._checking[user] >= self._windows.get_window_stats(self._failures, _user_key(user)).remaining:
            self._refuse("login", Reason.RATE_LIMITED, 1.0)
        self._checking[user] += 1
        try:
            yield
        finally:
            self._checking[user] -= 1
            if not self._checking[user]:
                del self._checking[user]

    def count_failure(self, client: str, user: str) -> None:
        """A wrong password; the last one that is allowed bans."""
        for key in _keys(client, user):
            self._windows.hit(self._failures, key)
            if not self._windows.get_window_stats(self._failures, key).remaining:
                self._bans[key] = self._clock.monotonic()
                self._windows.clear(self._failures, key)

    def _refuse_banned(self, key: str) -> None:
        banned_at = self._bans.get(key)
        if banned_at is not None:
            elapsed = self._clock.monotonic() - banned_at
            self._refuse("ban", Reason.BANNED, self._ban_duration - elapsed)

    def _refuse(self, scope: str, reason: Reason, retry_after: float) -> NoReturn:
        self._refused.labels(scope).inc()
        raise Throttled(reason, max(1.0, retry_after))


def _keys(client: str, user: str) -> tuple[str, str]:
    return f"client:{client}", _user_key(user)


def _user_key(user: str) -> str:
    return f"user:{user}"
