"""Virola: status, login and logout, with a session's id that opens nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sidecar.credentials import id_of_secret
from sidecar.records import User
from tests.checks.products import PASSWORD, written_as_json
from tests.checks.products import VIROLA_LOGIN as LOGIN
from tests.checks.products import VIROLA_LOGOUT as LOGOUT
from tests.checks.products import VIROLA_STATUS as STATUS
from tests.conftest import Start
from tests.running import Answer, Line, Running, bearer

WRONG_BEARER = "Wrong Bearer, please renew Web API Access Token"
WRONG_PASSWORD = "The username or password is invalid."
NO_SESSION = "The Authorization HTTP-header or VirolaUserSessionId cookie expected"

ATTRIBUTES = "Path=/; HttpOnly; Secure; SameSite=Lax"
VIROLA = "VirolaUserSessionId"
OURS = "__Host-sidecar"


def cookies(**values: str | bytes) -> Line:
    """A Cookie line of `virola` and `ours`, in this order."""
    names = {"virola": VIROLA, "ours": OURS}
    texts = {name: value if isinstance(value, str) else value.decode() for name, value in values.items()}
    return (b"cookie", "; ".join(f"{names[name]}={value}" for name, value in texts.items()).encode())


async def status(sidecar: Running, *lines: Line) -> Answer:
    return await sidecar.ask("GET", STATUS, lines)


async def login(sidecar: Running, name: str, password: str, *lines: Line) -> Answer:
    return await sidecar.post_json(LOGIN, {"userName": name, "password": password}, lines)


async def logout(sidecar: Running, *lines: Line) -> Answer:
    return await sidecar.post_json(LOGOUT, {}, lines)


def refused(answer: Answer, code: int, text: str) -> None:
    assert (answer.status, answer.json) == (code, {"errorText": text, "httpStatusCode": code})
    assert type(answer.json["httpStatusCode"]) is int
    written_as_json(answer)


def signed_in(answer: Answer, user: User) -> str:
    """The session's id in a good answer."""
    assert answer.status == 200
    assert list(answer.json) == ["httpStatusCode", "userId", "userSessionId"]
    assert (answer.json["httpStatusCode"], answer.json["userId"]) == (200, user.id)
    assert [type(each) for each in answer.json.values()] == [int, int, str]
    assert re.fullmatch(r"[0-9a-f]{32,}", answer.json["userSessionId"])
    written_as_json(answer)
    return str(answer.json["userSessionId"])


# --- status --------------------------------------------------------------------------------------


