"""Authing and GenAuth: the management token, the signature, and whether a user has a session in an app."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from math import inf
from pathlib import Path
from typing import Any

import pytest

from sidecar.access_keys import ROOT, access_key_secret
from sidecar.checks.authing_signature import read_signature
from sidecar.keys import MANAGEMENT_TOKEN, SESSION_TOKEN
from sidecar.model import Headers
from sidecar.records import App, NewUser, User, UserChange
from tests.checks.products import STATUS_PATH as STATUS
from tests.checks.products import TOKEN_PATH as TOKEN
from tests.checks.products import written_as_json
from tests.conftest import Start
from tests.running import Answer, Line, Running, bearer, locked, running

BAD = (400, 2231)
NOT_A_CALLER = (401, 2020)
NO_SUCH_USER = (404, 2004)
NO_SUCH_APP = (404, 2011)

SHOP: dict[str, Any] = {"rules": [{"app": "shop"}]}
"""An app that a rule names and the store does not know."""

REQUEST_ID = "934108e5-9fbf-4d24-8da1-c330328abd6c"
REQUEST: Line = (b"x-request-id", REQUEST_ID.encode())


def types_of(document: dict[str, Any]) -> dict[str, type]:
    """What each member is; True is a bool here, and no int."""
    return {name: type(value) for name, value in document.items()}


def result(answer: Answer) -> Any:
    """`data` of a success, which has all that the vendor documents for one, and no more."""
    assert answer.status == 200, answer.text
    document = answer.json
    assert types_of(document) == {"statusCode": int, "message": str, "requestId": str, "data": dict}, document
    assert (document["statusCode"], document["message"]) == (200, "Success")
    assert document["requestId"]
    return document["data"]


def is_active(answer: Answer) -> bool:
    """What a success says."""
    data = result(answer)
    assert types_of(data) == {"active": bool}
    return bool(data["active"])


def refusal(answer: Answer) -> tuple[int, int]:
    """`statusCode` and `apiCode` of a refusal, all that the vendor documents for one, and no more."""
    assert answer.status == 200
    written_as_json(answer)
    document = answer.json
    assert types_of(document) == {"statusCode": int, "message": str, "apiCode": int, "requestId": str}
    assert document["message"]
    assert document["requestId"]
    return document["statusCode"], document["apiCode"]


def outcome(answer: Answer) -> str | tuple[int, int]:
    """`active`, `inactive` or a refusal's codes: what a table compares."""
    if answer.json["statusCode"] != 200:
        return refusal(answer)
    return "active" if is_active(answer) else "inactive"


@dataclass(frozen=True)
class Backend:
    """A management client, with an access key of its own."""

    sidecar: Running
    key_id: str
    secret: str = field(repr=False)

    async def fetch(self, secret: str | None = None, peer: str = "127.0.0.1") -> Answer:
        """Asks for a management token."""
        credentials = {"accessKeyId": self.key_id, "accessKeySecret": secret or self.secret}
        return await self.sidecar.post_json(TOKEN, credentials, peer=peer)

    async def token(self) -> str:
        """A new management token."""
        return str(result(await self.fetch())["access_token"])

    async def ask(self, user: str, app: str = "shop", more: Mapping[str, object] | None = None) -> Answer:
        """Whether the user has a session in the app, asked with a new management token."""
        line = bearer(await self.token())
        return await self.sidecar.post_json(STATUS, {"appId": app, "userId": user, **(more or {})}, [line])

    async def finds_active(self, user: str, app: str = "shop") -> bool:
        """What the answer says."""
        return is_active(await self.ask(user, app))


async def backend(sidecar: Running, *, expires_at: float | None = None) -> Backend:
    """A backend with a new access key."""
    return Backend(sidecar, *await sidecar.access_key(expires_at=expires_at))


# --- the vendor's document -----------------------------------------------------------------------


async def test_the_documented_example_is_answered_as_documented(sidecar: Running) -> None:
    await sidecar.store.apps.add(App("app1", "app1", disabled=False, created_at=0.0))
    new = NewUser("ann", external_id="6229ffaxxxxxxxxcade3e3d9")
    await sidecar.session(await sidecar.store.users.add(new, now=0.0, by="test"), app="app1")
    line = bearer(await (await backend(sidecar)).token())
    question = {"appId": "app1", "userId": "6229ffaxxxxxxxxcade3e3d9"}

    answer = await sidecar.post_json(STATUS, question, [line, REQUEST])

    assert (answer.status, answer.one("content-type")) == (200, "application/json")
    assert answer.json == {
        "statusCode": 200,
        "message": "Success",
        "requestId": "934108e5-9fbf-4d24-8da1-c330328abd6c",
        "data": {"active": True},
    }
    assert is_active(answer)


async def test_a_failure_has_the_documented_codes_and_the_request_id(sidecar: Running) -> None:
    line = bearer(await (await backend(sidecar)).token())

    answer = await sidecar.post_json(STATUS, {"appId": "app1", "userId": "nobody"}, [line, REQUEST])

    assert answer.json == {
        "statusCode": 404,
        "message": "There is no such app",
        "apiCode": 2011,
        "requestId": "934108e5-9fbf-4d24-8da1-c330328abd6c",
    }
    assert refusal(answer) == NO_SUCH_APP


# --- the management token ------------------------------------------------------------------------


def claims_as_clients_read_them(token: str) -> Any:
    """The clients decode the payload with the standard alphabet, in which `-` and `_` are nothing."""
    payload = token.split(".")[1]
    return json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4)))


async def test_an_access_key_gets_a_management_token(sidecar: Running) -> None:
    ours = await backend(sidecar)
    data = result(await ours.fetch())
    assert types_of(data) == {"access_token": str, "expires_in": int}
    assert data["expires_in"] == 7200
    claims = claims_as_clients_read_them(data["access_token"])
    assert (claims["scoped_userpool_id"], claims["sub"]) == ("sidecar", ours.key_id)
    assert (claims["iat"], claims["exp"]) == (1_800_000_000, 1_800_007_200)


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param("https://sso.example.com/?a>b~c", id="three of the four, in an address"),
        pytest.param("???>>>~~~\x7f\x7f\x7f", id="all four, in every place"),
        pytest.param("\u00ff\u00fe\u4e2d\U0001f642", id="no ASCII"),
    ],
)
@pytest.mark.parametrize("padding", ["", "a", "ab"])
async def test_its_claims_can_be_read_in_the_standard_alphabet(
    start: Start, issuer: str, padding: str
) -> None:
    async with start({"tokens": {"issuer": padding + issuer}}) as sidecar:
        token = await (await backend(sidecar)).token()
        assert set("-_").isdisjoint(token.split(".")[1])
        assert claims_as_clients_read_them(token)["iss"] == padding + issuer


