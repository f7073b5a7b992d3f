"""Real processes on loopback: the sidecar, an application, and what stands before them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

from demo.app import Page, PageApp
from demo.stack import (
    EXAMPLES,
    accepts,
    adapted,
    free_port,
    nginx_command,
    running,
    sidecar_command,
    sidecar_environment,
    wait_for,
)

PASSWORD = "correct horse battery staple"
TIMEOUT = 20

Lines = tuple[tuple[str, str], ...]

API: Lines = (("Accept", "application/json"),)
BROWSER: Lines = (("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("Sec-Fetch-Mode", "navigate"))

WEBSOCKET: Lines = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to that key (RFC 6455, 1.3)."""

OVERRIDES = [
    "Forwarded",
    "X-Forwarded-Method",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Host",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Original-Host",
    "X-Original-Method",
    "X-Original-URI",
    "X-Original-URL",
    "X-Real-IP",
    "X-Rewrite-URL",
]
"""An application that goes by one of them serves another path, host, method or client than was judged."""


# --- asking --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.lines if each.lower() == name.lower()]

    def one(self, name: str) -> str:
        """The value of a header that is there exactly once."""
        (value,) = self.all(name)
        return value

    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that it sets."""
        pairs = (line.partition(";")[0].partition("=") for line in self.all("Set-Cookie"))
        return {name: value for name, _, value in pairs}


def head(method: str, target: str, host: str, lines: Lines = ()) -> bytes:
    """A request's head, as it goes over the wire."""
    rest = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *lines))
    return f"{method} {target} HTTP/1.1\r\n{rest}\r\n".encode("latin-1")


def connected(address: str) -> socket.socket:
    """A connection to `host:port` or `unix:/path`."""
    path = address.removeprefix("unix:")
    if path != address:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT)
        connection.connect(path)
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT)


def ask(address: str, request: bytes, tls: ssl.SSLContext | None = None, name: str = "") -> Answer:
    """Sends these bytes on a connection of their own, and reads one answer."""
    with connected(address) as plain:
        connection = tls.wrap_socket(plain, server_hostname=name) if tls else plain
        with connection:
            connection.sendall(request)
            return read_answer(connection, request.partition(b" ")[0].decode())


def read_answer(connection: socket.socket, method: str = "GET") -> Answer:
    """The next answer on a connection on which one request is open."""
    response = HTTPResponse(connection, method=method)
    try:
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        response.close()


def eventually(what: Callable[[], bool], seconds: float = 10) -> float:
    """Waits until this is true; returns after how many seconds it was. Fails when the time is over."""
    pause, started = threading.Event(), time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        pause.wait(0.01)
    return time.monotonic() - started


def children(pid: int) -> list[int]:
    """The processes that this one has begun and that have not been taken from it yet (Linux)."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process that stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have been killed
            os.kill(pid, signal.SIGCONT)


# --- the application -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A request as it reached the application."""

    method: str
    path: str
    lines: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.lines if each.lower() == name.lower()]


class RecordingApp(PageApp):
    """The demo's page, and a record of who came to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), page=_RecordingPage)
        self.received: list[Received] = []
        self.status = 200
        self.sets_cookie = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def taken(self) -> list[Received]:
        """What came since the last time somebody looked."""
        taken, self.received = self.received, []
        return taken

    def handle_error(self, request: object, client_address: object) -> None:
        """A proxy may end a connection as it likes; whatever else goes wrong is said."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it was given

    def only(self) -> Received:
        """The one request that came."""
        (received,) = self.taken()
        return received


class _RecordingPage(Page):
    server: RecordingApp
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """The page; another protocol to whoever asks for one, whatever it is."""
        if "Upgrade" in self.headers:
            self._echo()
        else:
            self.answer()

    def page(self) -> str:
        self._record()
        return super().page()

    def _record(self) -> None:
        target = self.requestline.split(" ")[1]  # `path` has lost the first of two slashes
        self.server.received.append(Received(self.command, target, self.headers.items(), self.body))

    def _echo(self) -> None:
        """What is said behind the answer is said back, to the end of the connection."""
        self._record()
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.send_header("Sec-WebSocket-Accept", ACCEPTED)
        self.end_headers()
        while said := self.connection.recv(65536):
            self.connection.sendall(said)
        self.close_connection = True

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(self.server.status if code == 200 else code, message)
        if self.server.sets_cookie:
            self.send_header("Set-Cookie", self.server.sets_cookie)


@contextmanager
def application() -> Iterator[RecordingApp]:
    """A recording application, listening."""
    with RecordingApp() as app:
        thread = threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield app
        finally:
            app.shutdown()
            thread.join()


