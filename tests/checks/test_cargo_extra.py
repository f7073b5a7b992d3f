"""CargoExtra: the vendor's own OpenAPI document judges every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from sidecar.keys import SESSION_TOKEN
from tests.checks.products import CARGO_EXTRA_CHECK as PATH
from tests.checks.products import written_as_json
from tests.conftest import Start
from tests.running import Answer, Line, Running, broken

DOCUMENT = json.loads(Path(__file__).with_name("cargo_extra.openapi.json").read_text())


def lines(*texts: str, **values: bytes) -> list[Line]:
    """Header lines as they are written, with these values in them."""
    filled = (text.format(**{name: value.decode() for name, value in values.items()}) for text in texts)
    pairs = (text.partition(": ") for text in filled)
    return [(name.lower().encode(), value.encode()) for name, _, value in pairs]


async def ask(sidecar: Running, *texts: str, **values: bytes) -> Answer:
    return await sidecar.ask("GET", PATH, lines(*texts, **values))


def valid(answer: Answer) -> Any:
    """The body, which the vendor's schema for its status allows."""
    written_as_json(answer)
    responses = DOCUMENT["paths"][PATH]["get"]["responses"]
    reference = responses[str(answer.status)]["content"]["application/json"]["schema"]["$ref"]
    schema = DOCUMENT["components"]["schemas"][reference.removeprefix("#/components/schemas/")]
    OAS31Validator(schema).validate(answer.json)
    return answer.json


def refused(answer: Answer, status: int, message: str) -> None:
    assert (answer.status, valid(answer)) == (status, {"message": message})


async def claims(sidecar: Running, token: str) -> dict[str, Any]:
    return await sidecar.parts.keys.verify(token.encode(), SESSION_TOKEN)


# --- 200 -----------------------------------------------------------------------------------------


async def test_the_answer_has_the_five_keys_of_the_schema_and_the_named_members(sidecar: Running) -> None:
    alice = await sidecar.add_user(
        emails=("alice@example.com", "a@example.org"), roles=("admin", "staff"), full_name="Alice Ames"
    )
    answer = await ask(sidecar, "Authorization: Bearer {token}", token=await sidecar.token(alice))
    body, now = valid(answer), int(sidecar.clock.now())
    token = body["token"]
    assert answer.status == 200
    assert list(body.items()) == [
        ("key_0", alice.id),
        ("key_1", token),
        ("key_2", now),
        ("key_3", "Alice Ames"),
        ("key_4", True),
        ("token", token),
        ("userId", alice.id),
        ("name", "Alice Ames"),
        ("email", "alice@example.com"),
        ("username", "alice"),
        ("roles", ["admin", "staff"]),
        ("iat", now),
        ("exp", now + 3600),
    ]
    types = [type(body[name]) for name in ("key_0", "key_2", "key_4", "userId", "iat", "exp")]
    assert types == [int, int, bool, int, int, int]


async def test_who_has_nothing_but_a_user_name_is_called_by_it(sidecar: Running) -> None:
    token = await sidecar.token(await sidecar.add_user())
    body = valid(await ask(sidecar, "Authorization: Bearer {token}", token=token))
    named = [body[name] for name in ("key_3", "name", "username", "email", "roles")]
    assert named == ["alice", "alice", "alice", "", []]


async def test_the_request_of_the_vendors_examples_is_answered(sidecar: Running) -> None:
    token = await sidecar.token(await sidecar.add_user())
    sent = lines("Content-Type: application/json", "Authorization: Bearer {token}", token=token)
    assert valid(await sidecar.ask("GET", PATH, sent, b"{}"))["key_4"] is True
    assert (await sidecar.ask("GET", PATH, sent, b"no JSON at all")).status == 200
    assert (await sidecar.ask("HEAD", PATH, sent)).status == 200


# --- the refreshed token -------------------------------------------------------------------------


