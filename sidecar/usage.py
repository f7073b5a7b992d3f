"""Notes that sessions and API keys are in use, seldom enough to cost nothing."""

from __future__ import annotations

import structlog

from sidecar.errors import StoreUnavailable
from sidecar.model import Form, Usage
from sidecar.ports import ApiKeyStore, Clock, SessionStore

log = structlog.get_logger(__name__)


class UsageRecorder:
    """Writes uses down: once per interval, and the first use in each app at once.

    A note that cannot be written never refuses anybody: this process goes on with what it knows.
    """

    def __init__(self, sessions: SessionStore, api_keys: ApiKeyStore, clock: Clock, interval: float) -> None:
        self._sessions = sessions
        self._api_keys = api_keys
        self._clock = clock
        self._interval = interval

    async def note(self, usage: Usage, app: str) -> bool:
        """True where this was the use that extended the session: its cookie is to be refreshed."""
        now = self._clock.now()
        new_app = app if app not in usage.apps else ""
        unused_since = now - self._interval
        if usage.last_used_at > unused_since and not new_app:
            return False
        # Before anything is awaited: of the checks that run at once, the first one writes.
        if usage.last_used_at <= unused_since:
            usage.last_used_at = now
        if new_app:
            usage.apps.add(new_app)
        return await self._written(usage, now, unused_since, new_app)

    async def _written(self, usage: Usage, now: float, unused_since: float, app: str) -> bool:
        try:
            if usage.form is Form.API_KEY:
                return await self._api_keys.touch(usage.id, now=now, unused_since=unused_since)
            return await self._sessions.touch(usage.id, now=now, unused_since=unused_since, app=app)
        except StoreUnavailable as error:
            log.warning("use_not_written", id=usage.id, error=str(error))
            return False
