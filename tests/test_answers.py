"""What is remembered of another system's answers: how long, how much, and who asks."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.answers import NOT_ASKED_FOR, Answer, Answers
from sidecar.caching import IdentityCache, Known
from sidecar.errors import Overloaded, SidecarError, UpstreamThrottled, UpstreamUnavailable
from sidecar.model import Credential, Form, Identity, Reason, Rejected, Verified
from sidecar.records import Account, Changes, User
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock

CACHE, NEGATIVE, STALE = 10.0, 2.0, 30.0
T0 = ManualClock().now()

REFUSED = Rejected(Reason.UNKNOWN_CREDENTIAL)
REFUSALS = [pytest.param(REFUSED, id="bad"), pytest.param(None, id="not mine")]
DOWN = UpstreamUnavailable("down")
THROTTLED = UpstreamThrottled("enough", 7.0)
OUTAGES = [pytest.param(DOWN, id="down"), pytest.param(THROTTLED, id="throttled")]


def good(subject: str = "alice", *, expires_at: float = inf, roles: tuple[str, ...] = ()) -> Verified:
    """As it comes back: remembered by nobody else."""
    identity = Identity(subject, "upstream", roles=roles, expires_at=expires_at)
    return Verified(identity, User(0, subject), cacheable=0.0)


ALICE = good()


@dataclass
class Upstream:
    """The other system: it answers or raises what it is told to, and holds the answer while it is told to."""

    says: Answer | Exception = ALICE
    calls: int = 0
    left_alone: UpstreamUnavailable | None = None
    lets_go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.lets_go.set()

    def refuse(self) -> None:
        if self.left_alone is not None:
            raise self.left_alone

    async def ask(self) -> Answer:
        self.calls += 1
        await self.lets_go.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class World:
    """Answers of one upstream, and a clock that stands still."""

    def __init__(
        self,
        cache: float = CACHE,
        negative_cache: float = NEGATIVE,
        stale_if_error: float = STALE,
        **bounds: int,
    ) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.upstream = Upstream()
        self.answers = Answers(
            "sso",
            cache=cache,
            negative_cache=negative_cache,
            stale_if_error=stale_if_error,
            refuse=self.upstream.refuse,
            clock=self.clock,
            metrics=self.metrics,
            **bounds,
        )

    async def get(self, key: bytes = b"k") -> Answer:
        return await self.answers.get(key, self.upstream.ask)

    async def learn(self, says: Answer | Exception, key: bytes = b"k") -> Answer:
        self.upstream.says = says
        return await self.get(key)

    async def callers(self, many: int, key: bytes = b"k") -> list[asyncio.Task[Answer]]:
        """As many tasks that wait for an answer that the upstream holds."""
        self.upstream.lets_go.clear()
        tasks = [asyncio.create_task(self.get(key)) for _ in range(many)]
        await idle()
        return tasks

    def results(self) -> dict[str, int]:
        """How many look-ups had which result."""
        return {
            sample.labels["result"]: int(sample.value)
            for family in self.metrics.cache_requests.collect()
            for sample in family.samples
        }

    def number(self, metric: str, cache: str = "sso") -> float:
        return self.metrics.registry.get_sample_value(f"sidecar_cache_{metric}", {"cache": cache}) or 0.0


async def idle() -> None:
    """Lets every task go on until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.answers.close()


# --- what is remembered, and for how long --------------------------------------------------------