async def test_every_answer_has_a_new_token_of_the_same_session(sidecar: Running) -> None:
    alice = await sidecar.add_user(full_name="Alice Ames")
    begun = await sidecar.parts.sessions.begin(alice)
    first = (await sidecar.parts.sessions.token(begun.session, alice)).text
    tokens, now = [first], int(sidecar.clock.now())
    for _ in range(3):
        answer = await ask(sidecar, "Authorization: Bearer {token}", token=tokens[-1].encode())
        tokens.append(answer.json["token"])
    every = [await claims(sidecar, token) for token in tokens]
    assert len({each["jti"] for each in every}) == 4
    for each in every:
        assert {**each, "jti": ""} == {
            "iss": "http://127.0.0.1:9000",
            "sub": str(alice.id),
            "aud": "sidecar",
            "jti": "",
            "sid": begun.session.id,
            "userId": str(alice.id),
            "name": "Alice Ames",
            "iat": now,
            "exp": now + 3600,
        }


async def test_the_token_before_stays_valid_until_its_own_end(sidecar: Running) -> None:
    old = await sidecar.token(await sidecar.add_user())
    sidecar.clock.advance(1800)
    new = valid(await ask(sidecar, "Authorization: Bearer {old}", old=old))["token"].encode()
    for seconds, statuses in [(0, [200, 200]), (1799, [200, 200]), (1, [401, 200])]:
        sidecar.clock.advance(seconds)
        for name in (old, new):
            at_the_gateway = await sidecar.check("nginx", lines("Authorization: Bearer {name}", name=name))
            answer = await ask(sidecar, "Authorization: Bearer {name}", name=name)
            assert [answer.status, at_the_gateway.status] == [statuses[name is new]] * 2


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ({}, "Path=/; HttpOnly; Secure; SameSite=Lax"),
        ({"cookie_secure": False}, "Path=/; HttpOnly; SameSite=Lax"),
        ({"cookie_same_site": "strict"}, "Path=/; HttpOnly; Secure; SameSite=Strict"),
        ({"cookie_same_site": "none"}, "Path=/; HttpOnly; Secure; SameSite=None"),
        ({"cookie_domain": "example.com"}, "Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax"),
    ],
)
@pytest.mark.parametrize("presented", ["Authorization: Bearer {}", "Cookie: customerToken={}"])
async def test_the_refreshed_cookie_has_the_attributes_of_the_sessions(
    start: Start, settings: dict[str, object], attributes: str, presented: str
) -> None:
    async with start({"session": settings, "tokens": {"lifetime": "10m"}}) as sidecar:
        token = await sidecar.token(await sidecar.add_user())
        answer = await ask(sidecar, presented.replace("{}", "{token}"), token=token)
        assert answer.one("Set-Cookie") == f"customerToken={answer.json['token']}; Max-Age=600; {attributes}"


async def test_neither_token_nor_cookie_outlives_the_session(start: Start) -> None:
    async with start({"session": {"lifetime": "30m"}}) as sidecar:
        token = await sidecar.token(await sidecar.add_user())
        ends_at = int(sidecar.clock.now()) + 1800
        for passed, left in [(0, 1800), (1200, 600), (599, 1)]:
            sidecar.clock.advance(passed)
            answer = await ask(sidecar, "Authorization: Bearer {token}", token=token)
            body = valid(answer)
            assert (body["exp"], body["exp"] - body["iat"]) == (ends_at, left)
            assert f"; Max-Age={left};" in answer.one("Set-Cookie")
        sidecar.clock.advance(1)
        refused(await ask(sidecar, "Authorization: Bearer {t}", t=token), 401, "Unauthorized")


async def test_the_sessions_own_cookie_is_answered_with_both_cookies_when_it_is_due(sidecar: Running) -> None:
    value = await sidecar.secret(await sidecar.add_user())
    names = []
    for seconds in (0, 60, 0):
        sidecar.clock.advance(seconds)
        answer = await ask(sidecar, "Cookie: __Host-sidecar={value}", value=value)
        assert answer.cookies()["customerToken"] == valid(answer)["token"]
        names.append(sorted(answer.cookies()))
    assert names == [["customerToken"], ["__Host-sidecar", "customerToken"], ["customerToken"]]


