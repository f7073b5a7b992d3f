"""COMPASS: a token and the user that it is said to be, validated together."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.keys import SESSION_TOKEN
from sidecar.records import User, UserChange
from tests.checks.products import COMPASS
from tests.checks.products import COMPASS_VALIDATE as PATH
from tests.conftest import Start
from tests.running import Answer, Line, Running, bearer

UNAUTHORIZED = {"error": {"code": "UNAUTHORIZED", "message": "Invalid or expired session token"}}


async def ask(sidecar: Running, body: object, *lines: Line) -> Answer:
    return await sidecar.post_json(PATH, body, lines)


def user_of(answer: Answer) -> Any:
    """The user of a good answer, which has nothing else in it."""
    assert (answer.status, list(answer.json), list(answer.json["data"])) == (200, ["data"], ["user"])
    return answer.json["data"]["user"]


async def alice_of(sidecar: Running) -> tuple[User, Line]:
    """Somebody with two of everything, and their bearer."""
    alice = await sidecar.add_user(
        emails=("alice@example.com", "Ann@Example.org"), roles=("admin", "user"), full_name="Alice Ames"
    )
    return alice, bearer(await sidecar.token(alice))


# --- the user that is claimed --------------------------------------------------------------------


async def test_the_example_of_the_document_is_answered_as_it_says(sidecar: Running) -> None:
    alice = await sidecar.add_user(emails=("alice@example.com",), roles=("user",))
    user = {"_id": str(alice.id), "emails": "alice@example.com", "role": "user"}
    answer = await ask(sidecar, {"user": user}, bearer(await sidecar.token(alice)))
    assert (answer.status, answer.json) == (200, {"data": {"user": user}})
    assert not answer.all("Set-Cookie")


ID = "{id}"


@pytest.mark.parametrize(
    ("claimed", "email", "role"),
    [
        pytest.param({}, "alice@example.com", "admin", id="nothing: the first of each"),
        pytest.param({"_id": ID}, "alice@example.com", "admin", id="the id alone"),
        pytest.param({"emails": "alice@example.com"}, "alice@example.com", "admin", id="an address"),
        pytest.param({"emails": "ann@example.org"}, "Ann@Example.org", "admin", id="the other, as stored"),
        pytest.param({"emails": "ALICE@EXAMPLE.COM"}, "alice@example.com", "admin", id="in another case"),
        pytest.param({"emails": ["x@y.z", "ann@example.org"]}, "Ann@Example.org", "admin", id="in a list"),
        pytest.param(
            {"emails": ["ann@example.org", "alice@example.com"]}, "alice@example.com", "admin", id="both"
        ),
        pytest.param({"role": "user"}, "alice@example.com", "user", id="the second role"),
        pytest.param({"role": "admin"}, "alice@example.com", "admin", id="the first role"),
        pytest.param(
            {"_id": ID, "emails": "ann@example.org", "role": "user"}, "Ann@Example.org", "user", id="all"
        ),
    ],
)
async def test_what_is_true_of_the_user_is_answered_as_the_store_has_it(
    sidecar: Running, claimed: dict[str, object], email: str, role: str
) -> None:
    alice, token = await alice_of(sidecar)
    if "_id" in claimed:
        claimed = claimed | {"_id": str(alice.id)}
    user = user_of(await ask(sidecar, {"user": claimed}, token))
    assert user == {"_id": str(alice.id), "emails": email, "role": role}
    assert user_of(await ask(sidecar, {"user": user}, token)) == user


@pytest.mark.parametrize(
    "wrong",
    [
        {"_id": "999"},
        {"_id": ""},
        {"_id": "alice"},
        {"_id": "0{id}"},
        {"_id": " {id}"},
        {"_id": "{id}.0"},
        {"emails": "bob@example.com"},
        {"emails": ""},
        {"emails": []},
        {"emails": ["bob@example.com"]},
        {"emails": ["", "x"]},
        {"emails": "alice@example.com "},
        {"emails": "alice@example.com,Ann@Example.org"},
        {"role": "root"},
        {"role": ""},
        {"role": "Admin"},
        {"role": "admin,user"},
    ],
)
async def test_one_wrong_member_is_an_invalid_session(sidecar: Running, wrong: dict[str, Any]) -> None:
    alice, token = await alice_of(sidecar)
    right = {"_id": str(alice.id), "emails": "alice@example.com", "role": "admin"}
    if "_id" in wrong:
        wrong = {"_id": wrong["_id"].replace("{id}", str(alice.id))}
    assert (await ask(sidecar, {"user": right}, token)).status == 200
    for claimed in (wrong, right | wrong):
        answer = await ask(sidecar, {"user": claimed}, token)
        assert (answer.status, answer.json) == (401, UNAUTHORIZED)


async def test_another_users_object_does_not_fit_ones_token(sidecar: Running) -> None:
    alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
    tokens = {user.id: bearer(await sidecar.token(user)) for user in (alice, bob)}
    for owner in (alice, bob):
        for claimed in (alice, bob):
            answer = await ask(sidecar, {"user": {"_id": str(claimed.id)}}, tokens[owner.id])
            assert answer.status == (200 if owner is claimed else 401)


async def test_a_user_without_address_and_role_can_claim_what_was_answered(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    token = bearer(await sidecar.token(alice))
    user = user_of(await ask(sidecar, {"user": {"_id": str(alice.id)}}, token))
    assert user == {"_id": str(alice.id), "emails": "", "role": ""}
    assert user_of(await ask(sidecar, {"user": user}, token)) == user
    for wrong in ({"emails": "x@example.com"}, {"role": "user"}):
        assert (await ask(sidecar, {"user": user | wrong}, token)).json == UNAUTHORIZED


async def test_nothing_of_the_body_is_echoed(sidecar: Running) -> None:
    alice, token = await alice_of(sidecar)
    user = {"_id": str(alice.id), "emails": "ALICE@example.com", "role": "user", "isAdmin": True, "id": 7}
    answer = await ask(sidecar, {"user": user, "data": {"user": user}, "extra": "PLANTED"}, token)
    assert user_of(answer) == {"_id": str(alice.id), "emails": "alice@example.com", "role": "user"}


async def test_what_the_store_says_now_counts(sidecar: Running) -> None:
    alice, token = await alice_of(sidecar)
    was = {"_id": str(alice.id), "emails": "alice@example.com", "role": "admin"}
    assert user_of(await ask(sidecar, {"user": was}, token)) == was
    change = UserChange(emails=("new@example.com",), roles=("user",))
    await sidecar.store.users.change(alice.id, change, now=0.0, by="test")
    sidecar.clock.advance(1)
    assert (await ask(sidecar, {"user": was}, token)).json == UNAUTHORIZED
    now = {"_id": str(alice.id), "emails": "new@example.com", "role": "user"}
    assert user_of(await ask(sidecar, {"user": {}}, token)) == now


# --- roles that are required ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("required", "roles", "status"),
    [
        ([], (), 200),
        ([], ("user",), 200),
        (["admin"], ("admin",), 200),
        (["admin", "owner"], ("owner", "user"), 200),
        (["admin"], ("user",), 403),
        (["admin"], ("Admin",), 403),
        (["admin"], (), 403),
    ],
)
async def test_a_required_role_is_one_of_those_that_the_user_has(
    start: Start, required: list[str], roles: tuple[str, ...], status: int
) -> None:
    async with start({"checks": {"compass": {"roles": required}}}) as sidecar:
        alice = await sidecar.add_user(roles=roles)
        token = await sidecar.token(alice)
        for answer in (
            await ask(sidecar, {"user": {"_id": str(alice.id)}}, bearer(token)),
            await ask(sidecar, {"token": token.decode()}),
        ):
            assert answer.status == status
            if status == 403:
                COMPASS.refused(answer, 403, "Requires another role")
        # Whoever is not who they say learns nothing about roles.
        assert (await ask(sidecar, {"user": {"_id": "999"}}, bearer(token))).json == UNAUTHORIZED


# --- a token in the body -------------------------------------------------------------------------


async def test_a_token_in_the_body_is_refreshed(sidecar: Running) -> None:
    alice = await sidecar.add_user(emails=("alice@example.com",), roles=("user",))
    token = (await sidecar.token(alice)).decode()
    user = {"_id": str(alice.id), "emails": "alice@example.com", "role": "user"}
    before = await sidecar.parts.keys.verify(token.encode(), SESSION_TOKEN)
    for body in ({"token": token}, {"token": token, "user": {}}, {"token": token, "user": user}):
        data = (await ask(sidecar, body)).json["data"]
        assert data == {"user": user, "token": data["token"]}
        claims = await sidecar.parts.keys.verify(data["token"].encode(), SESSION_TOKEN)
        assert claims["jti"] != before["jti"]
        assert {**claims, "jti": ""} == {**before, "jti": ""}
        assert (await sidecar.check("nginx", [bearer(data["token"].encode())])).status == 200
    assert (await ask(sidecar, {"token": token, "user": {"role": "admin"}})).json == UNAUTHORIZED
    await sidecar.store.sessions.revoke_user(alice.id)
    sidecar.clock.advance(1)
    assert (await ask(sidecar, {"token": token})).json == UNAUTHORIZED


async def test_an_api_key_is_never_exchanged(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    key = await sidecar.api_key(alice)
    user = {"_id": str(alice.id), "emails": "", "role": ""}
    answer = await ask(sidecar, {"token": key.decode()})
    assert answer.json == {"data": {"user": user, "token": key.decode()}}
    assert not answer.all("Set-Cookie")
    assert user_of(await ask(sidecar, {"user": user}, bearer(key))) == user


async def test_a_bearer_and_a_token_in_the_body_have_to_be_one(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    one, other = await sidecar.token(alice), await sidecar.token(alice)
    same = await ask(sidecar, {"token": one.decode()}, bearer(one))
    assert (same.status, list(same.json["data"])) == (200, ["user", "token"])
    assert (await ask(sidecar, {"token": one.decode()}, bearer(other))).json == UNAUTHORIZED
    assert (await ask(sidecar, {"token": one.decode()}, bearer(b"junk"))).json == UNAUTHORIZED
    assert (await ask(sidecar, {"token": "junk"}, bearer(one))).json == UNAUTHORIZED
    assert (await ask(sidecar, {"token": ""}, bearer(one))).json == UNAUTHORIZED


# --- which credential ----------------------------------------------------------------------------


async def test_the_sessions_cookie_is_accepted_and_refreshed(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    session = await sidecar.session(alice)
    assert user_of(await ask(sidecar, {"user": {"_id": str(alice.id)}}, session))["_id"] == str(alice.id)
    sidecar.clock.advance(60)
    answer = await ask(sidecar, {"user": {}}, session)
    assert answer.cookies() == dict([session[1].decode().split("=", 1)])


async def test_a_bad_credential_never_falls_through_to_the_next(sidecar: Running) -> None:
    alice, bob = await sidecar.add_user(), await sidecar.add_user("bob")
    session, token = await sidecar.session(bob), await sidecar.token(alice)
    assert user_of(await ask(sidecar, {"user": {}}, bearer(token), session))["_id"] == str(alice.id)
    in_body = await ask(sidecar, {"token": token.decode()}, session)
    assert in_body.json["data"]["user"]["_id"] == str(alice.id)
    for answer in (
        await ask(sidecar, {"user": {}}, bearer(b"junk"), session),
        await ask(sidecar, {"user": {}}, bearer(b""), session),
        await ask(sidecar, {"user": {}}, bearer(token), bearer(token)),
        await ask(sidecar, {"token": "junk"}, session),
        await ask(sidecar, {"token": ""}, session),
        await ask(sidecar, {"token": "\u00e9"}, session),
        await ask(sidecar, {"user": {}}),
        await ask(sidecar, {"user": {}}, (b"cookie", b"__Host-sidecar=junk")),
        await ask(sidecar, {"user": {}}, (b"x-api-key", await sidecar.api_key(alice))),
        await ask(sidecar, {"token": session[1].decode().partition("=")[2]}),
    ):
        assert (answer.status, answer.json) == (401, UNAUTHORIZED)
        assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'


# --- bodies that cannot be read ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="neither user nor token"),
        pytest.param(b'{"User": {}}', id="a member in another case"),
        pytest.param(b'{"user": null}', id="no user"),
        pytest.param(b'{"token": null}', id="no token"),
        pytest.param(b'{"user": {}, "token": null}', id="a user and no token"),
        pytest.param(b'{"user": "PLANTED"}', id="a user that is a string"),
        pytest.param(b'{"user": [{}]}', id="a list of users"),
        pytest.param(b'{"token": 5}', id="a token that is a number"),
        pytest.param(b'{"user": {"_id": 1}}', id="an id that is a number"),
        pytest.param(b'{"user": {"_id": null}}', id="an id that is null"),
        pytest.param(b'{"user": {"emails": null}}', id="addresses that are null"),
        pytest.param(b'{"user": {"emails": {"address": "PLANTED"}}}', id="addresses in an object"),
        pytest.param(b'{"user": {"emails": ["alice@example.com", 5]}}', id="a number among addresses"),
        pytest.param(b'{"user": {"emails": [null]}}', id="null among addresses"),
        pytest.param(b'{"user": {"role": ["PLANTED"]}}', id="roles in a list"),
        pytest.param(b'{"user": {"role": null}}', id="a role that is null"),
        pytest.param(b'{"user": {"role": true}}', id="a role that is true"),
    ],
)
async def test_a_body_that_is_no_question_is_a_bad_request(sidecar: Running, body: bytes) -> None:
    alice = await sidecar.add_user(emails=("alice@example.com",))
    answer = await sidecar.ask("POST", PATH, [bearer(await sidecar.token(alice))], body)
    message = answer.json["error"]["message"]
    COMPASS.refused(answer, 400, message)
    assert message.startswith("The body cannot be read: ")
    assert "PLANTED" not in answer.text
