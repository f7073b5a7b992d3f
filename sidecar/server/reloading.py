"""Settings that are read again while the process runs: one application ends, another one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import structlog

from sidecar.app import Application, Services, with_settings
from sidecar.audit import Event, Result
from sidecar.errors import Fault, SettingsError, SidecarError
from sidecar.server.logging import begin_log, set_up_log
from sidecar.settings import FIXED, Settings, changes, with_fixed
from sidecar.web.entrance import Receive, Scope, Send

log = structlog.get_logger(__name__)

ReadSettings = Callable[[], Settings]
"""Reads the settings as at the start of the process. Raises SettingsError with every fault."""

_BY = "SIGHUP"


def read_again(read: ReadSettings) -> Settings | None:
    """The settings; None where they are bad, and then the log says why."""
    with _logging_why_not():
        return read()
    return None


class Current:
    """The application in force. As a context it begins the first one, and ends the last.

    Both listeners ask it, and it has one reference: a request is answered to its end by the application that
    was in force when it came.
    """

    def __init__(self, parts: Services) -> None:
        self.application = Application(parts)
        self._parts = parts
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.application.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
        await self.application.__aexit__(*error)

    def auth(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """An ASGI application."""
        return self.application.auth(scope, receive, send)

    def admin(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """An ASGI application."""
        return self.application.admin(scope, receive, send)

    async def follow(self, given: Settings | None, *, tells: bool = True) -> bool:
        """Serves under the settings that were read again, where they are good (not None).

        Where that cannot be, the old ones stay in force, and the log says why. Returns whether it could be.
        Of several processes that follow, one `tells` the log and the audit what has changed.
        """
        if given is not None:
            with _logging_why_not():
                await self._serve_under(given, tells=tells)
                return True
        self._parts.metrics.config_loaded.set(0)
        if tells:
            self._record(Result.FAILED)
        return False

    async def _serve_under(self, given: Settings, *, tells: bool) -> None:
        running = self._parts.settings
        settings = with_fixed(given, running)
        parts = with_settings(self._parts, settings)
        await parts.keys.start()
        # First: loggers that are bound once keep their level.
        (begin_log if tells else set_up_log)(settings)
        # Nothing is awaited from here on: there is no moment between the two.
        before, after = self.application, Application(parts)
        after.start_after(before)
        self.application, self._parts = after, parts
        before.replays.close()
        self._end_later(before)
        if tells:
            kept = set(FIXED).intersection(changes(running, given))
            self._tell(kept=kept, changed=changes(running, settings))

    def _tell(self, *, kept: set[str], changed: tuple[str, ...]) -> None:
        for path in sorted(kept):
            log.warning("config_not_applied", path=path, message="it takes effect at the next start")
        log.info("reloaded", changed=changed)
        self._record(Result.DONE, " ".join(changed))

    def _record(self, result: Result, about: str = "") -> None:
        self._parts.audit.record(Event.ADMINISTERED, result, by=_BY, what="reload", arguments=about)

    def _end_later(self, before: Application) -> None:
        ending = asyncio.create_task(self._end(before))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, before: Application) -> None:
        await before.end()
        for system in before.systems - self.application.systems:
            self._parts.metrics.forget(system)


@contextmanager
def _logging_why_not() -> Iterator[None]:
    """What goes wrong with the new settings ends here: the old ones stay in force."""
    try:
        yield
    except SettingsError as error:
        _tell_faults(error.faults)
    except SidecarError as error:
        _tell_faults([Fault("", str(error))])
    except Exception:  # a fault of our own is no reason to end the service
        log.exception("reload_broke")
        _tell_faults([])


def _tell_faults(faults: Sequence[Fault]) -> None:
    for fault in faults:
        log.error("config_fault", path=fault.path, message=fault.message)
    log.error("reload_failed", faults=len(faults))
