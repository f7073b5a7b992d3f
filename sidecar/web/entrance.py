"""The first thing that every request meets: it is counted, named for the log, and read one way only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from sidecar.model import UNIX_PEER
from sidecar.telemetry import CURRENT_REQUEST, CurrentRequest, Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Check(Protocol):
    """One gateway's endpoint."""

    path: str

    async def answer(self, scope: Scope, send: Send) -> int:
        """Answers, and returns the status."""


class Entrance:
    """Sends checks straight to their endpoint, products' paths to theirs, and the rest to the pages.

    Of `checks`, by their paths, `prefixes` are also asked with any path that begins with theirs.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        prefixes: Sequence[str],
        documented: ASGIApp,
        find_documented: Callable[[str], object | None],
        pages: ASGIApp,
        metrics: Metrics,
    ) -> None:
        self._checks = checks
        self._prefixes = [(prefix.encode("ascii"), prefix) for prefix in prefixes]
        self._documented = documented
        self._find_documented = find_documented
        self._pages = pages
        self._metrics = metrics
        self._in_flight = 0
        self._is_idle: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        request = CurrentRequest(scope)
        CURRENT_REQUEST.set(request)
        check = self._checks.get(scope["path"])
        if check is None:
            check = self._checks.get(self._prefix_of(scope["raw_path"]))
        self._in_flight += 1
        self._metrics.in_flight += 1
        try:
            if check is not None:
                scope["route"] = check
                self._count(check.path, scope["method"], await check.answer(scope, send))
            elif (route := self._find_documented(scope["path"])) is not None:
                scope["route"] = route
                await self._show(self._documented, request, scope, receive, send)
            else:
                await self._show(self._page, request, scope, receive, send)
        finally:
            self._metrics.in_flight -= 1
            self._in_flight -= 1
            if self._is_idle is not None and not self._in_flight:
                self._is_idle.set()

    async def idle(self) -> None:
        """Returns when nothing is being answered. For when nothing more comes."""
        if self._in_flight:
            self._is_idle = asyncio.Event()
            await self._is_idle.wait()

    def _prefix_of(self, raw_path: bytes) -> str:
        """The check whose question goes on behind its own path, or nothing."""
        return next((name for prefix, name in self._prefixes if raw_path.startswith(prefix)), "")

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        if host_lines(scope) == 1:
            await self._pages(scope, receive, send)
        else:
            await respond(send, 400, b"A request names one host.\n")

    async def _show(
        self, app: ASGIApp, request: CurrentRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            self._count(request.route, scope["method"], status)

    def _count(self, route: str, method: str, status: int) -> None:
        self._metrics.http_requests.inc((route, method_label(method), str(status)))


def method_label(method: str) -> str:
    """The method as the metrics name it: a client may make up any."""
    return method if method in _METHODS else "other"


def host_lines(scope: Scope) -> int:
    """How many Host lines the request has; more than one is read differently by everybody."""
    return sum(name == b"host" for name, _ in scope["headers"])


def peer_of(scope: Scope) -> str:
    """The address at the other end, or UNIX_PEER on a unix socket.

    A connection that is already gone has no address either: what it listens on tells the two apart.
    """
    client = scope["client"]
    if client:
        return str(client[0])
    server = scope["server"]
    return UNIX_PEER if server and server[1] is None else ""


async def respond(send: Send, status: int, body: bytes) -> None:
    """A whole answer in plain text."""
    content_type = (b"content-type", b"text/plain; charset=utf-8")
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [content_type, length]})
    await send({"type": "http.response.body", "body": body})
