"""`POST /oauth2/introspect` (RFC 7662) and `GET /userinfo`."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sidecar.checks.oauth import OAuth
from sidecar.records import Account, User, UserChange
from tests.checks.products import LONGEST, REQUEST_ID, written_as_json
from tests.conftest import Start
from tests.issuer import AUDIENCE, ISSUER, Json, jwk, jwks, signer
from tests.issuer import claims as issued
from tests.issuer import token as made
from tests.running import Answer, Line, Running, bearer

PATH, USERINFO = "/oauth2/introspect", "/userinfo"
OURS = "http://127.0.0.1:9000"
FORM: Line = (b"content-type", b"application/x-www-form-urlencoded")
INACTIVE = {"active": False}
ASSERTION = {"token_type_hint": "assertion+jwt"}
BOTH = 'Basic realm="sidecar", Bearer realm="sidecar"'


def basic(key_id: str, secret: str) -> Line:
    return (b"authorization", b"Basic " + base64.b64encode(f"{key_id}:{secret}".encode()))


@pytest.fixture
async def client(sidecar: Running) -> Line:
    """The Authorization line of a management client."""
    return basic(*await sidecar.access_key())


async def told(sidecar: Running, client: Line, token: bytes | str, **fields: str) -> Any:
    """What an introspection answers."""
    token = token.decode() if isinstance(token, bytes) else token
    answer = await sidecar.post(PATH, [client], token=token, **fields)
    assert answer.status == 200
    written_as_json(answer)
    return answer.json


def refused(answer: Answer, status: int, error: str) -> None:
    """Asserts that this is how OAuth refuses."""
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.json.keys() == {"error", "error_description"}
    written_as_json(answer)
    assert answer.all("Set-Cookie") == []


async def add_ann(sidecar: Running) -> User:
    """A user who has everything."""
    await sidecar.set_role("admin", "users:write")
    accounts = (Account("t-1", "Team one", admin=True), Account("t-2", "Team two", primary=True))
    return await sidecar.add_user(
        "ann", emails=("ann@example.com",), full_name="Ann Ünal", roles=("admin",), accounts=accounts
    )


ANN = {
    "sub": "1",
    "user_id": 1,
    "preferred_username": "ann",
    "name": "Ann Ünal",
    "email": "ann@example.com",
    "roles": ["admin"],
    "permissions": ["users:write"],
    "account": "t-2",
    "accounts": [
        {"id": "t-1", "name": "Team one", "admin": True, "primary": False},
        {"id": "t-2", "name": "Team two", "admin": False, "primary": True},
    ],
}


# --- userinfo ------------------------------------------------------------------------------------


async def test_userinfo_tells_who_asks_by_cookie_token_and_key(sidecar: Running) -> None:
    ann = await add_ann(sidecar)
    cookie, token = await sidecar.session(ann), await sidecar.token(ann)
    key = await sidecar.api_key(ann, scopes=("read", "write"))
    sessions = {session.id for session in await sidecar.store.sessions.list(ann.id)}
    (stored,) = await sidecar.store.api_keys.list()
    for line, own in [
        (cookie, {"method": "session"}),
        (bearer(token), {"method": "token"}),
        (bearer(key), {"method": "api_key", "key_id": stored.id, "scope": "read write"}),
        ((b"x-api-key", key), {"method": "api_key", "key_id": stored.id, "scope": "read write"}),
    ]:
        answer = await sidecar.ask("GET", USERINFO, [line])
        written_as_json(answer)
        sid = answer.json.pop("sid", None)
        assert (sid in sessions) == (own["method"] != "api_key")
        said = {name: value for name, value in answer.json.items() if name != "sid"}
        assert (answer.status, said) == (200, {**ANN, **own})


async def test_userinfo_leaves_out_what_is_not_there(sidecar: Running) -> None:
    answer = await sidecar.ask("GET", USERINFO, [await sidecar.session(await sidecar.add_user())])
    assert answer.json.keys() == {
        *("sub", "user_id", "preferred_username", "method", "sid"),
        *("roles", "permissions", "accounts"),
    }


@pytest.mark.parametrize(
    ("lines", "challenge"),
    [
        ([], 'Bearer realm="sidecar"'),
        ([bearer("bad")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([bearer("a b")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([(b"authorization", b"")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([bearer("a"), bearer("b")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([(b"x-api-key", b"sk_unknown")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([(b"cookie", b"__Host-sidecar=bad")], 'Bearer realm="sidecar", error="invalid_token"'),
        ([(b"authorization", b"Basic YTpi")], 'Bearer realm="sidecar"'),
    ],
    ids=["nothing", "bad", "two words", "empty", "two", "unknown key", "unknown cookie", "Basic is not read"],
)
async def test_userinfo_tells_strangers_how_to_ask(
    sidecar: Running, lines: list[Line], challenge: str
) -> None:
    answer = await sidecar.ask("GET", USERINFO, lines)
    refused(answer, 401, "invalid_token")
    assert answer.one("WWW-Authenticate") == challenge


async def test_userinfo_a_bad_bearer_is_never_skipped_for_a_good_cookie(sidecar: Running) -> None:
    cookie = await sidecar.session(await sidecar.add_user())
    assert (await sidecar.ask("GET", USERINFO, [bearer("bad"), cookie])).status == 401


async def test_userinfo_keeps_a_session_alive_and_its_cookie_fresh(sidecar: Running) -> None:
    cookie = await sidecar.session(await sidecar.add_user())
    for _ in range(3):
        sidecar.clock.advance(1800)
        answer = await sidecar.ask("GET", USERINFO, [cookie])
        assert (answer.status, list(answer.cookies())) == (200, ["__Host-sidecar"])


async def test_userinfo_is_for_front_ends_that_the_operator_named(start: Start) -> None:
    async with start({"checks": {"allowed_origins": ["https://front.example.com"]}}) as sidecar:
        cookie = await sidecar.session(await sidecar.add_user())
        for origin, allowed in (("https://front.example.com", True), ("https://evil.example.com", False)):
            answer = await sidecar.ask("GET", USERINFO, [cookie, (b"origin", origin.encode())])
            assert answer.all("Access-Control-Allow-Origin") == ([origin] if allowed else [])


# --- whose token it is ---------------------------------------------------------------------------


async def test_a_session_token_is_active(sidecar: Running, client: Line) -> None:
    ann = await add_ann(sidecar)
    token = await sidecar.token(ann)
    (session,) = await sidecar.store.sessions.list()
    assert await told(sidecar, client, token) == {
        **ANN,
        "active": True,
        "token_type": "Bearer",
        "username": "ann",
        "iss": OURS,
        "aud": "sidecar",
        "exp": int(sidecar.clock.now()) + 3600,
        "sid": session.id,
        "method": "token",
    }


async def test_an_api_key_is_active(sidecar: Running, client: Line) -> None:
    ann = await add_ann(sidecar)
    key = await sidecar.api_key(ann, scopes=("read", "write"))
    (stored,) = await sidecar.store.api_keys.list()
    assert await told(sidecar, client, key) == {
        **ANN,
        "active": True,
        "token_type": "Bearer",
        "username": "ann",
        "iss": OURS,
        "aud": "sidecar",
        "scope": "read write",
        "key_id": stored.id,
        "method": "api_key",
    }
    ends_at = int(sidecar.clock.now()) + 60
    assert (await told(sidecar, client, await sidecar.api_key(ann, expires_at=ends_at)))["exp"] == ends_at


async def test_any_hint_finds_the_same(sidecar: Running, client: Line) -> None:
    token = await sidecar.token(await sidecar.add_user())
    for hint in ("", "access_token", "refresh_token", "whatever"):
        assert (await told(sidecar, client, token, token_type_hint=hint))["active"]


Credential = Callable[[Running], Awaitable[bytes]]


async def a_cookies_secret(sidecar: Running) -> bytes:
    return await sidecar.secret(await sidecar.add_user())


async def a_management_token(sidecar: Running) -> bytes:
    key_id, secret = await sidecar.access_key()
    body = {"accessKeyId": key_id, "accessKeySecret": secret}
    answer = await sidecar.post_json("/api/v3/get-management-token", body)
    return str(answer.json["data"]["access_token"]).encode()


async def an_access_key(sidecar: Running) -> bytes:
    return (await sidecar.access_key())[1].encode()


async def a_revoked_sessions_token(sidecar: Running) -> bytes:
    alice = await sidecar.add_user()
    token = await sidecar.token(alice)
    await sidecar.store.sessions.revoke_user(alice.id)
    return token


async def an_expired_token(sidecar: Running) -> bytes:
    token = await sidecar.token(await sidecar.add_user())
    sidecar.clock.advance(3600)
    return token


async def a_disabled_users_key(sidecar: Running) -> bytes:
    alice = await sidecar.add_user()
    key = await sidecar.api_key(alice)
    await sidecar.store.users.change(alice.id, UserChange(disabled=True), now=0.0, by="test")
    return key


async def another_issuers_token(sidecar: Running) -> bytes:
    claims = issued(sub="u-1", exp=int(sidecar.clock.now()) + 60)
    return made({"alg": "ES256", "kid": "k1"}, claims, signer("ES256"))


@pytest.mark.parametrize(
    "credential",
    [
        a_cookies_secret,
        a_management_token,
        an_access_key,
        a_revoked_sessions_token,
        an_expired_token,
        a_disabled_users_key,
        another_issuers_token,
    ],
    ids=lambda make: make.__name__.replace("_", " "),
)
async def test_whatever_else_it_is_is_not_active(
    sidecar: Running, client: Line, credential: Credential
) -> None:
    assert await told(sidecar, client, await credential(sidecar)) == INACTIVE


@pytest.mark.parametrize("token", ["x", "a b", "ü", "a.b.c", "\0", "' OR 1=1", "sk_", "x" * 50_000])
async def test_what_is_no_token_is_not_active(sidecar: Running, client: Line, token: str) -> None:
    for hint in ("", "assertion+jwt"):
        assert await told(sidecar, client, token, token_type_hint=hint) == INACTIVE


async def test_what_was_active_is_not_a_second_after_it_is_revoked(sidecar: Running, client: Line) -> None:
    alice = await sidecar.add_user()
    token, key = await sidecar.token(alice), await sidecar.api_key(alice)
    for each in (token, key):
        assert (await told(sidecar, client, each))["active"]
    await sidecar.store.sessions.revoke_user(alice.id)
    await sidecar.store.api_keys.revoke([each.id for each in await sidecar.store.api_keys.list()])
    sidecar.clock.advance(1)
    for each in (token, key):
        assert await told(sidecar, client, each) == INACTIVE


async def test_being_asked_about_keeps_a_session_alive(sidecar: Running, client: Line) -> None:
    token = await sidecar.token(await sidecar.add_user())
    sidecar.clock.advance(1800)
    assert (await told(sidecar, client, token))["active"]
    (session,) = await sidecar.store.sessions.list()
    assert session.last_used_at == sidecar.clock.now()


async def test_another_issuers_people_are_known_where_its_issuer_may_vouch(
    start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(jwk("ES256", "k1")))
    corp = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["ES256"]}
    settings: Json = {"authenticators": {"corp": {**corp, "jwks_file": str(file)}}}
    settings["checks"] = {"authenticators": ["session", "corp"]}
    async with start(settings) as sidecar:
        client = basic(*await sidecar.access_key())
        answer = await told(sidecar, client, await another_issuers_token(sidecar))
        assert (answer["active"], answer["iss"], answer["sub"]) == (True, ISSUER, "u-1")
        assert (answer["method"], answer["exp"]) == ("jwt:corp", int(sidecar.clock.now()) + 60)
        assert answer.keys().isdisjoint({"aud", "user_id", "sid"})


# --- assertions ----------------------------------------------------------------------------------


@pytest.fixture
async def on(start: Start) -> AsyncIterator[Running]:
    """The application with assertions."""
    settings = {"identity_assertion": {"enabled": True}, "authenticators": {"basic": {"enabled": True}}}
    async with start(settings) as sidecar:
        yield sidecar


async def assertion(sidecar: Running, line: Line) -> str:
    return (await sidecar.check("nginx", [line])).one("X-Auth-Assertion")


async def test_an_assertion_is_active_for_who_takes_it_for_one(on: Running) -> None:
    client, line = basic(*await on.access_key()), await on.session(await add_ann(on))
    asserted = await assertion(on, line)
    answer = await told(on, client, asserted, **ASSERTION)
    now = int(on.clock.now())
    assert answer.pop("jti")
    assert answer.pop("sid")
    assert answer == {
        **{name: value for name, value in ANN.items() if name != "accounts"},
        "active": True,
        "username": "ann",
        "iss": OURS,
        "aud": "app.example.com",
        "iat": now,
        "exp": now + 60,
        "method": "session",
    }
    for hint in ("", "access_token"):  # or every application could be anybody at the others
        assert await told(on, client, asserted, token_type_hint=hint) == INACTIVE


async def test_nothing_else_is_active_as_an_assertion(on: Running) -> None:
    client, alice = basic(*await on.access_key()), await on.add_user()
    for credential in (await on.token(alice), await on.api_key(alice), await a_management_token(on)):
        assert await told(on, client, credential, **ASSERTION) == INACTIVE


async def by_session(sidecar: Running, user: User) -> Line:
    return await sidecar.session(user)


async def by_token(sidecar: Running, user: User) -> Line:
    return bearer(await sidecar.token(user))


async def by_key(sidecar: Running, user: User) -> Line:
    return (b"x-api-key", await sidecar.api_key(user, scopes=("read",)))


async def by_password(_sidecar: Running, _user: User) -> Line:
    return basic("alice", "correct horse")


async def revoked(sidecar: Running, user: User) -> None:
    await sidecar.store.sessions.revoke_user(user.id)
    await sidecar.store.api_keys.revoke([each.id for each in await sidecar.store.api_keys.list()])


async def disabled(sidecar: Running, user: User) -> None:
    await sidecar.store.users.change(user.id, UserChange(disabled=True), now=0.0, by="test")


async def removed(sidecar: Running, user: User) -> None:
    await sidecar.store.users.remove(user.id)


async def demoted(sidecar: Running, user: User) -> None:
    await sidecar.store.users.change(user.id, UserChange(roles=()), now=0.0, by="test")


async def expired(sidecar: Running, _user: User) -> None:
    sidecar.clock.advance(59)


@pytest.mark.parametrize("enters", [by_session, by_token, by_key, by_password], ids=lambda f: f.__name__)
@pytest.mark.parametrize("event", [revoked, disabled, removed, demoted, expired], ids=lambda f: f.__name__)
async def test_an_assertion_ends_with_what_it_was_made_from(
    on: Running,
    enters: Callable[[Running, User], Awaitable[Line]],
    event: Callable[[Running, User], Awaitable[None]],
) -> None:
    alice = await on.add_user(roles=("admin",), password="correct horse")
    client = basic(*await on.access_key())
    asserted = await assertion(on, await enters(on, alice))
    assert (await told(on, client, asserted, **ASSERTION))["active"]
    await event(on, alice)
    on.clock.advance(1)
    ended = not (event is revoked and enters is by_password)  # a password is no session
    assert (await told(on, client, asserted, **ASSERTION))["active"] is not ended


async def test_a_rotated_key_still_vouches_and_a_forged_signature_never_does(on: Running) -> None:
    client = basic(*await on.access_key())
    asserted = await assertion(on, await on.session(await on.add_user()))
    await on.parts.keys.rotate()
    on.clock.advance(1)
    assert (await told(on, client, asserted, **ASSERTION))["active"]
    header, claims, signature = asserted.split(".")
    assert await told(on, client, f"{header}.{claims}.{signature[:-4]}AAAA", **ASSERTION) == INACTIVE


# --- who may ask ---------------------------------------------------------------------------------


async def test_a_client_authenticates_in_any_of_three_ways(sidecar: Running) -> None:
    token = (await sidecar.token(await sidecar.add_user())).decode()
    key_id, secret = await sidecar.access_key()
    in_form = {"client_id": key_id, "client_secret": secret}
    encoded = basic(key_id.replace("_", "%5F"), secret.replace("-", "%2D"))
    for lines, fields in [
        ([basic(key_id, secret)], {}),
        ([encoded], {}),
        ([], in_form),
        ([bearer(await a_management_token(sidecar))], {}),
    ]:
        answer = await sidecar.post(PATH, lines, token=token, **fields)
        assert (answer.status, answer.json["active"]) == (200, True)


@pytest.mark.parametrize(
    "line",
    [
        None,
        basic("ak_unknown", "x"),
        basic("", ""),
        (b"authorization", b"Basic !!!"),
        (b"authorization", b"Basic"),
        (b"authorization", b""),
        (b"authorization", b"Digest x"),
        bearer("bad"),
        bearer("a b"),
    ],
    ids=str,
)
async def test_nobody_else_may_ask(sidecar: Running, line: Line | None) -> None:
    token = (await sidecar.token(await sidecar.add_user())).decode()
    answer = await sidecar.post(PATH, [line] if line else [], token=token)
    refused(answer, 401, "invalid_client")
    assert answer.one("WWW-Authenticate") == BOTH


async def test_a_user_may_not_ask(sidecar: Running) -> None:
    alice = await sidecar.add_user(password="correct horse")
    token = await sidecar.token(alice)
    for line in (
        bearer(token),
        bearer(await sidecar.api_key(alice)),
        await sidecar.session(alice),
        basic("alice", "correct horse"),
    ):
        refused(await sidecar.post(PATH, [line], token=token.decode()), 401, "invalid_client")


async def test_a_revoked_or_expired_access_key_is_nobodys(sidecar: Running) -> None:
    key_id, secret = await sidecar.access_key(expires_at=sidecar.clock.now() + 60)
    token = await a_management_token(sidecar)
    assert await told(sidecar, basic(key_id, secret), "x") == INACTIVE
    sidecar.clock.advance(60)
    refused(await sidecar.post(PATH, [basic(key_id, secret)], token="x"), 401, "invalid_client")
    assert await told(sidecar, bearer(token), "x") == INACTIVE
    await sidecar.store.access_keys.revoke([each.id for each in await sidecar.store.access_keys.list()])
    refused(await sidecar.post(PATH, [bearer(token)], token="x"), 401, "invalid_client")


async def test_wrong_secrets_ban_whoever_tries_them(sidecar: Running) -> None:
    key_id, secret = await sidecar.access_key()
    token = await a_management_token(sidecar)
    for _ in range(5):
        refused(await sidecar.post(PATH, [basic(key_id, "wrong")], token="x"), 401, "invalid_client")
    banned = await sidecar.post(PATH, [basic(key_id, secret)], token="x")
    refused(banned, 429, "slow_down")
    assert banned.one("Retry-After") == "300"
    assert await told(sidecar, bearer(token), "x") == INACTIVE  # what is no password goes on
    sidecar.clock.advance(300)
    assert await told(sidecar, basic(key_id, secret), "x") == INACTIVE


async def test_another_site_bans_nobody(sidecar: Running) -> None:
    key_id, secret = await sidecar.access_key()
    guess = urlencode({"token": "x", "client_id": key_id, "client_secret": "wrong"}).encode()
    for line in [(b"sec-fetch-site", b"cross-site"), (b"origin", b"https://evil.com")] * 3:
        answer = await sidecar.ask("POST", PATH, [FORM, line], guess)
        refused(answer, 403, "access_denied")
        assert answer.json["error_description"] == "This was sent from another site"
    assert await told(sidecar, basic(key_id, secret), "x") == INACTIVE


async def test_a_backend_may_ask_more_often_than_people_sign_in(sidecar: Running, client: Line) -> None:
    token = await sidecar.token(await sidecar.add_user())
    for _ in range(50):
        assert (await told(sidecar, client, token))["active"]


# --- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", FORM[1], 400),
        (b"token=", FORM[1], 400),
        (b"token_type_hint=x", FORM[1], 400),
        (b"token=a&token=b", FORM[1], 400),
        (b"token=a&token=a", FORM[1], 400),
        (b"token", FORM[1], 400),
        (b"token=%ff", FORM[1], 400),
        (b"token=a" + b"&a=b" * 20, FORM[1], 400),
        (b"token=" + b"a" * LONGEST, FORM[1], 413),
        (b'{"token": "a"}', b"application/json", 415),
        (b"token=a", b"text/plain", 415),
        (b"token=a", b"", 415),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_question_is_refused(
    sidecar: Running, client: Line, body: bytes, content_type: bytes, status: int
) -> None:
    answer = await sidecar.ask("POST", PATH, [client, (b"content-type", content_type)], body)
    refused(answer, status, "invalid_request")


async def test_the_type_of_a_form_may_have_parameters(sidecar: Running, client: Line) -> None:
    line: Line = (b"content-type", b"Application/X-WWW-Form-Urlencoded; charset=utf-8")
    assert (await sidecar.ask("POST", PATH, [client, line], b"token=x")).json == INACTIVE
    refused(await sidecar.ask("POST", PATH, [client, line, line], b"token=x"), 415, "invalid_request")


async def test_a_client_that_authenticates_twice_is_refused(sidecar: Running, client: Line) -> None:
    key_id, secret = await sidecar.access_key()
    answer = await sidecar.post(PATH, [client], token="x", client_id=key_id, client_secret=secret)
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", PATH, "POST"), ("PUT", PATH, "POST"), ("POST", USERINFO, "GET, HEAD")],
)
async def test_another_method_is_refused(sidecar: Running, method: str, path: str, allowed: str) -> None:
    answer = await sidecar.ask(method, path, [REQUEST_ID])
    refused(answer, 405, "invalid_request")
    assert answer.one("Allow") == allowed


# --- what else may happen ------------------------------------------------------------------------


async def test_an_outage_is_never_inactive(sidecar: Running, client: Line) -> None:
    alice = await sidecar.add_user()
    token, cookie = await sidecar.token(alice), await sidecar.session(alice)
    assert (await told(sidecar, client, token))["active"]
    await sidecar.store.close()
    sidecar.clock.advance(2)
    for answer in (
        await sidecar.post(PATH, [client], token=token.decode()),
        await sidecar.post(PATH, [bearer(token)], token=token.decode()),
        await sidecar.ask("GET", USERINFO, [cookie]),
        await sidecar.ask("GET", USERINFO),
    ):
        refused(answer, 503, "temporarily_unavailable")
        assert answer.one("Retry-After")


async def test_requests_are_counted_as_those_of_the_products(start: Start) -> None:
    async with start({"limits": {"checks": "2/minute"}}) as sidecar:
        client = basic(*await sidecar.access_key())
        cookie = await sidecar.session(await sidecar.add_user())
        assert await told(sidecar, client, "x") == INACTIVE
        assert (await sidecar.ask("GET", USERINFO, [cookie])).status == 200
        refused(await sidecar.post(PATH, [client], token="x"), 429, "slow_down")
        refused(await sidecar.ask("GET", USERINFO, [cookie]), 429, "slow_down")
        counted = 'sidecar_check_requests_total{code="200",dialect="oauth"} 2.0'
        assert counted in await sidecar.metrics()


async def test_the_traffic_guard_stands_before_them(start: Start) -> None:
    async with start({"traffic_guard": {"deny_user_agents": ["scraper"]}}) as sidecar:
        agent: Line = (b"user-agent", b"A Scraper")
        for method, path in (("POST", PATH), ("GET", USERINFO)):
            refused(await sidecar.ask(method, path, [agent]), 403, "access_denied")


async def test_they_are_at_the_root_wherever_the_pages_are(start: Start) -> None:
    async with start({"login": {"public_url": "https://app.example.com/_sidecar"}}) as sidecar:
        assert (await sidecar.ask("GET", USERINFO)).status == 401
        assert (await sidecar.ask("POST", PATH, [FORM])).status == 401
        assert (await sidecar.ask("GET", "/_sidecar/userinfo")).status == 404
        assert (await sidecar.ask("GET", "/.well-known/openid-configuration")).status == 404


async def test_pages_may_be_below_oauth2(start: Start) -> None:
    async with start({"login": {"public_url": "https://app.example.com/oauth2"}}) as sidecar:
        assert (await sidecar.ask("GET", "/oauth2/login")).status == 200
    assert OAuth.below == f"{PATH}/"


async def test_no_credential_is_ever_logged(sidecar: Running, log: io.StringIO) -> None:
    alice = await sidecar.add_user()
    key_id, secret = await sidecar.access_key()
    token, wrong = (await sidecar.token(alice)).decode(), "PLANTED"
    cookie = await sidecar.session(alice)
    await sidecar.post(PATH, [basic(key_id, secret)], token=token)
    await sidecar.post(PATH, [basic(key_id, wrong)], token=token)
    await sidecar.post(PATH, [bearer(wrong)], token=token)
    await sidecar.ask("POST", PATH, [FORM], urlencode({"token": wrong, "client_secret": secret}).encode())
    await sidecar.ask("GET", USERINFO, [cookie])
    written = log.getvalue() + json.dumps(sidecar.recorded())
    assert "wrong_secret" in written
    for each in (secret, token, wrong, cookie[1].decode().partition("=")[2]):
        assert each not in written
