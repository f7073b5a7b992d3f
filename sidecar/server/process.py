"""One process, from its first line to exit status 0: both listeners, the background work, the drain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn
import uvloop

from sidecar.app import Services, services
from sidecar.replays import Replays
from sidecar.server.descriptors import most_connections, raise_limit
from sidecar.server.lane import OrdinaryWay, lane
from sidecar.server.listeners import listening
from sidecar.server.protocol import LimitedProtocol, limited
from sidecar.server.reloading import Current, Read
from sidecar.settings import Settings
from sidecar.web.entrance import ASGIApp

KEEP_ALIVE = 130
"""Seconds an idle connection stays open: longer than proxies keep it (nginx 60, Traefik 90, Caddy 120), so
that it is the proxy that closes it and no question is lost on the way."""

ADMIN_CONNECTIONS = 64
"""Open at once on the admin listener: health checks and scrapes. What gateways take leaves room for them."""

QUIET = 1.0
"""Seconds of the drain in which connections in use are given back, one answer each, before the idle
ones are closed."""

_TIDY_EVERY = 60.0

log = structlog.get_logger(__name__)

Started = Callable[[Services], Awaitable[None]]


def run(settings: Settings, read: Read, started: Started) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP has it `read` the settings again.

    `started` is awaited once, when both listeners accept.

    Raises ListenerError, AuditUnusable, InvalidValue, StoreUnusable or StoreUnavailable where it cannot
    start. What `started` raises ends the service, and comes in an ExceptionGroup.
    """
    descriptors = raise_limit()
    # Names of other systems are looked up in threads of libuv's, half of all: those of one system whose
    # name server hangs must not keep all others waiting. It makes 4, if not told otherwise.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "64")
    with listening(settings.server.listen) as auth, listening(settings.server.admin_listen) as admin:
        uvloop.run(_serve(settings, read, auth, admin, descriptors, started))


async def _serve(
    settings: Settings,
    read: Read,
    auth_socket: socket.socket,
    admin_socket: socket.socket,
    descriptors: int,
    started: Started,
) -> None:
    # First of all: whoever stops it while it starts gets an orderly end.
    stopping, reloading = _signalled(signal.SIGTERM, signal.SIGINT), _signalled(signal.SIGHUP)
    async with services(settings) as parts, parts.audit, Current(parts, read) as current:
        await parts.keys.start()
        most = most_connections(settings.server.max_connections, descriptors)
        auth = _Listener(current.auth, settings, most, lambda: current.application.replays)
        admin = _Listener(current.admin, settings, ADMIN_CONNECTIONS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(auth.serve(sockets=[auth_socket]))
            tasks.create_task(admin.serve(sockets=[admin_socket]))
            tidying = tasks.create_task(_tidy_now_and_then(current))
            await auth.accepting.wait()
            await admin.accepting.wait()
            log.info("started", listen=settings.server.listen, admin_listen=settings.server.admin_listen)
            await started(parts)
            following = tasks.create_task(_reload_when_asked(current, reloading))
            await stopping.wait()
            following.cancel()
            log.info("draining", connections=len(auth.server_state.connections))
            current.application.is_draining = True
            current.application.replays.close()  # answers have another line from now on
            await auth.give_back()
            auth.should_exit = admin.should_exit = True
            tidying.cancel()
    log.info("stopped")


def _signalled(*numbers: signal.Signals) -> asyncio.Event:
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, came.set)
    return came


async def _reload_when_asked(current: Current, asked: asyncio.Event) -> None:
    """One after the other. Who asks during a reload has the settings read once more after it."""
    while True:
        await asked.wait()
        asked.clear()
        await current.reload()


async def _tidy_now_and_then(current: Current) -> None:
    while True:
        try:
            await current.application.purge()
            await current.application.save()
        except Exception:  # a fault in what nobody waits for is no reason to end the service
            log.exception("tidying_failed")
        await asyncio.sleep(_TIDY_EVERY)


def server_config(
    app: ASGIApp, settings: Settings, connections: int, replays: Callable[[], Replays] | None = None
) -> uvicorn.Config:
    """uvicorn as both listeners run it, each for so many connections at once.

    With `replays`, those of the application in force, known answers are given again.
    """
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=_protocol(settings, connections, replays),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # X-Forwarded-* are ours to judge: uvicorn believes them of every process on this machine.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    # The parameter's type says whole seconds; asyncio, which gets them in the end, takes fractions.
    config.timeout_graceful_shutdown = settings.server.drain - _quiet(settings)  # type: ignore[assignment]  # see above
    return config


def _protocol(
    settings: Settings, connections: int, replays: Callable[[], Replays] | None
) -> type[asyncio.Protocol]:
    if replays is None or settings.server.http == "plain":
        return limited(LimitedProtocol, settings.server.header_limit, connections)
    return lane(replays, limited(OrdinaryWay, settings.server.header_limit, connections))


def _quiet(settings: Settings) -> float:
    return min(QUIET, settings.server.drain / 2)


class _Listener(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process by the signal and not with 0."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        connections: int,
        replays: Callable[[], Replays] | None = None,
    ) -> None:
        super().__init__(server_config(app, settings, connections, replays))
        self._quiet = _quiet(settings)
        self.accepting = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture: the process does it."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept."""
        await super().startup(sockets)
        self.accepting.set()

    async def give_back(self) -> None:
        """Accepts no more, and answers what comes on open connections with `Connection: close`.

        Returns when none is left, or only such as may be idle.
        """
        closing = (b"connection", b"close")
        self.config.encoded_headers = [closing]
        self.server_state.default_headers = [closing]
        for server in self.servers:
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._quiet):
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody when one ends
                    await asyncio.sleep(0.01)
