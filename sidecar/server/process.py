"""What serves, from its first line to exit status 0: both listeners, the background work, the drain."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import structlog
import uvicorn
import uvloop

from sidecar.app import Application, services
from sidecar.replays import Replays
from sidecar.server.channel import Channel
from sidecar.server.control import ByParent, BySignals, Control, Started
from sidecar.server.descriptors import most_connections, raise_limit
from sidecar.server.lane import Lanes, OrdinaryWay
from sidecar.server.listeners import listening
from sidecar.server.protocol import LimitedProtocol, limited
from sidecar.server.reloading import Current, ReadSettings
from sidecar.server.scoreboard import Scoreboard
from sidecar.server.self_check import lane_fits
from sidecar.server.supervisor import Seat, Supervisor
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


def run(settings: Settings, read: ReadSettings, started: Started) -> None:
    """Serves until SIGTERM or SIGINT, in this process or in workers; SIGHUP has it `read` the settings again.

    `started` is awaited once, when both listeners accept.

    Raises ListenerError, AuditUnusable, InvalidValue, StoreUnusable or StoreUnavailable where it cannot
    start; WorkerFailed with the same words, where it is a worker that cannot. What `started` raises ends the
    service, and comes in an ExceptionGroup.
    """
    descriptors = raise_limit()
    # Names of other systems are looked up in threads of libuv's, half of all: those of one system whose
    # name server hangs must not keep all others waiting. It makes 4, if not told otherwise.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "64")
    most = most_connections(settings.server.max_connections, descriptors)
    # What is here now, modules above all, stays: no collector looks through it again and again, or writes on
    # what workers share. Nothing that a reload replaces is among it, which would stay as well.
    gc.freeze()
    with listening(settings.server.listen) as auth, listening(settings.server.admin_listen) as admin:
        serve = partial(_serve, auth_socket=auth, admin_socket=admin, most=most)
        if settings.server.workers == 1:
            uvloop.run(serve(settings, BySignals(read, started)))
            return
        board = Scoreboard(settings.server.workers)

        def work(seat: Seat, under: Settings, channel: Channel) -> None:
            uvloop.run(serve(under, ByParent(channel, board, seat.slot, started if seat.is_first else None)))

        Supervisor(settings, read, work, board, listeners=[auth, admin]).run()


async def _serve(
    settings: Settings,
    control: Control,
    *,
    auth_socket: socket.socket,
    admin_socket: socket.socket,
    most: int,
) -> None:
    # First of all: whoever stops it while it starts gets an orderly end.
    stopping = control.begin()
    async with (
        services(settings) as own,
        own.audit,
        control.sharing(own) as parts,
        Current(parts) as current,
    ):
        await parts.keys.start()
        has_lane = settings.server.http == "express" and await lane_fits()
        replays = (lambda: current.application.replays) if has_lane else None
        auth = _Listener(current.auth, settings, most, replays)
        admin = _Listener(current.admin, settings, ADMIN_CONNECTIONS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(auth.serve(sockets=[auth_socket]))
            tasks.create_task(admin.serve(sockets=[admin_socket]))
            tidying = tasks.create_task(_tidy_now_and_then(current))
            await auth.accepting.wait()
            await admin.accepting.wait()
            await control.serving(parts)
            following = tasks.create_task(control.follow(current))
            await stopping.wait()
            following.cancel()
            await _drain(current.application, auth)
            auth.should_exit = admin.should_exit = True
            tidying.cancel()
    log.info("stopped")


async def _drain(application: Application, auth: _Listener) -> None:
    """Not ready any more, and no connection is used again."""
    log.info("draining", connections=len(auth.server_state.connections))
    application.is_draining = True
    application.replays.close()  # answers have another line from now on
    await auth.give_back()


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

    With `replays`, those of the application in force, answers that are known are given again.
    """
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=cast("type[asyncio.Protocol]", _protocol(settings, connections, replays)),  # whatever makes one
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
) -> Callable[..., asyncio.Protocol]:
    if replays is None:
        return limited(LimitedProtocol, settings.server.header_limit, connections)
    return Lanes(replays, limited(OrdinaryWay, settings.server.header_limit, connections))


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
