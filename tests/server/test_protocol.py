"""The limits on a request's head, and how connections end, over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import product

import pytest
import uvicorn

from sidecar.errors import InvalidValue
from sidecar.server.listeners import listening
from sidecar.server.protocol import MOST_HEADERS, LimitedProtocol, limited
from sidecar.server.ticking import PATIENCE, TICKS
from sidecar.web.bodies import read_body
from sidecar.web.entrance import Receive, Scope, Send, respond
from tests.checks.products import POSTS, REQUEST_ID, STATUS_PATH, Endpoint
from tests.e2e.harness import Installation, Sidecar, ask
from tests.e2e.harness import head as request_head

LIMIT = 4096
CONNECTIONS = 8
SHORT = 0.1
WATCHDOG = 30


@dataclass
class Connection:
    """A client's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, chunk: bytes) -> None:
        self.writer.write(chunk)
        await self.writer.drain()

    async def answer(self) -> str:
        """The next answer's body."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WATCHDOG)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return (await self.reader.readexactly(int(length.partition(b":")[2]))).decode()

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), WATCHDOG)


@dataclass
class Serving:
    """A server whose answers tell what it was sent: the length of the body, and the header lines."""

    server: uvicorn.Server = field(init=False)
    port: int = 0
    asked: list[str] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; /slow when it is released."""
        self.asked.append(scope["path"])
        self.entered.set()
        if scope["path"] == "/slow":
            await self.released.wait()
        if scope["path"] == "/at-once":  # as a check is: a body, if any, is left unread
            await respond(send, 200, b"")
            return
        if scope["path"] == "/begun":  # its answer has begun when it reads the body
            begun = {"type": "http.response.start", "status": 200}
            await send({**begun, "headers": [(b"content-length", b"%d" % len(ENDS))]})
            with pytest.raises(InvalidValue, match=ENDS):
                await read_body(receive)
            await send({"type": "http.response.body", "body": ENDS.encode()})
            return
        try:
            body = await read_body(receive)
        except InvalidValue as refused:
            await respond(send, 400, str(refused).encode())
            return
        names = b",".join(name for name, _ in scope["headers"])
        await respond(send, 200, b"%d bytes, %b" % (len(body), names))

    async def has_done_everything(self) -> None:
        """Returns when no connection is open and no request is being answered."""
        state = self.server.server_state
        async with asyncio.timeout(WATCHDOG):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One that is closed at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    @asynccontextmanager
    async def in_pieces(self, pieces: Iterable[bytes]) -> AsyncIterator[Connection]:
        """One on which these were sent; each was read before the next one was sent."""
        async with self.connection() as connection:
            async with self.connection() as another:
                for piece in pieces:
                    await connection.send(piece)
                    await another.send(SEEN)  # whose answer comes when the piece has been read
                    assert await another.answer() == "0 bytes, "
            self.asked = [each for each in self.asked if each != "/seen"]
            yield connection

    async def exchange(self, chunks: list[bytes]) -> bytes:
        """Sends chunks, one after the other, and reads until the server closes or has nothing more."""
        async with self.connection() as connection:
            try:
                for chunk in chunks:
                    await connection.send(chunk)
                connection.writer.write_eof()
                return await connection.rest()
            except ConnectionError:
                return b""