async def test_the_status_names_the_user_and_the_session(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    value = await sidecar.secret(alice)
    (stored,) = await sidecar.store.sessions.list(alice.id)
    answers = [
        await status(sidecar, cookies(virola=value)),
        await status(sidecar, cookies(ours=value)),
        await status(sidecar, cookies(virola=value, ours=value)),
    ]
    assert [signed_in(answer, alice) for answer in answers] == [stored.id] * 3
    assert not any(answer.all("Set-Cookie") for answer in answers)


async def test_a_bearer_and_an_api_key_have_a_status_too(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    token = await sidecar.token(alice)
    (stored,) = await sidecar.store.sessions.list(alice.id)
    assert signed_in(await status(sidecar, bearer(token)), alice) == stored.id
    key = await sidecar.api_key(alice)
    assert signed_in(await status(sidecar, bearer(key)), alice) == id_of_secret(key)


async def test_of_several_credentials_the_first_counts_and_a_bad_one_never_falls_through(
    sidecar: Running,
) -> None:
    alice, bob, carol = [await sidecar.add_user(name) for name in ("alice", "bob", "carol")]
    a, b, token = await sidecar.secret(alice), await sidecar.secret(bob), await sidecar.token(carol)
    for lines, user in [
        ([cookies(virola=a, ours=b), bearer(token)], alice),
        ([cookies(ours=b, virola=a), bearer(token)], alice),
        ([bearer(token), cookies(ours=b)], bob),
        ([bearer(token)], carol),
    ]:
        signed_in(await status(sidecar, *lines), user)
    for lines in (
        [cookies(virola="junk", ours=b), bearer(token)],
        [cookies(virola="", ours=b), bearer(token)],
        [(b"cookie", b"VirolaUserSessionId=x; VirolaUserSessionId=" + a), bearer(token)],
        [cookies(ours="junk"), bearer(token)],
        [cookies(ours=""), bearer(token)],
        [bearer(b"junk")],
        [bearer(b"")],
        [bearer(token), bearer(token)],
        [(b"x-api-key", await sidecar.api_key(alice))],
        [(b"cookie", b"customerToken=" + token)],
        [cookies(virola=token)],
        [cookies(virola=await sidecar.api_key(alice))],
        [],
    ):
        answer = await status(sidecar, *lines)
        refused(answer, 401, WRONG_BEARER)
        assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'


async def test_the_products_cookie_that_opens_nothing_any_more_is_removed(sidecar: Running) -> None:
    """It would hide a later sign-in elsewhere."""
    alice = await sidecar.add_user()
    live = await sidecar.secret(alice)
    for lines, removed in [
        ([cookies(virola="ended")], True),
        ([cookies(virola="ended", ours=live)], True),
        ([cookies(ours="ended")], False),
        ([bearer(b"ended")], False),
        ([], False),
    ]:
        for answer in (await status(sidecar, *lines), await logout(sidecar, *lines)):
            assert answer.status == 401
            assert answer.all("Set-Cookie") == ([f"{VIROLA}=; Max-Age=0; {ATTRIBUTES}"] if removed else [])
    assert (await sidecar.check("nginx", [cookies(ours=live)])).status == 200


# --- the session's id is no secret ---------------------------------------------------------------


async def test_who_knows_the_sessions_id_can_open_nothing_with_it(sidecar: Running) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    entered = await login(sidecar, "alice", PASSWORD)
    known = signed_in(entered, alice).encode()
    assert known.decode() not in entered.cookies().values()
    carriers: list[Line] = [
        cookies(virola=known),
        cookies(ours=known),
        (b"cookie", b"customerToken=" + known),
        (b"cookie", b"userToken=" + known),
        (b"cookie", b"sidecar=" + known),
        bearer(known),
        (b"authorization", known),
        (b"x-api-key", known),
    ]
    for line in carriers:
        answers = [
            await status(sidecar, line),
            await logout(sidecar, line),
            await sidecar.ask("GET", "/api/v1/user/check", [line]),
            await sidecar.ask("GET", "/auth/session", [line]),
            await sidecar.post_json("/auth/validate-session", {"user": {}}, [line]),
            await sidecar.check("nginx", [line]),
            await sidecar.check("traefik", [line]),
        ]
        assert [answer.status for answer in answers] == [401] * 7
        assert "Signed in" not in (await sidecar.ask("GET", "/login", [line])).text
    token = {"token": known.decode()}
    assert (await sidecar.post_json("/auth/validate-session", token)).status == 401
    pair = {"apiKey": known.decode(), "apiSecret": known.decode()}
    assert (await sidecar.post_json("/auth/login", pair)).status == 401
    assert signed_in(await status(sidecar, cookies(virola=entered.cookies()[VIROLA])), alice)


async def test_the_id_of_an_api_key_opens_nothing_either(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    known = signed_in(await status(sidecar, bearer(await sidecar.api_key(alice))), alice).encode()
    for line in (cookies(virola=known), cookies(ours=known), bearer(known), bearer(b"sk_" + known)):
        refused(await status(sidecar, line), 401, WRONG_BEARER)


# --- login ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "ours", "attributes"),
    [
        ({}, OURS, ATTRIBUTES),
        ({"cookie_secure": False}, "sidecar", "Path=/; HttpOnly; SameSite=Lax"),
        ({"cookie_same_site": "strict"}, OURS, "Path=/; HttpOnly; Secure; SameSite=Strict"),
        (
            {"cookie_domain": "example.com"},
            "sidecar",
            "Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax",
        ),
    ],
)
async def test_a_login_sets_both_cookies_with_one_secret(
    start: Start, settings: dict[str, object], ours: str, attributes: str
) -> None:
    async with start({"session": settings}) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        answer = await login(sidecar, "alice", PASSWORD)
        (stored,) = await sidecar.store.sessions.list(alice.id)
        assert signed_in(answer, alice) == stored.id
        value = answer.cookies()[VIROLA]
        assert id_of_secret(value.encode()) == stored.id
        assert answer.all("Set-Cookie") == [
            f"{ours}={value}; Max-Age=3600; {attributes}",
            f"{VIROLA}={value}; Max-Age=43200; {attributes}",
        ]
        assert value not in answer.text


@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@example.com"])
async def test_a_login_by_any_name_of_the_user(sidecar: Running, name: str) -> None:
    alice = await sidecar.add_user(emails=("alice@example.com",), password=PASSWORD)
    signed_in(await login(sidecar, name, PASSWORD), alice)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("nobody", PASSWORD),
        ("", ""),
        ("nopassword", ""),
        ("x" * 1000, PASSWORD),
        ("a\x00b", PASSWORD),
    ],
)
async def test_a_wrong_name_or_password_is_invalid(sidecar: Running, name: str, password: str) -> None:
    await sidecar.add_user(password=PASSWORD)
    await sidecar.add_user("nopassword")
    answer = await login(sidecar, name, password)
    refused(answer, 401, WRONG_PASSWORD)
    assert not answer.all("Set-Cookie")
    assert await sidecar.store.sessions.list() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"userName": "alice"},
        {"password": PASSWORD},
        {"username": "alice", "password": PASSWORD},
        {"user_name": "alice", "password": PASSWORD},
        {"userName": "alice", "password": None},
        {"userName": 5, "password": PASSWORD},
        {"userName": ["alice"], "password": PASSWORD},
    ],
)
async def test_a_body_that_is_no_login_is_a_bad_request(sidecar: Running, body: dict[str, Any]) -> None:
    await sidecar.add_user(password=PASSWORD)
    answer = await sidecar.post_json(LOGIN, body)
    refused(answer, 400, answer.json["errorText"])
    assert answer.json["errorText"].startswith("The body cannot be read: ")
    assert PASSWORD not in answer.text
    assert await sidecar.store.sessions.list() == []


