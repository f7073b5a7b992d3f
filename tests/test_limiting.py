"""What is counted where, and what becomes of it: in memory, in the store, in an outage, after a restart."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sidecar import counting
from sidecar.audit import Audit, Event
from sidecar.counting import SharedWindows, Windows
from sidecar.errors import Overloaded, StoreUnavailable, Throttled
from sidecar.limiting import BANS, RequestLimits
from sidecar.model import IPAddress, Reason, Rejected
from sidecar.passwords import Passwords
from sidecar.ports import Store
from sidecar.records import Counter, NewUser
from sidecar.settings import parse
from sidecar.sign_in import SignIn
from sidecar.stores import open_store
from sidecar.stores.sqlite import SqliteStore
from sidecar.stores.sqlite.counters import SqliteCounters
from sidecar.stores.sqlite.database import Database
from sidecar.telemetry import Metrics
from tests.auditing import audit, taken
from tests.checks.products import PASSWORD
from tests.clocks import ManualClock
from tests.running import CHEAP, WaitingHasher, locked

ANN = ip_address("192.0.2.1")
BOB = ip_address("192.0.2.2")
ELSEWHERE = ip_address("198.51.100.1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    """The store in this file, as one process has it."""
    store = open_store(f"sqlite:///{path}", busy_timeout=0.1)
    yield store
    await store.close()


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as store:
        yield store


@pytest.fixture
def recorded(clock: ManualClock) -> Audit:
    """What all of them record."""
    return audit(clock=clock)


Make = Callable[..., RequestLimits]


@pytest.fixture
def make(store: Store, clock: ManualClock, recorded: Audit) -> Make:
    """Limits, as one process has them: with these settings, over this store or the first one."""

    def made(over: Store = store, **settings: Any) -> RequestLimits:
        return RequestLimits(parse({"limits": settings}).limits, over.counters, recorded, clock, Metrics())

    return made


async def refusal(
    limits: RequestLimits, client: IPAddress = ELSEWHERE, user: str = ""
) -> tuple[Reason, float]:
    """Why a password of this user, or from this client, is not even checked, and for how long."""
    with pytest.raises(Throttled) as caught:
        await limits.refuse_banned(client, user)
    return caught.value.reason, caught.value.retry_after


async def is_checked(limits: RequestLimits, client: IPAddress = ELSEWHERE, user: str = "") -> bool:
    """Whether a password is."""
    try:
        await limits.refuse_banned(client, user)
    except Throttled:
        return False
    return True


async def attempts(limits: RequestLimits, number: int) -> int:
    """How many of so many sign-ins of Ann's are let in."""
    admitted = 0
    for _ in range(number):
        try:
            await limits.count_attempt(ANN)
        except Throttled:
            continue
        admitted += 1
    return admitted


def asked(limits: RequestLimits, number: int) -> int:
    """How many of so many requests of Ann's are let in."""
    admitted = 0
    for _ in range(number):
        try:
            limits.count_check(ANN)
        except Throttled:
            continue
        admitted += 1
    return admitted


def banned(recorded: Audit) -> list[str]:
    """Who was banned, one line for each."""
    return [line["who"] for line in taken(recorded) if line["event"] == Event.BANNED]


def events(log: io.StringIO, *names: str) -> list[str]:
    """The events among these that were logged."""
    logged = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    return [event for event in logged if event in names]


# --- each for itself -----------------------------------------------------------------------------


async def test_a_flood_of_requests_makes_nobody_forget_who_guesses_passwords(
    monkeypatch: pytest.MonkeyPatch, make: Make, path: Path
) -> None:
    monkeypatch.setattr(counting, "MOST_KEYS", 100)
    limits = make(ban={"failures": 5})
    with locked(path):  # so that all of it is in memory
        for _ in range(4):
            await limits.count_failure(ANN, "ann")
        for number in range(1000):
            limits.count_check(ip_address(number))
        await limits.count_failure(BOB, "ann")
        assert await refusal(limits, user="ann") == (Reason.BANNED, 300.0)


