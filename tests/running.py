"""The real application on a real SQLite file, asked over real sockets with raw header lines."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, Unpack
from urllib.parse import urlencode

from argon2 import PasswordHasher

from sidecar.access_keys import ROOT, access_key_secret, new_access_key_id
from sidecar.app import Application, Services, services
from sidecar.credentials import id_of_secret, new_api_key
from sidecar.passwords import Passwords
from sidecar.records import AccessKey, Account, ApiKey, NewUser, Role, User
from sidecar.settings import Settings, parse
from tests.auditing import taken
from tests.clocks import ManualClock
from tests.wire import Answer, Connection, Line, Served, connected, head, send_and_reset, served

__all__ = ["Answer", "Line"]  # what every test of answers needs comes from here too

OUR_HOST = (b"127.0.0.1:9000",)
GATEWAYS = ("nginx", "traefik", "caddy", "haproxy", "envoy")
BROWSER: tuple[Line, ...] = ((b"accept", b"text/html,*/*;q=0.8"), (b"sec-fetch-mode", b"navigate"))


@dataclass
class Mode:
    """How checks are served; "warmed": every connection has been used for good ones before."""

    http: Literal["express", "plain"] = "express"
    is_warmed: bool = False


MODE = Mode()
"""Of whatever is started next. The hundred cases are run in more than one, see tests/conftest.py."""

WARM_HOST = b"warmed.test"


class CountingHasher(PasswordHasher):
    """Argon2 as cheap as it gets, and counted."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.computed = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.computed += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.computed += 1
        return super().verify(hash, password)


CHEAP = CountingHasher()


