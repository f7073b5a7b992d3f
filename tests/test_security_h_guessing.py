"""H: guessing passwords and secrets, at every door: cases 91 to 93, and what a ban leaves alone."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.checks.products import PASSWORD, PULSE_LOGIN, TOKEN_PATH, VIROLA_LOGIN, VIROLA_STATUS
from tests.conftest import Start
from tests.running import CHEAP, Answer, Line, Running, bearer, locked

Guess = Callable[[Running, str, str, Line], Awaitable[Answer]]


@dataclass(frozen=True)
class Door:
    """Where a name and a password, or a key and its secret, let somebody in.

    `banned` is what it says to whoever is: the status, or the reason where the gateway knows no 429.
    """

    name: str
    guess: Guess
    banned: object = 429

    def __str__(self) -> str:
        return self.name

    def outcome(self, answer: Answer) -> object:
        """What it said, likewise."""
        if answer.status == 403:
            return answer.reason
        return answer.json["statusCode"] if self.name == "an access key" else answer.status


async def page(sidecar: Running, name: str, password: str, client: Line) -> Answer:
    return await sidecar.sign_in(name, password, [client])


async def pulse(sidecar: Running, name: str, password: str, client: Line) -> Answer:
    return await sidecar.post_json(PULSE_LOGIN, {"email": name, "password": password}, [client])


async def virola(sidecar: Running, name: str, password: str, client: Line) -> Answer:
    return await sidecar.post_json(VIROLA_LOGIN, {"userName": name, "password": password}, [client])


def basic(gateway: str) -> Guess:
    async def guess(sidecar: Running, name: str, password: str, client: Line) -> Answer:
        value = base64.b64encode(f"{name}:{password}".encode())
        return await sidecar.check(gateway, [(b"authorization", b"Basic " + value), client])

    return guess


async def access_key(sidecar: Running, name: str, password: str, client: Line) -> Answer:
    given = {"accessKeyId": name, "accessKeySecret": password}
    return await sidecar.post_json(TOKEN_PATH, given, [client])


SIGN_INS = (Door("the page", page), Door("Pulse", pulse), Door("Virola", virola))
BASIC = (
    Door("Basic behind nginx", basic("nginx"), banned="banned"),
    Door("Basic behind Traefik", basic("traefik")),
    Door("Basic behind Caddy", basic("caddy")),
)
ACCESS_KEY = Door("an access key", access_key)

BY_PASSWORD = (*SIGN_INS, *BASIC)
DOORS = (*BY_PASSWORD, ACCESS_KEY)

each_door = pytest.mark.parametrize("door", DOORS, ids=str)
each_password_door = pytest.mark.parametrize("door", BY_PASSWORD, ids=str)

ELSEWHERE: Line = (b"x-forwarded-for", b"198.51.100.1")


def client(number: int) -> Line:
    """One of many clients."""
    return (b"x-forwarded-for", b"192.0.2.%d" % number)


def settings(login: str = "1000/minute", **ban: Any) -> dict[str, Any]:
    """These limits, and Basic beside the rest."""
    return {
        "limits": {"login": login, "ban": {"failures": 3, "window": "2m", "duration": "5m", **ban}},
        "authenticators": {"basic": {"enabled": True}},
    }


async def outcomes(sidecar: Running, door: Door, names: Sequence[str], lines: Sequence[Line]) -> list[object]:
    """What is said to one wrong guess at each of the names, each from its client."""
    return [
        door.outcome(await door.guess(sidecar, name, f"wrong {secrets.token_hex(4)}", line))
        for name, line in zip(names, lines, strict=True)
    ]


async def right(sidecar: Running, door: Door, line: Line = ELSEWHERE) -> Answer:
    """What is said to somebody who knows the password, or the secret."""
    if door is ACCESS_KEY:
        return await door.guess(sidecar, *await sidecar.access_key(), line)
    return await door.guess(sidecar, "alice", PASSWORD, line)


async def lets_in(sidecar: Running, door: Door, line: Line = ELSEWHERE) -> bool:
    """Whether it lets in somebody who knows the password, or the secret."""
    return door.outcome(await right(sidecar, door, line)) in {200, 303}


def assert_banned(door: Door, answer: Answer, retry_after: str) -> None:
    """Refused in the way of this door, and told for how long."""
    assert door.outcome(answer) == door.banned
    assert answer.one("Retry-After") == retry_after
    assert answer.all("Set-Cookie") == [] or door.name == "the page"  # which sets its form's


# --- 91: one counter for all names of a user -----------------------------------------------------


@pytest.mark.parametrize("variant", ["ALICE", "alice@example.com", "Alice@Example.COM", "\uff41lice"])
@each_password_door
async def test_h91_name_address_and_case_variants_share_one_counter(
    start: Start, door: Door, variant: str
) -> None:
    async with start(settings()) as sidecar:
        await sidecar.add_user(emails=("alice@example.com",), password=PASSWORD)
        names = ["alice", variant, "alice@example.com"]
        assert await outcomes(sidecar, door, names, [client(1), client(2), client(3)]) == [401] * 3
        assert_banned(door, await right(sidecar, door), "300")
        sidecar.clock.advance(300)
        assert await lets_in(sidecar, door)


@pytest.mark.parametrize("variant", ["NOBODY", "nobody", "\uff4eobody"])
@each_password_door
async def test_h91_so_do_the_variants_of_a_name_that_nobody_has(
    start: Start, door: Door, variant: str
) -> None:
    async with start(settings()) as sidecar:
        names = ["nobody", variant, "Nobody", variant]
        lines = [client(number) for number in range(4)]
        assert await outcomes(sidecar, door, names, lines) == [401] * 3 + [door.banned]


@each_password_door
async def test_h91_a_guess_at_any_door_counts_at_every_other(start: Start, door: Door) -> None:
    async with start(settings(failures=len(BY_PASSWORD))) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        for number, each in enumerate(BY_PASSWORD):
            assert await outcomes(sidecar, each, ["alice"], [client(number)]) == [401]
        assert_banned(door, await right(sidecar, door), "300")
        assert await lets_in(sidecar, ACCESS_KEY)  # no user is behind it


# --- 92: a client is its network -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        pytest.param(b"spoof%d, 192.0.2.1", True, id="what is left of the client rotates"),
        pytest.param(b"2001:db8:0:1::%d", True, id="addresses within a 64"),
        pytest.param(b"::ffff:192.0.2.%d", False, id="different IPv4 addresses, written as IPv6"),
        pytest.param(b"2001:db8:0:%d::1", False, id="different 64 networks"),
    ],
)
@each_door
async def test_h92_a_client_that_rotates_its_address_within_its_network_is_banned_as_one(
    start: Start, door: Door, address: bytes, *, is_one: bool
) -> None:
    async with start(settings()) as sidecar:
        names = [f"user{number}" for number in range(1, 5)]
        lines = [(b"x-forwarded-for", address % number) for number in range(1, 5)]
        assert await outcomes(sidecar, door, names, lines) == [401] * 3 + [door.banned if is_one else 401]


@each_door
async def test_h92_a_banned_client_is_refused_at_every_door_and_others_at_none(
    start: Start, door: Door
) -> None:
    async with start(settings()) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        assert await outcomes(sidecar, door, ["a", "b", "c"], [client(1)] * 3) == [401] * 3
        for each in DOORS:
            assert_banned(each, await right(sidecar, each, client(1)), "300")
        for each in DOORS:
            assert await lets_in(sidecar, each, client(2))


@pytest.mark.parametrize("door", [*SIGN_INS, ACCESS_KEY], ids=str)
async def test_sign_ins_have_a_rate_for_each_client(start: Start, door: Door) -> None:
    async with start(settings("2/minute", failures=100)) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        assert await outcomes(sidecar, door, ["a", "b"], [client(1)] * 2) == [401] * 2
        sidecar.clock.advance(20)
        limited = await right(sidecar, door, client(1))
        assert (door.outcome(limited), limited.one("Retry-After")) == (429, "40")
        assert await lets_in(sidecar, door, client(2))
        sidecar.clock.advance(40)
        assert await lets_in(sidecar, door, client(1))


@pytest.mark.parametrize("door", BASIC, ids=str)
async def test_basic_has_no_rate_and_only_a_ban(start: Start, door: Door) -> None:
    async with start(settings("1/minute", failures=4)) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        assert await outcomes(sidecar, door, ["a", "b", "c"], [client(1)] * 3) == [401] * 3
        assert await lets_in(sidecar, door, client(1))


# --- 93: known and unknown names -----------------------------------------------------------------


@each_password_door
async def test_h93_one_hash_is_computed_whoever_is_named_and_the_answer_is_the_same(
    start: Start, door: Door
) -> None:
    async with start(settings(failures=100)) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        await sidecar.add_user("nopassword")
        answers = []
        for name in ("alice", "nopassword", "nobody", "x" * 300):
            before = CHEAP.computed
            answers.append(await door.guess(sidecar, name, "wrong", client(1)))
            assert CHEAP.computed == before + 1
        assert {door.outcome(each) for each in answers} == {401}
        if door.name != "the page":  # whose form holds the name that was typed
            assert len({each.body for each in answers}) == 1


@each_password_door
async def test_h93_a_name_that_nobody_has_costs_as_many_looks_and_writes_as_one_that_somebody_has(
    start: Start, door: Door
) -> None:
    async def counted(sidecar: Running, name: str, number: int) -> dict[str, float]:
        before = await operations(sidecar)
        assert await outcomes(sidecar, door, [name], [client(number)]) == [401]
        after = await operations(sidecar)
        return {key: after[key] - before.get(key, 0) for key in after if key.startswith("counters.")}

    async with start(settings()) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        await outcomes(sidecar, door, ["warm"], [client(0)])
        assert await counted(sidecar, "alice", 1) == await counted(sidecar, "nobody", 2)


async def operations(sidecar: Running) -> dict[str, float]:
    """How often the store did what."""
    lines = (await sidecar.metrics()).splitlines()
    found = [line for line in lines if line.startswith("sidecar_store_operations_total{")]
    return {line.partition('operation="')[2].partition('"')[0]: float(line.split()[-1]) for line in found}


# --- what counts, and what a ban leaves alone ----------------------------------------------------


async def credentials_that_are_no_guess(sidecar: Running) -> list[list[Line]]:
    """Missing, expired, revoked, malformed: a hundred of them are no reason to ban anybody."""
    alice = await sidecar.add_user("carol")
    expired = await sidecar.api_key(alice, expires_at=sidecar.clock.now() - 1)
    return [
        [],
        [(b"cookie", sidecar.cookie_name + b"=nonsense")],
        [bearer("not.a.token")],
        [bearer("sk_nonsense")],
        [(b"x-api-key", expired)],
        [(b"authorization", b"Basic ?")],
        [(b"authorization", b"Basic " + base64.b64encode(b"alice:"))],
    ]


async def test_only_a_wrong_password_or_secret_counts(start: Start) -> None:
    async with start(settings(failures=1)) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        for lines in await credentials_that_are_no_guess(sidecar):
            assert (await sidecar.check("nginx", [*lines, ELSEWHERE])).status == 401
            assert (await sidecar.ask("GET", VIROLA_STATUS, [*lines, ELSEWHERE])).status == 401
        for door in DOORS:
            assert await lets_in(sidecar, door)


@each_door
async def test_a_ban_leaves_live_sessions_tokens_and_keys_alone(start: Start, door: Door) -> None:
    async with start(settings(failures=1)) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        live = [
            await sidecar.session(alice),
            bearer(await sidecar.token(alice)),
            bearer(await sidecar.api_key(alice)),
        ]
        assert await outcomes(sidecar, door, ["alice"], [client(1)]) == [401]
        assert_banned(door, await right(sidecar, door, client(1)), "300")
        for line in live:
            assert (await sidecar.check("nginx", [line, client(1)])).status == 200
            assert (await sidecar.ask("GET", VIROLA_STATUS, [line, client(1)])).status == 200


# --- a restart, and a store that cannot be written -----------------------------------------------


@each_door
async def test_a_ban_outlives_the_process(start: Start, door: Door) -> None:
    async with start(settings()) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        assert await outcomes(sidecar, door, ["alice"] * 3, [client(1)] * 3) == [401] * 3
    async with start(settings()) as sidecar:
        assert_banned(door, await right(sidecar, door, client(1)), "300")


@each_door
async def test_failures_before_a_restart_count_after_it(start: Start, door: Door) -> None:
    async with start(settings()) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        assert await outcomes(sidecar, door, ["alice"] * 2, [client(1)] * 2) == [401] * 2
    async with start(settings()) as sidecar:
        assert await outcomes(sidecar, door, ["alice"] * 2, [client(1)] * 2) == [401, door.banned]


@each_door
async def test_while_the_store_is_locked_guessing_ends_all_the_same(
    start: Start, door: Door, tmp_path: Path
) -> None:
    async with start(settings()) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        await sidecar.access_key()  # the first one makes the secret from which all of them follow
        names, lines = ["alice"] * 4, [client(1)] * 4
        with locked(tmp_path / "sidecar.db"):
            assert await outcomes(sidecar, door, names, lines) == [401] * 3 + [door.banned]
        assert await outcomes(sidecar, door, names, lines) == [door.banned] * 4