async def test_the_oldest_windows_make_room_and_ended_ones_first(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setattr(counting, "MOST_KEYS", 3)
    windows = Windows(clock)
    for key in ("a", "b", "c", "a", "d"):
        windows.add(key, 60)
        clock.advance(10)
    assert windows.find("a") is None
    assert sorted(each.key for each in await windows.fullest()) == ["b", "c", "d"]
    clock.advance(25)  # over for b and c
    assert [windows.add(key, 60) for key in ("e", "b", "d")] == [1, 1, 2]
    assert sorted(each.key for each in await windows.fullest()) == ["b", "d", "e"]


async def test_others_have_their_turn_while_very_many_windows_are_looked_at(clock: ManualClock) -> None:
    windows = Windows(clock)
    for number in range(2000):
        windows.add(f"{number}", 60)
    looking = asyncio.create_task(windows.fullest())
    await asyncio.sleep(0)
    assert not looking.done()
    windows.clear("1999")
    windows.add("0", 60, 7)
    found = await looking
    assert len(found) == 1999
    assert "1999" not in {each.key for each in found}


def test_a_window_begins_with_its_first_count_and_ends_once(clock: ManualClock) -> None:
    windows = Windows(clock)
    assert [windows.add("a", 60), windows.add("a", 60)] == [1, 2]
    clock.advance(59.5)
    assert windows.add("a", 60) == 3
    clock.advance(0.5)
    assert windows.find("a") is None
    assert windows.add("a", 60) == 1


def test_requests_that_are_not_limited_are_not_counted(make: Make) -> None:
    assert asked(make(checks=""), 20_000) == 20_000


# --- shared, and after a restart -----------------------------------------------------------------


async def test_a_ban_holds_in_every_process_and_after_them_for_the_rest_of_its_time(
    make: Make, path: Path, clock: ManualClock
) -> None:
    async with opened(path) as other:
        guessed, running = make(other), make()
        for _ in range(5):
            await guessed.count_failure(ANN, "ann")
        assert await refusal(running, user="ann") == (Reason.BANNED, 300.0)
        assert await refusal(running, ANN) == (Reason.BANNED, 300.0)
    clock.advance(200)
    async with opened(path) as later:
        started = make(later)
        await started.load()
        assert await refusal(started, user="ann") == (Reason.BANNED, 100.0)
        clock.advance(99.5)
        assert not await is_checked(started, ANN)
        clock.advance(0.5)
        assert await is_checked(started, ANN, "ann")


async def test_failures_in_any_process_lead_to_one_ban(make: Make, path: Path, recorded: Audit) -> None:
    async with AsyncExitStack() as stack:
        processes = [make(await stack.enter_async_context(opened(path))) for _ in range(4)]
        await asyncio.gather(*(each.count_failure(ANN, "ann") for each in processes))
        assert [await is_checked(each, user="ann") for each in processes] == [True] * 4
        await processes[0].count_failure(ANN, "ann")
        assert [await is_checked(each, user="ann") for each in processes] == [False] * 4
    assert banned(recorded) == [f"client:{ANN}", "user:ann"]


async def test_no_count_is_lost_whoever_counts_at_once(make: Make, path: Path, store: Store) -> None:
    async with opened(path) as other:
        both = make(login="1000/hour"), make(other, login="1000/hour")
        await asyncio.gather(*(each.count_attempt(ANN) for each in both * 20))
        for each in both:
            await each.save()
    (counter,) = await store.counters.list("login/", now=0)
    assert counter.count == 40


async def test_sign_ins_are_counted_over_all_processes_and_restarts(make: Make, path: Path) -> None:
    assert await attempts(make(login="10/minute"), 4) == 4
    async with opened(path) as other:
        assert await attempts(make(other, login="10/minute"), 4) == 4
    assert await attempts(make(login="10/minute"), 4) == 2


async def test_a_flood_of_sign_ins_writes_no_more_than_is_let_in(make: Make, store: Store) -> None:
    assert await attempts(make(login="3/minute"), 50) == 3
    (counter,) = await store.counters.list("login/", now=0)
    assert counter.count == 3


async def test_requests_go_on_being_counted_after_an_orderly_restart(make: Make, clock: ManualClock) -> None:
    before = make(checks="10/minute")
    await before.load()
    assert asked(before, 7) == 7
    clock.advance(20)
    await before.save()
    after = make(checks="10/minute")
    await after.load()
    assert asked(after, 5) == 3
    with pytest.raises(Throttled) as caught:
        after.count_check(ANN)
    assert caught.value.retry_after == 40
    clock.advance(40)
    assert asked(after, 11) == 10


async def test_a_window_of_a_clock_that_was_ahead_ends_as_soon_as_others(
    make: Make, clock: ManualClock
) -> None:
    clock.advance(3600)
    before = make(checks="10/minute", login="10/minute")
    assert (asked(before, 10), await attempts(before, 9)) == (10, 9)
    await before.save()
    clock.advance(-3600)
    after = make(checks="10/minute", login="10/minute")
    await after.load()
    assert (asked(after, 1), await attempts(after, 2)) == (0, 1)
    clock.advance(60)
    assert (asked(after, 1), await attempts(after, 1)) == (1, 1)


@pytest.mark.parametrize("is_locked", [False, True], ids=["and is mended", "also in a store that is locked"])
async def test_a_full_window_and_a_ban_of_a_clock_that_was_ahead_end_as_soon_as_others(
    make: Make, path: Path, clock: ManualClock, *, is_locked: bool
) -> None:
    clock.advance(3600)
    before = make(login="2/minute", ban={"failures": 1})
    assert await attempts(before, 3) == 2
    await before.count_failure(BOB)
    clock.advance(-3600)
    after = make(login="2/minute", ban={"failures": 1})
    with locked(path) if is_locked else nullcontext():
        assert await refusal(after, BOB) == (Reason.BANNED, 300.0)
        assert await attempts(after, 1) == 0
    if is_locked:
        return
    clock.advance(60)
    assert await attempts(after, 3) == 2
    clock.advance(240)
    assert await is_checked(after, BOB)


async def test_what_is_kept_of_very_many_clients_is_the_fullest(
    monkeypatch: pytest.MonkeyPatch, make: Make, store: Store
) -> None:
    monkeypatch.setattr(counting, "MOST_KEPT", 3)
    limits = make()
    for number in range(1, 11):
        for _ in range(number):
            limits.count_check(ip_address(number))
    await limits.save()
    kept = await store.counters.list("checks/", now=0)
    assert sorted(each.count for each in kept) == [8, 9, 10]


async def test_nothing_that_was_typed_is_kept(make: Make, store: Store) -> None:
    limits = make(ban={"failures": 1})
    await limits.count_attempt(ANN)
    await limits.count_failure(ANN, "17")
    limits.count_check(ip_address("2001:db8::17"))
    await limits.save()
    assert sorted(each.key for each in await store.counters.list("", now=0)) == [
        "ban/client:192.0.2.1",
        "ban/user:17",
        "checks/client:2001:db8::/64",
        "login/client:192.0.2.1/10/1/minute",
    ]


# --- a store that cannot be written --------------------------------------------------------------


async def test_while_the_store_is_locked_guessing_ends_in_a_ban_all_the_same(
    make: Make, path: Path, log: io.StringIO, clock: ManualClock, recorded: Audit
) -> None:
    limits = make()
    with locked(path):
        for _ in range(5):
            assert await is_checked(limits, ANN, "ann")
            await limits.count_failure(ANN, "ann")
        assert await refusal(limits, user="ann") == (Reason.BANNED, 300.0)
        assert await refusal(limits, ANN) == (Reason.BANNED, 300.0)
        clock.advance(300)
        assert await is_checked(limits, ANN, "ann")
    assert banned(recorded) == [f"client:{ANN}", "user:ann"]
    assert events(log, "counting_in_memory") == ["counting_in_memory"]


async def test_what_was_counted_before_an_outage_and_in_it_is_added_up(make: Make, path: Path) -> None:
    limits = make()
    for _ in range(3):
        await limits.count_failure(ANN, "ann")
    with locked(path):
        await limits.count_failure(ANN, "ann")
        assert await is_checked(limits, user="ann")
    await limits.count_failure(ANN, "ann")
    assert await refusal(limits, user="ann") == (Reason.BANNED, 300.0)


async def test_sign_ins_are_limited_while_the_store_is_locked(
    make: Make, path: Path, log: io.StringIO
) -> None:
    limits = make(login="5/minute")
    assert await attempts(limits, 2) == 2
    with locked(path):
        assert await attempts(limits, 5) == 3
    assert await attempts(limits, 2) == 0
    assert events(log, "counting_in_memory", "counting_in_store_again") == ["counting_in_memory"]


async def test_what_was_counted_in_an_outage_is_shared_when_it_is_over(
    make: Make, path: Path, clock: ManualClock, log: io.StringIO
) -> None:
    limits = make()
    with locked(path):
        for _ in range(5):
            await limits.count_failure(ANN, "ann")
        for _ in range(3):
            await limits.count_failure(BOB, "bob")
        await limits.save()
        assert events(log, "limits_not_saved") == ["limits_not_saved"]
    clock.advance(60)
    await limits.save()
    await limits.save()  # and nothing is counted twice
    async with opened(path) as later:
        started = make(later)
        assert await refusal(started, user="ann") == (Reason.BANNED, 240.0)
        await started.count_failure(BOB, "bob")
        assert await is_checked(started, user="bob")
        await started.count_failure(BOB, "bob")
        assert not await is_checked(started, user="bob")


async def test_a_ban_made_in_an_outage_is_in_the_store_with_the_next_count(
    make: Make, path: Path, store: Store
) -> None:
    limits = make(ban={"failures": 1})
    with locked(path):
        await limits.count_failure(ANN, "ann")
        assert await store.counters.list(BANS, now=0) == []
    await asyncio.gather(*(limits.count_attempt(BOB) for _ in range(3)))
    bans = await store.counters.list(BANS, now=0)
    assert [(each.key, each.count) for each in bans] == [("ban/client:192.0.2.1", 1), ("ban/user:ann", 1)]
    assert await store.counters.clear(each.key for each in bans) == 2
    assert await is_checked(limits, ANN, "ann")


async def test_the_log_says_at_most_once_a_minute_that_the_store_cannot_be_written(
    store: Store, path: Path, clock: ManualClock, log: io.StringIO
) -> None:
    windows = SharedWindows({"k": 6000}, store.counters, clock)
    names = "counting_in_memory", "counting_in_store_again"
    for minute in range(1, 3):
        for _ in range(3):  # as a store that is merely busy
            with locked(path):
                await windows.incr("k", 6000)
            await windows.incr("k", 6000)
        assert events(log, *names) == [*names] * minute
        clock.advance(60)
    assert await windows.get("k") == 12


async def test_the_log_says_that_an_outage_is_over_when_nothing_is_left_to_write(
    monkeypatch: pytest.MonkeyPatch, store: Store, path: Path, clock: ManualClock, log: io.StringIO
) -> None:
    monkeypatch.setattr(counting, "MOST_KEPT", 1)
    windows = SharedWindows({"a": 60}, store.counters, clock)
    with locked(path):
        await windows.incr("a/1", 60)
        await windows.incr("a/2", 60)
        clock.advance(30)
        await windows.incr("a/3", 60)
    await windows.settle()
    assert events(log, "counting_in_store_again") == []
    clock.advance(30)  # over for the second
    await windows.settle()
    assert events(log, "counting_in_store_again") == ["counting_in_store_again"]


def test_what_was_found_is_taken_from_its_own_window_alone(clock: ManualClock) -> None:
    windows = Windows(clock)

    def found() -> Counter:
        counter = windows.find("a")
        assert counter is not None
        return counter

    windows.add("a", 60, 3)
    first = found()
    windows.add("a", 60, 2)
    windows.take(first)
    assert found().count == 2
    windows.take(found())
    assert windows.find("a") is None
    windows.take(first)
    clock.advance(60)
    windows.add("a", 60)
    windows.take(first)
    assert found().count == 1


async def test_a_ban_may_be_forgotten_while_the_store_is_locked_without_a_fault(
    store: Store, path: Path, clock: ManualClock
) -> None:
    windows = SharedWindows({"stored": 60, "unwritten": 60}, store.counters, clock)
    await windows.incr("stored", 60)
    with locked(path):
        await windows.incr("unwritten", 60)
        for key in ("stored", "unwritten"):
            await windows.clear(key)
        assert [await windows.get(key) for key in ("stored", "unwritten")] == [1, 0]


async def test_a_store_that_cannot_be_read_is_an_outage_and_no_refusal(make: Make, store: Store) -> None:
    limits = make()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await limits.count_attempt(ANN)
    with pytest.raises(StoreUnavailable):
        await limits.refuse_banned(ANN)
    await limits.load()  # which is logged
    await limits.save()


# --- guesses at once -----------------------------------------------------------------------------


def sign_in_over(store: Store, limits: RequestLimits, passwords: Passwords) -> SignIn:
    """Signing in, as one process has it."""
    return SignIn(store.users, passwords, limits, audit(), Metrics())


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("names", "clients"),
    [
        pytest.param(60, 1, id="many names from one client"),
        pytest.param(1, 60, id="one name from many clients"),
        pytest.param(1, 1, id="one name from one client"),
    ],
)
async def test_of_guesses_at_once_no_more_are_answered_than_may_be_wrong(
    make: Make, path: Path, names: int, clients: int, processes: int
) -> None:
    async with AsyncExitStack() as stack:
        passwords = stack.enter_context(closing(Passwords(CHEAP)))
        stores = [await stack.enter_async_context(opened(path)) for _ in range(processes)]
        doors = [sign_in_over(each, make(each), passwords) for each in stores]
        guesses = (
            doors[number % processes].verify(
                f"name{number % names}", "wrong", ip_address(3_221_225_985 + number % clients)
            )
            for number in range(60)
        )
        said = await asyncio.gather(*guesses, return_exceptions=True)
    wrong = [each for each in said if isinstance(each, Rejected)]
    assert 1 <= len(wrong) <= 5
    assert all(isinstance(each, Throttled | Overloaded) for each in said if each not in wrong)