async def test_an_api_key_is_its_own_token_and_sets_no_cookie(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    made_at = int(sidecar.clock.now())
    for expires_at, exp in [(None, 0), (made_at + 9000.0, made_at + 9000)]:
        key = await sidecar.api_key(alice, expires_at=expires_at)
        for presented in ("Authorization: Bearer {}", "Cookie: customerToken={}", "Cookie: userToken={}"):
            answer = await ask(sidecar, presented.replace("{}", "{key}"), key=key)
            body = valid(answer)
            assert [body["key_0"], body["key_1"], body["token"]] == [alice.id, key.decode(), key.decode()]
            assert [body["key_2"], body["iat"], body["exp"]] == [made_at, made_at, exp]
            assert not answer.all("Set-Cookie")
    sidecar.clock.advance(100)
    later = valid(await ask(sidecar, "Authorization: Bearer {key}", key=key))
    assert (later["token"], later["iat"]) == (key.decode(), made_at)


# --- which credential ----------------------------------------------------------------------------

ORDER = [
    "Authorization: Bearer {}",
    "Cookie: customerToken={}",
    "Cookie: userToken={}",
    "Cookie: __Host-sidecar={}",
]


@pytest.mark.parametrize(
    ("first", "second"), [(first, second) for n, first in enumerate(ORDER) for second in ORDER[n + 1 :]]
)
async def test_the_first_credential_counts_and_a_bad_one_never_falls_through(
    sidecar: Running, first: str, second: str
) -> None:
    alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
    token = await sidecar.token(alice)
    other = await sidecar.secret(bob) if "__Host" in second else await sidecar.token(bob)
    templates = first.replace("{}", "{first}"), second.replace("{}", "{second}")
    for texts in (templates, templates[::-1]):
        assert valid(await ask(sidecar, *texts, first=token, second=other))["username"] == "alice"
        refused(await ask(sidecar, *texts, first=b"junk", second=other), 401, "Unauthorized")
        empty = "Missing One or More Required Parameters"
        refused(await ask(sidecar, *texts, first=b"", second=other), 400, empty)
    assert valid(await ask(sidecar, templates[1], second=other))["username"] == "bob"


async def test_the_refreshed_token_opens_as_a_bearer_everywhere_and_as_this_cookie_only_here(
    sidecar: Running,
) -> None:
    alice = await sidecar.add_user()
    token = await sidecar.token(alice)
    fresh = (await ask(sidecar, "Cookie: customerToken={token}", token=token)).cookies()["customerToken"]
    bearer, *cookies = lines(
        "Authorization: Bearer {t}", "Cookie: customerToken={t}", "Cookie: userToken={t}", t=fresh.encode()
    )
    assert (await sidecar.check("nginx", [bearer])).status == 200
    for cookie in cookies:
        assert (await sidecar.ask("GET", PATH, [cookie])).status == 200
        assert (await sidecar.check("nginx", [cookie])).reason == "no_credential"
        assert (await sidecar.ask("GET", "/auth/session", [cookie])).status == 401
        assert (await sidecar.ask("GET", "/api/v1/status", [cookie])).status == 401
        assert (await sidecar.post_json("/api/v1/logout", {}, [cookie])).status == 401
        assert (await sidecar.post_json("/auth/validate-session", {"user": {}}, [cookie])).status == 401
        assert "Signed in" not in (await sidecar.ask("GET", "/login", [cookie])).text
    assert (await sidecar.check("nginx", [bearer])).status == 200


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "presented",
    [
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization: bearer  ",
        "Cookie: customerToken=",
        "Cookie: userToken=",
        "Cookie: a=b; customerToken= ; c=d",
        "Cookie: __Host-sidecar=",
    ],
)
async def test_a_credential_that_is_there_and_empty_is_a_missing_parameter(
    sidecar: Running, presented: str
) -> None:
    refused(await ask(sidecar, presented), 400, "Missing One or More Required Parameters")