AGES = [
    pytest.param(good(), 0.0, False, id="an identity, at once"),
    pytest.param(good(), 9.99, False, id="an identity, until the end of cache"),
    pytest.param(good(), 10.0, True, id="an identity, at the end of cache"),
    pytest.param(good(expires_at=T0 + 5), 4.99, False, id="an identity, until it expires"),
    pytest.param(good(expires_at=T0 + 5), 5.0, True, id="an identity, when it expires"),
    pytest.param(good(expires_at=T0 + 20), 10.0, True, id="an identity that lives longer than cache"),
    pytest.param(good(expires_at=T0), 0.0, True, id="an identity that has expired"),
    pytest.param(good(expires_at=nan), 0.0, True, id="an identity that expires at no moment"),
    pytest.param(REFUSED, 0.0, False, id="a refusal, at once"),
    pytest.param(REFUSED, 1.99, False, id="a refusal, until the end of negative_cache"),
    pytest.param(REFUSED, 2.0, True, id="a refusal, at the end of negative_cache"),
    pytest.param(None, 1.99, False, id="not mine, until the end of negative_cache"),
    pytest.param(None, 2.0, True, id="not mine, at the end of negative_cache"),
    pytest.param(DOWN, 0.0, True, id="an outage"),
    pytest.param(THROTTLED, 0.0, True, id="a throttle"),
    pytest.param(Overloaded("full"), 0.0, True, id="any other error"),
]


@pytest.mark.parametrize(("says", "age", "asks_again"), AGES)
async def test_an_answer_of_some_age(
    world: World, says: Answer | Exception, age: float, asks_again: bool
) -> None:
    if isinstance(says, Exception):
        with pytest.raises(type(says)):
            await world.learn(says)
    else:
        assert await world.learn(says) == says
    calls = world.upstream.calls
    world.clock.advance(age)
    other = world.upstream.says = good("bob")
    assert await world.get() == (other if asks_again else says)
    assert world.upstream.calls == calls + asks_again


@pytest.mark.parametrize("says", [ALICE, *REFUSALS])
async def test_the_age_counts_from_the_question(world: World, says: Answer) -> None:
    world.upstream.says = says
    (caller,) = await world.callers(1)
    world.clock.advance(NEGATIVE if says != ALICE else CACHE)
    world.upstream.lets_go.set()
    assert await caller == says
    assert await world.learn(good("bob")) == good("bob")


@pytest.mark.parametrize(("cache", "negative_cache", "says"), [(0.0, 10.0, ALICE), (10.0, 0.0, REFUSED)])
async def test_a_cache_of_no_seconds_remembers_nothing(
    cache: float, negative_cache: float, says: Answer
) -> None:
    world = World(cache=cache, negative_cache=negative_cache, stale_if_error=0.0)
    for calls in (1, 2):
        assert await world.learn(says) == says
        assert world.upstream.calls == calls
    assert (world.number("entries"), world.number("entries", "sso:refused")) == (0, 0)


async def test_keys_that_differ_have_answers_of_their_own(world: World) -> None:
    keys = [b"", b"k", b"k\0", b"\0k", b"K", b"k" * 100_000, b"k" * 100_001]
    for i, key in enumerate(keys):
        await world.learn(good(str(i)), key)
    assert [await world.get(key) for key in keys] == [good(str(i)) for i in range(len(keys))]
    assert world.upstream.calls == len(keys)


async def test_a_key_is_not_the_hash_of_another(world: World) -> None:
    await world.learn(ALICE)
    (stored,) = world.answers._good
    assert await world.learn(REFUSED, stored) == REFUSED


async def test_no_key_stays_in_memory(world: World) -> None:
    secret = b"a secret of somebody's " * 10
    await world.learn(ALICE, secret)
    await world.learn(REFUSED, secret + b"!")
    kept = [*world.answers._good.items(), *world.answers._refused.items()]
    assert [len(key) for key, _ in kept] == [32, 32]
    assert "a secret" not in repr(kept)


async def test_nothing_else_may_remember_an_identity(world: World) -> None:
    for _ in range(2):
        answer = await world.learn(ALICE._replace(cacheable=inf))
        assert isinstance(answer, Verified)
        assert answer.cacheable == 0


class NoChanges:
    async def since(self, position: int) -> Changes:
        return Changes(position)