async def test_a_login_replaces_every_session_that_the_browser_had(sidecar: Running) -> None:
    alice, bob = await sidecar.add_user(password=PASSWORD), await sidecar.add_user("bob")
    one, two, elsewhere = [await sidecar.secret(user) for user in (bob, alice, alice)]
    for line in (
        cookies(virola=one, ours=two),
        cookies(virola="ended", ours=two),
        cookies(virola=one, ours="ended"),
        cookies(virola="", ours=two),
    ):
        await login(sidecar, "alice", "wrong", line)
        assert signed_in(await status(sidecar, cookies(virola=elsewhere)), alice)
    assert [(await status(sidecar, cookies(virola=value))).status for value in (one, two)] == [200, 200]
    entered = await login(sidecar, "alice", PASSWORD, cookies(virola=one, ours=two))
    signed_in(entered, alice)
    live = [(await status(sidecar, cookies(virola=value))).status for value in (one, two, elsewhere)]
    assert live == [401, 401, 200]


@pytest.mark.parametrize(
    "held", [{"virola": "ended", "ours": "live"}, {"virola": "", "ours": "live"}, {"virola": "live"}]
)
async def test_a_session_in_either_cookie_is_replaced(sidecar: Running, held: dict[str, str]) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    live = (await sidecar.secret(alice)).decode()
    line = cookies(**{name: value.replace("live", live) for name, value in held.items()})
    signed_in(await login(sidecar, "alice", PASSWORD, line), alice)
    assert (await sidecar.check("nginx", [cookies(ours=live)])).status == 401
    assert len(await sidecar.store.sessions.list(alice.id)) == 1