class WaitingHasher(CountingHasher):
    """Stands still in the middle of a check until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.go_on = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.has_begun.set()
        assert self.go_on.wait(30)
        return super().verify(hash, password)


class Original(TypedDict, total=False):
    """What was asked of the gateway."""

    method: bytes
    scheme: bytes
    host: bytes
    uri: bytes


def metadata(
    gateway: str,
    *,
    method: bytes = b"GET",
    scheme: bytes = b"https",
    host: bytes = b"app.example.com",
    uri: bytes = b"/",
) -> list[Line]:
    """The headers in which this gateway tells what was asked. Envoy has most of it in the request itself."""
    if gateway == "nginx":
        return [(b"x-original-url", scheme + b"://" + host + uri), (b"x-original-method", method)]
    if gateway == "envoy":
        return [(b"x-forwarded-proto", scheme)]
    return [
        (b"x-forwarded-method", method),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-host", host),
        (b"x-forwarded-uri", uri),
    ]


def endpoint(gateway: str) -> str:
    """Where this gateway asks; Envoy about the root."""
    return "/check/envoy/" if gateway == "envoy" else f"/check/{gateway}"


def bearer(token: bytes | str) -> Line:
    """The Authorization line of a token."""
    return (b"authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode()))


def cannot_be_read(gateway: str) -> int:
    """The status of a check that cannot be read: nginx would turn 400 into 500."""
    return 403 if gateway == "nginx" else 400


def _request(method: str, path: str, headers: Iterable[Line], body: bytes, hosts: Sequence[bytes]) -> bytes:
    length = [(b"content-length", b"%d" % len(body))] if body else []
    return head(method, path, [*((b"host", host) for host in hosts), *headers, *length]) + body


def is_unreadable(gateway: str, answer: Answer) -> bool:
    """Whether this is the refusal of a check that cannot be read, or of what is no HTTP at all."""
    return answer.is_no_http or answer.status == cannot_be_read(gateway)


class Question(NamedTuple):
    """What a gateway asks, but for how it goes over the wire."""

    method: str
    target: str
    lines: list[Line]
    hosts: tuple[bytes, ...]

    def as_bytes(self) -> bytes:
        return _request(self.method, self.target, self.lines, b"", self.hosts)


def question(gateway: str, headers: Iterable[Line] = (), **original: Unpack[Original]) -> Question:
    """What this gateway asks about what `original` (method, scheme, host, uri) says was asked of it."""
    lines = [*metadata(gateway, **original), *headers]
    if gateway != "envoy":
        return Question("GET", f"/check/{gateway}", lines, OUR_HOST)
    target = f"/check/envoy{original.get('uri', b'/').decode('latin-1')}"
    host = original.get("host", b"app.example.com")
    return Question(original.get("method", b"GET").decode("latin-1"), target, lines, (host,))


class Running:
    """What a test has in its hands."""

    def __init__(
        self,
        parts: Services,
        clock: ManualClock,
        application: Application,
        directory: Path,
        open_until_the_end: AsyncExitStack,
    ) -> None:
        self.parts = parts
        self.clock = clock
        self.store = parts.store
        self.application = application
        self._directory = directory
        self._open_until_the_end = open_until_the_end
        self._served: dict[tuple[str, str], Served] = {}
        self._is_warmed = MODE.is_warmed

    async def served(self, listener: str = "auth", peer: str | None = "127.0.0.1") -> Served:
        """The listener ("auth" or "admin") as such a peer reaches it. None: over a unix socket."""
        if peer is None:
            address = f"unix:{self._directory}/{listener}-{id(self):x}.sock"
        else:
            address = "[::1]:0" if ":" in peer else "127.0.0.1:0"
        if (listener, address) not in self._served:
            is_auth = listener == "auth"
            app = self.application.auth if is_auth else self.application.admin
            has_lane = is_auth and self.parts.settings.server.http == "express"
            replays = (lambda: self.application.replays) if has_lane else None
            served_there = served(app, self.parts.settings, address, replays)
            self._served[listener, address] = await self._open_until_the_end.enter_async_context(served_there)
        return self._served[listener, address]

    @asynccontextmanager
    async def connection(
        self, peer: str | None = "127.0.0.1", listener: str = "auth", gateway: str = "nginx"
    ) -> AsyncIterator[Connection]:
        """A connection from this address of this machine, 127.0.0.0/8 or ::1. None: over a unix socket.

        Where connections are warmed, then by this gateway's checks.
        """
        there = await self.served(listener, peer)
        async with connected(
            there.listener, peer if peer not in {None, "127.0.0.1", "::1"} else None
        ) as made:
            if self._is_warmed and listener == "auth":
                for each in (question(gateway, host=WARM_HOST),) * 3:
                    await made.send(each.as_bytes())
                    await made.answer()
            yield made

    async def ask(
        self,
        method: str,
        path: str,
        headers: Iterable[Line] = (),
        body: bytes = b"",
        *,
        peer: str | None = "127.0.0.1",
        listener: str = "auth",
        hosts: Sequence[bytes] = OUR_HOST,
    ) -> Answer:
        """One request, over a connection of its own from `peer`, as in `connection`."""
        gateway = next((each for each in GATEWAYS if path.startswith(f"/check/{each}")), "nginx")
        async with self.connection(peer, listener, gateway) as connection:
            await connection.send(_request(method, path, headers, body, hosts))
            return await connection.answer(method)

    async def ask_and_leave(
        self,
        method: str,
        path: str,
        headers: Iterable[Line] = (),
        body: bytes = b"",
        *,
        before_it_is_accepted: bool = False,
    ) -> None:
        """One request of a client who leaves before its last byte is sent, or before it is accepted.

        Returns when the server has done all that it does.
        """
        there = await self.served()
        request = _request(method, path, headers, body, OUR_HOST)
        if before_it_is_accepted:
            send_and_reset(there.listener, request)
            await there.has_begun(1)
        else:
            async with connected(there.listener) as connection:
                await connection.send(request[:-1] if body else request)
                await there.has_begun(1)
        await there.has_done_everything()

    async def check(
        self,
        gateway: str = "nginx",
        headers: Iterable[Line] = (),
        *,
        peer: str | None = "127.0.0.1",
        **original: Unpack[Original],
    ) -> Answer:
        """One check of what `original` (method, scheme, host, uri) says was asked."""
        asked = question(gateway, headers, **original)
        return await self.ask(asked.method, asked.target, asked.lines, peer=peer, hosts=asked.hosts)

    async def add_user(
        self,
        name: str = "alice",
        *,
        emails: tuple[str, ...] = (),
        roles: tuple[str, ...] = (),
        accounts: tuple[Account, ...] = (),
        password: str = "",
        full_name: str = "",
    ) -> User:
        """A user; the password's hash is a cheap one."""
        hashed = CHEAP.hash(password) if password else ""
        new = NewUser(name, emails, "", full_name, "", roles, accounts, hashed)
        return await self.store.users.add(new, now=self.clock.now(), by="test")

    async def set_role(self, name: str, *permissions: str) -> None:
        await self.store.users.set_role(Role(name, permissions))

    async def session(self, user: User, app: str = "") -> Line:
        """The Cookie line of a new session."""
        return (b"cookie", self.cookie_name + b"=" + await self.secret(user, app))

    async def secret(self, user: User, app: str = "") -> bytes:
        """What the cookie of a new session has in it."""
        return (await self.parts.sessions.begin(user, app=app)).secret.encode()

    async def token(self, user: User) -> bytes:
        """The bearer token of a new session."""
        begun = await self.parts.sessions.begin(user)
        return (await self.parts.sessions.token(begun.session, user)).text.encode()

    async def api_key(
        self, user: User, *, scopes: tuple[str, ...] = (), expires_at: float | None = None
    ) -> bytes:
        """A new API key."""
        key = new_api_key().encode()
        await self.store.api_keys.add(
            ApiKey(id_of_secret(key), user.id, "test", scopes, self.clock.now(), None, expires_at)
        )
        return key

    async def access_key(self, *, expires_at: float | None = None) -> tuple[str, str]:
        """The id and the secret of a new access key."""
        key = AccessKey(new_access_key_id(), "test", self.clock.now(), expires_at=expires_at)
        await self.store.access_keys.add(key)
        return key.id, access_key_secret(await self.store.secret(ROOT), key.id)

    @property
    def cookie_name(self) -> bytes:
        return self.parts.settings.session.cookie.encode()

    async def form(self, path: str = "/login", headers: Iterable[Line] = ()) -> tuple[Line, str]:
        """Opens a page with a form: the browser's Cookie line afterwards, and the form's token."""
        page = await self.ask("GET", path, headers)
        token = page.text.partition('name="csrf" type="hidden" value="')[2].partition('"')[0]
        kept = [value for name, value in headers if name == b"cookie"]
        mine = [f"{name}={value}".encode() for name, value in page.cookies().items()]
        return (b"cookie", b"; ".join([*kept, *mine])), token

    async def post(self, path: str, headers: Iterable[Line] = (), **fields: str) -> Answer:
        """Sends a form."""
        form = urlencode(fields).encode()
        return await self.ask(
            "POST", path, [(b"content-type", b"application/x-www-form-urlencoded"), *headers], form
        )

    async def post_json(
        self, path: str, value: object, headers: Iterable[Line] = (), *, peer: str | None = "127.0.0.1"
    ) -> Answer:
        """Sends a JSON body."""
        body = json.dumps(value).encode()
        return await self.ask(
            "POST", path, [(b"content-type", b"application/json"), *headers], body, peer=peer
        )

    async def sign_in(
        self, name: str, password: str, headers: Iterable[Line] = (), *, rd: str = "", peer: str = "127.0.0.1"
    ) -> Answer:
        """Opens the sign-in page and sends its form, as a browser does."""
        cookie, csrf = await self.form()
        fields = {"username": name, "password": password, "rd": rd, "csrf": csrf}
        return await self.ask("POST", "/login", [cookie, *headers], urlencode(fields).encode(), peer=peer)

    def recorded(self) -> list[dict[str, Any]]:
        """What the audit has taken since somebody last asked. Nobody writes it: it is here."""
        return taken(self.parts.audit)

    async def metrics(self) -> str:
        return (await self.ask("GET", "/metrics", listener="admin")).text