@pytest.mark.parametrize(
    ("cacheable", "expires_at", "entries"), [(0.0, inf, 0), (1.0, T0, 0), (1.0, T0 + 1, 1)]
)
def test_what_is_over_already_has_no_place_in_the_cache_of_identities(
    cacheable: float, expires_at: float, entries: int
) -> None:
    metrics = Metrics()
    cache = IdentityCache(Revocations(NoChanges(), ManualClock()), metrics)
    known = Known(good(expires_at=expires_at), None, "sso", 0, min(T0 + cacheable, expires_at))
    cache.put(Credential(Form.BEARER, b"t"), known, T0)
    assert metrics.registry.get_sample_value("sidecar_cache_entries", {"cache": "identity"}) == entries


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_is_created_after_a_refusal_is_good_within_negative_cache(
    world: World, refusal: Rejected | None
) -> None:
    await world.learn(refusal)
    world.upstream.says = ALICE
    seen = []
    for _ in range(4):
        world.clock.advance(0.5)
        seen.append(await world.get())
    assert seen == [refusal, refusal, refusal, ALICE]
    assert (world.number("entries"), world.number("entries", "sso:refused")) == (1, 0)


# --- who asks ------------------------------------------------------------------------------------


async def test_a_thousand_at_once_ask_once(world: World) -> None:
    callers = await world.callers(1000)
    assert world.upstream.calls == 1
    world.upstream.lets_go.set()
    assert await asyncio.gather(*callers) == [ALICE] * 1000
    assert world.upstream.calls == 1
    assert world.results() == {"miss": 1, "coalesced": 999}


async def test_each_key_is_asked_for_once(world: World) -> None:
    asked: list[int] = []

    async def ask(number: int) -> Answer:
        asked.append(number)
        await world.upstream.lets_go.wait()
        return good(str(number)) if number % 3 else REFUSED

    def get(number: int) -> asyncio.Task[Answer]:
        return asyncio.create_task(world.answers.get(b"%d" % number, lambda: ask(number)))

    world.upstream.lets_go.clear()
    callers = [get(i % 10) for i in range(1000)]
    await idle()
    world.upstream.lets_go.set()
    for i, answer in enumerate(await asyncio.gather(*callers)):
        assert answer == (good(str(i % 10)) if i % 10 % 3 else REFUSED)
    assert asked == list(range(10))


GOERS = [
    pytest.param([0], id="the first"),
    pytest.param([5], id="one in the middle"),
    pytest.param([9], id="the last"),
    pytest.param(list(range(9)), id="all but one"),
]


@pytest.mark.parametrize("goers", GOERS)
@pytest.mark.parametrize("says", [ALICE, *REFUSALS, *OUTAGES])
async def test_who_goes_away_takes_nobody_along(
    world: World, goers: list[int], says: Answer | Exception
) -> None:
    callers = await world.callers(10)
    for goer in goers:
        callers[goer].cancel()
    await idle()
    world.upstream.says = says
    world.upstream.lets_go.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    for i, outcome in enumerate(outcomes):
        if i in goers:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome == says
    assert world.upstream.calls == 1


@pytest.mark.parametrize("says", [ALICE, *REFUSALS])
async def test_where_all_go_away_the_answer_is_there_for_the_next(world: World, says: Answer) -> None:
    callers = await world.callers(10)
    for caller in callers:
        caller.cancel()
    await idle()
    assert all(caller.cancelled() for caller in callers)
    world.upstream.says = says
    world.upstream.lets_go.set()
    await idle()
    assert await world.get() == says
    assert world.upstream.calls == 1


