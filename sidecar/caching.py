"""What has been found out about credentials and users, for as long as it is true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from sidecar.model import Credential, HeaderLines, User, Verified
from sidecar.ports import Clock, Users
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics

MOST_ENTRIES = 32_768
"""Of each cache."""

LONGEST_CREDENTIAL = 4096
"""Bytes; a longer one is looked up every time: entries have 2 KiB as a rule, and 20 KiB at most."""

Key = tuple[str, str, bytes]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a credential: who it is, and the identity headers that say so."""

    verified: Verified
    headers: HeaderLines


@dataclass(frozen=True, slots=True)
class _Entry:
    known: Known
    generation: int
    until: float


class IdentityCache:
    """Verified credentials by authenticator, form and value. Only good ones are kept.

    A flood of bad credentials therefore evicts nothing, and a credential that was refused is good as
    soon as the store says so.
    """

    def __init__(self, clock: Clock, revocations: Revocations, metrics: Metrics) -> None:
        self._clock = clock
        self._revocations = revocations
        self._entries: _Counted[Key, _Entry] = _Counted("identity", metrics)

    def get(self, authenticator: str, credential: Credential) -> Known | None:
        """What this authenticator found out about this credential, where it is still true."""
        key = (authenticator, credential.form, credential.value)
        entry = self._entries.counted(key, self._is_true)
        return None if entry is None else entry.known

    def put(self, authenticator: str, credential: Credential, known: Known, generation: int) -> None:
        """Remembers it. `generation`: that of the revocations before it was looked up."""
        if len(credential.value) > LONGEST_CREDENTIAL:
            return
        cacheable = known.verified.cacheable
        until = float("inf") if cacheable is None else self._clock.monotonic() + cacheable
        key = (authenticator, credential.form, credential.value)
        self._entries[key] = _Entry(known, generation, until)

    def _is_true(self, entry: _Entry) -> bool:
        verified = entry.known.verified
        return (
            self._revocations.is_current(verified.identity.user_id, entry.generation)
            and self._clock.monotonic() < entry.until
            and _is_live(verified, self._clock.now())
        )


def _is_live(verified: Verified, now: float) -> bool:
    """Whether it has neither expired nor been unused for too long."""
    if verified.identity.expires_at is not None and now >= verified.identity.expires_at:
        return False
    usage, idle_timeout = verified.usage, verified.idle_timeout
    return usage is None or idle_timeout is None or now < usage.last_used_at + idle_timeout


class RememberedUsers:
    """Users by id, read again when something of theirs has changed.

    A session may have any number of tokens and a user any number of sessions and keys: each is looked up
    by itself, their user once.
    """

    def __init__(self, users: Users, revocations: Revocations, metrics: Metrics) -> None:
        self._users = users
        self._revocations = revocations
        self._entries: _Counted[int, tuple[User, int]] = _Counted("user", metrics)

    async def find(self, user_id: int) -> User | None:
        """The user with this id. Raises StoreUnavailable."""
        await self._revocations.look()
        entry = self._entries.counted(user_id, self._is_true)
        if entry is not None:
            return entry[0]
        generation = self._revocations.generation
        user = await self._users.find(user_id)
        if user is not None:
            self._entries[user_id] = (user, generation)
        return user

    def _is_true(self, entry: tuple[User, int]) -> bool:
        user, generation = entry
        return self._revocations.is_current(user.id, generation)


class SingleFlight(Generic[V]):
    """Asks once for all who ask for the same at the same time. One who goes away stops nobody else's."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[V]] = {}

    async def run(self, key: Hashable, ask: Callable[[], Coroutine[None, None, V]]) -> V:
        """What `ask` returns or raises, asked by whoever was first."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(ask())
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _landed(self, key: Hashable, done: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not done.cancelled():
            done.exception()  # seen, also where everybody who asked has gone


class _Counted(LRUCache[K, V]):
    """A bounded cache that the metrics know."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        super().__init__(MOST_ENTRIES)
        self._hit = (name, "hit")
        self._miss = (name, "miss")
        self._name = (name,)
        self._requests = metrics.cache_requests
        self._evictions = metrics.cache_evictions
        metrics.cache_entries.labels(name).set_function(lambda: len(self))

    def counted(self, key: K, is_true: Callable[[V], bool]) -> V | None:
        """The entry where it is still true; one that is not is dropped."""
        entry = self.get(key)
        if entry is not None and is_true(entry):
            self._requests.inc(self._hit)
            return entry
        if entry is not None:
            del self[key]
        self._requests.inc(self._miss)
        return None

    def popitem(self) -> tuple[K, V]:
        """Drops the one that was used longest ago."""
        self._evictions.inc(self._name)
        return super().popitem()
