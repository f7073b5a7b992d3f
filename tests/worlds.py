"""The same sidecar twice, over copies of one store: one gives known answers again, one decides every time."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.app import Services, services
from sidecar.credentials import id_of_secret
from sidecar.passwords import Passwords
from sidecar.records import Account, ApiKey, App, NewUser, Role, User
from sidecar.server.reloading import Current
from sidecar.settings import Settings, parse
from tests.clocks import ManualClock
from tests.running import CHEAP, Line, bearer
from tests.wire import WATCHDOG, Connection, Served, connected, served

Tables = dict[str, Any]

_REASON = b"\r\nx-auth-reason: "
"""Every refusal has one, but of what is no HTTP: that has no method either, and its answer always a body."""

_ASSERTION = re.compile(rb"(x-auth-assertion: )([^\r\n]+)")


class Seed(NamedTuple):
    """A store's file, and what opens something in it."""

    file: Path
    users: dict[str, User]
    credentials: dict[str, list[Line]]


def settings_of(file: Path, tables: Tables, http: str) -> Settings:
    """`tables` as in the settings file."""
    given = {"store": {"url": f"sqlite:///{file}"}, **tables}
    return parse({**given, "server": {**given.get("server", {}), "http": http}})


async def seed(directory: Path) -> Seed:
    """A store with two users, one of whom has a role, and their sessions, tokens and keys."""
    file, clock = directory / "seed.db", ManualClock()
    async with services(settings_of(file, {}, "plain"), clock, passwords=Passwords(CHEAP)) as parts:
        await parts.keys.start()
        await parts.store.users.set_role(Role("staff", ("read",)))
        await parts.store.apps.add(App("shop", "", disabled=False, created_at=0.0))
        users: dict[str, User] = {}
        credentials: dict[str, list[Line]] = {
            "nobody": [],
            "unknown": [(b"cookie", b"__Host-sidecar=unknown")],
            "bad token": [bearer(b"a.b.c")],
        }
        for name, roles in (("ann", ("staff",)), ("bob", ())):
            new = NewUser(name, (f"{name}@example.com",), roles=roles, accounts=(Account("a1", "A"),))
            users[name] = user = await parts.store.users.add(new, now=clock.now(), by="test")
            credentials.update(await _credentials(parts, user))
        await parts.store.backup(str(directory / "copied.db"))
    return Seed(directory / "copied.db", users, credentials)


async def _credentials(parts: Services, user: User) -> dict[str, list[Line]]:
    name, now = user.username, parts.clock.now()
    long, short = [await parts.sessions.begin(user, lifetime=lifetime) for lifetime in (None, 90)]
    key = f"sk_{name}-key".encode()
    await parts.store.api_keys.add(ApiKey(id_of_secret(key), user.id, "test", ("read",), now, None, None))
    token = (await parts.sessions.token(long.session, user)).text.encode()
    cookie = b"theme=dark; __Host-sidecar="
    return {
        f"{name}'s cookie": [(b"cookie", cookie + long.secret.encode())],
        f"{name}'s short session": [(b"cookie", cookie + short.secret.encode())],
        f"{name}'s token": [bearer(token)],
        f"{name}'s key": [(b"x-api-key", key)],
        f"{name}'s key beside a cookie": [(b"x-api-key", key), (b"cookie", cookie + long.secret.encode())],
    }


@dataclass
class World:
    """A server over a store of its own, and the clock of both."""

    parts: Services
    clock: ManualClock
    served: Served
    current: Current
    file: Path
    http: str
    open_until_the_end: AsyncExitStack
    connections: dict[str, Connection] = field(default_factory=dict)

    async def exchange(self, peer: str, pieces: Iterable[bytes], methods: Iterable[str]) -> bytes:
        """What comes back on this peer's connection, without what is never twice the same.

        An answer to each of these methods, or fewer where the connection ends with one; then comes a new one.
        """
        connection = await self._connection(peer)
        for piece in pieces:
            await connection.send(piece)
        come = b""
        async with asyncio.timeout(WATCHDOG):
            for method in methods:
                answer = await _answer(connection.reader, method)
                come += answer
                if b"\r\nconnection: close\r\n" in answer:
                    assert await connection.rest() == b""
                    connection.writer.close()
                    del self.connections[peer]
                    break
        return _ASSERTION.sub(_claims, come)

    def given_again(self) -> int:
        """How many answers were, so far."""
        metrics = self.parts.metrics
        metrics.settle()
        labels = {"cache": "replay", "result": "hit"}
        return int(metrics.registry.get_sample_value("sidecar_cache_requests_total", labels) or 0)

    async def _connection(self, peer: str) -> Connection:
        if peer not in self.connections:
            opened = connected(self.served.listener, peer)
            self.connections[peer] = await self.open_until_the_end.enter_async_context(opened)
        return self.connections[peer]

    async def reload(self, tables: Tables) -> None:
        """As on SIGHUP, with this in the file."""
        await self.current.follow(settings_of(self.file, tables, self.http))


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    has_body = length and (method != "HEAD" or _REASON not in head)
    return head + (await reader.readexactly(int(length[1])) if length and has_body else b"")


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def _claims(found: re.Match[bytes]) -> bytes:
    """An assertion is signed anew each time, and has an id of its own: what it says is the same."""
    payload = found[2].split(b".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=="))
    del claims["jti"]
    return found[1] + json.dumps(claims).encode()


class Both:
    """The two, in step."""

    def __init__(self, express: World, plain: World) -> None:
        self.express = express
        self.plain = plain

    async def exchange(self, peer: str, pieces: list[bytes], methods: list[str]) -> tuple[bytes, bytes]:
        """What comes back from either."""
        return (
            await self.express.exchange(peer, pieces, methods),
            await self.plain.exchange(peer, pieces, methods),
        )

    async def each(self, do: Callable[[World], Awaitable[object]]) -> None:
        """Does the same to both."""
        for world in (self.express, self.plain):
            await do(world)

    def advance(self, seconds: float) -> None:
        """Time passes in both."""
        for world in (self.express, self.plain):
            world.clock.advance(seconds)


@asynccontextmanager
async def both(start: Seed, directory: Path, tables: Tables) -> AsyncIterator[Both]:
    """Both over copies of the seed, at its time."""
    async with AsyncExitStack() as stack:
        express = await stack.enter_async_context(_world(start, directory, tables, "express"))
        plain = await stack.enter_async_context(_world(start, directory, tables, "plain"))
        yield Both(express, plain)


@asynccontextmanager
async def _world(start: Seed, directory: Path, tables: Tables, http: str) -> AsyncIterator[World]:
    file, clock = directory / f"{http}.db", ManualClock()
    file.write_bytes(start.file.read_bytes())
    settings = settings_of(file, tables, http)
    async with services(settings, clock, passwords=Passwords(CHEAP)) as parts:
        await parts.keys.start()
        async with Current(parts) as current:
            replays = (lambda: current.application.replays) if http == "express" else None
            there = served(current.auth, settings, "127.0.0.1:0", replays)
            async with there as listening, AsyncExitStack() as open_until_the_end:
                world = World(parts, clock, listening, current, file, http, open_until_the_end)
                yield world
        _remove(file)
