"""Pulse: the current user's session, and the sign-in before it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.credentials import id_of_secret
from sidecar.keys import SESSION_TOKEN
from sidecar.records import Account, User, UserChange
from tests.checks.products import PASSWORD, PULSE, written_as_json
from tests.checks.products import PULSE_LOGIN as LOGIN
from tests.checks.products import PULSE_SESSION as SESSION
from tests.running import Answer, Line, Running, bearer

ACCOUNTS = (Account("a1", "One"), Account("a2", "Two", primary=True), Account("ä3", "Three", admin=True))


async def ask(sidecar: Running, *lines: Line) -> Answer:
    return await sidecar.ask("GET", SESSION, lines)


def unauthorized(answer: Answer, message: str = "Not authenticated") -> None:
    PULSE.refused(answer, 401, message)
    assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'


async def alice_with_accounts(sidecar: Running) -> User:
    """Somebody with several of everything."""
    await sidecar.set_role("staff", "posts:write", "posts:read", "x")
    await sidecar.set_role("admin", "users:write", "posts:read")
    return await sidecar.add_user(
        emails=("alice@example.com", "a@example.org"),
        roles=("staff", "admin", "empty"),
        accounts=ACCOUNTS,
        full_name="Alice Ames",
        password=PASSWORD,
    )


def account(given: Account) -> dict[str, object]:
    return {
        "accountId": given.id,
        "accountName": given.name,
        "usersPrimaryAccount": given.primary,
        "accountAdmin": given.admin,
    }


# --- the session ---------------------------------------------------------------------------------


async def test_the_answer_is_a_complete_user_session(sidecar: Running) -> None:
    alice = await alice_with_accounts(sidecar)
    sidecar.clock.advance(3661.5)
    change = UserChange(name="Alice B. Ames")
    await sidecar.store.users.change(alice.id, change, now=sidecar.clock.now(), by="bob@example.com")
    token = (await sidecar.token(alice)).decode()
    answer = await ask(sidecar, bearer(token))
    assert answer.status == 200
    assert list(answer.json.items()) == [
        ("id", alice.id),
        ("email", "alice@example.com"),
        ("createdBy", "test"),
        ("updatedBy", "bob@example.com"),
        ("createdAt", "2027-01-15T08:00:00.000Z"),
        ("updatedAt", "2027-01-15T09:01:01.500Z"),
        ("primaryAccount", account(ACCOUNTS[1])),
        ("accounts", [account(each) for each in ACCOUNTS]),
        ("flatRolesList", ["admin", "empty", "staff"]),
        ("flatPermissionsList", ["posts:read", "posts:write", "users:write", "x"]),
        ("token", token),
    ]
    assert type(answer.json["id"]) is int
    assert {type(each) for each in answer.json["primaryAccount"].values()} == {str, bool}
    written_as_json(answer)


async def test_who_has_nothing_has_no_primary_account_and_empty_lists(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    body = (await ask(sidecar, await sidecar.session(alice))).json
    nothing = {"email": "", "accounts": [], "flatRolesList": [], "flatPermissionsList": []}
    assert body == {
        "id": alice.id,
        "createdBy": "test",
        "updatedBy": "test",
        "createdAt": "2027-01-15T08:00:00.000Z",
        "updatedAt": "2027-01-15T08:00:00.000Z",
        "token": body["token"],
        **nothing,
    }


@pytest.mark.parametrize(
    ("wanted", "selected"),
    [
        pytest.param(None, 1, id="none: the primary one"),
        pytest.param("", 1, id="an empty one: the primary one"),
        pytest.param("a1", 0, id="the first"),
        pytest.param("a2", 1, id="the primary one"),
        pytest.param("ä3", 2, id="in UTF-8"),
    ],
)
async def test_a_header_selects_the_account(sidecar: Running, wanted: str | None, selected: int) -> None:
    session = await sidecar.session(await alice_with_accounts(sidecar))
    lines = [] if wanted is None else [(b"x-account-id", wanted.encode())]
    body = (await ask(sidecar, session, *lines)).json
    assert body["primaryAccount"] == account(ACCOUNTS[selected])
    assert body["accounts"] == [account(each) for each in ACCOUNTS]


async def test_without_a_primary_account_it_is_the_first(sidecar: Running) -> None:
    alice = await sidecar.add_user(accounts=(Account("a1", "One"), Account("a2", "Two")))
    body = (await ask(sidecar, await sidecar.session(alice))).json
    assert body["primaryAccount"] == account(Account("a1", "One"))


@pytest.mark.parametrize("wanted", [b"a9", b"A1", b"One", b"a1,a2", b"a1 a2", b"\xe43", b"\xff", b"null"])
async def test_an_account_that_the_user_is_not_in_is_refused(sidecar: Running, wanted: bytes) -> None:
    alice, bob = await alice_with_accounts(sidecar), await sidecar.add_user("bob")
    for user in (alice, bob):
        answer = await ask(sidecar, await sidecar.session(user), (b"x-account-id", wanted))
        unauthorized(answer, "No access to this account")


async def test_an_account_that_is_asked_for_twice_is_a_bad_request(sidecar: Running) -> None:
    session = await sidecar.session(await alice_with_accounts(sidecar))
    answer = await ask(sidecar, session, (b"x-account-id", b"a1"), (b"x-account-id", b"a1"))
    PULSE.refused(answer, 400, answer.json["message"])


async def test_an_account_is_no_secret_before_who_asks_is_known(sidecar: Running) -> None:
    await alice_with_accounts(sidecar)
    for wanted in (b"a1", b"a9"):
        unauthorized(await ask(sidecar, bearer("junk"), (b"x-account-id", wanted)))


# --- its token -----------------------------------------------------------------------------------


async def test_a_bearer_is_echoed(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    for token in (await sidecar.token(alice), await sidecar.api_key(alice)):
        answer = await ask(sidecar, bearer(token))
        assert answer.json["token"] == token.decode()
        assert not answer.all("Set-Cookie")


async def test_for_a_cookie_a_token_of_its_session_is_minted_that_opens_as_much(sidecar: Running) -> None:
    alice = await sidecar.add_user(full_name="Alice Ames")
    session = await sidecar.session(alice)
    token = (await ask(sidecar, session)).json["token"]
    (stored,) = await sidecar.store.sessions.list(alice.id)
    claims = await sidecar.parts.keys.verify(token.encode(), SESSION_TOKEN)
    assert (claims["sid"], claims["userId"], claims["name"]) == (stored.id, str(alice.id), "Alice Ames")
    assert (await sidecar.check("nginx", [bearer(token)])).status == 200
    assert (await ask(sidecar, bearer(token))).json["token"] == token
    await sidecar.store.sessions.revoke([stored.id])
    sidecar.clock.advance(1)
    assert (await sidecar.check("nginx", [bearer(token)])).status == 401
    unauthorized(await ask(sidecar, bearer(token)))
    unauthorized(await ask(sidecar, session))


async def test_the_minted_token_is_the_same_until_half_of_its_life_is_over(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    tokens = []
    for seconds in (0, 0, 1799, 1, 1, 0):
        sidecar.clock.advance(seconds)
        tokens.append((await ask(sidecar, session)).json["token"])
    assert [tokens.index(each) for each in tokens] == [0, 0, 0, 0, 4, 4]
    claims = await sidecar.parts.keys.verify(tokens[4].encode(), SESSION_TOKEN)
    assert claims["iat"] == int(sidecar.clock.now())


async def test_each_session_has_a_token_of_its_own(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    sessions = [await sidecar.session(alice), await sidecar.session(alice)]
    tokens = [(await ask(sidecar, session)).json["token"] for session in sessions]
    claims = [await sidecar.parts.keys.verify(token.encode(), SESSION_TOKEN) for token in tokens]
    assert claims[0]["sid"] != claims[1]["sid"]


@pytest.mark.parametrize("event", ["the name is changed", "the key is rotated", "nothing"])
async def test_a_token_that_says_what_is_no_longer_true_is_minted_anew(sidecar: Running, event: str) -> None:
    alice, bob = await sidecar.add_user(full_name="Alice"), await sidecar.add_user("bob")
    session = await sidecar.session(alice)
    first = (await ask(sidecar, session)).json["token"]
    if event == "the name is changed":
        await sidecar.store.users.change(alice.id, UserChange(name="Ann"), now=0.0, by="test")
    elif event == "the key is rotated":
        await sidecar.parts.keys.rotate()
    else:
        await sidecar.store.users.change(bob.id, UserChange(name="Rob"), now=0.0, by="test")
    sidecar.clock.advance(1)
    second = (await ask(sidecar, session)).json["token"]
    assert (second == first) == (event == "nothing")
    claims = await sidecar.parts.keys.verify(second.encode(), SESSION_TOKEN)
    assert claims["name"] == ("Ann" if event == "the name is changed" else "Alice")
    assert (await sidecar.check("nginx", [bearer(second)])).status == 200
    assert (second.partition(".")[0] == first.partition(".")[0]) == (event != "the key is rotated")


# --- which credential ----------------------------------------------------------------------------


async def test_a_bearer_comes_before_the_cookie_and_a_bad_one_never_falls_through(sidecar: Running) -> None:
    alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
    session, token = await sidecar.session(bob), bearer(await sidecar.token(alice))
    assert (await ask(sidecar, session)).json["id"] == bob.id
    for lines in ([token, session], [session, token]):
        assert (await ask(sidecar, *lines)).json["id"] == alice.id
    for bad in ([bearer("junk")], [bearer("")], [token, token]):
        unauthorized(await ask(sidecar, *bad, session))


async def test_what_is_no_credential_of_this_product_is_none(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    secret = await sidecar.secret(alice)
    key = await sidecar.api_key(alice)
    no_credentials: list[list[Line]] = [
        [],
        [(b"x-api-key", key)],
        [(b"authorization", b"Basic YWxpY2U6eA==")],
        [(b"cookie", b"VirolaUserSessionId=" + secret)],
        [(b"cookie", b"customerToken=" + key)],
        [(b"cookie", b"__Host-sidecar=" + key)],
        [(b"cookie", b"__Host-sidecar=")],
        [(b"cookie", b"__Host-sidecar=a; __Host-sidecar=" + secret)],
    ]
    for lines in no_credentials:
        unauthorized(await ask(sidecar, *lines))


# --- signing in ----------------------------------------------------------------------------------


async def test_by_email_and_password_a_session_begins(sidecar: Running) -> None:
    alice = await alice_with_accounts(sidecar)
    answer = await sidecar.post_json(LOGIN, {"email": "Alice@Example.com", "password": PASSWORD})
    assert answer.status == 200
    (stored,) = await sidecar.store.sessions.list(alice.id)
    cookie = answer.one("Set-Cookie")
    assert cookie.partition("; ")[2] == "Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax"
    ours = (b"cookie", cookie.partition(";")[0].encode())
    assert ours[1].startswith(b"__Host-sidecar=")
    claims = await sidecar.parts.keys.verify(answer.json["token"].encode(), SESSION_TOKEN)
    assert claims["sid"] == stored.id == id_of_secret(ours[1].partition(b"=")[2])
    for line in (ours, bearer(answer.json["token"])):
        assert (await sidecar.check("nginx", [line])).status == 200
        session = (await ask(sidecar, line)).json
        assert {**session, "token": ""} == {**answer.json, "token": ""}
    assert answer.json["primaryAccount"] == account(ACCOUNTS[1])


async def test_by_an_api_keys_id_and_the_key_it_is_the_same_without_a_session(sidecar: Running) -> None:
    alice = await alice_with_accounts(sidecar)
    key = (await sidecar.api_key(alice)).decode()
    answer = await sidecar.post_json(LOGIN, {"apiKey": id_of_secret(key.encode()), "apiSecret": key})
    assert answer.status == 200
    assert answer.json == (await ask(sidecar, bearer(key))).json
    assert answer.json["token"] == key
    assert not answer.all("Set-Cookie")
    assert await sidecar.store.sessions.list(alice.id) == []


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("alice@example.com", "wrong"),
        ("alice@example.com", ""),
        ("alice@example.com", PASSWORD.upper()),
        ("nobody@example.com", PASSWORD),
        ("", PASSWORD),
        ("", ""),
        ("nopassword", ""),
        ("nopassword", "x"),
    ],
)
async def test_a_wrong_name_or_password_is_refused(sidecar: Running, email: str, password: str) -> None:
    await alice_with_accounts(sidecar)
    await sidecar.add_user("nopassword")
    answer = await sidecar.post_json(LOGIN, {"email": email, "password": password})
    unauthorized(answer, "The credentials are wrong")
    assert await sidecar.store.sessions.list() == []


async def test_an_api_key_signs_in_with_its_own_id_alone(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key, other, old = [
        (await sidecar.api_key(alice, expires_at=end)).decode() for end in (None, None, sidecar.clock.now())
    ]
    ids = {each: id_of_secret(each.encode()) for each in (key, other, old, "sk_unknown", "sk_\u00e9", "")}
    token = (await sidecar.token(alice)).decode()
    for key_id, secret in [
        (ids[other], key),
        (ids[key].upper(), key),
        (ids[key] + " ", key),
        ("", key),
        (key, key),
        (ids[key], ids[key]),
        (ids[key], ""),
        (ids["sk_unknown"], "sk_unknown"),
        (ids["sk_\u00e9"], "sk_\u00e9"),
        (ids[""], ""),
        (ids[old], old),
        (id_of_secret(token.encode()), token),
    ]:
        sidecar.clock.advance(60)
        answer = await sidecar.post_json(LOGIN, {"apiKey": key_id, "apiSecret": secret})
        unauthorized(answer, "The credentials are wrong")
    assert (await sidecar.post_json(LOGIN, {"apiKey": ids[key], "apiSecret": key})).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "alice@example.com"},
        {"password": PASSWORD},
        {"apiKey": "{id}"},
        {"apiSecret": "{key}"},
        {"email": "alice@example.com", "apiSecret": "{key}"},
        {"apiKey": "{id}", "password": PASSWORD},
        {"email": "alice@example.com", "password": PASSWORD, "apiKey": "{id}"},
        {"email": "alice@example.com", "password": PASSWORD, "apiKey": "{id}", "apiSecret": "{key}"},
        {"email": "alice@example.com", "apiKey": "{id}", "apiSecret": "{key}"},
        {"email": 5, "password": PASSWORD},
        {"email": ["alice@example.com"], "password": PASSWORD},
        {"email": "alice@example.com", "password": None},
        {"email": "alice@example.com", "password": 12345},
        {"username": "alice", "password": PASSWORD},
        {"api_key": "{id}", "api_secret": "{key}"},
    ],
)
async def test_half_of_a_credential_or_two_of_them_are_a_bad_request(
    sidecar: Running, body: dict[str, Any]
) -> None:
    alice = await alice_with_accounts(sidecar)
    key = (await sidecar.api_key(alice)).decode()
    held = {"{id}": id_of_secret(key.encode()), "{key}": key}
    filled = {name: held.get(str(value), value) for name, value in body.items()}
    answer = await sidecar.post_json(LOGIN, filled)
    assert answer.json["message"].startswith("The body cannot be read: ")
    PULSE.refused(answer, 400, answer.json["message"])
    assert not any(secret in answer.text for secret in (PASSWORD, key, "alice@", "12345"))
    assert await sidecar.store.sessions.list() == []


async def test_a_sign_in_replaces_the_browsers_session_and_a_failed_one_does_not(sidecar: Running) -> None:
    alice = await alice_with_accounts(sidecar)
    session = await sidecar.session(alice)
    for password, status in [("wrong", 200), (PASSWORD, 401)]:
        await sidecar.post_json(LOGIN, {"email": "alice", "password": password}, [session])
        assert (await sidecar.check("nginx", [session])).status == status
    assert len(await sidecar.store.sessions.list(alice.id)) == 1
