"""Who tells a process that serves to end and to reload, and whom it tells how it is."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog
from prometheus_client.exposition import generate_latest

from sidecar.app import Services
from sidecar.server.channel import Channel, Ending, Follow, Followed, Serving
from sidecar.server.reloading import Current, ReadSettings, read_again
from sidecar.server.scoreboard import Scoreboard
from sidecar.server.shared_metrics import SharedMetrics

_PUBLISH_EVERY = 1.0
"""Seconds. What a worker that is killed has counted since is lost."""

log = structlog.get_logger(__name__)

Started = Callable[[Services], Awaitable[None]]
"""What is done once, when the first process serves."""


class Control(Protocol):
    """What a process that serves is told, and tells."""

    def begin(self) -> asyncio.Event:
        """Listens from now on, to the end of the loop. The event says that the process is to end."""

    def sharing(self, parts: Services) -> AbstractAsyncContextManager[Services]:
        """The services as this process uses them, of all those that serve."""

    async def serving(self, parts: Services) -> None:
        """Both listeners accept."""

    async def follow(self, current: Current) -> None:
        """Serves under other settings whenever it is told to: one after the other, and without end."""


class BySignals:
    """The only process: signals tell it."""

    def __init__(self, read: ReadSettings, started: Started) -> None:
        self._read = read
        self._started = started

    def begin(self) -> asyncio.Event:
        """See Control.begin."""
        self._reloading = _signalled(signal.SIGHUP)
        return _signalled(signal.SIGTERM, signal.SIGINT)

    @asynccontextmanager
    async def sharing(self, parts: Services) -> AsyncIterator[Services]:
        """See Control.sharing."""
        yield parts

    async def serving(self, parts: Services) -> None:
        """See Control.serving."""
        server = parts.settings.server
        log.info("started", listen=server.listen, admin_listen=server.admin_listen)
        await self._started(parts)

    async def follow(self, current: Current) -> None:
        """See Control.follow. Who asks during a reload has the settings read once more after it."""
        while True:
            await self._reloading.wait()
            self._reloading.clear()
            # In a thread: no check waits for a disk.
            await current.follow(await asyncio.to_thread(read_again, self._read))


class ByParent:
    """A worker: its parent tells it over a channel, and by SIGTERM. Where the parent is gone, it ends."""

    def __init__(self, channel: Channel, board: Scoreboard, slot: int, started: Started | None) -> None:
        self._channel = channel
        self._board = board
        self._slot = slot
        self._started = started

    def begin(self) -> asyncio.Event:
        """See Control.begin."""
        self._told: asyncio.Queue[Follow] = asyncio.Queue()
        self._stopping = _signalled(signal.SIGTERM)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear)
        return self._stopping

    @asynccontextmanager
    async def sharing(self, parts: Services) -> AsyncIterator[Services]:
        """See Control.sharing."""
        self._shared = SharedMetrics(parts.metrics, self._board, self._slot)
        publishing = asyncio.create_task(_publish_now_and_then(self._shared))
        try:
            yield replace(parts, exposition=partial(generate_latest, self._shared))
        finally:
            publishing.cancel()
            self._shared.publish()

    async def serving(self, parts: Services) -> None:
        """See Control.serving."""
        if self._started is not None:
            await self._started(parts)
        self._tell(Serving())
        self._telling = asyncio.create_task(self._tell_of_the_end())

    async def follow(self, current: Current) -> None:
        """See Control.follow."""
        while True:
            told = await self._told.get()
            is_done = await current.follow(told.settings, tells=told.tells)
            self._shared.publish()  # whoever asked for it looks at once
            if told.tells:
                self._tell(Followed(is_done))
            elif told.settings is not None and not is_done:
                # The others serve under them: the next one in this place begins so.
                self._stopping.set()

    def _hear(self) -> None:
        try:
            self._told.put_nowait(self._channel.receive())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            log.warning("parent_gone")
            self._stopping.set()

    async def _tell_of_the_end(self) -> None:
        await self._stopping.wait()
        self._tell(Ending())

    def _tell(self, message: object) -> None:
        with suppress(OSError):  # where the parent is gone, that is heard
            self._channel.send(message)


def _signalled(*numbers: signal.Signals) -> asyncio.Event:
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, came.set)
    return came


async def _publish_now_and_then(shared: SharedMetrics) -> None:
    while True:
        shared.publish()
        await asyncio.sleep(_PUBLISH_EVERY)