@pytest.mark.parametrize(
    "presented",
    [
        pytest.param([], id="nothing"),
        pytest.param(["Authorization: Bearer garbage"], id="garbage"),
        pytest.param(["Authorization: Bearer a.b.c"], id="three parts of garbage"),
        pytest.param(["Authorization: Bearer {token}x"], id="a token and more"),
        pytest.param(["Authorization: Bearer {token} {token}"], id="two tokens on one line"),
        pytest.param(["Authorization: Bearer sk_unknown"], id="an unknown key"),
        pytest.param(["Authorization: Basic YWxpY2U6eA=="], id="another scheme"),
        pytest.param(["Authorization: {token}"], id="a token without a scheme"),
        pytest.param(["Authorization: Bearer {token}"] * 2, id="two Authorization lines"),
        pytest.param(["Authorization: Bearer {token}", "Authorization: Bearer"], id="one of two is empty"),
        pytest.param(["Cookie: customerToken={token}; customerToken=x"], id="two values of one cookie"),
        pytest.param(["Cookie: customerToken={token}", "Cookie: customerToken="], id="one value is empty"),
        pytest.param(["Cookie: userToken=x; userToken={token}"], id="two values of the other cookie"),
        pytest.param(["Cookie: customertoken={token}"], id="a cookie's name in another case"),
        pytest.param(["Cookie: customerToken={secret}"], id="a session's secret in the token's cookie"),
        pytest.param(["Cookie: __Host-sidecar={token}"], id="a token in the session's cookie"),
        pytest.param(["Cookie: VirolaUserSessionId={secret}"], id="another product's cookie"),
        pytest.param(["X-Api-Key: {key}"], id="a header that this product does not know"),
    ],
)
async def test_a_credential_that_is_missing_or_wrong_is_unauthorized(
    sidecar: Running, presented: list[str]
) -> None:
    alice = await sidecar.add_user()
    held = {
        "token": await sidecar.token(alice),
        "secret": await sidecar.secret(alice),
        "key": await sidecar.api_key(alice),
    }
    answer = await ask(sidecar, *presented, **held)
    refused(answer, 401, "Unauthorized")
    assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'


async def test_the_same_cookie_twice_with_one_value_is_one_credential(sidecar: Running) -> None:
    token = await sidecar.token(await sidecar.add_user())
    assert (await ask(sidecar, "Cookie: customerToken={t}; customerToken={t}", t=token)).status == 200


async def test_our_cookie_that_opens_nothing_any_more_is_removed_and_no_other(sidecar: Running) -> None:
    """It would hide a later sign-in elsewhere."""
    alice = await sidecar.add_user()
    held = {"ended": await sidecar.token(alice), "live": await sidecar.token(alice)}
    (session_id,) = {(await claims(sidecar, held["ended"].decode()))["sid"]}
    await sidecar.store.sessions.revoke([session_id])
    removed = ["customerToken=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"]
    for texts, status, cookies in [
        (["Cookie: customerToken={ended}"], 401, removed),
        (["Cookie: customerToken={ended}; userToken={live}"], 401, removed),
        (["Cookie: userToken={ended}"], 401, []),
        (["Authorization: Bearer {ended}", "Cookie: customerToken={live}"], 401, []),
        (["Cookie: customerToken="], 400, []),
    ]:
        answer = await ask(sidecar, *texts, **held)
        assert (answer.status, answer.all("Set-Cookie")) == (status, cookies)


async def test_what_is_refused_before_anybody_looks_has_the_vendors_form_too(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"traffic_guard": {"deny_user_agents": ["BadBot"]}, "limits": {"checks": "1/minute"}}
    async with start(tables) as sidecar:
        refused(await ask(sidecar, "User-Agent: BadBot/1.0"), 403, "Access denied")
        refused(await ask(sidecar), 401, "Unauthorized")
        refused(await ask(sidecar), 429, "Too many requests")
        with monkeypatch.context() as for_now:
            for_now.setattr(sidecar.clock, "now", broken)
            refused(await ask(sidecar), 500, "Unexpected Error")