async def test_a_right_password_among_too_many_wrong_ones_at_once_is_refused_with_them(
    make: Make, store: Store
) -> None:
    limits, hasher = make(ban={"failures": 1}), WaitingHasher()
    new = NewUser("ann", (), "", "", "", (), (), CHEAP.hash(PASSWORD))
    ann = await store.users.add(new, now=0, by="test")
    with closing(Passwords(hasher)) as passwords:
        checked = asyncio.create_task(sign_in_over(store, limits, passwords).verify("ann", PASSWORD, ANN))
        await asyncio.to_thread(hasher.has_begun.wait)
        await limits.count_failure(BOB, str(ann.id))
        hasher.go_on.set()
        with pytest.raises(Throttled) as caught:
            await checked
    assert (caught.value.reason, caught.value.retry_after) == (Reason.BANNED, 300.0)


class WaitingCounters(SqliteCounters):
    """Stands still before the first failure is counted, until it is told to go on."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def add(self, key: str, *, now: float, ends_at: float, amount: int = 1) -> Counter:
        if key.startswith("failures/user:") and not self.has_begun.is_set():
            self.has_begun.set()
            await self.go_on.wait()
        return await super().add(key, now=now, ends_at=ends_at, amount=amount)


async def test_a_failure_that_is_counted_late_is_one_too_many(store: Store, clock: ManualClock) -> None:
    assert isinstance(store, SqliteStore)
    counters, metrics = WaitingCounters(store._database), Metrics()
    settings = parse({"limits": {"ban": {"failures": 2}}}).limits
    limits = RequestLimits(settings, counters, audit(), clock, metrics)
    late = asyncio.create_task(limits.count_failure(ANN, "ann"))
    await counters.has_begun.wait()
    for client in (BOB, ELSEWHERE):
        await limits.count_failure(client, "ann")
    counters.go_on.set()
    with pytest.raises(Throttled) as caught:
        await late
    assert (caught.value.reason, caught.value.retry_after) == (Reason.BANNED, 300.0)
    refused = metrics.registry.get_sample_value("sidecar_rate_limited_total", {"scope": "ban"})
    assert refused == 1
    assert [each.key for each in await store.counters.list("failures/user", now=0)] == []


async def test_a_ban_that_was_lifted_is_none_at_once(make: Make, store: Store) -> None:
    limits = make(ban={"failures": 1})
    await limits.count_failure(ANN, "ann")
    assert not await is_checked(limits, user="ann")
    assert await store.counters.clear([f"{BANS}user:ann"]) == 1
    assert await is_checked(limits, user="ann")
    assert not await is_checked(limits, ANN)


async def test_a_second_failure_at_once_neither_bans_again_nor_extends_the_ban(
    make: Make, store: Store, clock: ManualClock, recorded: Audit
) -> None:
    limits = make(ban={"failures": 1})
    await limits.count_failure(ANN)
    for _ in range(2):
        clock.advance(10)
        with pytest.raises(Throttled):
            await limits.count_failure(ANN)
    clock.advance(10)
    assert await store.counters.find(f"{BANS}client:{ANN}", now=0) == Counter(
        f"{BANS}client:{ANN}", 3, clock.now() + 270
    )
    assert banned(recorded) == [f"client:{ANN}"]
