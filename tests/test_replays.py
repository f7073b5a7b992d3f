"""What is remembered of answers is bounded, and nobody's crowds out anybody else's."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count
from math import inf
from typing import Any

import pytest

from sidecar.errors import StoreUnavailable
from sidecar.gateways import GATEWAYS
from sidecar.model import Credential, Form, Grounds, Host, OriginalRequest, RequestPath
from sidecar.pipeline import READS
from sidecar.records import Changes
from sidecar.replays import Answer, Head, Replays, memory
from sidecar.revocation import LONGEST_BLINDNESS, LOOK_EVERY, Revocations
from sidecar.telemetry import Metrics, Tally
from tests.clocks import ManualClock

KIB = 1024
MOST = 64 * KIB


class Feed:
    """A store in which nothing changes."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_readable = True

    async def since(self, position: int) -> Changes:
        self.asked += 1
        if not self.is_readable:
            raise StoreUnavailable("it does not answer")
        return Changes(position)


class World:
    """Replays, fed as the server feeds them."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.clock = ManualClock()
        self.feed = Feed()
        self.revocations = Revocations(self.feed, self.clock)
        reads = {gateway: gateway.reads | READS for gateway in GATEWAYS.values()}
        self.replays = Replays(reads, self.revocations, self.clock, self.metrics, 64 * KIB, MOST)

    def learn(
        self, who: str, *, url: str = "/", client: str = "10.0.0.1", referer: str = "/", until: float = inf
    ) -> None:
        head, data = request(who, url, client, referer)
        read = self.replays.read(head)
        assert read is not None
        credential = Credential(Form.COOKIE, who.encode()) if who else None
        original = OriginalRequest("GET", "https", Host("a", 443), RequestPath(url), ip_address(client), "")
        grounds = Grounds(original, "", "rule", 0, until, None, credential)
        self.replays.learn(read, grounds, Answer(who.encode(), grounds, Tally(), closes=False), data)

    def known(
        self, who: str, *, url: str = "/", client: str = "10.0.0.1", referer: str = "/"
    ) -> bytes | None:
        """The answer that would be given to these bytes."""
        _, data = request(who, url, client, referer)
        _, answer = self.replays.look("127.0.0.1", data)
        return None if answer is None else answer.data

    def goes_on(self, who: str, url: str = "/") -> bool:
        """Whether the pipeline has to decide after all, when the parser has read the head too."""
        read = self.replays.read(request(who, url, "10.0.0.1", "/")[0])
        assert read is not None
        return self.replays.find(read) is None

    def size(self) -> int:
        """Bytes of all heads."""
        return self.replays._known.size + self.replays._anonymous.size

    def count(self, name: str, cache: str = "replay") -> float:
        value = self.metrics.registry.get_sample_value(f"sidecar_cache_{name}", {"cache": cache})
        return value or 0.0


def request(who: str, url: str, client: str, referer: str) -> tuple[Head, bytes]:
    """A head as it is read, and as it is written."""
    lines = [
        ("Host", "sidecar"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "a"),
        ("X-Forwarded-Uri", url),
        ("X-Forwarded-For", client),
        ("Referer", referer),
        *([("Cookie", who)] if who else []),
    ]
    read = [(name.lower().encode(), value.encode()) for name, value in lines]
    written = "".join(f"{name}: {value}\r\n" for name, value in lines)
    data = f"GET /check/traefik HTTP/1.1\r\n{written}\r\n".encode()
    return Head("127.0.0.1", b"GET", b"/check/traefik", read, keeps_alive=True), data


@pytest.fixture
async def world() -> World:
    made = World()
    await made.revocations.look()
    return made


def clients() -> Iterator[str]:
    yield from (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in count(1))


async def test_what_was_learned_is_known(world: World) -> None:
    world.learn("ann")
    assert (world.known("ann"), world.known("bob"), world.known("")) == (b"ann", None, None)


@pytest.mark.parametrize("many", ["client", "referer"])
async def test_one_who_comes_in_a_thousand_ways_crowds_out_nobody(world: World, many: str) -> None:
    world.learn("bob")
    for number, client in zip(range(1000), clients(), strict=False):
        different: dict[str, Any] = {"client": client} if many == "client" else {"referer": f"/{number}"}
        world.learn("ann", **different)
    assert (world.known("bob"), world.known("ann", **different)) == (b"bob", b"ann")
    assert world.count("entries") <= memory.MOST_READINGS + 1
    assert world.size() < 200 * KIB


async def test_a_flood_of_people_leaves_those_who_are_there(world: World) -> None:
    world.learn("bob")
    for number in range(1000):
        world.learn(f"ann-{number}")
        assert world.known("bob") == b"bob"
    assert world.count("evictions_total") > 500
    assert world.size() <= MOST


async def test_a_flood_of_those_without_a_credential_leaves_the_others(world: World) -> None:
    world.learn("bob")
    for _, client in zip(range(1000), clients(), strict=False):
        world.learn("", client=client)
    assert world.known("bob") == b"bob"
    assert world.known("", client=client) == b""
    assert world.size() <= MOST * (1 + memory.ANONYMOUS)


async def test_a_flood_of_urls_leaves_those_that_are_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.replays._urls, "_most", 16 * KIB)
    world.learn("bob", url="/page")
    for number in range(1000):
        world.learn("ann", url=f"/{number}")
        assert world.known("bob", url="/page") == b"bob"
    assert world.count("entries", "replay_url") < 100


async def test_a_head_that_is_too_long_is_read_each_time(world: World) -> None:
    world.learn("ann", referer="/" + "x" * memory.LONGEST_HEAD)
    assert world.known("ann", referer="/" + "x" * memory.LONGEST_HEAD) is None
    head, _ = request("ann", "/", "10.0.0.1", "/")
    read = world.replays.read(head)
    assert read is not None
    assert world.replays.find(read) is not None


async def test_what_is_closed_knows_nothing_and_learns_nothing(world: World) -> None:
    world.learn("ann")
    world.replays.close()
    world.learn("bob")
    assert (world.known("ann"), world.known("bob"), world.size()) == (None, None, 0)


# --- what was revoked meanwhile ------------------------------------------------------------------


async def test_when_a_look_is_due_one_goes_and_the_others_do_not_wait(world: World) -> None:
    for who in ("ann", "bob"):
        world.learn(who)
    world.clock.advance(LOOK_EVERY)
    assert world.known("ann") is None
    assert world.goes_on("ann")
    assert (world.known("ann"), world.known("bob")) == (b"ann", b"bob")
    await world.revocations.look()
    assert world.feed.asked == 2


async def test_before_a_look_is_due_nobody_goes(world: World) -> None:
    world.learn("ann")
    assert world.goes_on("bob")
    assert world.goes_on("ann", url="/other")
    world.clock.advance(LOOK_EVERY)
    assert world.known("ann") is None


async def test_who_goes_and_does_not_look_keeps_nobody_from_it(world: World) -> None:
    world.learn("ann")
    world.clock.advance(LOOK_EVERY)
    assert world.goes_on("ann")
    world.clock.advance(LOOK_EVERY)
    for _ in range(3):
        assert world.goes_on("ann")


async def test_what_ends_while_one_looks_is_not_given_again(world: World) -> None:
    world.learn("ann", until=world.clock.now() + LOOK_EVERY * 1.5)
    world.learn("bob")
    world.clock.advance(LOOK_EVERY)
    assert world.goes_on("bob")
    assert (world.known("ann"), world.known("bob")) == (None, b"bob")


async def test_who_has_no_credential_might_not_look_and_does_not_count_on_it(world: World) -> None:
    for who in ("", "ann"):
        world.learn(who)
    world.clock.advance(LOOK_EVERY)
    assert world.goes_on("")
    assert world.known("ann") is None


async def test_nobody_relies_on_what_was_known_a_second_ago(world: World) -> None:
    world.learn("ann")
    world.feed.is_readable = False
    for _ in range(3):
        world.clock.advance(LOOK_EVERY)
        assert world.goes_on("ann")
        assert world.known("ann") == b"ann"
        await world.revocations.look()
    world.clock.advance(LONGEST_BLINDNESS - 3 * LOOK_EVERY)
    for _ in range(3):
        assert world.goes_on("ann")
    with pytest.raises(StoreUnavailable):
        await world.revocations.look()


async def test_after_a_change_of_its_own_all_wait_for_an_answer(world: World) -> None:
    world.learn("ann")
    world.revocations.forget()
    assert world.goes_on("ann")
    world.feed.is_readable = False
    with pytest.raises(StoreUnavailable):
        await world.revocations.look()
    assert world.goes_on("ann")
    world.feed.is_readable = True
    await world.revocations.look()
    assert world.known("ann") == b"ann"
