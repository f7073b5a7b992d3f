"""Limits on floods and on guessing passwords: rates per client, and bans for users and clients."""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

import structlog
from limits import RateLimitItem
from limits.aio.strategies import FixedWindowRateLimiter
from limits.limits import RateLimitItemPerSecond
from limits.util import granularity_from_string

from sidecar.audit import Audit, Event, Result
from sidecar.counting import SharedWindows, Windows
from sidecar.errors import StoreUnavailable, Throttled
from sidecar.model import IPAddress, Reason
from sidecar.ports import Clock, CounterStore
from sidecar.settings import Limits, Rate
from sidecar.telemetry import Metrics
from sidecar.trust import client_network, contains

log = structlog.get_logger(__name__)

BANS = "ban/"
"""What the keys of bans in the store begin with; then comes who is banned."""

_CHECKS = "checks/"


def as_user(user: str) -> str:
    """Who is counted and banned for a user, named one way."""
    return f"user:{user}"


def as_client(client: IPAddress) -> str:
    """Who is counted and banned for a client: its network."""
    return f"client:{client_network(client)}"


class _RateInMemory:
    """So many in a window. The library's limiter would do, but costs too much for every request."""

    def __init__(self, rate: Rate, store: CounterStore, clock: Clock) -> None:
        self._clock = clock
        self._store = store
        self._windows = Windows(clock)
        item = _item(rate, "checks")
        self._most, self._seconds = item.amount, item.get_expiry()

    def admits(self, who: str) -> bool:
        """Counts one. Whether it is not too many."""
        return self._windows.add(_CHECKS + who, self._seconds) <= self._most

    def ends_in(self, who: str) -> float:
        """Seconds until the window ends."""
        window = self._windows.find(_CHECKS + who)
        return window.ends_at - self._clock.now() if window else 0.0

    def go_on_from(self, before: _RateInMemory) -> None:
        """Counts on in the same windows, together with it; one that is open ends when it would have."""
        self._windows = before._windows

    async def load(self) -> None:
        """Goes on where the process before ended. Raises StoreUnavailable."""
        saved = await self._store.list(_CHECKS, now=self._clock.now())
        self._windows.restore(saved, self._seconds)

    async def save(self) -> None:
        """For the process after this one. Raises StoreUnavailable."""
        await self._store.put(await self._windows.fullest())


class RequestLimits:
    """Counts requests, sign-ins and failed ones. A client is its network; `user` names one user one way.

    Sign-ins, failures and bans are in the store: all processes share them, and they outlive every process.
    Requests to the products' endpoints are counted by each process for itself. What comes from an exempt
    network is counted for its user alone. Every coroutine may raise StoreUnavailable, where the store cannot
    be read; one that cannot be written stops no counting.
    """

    def __init__(
        self, settings: Limits, store: CounterStore, audit: Audit, clock: Clock, metrics: Metrics
    ) -> None:
        # Each counts for itself: a flood of requests must not push out who guesses passwords.
        self._checks = _RateInMemory(settings.checks, store, clock) if settings.checks else None
        self._attempts = _item(settings.login, "login")
        self._failures = RateLimitItemPerSecond(
            settings.ban.failures, max(1, round(settings.ban.window)), "failures"
        )
        lengths = {
            "login": self._attempts.get_expiry(),
            "failures": self._failures.get_expiry(),
            "ban": settings.ban.duration,
        }
        self._shared = SharedWindows(lengths, store, clock)
        self._limiter = FixedWindowRateLimiter(self._shared)
        self._ban_duration = settings.ban.duration
        self._exempt = settings.exempt_networks
        self._counted_as = lru_cache(maxsize=4096)(self._who_of_client)
        self._audit = audit
        self._clock = clock
        self._refused = metrics.rate_limited

    def go_on_from(self, before: RequestLimits) -> None:
        """Counts on what these have in memory, together with them: other limits forgive nobody anything."""
        self._shared.go_on_from(before._shared)
        if self._checks is not None and before._checks is not None:
            self._checks.go_on_from(before._checks)

    def count_check(self, client: IPAddress) -> None:
        """A request to a product's endpoint. Raises Throttled where this client has asked too often."""
        if self._checks is None:
            return
        who = self._counted_as(client)
        if who and not self._checks.admits(who):
            self._refuse("checks", Reason.RATE_LIMITED, self._checks.ends_in(who))

    async def count_attempt(self, client: IPAddress) -> None:
        """A sign-in. Raises Throttled where this client has tried too often."""
        who = self._counted_as(client)
        if not who:
            return
        limiter, rate = self._limiter, self._attempts
        # Looks before it counts: a flood then costs reads, and no writes.
        if await limiter.test(rate, who) and await limiter.hit(rate, who):
            return
        ends_at = await self._shared.get_expiry(rate.key_for(who))
        self._refuse("login", Reason.RATE_LIMITED, ends_at - self._clock.now())

    async def refuse_banned(self, client: IPAddress, user: str = "") -> None:
        """Raises Throttled where the client or the user is banned."""
        for who in self._counted(client, user):
            await self._refuse_if_banned(who)

    async def count_failure(self, client: IPAddress, user: str = "") -> None:
        """A wrong password of this user, or a wrong key; the last one that is allowed bans.

        Raises Throttled where it was one too many: of guesses at once, no more may be answered than of as
        many one after the other, in whichever process they are made.
        """
        for who in self._counted(client, user):
            await self._count_failure_of(who, client)

    async def load(self) -> None:
        """Takes up what the process before this one had counted. An outage is logged, and nothing is lost
        but that."""
        if self._checks is None:
            return
        try:
            await self._checks.load()
        except StoreUnavailable as error:
            log.warning("limits_not_loaded", error=str(error))

    async def save(self) -> None:
        """Writes what only this process knows. An outage is logged: there is a next time."""
        try:
            await self._shared.settle()
            if self._checks is not None:
                await self._checks.save()
        except StoreUnavailable as error:
            log.warning("limits_not_saved", error=str(error))

    async def _count_failure_of(self, who: str, client: IPAddress) -> None:
        limiter, rate = self._limiter, self._failures
        await limiter.hit(rate, who)
        # The ban is there before the failures that led to it are forgotten.
        if await limiter.test(rate, who) and await self._shared.find(BANS + who) is None:
            return
        # Of several failures at once, one is the first to ban: the others are too many.
        is_first = await self._shared.incr(BANS + who, self._ban_duration) == 1
        await limiter.clear(rate, who)
        if is_first:
            self._audit.record(Event.BANNED, Result.DONE, who=who, client=client, seconds=self._ban_duration)
        else:
            await self._refuse_if_banned(who)

    async def _refuse_if_banned(self, who: str) -> None:
        ban = await self._shared.find(BANS + who)
        if ban is not None:
            self._refuse("ban", Reason.BANNED, ban.ends_at - self._clock.now())

    def _refuse(self, scope: str, reason: Reason, retry_after: float) -> NoReturn:
        self._refused.labels(scope).inc()
        raise Throttled(reason, max(1.0, retry_after))

    def _counted(self, client: IPAddress, user: str) -> list[str]:
        """Who is counted and banned; nothing of a client that is exempt."""
        return [who for who in (self._counted_as(client), user and as_user(user)) if who]

    def _who_of_client(self, client: IPAddress) -> str:
        return "" if contains(self._exempt, client) else as_client(client)


def _item(rate: Rate, limit: str) -> RateLimitItem:
    """The rate as the library has it."""
    return granularity_from_string(rate.unit)(rate.count, namespace=limit)