GOOD = {"accessKeyId": "ID", "accessKeySecret": "SECRET"}


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        pytest.param(GOOD, 200, id="both"),
        pytest.param({**GOOD, "grantType": "x"}, 200, id="and one that nobody knows"),
        pytest.param({}, BAD, id="none"),
        pytest.param({"accessKeyId": "ID"}, BAD, id="no secret"),
        pytest.param({"accessKeySecret": "SECRET"}, BAD, id="no id"),
        pytest.param({**GOOD, "accessKeyId": ""}, BAD, id="an empty id"),
        pytest.param({**GOOD, "accessKeySecret": ""}, BAD, id="an empty secret"),
        pytest.param({**GOOD, "accessKeyId": None}, BAD, id="null"),
        pytest.param({**GOOD, "accessKeySecret": 5}, BAD, id="a number"),
        pytest.param({**GOOD, "accessKeySecret": ["SECRET"]}, BAD, id="a list"),
        pytest.param({"access_key_id": "ID", "access_key_secret": "SECRET"}, BAD, id="in snake case"),
        pytest.param([GOOD], BAD, id="no object"),
        pytest.param({**GOOD, "accessKeySecret": "SECRETx"}, NOT_A_CALLER, id="a wrong secret"),
        pytest.param(
            {**GOOD, "accessKeySecret": "geheim\u00df"}, NOT_A_CALLER, id="a secret that is not ASCII"
        ),
        pytest.param({**GOOD, "accessKeyId": "ak_" + "0" * 32}, NOT_A_CALLER, id="an unknown key"),
        pytest.param({**GOOD, "accessKeyId": "ID\x00"}, NOT_A_CALLER, id="a key with a NUL"),
        pytest.param({**GOOD, "accessKeyId": "k\u00fc"}, NOT_A_CALLER, id="a key that is not ASCII"),
    ],
)
async def test_a_token_is_given_for_a_key_and_its_secret_only(
    sidecar: Running, credentials: object, expected: int | tuple[int, int]
) -> None:
    ours = await backend(sidecar)
    text = json.dumps(credentials).replace("ID", ours.key_id).replace("SECRET", ours.secret)
    answer = await sidecar.ask("POST", TOKEN, body=text.encode())
    assert (200 if answer.json["statusCode"] == 200 and result(answer) else refusal(answer)) == expected


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"accessKeyId":"a"}', "accessKeySecret"),
        (b'{"accessKeyId":7,"accessKeySecret":"PLANTED"}', "accessKeyId"),
    ],
)
async def test_what_is_missing_is_named_and_nothing_is_quoted(
    sidecar: Running, body: bytes, named: str
) -> None:
    answer = await sidecar.ask("POST", TOKEN, body=body)
    assert refusal(answer) == BAD
    assert named in answer.json["message"]
    assert "PLANTED" not in answer.text


async def test_an_unknown_key_is_refused_like_a_wrong_secret(sidecar: Running) -> None:
    ours = await backend(sidecar)
    wrong, unknown = await ours.fetch("wrong"), await Backend(sidecar, "ak_0", "wrong").fetch()
    assert wrong.json["message"] == unknown.json["message"]
    assert refusal(wrong) == refusal(unknown) == NOT_A_CALLER


async def test_a_revoked_key_and_its_tokens_end_at_once(sidecar: Running) -> None:
    ours = await backend(sidecar)
    line = bearer(await ours.token())
    question = {"appId": "shop", "userId": "nobody"}
    assert refusal(await sidecar.post_json(STATUS, question, [line])) == NO_SUCH_APP
    await sidecar.store.access_keys.revoke([ours.key_id])
    assert refusal(await sidecar.post_json(STATUS, question, [line])) == NOT_A_CALLER
    assert refusal(await ours.fetch()) == NOT_A_CALLER


async def test_a_token_never_outlives_its_key(sidecar: Running) -> None:
    ours = await backend(sidecar, expires_at=sidecar.clock.now() + 90)
    data = result(await ours.fetch())
    assert data["expires_in"] == 90
    line = bearer(data["access_token"])
    question = {"appId": "shop", "userId": "nobody"}
    sidecar.clock.advance(89)
    assert refusal(await sidecar.post_json(STATUS, question, [line])) == NO_SUCH_APP
    sidecar.clock.advance(1)
    assert refusal(await sidecar.post_json(STATUS, question, [line])) == NOT_A_CALLER
    assert refusal(await ours.fetch()) == NOT_A_CALLER


async def test_a_token_lives_for_two_hours(start: Start) -> None:
    async with start(SHOP) as sidecar:
        await sidecar.add_user()
        line = bearer(await (await backend(sidecar)).token())
        question = {"appId": "shop", "userId": "alice"}
        sidecar.clock.advance(7199)
        assert outcome(await sidecar.post_json(STATUS, question, [line])) == "inactive"
        sidecar.clock.advance(1)
        assert outcome(await sidecar.post_json(STATUS, question, [line])) == NOT_A_CALLER


async def test_a_used_key_is_noted_as_used(sidecar: Running) -> None:
    ours = await backend(sidecar)
    sidecar.clock.advance(5)
    await ours.fetch("wrong")
    assert [key.last_used_at for key in await sidecar.store.access_keys.list()] == [None]
    await ours.fetch()
    assert [key.last_used_at for key in await sidecar.store.access_keys.list()] == [sidecar.clock.now()]


# --- limits --------------------------------------------------------------------------------------


async def test_five_wrong_secrets_ban_the_client_and_nobody_else(sidecar: Running) -> None:
    ours = await backend(sidecar)
    guesses = [await ours.fetch("wrong", peer="127.0.0.1") for _ in range(5)]
    assert {refusal(each) for each in guesses} == {NOT_A_CALLER}
    banned = await ours.fetch(peer="127.0.0.1")
    assert (refusal(banned), banned.one("Retry-After")) == ((429, 429), "300")
    assert result(await ours.fetch(peer="127.0.0.2"))
    sidecar.clock.advance(301)
    assert result(await ours.fetch(peer="127.0.0.1"))


async def test_four_wrong_secrets_do_not(sidecar: Running) -> None:
    ours = await backend(sidecar)
    for _ in range(4):
        await ours.fetch("wrong", peer="127.0.0.1")
    assert result(await ours.fetch(peer="127.0.0.1"))


async def test_a_fetched_token_counts_as_a_sign_in(start: Start) -> None:
    async with start({"limits": {"login": "3/minute"}}) as sidecar:
        ours = await backend(sidecar)
        for _ in range(3):
            assert result(await ours.fetch(peer="127.0.0.1"))
        limited = await ours.fetch(peer="127.0.0.1")
        assert (refusal(limited), limited.one("Retry-After")) == ((429, 429), "60")
        assert result(await ours.fetch(peer="127.0.0.2"))
        sidecar.clock.advance(61)
        assert result(await ours.fetch(peer="127.0.0.1"))