@asynccontextmanager
async def serving(patience: float = WATCHDOG) -> AsyncIterator[Serving]:
    """A server on a free port."""
    started = Serving()
    config = uvicorn.Config(
        started.application,
        interface="asgi3",
        http=limited(LimitedProtocol, LIMIT, CONNECTIONS, patience),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=2 * WATCHDOG,  # what is closed here is not closed for being idle
    )
    started.server = server = uvicorn.Server(config)
    with listening("127.0.0.1:0") as listener:
        started.port = listener.getsockname()[1]
        task = asyncio.create_task(server._serve([listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has a flag, and no event
            await asyncio.sleep(0)
        yield started
        server.should_exit = True
        await task


def head(size: int, *, close: bool = True, method: bytes = b"GET", body: int = 0) -> bytes:
    """A request whose target and header lines have `size` bytes together; its body follows them."""
    fixed = (b"Connection", b"close") if close else (b"Connection", b"keep-alive")
    length = (b"Content-Length", b"%d" % body)
    rest = size - len(b"/") - sum(map(len, (*fixed, *length))) - len(b"Xa")
    lines = (*fixed, *length, b"a" * (rest + 1))
    return b"%b / HTTP/1.1\r\n%b: %b\r\n%b: %b\r\nX: %b\r\n\r\n%b" % (method, *lines, b"b" * body)


def lines(number: int) -> bytes:
    """A request with so many header lines."""
    return b"GET / HTTP/1.1\r\nConnection: close\r\n" + b"X: a\r\n" * (number - 1) + b"\r\n"


WHOLE = b"GET / HTTP/1.1\r\nX: a\r\n\r\n"
SEEN = b"GET /seen HTTP/1.1\r\n\r\n"


# --- size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "statuses"),
    [
        pytest.param([head(LIMIT)], [b"200"], id="the longest head that is allowed"),
        pytest.param([head(LIMIT + 1)], [b"431"], id="one byte more"),
        pytest.param([head(10 * LIMIT)], [b"431"], id="ten times as long, at once"),
        pytest.param([head(LIMIT + 1, method=b"POST", body=9)], [b"431"], id="one byte more, with a body"),
        pytest.param([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 1000] * 10], [b"431"], id="a line without an end"),
        pytest.param([b"GET /", *[b"a" * 1000] * 10], [b"431"], id="a target without an end"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"X: a\r\n" * 100] * 20], [b"431"], id="lines without an end"),
        pytest.param(
            [b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nX: " + b"a" * LIMIT + b"\r\n\r\n"],
            [b"431"],
            id="one that asks for an upgrade",
        ),
        pytest.param([b"\r\n" * 1000] * 10, [b"431"], id="empty lines without an end"),
        pytest.param([lines(MOST_HEADERS)], [b"200"], id="the most lines that are allowed"),
        pytest.param([lines(MOST_HEADERS + 1)], [b"431"], id="one line more"),
        pytest.param(
            [head(100, close=False) + head(LIMIT + 1)],
            [b"200"],
            id="behind a short one: never an answer to the wrong request",
        ),
        pytest.param(
            [b"POST / HTTP/1.1\r\nContent-Length: 20000\r\nConnection: close\r\n\r\n" + b"x" * 20000],
            [b"200"],
            id="a long body is no long head",
        ),
        pytest.param(
            [
                b"POST / HTTP/1.1\r\nContent-Length: 20000\r\nConnection: close\r\n\r\n",
                *[b"x" * 2000] * 10,
            ],
            [b"200"],
            id="nor is one in pieces",
        ),
    ],
)
async def test_i95_a_head_over_the_limit_is_refused(
    caplog: pytest.LogCaptureFixture, chunks: list[bytes], statuses: list[bytes]
) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving() as server:
            answer = await server.exchange(chunks)
    found = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert found == statuses
    assert caplog.records == []


@pytest.mark.parametrize("target", [b"/#", b"/a#b", b"/a?b#c", b"/?#/../x"])
async def test_a_target_with_a_fragment_is_refused_and_not_cut_short(target: bytes) -> None:
    async with serving() as server:
        answer = await server.exchange([b"GET %b HTTP/1.1\r\nX: a\r\n\r\n" % target])
        behind = await server.exchange([WHOLE, b"GET %b HTTP/1.1\r\nX: a\r\n\r\n" % target])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert behind.startswith(b"HTTP/1.1 200 ")
    assert set(server.asked) <= {"/"}


async def test_what_is_no_request_has_one_answer_however_long_it_is() -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(b"\0" * (LIMIT + 1))
        answer = await connection.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_body_of_a_refused_request_is_no_other_requests_body() -> None:
    first = head(100, close=False, method=b"POST", body=3)
    async with serving() as server:
        answer = await server.exchange([first + head(LIMIT + 1, method=b"POST", body=500)])
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\n\r\n3 bytes, " in answer


GARBAGE = {
    "no method": b"\0\0\0\r\n\r\n",
    "a target that is none": b"GET http://[ HTTP/1.1\r\n\r\n",
    "a head over the limit and garbage": head(LIMIT + 1) + b"\0\0\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_request_takes_no_answer_from_the_request_before(garbage: bytes) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\n\r\n" + garbage)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        server.released.set()
        answer = await connection.rest()
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer


# --- bodies that nobody reads --------------------------------------------------------------------


ANNOUNCED = b"GET /at-once HTTP/1.1\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize("later", [b"", b"abc", b"ab", WHOLE], ids=str)
async def test_i97_an_answer_before_the_body_is_the_last_one_on_its_connection(later: bytes) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(ANNOUNCED)
        assert await connection.answer() == ""
        with suppress(ConnectionError):
            await connection.send(later)
            assert await connection.rest() == b""
    assert server.asked == ["/at-once"]


