"""Which apps are disabled: nobody enters a disabled one."""

from __future__ import annotations

from sidecar.ports import AppStore
from sidecar.revocation import Revocations


class DisabledApps:
    """The ids of disabled apps, read again when one was changed."""

    def __init__(self, store: AppStore, revocations: Revocations) -> None:
        self._store = store
        self._revocations = revocations
        self._ids: frozenset[str] = frozenset()
        self._read_in = -1

    async def holds(self, app_id: str) -> bool:
        """Whether the app is disabled. An app that the store does not know is not."""
        if not self._revocations.is_current(None, self._read_in):
            generation = self._revocations.generation
            self._ids = frozenset(app.id for app in await self._store.list() if app.disabled)
            self._read_in = generation
        return app_id in self._ids
