"""G. Caches and concurrency: what is remembered of one is never used for another, nor for longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sidecar import caching
from sidecar.answers import Answers
from sidecar.credentials import id_of_secret
from sidecar.records import ApiKey, App, UserChange
from tests.conftest import Start
from tests.hostile import Exchange, Hostile, hostile
from tests.issuer import AUDIENCE, ISSUER, NOW, SECRET, claims, token
from tests.running import Line, Running, bearer, question, running

HS256 = {"alg": "HS256"}
ISSUED = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "algorithms": "HS256", "secret": SECRET}

Ending = Callable[[Running, int], Awaitable[None]]


class Introspection:
    """An endpoint that knows the tokens that begin with "good", each as a user of the same name."""

    def __init__(self, server: Hostile) -> None:
        self.asked: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._settings = {"url": server.url("/introspect"), "client_id": "me", "client_secret": "s"}
        server.parts["/introspect"] = self._introspect

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Tables that have it for an authenticator."""
        introspection = {"type": "introspection", **self._settings, **changes}
        return {"authenticators": {"theirs": introspection}}

    async def _introspect(self, exchange: Exchange) -> None:
        (presented,) = parse_qs(exchange.request.body.decode())["token"]
        self.asked.append(presented)
        await self.goes_on.wait()
        active = {"active": presented.startswith("good"), "sub": presented, "username": presented}
        await exchange.answer(json.dumps(active).encode(), "Content-Type: application/json")


# --- for what it is good -------------------------------------------------------------------------

RULES = [
    {"paths": ["/admin"], "roles": ["admin"]},
    {"paths": ["/keys"], "authenticators": ["api_key"]},
    {"paths": ["/write"], "scopes": ["write"]},
    {"paths": ["/other-audience"], "authenticators": ["other_audience"]},
    {"paths": ["/other-issuer"], "authenticators": ["other_issuer"]},
    {"hosts": ["app.example.com"]},
]
ISSUERS = {
    "idp": ISSUED,
    "other_audience": {**ISSUED, "audience": "other"},
    "other_issuer": {**ISSUED, "issuer": "https://other.example.com"},
}


async def their_token(_: Running) -> Line:
    return bearer(token(HS256, claims()))


async def own_token(sidecar: Running) -> Line:
    return bearer(await sidecar.token(await sidecar.add_user()))


async def session(sidecar: Running) -> Line:
    return await sidecar.session(await sidecar.add_user())


async def api_key(sidecar: Running) -> Line:
    return (b"x-api-key", await sidecar.api_key(await sidecar.add_user(), scopes=("read",)))


@pytest.mark.parametrize("credential", [their_token, own_token, session, api_key])
async def test_g82_what_is_good_for_one_rule_is_judged_again_by_another(
    start: Start, credential: Callable[[Running], Awaitable[Line]]
) -> None:
    async with start({"rules": RULES, "authenticators": ISSUERS}) as sidecar:
        line = await credential(sidecar)
        is_key = line[0] == b"x-api-key"
        for _ in range(2):
            for uri, host, status in [
                (b"/", b"app.example.com", 200),
                (b"/admin", b"app.example.com", 403),
                (b"/keys", b"app.example.com", 200 if is_key else 401),
                (b"/write", b"app.example.com", 403),
                (b"/other-audience", b"app.example.com", 401),
                (b"/other-issuer", b"app.example.com", 401),
                (b"/", b"other.example.com", 403),
            ]:
                answer = await sidecar.check("nginx", [line], uri=uri, host=host)
                assert answer.status == status, (uri, host)


# --- for how long --------------------------------------------------------------------------------


async def test_g83_nothing_remembered_outlives_the_token(start: Start) -> None:
    async with start({"authenticators": {"idp": ISSUED}}) as sidecar:
        line = bearer(token(HS256, claims(exp=NOW + 100)))
        assert (await sidecar.check("nginx", [line])).status == 200
        sidecar.clock.advance(99.75)
        assert (await sidecar.check("nginx", [line])).status == 200
        sidecar.clock.advance(0.25)
        assert (await sidecar.check("nginx", [line])).status == 401


async def revoke_session(sidecar: Running, user: int) -> None:
    await sidecar.store.sessions.revoke_user(user)


async def revoke_everything(sidecar: Running, _user: int) -> None:
    await sidecar.store.sessions.revoke_all()


async def disable(sidecar: Running, user: int) -> None:
    await sidecar.store.users.change(user, UserChange(disabled=True), now=sidecar.clock.now(), by="test")


async def remove(sidecar: Running, user: int) -> None:
    await sidecar.store.users.remove(user)


async def take_role(sidecar: Running, user: int) -> None:
    await sidecar.store.users.change(user, UserChange(roles=()), now=sidecar.clock.now(), by="test")


async def empty_role(sidecar: Running, _user: int) -> None:
    await sidecar.set_role("staff")


async def disable_app(sidecar: Running, _user: int) -> None:
    await sidecar.store.apps.set_disabled("shop", disabled=True)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (revoke_session, 401),
        (revoke_everything, 401),
        (disable, 401),
        (remove, 401),
        (take_role, 403),
        (empty_role, 403),
        (disable_app, 403),
    ],
)
@pytest.mark.parametrize("where", ["this process", "another process"])
async def test_g83_a_change_is_obeyed_within_a_second(
    tmp_path: Path, change: Ending, status: int, where: str
) -> None:
    rules = {"rules": [{"roles": ["staff"], "permissions": ["enter"], "app": "shop"}]}
    async with running(tmp_path, rules) as asked, running(tmp_path, rules) as other:
        await asked.store.apps.add(App("shop", "", disabled=False, created_at=0.0))
        await asked.set_role("staff", "enter")
        alice = await asked.add_user(roles=("staff",))
        session = await asked.session(alice)
        assert (await asked.check("nginx", [session])).status == 200
        await change(asked if where == "this process" else other, alice.id)
        asked.clock.advance(1)
        assert (await asked.check("nginx", [session])).status == status


