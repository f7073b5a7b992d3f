"""A check over time: what is remembered, for how long, and what ends it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from sidecar import caching
from sidecar.clock import SystemClock
from sidecar.ports import SessionStore
from sidecar.records import Account, UserChange
from sidecar.revocation import LOOK_EVERY
from tests.conftest import Start
from tests.running import (
    BROWSER,
    CHEAP,
    GATEWAYS,
    Line,
    Original,
    Running,
    WaitingHasher,
    bearer,
    broken,
    locked,
    running,
)

PASSWORD = "correct horse"
BASIC = (b"authorization", b"Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==")

Ending = Callable[[Running, int], Awaitable[None]]


# --- what a rule demands -------------------------------------------------------------------------

DEMANDS = [
    pytest.param({"roles": ["admin", "staff"]}, None, id="any one of the roles"),
    pytest.param({"roles": ["admin"]}, "missing_role", id="a role that the user has not"),
    pytest.param({"permissions": ["x", "posts:write"]}, None, id="any one of the permissions"),
    pytest.param({"permissions": ["posts:delete"]}, "missing_permission", id="a permission of no role"),
    pytest.param({"accounts": ["a2", "a9"]}, None, id="any one of the accounts"),
    pytest.param({"accounts": ["a9"]}, "missing_account", id="an account of somebody else"),
    pytest.param({"roles": ["staff"], "accounts": ["a9"]}, "missing_account", id="every kind of demand"),
    pytest.param({"roles": ["Staff"]}, "missing_role", id="case makes a difference"),
]


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(("demand", "reason"), DEMANDS)
async def test_a_rule_demands(
    start: Start, gateway: str, demand: dict[str, object], reason: str | None
) -> None:
    async with start({"rules": [demand]}) as sidecar:
        await sidecar.set_role("staff", "posts:write")
        alice = await sidecar.add_user(
            roles=("staff",), accounts=(Account("a1", "One"), Account("a2", "Two"))
        )
        answer = await sidecar.check(gateway, [await sidecar.session(alice)])
        assert answer.status == (403 if reason else 200)
        assert answer.all("X-Auth-Reason") == ([reason] if reason else [])


async def test_rules_select_by_host_path_method_and_network_together(start: Start) -> None:
    rule = {
        "hosts": ["app.example.com"],
        "paths": ["/x/**"],
        "methods": ["POST"],
        "networks": ["10.0.0.0/8"],
        "access": "public",
    }
    async with start({"rules": [rule]}) as sidecar:
        inside: list[Line] = [(b"x-forwarded-for", b"10.1.2.3")]
        good: Original = {"host": b"app.example.com", "uri": b"/x/y", "method": b"POST"}
        assert (await sidecar.check("nginx", inside, **good)).status == 200
        assert (await sidecar.check("nginx", [], **good)).reason == "no_rule"
        wrongs: list[Original] = [{"host": b"b.example.com"}, {"uri": b"/y"}, {"method": b"GET"}]
        for wrong in wrongs:
            assert (await sidecar.check("nginx", inside, **(good | wrong))).reason == "no_rule"


async def test_a_rule_may_have_a_sign_in_page_of_its_own(start: Start) -> None:
    rules = [{"login_url": "https://sso.example.com/in?back={rd}"}]
    async with start({"rules": rules, "login": {"allowed_redirects": ["app.example.com"]}}) as sidecar:
        answer = await sidecar.check("traefik", [(b"accept", b"text/html")], uri=b"/x")
        assert answer.one("Location") == "https://sso.example.com/in?back=https%3A%2F%2Fapp.example.com%2Fx"


# --- expiry --------------------------------------------------------------------------------------


async def test_a_session_in_use_slides_until_its_lifetime_is_over(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    for _ in range(12 * 60 // 50):
        sidecar.clock.advance(50 * 60)
        assert (await sidecar.check("nginx", [session])).status == 200
    sidecar.clock.advance(21 * 60)
    answer = await sidecar.check("nginx", [session])
    assert (answer.status, answer.reason) == (401, "session_expired")


@pytest.mark.parametrize("asked_before", [True, False], ids=["remembered", "not remembered"])
async def test_a_session_that_is_not_used_expires(sidecar: Running, asked_before: bool) -> None:
    session = await sidecar.session(await sidecar.add_user())
    if asked_before:
        assert (await sidecar.check("nginx", [session])).status == 200
    sidecar.clock.advance(3600)
    assert (await sidecar.check("nginx", [session])).reason == "session_expired"


async def test_at_most_one_refreshed_cookie_in_an_interval(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    assert not (await sidecar.check("nginx", [session])).all("Set-Cookie")
    sidecar.clock.advance(60)
    answers = await asyncio.gather(*(sidecar.check("nginx", [session]) for _ in range(20)))
    cookies = [cookie for answer in answers for cookie in answer.all("Set-Cookie")]
    assert cookies == [f"{session[1].decode()}; Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax"]
    sidecar.clock.advance(59)
    assert not (await sidecar.check("nginx", [session])).all("Set-Cookie")
    sidecar.clock.advance(1)
    assert (await sidecar.check("nginx", [session])).all("Set-Cookie")


async def test_a_second_process_sees_the_use_and_writes_none_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as first, running(tmp_path) as second:
        session = await first.session(await first.add_user())
        assert (await second.check("nginx", [session])).status == 200
        for each in (first, second):
            each.clock.advance(60)
        assert (await first.check("nginx", [session])).all("Set-Cookie")
        assert not (await second.check("nginx", [session])).all("Set-Cookie")


async def test_a_refreshed_cookie_never_promises_more_than_the_session_has(start: Start) -> None:
    async with start({"session": {"lifetime": "30m"}}) as sidecar:
        session = await sidecar.session(await sidecar.add_user())
        sidecar.clock.advance(20 * 60)
        (cookie,) = (await sidecar.check("nginx", [session])).all("Set-Cookie")
        assert "; Max-Age=600;" in cookie


async def test_a_session_that_its_token_extends_keeps_its_cookie_too(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    begun = await sidecar.parts.sessions.begin(alice)
    cookie = (b"cookie", sidecar.cookie_name + b"=" + begun.secret.encode())
    token = (await sidecar.parts.sessions.token(begun.session, alice)).text.encode()
    refreshed = []
    for _ in range(3):
        sidecar.clock.advance(60)
        assert not (await sidecar.check("nginx", [bearer(token)])).all("Set-Cookie")
        refreshed += [(await sidecar.check("nginx", [cookie])).all("Set-Cookie") for _ in range(2)]
    assert [len(cookies) for cookies in refreshed] == [1, 0] * 3


async def test_a_bearer_refreshes_no_cookie(sidecar: Running) -> None:
    line = bearer(await sidecar.token(await sidecar.add_user()))
    sidecar.clock.advance(120)
    answer = await sidecar.check("nginx", [line])
    assert (answer.status, answer.all("Set-Cookie")) == (200, [])


async def test_a_token_ends_with_its_session_or_before(sidecar: Running) -> None:
    line = bearer(await sidecar.token(await sidecar.add_user()))
    for minutes, status in [(0, 200), (59, 200), (1, 401)]:
        sidecar.clock.advance(minutes * 60)
        assert (await sidecar.check("nginx", [line])).status == status


async def test_an_api_key_expires(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key = await sidecar.api_key(alice, expires_at=sidecar.clock.now() + 100)
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).status == 200
    sidecar.clock.advance(100)
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).reason == "key_expired"


async def test_the_first_use_in_an_app_is_written_at_once(start: Start) -> None:
    async with start({"rules": [{"paths": ["/b"], "app": "b"}, {"app": "a"}]}) as sidecar:
        alice = await sidecar.add_user()
        session = await sidecar.session(alice)
        for uri, apps in [(b"/", {"a"}), (b"/", {"a"}), (b"/b", {"a", "b"})]:
            assert (await sidecar.check("nginx", [session], uri=uri)).status == 200
            (stored,) = await sidecar.store.sessions.list(alice.id)
            assert stored.apps == apps


class _Held:
    """A store's sessions, whose note of a use waits until it is let go."""

    def __init__(self, sessions: SessionStore) -> None:
        self._touch = sessions.touch
        self.has_begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def touch(self, *args: Any, **kwargs: Any) -> bool:
        self.has_begun.set()
        await self.goes_on.wait()
        return await self._touch(*args, **kwargs)


