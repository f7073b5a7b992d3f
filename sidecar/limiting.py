"""Limits on guessing passwords: a rate per client, and bans for users and clients."""

from __future__ import annotations

from cachetools import TTLCache
from limits import RateLimitItem, parse
from limits.limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from sidecar.errors import Throttled
from sidecar.model import Reason
from sidecar.ports import Clock
from sidecar.settings import Limits
from sidecar.telemetry import Metrics

_MOST_BANS = 65_536


class SignInLimits:
    """Counts attempts and failures. `client` is a network, `user` whatever names one user one way."""

    def __init__(self, settings: Limits, clock: Clock, metrics: Metrics) -> None:
        storage = MemoryStorage()
        self._rates = MovingWindowRateLimiter(storage)
        self._failures = FixedWindowRateLimiter(storage)
        self._attempts_allowed: RateLimitItem = parse(str(settings.login))
        self._failures_allowed = RateLimitItemPerSecond(settings.ban.failures, int(settings.ban.window) or 1)
        self._bans: TTLCache[str, float] = TTLCache(
            _MOST_BANS, ttl=settings.ban.duration, timer=clock.monotonic
        )
        self._ban_duration = settings.ban.duration
        self._clock = clock
        self._refused = metrics.rate_limited

    def count_attempt(self, client: str) -> None:
        """Raises Throttled where this client network has tried too often."""
        if not self._rates.hit(self._attempts_allowed, "attempt", client):
            until = self._rates.get_window_stats(self._attempts_allowed, "attempt", client).reset_time
            self._refused.labels("login").inc()
            raise Throttled(Reason.RATE_LIMITED, max(1.0, until - self._clock.now()))

    def refuse_banned(self, client: str, user: str) -> None:
        """Raises Throttled where the client or the user is banned."""
        for key in (_client(client), _user(user)):
            banned_at = self._bans.get(key)
            if banned_at is not None:
                self._refused.labels("ban").inc()
                elapsed = self._clock.monotonic() - banned_at
                raise Throttled(Reason.BANNED, max(1.0, self._ban_duration - elapsed))

    def count_failure(self, client: str, user: str) -> None:
        """A wrong password; the last one that is allowed bans."""
        for key in (_client(client), _user(user)):
            self._failures.hit(self._failures_allowed, "failure", key)
            if self._failures.get_window_stats(self._failures_allowed, "failure", key).remaining == 0:
                self._bans[key] = self._clock.monotonic()
                self._failures.clear(self._failures_allowed, "failure", key)


def _client(client: str) -> str:
    return f"client:{client}"


def _user(user: str) -> str:
    return f"user:{user}"
