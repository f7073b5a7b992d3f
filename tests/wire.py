"""HTTP/1.1 as bytes: a client that sends what it is told, and the product's own listener to send it to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from sidecar.replays import Replays
from sidecar.server.descriptors import MOST
from sidecar.server.listeners import listening
from sidecar.server.process import server_config
from sidecar.settings import Settings
from sidecar.web.entrance import ASGIApp

Line = tuple[bytes, bytes]

WATCHDOG = 30
_LONGEST = 1024 * 1024
_AT_ONCE = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER: a connection that is closed is reset."""


# --- a client ------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One HTTP answer, header lines as they were sent."""

    status: int = 0
    lines: list[Line] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [
            value.decode("latin-1") for each, value in self.lines if each.lower() == name.lower().encode()
        ]

    def one(self, name: str) -> str:
        """The value of a header that is there exactly once."""
        (value,) = self.all(name)
        return value

    @property
    def reason(self) -> str:
        return self.one("X-Auth-Reason")

    @property
    def is_no_http(self) -> bool:
        """Whether the bytes were refused before anybody read them as a request."""
        return (self.status, self.text) == (400, "Invalid HTTP request received.")

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that it sets."""
        pairs = (line.partition(";")[0].partition("=") for line in self.all("Set-Cookie"))
        return {name: value for name, _, value in pairs}


def head(method: str, target: str, lines: Iterable[Line]) -> bytes:
    """A request's head."""
    rest = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("latin-1"), target.encode("latin-1"), rest)


@dataclass
class Connection:
    """A client's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, chunk: bytes) -> None:
        """Returns when it is on its way."""
        self.writer.write(chunk)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer. Raises IncompleteReadError where the server closes instead."""
        async with asyncio.timeout(WATCHDOG):
            first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            lines = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in rest)]
            answer = Answer(int(first.split(b" ")[1]), lines)
            if method != "HEAD" and (length := answer.all("Content-Length")):
                answer.body = await self.reader.readexactly(int(length[0]))
            return answer

    async def rest(self) -> bytes:
        """What comes until the server closes, or resets the connection."""
        come = b""
        async with asyncio.timeout(WATCHDOG):
            with suppress(ConnectionError):
                while piece := await self.reader.read(_LONGEST):
                    come += piece
        return come


@asynccontextmanager
async def connected(listener: socket.socket, peer: str | None = None) -> AsyncIterator[Connection]:
    """A connection to this listener, from an address of this machine; closed at the end."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        reader, writer = await asyncio.open_unix_connection(address, limit=_LONGEST)
    else:
        # An address that is bound takes one of the machine's few free ports for a minute.
        bound = None if peer in {None, address[0]} else (peer, 0)
        reader, writer = await asyncio.open_connection(*address[:2], limit=_LONGEST, local_addr=bound)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def send_and_reset(listener: socket.socket, request: bytes) -> None:
    """Sends this, and has gone when the server accepts the connection: it has no peer any more."""
    with socket.create_connection(listener.getsockname()[:2]) as client:
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


# --- the product's listener ----------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """An application behind the product's protocol."""

    listener: socket.socket
    server: uvicorn.Server

    async def has_begun(self, requests: int) -> None:
        """Returns when so many requests are being answered."""
        async with asyncio.timeout(WATCHDOG):
            while len(self.server.server_state.tasks) < requests:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0)

    async def has_done_everything(self) -> None:
        """Returns when no connection is open and no request is being answered."""
        state = self.server.server_state
        async with asyncio.timeout(WATCHDOG):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0)


@asynccontextmanager
async def served(
    app: ASGIApp, settings: Settings, address: str, replays: Callable[[], Replays] | None = None
) -> AsyncIterator[Served]:
    """The application as the product serves it, in this loop, at an address as in the settings."""
    server = uvicorn.Server(server_config(app, settings, settings.server.max_connections or MOST, replays))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with listening(address) as listener:
        await server.startup([listener])
        here = Served(listener, server)
        yield here
        for each in server.servers:
            each.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await here.has_done_everything()
