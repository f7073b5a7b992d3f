"""Which apps are disabled: a rule that demands a sign-in lets nobody into a disabled one."""

from __future__ import annotations

from sidecar.ports import AppStore
from sidecar.revocation import Reread, Revocations


class DisabledApps:
    """The ids of disabled apps."""

    def __init__(self, store: AppStore, revocations: Revocations) -> None:
        self._store = store
        self._ids = Reread(revocations, self._read)

    async def holds(self, app_id: str) -> bool:
        """Whether the app is disabled. An app that the store does not know is not."""
        return app_id in await self._ids.value()

    async def _read(self) -> frozenset[str]:
        return frozenset(app.id for app in await self._store.list() if app.disabled)
