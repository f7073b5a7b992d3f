"""Asking other systems, against a server that does what servers must not do."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
import structlog
import uvloop
from prometheus_client import generate_latest

from sidecar import __version__
from sidecar.asking import LONGEST_RETRY_AFTER, WAITING_PER_CONNECTION, Asker, Reply, ReplyHeaders
from sidecar.breaker import Breaker
from sidecar.errors import (
    InvalidValue,
    SidecarError,
    UpstreamNotAsked,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from sidecar.model import HeaderLines
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock
from tests.hostile import (
    HUGE,
    MEGABYTE,
    SECRET,
    WATCHDOG,
    Certificate,
    Exchange,
    Hostile,
    bomb,
    half_open_port,
    hostile,
    make_certificate,
    refused_port,
    unreachable_port,
)

TIMEOUT = 0.3
PATIENT = float(WATCHDOG)
LARGEST = 64 * 1024
FAULTS = 3
OPEN_FOR = 5.0
FLAT = 8 * MEGABYTE


@dataclass
class Scene:
    """One who asks, and a server to be asked."""

    server: Hostile
    asker: Asker
    breaker: Breaker
    metrics: Metrics
    clock: ManualClock
    tasks: list[asyncio.Task[Reply]] = field(default_factory=list)

    async def get(self, target: str = "/", *lines: tuple[bytes, bytes]) -> Reply:
        return await self.asker.ask("GET", self.server.url(target), headers=lines)

    def begin(self, target: str) -> asyncio.Task[Reply]:
        """A call that a test will come back to."""
        task = asyncio.create_task(self.get(target))
        self.tasks.append(task)
        return task

    async def fail(self, times: int = FAULTS) -> None:
        for _ in range(times):
            with pytest.raises(UpstreamUnavailable):
                await self.get("/status?503")

    def results(self) -> dict[str, int]:
        """What the metrics say of the calls."""
        found = re.findall(
            r'^sidecar_upstream_requests_total\{result="(\w+)",upstream="idp"\} (\d+)',
            self.text(),
            re.MULTILINE,
        )
        return {result: int(count) for result, count in found}

    def measured(self) -> int:
        found = re.search(r'duration_seconds_count\{upstream="idp"\} (\d+)', self.text())
        return int(found[1]) if found else 0

    def text(self) -> str:
        return generate_latest(self.metrics.registry).decode()


@asynccontextmanager
async def scene(
    *,
    timeout: float = PATIENT,  # noqa: ASYNC109 - the asker's own
    largest: int = LARGEST,
    connections: int = 4,
    faults: int = FAULTS,
    tls: Certificate | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[Scene]:
    """A server, and an asker that is closed at the end."""
    clock, metrics = ManualClock(), Metrics()
    breaker = Breaker("idp", faults=faults, open_for=OPEN_FOR, clock=clock)
    asker = Asker(
        name="idp",
        timeout=timeout,
        breaker=breaker,
        metrics=metrics,
        clock=clock,
        largest=largest,
        connections=connections,
        ca_file=ca_file,
    )
    async with hostile(tls) as server:
        made = Scene(server, asker, breaker, metrics, clock)
        try:
            yield made
        finally:
            for task in made.tasks:
                task.cancel()
            await asyncio.gather(*made.tasks, return_exceptions=True)
            await asker.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True, scope="module")
def _made() -> None:
    """Not while somebody waits for it."""
    bomb()


Run = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs it on either of the loops. What nobody awaits or closes is an error."""

    def run(scene: Coroutine[None, None, None]) -> None:
        unseen: list[object] = []
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: unseen.append(context))
            runner.run(scene)
        assert not unseen

    return run


# --- outages -------------------------------------------------------------------------------------


def statuses(*numbers: int) -> list[tuple[str, str, str]]:
    return [(f"status {number}", f"/status?{number}", f"status {number}") for number in numbers]


