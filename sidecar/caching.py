"""What has been found out about credentials, for as long as it is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from sidecar.model import Credential, HeaderLines, Verified
from sidecar.ports import Clock
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics

MOST_ENTRIES = 32_768
LONGEST_CREDENTIAL = 4096
"""Bytes; a longer one is looked up every time, so that the cache is bounded in bytes too."""

_NAME = "identity"

Key = tuple[str, str, bytes]


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
        self._entries: LRUCache[Key, _Entry] = _Counting(metrics)
        self._hits = metrics.cache_requests.labels(_NAME, "hit")
        self._misses = metrics.cache_requests.labels(_NAME, "miss")
        metrics.cache_entries.labels(_NAME).set_function(lambda: len(self._entries))

    def get(self, authenticator: str, credential: Credential) -> Known | None:
        """What this authenticator found out about this credential, where it is still true."""
        key = (authenticator, credential.form, credential.value)
        entry = self._entries.get(key)
        if entry is not None and self._is_true(entry):
            self._hits.inc()
            return entry.known
        if entry is not None:
            del self._entries[key]
        self._misses.inc()
        return None

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
            and is_live(verified, self._clock.now())
        )


def is_live(verified: Verified, now: float) -> bool:
    """Whether it has neither expired nor been unused for too long."""
    if verified.identity.expires_at is not None and now >= verified.identity.expires_at:
        return False
    usage, idle_timeout = verified.usage, verified.idle_timeout
    return usage is None or idle_timeout is None or now < usage.last_used_at + idle_timeout


class _Counting(LRUCache[Any, Any]):
    """Tells the metrics what it drops for want of room."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(MOST_ENTRIES)
        self._evictions = metrics.cache_evictions.labels(_NAME)

    def popitem(self) -> tuple[Any, Any]:
        self._evictions.inc()
        return super().popitem()