# --- the sidecar ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is asked of a gateway, and what comes back."""

    sentence: str
    status: int
    user: str = ""
    target: str = "/page?x=1"
    method: str = "GET"
    lines: Lines = API
    host: str = "app.example.com"


@dataclass
class Installation:
    """Settings and a store: what the command line works on, and a server is started with."""

    config: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment that sets the store, and these."""
        return sidecar_environment(store__url=f"sqlite:///{self.store}", **self.settings, **settings)

    def copied(self, config: Path, directory: Path, settings: dict[str, str]) -> Installation:
        """The same store as it is now, with other settings, in a directory of its own."""
        made = Installation(config, directory, settings)
        with closing(sqlite3.connect(self.store)) as ours, closing(sqlite3.connect(made.store)) as copy:
            ours.backup(copy)
        return made

    @property
    def store(self) -> Path:
        """Its file."""
        return self.directory / "sidecar.db"

    def cli(self, *arguments: str, stdin: str = "") -> str:
        """Runs `sidecar …`; returns what it prints."""
        done = subprocess.run(
            [*sidecar_command(*arguments), "--config", str(self.config)],
            env=self.environment(),
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_user(self, name: str, *options: str) -> None:
        """A user with the password that all users here have."""
        self.cli("users", "add", name, *options, "--password-stdin", stdin=PASSWORD)

    def session(self, name: str) -> Session:
        """A new session."""
        return Session(**json.loads(self.cli("sessions", "create", "--user", name, "--json")))

    @contextmanager
    def serving(self, listen: str = "", **settings: str) -> Iterator[Sidecar]:
        """The server, ready, with all of its workers."""
        listen = listen or f"127.0.0.1:{free_port()}"
        admin = f"127.0.0.1:{free_port()}"
        log = self.directory / "sidecar.log"
        env = self.environment(server__listen=listen, server__admin_listen=admin, **settings)
        before = log.stat().st_size if log.exists() else 0
        command = sidecar_command("serve", "--config", str(self.config))
        with running(command, log, env) as process:
            sidecar = Sidecar(listen, admin, process, log)
            wait_for(lambda: b"started" in log.read_bytes()[before:], process, log)
            wait_for(sidecar.is_ready, process, log)
            yield sidecar


@dataclass(frozen=True)
class Session:
    """A credential that `sidecar sessions create` made."""

    id: str
    cookie: str
    token: str

    @property
    def line(self) -> tuple[str, str]:
        return ("Cookie", self.cookie)


@dataclass(frozen=True)
class Sidecar:
    """A running server."""

    listen: str
    admin: str
    process: subprocess.Popen[bytes]
    log: Path

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return accepts(self.admin) and ask(self.admin, head("GET", "/readyz", "admin")).status == 200


# --- nginx ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """A gateway in front of an application, and the sidecar beside it."""

    address: str
    host: str
    app: RecordingApp
    sidecar: Sidecar
    installation: Installation
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def ask(self, method: str, target: str, lines: Lines = API, body: bytes = b"") -> Answer:
        """One request through the gateway. What the application received before is forgotten."""
        length: Lines = (("Content-Length", str(len(body))),) if body else ()
        return self.send(head(method, target, self.host, (*lines, *length)) + body)

    def send(self, request: bytes) -> Answer:
        """The same with these very bytes."""
        self.app.taken()
        with self.connected() as connection:
            connection.sendall(request)
            return read_answer(connection, request.partition(b" ")[0].decode())

    def connected(self) -> socket.socket:
        """A connection to the gateway."""
        plain = connected(self.address)
        return self.tls.wrap_socket(plain, server_hostname=self.host.partition(":")[0]) if self.tls else plain


@contextmanager
def nginx(directory: Path, changes: Mapping[str, str], address: str) -> Iterator[None]:
    """nginx with examples/nginx/nginx.conf, changed like this; ready when it accepts at `address`."""
    conf, log = directory / "nginx.conf", directory / "nginx.log"
    conf.write_text(adapted((EXAMPLES / "nginx/nginx.conf").read_text(), changes))
    with running(nginx_command(directory, conf), log) as process:
        wait_for(lambda: accepts(address), process, log)
        yield


def fields(page: bytes) -> dict[str, str]:
    """The form that a page of ours has: names and values, found as a script would find them."""
    found: dict[str, str] = {}
    for tag in page.decode().split("<input ")[1:]:
        attributes = tag.partition(">")[0]
        name = attributes.partition('name="')[2].partition('"')[0]
        found[name] = attributes.partition('value="')[2].partition('"')[0].replace("&amp;", "&")
    return found
