"""The real application on a real SQLite file, asked in this process with raw header lines."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import unquote, urlencode

from argon2 import PasswordHasher

from sidecar.access_keys import ROOT, access_key_secret, new_access_key_id
from sidecar.app import Application, Services, services
from sidecar.credentials import id_of_secret, new_api_key
from sidecar.passwords import Passwords
from sidecar.records import AccessKey, Account, ApiKey, NewUser, Role, User
from sidecar.settings import Settings, parse
from tests.clocks import ManualClock

Line = tuple[bytes, bytes]

GATEWAYS = ("nginx", "traefik", "caddy", "haproxy", "envoy")
BROWSER: tuple[Line, ...] = ((b"accept", b"text/html,*/*;q=0.8"), (b"sec-fetch-mode", b"navigate"))


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
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that it sets."""
        pairs = (line.partition(";")[0].partition("=") for line in self.all("Set-Cookie"))
        return {name: value for name, _, value in pairs}


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


class Running:
    """What a test has in its hands."""

    def __init__(self, parts: Services, clock: ManualClock, application: Application) -> None:
        self.parts = parts
        self.clock = clock
        self.store = parts.store
        self.application = application

    async def ask(
        self,
        method: str,
        path: str,
        headers: Iterable[Line] = (),
        body: bytes = b"",
        *,
        peer: str | None = "127.0.0.1",
        listener: str = "auth",
        hosts: Sequence[bytes] = (b"127.0.0.1:9000",),
        goes_away: bool = False,
    ) -> Answer:
        """One request. `peer` None: over a unix socket; empty: a connection that is already gone."""
        raw_path, _, query = path.encode("latin-1").partition(b"?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [*((b"host", host) for host in hosts), *headers],
            "client": (peer, 40000) if peer else None,
            "server": ("/run/sidecar.sock", None) if peer is None else ("127.0.0.1", 9000),
        }
        answer = Answer()

        async def receive() -> dict[str, Any]:
            if goes_away:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.lines = message["status"], list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        app = self.application.auth if listener == "auth" else self.application.admin
        await app(scope, receive, send)
        return answer

    async def check(
        self,
        gateway: str = "nginx",
        headers: Iterable[Line] = (),
        *,
        peer: str | None = "127.0.0.1",
        **original: Unpack[Original],
    ) -> Answer:
        """One check of what `original` (method, scheme, host, uri) says was asked."""
        lines = [*metadata(gateway, **original), *headers]
        if gateway != "envoy":
            return await self.ask("GET", f"/check/{gateway}", lines, peer=peer)
        method = original.get("method", b"GET").decode("latin-1")
        target = f"/check/envoy{original.get('uri', b'/').decode('latin-1')}"
        host = original.get("host", b"app.example.com")
        return await self.ask(method, target, lines, peer=peer, hosts=[host])

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

    async def metrics(self) -> str:
        return (await self.ask("GET", "/metrics", listener="admin")).text


@asynccontextmanager
async def running(
    path: Path, tables: dict[str, Any] | None = None, hasher: PasswordHasher | None = None
) -> AsyncIterator[Running]:
    """The application over the store in this directory. `tables` as in the settings file."""
    settings: Settings = parse({"store": {"url": f"sqlite:///{path}/sidecar.db"}, **(tables or {})})
    clock = ManualClock()
    async with services(settings, clock, passwords=Passwords(hasher or CHEAP)) as parts:
        await parts.keys.start()
        async with Application(parts) as application:
            yield Running(parts, clock, application)


def broken() -> float:
    """What a clock says that has a fault of our own in it."""
    raise ZeroDivisionError("the detail")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes to the store in this file, and does not come to an end."""
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