async def test_an_exempt_network_is_neither_counted_nor_banned(start: Start) -> None:
    limits = {"login": "3/minute", "exempt_networks": ["127.0.0.2/32"]}
    async with start({"limits": limits}) as sidecar:
        ours = await backend(sidecar)
        for _ in range(20):
            assert refusal(await ours.fetch("wrong", peer="127.0.0.2")) == NOT_A_CALLER
        assert result(await ours.fetch(peer="127.0.0.2"))


# --- who is active -------------------------------------------------------------------------------


async def test_a_session_is_active_in_the_app_that_it_began_in_and_in_no_other(start: Start) -> None:
    async with start({"rules": [{"app": "shop", "paths": ["/shop"]}, {"app": "crm"}]}) as sidecar:
        ours = await backend(sidecar)
        await sidecar.session(await sidecar.add_user(), app="shop")
        assert await ours.finds_active("alice", "shop")
        assert not await ours.finds_active("alice", "crm")


async def test_a_session_is_active_in_every_app_that_it_was_used_in(start: Start) -> None:
    async with start({"rules": [{"app": "shop", "paths": ["/shop"]}, {"app": "crm"}]}) as sidecar:
        ours = await backend(sidecar)
        session = await sidecar.session(await sidecar.add_user())
        assert not await ours.finds_active("alice", "shop")
        assert (await sidecar.check("nginx", [session], uri=b"/shop")).status == 200
        assert await ours.finds_active("alice", "shop")
        assert not await ours.finds_active("alice", "crm")
        assert (await sidecar.check("nginx", [session], uri=b"/crm")).status == 200
        assert await ours.finds_active("alice", "shop")
        assert await ours.finds_active("alice", "crm")


