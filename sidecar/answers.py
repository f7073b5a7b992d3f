"""What another system said of a credential: asked once for all, and remembered for a while."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from hashlib import sha256
from math import inf
from typing import TypeVar

import structlog

from sidecar.caching import Counted, SingleFlight
from sidecar.errors import SidecarError, UpstreamNotAsked, UpstreamThrottled, UpstreamUnavailable
from sidecar.model import Rejected, Verified
from sidecar.ports import Clock
from sidecar.telemetry import Metrics

MOST_ENTRIES = 32_768
MOST_BYTES = 32 * 2**20

_REFRESHED_AHEAD = 0.2
"""The last part of `cache` in which a use of an answer has it asked again."""

NOT_ASKED_FOR = 0.5
"""Seconds for which an identity is given without asking again, after that was in vain."""

TOLD_EVERY = 60.0
"""Seconds between two lines in the log that say so."""

_ENTRY = 384
"""Bytes of an entry's times and key, and of the tables that it stands in."""

log = structlog.get_logger(__name__)

Answer = Verified | Rejected | None
Ask = Callable[[], Coroutine[None, None, Answer]]


class Answers:
    """The answers of a system that is asked about credentials.

    All durations are in seconds, and count from the moment at which the system was asked.

    - `cache`: how long an identity is used without asking, at most until its own `expires_at`.
    - `negative_cache`: the same for a refusal (Rejected, or None: not mine). Refusals are kept apart, so
      that a flood of bad credentials drops no good one.
    - `stale_if_error`: how much longer an identity is used while the system cannot be asked or wants to be
      left alone; never past `expires_at`, and never after a refusal.
    - `refuse` raises UpstreamUnavailable where the system is not to be asked now: then nothing is begun.
    - `most_entries`, `most_bytes`: bounds for identities, and the same again for refusals. What was used
      longest ago goes first; an answer that is larger than all the room is not remembered.

    `name` is the label of all of it in the metrics; its refusals are the cache `NAME:refused` there.
    """

    def __init__(
        self,
        name: str,
        *,
        cache: float,
        negative_cache: float,
        stale_if_error: float,
        refuse: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
        most_bytes: int = MOST_BYTES,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self._name = name
        self._cache = cache
        self._negative_cache = negative_cache
        self._stale_if_error = stale_if_error
        self._refuse = refuse
        self._clock = clock
        self._requests = metrics.cache_requests
        self._good: _Bounded[_Good] = _Bounded(name, most_bytes, most_entries, metrics)
        self._refused: _Bounded[_Refused] = _Bounded(f"{name}:refused", most_bytes, most_entries, metrics)
        self._flights: SingleFlight[Answer] = SingleFlight()
        self._told_at = -inf

    async def get(self, key: bytes, ask: Ask) -> Answer:
        """What `ask` answers, or answered to somebody with this key.

        `key` holds everything that the answer depends on, in a form in which no two questions are alike; of
        its secrets only a hash is kept. Whoever asks while the same is being asked waits for that answer.
        An identity comes back with `cacheable` 0: nothing else may remember it for longer.

        Raises what `ask` raises, and UpstreamUnavailable where it was stopped. Nothing raised is remembered.
        """
        digest = sha256(key).digest()
        now = self._clock.now()
        good = self._good.get(digest)
        if good is not None and now < good.fresh_until:
            self._count("hit")
            if now >= good.refresh_from:
                good.refresh_from = inf  # one call, also where it fails
                self._refresh(digest, ask)
            return good.verified
        if good is not None and now < min(good.stale_until, good.kept_until):
            self._count("stale")
            return good.verified
        refused = self._refused.get(digest)
        if refused is not None and now < refused.kept_until:
            self._count("negative")
            return refused.answer
        return await self._asked(digest, ask)

    async def close(self) -> None:
        """Stops all that is being asked, and returns when it has ended. For when nobody asks any more."""
        await self._flights.close()

    async def _asked(self, digest: bytes, ask: Ask) -> Answer:
        result = "coalesced" if digest in self._flights else "miss"
        try:
            if result == "miss":
                self._refuse()
            flight = self._flights.start(digest, partial(self._learn, digest, ask))
            await asyncio.wait((flight,))
            return self._landed(flight)
        except (UpstreamUnavailable, UpstreamThrottled) as error:
            self._tell(error)
            good, now = self._good.get(digest), self._clock.now()
            if good is None or now >= good.kept_until:
                raise
            good.stale_until = now + NOT_ASKED_FOR
            result = "stale"
            return good.verified
        finally:
            self._count(result)

    def _tell(self, error: UpstreamUnavailable | UpstreamThrottled) -> None:
        """Now and then, also where other answers between keep the circuit closed: something is wrong."""
        now = self._clock.monotonic()
        if now >= self._told_at + TOLD_EVERY and not isinstance(error, UpstreamNotAsked):
            self._told_at = now
            log.warning("upstream_did_not_answer", authenticator=self._name, error=str(error))

    def _landed(self, flight: asyncio.Task[Answer]) -> Answer:
        if flight.cancelled():  # by `close`: a caller who was cancelled does not come here
            raise UpstreamUnavailable(f"{self._name}: stopped while it was being asked")
        return flight.result()

    async def _learn(self, digest: bytes, ask: Ask) -> Answer:
        """Asks, and remembers the answer also where nobody waits for it any more."""
        asked_at = self._clock.now()  # not when it answered: that may be an older truth
        answer = await ask()
        self._good.pop(digest, None)
        self._refused.pop(digest, None)
        now = self._clock.now()
        size = _ENTRY + _size_of(answer)
        if not isinstance(answer, Verified):
            refused = _Refused(size=size, kept_until=asked_at + self._negative_cache, answer=answer)
            self._refused.put(digest, refused, now)
            return answer
        verified = answer._replace(cacheable=0.0)
        expires_at = verified.identity.expires_at
        old_at = asked_at + self._cache
        good = _Good(
            size=size,
            kept_until=min(expires_at, old_at + self._stale_if_error),
            verified=verified,
            fresh_until=min(expires_at, old_at),
            # Of `cache`, not of a life that ends sooner: of that, every answer would have a shorter one.
            refresh_from=old_at - _REFRESHED_AHEAD * self._cache,
        )
        self._good.put(digest, good, now)
        return verified

    def _refresh(self, digest: bytes, ask: Ask) -> None:
        flight = self._flights.start(digest, partial(self._learn, digest, ask))
        flight.add_done_callback(self._refreshed)

    def _refreshed(self, flight: asyncio.Task[Answer]) -> None:
        if flight.cancelled():
            return
        error = flight.exception()
        if error is None:
            return
        self._count("refresh_failed")
        if not isinstance(error, SidecarError):
            log.error("refresh_failed", cache=self._name, exc_info=error)

    def _count(self, result: str) -> None:
        self._requests.inc((self._name, result))


@dataclass(slots=True, kw_only=True)
class _Entry:
    """`size` in bytes; `kept_until` is the first moment at which it is of no use any more."""

    size: int
    kept_until: float


@dataclass(slots=True, kw_only=True)
class _Good(_Entry):
    verified: Verified
    fresh_until: float
    refresh_from: float
    stale_until: float = -inf
    """Until then it is given without asking: a moment ago that was in vain."""


@dataclass(slots=True, kw_only=True)
class _Refused(_Entry):
    answer: Rejected | None


E = TypeVar("E", bound=_Entry)


class _Bounded(Counted[bytes, E]):
    """Bounded by entries, and by the bytes that they have."""

    def __init__(self, name: str, most_bytes: int, most_entries: int, metrics: Metrics) -> None:
        super().__init__(name, most_bytes, metrics, lambda entry: entry.size)
        self._most_entries = most_entries

    def put(self, digest: bytes, entry: E, now: float) -> None:
        """Remembers what was not there, unless it is over already or too large."""
        if now >= entry.kept_until or entry.size > self.maxsize:
            return
        while len(self) >= self._most_entries:
            self.popitem()
        self[digest] = entry


def _size_of(value: object) -> int:
    """Bytes of memory, at most: what several values share is counted for each of them."""
    size = sys.getsizeof(value)
    if isinstance(value, tuple | frozenset):
        size += sum(map(_size_of, value))
    elif is_dataclass(value):
        size += sum(_size_of(getattr(value, field.name)) for field in fields(value))
    return size
