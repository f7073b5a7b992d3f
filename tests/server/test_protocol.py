"""The head limit, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn

from sidecar.server.listeners import listening
from sidecar.server.protocol import head_limited
from sidecar.web.entrance import Receive, Scope, Send, respond

LIMIT = 4096
Exchange = Callable[[list[bytes]], Awaitable[bytes]]


async def application(_scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    await respond(send, 200, b"%d" % len(body))


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """Sends chunks, one after the other, and reads until the server closes or has nothing more."""
    config = uvicorn.Config(application, http=head_limited(LIMIT), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with listening("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has a flag, and no event
            await asyncio.sleep(0)

        async def send(chunks: list[bytes]) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
                writer.write_eof()
                return await asyncio.wait_for(reader.read(), 30)
            except ConnectionError:
                return b""
            finally:
                writer.close()

        yield send
        server.should_exit = True
        await serving


def head(size: int, *, close: bool = True) -> bytes:
    """A request whose target and header lines have `size` bytes together."""
    fixed = (b"Connection", b"close") if close else (b"Connection", b"keep-alive")
    rest = size - len(b"/") - sum(map(len, fixed)) - len(b"Xa")
    return b"GET / HTTP/1.1\r\n%b: %b\r\nX: %b\r\n\r\n" % (*fixed, b"a" * (rest + 1))


@pytest.mark.parametrize(
    ("chunks", "statuses"),
    [
        pytest.param([head(LIMIT)], [b"200"], id="the longest head that is allowed"),
        pytest.param([head(LIMIT + 1)], [b"431"], id="one byte more"),
        pytest.param([head(10 * LIMIT)], [b"431"], id="ten times as long, at once"),
        pytest.param([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 1000] * 10], [b"431"], id="a line without an end"),
        pytest.param([b"GET /", *[b"a" * 1000] * 10], [b"431"], id="a target without an end"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"X: a\r\n" * 100] * 20], [b"431"], id="lines without an end"),
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
    ],
)
async def test_i95_a_head_over_the_limit_is_refused(
    exchange: Exchange, chunks: list[bytes], statuses: list[bytes]
) -> None:
    answer = await exchange(chunks)
    found = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert found == statuses
