"""The one way in which the product asks another system over HTTP."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sidecar import __version__
from sidecar.breaker import Breaker
from sidecar.errors import (
    InvalidValue,
    UpstreamNotAsked,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from sidecar.ports import Clock
from sidecar.telemetry import Metrics

if TYPE_CHECKING:
    import httpx

LARGEST = 1024 * 1024
CONNECTIONS = 16
WAITING_PER_CONNECTION = 8
"""Callers who may wait for each connection; by the time of one more the first have given up."""

LONGEST_RETRY_AFTER = 3600.0

_IDLE = 4.0
"""Seconds that an unused connection is kept: common servers close theirs after 5."""

_OURS = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""How a message is framed and encoded is ours to say, also where a client's headers are passed on."""

_WHO_ASKS = (b"user-agent", f"sidecar/{__version__}".encode())

_GZIP = 16 + zlib.MAX_WBITS
_SECONDS = re.compile(r"[0-9]{1,12}")

_AFTER_THE_ANSWER = attrgetter(
    "stream._httpcore_stream._pool_request.connection._connection._h11_state.trailing_data"
)
"""What was read after the end of an answer. The library takes it for the answer to the next request on the
connection, and has no public name for it."""


T = TypeVar("T")


class ReplyHeaders(Mapping[str, str]):
    """Header lines, whatever the case of their names. The values of a repeated one are joined with ", "."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = defaultdict(list)
        for name, value in lines:
            self._values[name.decode("latin-1").lower()].append(value.decode("latin-1"))

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order: Set-Cookie cannot be joined."""
        return list(self._values.get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<ReplyHeaders {', '.join(self)}>"


class Reply(NamedTuple):
    """An answer of 2xx or 4xx: what it means is the caller's affair."""

    status: int
    headers: ReplyHeaders
    body: bytes

    def __repr__(self) -> str:
        return f"<Reply {self.status}, {len(self.body)} bytes>"


class Asker:
    """Asks one other system.

    `name` is its label in metrics and messages. `timeout` is in seconds, from a call to its end: waiting
    for a connection, connecting, TLS, and every byte of the answer. `largest` is in bytes of a body, as sent
    and as decoded. `connections` bounds those that are open. `ca_file` is a PEM bundle of those who are
    trusted instead of the system's; raises InvalidValue where it cannot be read.

    Nothing of the environment counts (proxies, .netrc), no redirect is followed, no cookie is kept.
    """

    def __init__(
        self,
        *,
        name: str,
        timeout: float,
        breaker: Breaker,
        metrics: Metrics,
        clock: Clock,
        largest: int = LARGEST,
        connections: int = CONNECTIONS,
        ca_file: Path | None = None,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._breaker = breaker
        self._clock = clock
        self._largest = largest
        self._trusted = _trusted(ca_file)
        self._turns = asyncio.Semaphore(connections)
        self._unreadable = b""
        self._waiting = 0
        self._most_waiting = connections * WAITING_PER_CONNECTION
        self._idle = [_Connection(self._trusted)]  # now: the first check does not wait for the library
        self._closed = False
        self._requests = metrics.upstream_requests
        self._duration = metrics.upstream_request_duration
        metrics.upstream_open.labels(name).set_function(lambda: float(breaker.is_open))

    async def ask(
        self, method: str, url: str, *, headers: Iterable[tuple[bytes, bytes]] = (), content: bytes = b""
    ) -> Reply:
        """The answer, of 2xx or 4xx. `headers` are sent but for those that frame or encode a message.

        Raises UpstreamThrottled for 429, UpstreamUnavailable for everything else that is no such answer
        (1xx, 3xx and 5xx among it), InvalidValue for what cannot be sent.
        """
        return await self.ask_for(_itself, method, url, headers=headers, content=content)

    async def ask_for(
        self,
        read: Callable[[Reply], T],
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        content: bytes = b"",
        about: bytes = b"",
        deadline: float | None = None,
    ) -> T:
        """What `read` makes of the answer, by the `deadline` or one timeout from now; else as `ask`.

        UpstreamUnavailable raised by `read`, for an answer that is none, counts as any other fault does; but
        several `about` one credential in a row count once: no single user has us stop asking for all.
        """
        started = self._clock.monotonic()
        try:
            self._breaker.refuse()
            request = _request(method, url, headers, content)
            value = await self._ask(request, read, about, deadline or self.deadline())
        except (UpstreamUnavailable, UpstreamThrottled) as fault:
            self._count(_result(fault), started)
            raise
        except InvalidValue:  # of the question, or of this answer to it
            self._count("error", started)
            raise
        self._count("ok", started)
        return value

    def deadline(self) -> float:
        """One timeout from now, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout

    def refuse(self) -> None:
        """Raises UpstreamNotAsked where nobody may ask now: before something is begun for nothing."""
        try:
            self._breaker.refuse()
        except UpstreamNotAsked as fault:
            self._count(_result(fault), self._clock.monotonic())
            raise

    async def close(self) -> None:
        """Closes what is idle, and asks no more. A call that is under way ends in its own time."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _ask(
        self, request: httpx.Request, read: Callable[[Reply], T], about: bytes, deadline: float
    ) -> T:
        async with self._turn(deadline):
            # Only now: what happened while this one waited counts.
            with self._breaker.begin() as attempt:
                with self._outages():
                    async with asyncio.timeout_at(deadline), self._connection() as connection:
                        reply = await self._converse(connection, request)
                try:
                    return read(reply)
                except UpstreamUnavailable:
                    if self._is_repeated(about):
                        attempt.excuse()
                    raise

    def _is_repeated(self, about: bytes) -> bool:
        """Whether the last answer that could not be read was about the same credential. Notes this one."""
        last, self._unreadable = self._unreadable, sha256(about).digest() if about else b""
        return bool(about) and self._unreadable == last

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        """While this caller is one of those who may have a connection."""
        if self._turns.locked() and self._waiting >= self._most_waiting:
            raise UpstreamNotAsked(f"{self._name}: not asked, too many are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise UpstreamTimeout(f"{self._name}: no connection was free in time") from None
        finally:
            self._waiting -= 1
        try:
            if self._closed:
                raise UpstreamNotAsked(f"{self._name}: not asked, this process ends")
            yield
        finally:
            self._turns.release()

    @contextmanager
    def _outages(self) -> Iterator[None]:
        """Turns the library's errors into ours. Theirs may quote what was received, and go no further."""
        import httpx  # noqa: PLC0415 - as in _Connection

        try:
            yield
        except TimeoutError:
            raise UpstreamTimeout(f"{self._name}: no answer in time") from None
        except httpx.LocalProtocolError:
            raise InvalidValue(f"{self._name}: this cannot be sent over HTTP") from None
        except zlib.error:
            raise UpstreamUnavailable(f"{self._name}: its answer cannot be decoded") from None
        except (httpx.TransportError, OSError) as error:
            raise UpstreamUnavailable(f"{self._name}: {_what_broke(error)}") from None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """The one that was used last, else a new one. It is kept where what is done with it ends well."""
        connection = self._idle.pop() if self._idle else _Connection(self._trusted)
        try:
            yield connection
        except BaseException:
            await connection.close()
            raise
        if self._closed or connection.has_ended:
            await connection.close()
        else:
            await self._keep(connection)

    async def _keep(self, connection: _Connection) -> None:
        """For the next question; and closes those that nobody has needed for long, the oldest first."""
        now = asyncio.get_running_loop().time()
        connection.idle_since = now
        self._idle.append(connection)
        while now - self._idle[0].idle_since > _IDLE:
            await self._idle.pop(0).close()

    async def _converse(self, connection: _Connection, request: httpx.Request) -> Reply:
        response = await connection.send(request)
        headers = ReplyHeaders(response.headers.raw)
        self._judge(response.status_code, headers)
        body = await self._read(response, headers)
        if connection.has_more(response):
            raise UpstreamUnavailable(f"{self._name}: its answer goes on after its end")
        return Reply(response.status_code, headers, body)

    def _judge(self, status: int, headers: ReplyHeaders) -> None:
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = retry_after(headers, self._clock.now())
            raise UpstreamThrottled(f"{self._name}: wants to be left alone for {seconds:.0f} s", seconds)
        if status // 100 != HTTPStatus.OK // 100 and not blames_the_question(status):
            raise UpstreamUnavailable(f"{self._name}: status {status}")

    async def _read(self, response: httpx.Response, headers: ReplyHeaders) -> bytes:
        """The decoded body. Not by the library, which decodes 64 KiB at once, to whatever length."""
        gzip = self._is_gzip(headers)
        inflate = zlib.decompressobj(_GZIP)
        body = bytearray()
        received = 0
        async for chunk in response.aiter_raw():
            received += len(chunk)
            body += inflate.decompress(chunk, self._largest + 1 - len(body)) if gzip else chunk
            if max(received, len(body)) > self._largest:
                raise UpstreamUnavailable(f"{self._name}: its answer has more than {self._largest} bytes")
        if gzip and received and (not inflate.eof or inflate.unused_data):
            raise UpstreamUnavailable(f"{self._name}: its answer cannot be decoded")
        return bytes(body)

    def _is_gzip(self, headers: ReplyHeaders) -> bool:
        """Some compress although nobody asked them to."""
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in {"identity", "gzip", "x-gzip"}:
            raise UpstreamUnavailable(f"{self._name}: its answer cannot be decoded")
        return encoding != "identity"

    def _count(self, result: str, started: float) -> None:
        self._requests.inc((self._name, result))
        if result != "rejected":
            self._duration.observe((self._name,), self._clock.monotonic() - started)


class _Connection:
    """At most one connection, to whatever was asked last.

    A transport for each: a pool that several share loses a place for good where a caller goes away at the
    wrong moment, and hands out a connection that one who went away has left half used.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        import httpx  # noqa: PLC0415 - 0.1 s, which only those spend who ask somebody

        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE)
        self._transport = httpx.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=limits)
        self._stream: _Stream | None = None
        self.has_ended = False
        self.idle_since = inf

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer."""
        request.extensions["trace"] = self._note
        return await self._transport.handle_async_request(request)

    def has_more(self, response: httpx.Response) -> bool:
        """Whether more than an answer has come. Afterwards `has_ended` says whether nothing will any more."""
        after, _ = _AFTER_THE_ANSWER(response)
        tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        if after or tls is None:
            return bool(after)
        try:
            self.has_ended = not tls.read(1)
        except ssl.SSLWantReadError:
            return False
        return not self.has_ended

    async def close(self) -> None:
        """By its socket: the library loses hold of one that is given up while its TLS is agreed on."""
        if self._stream is not None:
            await self._stream.aclose()

    async def _note(self, event: str, what: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = what["return_value"]


class _Stream(Protocol):
    """A socket, as the library has it."""

    async def aclose(self) -> None: ...


def blames_the_question(status: int) -> bool:
    """Whether it is one of 4xx: what was asked is wrong (RFC 9110, 15.5)."""
    return status // 100 == HTTPStatus.BAD_REQUEST // 100


def _itself(reply: Reply) -> Reply:
    return reply


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:  # ssl.SSLError is one
        raise InvalidValue(f"no certificates can be read from {ca_file}") from None


def _request(method: str, url: str, headers: Iterable[tuple[bytes, bytes]], content: bytes) -> httpx.Request:
    import httpx  # noqa: PLC0415 - as in _Connection

    lines = [line for line in headers if line[0].lower() not in _OURS]
    lines.append((b"accept-encoding", b"identity"))
    if all(name.lower() != b"user-agent" for name, _ in lines):
        lines.append(_WHO_ASKS)
    try:
        request = httpx.Request(method, url, headers=lines, content=content)
    except httpx.InvalidURL:
        raise InvalidValue("this is no URL") from None
    if request.url.scheme not in {"http", "https"} or not request.url.host:
        raise InvalidValue("this is no URL of a web server")
    return request


def _what_broke(error: Exception) -> str:
    import httpx  # noqa: PLC0415 - as in _Connection

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    match error:
        case httpx.ConnectError():
            return "no connection"
        case httpx.RemoteProtocolError():
            return "its answer is broken HTTP, or ended early"
        case _:
            return "the connection broke"


def retry_after(headers: ReplyHeaders, now: float) -> float:
    """Seconds until another try is welcome (RFC 9110, 10.2.3), 1 to 3600; 1 where that is not said.

    `now` is in seconds since the epoch.
    """
    value = headers.get("retry-after", "")
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 1.0
    return min(max(1.0, seconds), LONGEST_RETRY_AFTER)


def _result(fault: UpstreamUnavailable | UpstreamThrottled) -> str:
    """The metrics' word for it."""
    match fault:
        case UpstreamNotAsked():
            return "rejected"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamThrottled():
            return "throttled"
        case UpstreamUnavailable():
            return "error"