OUTAGES = [
    ("silence", "/silent", "no answer in time"),
    ("a head that drips", "/drip-head", "no answer in time"),
    ("a body that drips", "/drip-body", "no answer in time"),
    ("a head without end", "/endless-head", "broken HTTP"),
    ("answers of 100 without end", "/endless-continue", "no answer in time"),
    ("an upgrade that nobody asked for", "/switch", "broken HTTP"),
    *statuses(300, 301, 302, 303, 304, 307, 308, 500, 501, 502, 503, 504, 599, 600, 999),
    ("status 500 with a body that drips", "/status-and-drip?500", "status 500"),
    ("garbage", "/garbage", "broken HTTP"),
    ("a broken header", "/garbage-header", "broken HTTP"),
    ("no answer, closed", "/nothing", "ended early"),
    ("closed after the first byte", "/first-byte", "ended early"),
    ("the connection reset", "/reset", "connection broke"),
    ("a body shorter than announced", "/short", "ended early"),
    ("a chunk shorter than announced", "/short-chunk", "ended early"),
    ("a body longer than announced", "/long", "goes on after its end"),
    ("two lengths", "/two-lengths", "broken HTTP"),
    ("a body of 100 MB", "/huge", f"more than {LARGEST} bytes"),
    ("a body without end", "/endless-body", f"more than {LARGEST} bytes"),
    ("a gzip bomb", "/bomb", f"more than {LARGEST} bytes"),
    ("gzip that becomes nothing, without end", "/endless-gzip", f"more than {LARGEST} bytes"),
    ("gzip that is none", "/no-gzip", "cannot be decoded"),
    ("half a gzip", "/half-gzip", "cannot be decoded"),
    ("gzip and something behind it", "/gzip-and-more", "cannot be decoded"),
    ("gzip of gzip", "/twice-gzip", "cannot be decoded"),
    ("an encoding that nobody asked for", "/brotli", "cannot be decoded"),
]

over_all_outages = pytest.mark.parametrize(
    ("target", "words"), [pytest.param(target, words, id=name) for name, target, words in OUTAGES]
)


@over_all_outages
def test_an_outage_in_time(run: Run, target: str, words: str) -> None:
    async def play() -> None:
        async with scene(timeout=TIMEOUT, connections=1) as on:
            for _ in range(2):  # also on the connection, and in the place, that the first has left
                async with asyncio.timeout(10 * TIMEOUT):
                    with pytest.raises(UpstreamUnavailable, match=f"^idp: .*{words}"):
                        await on.get(target)
            assert on.results() == {"timeout" if "in time" in words else "error": 2}
            assert json.loads((await on.get()).body) == {"count": 3}
            await on.server.until(lambda: on.server.open == 1)  # the sound one

    run(play())


@pytest.mark.parametrize(
    ("port", "words"),
    [
        pytest.param(refused_port, "no connection", id="nobody listens"),
        pytest.param(half_open_port, "no answer in time", id="half open"),
        pytest.param(unreachable_port, "no answer in time", id="unreachable"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_without_a_server(
    run: Run, port: Callable[[], AbstractContextManager[int]], words: str, scheme: str
) -> None:
    async def play() -> None:
        async with scene(timeout=TIMEOUT) as on:
            with port() as number:
                async with asyncio.timeout(10 * TIMEOUT):
                    with pytest.raises(UpstreamUnavailable, match=words):
                        await on.asker.ask("GET", f"{scheme}://127.0.0.1:{number}/")

    run(play())


async def test_a_name_that_is_nobodys() -> None:
    async with scene() as on:
        with pytest.raises(UpstreamUnavailable, match="no connection"):
            await on.asker.ask("GET", "http://nobody.invalid/")


@pytest.mark.parametrize("target", ["/", "/status?204", "/status?201", "/gzip", "/continue"])
def test_an_answer(run: Run, target: str) -> None:
    async def play() -> None:
        async with scene() as on:
            assert (await on.get(target)).status // 100 == 2
            assert on.results() == {"ok": 1}

    run(play())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422, 499])
async def test_what_a_4xx_means_is_the_callers_affair(status: int) -> None:
    async with scene(faults=1) as on:
        reply = await on.get(f"/status?{status}")
        assert (reply.status, reply.body) == (status, SECRET.encode())
        assert not on.breaker.is_open


async def test_a_body_as_long_as_it_may_be() -> None:
    async def sized(exchange: Exchange) -> None:
        await exchange.answer(b"x" * int(exchange.query))

    async with scene() as on:
        on.server.parts["/sized"] = sized
        assert len((await on.get(f"/sized?{LARGEST}")).body) == LARGEST
        with pytest.raises(UpstreamUnavailable, match=f"more than {LARGEST} bytes"):
            await on.get(f"/sized?{LARGEST + 1}")


async def test_gzip_is_decoded_although_nobody_asked_for_it() -> None:
    async with scene() as on:
        assert (await on.get("/gzip")).body == b'{"from": "gzip"}'
        assert on.server.received[0].all("accept-encoding") == ["identity"]


@pytest.mark.parametrize("target", ["/bomb", "/huge", "/endless-body", "/endless-gzip", "/endless-head"])
async def test_memory_stays_flat_and_reading_stops(target: str) -> None:
    async with scene(largest=MEGABYTE) as on:
        await on.get()
        with suppress(UpstreamUnavailable):
            await on.get(target)  # what is made once has been made
        on.server.sent = 0
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamUnavailable):
                await on.get(target)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < FLAT
        await on.server.until(lambda: not on.server.open)
        assert on.server.sent < HUGE / 4