async def test_g83_a_revoked_key_is_refused(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key = await sidecar.api_key(alice)
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).status == 200
    (stored,) = await sidecar.store.api_keys.list(alice.id)
    await sidecar.store.api_keys.revoke([stored.id])
    sidecar.clock.advance(1)
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).reason == "unknown_key"
    assert 'sidecar_cache_entries{cache="identity"} 0.0' in await sidecar.metrics()


@pytest.mark.parametrize("asked_before", [True, False], ids=["remembered", "not remembered"])
@pytest.mark.parametrize("end", [disable, remove])
async def test_g83_a_key_of_a_user_who_is_gone_is_refused(
    sidecar: Running, end: Ending, asked_before: bool
) -> None:
    alice = await sidecar.add_user()
    key = (b"x-api-key", await sidecar.api_key(alice))
    if asked_before:
        assert (await sidecar.check("nginx", [key])).status == 200
    await end(sidecar, alice.id)
    sidecar.clock.advance(1)
    assert (await sidecar.check("nginx", [key])).status == 401


# --- what is not known ---------------------------------------------------------------------------


async def test_g84_a_key_that_is_made_after_a_refusal_is_good_at_once(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key = b"sk_made-up-in-advance"
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).status == 401
    await sidecar.store.api_keys.add(ApiKey(id_of_secret(key), alice.id, "n", (), 0.0))
    assert (await sidecar.check("nginx", [(b"x-api-key", key)])).status == 200


async def test_g84_a_token_that_begins_after_a_refusal_works_when_the_negative_cache_is_over(
    start: Start,
) -> None:
    async with hostile() as server:
        theirs = Introspection(server)
        async with start(theirs.settings(negative_cache="2s")) as sidecar:
            assert (await sidecar.check("nginx", [bearer("later")])).status == 401
            known = {"active": True, "sub": "later"}
            server.parts["/introspect"] = lambda exchange: exchange.answer(json.dumps(known).encode())
            assert (await sidecar.check("nginx", [bearer("later")])).status == 401
            sidecar.clock.advance(2)
            assert (await sidecar.check("nginx", [bearer("later")])).status == 200


async def test_g84_a_flood_of_bad_credentials_drops_no_good_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MOST_IDENTITIES", 4)
    few = {**(Answers.__init__.__kwdefaults__ or {}), "most_entries": 4}
    monkeypatch.setattr(Answers.__init__, "__kwdefaults__", few)
    async with hostile() as server:
        theirs = Introspection(server)
        async with start(theirs.settings()) as sidecar:
            own = await session(sidecar)
            valid = [own, bearer("good-1"), bearer("good-2")]
            for line in valid:
                assert (await sidecar.check("nginx", [line])).status == 200
            before = 'sidecar_cache_requests_total{cache="identity",result="hit"} '
            for number in range(100):
                for line in (bearer(f"bad-{number}"), (b"x-api-key", b"sk_bad-%d" % number)):
                    assert (await sidecar.check("nginx", [line])).status == 401
            for line in valid:
                assert (await sidecar.check("nginx", [line], uri=b"/other")).status == 200
            assert [each for each in theirs.asked if each.startswith("good")] == ["good-1", "good-2"]
            assert before + "1.0" in await sidecar.metrics()


@pytest.mark.parametrize("fault", ["/status?500", "/status?503", "/garbage", "/reset", "/silent"])
async def test_g85_a_fault_of_who_is_asked_is_no_refusal_and_is_not_remembered(
    start: Start, fault: str
) -> None:
    async with hostile() as server:
        theirs = Introspection(server)
        good = server.parts["/introspect"]
        target, _, status = fault.partition("?")

        async def failing(exchange: Exchange) -> None:
            if status:
                await exchange.answer(b"", status=f"{status} -")
            else:
                await server.parts[target](exchange)

        server.parts["/introspect"] = failing
        async with start(theirs.settings(timeout="100ms")) as sidecar:
            answer = await sidecar.check("nginx", [bearer("good")])
            assert (answer.status, answer.reason) == (503, "upstream_unavailable")
            assert not answer.all("Set-Cookie")
            server.parts["/introspect"] = good
            assert (await sidecar.check("nginx", [bearer("good")])).status == 200


# --- many at once --------------------------------------------------------------------------------


async def test_g86_a_thousand_who_leave_in_the_middle_give_nobody_anothers_identity(start: Start) -> None:
    async with hostile() as server:
        theirs = Introspection(server)
        async with start(theirs.settings(timeout="30s")) as sidecar:
            there = await sidecar.served()
            for batch in range(20):
                theirs.goes_on.clear()
                names = [f"good-{batch}-{number}" for number in range(50)]
                async with AsyncExitStack() as leaving:
                    for name in names:
                        connection = await leaving.enter_async_context(sidecar.connection())
                        await connection.send(question("nginx", [bearer(name)]).as_bytes())
                    await there.has_begun(len(names))
                staying = [asyncio.create_task(sidecar.check("nginx", [bearer(name)])) for name in names]
                theirs.goes_on.set()
                told = [(await each).one("X-Auth-User") for each in staying]
                assert told == names
                await there.has_done_everything()
            again = [await sidecar.check("nginx", [bearer(f"good-{batch}-7")]) for batch in range(20)]
            assert [each.one("X-Auth-User") for each in again] == [f"good-{batch}-7" for batch in range(20)]
