"""Settings that are read again while the process runs: one application ends, another one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import structlog

from sidecar.app import Application, Services, with_settings
from sidecar.audit import Event, Result
from sidecar.errors import Fault, SettingsError, SidecarError
from sidecar.server.logging import begin_log
from sidecar.settings import FIXED, Settings, changes, with_fixed
from sidecar.web.entrance import Receive, Scope, Send

log = structlog.get_logger(__name__)

Read = Callable[[], Settings]
"""Reads the settings as at the start of the process. Raises SettingsError with every fault."""

_BY = "SIGHUP"


class Current:
    """The application in force. As a context it begins the first one, and ends the last.

    Both listeners ask it, and it has one reference: a request is answered to its end by the application that
    was in force when it came.
    """

    def __init__(self, parts: Services, read: Read) -> None:
        self.application = Application(parts)
        self._parts = parts
        self._read = read
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.application.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
        await self.application.__aexit__(*error)

    async def auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        await self.application.auth(scope, receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        await self.application.admin(scope, receive, send)

    async def reload(self) -> None:
        """Reads the settings again, and serves under them.

        Where that cannot be, the old ones stay in force, and the log says why.
        """
        try:
            # In a thread: no check waits for a disk.
            settings = await asyncio.to_thread(self._read)
            await self._serve_under(settings)
        except SettingsError as error:
            self._keep(error.faults)
        except SidecarError as error:
            self._keep([Fault("", str(error))])
        except Exception:  # a fault of our own is no reason to end the service
            log.exception("reload_broke")
            self._keep([])

    def _keep(self, faults: tuple[Fault, ...] | list[Fault]) -> None:
        for fault in faults:
            log.error("config_fault", path=fault.path, message=fault.message)
        log.error("reload_failed", faults=len(faults))
        self._parts.metrics.config_loaded.set(0)
        self._parts.audit.record(Event.ADMINISTERED, Result.FAILED, by=_BY, what="reload")

    async def _serve_under(self, given: Settings) -> None:
        running = self._parts.settings
        settings = with_fixed(given, running)
        parts = with_settings(self._parts, settings)
        await parts.keys.start()
        begin_log(settings)  # first: loggers that are bound once keep their level
        # Nothing is awaited from here on: there is no moment between the two.
        before, after = self.application, Application(parts)
        after.start_after(before)
        self.application, self._parts = after, parts
        before.replays.close()
        self._end_later(before)
        self._tell(kept=set(FIXED).intersection(changes(running, given)), changed=changes(running, settings))

    def _tell(self, *, kept: set[str], changed: tuple[str, ...]) -> None:
        for path in sorted(kept):
            log.warning("config_not_applied", path=path, message="it takes effect at the next start")
        log.info("reloaded", changed=changed)
        about = " ".join(changed)
        self._parts.audit.record(Event.ADMINISTERED, Result.DONE, by=_BY, what="reload", arguments=about)

    def _end_later(self, before: Application) -> None:
        ending = asyncio.create_task(self._end(before))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, before: Application) -> None:
        await before.end()
        for system in before.systems - self.application.systems:
            self._parts.metrics.forget(system)
