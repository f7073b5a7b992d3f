"""Heads that nobody wrote by hand: whatever comes, it is answered or closed, and nobody passes.

Some in the test run, the same every time; `make fuzz` looks for others for some minutes, and begins with what
it found the last time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from tests.conftest import Start
from tests.running import GATEWAYS, Line, Original, Running, question
from tests.wire import Served, connected

IS_LONG = fuzzing.get_current_profile_name() == "fuzz"
EXAMPLES = 100_000 if IS_LONG else 2_000

RULES = [
    {"paths": ["/admin/**"], "roles": ["admin"]},
    {"paths": ["/files/**"], "allow_encoded_slash": True},
    {"paths": ["/api/**"], "methods": ["POST"], "networks": ["10.0.0.0/8"]},
    {},
]
"""Every one demands a credential, and none is live: nothing may pass."""

TELLING: list[Line] = [
    (b"X-Forwarded-For", b"10.0.0.1"),
    (b"Cookie", b"__Host-sidecar=x"),
    (b"Authorization", b"Bearer eyJhbGciOiJub25lIn0.e30."),
    (b"Accept", b"text/html"),
]
PIECES = [
    b"",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"#",
    b"?",
    b"//",
    b"/../",
    b"%2e%2e/",
    b"%2f",
    b"%252e",
    b"%",
    b"\\",
    b"\xff",
    b"\xc3\xa9",
    b"@",
    b"https://",
    b"/check/nginx",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Forwarded-Uri: /\r\n",
    b"X-Original-URL: https://app.example.com/\r\n",
    b"CONNECT ",
    b"OPTIONS ",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"a" * 70_000,
    b"X: a\r\n" * 101,
]

pieces = st.sampled_from(PIECES) | st.binary(max_size=12)
changes = st.tuples(st.floats(0, 1), st.integers(0, 8), pieces)
"""Where in a head, from 0 at its first byte to 1 behind its last, how many bytes go, and what comes there."""


def changed(request: bytes, made: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, piece in made:
        place = round(where * len(request))
        request = request[:place] + piece + request[place + length :]
    return request


def near(*good: bytes) -> st.SearchStrategy[bytes]:
    """One of these, or one of them changed, or pieces."""
    return (
        st.sampled_from(good)
        | st.builds(changed, st.sampled_from(good), st.lists(changes, max_size=2))
        | st.lists(pieces, max_size=4).map(b"".join)
    )


URIS = near(b"/", b"/admin/x?y=z", b"/files/a%2Fb", b"/api//a/../b", b"/caf%C3%A9/%20")
HOSTS = near(b"app.example.com", b"a.b:8443", b"[2001:db8::1]:80", b"10.0.0.1")
originals: st.SearchStrategy[Original] = (
    st.builds(Original, uri=URIS)
    | st.builds(Original, host=HOSTS, uri=URIS)
    | st.builds(Original, method=near(b"GET", b"POST", b"OPTIONS"))
    | st.builds(Original, scheme=near(b"http", b"wss"))
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """What a gateway sends about a strange request, such a head changed in some places, or anything."""
    gateway = draw(st.sampled_from(GATEWAYS))
    told = draw(st.lists(st.sampled_from(TELLING), max_size=4))
    good = question(gateway, told, **draw(originals)).as_bytes()
    match draw(st.sampled_from(["the metadata", "the metadata", "the head", "bytes", "two heads"])):
        case "the metadata":
            return good
        case "the head":
            return changed(good, draw(st.lists(changes, min_size=1, max_size=4)))
        case "bytes":
            return draw(st.binary(max_size=300))
        case _:
            return changed(good, draw(st.lists(changes, max_size=2))) + good


async def all_that_comes_back(there: Served, request: bytes) -> bytes:
    """Sends this and no more, and reads until the server closes."""
    async with connected(there.listener) as connection:
        coming = asyncio.create_task(connection.rest())
        with suppress(ConnectionError):
            await connection.send(request)
            if connection.writer.can_write_eof():
                connection.writer.write_eof()
        return await coming


def statuses(answers: bytes) -> list[int]:
    """Of every answer: each begins where one before has ended, or at the very beginning."""
    return [int(each[:3]) for each in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture
async def sidecar(start: Start) -> AsyncIterator[Running]:
    async with start({"rules": RULES, "log": {"level": "warning"}}) as started:
        yield started


@given(request=heads())
@fuzzing(
    max_examples=EXAMPLES,
    derandomize=not IS_LONG,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_bytes_come_nobody_passes_and_nothing_breaks(
    sidecar: Running, caplog: pytest.LogCaptureFixture, request: bytes
) -> None:
    there = await sidecar.served()
    caplog.clear()
    answered = statuses(await all_that_comes_back(there, request))
    assert all(status == 100 or 300 <= status < 500 for status in answered), answered
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    after = await sidecar.ask("GET", "/.well-known/jwks.json")
    assert after.status == 200
    await there.has_done_everything()
