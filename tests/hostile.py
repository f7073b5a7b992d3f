"""A server that does what servers must not do, one fault a path, on a real socket in the test's loop.

Every path plays its part for every request, so that a test can come back. What it answers has SECRET in
it wherever a fault lets it say anything.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "PLANTED-secret"
MEGABYTE = 1024 * 1024
HUGE = 100 * MEGABYTE
WATCHDOG = 30
DRIP = 0.02
"""Seconds between two bytes of a drip."""

_END = b"\r\n\r\n"
_POISON = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"from": "before"}'


# --- what came -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A request, and on which connection it came, counted from 1."""

    method: str
    target: str
    lines: list[tuple[str, str]]
    body: bytes
    connection: int

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.lines if each.lower() == name.lower()]


@dataclass
class Exchange:
    """One request, and the way back."""

    server: Hostile
    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def query(self) -> str:
        return unquote(self.request.target.partition("?")[2])

    async def send(self, data: bytes) -> None:
        """Returns when most of it is on its way; raises ConnectionError where nobody is there any more."""
        if self.writer.is_closing():
            raise ConnectionError
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)

    async def answer(self, body: bytes, *lines: str, status: str = "200 OK") -> None:
        """A whole answer, as it should be."""
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines])
        await self.send(head.encode("latin-1") + _END + body)

    async def until_they_leave(self) -> None:
        """Reads, and says nothing."""
        while await self.reader.read(MEGABYTE):
            pass

    async def until_released(self) -> None:
        """Raises ConnectionError where they leave before."""
        leaving = asyncio.create_task(self.until_they_leave())
        releasing = asyncio.create_task(self.server.release.wait())
        await asyncio.wait((leaving, releasing), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        releasing.cancel()
        await asyncio.gather(leaving, releasing, return_exceptions=True)
        if not self.server.release.is_set():
            raise ConnectionError


# --- what is played ------------------------------------------------------------------------------

Part = Callable[[Exchange], Awaitable[None]]


async def _count(exchange: Exchange) -> None:
    """A normal answer: how many requests have come."""
    body = json.dumps({"count": len(exchange.server.received)}).encode()
    await exchange.answer(body, "Content-Type: application/json")


async def _held(exchange: Exchange) -> None:
    """A normal answer, but not before `release` is set."""
    await exchange.until_released()
    await _count(exchange)


async def _silent(exchange: Exchange) -> None:
    await exchange.until_they_leave()


async def _drip(exchange: Exchange, data: bytes) -> None:
    for byte in data:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(DRIP)


async def _drip_head(exchange: Exchange) -> None:
    await _drip(exchange, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000)


async def _drip_body(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000" + _END)
    await _drip(exchange, b"x" * 10_000)


async def _status(exchange: Exchange) -> None:
    """/status?503: that one."""
    where = f"Location: http://{exchange.request.all('host')[0]}/?{SECRET}"
    if exchange.query == "204":  # has no body, and no length (RFC 9110, 8.6)
        await exchange.send(b"HTTP/1.1 204 -\r\n\r\n")
    else:
        await exchange.answer(SECRET.encode(), where, status=f"{exchange.query} {SECRET}")


async def _status_and_drip(exchange: Exchange) -> None:
    """/status-and-drip?503: that one, with a body that takes its time."""
    await exchange.send(f"HTTP/1.1 {exchange.query} -\r\nContent-Length: 10000".encode() + _END)
    await _drip(exchange, b"x" * 10_000)


async def _throttled(exchange: Exchange) -> None:
    """/throttled?120: 429 with this Retry-After; without one where nothing is asked for."""
    lines = [f"Retry-After: {exchange.query}"] if exchange.query else []
    await exchange.answer(SECRET.encode(), *lines, status="429 Too Many Requests")


async def _garbage(exchange: Exchange) -> None:
    await exchange.send(f"{SECRET} is no HTTP\r\n\r\n".encode() + b"\0\xff" * 100)


async def _garbage_header(exchange: Exchange) -> None:
    await exchange.send(f"HTTP/1.1 200 OK\r\n{SECRET} {SECRET}\r\n\r\n".encode())


async def _nothing(exchange: Exchange) -> None:
    """Closes."""
    exchange.writer.close()


async def _first_byte(exchange: Exchange) -> None:
    """Closes after the first byte."""
    await exchange.send(b"H")
    exchange.writer.close()


async def _reset(exchange: Exchange) -> None:
    """Ends the connection as a machine does that knows nothing of it."""
    end = exchange.writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    exchange.writer.transport.abort()


async def _short(exchange: Exchange) -> None:
    """Ends before the end that it announced."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + SECRET.encode())
    exchange.writer.close()


async def _short_chunk(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + SECRET.encode())
    exchange.writer.close()


async def _long(exchange: Exchange) -> None:
    """Goes on after the end that it announced, as if it had been asked twice."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + _POISON)


async def _long_later(exchange: Exchange) -> None:
    """The same, in two pieces."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    await exchange.send(_POISON)


async def _long_much_later(exchange: Exchange) -> None:
    """The same, when `release` is set. `sent` says when it has been."""
    await exchange.answer(b"{}")
    await exchange.server.release.wait()
    await exchange.send(_POISON)
    await exchange.server.tell()


async def _two_lengths(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}")


async def _bomb(exchange: Exchange) -> None:
    """Some 100 kB that become HUGE."""
    await exchange.answer(bomb(), "Content-Encoding: gzip")


async def _huge(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE)
    for _ in range(0, HUGE, MEGABYTE // 16):
        await exchange.send(b"x" * (MEGABYTE // 16))


async def _endless(exchange: Exchange, head: bytes, piece: bytes) -> None:
    await exchange.send(head)
    while True:
        await exchange.send(piece)
        await asyncio.sleep(0)


async def _endless_body(exchange: Exchange) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await _endless(exchange, head, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


async def _endless_head(exchange: Exchange) -> None:
    await _endless(exchange, b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 1000)


async def _endless_continue(exchange: Exchange) -> None:
    await _endless(exchange, b"", b"HTTP/1.1 100 Continue\r\n\r\n")


async def _endless_gzip(exchange: Exchange) -> None:
    """A file name in the gzip header: bytes of which nothing becomes anything."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff"
    await _endless(exchange, head, b"x" * 0x10000)


async def _continue(exchange: Exchange) -> None:
    """One 100, which a server may send, and a normal answer."""
    await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await _count(exchange)


async def _switch(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    await exchange.until_they_leave()


async def _gzip(exchange: Exchange) -> None:
    """A normal answer, compressed."""
    await exchange.answer(zlib.compress(b'{"from": "gzip"}', wbits=31), "Content-Encoding: gzip")


async def _half_gzip(exchange: Exchange) -> None:
    await exchange.answer(zlib.compress(b'{"from": "gzip"}', wbits=31)[:-9], "Content-Encoding: gzip")


async def _gzip_and_more(exchange: Exchange) -> None:
    whole = zlib.compress(b'{"from": "gzip"}', wbits=31)
    await exchange.answer(whole + SECRET.encode(), "Content-Encoding: gzip")


async def _no_gzip(exchange: Exchange) -> None:
    await exchange.answer(SECRET.encode(), "Content-Encoding: gzip")


async def _twice_gzip(exchange: Exchange) -> None:
    twice = zlib.compress(zlib.compress(b"{}", wbits=31), wbits=31)
    await exchange.answer(twice, "Content-Encoding: gzip, gzip")


async def _brotli(exchange: Exchange) -> None:
    await exchange.answer(SECRET.encode(), "Content-Encoding: br")


async def _cookie(exchange: Exchange) -> None:
    """Sets two."""
    await exchange.answer(
        b"{}", f"Set-Cookie: a={SECRET}; Path=/", "set-cookie: b=2, 3", f"X-Token: {SECRET}"
    )


async def _then_close(exchange: Exchange) -> None:
    """A normal answer, and closes without having said that it would."""
    await _count(exchange)
    exchange.writer.close()


PARTS: dict[str, Part] = {
    "/": _count,
    "/held": _held,
    "/silent": _silent,
    "/drip-head": _drip_head,
    "/drip-body": _drip_body,
    "/status": _status,
    "/status-and-drip": _status_and_drip,
    "/throttled": _throttled,
    "/garbage": _garbage,
    "/garbage-header": _garbage_header,
    "/nothing": _nothing,
    "/first-byte": _first_byte,
    "/reset": _reset,
    "/short": _short,
    "/short-chunk": _short_chunk,
    "/long": _long,
    "/long-later": _long_later,
    "/long-much-later": _long_much_later,
    "/two-lengths": _two_lengths,
    "/bomb": _bomb,
    "/huge": _huge,
    "/endless-body": _endless_body,
    "/endless-head": _endless_head,
    "/endless-continue": _endless_continue,
    "/endless-gzip": _endless_gzip,
    "/continue": _continue,
    "/switch": _switch,
    "/gzip": _gzip,
    "/half-gzip": _half_gzip,
    "/gzip-and-more": _gzip_and_more,
    "/no-gzip": _no_gzip,
    "/twice-gzip": _twice_gzip,
    "/brotli": _brotli,
    "/cookie": _cookie,
    "/then-close": _then_close,
}


@cache
def bomb() -> bytes:
    """HUGE bytes, compressed."""
    compress = zlib.compressobj(9, wbits=31)
    pieces = [compress.compress(bytes(MEGABYTE)) for _ in range(0, HUGE, MEGABYTE)]
    return b"".join(pieces) + compress.flush()


# --- the server ----------------------------------------------------------------------------------


@dataclass
class Hostile:
    """What a test has in its hands."""

    port: int = 0
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    accepted: int = 0
    parts: dict[str, Part] = field(default_factory=lambda: dict(PARTS))
    """A test may add parts of its own."""

    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, target: str = "/") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{target}"

    @property
    def open(self) -> int:
        """Connections that neither side has closed."""
        return len(self._open)

    async def until(self, what: Callable[[], bool]) -> None:
        """Waits until this is true. Looks whenever a request comes, or a connection comes or ends."""
        async with asyncio.timeout(WATCHDOG), self._changed:
            await self._changed.wait_for(what)

    async def tell(self) -> None:
        """Something has changed."""
        async with self._changed:
            self._changed.notify_all()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self.accepted += 1
        number = self.accepted
        await self.tell()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while not writer.is_closing():
                    await self._play(await _read(reader, number), reader, writer)
        finally:
            writer.close()
            del self._open[task]
            await self.tell()

    async def _play(
        self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.received.append(request)
        await self.tell()
        part = self.parts[request.target.partition("?")[0]]
        await part(Exchange(self, request, reader, writer))

    async def end(self) -> None:
        """Ends every connection."""
        self.release.set()
        for writer in self._open.values():
            writer.transport.abort()
        await self.until(lambda: not self._open)


async def _read(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(_END)).decode("latin-1").removesuffix("\r\n\r\n")
    first, *rest = head.split("\r\n")
    method, target, _ = first.split(" ")
    lines = [(name, value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    received = Received(method, target, lines, b"", connection)
    lengths = received.all("content-length")
    body = await reader.readexactly(int(lengths[0])) if lengths else b""
    return Received(method, target, lines, body, connection)


@asynccontextmanager
async def hostile(tls: Certificate | None = None) -> AsyncIterator[Hostile]:
    """One on a free port, over TLS where it has a certificate."""
    started = Hostile(scheme="https" if tls else "http")
    context = tls.context() if tls else None
    server = await asyncio.start_server(started.serve, "127.0.0.1", 0, ssl=context)
    started.port = server.sockets[0].getsockname()[1]
    try:
        yield started
    finally:
        server.close()
        await started.end()


# --- ports without a server ----------------------------------------------------------------------


@contextmanager
def refused_port() -> Iterator[int]:
    """Nobody listens there, nor will anybody meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def half_open_port() -> Iterator[int]:
    """The machine accepts connections, and nobody takes them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def unreachable_port() -> Iterator[int]:
    """Whoever connects hears nothing, as behind a firewall: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)  # noqa: FBT003 - socket's signature
            each.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for each in filling:
                each.close()


# --- TLS -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: a certificate, signed by itself, and its key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(directory: Path, *, host: str = "127.0.0.1") -> Certificate:
    """One for this address, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(directory / f"{host}.crt", directory / f"{host}.key")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files.key.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files
