"""Notes that sessions and keys are in use, seldom enough to cost nothing."""

from __future__ import annotations

from copy import copy
from math import inf
from typing import Literal

import structlog
from cachetools import LRUCache

from sidecar.errors import StoreUnavailable
from sidecar.model import Usage
from sidecar.ports import AccessKeyStore, ApiKeyStore, Store
from sidecar.records import AccessKey, ApiKey, Session

_MOST_SESSIONS = 32_768

log = structlog.get_logger(__name__)


class UsageRecorder:
    """Writes uses down: once per interval, and the first use of a session in each app at once.

    A note that cannot be written refuses nobody: this process remembers it, and goes by what it knows.
    """

    def __init__(self, store: Store, interval: float) -> None:
        self._sessions = store.sessions
        self._keys: dict[str, ApiKeyStore | AccessKeyStore] = {
            "api_key": store.api_keys,
            "access_key": store.access_keys,
        }
        self._interval = interval
        self._known: LRUCache[str, Usage] = LRUCache(_MOST_SESSIONS)

    def with_interval(self, interval: float) -> UsageRecorder:
        """The same knowledge under another interval: what could not be written yet is still known."""
        other: UsageRecorder = copy(self)
        other._interval = interval
        return other

    def of_session(self, session: Session) -> Usage:
        """What is known of the session's use, here and in the store: one value for all its credentials."""
        usage = self._known.get(session.id)
        if usage is None:
            usage = self._known[session.id] = Usage(session.id, "session", session.last_used_at)
        usage.last_used_at = max(usage.last_used_at, session.last_used_at)
        usage.apps |= session.apps
        return usage

    @staticmethod
    def of_key(key: ApiKey | AccessKey) -> Usage:
        """The same of a key."""
        kind: Literal["api_key", "access_key"] = "api_key" if isinstance(key, ApiKey) else "access_key"
        return Usage(key.id, kind, last_used_at=key.last_used_at or -inf)

    def is_settled(self, usage: Usage, app: str, now: float, *, by_cookie: bool) -> bool:
        """Whether there is nothing to note, and no cookie to refresh: as of most uses."""
        is_due = usage.last_used_at <= now - self._interval
        is_open = usage.notes_under_way or (usage.owes_cookie and by_cookie)
        return not (is_due or is_open or self._is_new(app, usage, now))

    def settled_until(self, usage: Usage) -> float:
        """When a use is due to be noted again, of what is settled now."""
        return usage.last_used_at + self._interval

    async def note(self, usage: Usage, app: str, now: float, *, by_cookie: bool) -> bool:
        """True where the session was extended and its cookie, which asks, is to be refreshed."""
        is_due = usage.last_used_at <= now - self._interval
        new_app = app if self._is_new(app, usage, now) else ""
        if is_due or new_app:
            usage.notes_under_way += 1
            try:
                usage.owes_cookie |= await self._noted(usage, new_app, now, is_due)
            finally:
                usage.notes_under_way -= 1
        if not by_cookie or not usage.owes_cookie:
            return False
        usage.owes_cookie = False
        return True

    @staticmethod
    def _is_new(app: str, usage: Usage, now: float) -> bool:
        return (
            bool(app) and usage.kind == "session" and app not in usage.apps and now >= usage.apps_not_before
        )

    async def _noted(self, usage: Usage, new_app: str, now: float, is_due: bool) -> bool:
        """True where this use, of all that may be noted at once, extended the session."""
        # Before anything is awaited: of the checks that run at once, the first one writes.
        if is_due:
            usage.last_used_at = now
        if new_app:
            usage.apps |= {new_app}
        try:
            return await self._write(usage, now, new_app)
        except StoreUnavailable as error:
            log.warning("use_not_written", id=usage.id, error=str(error))
            if new_app:
                usage.apps -= {new_app}
                usage.apps_not_before = now + self._interval
            return is_due

    async def _write(self, usage: Usage, now: float, app: str) -> bool:
        unused_since = now - self._interval
        if usage.kind == "session":
            return await self._sessions.touch(usage.id, now=now, unused_since=unused_since, app=app)
        return await self._keys[usage.kind].touch(usage.id, now=now, unused_since=unused_since)


class UnwrittenUses(UsageRecorder):
    """Answers as the recorder would, and writes nothing: for whoever only wants to know."""

    async def _noted(self, _usage: Usage, _new_app: str, _now: float, is_due: bool) -> bool:
        return is_due
