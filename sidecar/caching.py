"""What has been found out about credentials and users, for as long as it is true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Hashable
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from sidecar.model import Credential, HeaderLines, Verified
from sidecar.ports import Users
from sidecar.records import SignedToken, User
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics

MOST_IDENTITIES = 32_768
MOST_USERS = 32_768
MOST_TOKENS = 32_768

LONGEST_CREDENTIAL = 4096
"""Bytes; a longer one is looked up every time: entries have 2 KiB as a rule, and 20 KiB at most."""

Key = tuple[str, bytes, bytes]
K = TypeVar("K")
V = TypeVar("V")


class Known(NamedTuple):
    """What is known of a credential: who it is, and the identity headers that say so.

    The headers are None where no gateway would take them for their length. `authenticator` is whose word it
    is, `generation` that of the revocations before it was looked up, and `until` when it is known no more.
    """

    verified: Verified
    headers: HeaderLines | None
    authenticator: str
    generation: int
    until: float

    @property
    def true_until(self) -> float:
        """When it ends, unless it is used before."""
        usage = self.verified.usage
        return (
            self.until if usage is None else min(self.until, usage.last_used_at + self.verified.idle_timeout)
        )


class IdentityCache:
    """Verified credentials, each with the authenticator that knows it. Only good ones are kept.

    A flood of bad credentials therefore evicts nothing, and a credential that was refused is good as
    soon as the store says so.
    """

    def __init__(self, revocations: Revocations, metrics: Metrics) -> None:
        self._revocations = revocations
        self._entries: Counted[Key, Known] = Counted("identity", MOST_IDENTITIES, metrics)

    def get(self, credential: Credential, among: Container[str], now: float) -> Known | None:
        """What one of these authenticators found out about this credential, where it is still true."""
        key = (credential.form, credential.names, credential.value)
        known = self._entries.get(key)
        if known is not None and self._is_true(known, now):
            if known.authenticator in among:
                self._entries.hit()
                return known
            return None  # another rule's authenticator knows it
        self._entries.missed(key)
        return None

    def put(self, credential: Credential, known: Known, now: float) -> None:
        """Remembers it, unless it is over already."""
        if known.until <= now:
            return
        self._entries[credential.form, credential.names, credential.value] = known

    def _is_true(self, known: Known, now: float) -> bool:
        user_id = known.verified.identity.user_id
        return now < known.true_until and self._revocations.is_current(user_id, known.generation)


class RememberedUsers:
    """Users by id, read again when something of theirs has changed.

    A session may have any number of tokens and a user any number of sessions and keys: each is looked up
    by itself, their user once.
    """

    def __init__(self, users: Users, revocations: Revocations, metrics: Metrics) -> None:
        self._users = users
        self._revocations = revocations
        self._entries: Counted[int, tuple[User, int]] = Counted("user", MOST_USERS, metrics)

    async def find(self, user_id: int) -> User | None:
        """The user with this id, by what the revocations' last look found. Raises StoreUnavailable."""
        entry = self._entries.get(user_id)
        if entry is not None and self._revocations.is_current(user_id, entry[1]):
            self._entries.hit()
            return entry[0]
        self._entries.missed(user_id)
        generation = self._revocations.generation
        user = await self._users.find(user_id)
        if user is not None:
            self._entries[user_id] = (user, generation)
        return user


class RememberedTokens:
    """Tokens of sessions, for those who ask by cookie: signing costs more than the rest of an answer."""

    def __init__(self, revocations: Revocations, metrics: Metrics) -> None:
        self._revocations = revocations
        self._entries: Counted[str, tuple[SignedToken, int]] = Counted("token", MOST_TOKENS, metrics)

    def get(self, session_id: str, user_id: int | None, now: float) -> SignedToken | None:
        """A token of this session that has half of its life before it, and says what is still true."""
        entry = self._entries.get(session_id)
        if entry is not None:
            token, generation = entry
            half = (token.issued_at + token.expires_at) / 2
            if now <= half and self._revocations.is_current(user_id, generation):
                self._entries.hit()
                return token
        self._entries.missed(session_id)
        return None

    def put(self, session_id: str, token: SignedToken, generation: int) -> None:
        """Remembers it. `generation`: that of the revocations before its user was looked up."""
        self._entries[session_id] = (token, generation)


class SingleFlight(Generic[V]):
    """Asks once for all who ask for the same at the same time. One who goes away stops nobody else's."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[V]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is being asked now."""
        return key in self._flights

    async def run(self, key: Hashable, ask: Callable[[], Coroutine[None, None, V]]) -> V:
        """What `ask` returns or raises, asked by whoever was first."""
        flight = self.start(key, ask)
        # Not asyncio.shield: from Python 3.14 on it logs what is raised to somebody who has gone.
        await asyncio.wait((flight,))
        return flight.result()

    def start(self, key: Hashable, ask: Callable[[], Coroutine[None, None, V]]) -> asyncio.Task[V]:
        """Begins to ask, unless it is being asked now; the task is not the caller's to cancel."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(ask())
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    async def close(self) -> None:
        """Cancels all that is being asked, and returns when it has ended."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: Hashable, done: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not done.cancelled():
            done.exception()  # seen, also where everybody who asked has gone


class Counted(LRUCache[K, V]):
    """A bounded cache that the metrics know. `most` entries; with `size_of`, what their sizes add up to."""

    def __init__(
        self, name: str, most: int, metrics: Metrics, size_of: Callable[[V], int] | None = None
    ) -> None:
        super().__init__(most, size_of)
        self._hit = (name, "hit")
        self._miss = (name, "miss")
        self._name = (name,)
        self._requests = metrics.cache_requests
        self._evictions = metrics.cache_evictions
        metrics.cache_entries.labels(name).set_function(lambda: len(self))

    def hit(self) -> None:
        """An entry was there, and true."""
        self._requests.inc(self._hit)

    def missed(self, key: K) -> None:
        """It was not: what is there is true no more."""
        self.pop(key, None)
        self._requests.inc(self._miss)

    def popitem(self) -> tuple[K, V]:
        """Drops the one that was used longest ago."""
        self._evictions.inc(self._name)
        return super().popitem()