# --- 429 -----------------------------------------------------------------------------------------


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(ManualClock().now() + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("120", 120.0, id="seconds"),
        pytest.param(in_seconds(90), 90.0, id="a date"),
        pytest.param("", 1.0, id="not said"),
        pytest.param("0", 1.0, id="no seconds"),
        pytest.param("86400", LONGEST_RETRY_AFTER, id="a day"),
        pytest.param("999999999999", LONGEST_RETRY_AFTER, id="many years"),
        pytest.param("9" * 5000, 1.0, id="a number that nobody means"),
        pytest.param(in_seconds(-90), 1.0, id="a date that is over"),
        pytest.param(in_seconds(86400), LONGEST_RETRY_AFTER, id="a date tomorrow"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER, id="the last date"),
        pytest.param("Mon, 01 Jan 0001 00:00:00 +2359", 1.0, id="a date before all dates"),
        pytest.param("-5", 1.0, id="less than nothing"),
        pytest.param("1.5", 1.0, id="a fraction"),
        pytest.param("soon", 1.0, id="a word"),
        pytest.param("٣", 1.0, id="other digits"),
    ],
)
async def test_throttled(value: str, seconds: float) -> None:
    async def throttled(exchange: Exchange) -> None:
        line = b"Retry-After: " + value.encode() + b"\r\n" if value else b""
        await exchange.send(b"HTTP/1.1 429 -\r\nContent-Length: 0\r\n" + line + b"\r\n")

    async with scene(faults=1) as on:
        on.server.parts["/throttled"] = throttled
        with pytest.raises(UpstreamThrottled) as caught:
            await on.get("/throttled")
        assert caught.value.retry_after == seconds
        assert on.results() == {"throttled": 1}
        assert not on.breaker.is_open


async def test_throttled_does_not_wait_for_the_body() -> None:
    async with scene() as on:
        with pytest.raises(UpstreamThrottled):
            await on.get("/status-and-drip?429")


# --- what is sent --------------------------------------------------------------------------------


async def test_the_request_as_it_arrives() -> None:
    async with scene() as on:
        lines = [(b"X-A", b"1"), (b"cookie", b"a=\xff; b"), (b"X-A", b"2"), (b"content-type", b"text/plain")]
        await on.asker.ask("POST", on.server.url("/?q=%20a"), headers=lines, content=b"some")
        (received,) = on.server.received
        assert (received.method, received.target, received.body) == ("POST", "/?q=%20a", b"some")
        assert received.all("host") == [f"127.0.0.1:{on.server.port}"]
        assert received.all("content-length") == ["4"]
        assert received.all("x-a") == ["1", "2"]
        assert received.all("cookie") == ["a=\xff; b"]
        names = {name.lower() for name, _ in received.lines}
        assert names == {
            "host", "content-length", "content-type", "x-a", "cookie", "accept-encoding", "user-agent"
        }  # fmt: skip


async def test_it_says_who_it_is_unless_the_caller_does() -> None:
    async with scene() as on:
        await on.get()
        await on.get("/", (b"User-Agent", b"a browser"))
        assert [received.all("user-agent") for received in on.server.received] == [
            [f"sidecar/{__version__}"],
            ["a browser"],
        ]


@pytest.mark.parametrize(
    "line",
    [
        (b"Content-Length", b"100"),
        (b"transfer-encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"accept-encoding", b"br"),
        (b"Expect", b"100-continue"),
        (b"Upgrade", b"websocket"),
        (b"TE", b"trailers"),
    ],
)
async def test_a_clients_header_that_is_passed_on_does_not_frame_or_encode(line: tuple[bytes, bytes]) -> None:
    async with scene() as on:
        for _ in range(2):
            await on.get("/", line)
        for received in on.server.received:
            assert line[1].decode() not in received.all(line[0].decode())
        assert on.server.accepted == 1


@pytest.mark.parametrize(
    "line", [(b"X-A", b"1\r\nX-B: 2"), (b"X-A", b"1\0"), (b"X A", b"1"), (b"X-A:", b"1"), (b"", b"1")]
)
async def test_a_header_that_cannot_be_sent_is_no_fault_of_the_other_system(
    line: tuple[bytes, bytes],
) -> None:
    async with scene(faults=1) as on:
        with pytest.raises(InvalidValue):
            await on.get("/", line)
        assert not on.server.received
        assert not on.breaker.is_open
        assert (await on.get()).status == 200


@pytest.mark.parametrize(
    "url", ["ftp://a/", "/path", "http://", "http://a:b:c/", "http://[::/", "http://a\0/"]
)
async def test_a_url_that_cannot_be_asked_is_no_fault_of_the_other_system(url: str) -> None:
    async with scene(faults=1) as on:
        with pytest.raises(InvalidValue) as caught:
            await on.asker.ask("GET", url)
        assert url not in str(caught.value)
        assert not on.breaker.is_open


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_proxies_of_the_environment_are_ignored(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hostile() as proxy:
        monkeypatch.setenv(variable, proxy.url())
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with scene() as on:
            await on.get()
            assert on.server.received
        assert not proxy.accepted


async def test_a_netrc_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with scene() as on:
        await on.get()
        assert on.server.received[0].all("authorization") == []


async def test_cookies_do_not_stick() -> None:
    async with scene() as on:
        reply = await on.get("/cookie")
        assert reply.headers.all("Set-Cookie") == [f"a={SECRET}; Path=/", "b=2, 3"]
        await on.get("/")
        await on.get("/", (b"cookie", b"mine=1"))
        assert on.server.received[1].all("cookie") == []
        assert on.server.received[2].all("cookie") == ["mine=1"]


def test_headers_of_a_reply() -> None:
    headers = ReplyHeaders([(b"Content-Type", b"a/b"), (b"X", b"1"), (b"x", b"\xe9")])
    assert headers["content-TYPE"] == "a/b"
    assert headers.get("x") == "1, é"
    assert headers.all("X") == ["1", "é"]
    assert headers.get("missing") is None
    assert headers.all("missing") == []
    assert "missing" not in headers
    assert "CONTENT-type" in headers
    assert dict(headers) == {"content-type": "a/b", "x": "1, é"}
    assert len(headers) == 2
    assert "a/b" not in repr(headers)


# --- connections ---------------------------------------------------------------------------------


def test_a_connection_is_used_again(run: Run) -> None:
    async def play() -> None:
        async with scene() as on:
            for target in ("/", "/cookie", "/status?404", "/gzip", "/"):
                await on.get(target)
            assert {received.connection for received in on.server.received} == {1}

    run(play())


@pytest.mark.parametrize("target", ["/long", "/long-later"])
@pytest.mark.parametrize("over", ["TCP", "TLS"])
def test_an_answer_to_nobodys_question_is_nobodys_answer(
    run: Run, target: str, over: str, certificate: Certificate
) -> None:
    async def play() -> None:
        tls = certificate if over == "TLS" else None
        async with scene(tls=tls, ca_file=certificate.certificate, connections=1) as on:
            for _ in range(3):
                with suppress(UpstreamUnavailable):
                    assert (await on.get(target)).body == b"{}"
                assert json.loads((await on.get()).body) == {"count": len(on.server.received)}

    run(play())


@pytest.mark.parametrize("over", ["TCP", "TLS"])
def test_nor_is_one_that_comes_while_nobody_asks(run: Run, over: str, certificate: Certificate) -> None:
    async def play() -> None:
        tls = certificate if over == "TLS" else None
        async with scene(tls=tls, ca_file=certificate.certificate) as on:
            assert (await on.get("/long-much-later")).body == b"{}"
            answered = on.server.sent
            on.server.release.set()
            await on.server.until(lambda: on.server.sent > answered)
            assert json.loads((await on.get()).body) == {"count": 2}
            assert on.server.accepted == 2

    run(play())


@pytest.mark.parametrize("over", ["TCP", "TLS"])
def test_a_connection_that_was_closed_while_nobody_asked_is_not_used(
    run: Run, over: str, certificate: Certificate
) -> None:
    async def play() -> None:
        tls = certificate if over == "TLS" else None
        async with scene(tls=tls, ca_file=certificate.certificate, faults=1) as on:
            for number in range(1, 4):
                assert json.loads((await on.get("/then-close")).body) == {"count": number}
                await on.server.until(lambda: not on.server.open)

    run(play())


def test_connections_are_bounded_and_so_are_those_who_wait(run: Run) -> None:
    async def play() -> None:
        async with scene(connections=2) as on:
            most = 2 + 2 * WAITING_PER_CONNECTION
            for _ in range(most):
                on.begin("/held")
            await on.server.until(lambda: len(on.server.received) == 2)
            with pytest.raises(UpstreamNotAsked, match="too many are waiting"):
                await on.get()
            assert on.results() == {"rejected": 1}
            assert on.measured() == 0
            assert on.server.accepted == 2
            on.server.release.set()
            assert {reply.status for reply in await asyncio.gather(*on.tasks)} == {200}
            assert on.server.accepted == 2
            assert on.results() == {"rejected": 1, "ok": most}
            assert on.measured() == most

    run(play())


def test_waiting_for_a_connection_counts_towards_the_timeout(run: Run) -> None:
    async def play() -> None:
        async with scene(timeout=TIMEOUT, connections=1, faults=10) as on:
            calls = [on.begin("/silent") for _ in range(4)]
            async with asyncio.timeout(10 * TIMEOUT):
                ended = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ended} == {UpstreamTimeout}
            assert on.results() == {"timeout": 4}
            assert (await on.get()).status == 200

    run(play())


async def test_who_has_waited_in_vain_says_nothing_about_the_other_system() -> None:
    async with scene(timeout=TIMEOUT, connections=1, faults=1) as on:
        async with on.asker._turns:
            async with asyncio.timeout(10 * TIMEOUT):
                with pytest.raises(UpstreamTimeout, match="no connection was free"):
                    await on.get()
        assert on.results() == {"timeout": 1}
        assert not on.breaker.is_open
        assert (await on.get()).status == 200


async def test_while_it_is_open_nobody_waits() -> None:
    async with scene(connections=1) as on:
        await on.fail()
        async with on.asker._turns, asyncio.timeout(10 * TIMEOUT):
            with pytest.raises(UpstreamNotAsked):
                await on.get()


async def test_who_waits_is_refused_when_it_opens() -> None:
    async def held_fault(exchange: Exchange) -> None:
        await exchange.server.release.wait()
        await exchange.answer(b"", status="503 -")

    async with scene(connections=1, faults=1) as on:
        on.server.parts["/held-fault"] = held_fault
        for _ in range(4):
            on.begin("/held-fault")
        await on.server.until(lambda: len(on.server.received) == 1)
        on.server.release.set()
        first, *others = await asyncio.gather(*on.tasks, return_exceptions=True)
        assert not isinstance(first, UpstreamNotAsked)
        assert {type(other) for other in others} == {UpstreamNotAsked}
        assert len(on.server.received) == 1


async def test_after_its_end_it_asks_no_more() -> None:
    async with scene(connections=2) as on:
        await asyncio.gather(on.get(), on.get())
        call = on.begin("/held")
        await on.server.until(lambda: len(on.server.received) == 3)
        await on.asker.close()
        await on.server.until(lambda: on.server.open == 1)
        with pytest.raises(UpstreamNotAsked, match="ends"):
            await on.get()
        on.server.release.set()
        assert (await call).status == 200
        await on.server.until(lambda: not on.server.open)


# --- callers who go away -------------------------------------------------------------------------


def test_when_a_caller_goes_away_the_request_is_closed(run: Run) -> None:
    async def play() -> None:
        async with scene(connections=1, faults=1) as on:
            for target in ("/held", "/drip-body"):
                call = on.begin(target)
                await on.server.until(lambda: on.server.open == 1)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await on.server.until(lambda: not on.server.open)
            assert not on.breaker.is_open
            assert on.results() == {}
            assert (await on.get()).status == 200

    run(play())


@pytest.mark.parametrize("goes_away", [False, True], ids=["in vain", "until the caller goes away"])
def test_a_connection_whose_tls_is_waited_for_is_closed(run: Run, goes_away: bool) -> None:
    async def play() -> None:
        async with scene(timeout=PATIENT if goes_away else TIMEOUT) as on:
            url = on.server.url().replace("http", "https")  # it waits for a request that it understands
            call = asyncio.create_task(on.asker.ask("GET", url))
            await on.server.until(lambda: on.server.open == 1)
            if goes_away:
                call.cancel()
            with pytest.raises((asyncio.CancelledError, UpstreamTimeout)):
                await call
            await on.server.until(lambda: not on.server.open)

    run(play())


@pytest.mark.parametrize("over", ["TCP", "TLS"])
def test_whenever_a_caller_goes_away_nothing_leaks(run: Run, over: str, certificate: Certificate) -> None:
    """At every step of a call, and once more while it clears up."""

    async def play() -> None:
        tls = certificate if over == "TLS" else None
        async with scene(tls=tls, ca_file=certificate.certificate, connections=2, faults=1) as on:
            for steps in range(60):
                calls = [on.begin("/cookie" if steps % 2 else "/") for _ in range(4)]
                await _steps(steps)
                for call in calls:
                    call.cancel()
                await _steps(steps % 3)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            on.tasks.clear()
            answered = [on.begin("/held") for _ in range(2)]
            await on.server.until(lambda: [each.target for each in on.server.received[-2:]] == ["/held"] * 2)
            await on.server.until(lambda: on.server.open == 2)
            on.server.release.set()
            assert [reply.status for reply in await asyncio.gather(*answered)] == [200, 200]
            assert not on.breaker.is_open
            assert set(on.results()) <= {"ok"}

    run(play())


async def _steps(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# --- the breaker ---------------------------------------------------------------------------------


def read_nothing(reply: Reply) -> str:
    raise UpstreamUnavailable("idp: its answer says nothing")


@pytest.mark.parametrize(
    ("target", "read"),
    [
        pytest.param("/status?503", len, id="status"),
        pytest.param("/silent", len, id="timeout"),
        pytest.param("/", read_nothing, id="an answer that is none"),
    ],
)
async def test_faults_open_it_and_an_answer_closes_it(target: str, read: Callable[[Reply], object]) -> None:
    async with scene(timeout=TIMEOUT) as on:
        for _ in range(FAULTS):
            assert 'sidecar_upstream_open{upstream="idp"} 0.0' in on.text()
            with pytest.raises(UpstreamUnavailable):
                await on.asker.ask_for(read, "GET", on.server.url(target))
        assert 'sidecar_upstream_open{upstream="idp"} 1.0' in on.text()
        asked = len(on.server.received)
        for _ in range(5):
            with pytest.raises(UpstreamNotAsked, match="failed a moment ago"):
                await on.get()
        assert len(on.server.received) == asked
        assert on.results()["rejected"] == 5
        assert on.measured() == FAULTS
        on.clock.advance(OPEN_FOR)
        assert (await on.get()).status == 200
        assert 'sidecar_upstream_open{upstream="idp"} 0.0' in on.text()


async def test_one_request_tries() -> None:
    async with scene() as on:
        await on.fail()
        on.clock.advance(OPEN_FOR)
        attempt = on.begin("/held")
        await on.server.until(lambda: len(on.server.received) == FAULTS + 1)
        with pytest.raises(UpstreamNotAsked):
            await on.get()
        on.server.release.set()
        await attempt
        assert (await on.get()).status == 200


async def test_one_that_goes_away_while_it_tries_leaves_the_place() -> None:
    async with scene() as on:
        await on.fail()
        on.clock.advance(OPEN_FOR)
        attempt = on.begin("/held")
        await on.server.until(lambda: len(on.server.received) == FAULTS + 1)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert on.breaker.is_open
        assert (await on.get()).status == 200
        assert not on.breaker.is_open


async def test_while_it_is_open_a_call_costs_next_to_nothing() -> None:
    async with scene() as on:
        await on.fail()
        began = time.perf_counter()
        for _ in range(1000):
            with suppress(UpstreamNotAsked):
                await on.get()
        assert time.perf_counter() - began < 0.5


async def test_what_is_made_of_an_answer() -> None:
    async with scene() as on:
        read = await on.asker.ask_for(lambda reply: json.loads(reply.body), "GET", on.server.url())
        assert read == {"count": 1}


# --- TLS -----------------------------------------------------------------------------------------


def test_tls(run: Run, certificate: Certificate) -> None:
    async def play() -> None:
        async with scene(tls=certificate, ca_file=certificate.certificate) as on:
            for number in (1, 2):
                assert json.loads((await on.get()).body) == {"count": number}
            assert on.server.accepted == 1

    run(play())


def test_a_certificate_that_the_system_does_not_know(run: Run, certificate: Certificate) -> None:
    async def play() -> None:
        async with scene(tls=certificate) as on:
            with pytest.raises(UpstreamUnavailable, match=r"certificate is not trusted: self.signed"):
                await on.get()
            assert not on.server.received

    run(play())


async def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, host="127.0.0.2")
    async with scene(tls=other, ca_file=other.certificate) as on:
        with pytest.raises(UpstreamUnavailable, match="certificate is not trusted: IP address mismatch"):
            await on.get()
        assert not on.server.received


def test_a_server_that_does_not_speak_tls(run: Run) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Speak TLS elsewhere\r\n\r\n")
        writer.close()

    async def play() -> None:
        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server, scene() as on:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(UpstreamUnavailable, match="TLS failed"):
                await on.asker.ask("GET", f"https://127.0.0.1:{port}/")

    run(play())


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_file_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    breaker = Breaker("idp", faults=FAULTS, open_for=OPEN_FOR, clock=ManualClock())
    with pytest.raises(InvalidValue, match=r"ca\.pem"):
        Asker(name="idp", timeout=1, breaker=breaker, metrics=Metrics(), clock=ManualClock(), ca_file=path)


# --- what is said of it --------------------------------------------------------------------------


async def test_nothing_secret_is_said(log: io.StringIO) -> None:
    secret: HeaderLines = [(b"authorization", SECRET.encode()), (b"cookie", SECRET.encode())]
    unsendable: HeaderLines = [(b"authorization", SECRET.encode() + b"\0")]
    said = []
    async with scene(timeout=TIMEOUT) as on:
        targets = [target for _, target, _ in OUTAGES] + ["/throttled?5", "/", "/cookie", "/status?403"]
        for target in targets:
            url = on.server.url(target) + ("" if "?" in target else f"?{SECRET}")
            for lines in (secret, unsendable):
                try:
                    reply = await on.asker.ask("POST", url, headers=lines, content=SECRET.encode())
                    said += [repr(reply), str(reply), repr(reply.headers)]
                except SidecarError as error:
                    said += [str(error), repr(error), *traceback.format_exception(error)]
                    structlog.get_logger().warning("failed", exc_info=error)
            on.clock.advance(OPEN_FOR)
        said += [repr(on.asker), repr(on.breaker), on.text()]
        assert any(SECRET in received.body.decode() for received in on.server.received)
    assert "upstream_unavailable" in log.getvalue()
    for text in (*said, log.getvalue()):
        assert SECRET not in text


def test_the_library_is_imported_by_those_who_ask() -> None:
    program = "import sys, sidecar.asking; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