@pytest.mark.parametrize("pieces", [[ANNOUNCED + b"abc"], [ANNOUNCED[:20], ANNOUNCED[20:] + b"abc"]], ids=len)
async def test_a_body_that_came_with_its_head_leaves_the_connection_open(pieces: list[bytes]) -> None:
    async with serving() as server, server.connection() as connection:
        for piece in pieces:
            await connection.send(piece)
        assert await connection.answer() == ""
        await connection.send(WHOLE)
        assert await connection.answer() == "0 bytes, x"


# --- a client that sends no more, and listens ----------------------------------------------------


POST = b"POST / HTTP/1.1\r\n"
TRUNCATED = {
    "none of it": POST + b"Content-Length: 3\r\n\r\n",
    "a part of it": POST + b"Content-Length: 3\r\n\r\nab",
    "no chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "a chunk and no last one": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    "half of the trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
}
ENDS = "it ends in the middle"


@pytest.mark.parametrize("request_", TRUNCATED.values(), ids=TRUNCATED)
async def test_a_body_that_ends_in_the_middle_is_answered_and_the_connection_closed(request_: bytes) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(request_)
        connection.writer.write_eof()
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""
        await server.has_done_everything()


@pytest.mark.parametrize("request_", TRUNCATED.values(), ids=TRUNCATED)
async def test_so_is_one_that_ends_while_it_is_waited_for(request_: bytes) -> None:
    async with serving() as server, server.connection() as connection, server.connection() as another:
        await connection.send(request_)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        await another.send(WHOLE)
        assert await another.answer() == "0 bytes, x"
        connection.writer.write_eof()
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""


async def test_who_waits_to_be_asked_for_the_body_may_decide_to_send_none() -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        asked = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await connection.reader.readexactly(len(asked)) == asked
        connection.writer.write_eof()
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    ("sent", "bodies"),
    [
        (b"GET /slow HTTP/1.1\r\n\r\n", ["0 bytes, "]),
        (b"POST /slow HTTP/1.1\r\nX: a\r\nContent-Length: 3\r\n\r\nab", [ENDS]),
        (b"GET /slow HTTP/1.1\r\n\r\n" + WHOLE + WHOLE, ["0 bytes, ", "0 bytes, x", "0 bytes, x"]),
        (b"GET /slow HTTP/1.1\r\n\r\n" + WHOLE[:-2], ["0 bytes, "]),
        (b"GET /slow HTTP/1.1\r\n\r\n" + TRUNCATED["a part of it"], ["0 bytes, ", ENDS]),
        (b"GET /slow HTTP/1.1\r\n\r\n" + TRUNCATED["half a chunk"], ["0 bytes, ", ENDS]),
        (
            b"GET /slow HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            ["0 bytes, connection,upgrade"],
        ),
    ],
    ids=[
        "a request",
        "half a body",
        "three requests",
        "half a head after it",
        "half a body after it",
        "half a chunk after it",
        "one that asked for an upgrade",
    ],
)
async def test_what_is_owed_to_a_client_that_sends_no_more_is_answered(
    sent: bytes, bodies: list[str]
) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(sent)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        connection.writer.write_eof()
        async with server.connection() as another:  # whose answer comes when the end has been seen
            await another.send(WHOLE)
            assert await another.answer() == "0 bytes, x"
        server.released.set()
        assert [await connection.answer() for _ in bodies] == bodies
        assert await connection.rest() == b""
        await server.has_done_everything()


@pytest.mark.parametrize("sent", [b"", b"\r\n", WHOLE[:9], WHOLE[:-2]], ids=str)
async def test_to_who_has_asked_nothing_nothing_is_owed(sent: bytes) -> None:
    async with serving() as server:
        async with server.connection() as new:
            await new.send(sent)
            new.writer.write_eof()
            assert await new.rest() == b""
        async with server.connection() as used:
            await used.send(WHOLE)
            await used.answer()
            await used.send(sent)
            used.writer.write_eof()
            assert await used.rest() == b""
        await server.has_done_everything()


async def test_an_answer_that_waits_for_no_body_is_the_only_one() -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(ANNOUNCED + b"ab")
        connection.writer.write_eof()
        assert await connection.answer() == ""
        assert await connection.rest() == b""