async def test_an_error_that_nobody_waits_for_is_nobody_s(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (caller,) = await world.callers(1)
    caller.cancel()
    await idle()
    world.upstream.says = DOWN
    world.upstream.lets_go.set()
    await idle()
    del caller
    gc.collect()  # asyncio says so when it deletes a task whose error nobody has seen
    assert await world.learn(ALICE) == ALICE
    assert not caplog.records


@pytest.mark.parametrize("error", [DOWN, THROTTLED, Overloaded("full"), RuntimeError("a fault of ours")])
async def test_an_error_reaches_all_who_wait_and_is_not_remembered(world: World, error: Exception) -> None:
    callers = await world.callers(10)
    world.upstream.says = error
    world.upstream.lets_go.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [error] * 10
    assert world.upstream.calls == 1
    assert await world.learn(ALICE) == ALICE
    assert world.upstream.calls == 2


async def test_who_joins_does_so_while_others_have_gone(world: World) -> None:
    first = await world.callers(3)
    for caller in first:
        caller.cancel()
    second = await world.callers(3)
    world.upstream.lets_go.set()
    assert await asyncio.gather(*second) == [ALICE] * 3
    assert world.upstream.calls == 1


# --- refreshed ahead -----------------------------------------------------------------------------

USES = [
    pytest.param([0.0, 4.0, 7.99], 1, id="uses before the last fifth"),
    pytest.param([8.0], 2, id="a use at its beginning"),
    pytest.param([9.99], 2, id="a use at its end"),
    pytest.param([8.0, 8.1, 8.2, 9.9], 2, id="uses in it: one call"),
    pytest.param([8.0, 15.99], 2, id="the next last fifth begins later"),
    pytest.param([8.0, 16.0, 24.0, 32.0], 5, id="in use all the time"),
]


@pytest.mark.parametrize(("uses", "calls"), USES)
async def test_an_identity_is_refreshed_in_the_last_fifth_of_cache(
    world: World, uses: list[float], calls: int
) -> None:
    await world.get()
    for at in uses:
        world.clock.advance(T0 + at - world.clock.now())
        assert await world.get() == ALICE
        await idle()
    assert world.upstream.calls == calls
    assert world.results() == {"miss": 1, "hit": len(uses)}


async def test_while_it_is_refreshed_all_go_on_with_the_old_one(world: World) -> None:
    await world.get()
    world.clock.advance(9)
    callers = await world.callers(1000)
    assert all(caller.done() for caller in callers)
    assert world.upstream.calls == 2
    bob = world.upstream.says = good("bob")
    world.upstream.lets_go.set()
    await idle()
    assert await world.get() == bob
    assert world.upstream.calls == 2
    assert world.results() == {"miss": 1, "hit": 1001}


async def test_who_comes_after_the_old_one_waits_for_the_refresh(world: World) -> None:
    await world.get()
    world.clock.advance(9)
    await world.callers(1)
    world.clock.advance(1)
    callers = await world.callers(2)
    world.upstream.says = good("bob")
    world.upstream.lets_go.set()
    assert await asyncio.gather(*callers) == [good("bob")] * 2
    assert world.upstream.calls == 2
    assert world.results() == {"miss": 1, "hit": 1, "coalesced": 2}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_ends_an_identity_at_once(world: World, refusal: Rejected | None) -> None:
    await world.get()
    world.clock.advance(8)
    assert await world.learn(refusal) == ALICE
    await idle()
    assert await world.get() == refusal
    assert world.number("entries") == 0
    assert world.results() == {"miss": 1, "hit": 1, "negative": 1}


async def test_a_refusal_ends_an_identity_also_where_refusals_are_not_remembered() -> None:
    world = World(negative_cache=0.0)
    await world.get()
    world.clock.advance(8)
    await world.learn(REFUSED)
    await idle()
    with pytest.raises(UpstreamUnavailable):
        await world.learn(DOWN)


@pytest.mark.parametrize("error", OUTAGES)
async def test_a_refresh_that_fails_is_counted_and_not_tried_again(world: World, error: SidecarError) -> None:
    await world.get()
    world.clock.advance(8)
    world.upstream.says = error
    with capture_logs() as logs:
        for _ in range(5):
            assert await world.get() == ALICE
            await idle()
    assert world.upstream.calls == 2
    assert world.results() == {"miss": 1, "hit": 5, "refresh_failed": 1}
    assert not logs


async def test_a_fault_in_a_refresh_is_logged(world: World) -> None:
    fault = RuntimeError("a fault of ours")
    await world.get()
    world.clock.advance(8)
    with capture_logs() as logs:
        assert await world.learn(fault) == ALICE
        await idle()
    assert logs == [{"event": "refresh_failed", "log_level": "error", "cache": "sso", "exc_info": fault}]
    assert world.results() == {"miss": 1, "hit": 1, "refresh_failed": 1}


async def test_an_identity_that_expires_soon_is_not_asked_for_again_and_again(world: World) -> None:
    await world.learn(good(expires_at=T0 + 9))
    for _ in range(89):
        world.clock.advance(0.1)
        await world.get()
        await idle()
    assert world.upstream.calls == 2


async def test_who_starts_a_refresh_and_goes_away_does_not_end_it(world: World) -> None:
    await world.get()
    world.clock.advance(8)
    world.upstream.says = good("bob")
    (caller,) = await world.callers(1)
    caller.cancel()
    await idle()
    world.upstream.lets_go.set()
    await idle()
    assert await world.get() == good("bob")


async def test_closing_ends_what_is_being_asked(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def ask() -> Answer:
        try:
            return await world.upstream.ask()
        finally:
            await idle()
            ended.append(1)

    await world.get()
    world.clock.advance(8)
    world.upstream.lets_go.clear()
    refreshes, waits, goes = (
        asyncio.create_task(world.answers.get(key, ask)) for key in (b"k", b"somebody's", b"nobody's")
    )
    await idle()
    goes.cancel()
    assert await refreshes == ALICE
    await world.answers.close()
    assert len(ended) == 3
    with pytest.raises(UpstreamUnavailable, match="stopped"):
        await waits
    await world.answers.close()
    assert world.results() == {"miss": 3, "hit": 1}
    assert not caplog.records


# --- when the other system is out of order -------------------------------------------------------

OUTAGE_AGES = [
    pytest.param(inf, 10.0, True, id="just not fresh any more"),
    pytest.param(inf, 39.99, True, id="until stale_if_error is over"),
    pytest.param(inf, 40.0, False, id="when stale_if_error is over"),
    pytest.param(T0 + 20, 19.99, True, id="until it expires"),
    pytest.param(T0 + 20, 20.0, False, id="when it expires"),
    pytest.param(T0 + 5, 5.0, False, id="when it expires before cache is over"),
]


@pytest.mark.parametrize(("expires_at", "age", "goes_on"), OUTAGE_AGES)
@pytest.mark.parametrize("error", OUTAGES)
async def test_an_identity_seen_recently_goes_on_in_an_outage(
    world: World, error: SidecarError, expires_at: float, age: float, goes_on: bool
) -> None:
    alice = await world.learn(good(expires_at=expires_at))
    world.clock.advance(age)
    if goes_on:
        assert await world.learn(error) == alice
        assert world.results() == {"miss": 1, "stale": 1}
    else:
        with pytest.raises(type(error)):
            await world.learn(error)
        assert world.results() == {"miss": 2}


@pytest.mark.parametrize("error", [Overloaded("full"), RuntimeError("a fault of ours")])
async def test_nobody_goes_on_for_any_other_error(world: World, error: Exception) -> None:
    await world.get()
    world.clock.advance(CACHE)
    with pytest.raises(type(error)):
        await world.learn(error)


async def test_what_counts_is_when_the_outage_is_known(world: World) -> None:
    await world.get()
    world.clock.advance(39)
    callers = await world.callers(2)
    world.clock.advance(1)
    world.upstream.says = DOWN
    world.upstream.lets_go.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [DOWN] * 2


async def test_in_an_outage_those_who_ask_together_ask_once(world: World) -> None:
    await world.get()
    world.clock.advance(CACHE)
    for calls in (2, 3):
        callers = await world.callers(100)
        world.upstream.says = DOWN
        world.upstream.lets_go.set()
        assert await asyncio.gather(*callers) == [ALICE] * 100
        assert world.upstream.calls == calls
        world.clock.advance(NOT_ASKED_FOR)
    assert world.results() == {"miss": 1, "stale": 200}


async def test_in_an_outage_nobody_asks_again_at_once(world: World) -> None:
    await world.get()
    world.clock.advance(CACHE)
    assert await world.learn(DOWN) == ALICE
    for seconds, calls in [(0, 2), (NOT_ASKED_FOR - 0.01, 2), (0.01, 3), (0, 3)]:
        world.clock.advance(seconds)
        assert await world.get() == ALICE
        assert world.upstream.calls == calls
    assert world.results() == {"miss": 1, "stale": 5}
    with pytest.raises(UpstreamUnavailable):  # whose identity is not known is asked about
        await world.answers.get(b"another", asking(world, DOWN, 0.0))


async def test_of_a_system_that_is_left_alone_nothing_is_begun(world: World) -> None:
    await world.get()
    world.upstream.left_alone = DOWN
    world.clock.advance(CACHE)
    assert await world.get() == ALICE
    with pytest.raises(UpstreamUnavailable):
        await world.get(b"another")
    assert world.upstream.calls == 1
    assert world.results() == {"miss": 2, "stale": 1}


async def test_who_asked_before_it_was_left_alone_gets_the_answer(world: World) -> None:
    (first,) = await world.callers(1)
    world.upstream.left_alone = DOWN
    joined = asyncio.create_task(world.get())
    await idle()
    world.upstream.lets_go.set()
    assert await first == await joined == ALICE
    assert world.results() == {"miss": 1, "coalesced": 1}


@pytest.mark.parametrize("until", ["its own end", "the end of stale_if_error"])
async def test_what_is_not_asked_again_ends_in_time_all_the_same(world: World, until: str) -> None:
    ends_in = CACHE + 5 if until == "its own end" else CACHE + STALE
    identity = good("alice", expires_at=world.clock.now() + ends_in)
    await world.learn(identity)
    world.clock.advance(ends_in - 0.1)
    assert await world.learn(DOWN) == identity._replace(cacheable=0.0)
    world.clock.advance(0.1)
    with pytest.raises(UpstreamUnavailable):
        await world.learn(DOWN)


async def test_an_outage_does_not_make_an_identity_younger(world: World) -> None:
    await world.get()
    world.upstream.says = DOWN
    for _ in range(39):
        world.clock.advance(1)
        assert await world.get() == ALICE
        await idle()
    world.clock.advance(1)
    with pytest.raises(UpstreamUnavailable):
        await world.get()


async def test_after_the_outage_the_answer_is_new(world: World) -> None:
    await world.get()
    world.clock.advance(20)
    assert await world.learn(DOWN) == ALICE
    world.clock.advance(NOT_ASKED_FOR)
    assert await world.learn(good("bob")) == good("bob")
    world.clock.advance(35)
    assert await world.learn(DOWN) == good("bob")


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_after_a_refusal_nobody_goes_on(world: World, refusal: Rejected | None) -> None:
    await world.get()
    world.clock.advance(CACHE)
    assert await world.learn(DOWN) == ALICE
    world.clock.advance(NOT_ASKED_FOR)
    assert await world.learn(refusal) == refusal
    assert await world.learn(DOWN) == refusal
    world.clock.advance(NEGATIVE)
    with pytest.raises(UpstreamUnavailable):
        await world.get()


async def test_an_outage_is_never_a_refusal(world: World) -> None:
    with pytest.raises(UpstreamUnavailable):
        await world.learn(DOWN)
    assert await world.learn(REFUSED) == REFUSED
    assert await world.learn(DOWN) == REFUSED  # it is remembered: nobody is asked
    assert world.upstream.calls == 2


async def test_closing_is_an_outage_for_those_who_wait(world: World) -> None:
    await world.get()
    world.clock.advance(CACHE)
    (caller,) = await world.callers(1)
    await world.answers.close()
    assert await caller == ALICE


# --- how much ------------------------------------------------------------------------------------


async def test_a_flood_of_bad_keys_drops_no_good_one_and_is_bounded() -> None:
    world = World(most_entries=1000, most_bytes=400_000)
    keys = [b"good-%d" % i for i in range(100)]
    for key in keys:
        await world.learn(ALICE, key)
    world.upstream.says = REFUSED
    for i in range(100_000):
        await world.get(b"bad-%d" % i)
    assert 500 < world.number("entries", "sso:refused") <= 1000
    assert world.answers._refused.currsize <= 400_000
    assert world.number("evictions_total", "sso:refused") == 100_000 - world.number("entries", "sso:refused")
    assert (world.number("entries"), world.number("evictions_total")) == (100, 0)
    world.upstream.says = DOWN
    assert [await world.get(key) for key in keys] == [ALICE] * 100


@pytest.mark.parametrize("says", [ALICE, REFUSED])
@pytest.mark.parametrize(
    ("bounds", "most"),
    [({"most_entries": 3}, (3, 3)), ({"most_bytes": 4000}, (1, 8)), ({"most_bytes": 100}, (0, 0))],
    ids=["by entries", "by bytes", "too large for all the room"],
)
async def test_there_is_room_for_so_many(says: Answer, bounds: dict[str, int], most: tuple[int, int]) -> None:
    world = World(**bounds)
    for i in range(20):
        assert await world.learn(says, b"%d" % i) == says
    cache = "sso" if says is ALICE else "sso:refused"
    at_least, at_most = most
    assert at_least <= world.number("entries", cache) <= at_most
    held = world.number("entries", cache)
    assert world.number("evictions_total", cache) == (20 - held if held else 0)


async def test_what_was_used_longest_ago_goes_first() -> None:
    world = World(most_entries=2)
    for key in (b"1", b"2", b"1", b"3"):
        await world.get(key)
    calls = world.upstream.calls
    for key, asks in [(b"1", 0), (b"3", 0), (b"2", 1)]:
        calls += asks
        await world.get(key)
        assert world.upstream.calls == calls


async def test_a_new_answer_takes_the_place_of_the_old_one_only() -> None:
    world = World(most_entries=2)
    for key in (b"1", b"2", b"1", b"2"):
        await world.get(key)
        world.clock.advance(CACHE)
    assert (world.number("entries"), world.number("evictions_total")) == (2, 0)


async def test_an_identity_that_has_grown_too_large_leaves_nothing_of_the_old_one() -> None:
    world = World(most_bytes=20_000)
    await world.get()
    world.clock.advance(CACHE)
    await world.learn(good(roles=tuple(f"role {i}" for i in range(1000))))
    assert world.number("entries") == 0
    with pytest.raises(UpstreamUnavailable):
        await world.learn(DOWN)


def typical(i: int) -> Verified:
    user = User(
        10**9 + i,
        f"user{i}",
        emails=(f"user{i}@example.com",),
        roles=tuple(f"role-{i}-{j}" for j in range(5)),
        accounts=(Account(f"a{i}", f"Größe {i} 株式会社"),),
    )
    return Verified(Identity.of_user(user, "upstream", expires_at=T0 + 1e6 + i), user)


def sparse(i: int) -> Verified:
    return Verified(Identity(str(i), "upstream"), User(i, ""))


def refusal(i: int) -> Rejected:
    return Rejected([Reason.UNKNOWN_CREDENTIAL, Reason.INVALID_TOKEN][i % 2])


@pytest.mark.parametrize("make", [typical, sparse, refusal])
async def test_entries_take_no_more_memory_than_they_are_counted_with(make: Callable[[int], Answer]) -> None:
    world = World()
    await world.learn(make(0), b"what the first one takes once")
    tracemalloc.start()
    try:
        for i in range(5000):
            await world.learn(make(i), b"%d" % i)
        await idle()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = world.answers._good.currsize + world.answers._refused.currsize
    assert taken <= counted <= 3 * taken


async def test_each_look_up_is_counted_once_also_where_it_fails_or_is_given_up(world: World) -> None:
    for says in (DOWN, ALICE):
        callers = await world.callers(3)
        callers[1].cancel()
        world.upstream.says = says
        world.upstream.lets_go.set()
        await asyncio.gather(*callers, return_exceptions=True)
    assert world.results() == {"miss": 2, "coalesced": 4}
    assert world.metrics.registry.get_sample_value(
        "sidecar_cache_requests_total", {"cache": "sso", "result": "miss"}
    )


# --- anything, in any order ----------------------------------------------------------------------


@dataclass
class Truth:
    """What is to be expected for one key, from nothing but the last answer and when it was asked for."""

    last: Answer = None
    asked_at: float = -inf
    refresh_is_due: bool = False
    in_vain_at: float = -inf

    def learn(self, says: Answer | Exception, now: float) -> None:
        if not isinstance(says, Exception):
            self.last, self.asked_at, self.refresh_is_due = says, now, True
            self.in_vain_at = -inf

    def expect(self, says: Answer | Exception, now: float, takes: float) -> tuple[Answer | Exception, bool]:
        """What a caller gets, and whether the upstream is asked, whose answer `takes` so long."""
        age, last = now - self.asked_at, self.last
        if not isinstance(last, Verified):
            if age < NEGATIVE:
                return last, False
        elif age < CACHE and now < last.identity.expires_at:
            refreshes = self.refresh_is_due and age >= 8
            if refreshes:
                self.refresh_is_due = False
                self.learn(says, now)
            return last, refreshes
        elif now < min(
            self.in_vain_at + NOT_ASKED_FOR, self.asked_at + CACHE + STALE, last.identity.expires_at
        ):
            return last, False
        self.learn(says, now)
        if isinstance(says, SidecarError) and isinstance(last, Verified):
            later = now + takes
            if later - self.asked_at < CACHE + STALE and later < last.identity.expires_at:
                self.in_vain_at = later
                return last, True
        return says, True


STEPS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c"]),
        st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.5, 8.0, 9.5, 10.0, 25.0, 30.0, 40.0]),
        st.sampled_from(["good", "short", "shorter", "refused", "not mine", "down", "throttled"]),
        st.sampled_from([0.0, 0.0, 0.5, 2.0, 8.0, 10.0]),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_what_a_caller_gets_follows_from_the_last_answer(
    steps: list[tuple[bytes, float, str, float]],
) -> None:
    async def play() -> None:
        world = World()
        truths = {key: Truth() for key in (b"a", b"b", b"c")}
        for number, (key, wait, what, takes) in enumerate(steps):
            world.clock.advance(wait)
            now, calls = world.clock.now(), world.upstream.calls
            says: dict[str, Answer | Exception] = {
                "good": good(f"{number}"),
                "short": good(f"{number}", expires_at=now + 12),
                "shorter": good(f"{number}", expires_at=now + 8.5),
                "refused": REFUSED,
                "not mine": None,
                "down": DOWN,
                "throttled": THROTTLED,
            }
            expected, asks = truths[key].expect(says[what], now, takes)
            try:
                got: Answer | Exception = await world.answers.get(key, asking(world, says[what], takes))
            except SidecarError as error:
                got = error
            await idle()
            assert (got, world.upstream.calls - calls) == (expected, asks)

    asyncio.run(play())


def asking(
    world: World, says: Answer | Exception, takes: float
) -> Callable[[], Coroutine[None, None, Answer]]:
    async def ask() -> Answer:
        world.upstream.says = says
        world.clock.advance(takes)
        return await world.upstream.ask()

    return ask