async def test_a_use_by_a_token_of_the_session_is_a_use(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        line = bearer(await sidecar.token(await sidecar.add_user()))
        assert (await sidecar.check("nginx", [line])).status == 200
        assert await ours.finds_active("alice")


async def test_an_api_key_is_no_session(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        key = await sidecar.api_key(await sidecar.add_user())
        assert (await sidecar.check("nginx", [(b"x-api-key", key)])).status == 200
        assert not await ours.finds_active("alice")


async def test_a_session_of_somebody_else_is_not_theirs(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        await sidecar.session(await sidecar.add_user("alice"), app="shop")
        await sidecar.add_user("bob")
        assert await ours.finds_active("alice")
        assert not await ours.finds_active("bob")


async def test_a_use_that_another_process_noted_counts(tmp_path: Path) -> None:
    async with running(tmp_path, SHOP) as one, running(tmp_path, SHOP) as other:
        session = await one.session(await one.add_user())
        theirs = await backend(other)
        assert not await theirs.finds_active("alice")
        assert (await one.check("nginx", [session])).status == 200
        assert await theirs.finds_active("alice")


async def test_a_sign_out_ends_it(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        session = await sidecar.session(await sidecar.add_user(), app="shop")
        assert await ours.finds_active("alice")
        cookie, csrf = await sidecar.form("/logout", [session])
        assert (await sidecar.post("/logout", [cookie], csrf=csrf)).status == 303
        assert not await ours.finds_active("alice")


async def test_it_is_active_while_one_of_several_sessions_is_left(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        alice = await sidecar.add_user()
        first, second, elsewhere = [
            (await sidecar.parts.sessions.begin(alice, app=app)).session.id for app in ("shop", "shop", "")
        ]
        await sidecar.store.sessions.revoke([first])
        assert await ours.finds_active("alice")
        await sidecar.store.sessions.revoke([second])
        assert not await ours.finds_active("alice")
        assert await sidecar.store.sessions.find(elsewhere)


async def test_it_ends_when_the_session_expires(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        await sidecar.parts.sessions.begin(await sidecar.add_user(), lifetime=60, app="shop")
        sidecar.clock.advance(59)
        assert await ours.finds_active("alice")
        sidecar.clock.advance(1)
        assert not await ours.finds_active("alice")


async def test_it_ends_when_the_session_is_not_used(start: Start) -> None:
    async with start({**SHOP, "session": {"idle_timeout": "10m"}}) as sidecar:
        ours = await backend(sidecar)
        session = await sidecar.session(await sidecar.add_user(), app="shop")
        for _ in range(3):
            sidecar.clock.advance(599)
            assert await ours.finds_active("alice")
            assert (await sidecar.check("nginx", [session])).status == 200
        sidecar.clock.advance(599)
        assert await ours.finds_active("alice")  # to ask about it is no use of it
        sidecar.clock.advance(1)
        assert not await ours.finds_active("alice")


async def test_a_disabled_user_is_not_active(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        alice = await sidecar.add_user()
        await sidecar.session(alice, app="shop")
        for disabled in (True, False):
            await sidecar.store.users.change(alice.id, UserChange(disabled=disabled), now=0.0, by="test")
            assert await ours.finds_active("alice") is not disabled


async def test_nobody_is_active_in_a_disabled_app(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        await sidecar.store.apps.add(App("shop", "Shop", disabled=False, created_at=0.0))
        await sidecar.session(await sidecar.add_user(), app="shop")
        for disabled in (True, False):
            await sidecar.store.apps.set_disabled("shop", disabled)
            assert await ours.finds_active("alice") is not disabled


@pytest.mark.parametrize(
    ("app", "user", "expected"),
    [
        pytest.param("shop", "alice", "inactive", id="an app of a rule"),
        pytest.param("listed", "alice", "inactive", id="an app of the store"),
        pytest.param("nowhere", "alice", NO_SUCH_APP, id="no app"),
        pytest.param("Shop", "alice", NO_SUCH_APP, id="an app in another case"),
        pytest.param("shop ", "alice", NO_SUCH_APP, id="an app with a space"),
        pytest.param("shop", "bob", NO_SUCH_USER, id="no user"),
        pytest.param("nowhere", "bob", NO_SUCH_APP, id="neither"),
    ],
)
@pytest.mark.parametrize("hide_unknown", [False, True])
async def test_what_is_unknown_is_said_unless_unknown_users_are_hidden(
    start: Start, app: str, user: str, expected: str | tuple[int, int], hide_unknown: bool
) -> None:
    tables = {"rules": [{"app": "shop"}, {}], "checks": {"authing": {"hide_unknown": hide_unknown}}}
    async with start(tables) as sidecar:
        ours = await backend(sidecar)
        await sidecar.store.apps.add(App("listed", "Listed", disabled=False, created_at=0.0))
        await sidecar.add_user()
        hidden = hide_unknown and expected == NO_SUCH_USER
        assert outcome(await ours.ask(user, app)) == ("inactive" if hidden else expected)


async def test_a_removed_user_is_unknown(start: Start) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        alice = await sidecar.add_user()
        await sidecar.session(alice, app="shop")
        await sidecar.store.users.remove(alice.id)
        assert refusal(await ours.ask("alice")) == NO_SUCH_USER
        assert refusal(await ours.ask(str(alice.id))) == NO_SUCH_USER


# --- which user ----------------------------------------------------------------------------------


async def add(sidecar: Running, new: NewUser) -> User:
    return await sidecar.store.users.add(new, now=0.0, by="test")


@pytest.mark.parametrize(
    ("given", "kind", "found"),
    [
        ("ID", None, True),
        ("ID", "user_id", True),
        ("ID", "username", False),
        ("alice", None, True),
        ("ALICE", None, True),
        ("alice", "username", True),
        ("Alice", "username", True),
        ("alice", "user_id", False),
        ("alice", "email", False),
        ("alice@example.com", None, True),
        ("ALICE@Example.COM", None, True),
        ("alice@example.org", None, True),
        ("alice@example.org", "email", True),
        ("Alice@Example.org", "email", True),
        ("alice@example.com", "username", False),
        ("+49 30 1234", None, True),
        ("+49 30 1234", "phone", True),
        ("+49 30 1234", "external_id", False),
        ("+49301234", None, False),
        ("Ext-1", None, True),
        ("Ext-1", "external_id", True),
        ("Ext-1", "phone", False),
        ("ext-1", None, False),
        ("ID", "identity", False),
        ("Ext-1", "sync_relation", False),
        ("0ID", None, False),
        ("00ID", "user_id", False),
        ("+ID", None, False),
        ("-ID", None, False),
        (" ID", None, False),
        ("ID ", None, False),
        ("ID.0", None, False),
        ("IDe0", None, False),
        ("0", None, False),
        ("0x1", None, False),
        ("1_0", None, False),
        ("\u0661", None, False),
        ("\uff11", "user_id", False),
        ("\u00b9", None, False),
        ("9" * 18, None, False),
        ("9" * 19, None, False),
        ("1" + "0" * 5000, None, False),
        ("alice\x00", None, False),
        ("' OR 1=1 --", None, False),
        ("%", None, False),
        ("Alice Liddell", None, False),
        ("\U0001f642", None, False),
        ("x" * 60_000, None, False),
    ],
)
async def test_a_user_is_found_by_what_the_vendor_documents(
    start: Start, given: str, kind: str | None, found: bool
) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        emails = ("alice@example.com", "Alice@example.org")
        alice = await add(sidecar, NewUser("alice", emails, "+49 30 1234", "Alice Liddell", "Ext-1"))
        await sidecar.session(alice, app="shop")
        options = {} if kind is None else {"options": {"userIdType": kind}}
        answer = await ours.ask(given.replace("ID", str(alice.id)), more=options)
        assert outcome(answer) == ("active" if found else NO_SUCH_USER)


@pytest.mark.parametrize(
    ("given", "kind", "whose"),
    [
        ("1", None, "by id"),
        ("1", "user_id", "by id"),
        ("1", "username", "by username"),
        ("1", "phone", "by phone"),
        ("1", "external_id", "by external id"),
        ("u", None, "by username"),
        ("u", "phone", "by phone"),
        ("u", "external_id", "by external id"),
        ("m@x", None, "by e-mail"),
        ("m@x", "email", "by e-mail"),
        ("m@x", "phone", "by phone"),
        ("m@x", "external_id", "by external id"),
        ("p", None, "by phone"),
        ("p", "external_id", "by external id"),
    ],
)
async def test_where_it_fits_several_the_first_way_wins_unless_one_is_named(
    start: Start, given: str, kind: str | None, whose: str
) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        owners = {"by id": await sidecar.add_user("first")}
        assert owners["by id"].id == 1
        fields: dict[str, dict[str, Any]] = {"by username": {"username": given}} if given in "1u" else {}
        fields |= {"by e-mail": {"emails": (given,)}} if given == "m@x" else {}
        fields |= {"by phone": {"phone": given}, "by external id": {"external_id": given}}
        for owner, named in fields.items():
            owners[owner] = await add(sidecar, NewUser(**{"username": f"named {owner}", **named}))
        await sidecar.session(owners[whose], app="shop")
        options = {} if kind is None else {"options": {"userIdType": kind}}
        assert is_active(await ours.ask(given, more=options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "inactive"),
        (None, "inactive"),
        ({"userIdType": None}, "inactive"),
        ({"userIdType": "username", "somethingElse": 1}, "inactive"),
        ({"userIdType": "nickname"}, BAD),
        ({"userIdType": "USERNAME"}, BAD),
        ({"userIdType": ""}, BAD),
        ({"userIdType": 1}, BAD),
        ({"userIdType": ["username"]}, BAD),
        ("username", BAD),
        ([], BAD),
        (True, BAD),
    ],
)
async def test_options_are_read_strictly(
    start: Start, options: object, expected: str | tuple[int, int]
) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        await sidecar.add_user()
        assert outcome(await ours.ask("alice", more={"options": options})) == expected


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param('{"userId":"alice"}', "appId", id="no app"),
        pytest.param('{"appId":"shop"}', "userId", id="no user"),
        pytest.param('{"appId":"shop","userId":null}', "userId", id="null"),
        pytest.param('{"appId":"shop","userId":1}', "userId", id="a number"),
        pytest.param('{"appId":"shop","userId":true}', "userId", id="a truth"),
        pytest.param('{"appId":["shop"],"userId":"alice"}', "appId", id="a list"),
        pytest.param('{"appId":"","userId":"alice"}', "appId", id="an empty app"),
        pytest.param('{"appId":"shop","userId":""}', "userId", id="an empty user"),
        pytest.param('{"app_id":"shop","user_id":"alice"}', "appId", id="in snake case"),
        pytest.param("{}", "appId", id="nothing"),
    ],
)
async def test_a_question_that_cannot_be_read_is_a_missing_parameter(
    start: Start, body: str, named: str
) -> None:
    async with start(SHOP) as sidecar:
        await sidecar.add_user()
        line = (b"authorization", (await (await backend(sidecar)).token()).encode())
        answer = await sidecar.ask("POST", STATUS, [line], body.encode())
        assert refusal(answer) == BAD
        assert named in answer.json["message"]
        assert "alice" not in answer.text


# --- who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"Bearer TOKEN"], "active", id="a management token"),
        pytest.param([b"TOKEN"], "active", id="without Bearer"),
        pytest.param([b"bearer TOKEN"], "active", id="bearer in lower case"),
        pytest.param([b"Bearer   TOKEN"], "active", id="more spaces"),
        pytest.param([], NOT_A_CALLER, id="nothing"),
        pytest.param([b""], NOT_A_CALLER, id="an empty line"),
        pytest.param([b"Bearer"], NOT_A_CALLER, id="no token"),
        pytest.param([b"Bearer "], NOT_A_CALLER, id="an empty token"),
        pytest.param([b"Bearer junk"], NOT_A_CALLER, id="junk"),
        pytest.param([b"Bearer TOKEN", b"Bearer TOKEN"], NOT_A_CALLER, id="two lines"),
        pytest.param([b"Bearer junk", b"Bearer TOKEN"], NOT_A_CALLER, id="two lines that differ"),
        pytest.param([b"Bearer TOKEN TOKEN"], NOT_A_CALLER, id="two tokens"),
        pytest.param([b"Bearer TOKEN,"], NOT_A_CALLER, id="a token and a comma"),
        pytest.param([b"Bearer Bearer TOKEN"], NOT_A_CALLER, id="Bearer twice"),
        pytest.param([b"Basic TOKEN"], NOT_A_CALLER, id="another scheme"),
        pytest.param([b"authing TOKEN"], NOT_A_CALLER, id="in the place of a signature"),
        pytest.param([b"Bearer HALF"], NOT_A_CALLER, id="half a token"),
        pytest.param([b"Bearer CUT"], NOT_A_CALLER, id="all but the last character"),
        pytest.param([b"Bearer UNSIGNED"], NOT_A_CALLER, id="without its signature"),
        pytest.param([b"Bearer SESSION"], NOT_A_CALLER, id="a user's session token"),
        pytest.param([b"Bearer DISGUISED"], NOT_A_CALLER, id="a session token that names the access key"),
        pytest.param([b"Bearer API_KEY"], NOT_A_CALLER, id="an API key"),
        pytest.param([b"Bearer SECRET"], NOT_A_CALLER, id="the secret itself"),
        pytest.param([b"SECRET"], NOT_A_CALLER, id="the secret itself without Bearer"),
    ],
)
async def test_only_a_management_token_may_ask(
    start: Start, lines: list[bytes], expected: str | tuple[int, int]
) -> None:
    async with start(SHOP) as sidecar:
        ours = await backend(sidecar)
        alice = await sidecar.add_user()
        cookie = await sidecar.session(alice, app="shop")
        token = (await ours.token()).encode()
        disguised = await sidecar.parts.keys.sign(
            SESSION_TOKEN, {"sub": ours.key_id, "scoped_userpool_id": "sidecar"}, not_after=inf
        )
        values = {
            b"TOKEN": token,
            b"HALF": token[: len(token) // 2],
            b"CUT": token[:-1],
            b"UNSIGNED": token.rpartition(b".")[0] + b".",
            b"SESSION": await sidecar.token(alice),
            b"DISGUISED": disguised.text.encode(),
            b"API_KEY": await sidecar.api_key(alice),
            b"SECRET": ours.secret.encode(),
        }
        names = re.compile(b"|".join(values))  # in one go: a token may well have CUT in it
        lines = [names.sub(lambda found: values[found[0]], line) for line in lines]
        # A cookie of the browser's makes nobody a backend.
        headers = [cookie, *((b"authorization", line) for line in lines)]
        answer = await sidecar.post_json(STATUS, {"appId": "shop", "userId": "alice"}, headers)
        assert outcome(answer) == expected


async def test_a_token_for_a_key_that_was_never_there_is_refused(start: Start) -> None:
    async with start(SHOP) as sidecar:
        alice = await sidecar.add_user()
        for subject in ("ak_0", str(alice.id), ""):
            token = await sidecar.parts.keys.sign(MANAGEMENT_TOKEN, {"sub": subject}, not_after=inf)
            line = bearer(token.text)
            answer = await sidecar.post_json(STATUS, {"appId": "shop", "userId": "alice"}, [line])
            assert refusal(answer) == NOT_A_CALLER


async def test_a_management_token_is_nobodys_session(start: Start) -> None:
    async with start(SHOP) as sidecar:
        await sidecar.add_user()
        line = bearer(await (await backend(sidecar)).token())
        refused = await sidecar.check("nginx", [line])
        assert (refused.status, refused.reason) == (401, "invalid_token")
        assert (await sidecar.ask("GET", "/api/v1/user/check", [line])).status == 401


async def test_who_may_not_ask_learns_nothing_of_what_was_asked(start: Start) -> None:
    async with start(SHOP) as sidecar:
        await sidecar.add_user()
        bodies = [b"", b"{}", b'{"appId":"nowhere","userId":"x"}', b'{"appId":"shop","userId":"alice"}']
        answers = [await sidecar.ask("POST", STATUS, [REQUEST], body) for body in bodies]
        assert {refusal(answer) for answer in answers} == {NOT_A_CALLER}
        assert len({answer.body for answer in answers}) == 1


async def test_without_an_id_of_its_own_a_request_gets_one(sidecar: Running) -> None:
    answers = [
        await sidecar.post_json(STATUS, {}),
        await sidecar.post_json(STATUS, {}, [(b"x-request-id", b"\xff")]),
    ]
    assert len({answer.json["requestId"] for answer in answers}) == 2
    assert {len(answer.json["requestId"]) for answer in answers} == {32}


# --- signed requests -----------------------------------------------------------------------------

DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
"""What the clock of the tests says."""

ALICE = b'{"appId":"shop","userId":"alice"}'


@dataclass(frozen=True)
class Signed:
    """A request as the vendor's Node client signs it, with the text that is signed written out."""

    nonce: str = "7db0b0adec92017d98235a6094f747a2"
    date: str = DATE
    method: str = "HMAC-SHA1"
    version: str = "1.0"
    lang: str = "zh-CN"
    query: str = "appId=shop&userId=alice"

    @property
    def text(self) -> str:
        return (
            "POST\n"
            f"date:{self.date}\n"
            f"x-authing-lang:{self.lang}\n"
            "x-authing-sdk-version:authing-node-sdk:4.0.1\n"
            f"x-authing-signature-method:{self.method}\n"
            f"x-authing-signature-nonce:{self.nonce}\n"
            f"x-authing-signature-version:{self.version}\n"
            f"/api/v3/check-session-status?{self.query}"
        )

    def lines(self, by: Backend) -> list[Line]:
        """The header lines, in the client's order."""
        digest = hmac.new(by.secret.encode(), self.text.encode("utf-8"), hashlib.sha1).digest()
        return [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"x-authing-signature-nonce", self.nonce.encode("latin-1")),
            (b"x-authing-signature-method", self.method.encode()),
            (b"x-authing-signature-version", self.version.encode()),
            (b"user-agent", b"AuthingIdentityCloud (linux; x64) Node.js/v20.20.2 Core/4.0.1"),
            (b"x-authing-sdk-version", b"authing-node-sdk:4.0.1"),
            (b"x-authing-lang", self.lang.encode("latin-1")),
            (b"date", self.date.encode()),
            (b"authorization", f"authing {by.key_id}:{base64.b64encode(digest).decode()}".encode()),
        ]

    async def sent(self, by: Backend, body: bytes = ALICE, to: Running | None = None) -> Answer:
        return await (to or by.sidecar).ask("POST", STATUS, self.lines(by), body)


@pytest.fixture
async def ours(start: Start) -> AsyncIterator[Backend]:
    """A backend; Alice has a session in the shop."""
    async with start(SHOP) as sidecar:
        await sidecar.session(await sidecar.add_user(), app="shop")
        yield await backend(sidecar)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own time is 13 hours ahead."""
    monkeypatch.setenv("TZ", "FAR-13")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_request_that_the_real_client_signed_verifies(far_from_greenwich: None) -> None:
    """Recorded from authing-node-sdk 4.0.1, with the access key `ak` and the secret `sk`."""
    recorded = [
        (b"accept", b"application/json"),
        (b"content-type", b"application/json"),
        (b"x-authing-signature-nonce", b"7db0b0adec92017d98235a6094f747a2"),
        (b"x-authing-signature-method", b"HMAC-SHA1"),
        (b"x-authing-signature-version", b"1.0"),
        (b"x-authing-sdk-version", b"authing-node-sdk:4.0.1"),
        (b"x-authing-lang", b"zh-CN"),
        (b"date", b"Fri, 20 Nov 2026 16:39:02 GMT"),
        (b"authorization", b"authing ak:JzVj9qSi4KWZsY9ylwQX2PdMe3g="),
        (b"host", b"127.0.0.1:9000"),
    ]
    signature = read_signature(Headers(recorded), STATUS, {"appId": "app1", "userId": "user1"})
    assert signature is not None
    assert signature.text == (
        b"POST\n"
        b"date:Fri, 20 Nov 2026 16:39:02 GMT\n"
        b"x-authing-lang:zh-CN\n"
        b"x-authing-sdk-version:authing-node-sdk:4.0.1\n"
        b"x-authing-signature-method:HMAC-SHA1\n"
        b"x-authing-signature-nonce:7db0b0adec92017d98235a6094f747a2\n"
        b"x-authing-signature-version:1.0\n"
        b"/api/v3/check-session-status?appId=app1&userId=user1"
    )
    assert signature.digest == hmac.new(b"sk", signature.text, hashlib.sha1).digest()
    assert (signature.key_id, signature.nonce) == ("ak", b"7db0b0adec92017d98235a6094f747a2")
    assert signature.signed_at == 1_795_192_742.0


@pytest.mark.parametrize(
    ("body", "query"),
    [
        pytest.param(ALICE, "appId=shop&userId=alice", id="strings"),
        pytest.param(b'{"userId":"alice","appId":"shop"}', "appId=shop&userId=alice", id="in another order"),
        pytest.param(
            b'{\n  "appId": "shop",\n  "userId": "alice"\n}', "appId=shop&userId=alice", id="with whitespace"
        ),
        pytest.param(
            b'{"appId":"shop","userId":"alice","options":{"userIdType":"username","b":[1,"x",null],"a":{}}}',
            'appId=shop&options={"userIdType":"username","b":[1,"x",null],"a":{}}&userId=alice',
            id="an object, in its own order",
        ),
        pytest.param(
            '{"appId":"shop","userId":"alice","zh":"中 &=+%ü","o":{"k":"é\\n\\"🙂"}}'.encode(),
            'appId=shop&o={"k":"é\\n\\"🙂"}&userId=alice&zh=中 &=+%ü',
            id="no ASCII, and nothing escaped",
        ),
        pytest.param(
            b'{"appId":"shop","userId":"alice","t":true,"f":false,"n":null,"i":12,"d":1.5}',
            "appId=shop&d=1.5&f=false&i=12&n=null&t=true&userId=alice",
            id="true, false, null and numbers",
        ),
        pytest.param(
            b'{"appId":"shop","userId":"alice","Z":"1","a1":"2","a10":"3","a2":"4","_":"5"}',
            "Z=1&_=5&a1=2&a10=3&a2=4&appId=shop&userId=alice",
            id="keys sorted by their code units",
        ),
        pytest.param(
            '{"appId":"shop","userId":"alice","\uff5e":"1","\U0001f642":"2"}'.encode(),
            "appId=shop&userId=alice&\U0001f642=2&\uff5e=1",
            id="keys sorted by UTF-16 code units",
        ),
        pytest.param(
            b'{"appId":"shop","userId":"alice","e":"","l":[]}',
            "appId=shop&e=&l=[]&userId=alice",
            id="empty values",
        ),
    ],
)
async def test_the_body_is_signed_as_the_client_writes_it(ours: Backend, body: bytes, query: str) -> None:
    assert is_active(await Signed(query=query).sent(ours, body))


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        pytest.param(b"en-US", "en-US", id="another language"),
        pytest.param(b"a\tb", "a b", id="a tab"),
        pytest.param(b"\xfc", "\u00fc", id="no ASCII"),
    ],
)
async def test_headers_are_signed_as_the_client_writes_them(ours: Backend, sent: bytes, signed: str) -> None:
    lines = [line for line in Signed(lang=signed).lines(ours) if line[0] != b"x-authing-lang"]
    answer = await ours.sidecar.ask("POST", STATUS, [*lines, (b"x-authing-lang", sent)], ALICE)
    assert is_active(answer)


async def test_the_tenant_that_the_client_can_name_is_signed_too(ours: Backend) -> None:
    text = Signed().text.replace("date:" + DATE, f"date:{DATE}\nx-authing-app-id:tenant-1")
    digest = hmac.new(ours.secret.encode(), text.encode(), hashlib.sha1).digest()
    authorization = f"authing {ours.key_id}:{base64.b64encode(digest).decode()}".encode()
    lines = [*Signed().lines(ours)[:-1], (b"authorization", authorization)]
    answer = await ours.sidecar.ask("POST", STATUS, [*lines, (b"x-authing-app-id", b"tenant-1")], ALICE)
    assert is_active(answer)


async def test_a_signed_request_is_accepted_at_a_path_with_two_slashes(ours: Backend) -> None:
    assert is_active(await ours.sidecar.ask("POST", "/" + STATUS, Signed().lines(ours), ALICE))


async def test_a_signed_request_is_accepted_once(ours: Backend) -> None:
    assert is_active(await Signed().sent(ours))
    ours.sidecar.recorded()
    assert refusal(await Signed().sent(ours)) == NOT_A_CALLER
    (line,) = ours.sidecar.recorded()
    assert (line["result"], line["key_id"]) == ("signature_replayed", ours.key_id)
    assert is_active(await Signed(nonce="another").sent(ours))


async def test_the_audit_says_why_a_signature_was_refused(ours: Backend) -> None:
    ours.sidecar.recorded()
    await Signed().sent(Backend(ours.sidecar, ours.key_id, "another secret"))
    ours.sidecar.clock.advance(301)
    await Signed().sent(ours)
    forged, late = ours.sidecar.recorded()
    assert (forged["result"], "key_id" in forged) == ("wrong_signature", False)
    assert (late["result"], late["key_id"], late["seconds"]) == ("signature_out_of_time", ours.key_id, 301)


async def test_a_nonce_is_good_once_whatever_else_is_signed_with_it(ours: Backend) -> None:
    assert is_active(await Signed().sent(ours))
    again = Signed(lang="en-US", date="Fri, 15 Jan 2027 08:00:01 GMT", query="appId=shop&userId=1")
    assert refusal(await again.sent(ours, b'{"appId":"shop","userId":"1"}')) == NOT_A_CALLER


async def test_a_nonce_is_of_one_key(ours: Backend) -> None:
    theirs = await backend(ours.sidecar)
    assert is_active(await Signed().sent(ours))
    assert is_active(await Signed().sent(theirs))


async def test_a_nonce_is_used_up_in_every_process(tmp_path: Path) -> None:
    async with running(tmp_path, SHOP) as one, running(tmp_path, SHOP) as other:
        await one.session(await one.add_user(), app="shop")
        key = await backend(one)
        assert is_active(await Signed().sent(key, to=one))
        assert refusal(await Signed().sent(key, to=other)) == NOT_A_CALLER
        assert is_active(await Signed(nonce="another").sent(key, to=other))


async def test_a_nonce_is_used_up_by_a_request_that_was_accepted_only(ours: Backend) -> None:
    forged = [
        *Signed().lines(ours)[:-1],
        (b"authorization", b"authing " + ours.key_id.encode() + b":" + b"A" * 27 + b"="),
    ]
    assert refusal(await ours.sidecar.ask("POST", STATUS, forged, ALICE)) == NOT_A_CALLER
    assert is_active(await Signed().sent(ours))


@pytest.mark.parametrize(
    "disguise",
    [b"abc def", b"abc\tdef", b"abc\xa0", b"\x85abc", b"\xa0", b"", b"x" * 129],
)
async def test_a_nonce_that_could_be_written_in_two_ways_is_refused(ours: Backend, disguise: bytes) -> None:
    """The client signs the text of a header without the whitespace around it, and tabs as spaces."""
    nonce = disguise.decode("latin-1").replace("\t", " ").strip()
    lines = [line for line in Signed(nonce=nonce).lines(ours) if line[0] != b"x-authing-signature-nonce"]
    lines.append((b"x-authing-signature-nonce", disguise))
    assert refusal(await ours.sidecar.ask("POST", STATUS, lines, ALICE)) == NOT_A_CALLER


async def test_a_replay_under_a_nonce_that_reads_the_same_is_refused(ours: Backend) -> None:
    lines = Signed(nonce="abc").lines(ours)
    assert is_active(await ours.sidecar.ask("POST", STATUS, lines, ALICE))
    for disguise in (b"abc\xa0", b"\x85abc"):
        again = [(name, disguise if value == b"abc" else value) for name, value in lines]
        assert refusal(await ours.sidecar.ask("POST", STATUS, again, ALICE)) == NOT_A_CALLER


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (-360, NOT_A_CALLER),
        (-301, NOT_A_CALLER),
        (-300, "active"),
        (-240, "active"),
        (0, "active"),
        (240, "active"),
        (300, "active"),
        (301, NOT_A_CALLER),
        (360, NOT_A_CALLER),
        (-50_000_000, NOT_A_CALLER),
        (50_000_000, NOT_A_CALLER),
    ],
)
async def test_a_date_is_within_five_minutes(
    ours: Backend, offset: int, expected: str | tuple[int, int]
) -> None:
    date = formatdate(ours.sidecar.clock.now() + offset, usegmt=True)
    assert outcome(await Signed(date=date).sent(ours)) == expected


async def test_the_clock_has_fractions_and_dates_have_none(ours: Backend) -> None:
    ours.sidecar.clock.advance(300.5)
    assert refusal(await Signed().sent(ours)) == NOT_A_CALLER


@pytest.mark.parametrize("ahead", [-299, 0, 300], ids=["an old date", "the date", "a date to come"])
async def test_there_is_no_replay_at_the_last_instant(ours: Backend, ahead: int) -> None:
    signed = Signed(date=formatdate(ours.sidecar.clock.now() + ahead, usegmt=True))
    assert is_active(await signed.sent(ours))
    ours.sidecar.clock.advance(ahead + 300)
    await ours.sidecar.application.purge()
    assert refusal(await signed.sent(ours)) == NOT_A_CALLER
    # It is the nonce that stops it: another one with this date is still good.
    assert is_active(await Signed(date=signed.date, nonce="another").sent(ours))


async def marks(sidecar: Running) -> int:
    """How many nonces are kept. They are gone then."""
    return await sidecar.store.nonces.purge(now=inf)


@pytest.mark.parametrize(("after", "kept"), [(300, 1), (302, 0)])
async def test_nonces_are_purged_when_their_date_is_too_old(ours: Backend, after: int, kept: int) -> None:
    assert is_active(await Signed().sent(ours))
    ours.sidecar.clock.advance(after)
    await ours.sidecar.application.purge()
    assert await marks(ours.sidecar) == kept


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 15 Jan 2027 08:00:00",
        "Fri, 15 Jan 2027 08:00:00 +0000",
        "Fri, 15 Jan 2027 08:00:00 UTC",
        "Fri, 15 Jan 2027 08:00:00 -0000 GMT",
        "Fri, 15 Jan 2027 10:00:00 +0200 GMT",
        "Fri, 15 Jan 2027 10:00:00 CEST",
        "15 Jan 2027 08:00:00 GMT",
        "Friday, 15-Jan-27 08:00:00 GMT",
        "Fri Jan 15 08:00:00 2027",
        "Fri, 15 Jan 27 08:00:00 GMT",
        "Fri, 32 Jan 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 08:00:61 GMT",
        "2027-01-15T08:00:00Z",
        "1800000000",
        "12345678901234567890 Jan 2027 08:00:00 GMT",
        "Fri, 01 Jan 0001 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "GMT",
        "now GMT",
        "\u00b2 GMT",
    ],
)
async def test_a_date_is_in_the_one_form_of_http_and_near(ours: Backend, date: str) -> None:
    lines = [
        (name, date.encode("latin-1") if name == b"date" else value) for name, value in Signed().lines(ours)
    ]
    digest = hmac.new(ours.secret.encode(), Signed(date=date).text.encode(), hashlib.sha1).digest()
    authorization = f"authing {ours.key_id}:{base64.b64encode(digest).decode()}".encode()
    answer = await ours.sidecar.ask("POST", STATUS, [*lines[:-1], (b"authorization", authorization)], ALICE)
    assert refusal(answer) == NOT_A_CALLER


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"appId":"shop","userId":"bob"}', id="another user"),
        pytest.param(b'{"appId":"crm","userId":"alice"}', id="another app"),
        pytest.param(b'{"appId":"shop","userId":"alice","options":{}}', id="one member more"),
        pytest.param(b'{"appId":"shop"}', id="one member less"),
        pytest.param(b"{}", id="none"),
        pytest.param(b'{"appid":"shop","userId":"alice"}', id="a name in another case"),
    ],
)
async def test_a_body_that_was_changed_is_refused(ours: Backend, body: bytes) -> None:
    assert refusal(await Signed().sent(ours, body)) == NOT_A_CALLER
    assert is_active(await Signed().sent(ours))


async def test_a_signed_body_that_cannot_be_read_is_a_missing_parameter(ours: Backend) -> None:
    assert refusal(await Signed().sent(ours, b"[]")) == BAD
    assert refusal(await Signed(query="appId=shop").sent(ours, b'{"appId":"shop"}')) == BAD


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("x-authing-lang", "en-US", id="another language"),
        pytest.param("x-authing-sdk-version", "authing-node-sdk:4.0.2", id="another client"),
        pytest.param("x-authing-signature-nonce", "0" * 32, id="another nonce"),
        pytest.param("x-authing-signature-nonce", None, id="no nonce"),
        pytest.param("x-authing-signature-nonce", "", id="an empty nonce"),
        pytest.param("x-authing-signature-method", "HMAC-SHA256", id="another method"),
        pytest.param("x-authing-signature-method", None, id="no method"),
        pytest.param("x-authing-signature-version", "2.0", id="another version"),
        pytest.param("x-authing-signature-version", None, id="no version"),
        pytest.param("x-authing-lang", None, id="a signed header is gone"),
        pytest.param("date", "Fri, 15 Jan 2027 08:00:01 GMT", id="another date"),
        pytest.param("date", None, id="no date"),
        pytest.param("date", "", id="an empty date"),
    ],
)
async def test_a_header_that_was_changed_is_refused(ours: Backend, name: str, value: str | None) -> None:
    lines = [line for line in Signed().lines(ours) if line[0] != name.encode()]
    lines += [] if value is None else [(name.encode(), value.encode())]
    assert refusal(await ours.sidecar.ask("POST", STATUS, lines, ALICE)) == NOT_A_CALLER
    assert is_active(await Signed().sent(ours))


@pytest.mark.parametrize(
    "line",
    [
        (b"x-authing-more", b"1"),
        (b"x-authing-lang", b"zh-CN"),
        (b"x-authing-signature-nonce", b"7db0b0adec92017d98235a6094f747a2"),
        (b"date", DATE.encode()),
        (b"authorization", b"Bearer x"),
    ],
)
async def test_a_header_that_was_added_is_refused(ours: Backend, line: Line) -> None:
    lines = [*Signed().lines(ours), line]
    assert refusal(await ours.sidecar.ask("POST", STATUS, lines, ALICE)) == NOT_A_CALLER


@pytest.mark.parametrize("changed", [{"method": "HMAC-SHA256"}, {"method": "hmac-sha1"}, {"version": "2.0"}])
async def test_another_method_or_version_is_refused_however_it_is_signed(
    ours: Backend, changed: dict[str, str]
) -> None:
    assert refusal(await Signed(**changed).sent(ours)) == NOT_A_CALLER


@pytest.mark.parametrize(
    "authorization",
    [
        "authing ID:",
        "authing ID",
        "authing :DIGEST",
        "authing DIGEST",
        "authing ID:DIGEST:DIGEST",
        "authing ID:DIGEST x",
        "authing  ID:DIGEST",
        "authing ID: DIGEST",
        "Authing ID:DIGEST",
        "genauth ID:DIGEST",
        "Bearer ID:DIGEST",
        "ID:DIGEST",
        "authing id:DIGEST",
        "authing ak_0:DIGEST",
        "authing ID:DIGES",
        "authing ID:AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "authing ID:HEX",
    ],
)
async def test_a_signature_has_one_form(ours: Backend, authorization: str) -> None:
    lines = Signed().lines(ours)
    digest = lines[-1][1].decode().rpartition(":")[2]
    value = authorization.replace("DIGEST", digest).replace("DIGES", digest[:-2] + "=")
    value = value.replace("HEX", base64.b64decode(digest).hex()).replace("ID", ours.key_id)
    answer = await ours.sidecar.ask("POST", STATUS, [*lines[:-1], (b"authorization", value.encode())], ALICE)
    assert refusal(answer) == NOT_A_CALLER


async def test_a_key_signs_for_itself_alone(ours: Backend) -> None:
    theirs = await backend(ours.sidecar)
    mixed = Backend(ours.sidecar, ours.key_id, theirs.secret)
    assert refusal(await Signed().sent(mixed)) == NOT_A_CALLER


async def test_an_unknown_key_signs_for_nobody(ours: Backend) -> None:
    """Whoever has the root could sign for keys that were never made: they are nobody's."""
    secret = access_key_secret(await ours.sidecar.store.secret(ROOT), "ak_never-made")
    assert refusal(await Signed().sent(Backend(ours.sidecar, "ak_never-made", secret))) == NOT_A_CALLER


async def test_a_revoked_key_signs_no_more(ours: Backend) -> None:
    await ours.sidecar.store.access_keys.revoke([ours.key_id])
    assert refusal(await Signed().sent(ours)) == NOT_A_CALLER


async def test_an_expired_key_signs_no_more(ours: Backend) -> None:
    key = await backend(ours.sidecar, expires_at=ours.sidecar.clock.now() + 60)
    ours.sidecar.clock.advance(59)
    assert is_active(await Signed().sent(key))
    ours.sidecar.clock.advance(1)
    assert refusal(await Signed(nonce="another").sent(key)) == NOT_A_CALLER


async def test_while_a_nonce_cannot_be_written_nobody_knows(ours: Backend, tmp_path: Path) -> None:
    line = bearer(await ours.token())
    with locked(tmp_path / "sidecar.db"):
        assert refusal(await Signed().sent(ours)) == (503, 503)
        # A wrong signature is refused for what it is, and who has a token need not wait.
        assert refusal(await Signed().sent(Backend(ours.sidecar, ours.key_id, "wrong"))) == NOT_A_CALLER
        assert is_active(await ours.sidecar.ask("POST", STATUS, [line], ALICE))
    assert is_active(await Signed().sent(ours))


async def test_a_signature_is_no_way_to_a_management_token(ours: Backend) -> None:
    assert refusal(await ours.sidecar.ask("POST", TOKEN, Signed().lines(ours), ALICE)) == BAD