async def test_a_cookie_that_a_tokens_use_is_about_to_owe_is_not_forgotten(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await sidecar.add_user()
    begun = await sidecar.parts.sessions.begin(alice)
    cookie = (b"cookie", sidecar.cookie_name + b"=" + begun.secret.encode())
    token = bearer((await sidecar.parts.sessions.token(begun.session, alice)).text)
    for line in (cookie, token):
        assert (await sidecar.check("nginx", [line])).all("Set-Cookie") == []
    sidecar.clock.advance(60)
    held = _Held(sidecar.store.sessions)
    monkeypatch.setattr(sidecar.store.sessions, "touch", held.touch)
    extending = asyncio.create_task(sidecar.check("nginx", [token]))
    await held.has_begun.wait()
    for _ in range(3):
        assert (await sidecar.check("nginx", [cookie])).all("Set-Cookie") == []
    held.goes_on.set()
    assert (await extending).status == 200
    assert len((await sidecar.check("nginx", [cookie])).all("Set-Cookie")) == 1


# --- revocation ----------------------------------------------------------------------------------


async def test_what_concerns_one_user_leaves_the_others_remembered(sidecar: Running) -> None:
    alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
    session = await sidecar.session(alice)
    await sidecar.check("nginx", [session])
    await sidecar.store.sessions.revoke_user(bob.id)
    sidecar.clock.advance(1)
    await sidecar.check("nginx", [session])
    assert 'sidecar_cache_requests_total{cache="identity",result="hit"} 1.0' in await sidecar.metrics()


async def test_the_memory_is_bounded_and_what_it_drops_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MOST_IDENTITIES", 2)
    monkeypatch.setattr(caching, "MOST_USERS", 1)
    async with running(tmp_path, {"server": {"http": "plain"}}) as sidecar:
        alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
        sessions = [await sidecar.session(user) for user in (alice, bob, alice, bob)]
        for _ in range(2):
            for session in sessions:
                assert (await sidecar.check("nginx", [session])).status == 200
        text = await sidecar.metrics()
    for line in (
        'sidecar_cache_entries{cache="identity"} 2.0',
        'sidecar_cache_entries{cache="user"} 1.0',
        'sidecar_cache_evictions_total{cache="identity"} 6.0',
        'sidecar_cache_evictions_total{cache="user"} 7.0',
    ):
        assert line in text


async def test_the_hash_of_a_basic_password_is_not_computed_at_every_check(start: Start) -> None:
    async with start({"authenticators": {"basic": {"enabled": True}}}) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        before = CHEAP.computed
        for _ in range(5):
            assert (await sidecar.check("nginx", [BASIC])).status == 200
        assert CHEAP.computed == before + 1
        sidecar.clock.advance(60)
        assert (await sidecar.check("nginx", [BASIC])).status == 200
        assert CHEAP.computed == before + 2
        await sidecar.store.users.set_password_hash(alice.id, CHEAP.hash("another one"), now=0.0, by="test")
        sidecar.clock.advance(1)
        assert (await sidecar.check("nginx", [BASIC])).reason == "wrong_password"


# --- faults --------------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_read_is_an_outage_after_a_second_and_no_refusal(
    sidecar: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await sidecar.session(await sidecar.add_user())
    assert (await sidecar.check("nginx", [session])).status == 200
    await sidecar.store.close()
    sidecar.clock.advance(LOOK_EVERY)
    assert (await sidecar.check("nginx", [session])).status == 200
    sidecar.clock.advance(1)
    for gateway in GATEWAYS:
        answer = await sidecar.check(gateway, [session])
        assert (answer.status, answer.reason) == (503, "store_unavailable")
        assert not answer.all("Set-Cookie")
    assert (await sidecar.ask("GET", "/readyz", listener="admin")).status == 503
    assert (await sidecar.ask("GET", "/healthz", listener="admin")).status == 200
    assert capsys.readouterr().out.count("store_not_readable") == 1


async def test_the_end_of_an_outage_is_said_too(
    sidecar: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await sidecar.session(await sidecar.add_user())
    file, aside = tmp_path / "sidecar.db", tmp_path / "aside"
    statuses = []
    for source, target in [(file, file), (file, aside), (aside, file)]:
        source.rename(target)
        sidecar.clock.advance(2)
        statuses.append((await sidecar.check("nginx", [session])).status)
    assert statuses == [200, 503, 200]
    said = capsys.readouterr().out
    assert said.index("store_not_readable") < said.index("store_readable_again")


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_in_an_outage_nobody_is_told_to_sign_in(sidecar: Running, gateway: str) -> None:
    await sidecar.store.close()
    sidecar.clock.advance(1)
    for lines in ([], BROWSER, [(b"authorization", b"Bearer junk")], [(b"cookie", b"__Host-sidecar=x")]):
        answer = await sidecar.check(gateway, lines)
        assert (answer.status, answer.all("Location"), answer.all("X-Auth-Login-URL")) == (503, [], [])


async def test_an_outage_leaves_public_and_deny_rules_alone(start: Start) -> None:
    rules = [{"paths": ["/public"], "access": "public"}, {"access": "deny"}]
    async with start({"rules": rules}) as sidecar:
        session = await sidecar.session(await sidecar.add_user())
        await sidecar.store.close()
        sidecar.clock.advance(2)
        public = await sidecar.check("nginx", [session], uri=b"/public")
        assert (public.status, public.one("X-Auth-User")) == (200, "")
        assert (await sidecar.check("nginx", [session])).reason == "rule_denies"


async def test_a_use_that_cannot_be_written_refuses_nobody(start: Start, tmp_path: Path) -> None:
    async with start({"rules": [{"app": "shop"}]}) as sidecar:
        alice = await sidecar.add_user()
        session = await sidecar.session(alice)
        assert (await sidecar.check("nginx", [session])).status == 200
        with locked(tmp_path / "sidecar.db"):
            for _ in range(3):
                sidecar.clock.advance(55 * 60)
                answer = await sidecar.check("nginx", [session])
                assert answer.status == 200
                assert "; Max-Age=3600;" in answer.one("Set-Cookie")
        # Nothing is remembered any more but the use itself, which the store still knows nothing of.
        await sidecar.set_role("unrelated")
        sidecar.clock.advance(1)
        assert (await sidecar.check("nginx", [session])).status == 200
        sidecar.clock.advance(60)
        assert (await sidecar.check("nginx", [session])).all("Set-Cookie")
        (stored,) = await sidecar.store.sessions.list(alice.id)
        assert stored.last_used_at == sidecar.clock.now()


async def test_a_first_use_in_an_app_that_could_not_be_written_is_written_later(
    start: Start, tmp_path: Path
) -> None:
    async with start({"rules": [{"app": "shop"}]}) as sidecar:
        alice = await sidecar.add_user()
        session = await sidecar.session(alice)
        with locked(tmp_path / "sidecar.db"):
            assert (await sidecar.check("nginx", [session])).status == 200
        assert (await sidecar.check("nginx", [session])).status == 200
        (stored,) = await sidecar.store.sessions.list(alice.id)
        assert stored.apps == set()
        sidecar.clock.advance(60)
        assert (await sidecar.check("nginx", [session])).status == 200
        (stored,) = await sidecar.store.sessions.list(alice.id)
        assert stored.apps == {"shop"}


async def test_an_api_key_has_no_apps_and_its_use_is_written_once_in_an_interval(start: Start) -> None:
    async with start({"rules": [{"app": "shop"}]}) as sidecar:
        alice = await sidecar.add_user()
        key = (b"x-api-key", await sidecar.api_key(alice))
        for number in range(3):
            assert (await sidecar.check("nginx", [key])).status == 200
            await sidecar.set_role(f"unrelated-{number}")  # after which everything is looked up again
            sidecar.clock.advance(1)
        assert written("api_keys.touch") + "1.0" in await sidecar.metrics()


def written(operation: str) -> str:
    return f'sidecar_store_operations_total{{backend="sqlite",operation="{operation}",result="ok"}} '


async def test_a_hash_that_cannot_be_renewed_refuses_nobody(start: Start, tmp_path: Path) -> None:
    async with start({"authenticators": {"basic": {"enabled": True}}}) as sidecar:
        alice = await sidecar.add_user()
        old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
        await sidecar.store.users.set_password_hash(alice.id, old, now=0.0, by="test")
        with locked(tmp_path / "sidecar.db"):
            assert (await sidecar.check("nginx", [BASIC])).status == 200


async def test_concurrent_checks_of_one_password_hash_it_once(start: Start) -> None:
    async with start({"authenticators": {"basic": {"enabled": True}}}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        before = CHEAP.computed
        answers = await asyncio.gather(*(sidecar.check("nginx", [BASIC]) for _ in range(60)))
        assert {answer.status for answer in answers} == {200}
        assert CHEAP.computed == before + 1


async def test_who_knows_of_a_change_does_not_join_who_does_not(tmp_path: Path) -> None:
    hasher = WaitingHasher()
    async with running(tmp_path, {"authenticators": {"basic": {"enabled": True}}}, hasher) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        first = asyncio.create_task(sidecar.check("nginx", [BASIC]))
        assert await asyncio.to_thread(hasher.has_begun.wait, 30)
        await sidecar.store.users.change(
            alice.id, UserChange(disabled=True), now=sidecar.clock.now(), by="test"
        )
        sidecar.clock.advance(1)
        second = asyncio.create_task(sidecar.check("nginx", [BASIC]))
        await (await sidecar.served()).has_begun(2)
        hasher.go_on.set()
        assert [(await each).status for each in (first, second)] == [401, 401]
        assert hasher.computed == 2


async def test_one_who_goes_away_stops_no_check_of_others(tmp_path: Path) -> None:
    hasher = WaitingHasher()
    async with running(tmp_path, {"authenticators": {"basic": {"enabled": True}}}, hasher) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        first = asyncio.create_task(sidecar.check("nginx", [BASIC]))
        assert await asyncio.to_thread(hasher.has_begun.wait, 30)
        second = asyncio.create_task(sidecar.check("nginx", [BASIC]))
        await (await sidecar.served()).has_begun(2)
        first.cancel()
        hasher.go_on.set()
        assert (await second).status == 200
        assert hasher.computed == 1


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
def test_a_jump_of_the_clock_revives_nothing(jump: int) -> None:
    wall, ticks = [1_000_000.0], [0.0]
    clock = SystemClock(lambda: wall[0], lambda: ticks[0])
    seen = [clock.now()]
    for step_wall, step_ticks in [(10, 10), (jump, 0), (10, 10), (-jump, 0), (10, 10)]:
        wall[0] += step_wall
        ticks[0] += step_ticks
        seen.append(clock.now())
    assert seen == sorted(seen)
    assert seen[-1] - 1_000_030.0 <= 3600


async def test_the_purge_deletes_what_has_expired_and_keeps_what_is_in_use(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    await sidecar.session(alice)
    sidecar.clock.advance(3 * 3600)
    kept = await sidecar.session(alice)
    await sidecar.application.purge()
    assert len(await sidecar.store.sessions.list()) == 1
    assert (await sidecar.check("nginx", [kept])).status == 200


async def test_a_fault_of_our_own_is_an_outage_and_never_a_500(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar.clock, "now", broken)
    answer = await sidecar.check("nginx", [(b"cookie", b"__Host-sidecar=x")])
    assert (answer.status, answer.reason) == (503, "internal_error")


# --- what the operator sees ----------------------------------------------------------------------


async def test_decisions_are_counted_by_what_an_operator_asks(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    await sidecar.check("nginx", [session])
    await sidecar.check("traefik")
    await sidecar.check("caddy", peer="127.0.0.2")
    await sidecar.ask("GET", "/login")
    await sidecar.ask("GET", "/a-path-that-a-client-chose")
    text = await sidecar.metrics()
    decision = 'sidecar_decisions_total{{authenticator="{}",gateway="{}",outcome="{}",reason="{}"}} 1.0'
    for line in [
        decision.format("session", "nginx", "allow", "authenticated"),
        decision.format("", "traefik", "challenge", "no_credential"),
        decision.format("", "caddy", "deny", "untrusted_proxy"),
        'sidecar_forwarded_rejected_total{reason="untrusted_proxy"} 1.0',
        'sidecar_http_requests_total{code="200",method="GET",route="/check/nginx"} 1.0',
        'sidecar_http_requests_total{code="200",method="GET",route="/login"} 1.0',
        'sidecar_http_requests_total{code="404",method="GET",route="none"} 1.0',
        "sidecar_requests_in_flight 0.0",
        'sidecar_cache_entries{cache="identity"} 1.0',
        "sidecar_config_last_reload_successful 1.0",
    ]:
        assert line in text
    assert "a-path-that-a-client-chose" not in text


async def test_the_log_says_what_is_wrong_with_a_request_and_not_its_query(
    start: Start, log: io.StringIO
) -> None:
    async with start({}) as sidecar:
        await sidecar.check("nginx", [], uri=b"/a;b?secret")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [(line["reason"], line["why"]) for line in lines if line["event"] == "check"]
    assert told == [("ambiguous_path", "; is in the path")]
    assert "secret" not in log.getvalue()
