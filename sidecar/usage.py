"""Notes that sessions and API keys are in use, seldom enough to cost nothing."""

from __future__ import annotations

from math import inf

import structlog
from cachetools import LRUCache

from sidecar.errors import StoreUnavailable
from sidecar.model import Usage
from sidecar.ports import ApiKeyStore, SessionStore
from sidecar.records import ApiKey, Session

_MOST_SESSIONS = 32_768

log = structlog.get_logger(__name__)


class UsageRecorder:
    """Writes uses down: once per interval, and the first use of a session in each app at once.

    A note that cannot be written refuses nobody: this process remembers it, and goes by what it knows.
    """

    def __init__(self, sessions: SessionStore, api_keys: ApiKeyStore, interval: float) -> None:
        self._sessions = sessions
        self._api_keys = api_keys
        self._interval = interval
        self._known: LRUCache[str, Usage] = LRUCache(_MOST_SESSIONS)

    def of_session(self, session: Session) -> Usage:
        """What is known of the session's use, here and in the store: one value for all its credentials."""
        usage = self._known.get(session.id)
        if usage is None:
            usage = self._known[session.id] = Usage(
                session.id, is_session=True, last_used_at=session.last_used_at
            )
        usage.last_used_at = max(usage.last_used_at, session.last_used_at)
        usage.apps |= session.apps
        return usage

    @staticmethod
    def of_api_key(key: ApiKey) -> Usage:
        """The same of an API key."""
        return Usage(key.id, is_session=False, last_used_at=key.last_used_at or -inf)

    async def note(self, usage: Usage, app: str, now: float, *, by_cookie: bool) -> bool:
        """True where the session was extended and its cookie, which asks, is to be refreshed."""
        is_due = usage.last_used_at <= now - self._interval
        new_app = app if usage.is_session and app not in usage.apps and now >= usage.apps_not_before else ""
        if is_due or new_app:
            usage.owes_cookie |= await self._noted(usage, new_app, now, is_due)
        if not by_cookie or not usage.owes_cookie:
            return False
        usage.owes_cookie = False
        return True

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
        if usage.is_session:
            return await self._sessions.touch(usage.id, now=now, unused_since=unused_since, app=app)
        return await self._api_keys.touch(usage.id, now=now, unused_since=unused_since)