async def test_one_session_in_both_cookies_is_ended_once(sidecar: Running) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    value = await sidecar.secret(alice)
    signed_in(await login(sidecar, "alice", PASSWORD, cookies(virola=value, ours=value)), alice)
    assert 'sidecar_sessions_revoked_total{reason="signed_out"} 1.0' in await sidecar.metrics()


# --- logout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["virola", "ours", "both", "bearer"])
async def test_a_logout_ends_the_session_and_removes_both_cookies(sidecar: Running, held: str) -> None:
    alice = await sidecar.add_user()
    begun = await sidecar.parts.sessions.begin(alice)
    token = (await sidecar.parts.sessions.token(begun.session, alice)).text.encode()
    line = {
        "virola": cookies(virola=begun.secret),
        "ours": cookies(ours=begun.secret),
        "both": cookies(ours=begun.secret, virola=begun.secret),
        "bearer": bearer(token),
    }[held]
    other = await sidecar.secret(alice)
    every = [cookies(virola=begun.secret), cookies(ours=begun.secret), bearer(token)]
    assert [(await status(sidecar, each)).status for each in every] == [200] * 3
    answer = await logout(sidecar, line)
    assert (answer.status, answer.json) == (200, {"httpStatusCode": 200})
    removed = [f"{name}=; Max-Age=0; {ATTRIBUTES}" for name in (OURS, VIROLA)]
    assert answer.all("Set-Cookie") == removed
    assert [(await status(sidecar, each)).status for each in every] == [401] * 3
    assert (await sidecar.check("nginx", [cookies(ours=begun.secret)])).status == 401
    refused(await logout(sidecar, line), 401, NO_SESSION)
    assert (await status(sidecar, cookies(virola=other))).status == 200


async def test_a_logout_without_a_session_says_what_it_expects(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    live = await sidecar.secret(alice)
    for lines in (
        [],
        [cookies(virola="junk")],
        [cookies(virola="")],
        [(b"cookie", b"VirolaUserSessionId=x; VirolaUserSessionId=" + live)],
        [cookies(virola="junk", ours=live)],
        [cookies(ours="junk")],
        [cookies(ours="")],
        [bearer(b"junk")],
        [bearer(b"")],
        [bearer(b"x"), bearer(b"x")],
    ):
        refused(await logout(sidecar, *lines), 401, NO_SESSION)
    assert (await status(sidecar, cookies(virola=live))).status == 200


async def test_an_api_key_has_no_session_to_log_out_of(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key = bearer(await sidecar.api_key(alice))
    live = await sidecar.secret(alice)
    refused(await logout(sidecar, key), 401, NO_SESSION)
    assert [(await status(sidecar, line)).status for line in (key, cookies(virola=live))] == [200, 200]


async def test_a_logout_is_any_json_object(sidecar: Running) -> None:
    session = cookies(virola=await sidecar.secret(await sidecar.add_user()))
    for method, body, code in [("POST", b"[]", 400), ("GET", b"{}", 405), ("HEAD", b"{}", 405)]:
        assert (await sidecar.ask(method, LOGOUT, [session], body)).status == code
        assert (await status(sidecar, session)).status == 200
    assert (await sidecar.ask("POST", LOGOUT, [session], b'{"any": "thing"}')).status == 200


async def test_an_outage_removes_no_cookie(sidecar: Running) -> None:
    session = cookies(virola=await sidecar.secret(await sidecar.add_user()))
    await sidecar.store.close()
    for answer in (await status(sidecar, session), await logout(sidecar, session)):
        refused(answer, 503, "Service Unavailable")
        assert answer.all("Set-Cookie") == []