@asynccontextmanager
async def running(
    path: Path, tables: dict[str, Any] | None = None, hasher: PasswordHasher | None = None
) -> AsyncIterator[Running]:
    """The application over the store in this directory. `tables` as in the settings file."""
    given = {"store": {"url": f"sqlite:///{path}/sidecar.db"}, **(tables or {})}
    given["server"] = {"http": MODE.http, **given.get("server", {})}
    if MODE.is_warmed:
        given["rules"] = [
            {"name": "warmed", "hosts": [WARM_HOST.decode()], "access": "public"},
            *given.get("rules", [{}]),
        ]
    settings: Settings = parse(given)
    clock = ManualClock()
    async with services(settings, clock, passwords=Passwords(hasher or CHEAP)) as parts:
        await parts.keys.start()
        async with running_on(parts, clock, path) as started:
            yield started


@asynccontextmanager
async def running_on(parts: Services, clock: ManualClock, path: Path) -> AsyncIterator[Running]:
    """The application on services that there are already; its unix sockets are in this directory."""
    async with Application(parts) as application, AsyncExitStack() as open_until_the_end:
        yield Running(parts, clock, application, path, open_until_the_end)


def broken() -> float:
    """What a clock says that has a fault of our own in it."""
    raise ZeroDivisionError("the detail")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes to the store in this file, and does not come to an end."""
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