@pytest.mark.parametrize("request_", [WHOLE, *TRUNCATED.values()], ids=["nothing", *TRUNCATED])
async def test_of_a_client_that_is_gone_nothing_is_left(request_: bytes) -> None:
    async with serving() as server:
        async with server.connection() as connection:
            await connection.send(request_)
            await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        await server.has_done_everything()


# --- bodies that are none ------------------------------------------------------------------------


HEAD = b"POST /%b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
MALFORMED = {  # each up to the byte that is wrong
    "a size that is no number": b"Z",
    "no size": b"\r",
    "a size below zero": b"-",
    "a size over any": b"f" * 17,
    "a chunk longer than its size": b"1\r\nab",
    "the second size": b"1\r\na\r\nZ",
    "a line's end": b"1\ra",
    "an extension": b"1;\0",
    "a trailer": b"1\r\na\r\n0\r\n\0",
    "more of it than a head may have": b"Z" * (LIMIT + 1),
}
each_malformed = pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)


@each_malformed
async def test_a_malformed_body_is_the_applications_to_answer_and_the_connection_closed(
    caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving() as server:
            for path, answer in ((b"", ENDS), (b"at-once", ""), (b"begun", ENDS)):
                async with server.connection() as connection:
                    await connection.send(HEAD % path + body + b"\r\n0\r\n\r\n" + WHOLE)
                    assert await connection.answer() == answer
                    assert await connection.rest() == b""
                    await server.has_done_everything()
    assert server.asked == ["/", "/at-once", "/begun"]
    assert caplog.records == []


@each_malformed
async def test_so_is_one_that_is_waited_for(body: bytes) -> None:
    pieces = [body] if len(body) > LIMIT else [body[i : i + 1] for i in range(len(body))]
    async with serving() as server:
        for path in (b"", b"begun"):
            async with server.in_pieces([HEAD % path, *pieces]) as connection:
                assert await connection.answer() == ENDS
                assert await connection.rest() == b""


@each_malformed
async def test_nothing_of_it_is_read_while_its_answer_is_owed(body: bytes) -> None:
    pieces = [HEAD % b"slow", body, b"\r\n0\r\n\r\n", WHOLE, b"\0"]
    async with serving() as server, server.in_pieces(pieces) as connection:
        server.released.set()
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""
    assert server.asked == ["/slow"]


@each_malformed
async def test_a_malformed_body_takes_no_answer_from_the_request_before(body: bytes) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\n\r\n" + HEAD % b"" + body)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        server.released.set()
        assert await connection.answer() == "0 bytes, "
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""


UNFRAMED = [b"gzip", b"xchunked", b"chunked, gzip", b"gzip\r\nTransfer-Encoding: deflate"]


@pytest.mark.parametrize("upgrade", [b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"], ids=bool)
@pytest.mark.parametrize("coding", UNFRAMED, ids=str)
async def test_a_head_that_frames_no_body_is_no_malformed_body(coding: bytes, upgrade: bytes) -> None:
    request = b"GET /at-once HTTP/1.1\r\n%bTransfer-Encoding: %b\r\n\r\n" % (upgrade, coding)
    async with serving() as server:
        async with server.connection() as connection:
            await connection.send(request)
            answer = await connection.rest()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1
        async with server.connection() as connection:
            await connection.send(b"GET /slow HTTP/1.1\r\n\r\n" + request)
            await asyncio.wait_for(server.entered.wait(), WATCHDOG)
            server.released.set()
            assert await connection.answer() == "0 bytes, "
            await connection.rest()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The product."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "sidecar.toml"
    config.touch()
    with Installation(config, directory).serving() as started:
        yield started


@each_malformed
@pytest.mark.parametrize("endpoint", [each for each in POSTS if each.path != STATUS_PATH], ids=str)
def test_a_product_refuses_a_malformed_body_in_its_own_form(
    sidecar: Sidecar, endpoint: Endpoint, body: bytes
) -> None:
    name, value = REQUEST_ID
    lines = ((name.decode(), value.decode()), ("Transfer-Encoding", "chunked"))
    answer = ask(sidecar.listen, request_head(endpoint.method, endpoint.path, "sidecar", lines) + body)
    refusal = endpoint.product.envelope(400, f"The body cannot be read: {ENDS}")
    assert (answer.status, json.loads(answer.body)) == (endpoint.product.http_status(400), refusal)
    assert answer.one("Connection") == "close"


# --- what is no header ---------------------------------------------------------------------------


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"


async def test_trailers_are_no_headers() -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(CHUNKED + b"X-Forwarded-For: 10.0.0.1\r\n\r\n")
        assert await connection.answer() == "1 bytes, transfer-encoding"


@pytest.mark.parametrize("trailers", [b"X: a\r\n" * 700, b"a" * 4200], ids=["lines", "one line"])
async def test_trailers_over_the_limit_close_the_connection(trailers: bytes) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(CHUNKED)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        await connection.send(trailers)
        assert await connection.rest() == b""


# --- upgrades ------------------------------------------------------------------------------------


UPGRADE = b"Connection: upgrade\r\nUpgrade: %b\r\n\r\n"


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_who_asks_for_an_upgrade_is_answered_without_and_without_a_warning(
    caplog: pytest.LogCaptureFixture, protocol: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving() as server, server.connection() as connection:
            await connection.send(b"GET / HTTP/1.1\r\n" + UPGRADE % protocol)
            assert await connection.answer() == "0 bytes, connection,upgrade"
            assert await connection.rest() == b""
    assert caplog.records == []


SETTINGS = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
ASKS = {
    "h2c": (SETTINGS, "connection,upgrade,http2-settings"),  # as Java and `curl --http2` do with http://
    "websocket": (b"Connection: upgrade\r\nUpgrade: websocket\r\n", "connection,upgrade"),
}
each_asking = pytest.mark.parametrize(("asking", "names"), ASKS.values(), ids=ASKS)
BODIES = {
    "of a length": (b"Content-Length: 5\r\n\r\nabcde", "5 bytes, ", "content-length"),
    "of length 0": (b"Content-Length: 0\r\n\r\n", "0 bytes, ", "content-length"),
    "in chunks": (
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nX: a\r\n\r\n",
        "5 bytes, ",
        "transfer-encoding",
    ),
    "in no chunk": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "0 bytes, ", "transfer-encoding"),
    "that is long": (b"Content-Length: 60000\r\n\r\n" + b"x" * 60000, "60000 bytes, ", "content-length"),
}
each_body = pytest.mark.parametrize(("body", "size", "framing"), BODIES.values(), ids=BODIES)


@each_asking
@each_body
async def test_the_body_of_who_asks_for_an_upgrade_is_read(
    asking: bytes, names: str, body: bytes, size: str, framing: str
) -> None:
    request = POST + asking + body
    places = range(1, min(len(request), 300))
    splits = [[request], *([request[:place], request[place:]] for place in places)]
    async with serving() as server:
        for pieces in splits:
            async with server.in_pieces(pieces) as connection:
                assert await connection.answer() == f"{size}{names},{framing}"
                assert await connection.rest() == b""
        bytewise = [*(request[i : i + 1] for i in range(300)), request[300:]]
        async with server.in_pieces([piece for piece in bytewise if piece]) as connection:
            assert await connection.answer() == f"{size}{names},{framing}"
            assert await connection.rest() == b""


@each_body
async def test_what_follows_the_body_of_who_asks_for_an_upgrade_is_never_answered(
    body: bytes, size: str, framing: str
) -> None:
    request = b"POST /slow HTTP/1.1\r\n" + SETTINGS + body
    async with serving() as server:
        for with_it, later in product([b"", WHOLE, b"\0", SETTINGS], [[], [WHOLE], [b"\0", WHOLE]]):
            server.released.clear()
            server.asked.clear()
            async with server.in_pieces([request + with_it, *later]) as connection:
                server.released.set()
                assert await connection.answer() == f"{size}connection,upgrade,http2-settings,{framing}"
                assert await connection.rest() == b""
            assert server.asked == ["/slow"]


@each_body
async def test_who_asks_for_an_upgrade_is_answered_after_the_request_before(
    body: bytes, size: str, framing: str
) -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\n\r\n" + POST + SETTINGS + body)
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        server.released.set()
        assert await connection.answer() == "0 bytes, "
        assert await connection.answer() == f"{size}connection,upgrade,http2-settings,{framing}"
        assert await connection.rest() == b""


@pytest.mark.parametrize("request_", TRUNCATED.values(), ids=TRUNCATED)
async def test_their_body_may_end_in_the_middle_too(request_: bytes) -> None:
    asking = request_.replace(POST, POST + SETTINGS)
    async with serving() as server, server.in_pieces([asking]) as connection:
        connection.writer.write_eof()
        assert await connection.answer() == ENDS
        assert await connection.rest() == b""
        await server.has_done_everything()


@each_malformed
async def test_it_may_be_malformed_too(body: bytes) -> None:
    request = (HEAD % b"").replace(b"\r\n", b"\r\n" + SETTINGS, 1)
    async with serving() as server:
        for pieces in ([request + body], [request, body]):
            async with server.in_pieces(pieces) as connection:
                assert await connection.answer() == ENDS
                assert await connection.rest() == b""


async def test_it_may_have_trailers_over_the_limit_too() -> None:
    request = CHUNKED.replace(b"\r\n", b"\r\n" + SETTINGS, 1)
    async with serving() as server, server.in_pieces([request]) as connection:
        await connection.send(b"a" * 4200)
        assert await connection.rest() == b""


async def test_it_may_wait_to_be_asked_for_and_take_longer_than_a_head() -> None:
    async with serving(SHORT) as server, server.connection() as connection:
        await connection.send(POST + SETTINGS + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        asked = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await connection.reader.readexactly(len(asked)) == asked
        async with server.connection() as silent:
            assert await silent.rest() == b""
        await connection.send(b"abc")
        assert (await connection.answer()).startswith("3 bytes, ")
        assert await connection.rest() == b""


async def test_an_answer_without_it_is_the_last_one_as_any() -> None:
    async with serving() as server, server.connection() as connection:
        await connection.send(b"POST /at-once HTTP/1.1\r\n" + SETTINGS + b"Content-Length: 3\r\n\r\n")
        assert await connection.answer() == ""
        assert await connection.rest() == b""


# --- time ----------------------------------------------------------------------------------------


def test_a_head_has_ten_seconds() -> None:
    assert limited(LimitedProtocol, LIMIT, CONNECTIONS).ticking.seconds * TICKS == PATIENCE == 10.0


HALVES = [b"\r\n", b"G", b"GET / HTTP/1.1\r\n", WHOLE[:-2]]


@pytest.mark.parametrize("half", [b"", *HALVES], ids=str)
async def test_a_new_connection_that_sends_no_whole_head_is_closed(half: bytes) -> None:
    async with serving(SHORT) as server, server.connection() as connection:
        await connection.send(half)
        assert await connection.rest() == b""


@pytest.mark.parametrize("half", HALVES, ids=str)
async def test_a_used_connection_that_sends_half_a_head_is_closed(half: bytes) -> None:
    async with serving(SHORT) as server, server.connection() as connection:
        await connection.send(WHOLE)
        await connection.answer()
        await connection.send(half)
        assert await connection.rest() == b""


async def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    async with serving(SHORT) as server, server.connection() as connection:
        await connection.send(b"GET /")
        closed = asyncio.create_task(connection.rest())
        sent = 0
        while not closed.done():
            # Slow enough to be far from the limit on its size, which would be answered with 431.
            await asyncio.sleep(SHORT / 20)
            connection.writer.write(b"a")
            sent += 1
        with suppress(ConnectionResetError):  # where the server closed while a byte was on its way
            assert await closed == b""
    assert sent < LIMIT / 2


async def test_an_idle_connection_stays_open() -> None:
    async with serving(SHORT) as server, server.connection() as idle:
        await idle.send(WHOLE)
        await idle.answer()
        async with server.connection() as silent:
            assert await silent.rest() == b""
        await idle.send(WHOLE)
        assert await idle.answer() == "0 bytes, x"


@pytest.mark.parametrize("pieces", [[WHOLE[:9], WHOLE[9:]], [WHOLE + WHOLE[:9], WHOLE[9:]]], ids=str)
async def test_a_head_in_pieces_that_came_in_time_leaves_the_connection_open(pieces: list[bytes]) -> None:
    async with serving(SHORT) as server, server.connection() as slow:
        for piece in pieces:
            await slow.send(piece)
        for _ in range(b"".join(pieces).count(WHOLE)):
            await slow.answer()
        async with server.connection() as silent:
            assert await silent.rest() == b""
        await slow.send(WHOLE)
        assert await slow.answer() == "0 bytes, x"


async def test_half_a_head_takes_no_answer_from_the_request_before() -> None:
    async with serving(SHORT) as server, server.connection() as connection:
        await connection.send(b"GET /slow HTTP/1.1\r\n\r\nGET / HT")
        await asyncio.wait_for(server.entered.wait(), WATCHDOG)
        async with server.connection() as silent:
            assert await silent.rest() == b""
        server.released.set()
        answer = await connection.rest()
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer
