"""One connection with the express lane: it gives answers again, and steps aside for anything else."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sidecar.revocation import LOOK_EVERY
from sidecar.server.lane import Lane
from sidecar.server.ticking import TICKS
from tests.conftest import MEMORY, Start
from tests.running import GATEWAYS, Line, Question, Running, question
from tests.worlds import Seed, both, seed

RULES = {
    "rules": [{"paths": ["/open/**"], "access": "public"}, {"paths": ["/admin/**"], "roles": ["staff"]}, {}]
}


pytestmark = pytest.mark.usefixtures("log")  # a reload begins the log anew


@pytest.fixture(scope="module")
def start_from() -> Iterator[Seed]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield asyncio.run(seed(Path(directory)))


def outcomes(come: bytes) -> list[str]:
    """Of each answer whom it lets pass, else its status."""
    answers = re.findall(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(?:x-auth-user: ([^\r]*)\r)?", come)
    return [user.decode() if status == b"200" else status.decode() for status, user in answers]


# --- more than one request -----------------------------------------------------------------------

ANN, BOB, NOBODY = "ann's cookie", "bob's cookie", "nobody"
ADMIN = {"uri": b"/admin/x"}
LENGTH, CLOSE = (b"content-length", b"5"), (b"connection", b"close")
Asked = tuple[str, dict[str, bytes], list[Line]]


GARBAGE: Asked = ("", {}, [])


def asked(who: str, *more: Line, **original: bytes) -> Asked:
    return who, original, list(more)


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    ("requests", "cut", "answered"),
    [
        pytest.param([asked(ANN)] * 3, None, ["ann"] * 3, id="three at once"),
        pytest.param([asked(ANN), asked(BOB)], None, ["ann", "bob"], id="two people's at once"),
        pytest.param(
            [asked(ANN), asked(NOBODY), asked(ANN)],
            None,
            ["ann", "401", "ann"],
            id="a refused one in between",
        ),
        pytest.param(
            [asked(ANN, **ADMIN), asked(BOB, **ADMIN), asked(ANN, **ADMIN)],
            None,
            ["ann", "403", "ann"],
            id="one who may not in between",
        ),
        pytest.param([asked(ANN), asked(BOB)], 20, ["ann", "bob"], id="a head in two pieces"),
        pytest.param([asked(ANN), asked(BOB)], -20, ["ann", "bob"], id="a head, and another in two pieces"),
        pytest.param([asked(ANN), asked(BOB)], -2, ["ann", "bob"], id="the last line break by itself"),
        pytest.param([asked(ANN, LENGTH), asked(BOB)], None, ["ann"], id="a body that looks like a request"),
        pytest.param([asked(ANN), GARBAGE], None, ["ann"], id="one, and what is no request behind it"),
        pytest.param([asked(ANN, CLOSE), asked(BOB)], None, ["ann"], id="the last one, and one behind it"),
        pytest.param(
            [asked(NOBODY, uri=b"/open/x"), asked(BOB)], None, ["", "bob"], id="nobody's, and bob's"
        ),
    ],
)
async def test_what_comes_on_a_warm_connection_is_answered_as_on_any(
    start_from: Seed,
    tmp_path: Path,
    gateway: str,
    requests: list[Asked],
    cut: int | None,
    answered: list[str],
) -> None:
    def written(one: Asked) -> Question:
        who, original, more = one
        return question(gateway, [*start_from.credentials[who], *more], **original)

    async with both(start_from, tmp_path, RULES) as worlds:
        for good in (asked(ANN), asked(BOB), asked(ANN, **ADMIN), asked(NOBODY, uri=b"/open/x")) * 3:
            await worlds.exchange("127.0.0.1", [written(good).as_bytes()], ["GET"])
        before = worlds.express.given_again()
        assert before >= 8
        whole = b"".join(b"gar\r\n\r\n" if each is GARBAGE else written(each).as_bytes() for each in requests)
        pieces = [whole[:cut], whole[cut:]] if cut else [whole]
        express, plain = await worlds.exchange("127.0.0.1", pieces, ["GET"] * len(answered))
    assert express == plain
    assert outcomes(express) == answered


# --- how long it stays open ----------------------------------------------------------------------


def ticks_quickly(served: Any, monkeypatch: pytest.MonkeyPatch) -> type[Lane]:
    protocol: type[Lane] = served.server.config.http_protocol_class
    monkeypatch.setattr(protocol.ordinary.ticking, "seconds", 0.005)
    return protocol


async def warmed(sidecar: Running) -> bytes:
    """A check whose answer is known."""
    request = question("nginx", [await sidecar.session(await sidecar.add_user())]).as_bytes()
    async with sidecar.connection() as connection:
        for _ in range(3):
            await connection.send(request)
            assert (await connection.answer()).status == 200
    return request


async def test_a_connection_that_is_used_stays_open(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await warmed(sidecar)
    ticks_quickly(await sidecar.served(), monkeypatch)
    async with sidecar.connection() as used:
        await used.send(request)
        assert (await used.answer()).status == 200
        async with sidecar.connection() as silent:
            assert await silent.rest() == b""  # more than TICKS have passed
        await used.send(request)
        assert (await used.answer()).status == 200


async def test_one_that_is_idle_for_too_long_is_closed(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await warmed(sidecar)
    served = await sidecar.served()
    ticks_quickly(served, monkeypatch)
    monkeypatch.setattr(served.server.config, "timeout_keep_alive", 0.01)
    async with sidecar.connection() as idle:
        await idle.send(request)
        assert (await idle.answer()).status == 200
        assert await idle.rest() == b""


@pytest.mark.parametrize("answer", ["known", "decided"])
async def test_who_takes_no_answer_is_left(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    request = await warmed(sidecar)
    if answer == "decided":
        request = question("nginx").as_bytes()
    served = await sidecar.served()
    ticks_quickly(served, monkeypatch)
    with socket.create_connection(served.listener.getsockname()[:2]) as client:
        client.settimeout(0)
        sent = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, request * 100_000))
        await served.has_done_everything()
        with pytest.raises(ConnectionError):
            await sent


async def test_who_pauses_now_and_then_is_not_left(sidecar: Running) -> None:
    request = await warmed(sidecar)
    served = await sidecar.served()
    await served.has_done_everything()
    async with sidecar.connection() as connection:
        await connection.send(request)
        assert (await connection.answer()).status == 200
        lanes: set[Any] = served.server.server_state.connections
        (lane,) = lanes
        for _ in range(3):
            lane.pause_writing()
            for _ in range(TICKS):
                lane.tick()
            lane.resume_writing()
        lane.data_received(request[:20])
        lane.tick()
        lane.data_received(request[20:])
        assert (await connection.answer()).status == 200


# --- what may have been revoked ------------------------------------------------------------------


async def looked(sidecar: Running) -> float:
    """How often the store was asked what has changed."""
    found = re.search(r'operations_total\{.*"changes.since".*\} (.*)', await sidecar.metrics())
    assert found
    return float(found[1])


async def test_of_many_who_ask_when_a_look_is_due_one_looks(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    assert (await sidecar.check("nginx", [session])).status == 200
    sidecar.clock.advance(LOOK_EVERY)
    looks = await looked(sidecar)
    answers = await asyncio.gather(*(sidecar.check("nginx", [session]) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert await looked(sidecar) == looks + 1
    metrics = await sidecar.metrics()
    assert 'sidecar_cache_requests_total{cache="replay",result="miss"} 2.0' in metrics
    assert 'sidecar_cache_requests_total{cache="replay",result="hit"} 49.0' in metrics


# --- what is counted -----------------------------------------------------------------------------


async def test_an_answer_that_is_given_again_is_counted_as_any(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    for _ in range(5):
        assert (await sidecar.check("nginx", [session])).status == 200
    metrics = await sidecar.metrics()
    for line in (
        'gateway="nginx",outcome="allow",reason="authenticated"} 5.0',
        'sidecar_http_requests_total{code="200",method="GET",route="/check/nginx"} 5.0',
        'sidecar_decision_duration_seconds_count{gateway="nginx",outcome="allow"} 5.0',
        'sidecar_cache_requests_total{cache="replay",result="miss"} 1.0',
        'sidecar_cache_requests_total{cache="replay",result="hit"} 4.0',
        'sidecar_cache_entries{cache="replay"} 1.0',
        'sidecar_cache_entries{cache="replay_url"} 1.0',
    ):
        assert line in metrics


@pytest.mark.parametrize(
    "tables",
    [{"server": {"http": "plain"}}, {"log": {"level": "debug"}}],
    ids=["plain", "every check logged"],
)
async def test_where_every_check_is_to_be_decided_none_is_given_again(
    start: Start, tables: dict[str, Any]
) -> None:
    async with start(tables) as sidecar:
        session = await sidecar.session(await sidecar.add_user())
        for _ in range(3):
            assert (await sidecar.check("nginx", [session])).status == 200
        assert 'cache="replay",result="hit"' not in await sidecar.metrics()


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_name_that_is_new_each_time_and_a_line_that_no_check_reads_change_nothing(
    sidecar: Running, gateway: str
) -> None:
    session = await sidecar.session(await sidecar.add_user())
    for number in range(6):
        lines = [
            session,
            (b"x-request-id", b"%032x" % number),
            (b"referer", b"https://a.test/%d" % (number % 2)),
        ]
        answer = await sidecar.check(gateway, lines, uri=b"/page?n=%d" % number)
        assert (answer.status, answer.one("x-auth-user")) == (200, "alice")
    assert 'sidecar_cache_requests_total{cache="replay",result="hit"} 5.0' in await sidecar.metrics()
