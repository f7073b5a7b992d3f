"""Introspection (RFC 7662), against an endpoint on a socket that knows its clients and its tokens."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from math import inf
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
import structlog
from prometheus_client import generate_latest

from sidecar.answers import TOLD_EVERY, Answers
from sidecar.asking import Asker
from sidecar.authenticators.introspection import IntrospectionAuthenticator
from sidecar.breaker import Breaker
from sidecar.errors import SidecarError, UpstreamNotAsked, UpstreamThrottled, UpstreamUnavailable
from sidecar.model import Credential, Form, Identity, Rejected, Verified
from sidecar.ports import Authenticator
from sidecar.settings import IntrospectionSettings
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock
from tests.hostile import SECRET, WATCHDOG, Exchange, Hostile, Received, hostile, refused_port

CLIENT = IPv4Address("192.0.2.1")
NOW = ManualClock().now()
CACHE, NEGATIVE, STALE = 10.0, 2.0, 60.0
FAULTS, OPEN_FOR = 5, 5.0

INACTIVE = b'{"active": false}'

# RFC 7662, 2.1, the second request, and RFC 6749, 2.3.1
RFC_TOKEN = b"mF_9.B5f-4.1JqM"
RFC_CLIENT: dict[str, Any] = {"client_id": "s6BhdRkqt3", "client_secret": "gX1fBat3bV"}
RFC_AUTHORIZATION = "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"

# RFC 7662, 2.2
RFC_ANSWER = b"""{
      "active": true,
      "client_id": "l238j323ds-23ij4",
      "username": "jdoe",
      "scope": "read write dolphin",
      "sub": "Z5O3upPC88QrAjx00dis",
      "aud": "https://protected.example.net/resource",
      "iss": "https://server.example.com/",
      "exp": 1419356238,
      "iat": 1419350238,
      "extension_field": "twenty-seven"
     }"""
RFC_ISSUED, RFC_EXPIRES = 1419350238.0, 1419356238.0


# --- an endpoint, and one who asks it ------------------------------------------------------------


@dataclass
class Endpoint:
    """Answers those who say who they are, in either way, about the tokens that it knows."""

    client_id: str
    client_secret: str
    tokens: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def introspect(self, exchange: Exchange) -> None:
        request = exchange.request
        form = parse_qs(request.body.decode("ascii"), strict_parsing=True)
        if not self._knows(request, form):
            await exchange.answer(b'{"error":"invalid_client"}', status="401 Unauthorized")
            return
        good = request.method == "POST" and form.pop("token_type_hint", []) == ["access_token"]
        tokens = form.pop("token", [])
        if not good or len(tokens) != 1 or form:
            await exchange.answer(b'{"error":"invalid_request"}', status="400 Bad Request")
            return
        self.seen += tokens
        await self.goes_on.wait()
        await exchange.answer(self.tokens.get(tokens[0], INACTIVE), "Content-Type: application/json")

    def _knows(self, request: Received, form: dict[str, list[str]]) -> bool:
        ids, secrets = form.pop("client_id", []), form.pop("client_secret", [])
        for line in request.all("authorization"):
            scheme, _, value = line.partition(" ")
            assert scheme == "Basic"
            client_id, colon, secret = base64.b64decode(value, validate=True).decode("ascii").partition(":")
            assert colon
            ids.append(unquote_plus(client_id))
            secrets.append(unquote_plus(secret))
        return (ids, secrets) == ([self.client_id], [self.client_secret])


@dataclass
class World:
    server: Hostile
    endpoint: Endpoint
    clock: ManualClock
    metrics: Metrics
    breaker: Breaker
    authenticator: Authenticator
    settings: IntrospectionSettings

    async def ask(self, token: bytes = b"t") -> Verified | Rejected | None:
        return await self.authenticator.authenticate(Credential(Form.BEARER, token), CLIENT)

    async def says(self, answer: bytes | dict[str, Any], token: bytes = b"t") -> Verified | Rejected | None:
        """What comes of this answer."""
        self.endpoint.tokens[token.decode()] = answer if isinstance(answer, bytes) else dump(answer)
        return await self.ask(token)

    async def identity(self, answer: bytes | dict[str, Any], token: bytes = b"t") -> Identity:
        """Who it is by this answer."""
        verified = await self.says(answer, token)
        assert isinstance(verified, Verified)
        return verified.identity

    def answers_with(self, part: str) -> None:
        """From now on the endpoint is one that does what endpoints must not do: `/status?503`, `/silent`."""
        path, _, query = part.partition("?")
        play = self.server.parts[path]

        async def instead(exchange: Exchange) -> None:
            target = f"{path}?{query}"
            await play(
                Exchange(exchange.server, received(exchange, target), exchange.reader, exchange.writer)
            )

        self.server.parts["/introspect"] = instead

    def is_back(self) -> None:
        self.server.parts["/introspect"] = self.endpoint.introspect

    @property
    def asked(self) -> int:
        """How many requests have come."""
        return len(self.server.received)

    def looked_up(self) -> dict[str, int]:
        """What the metrics say of the cache."""
        found = re.findall(
            r'^sidecar_cache_requests_total\{.*result="(\w+)"\} (\d+)', self.text(), re.MULTILINE
        )
        return {result: int(count) for result, count in found}

    def text(self) -> str:
        return generate_latest(self.metrics.registry).decode()


def received(exchange: Exchange, target: str) -> Received:
    was = exchange.request
    return Received(was.method, target, was.lines, was.body, was.connection)


def dump(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


@asynccontextmanager
async def world(*, timeout: float = WATCHDOG, url: str = "", **tables: Any) -> AsyncIterator[World]:  # noqa: ASYNC109 - the asker's
    """An endpoint, and an authenticator with these settings, whose cache is closed at the end."""
    async with hostile() as server:
        given = {"client_id": "sidecar", "client_secret": "for the endpoint alone", **tables}
        settings = IntrospectionSettings.model_validate(
            {"type": "introspection", "url": url or server.url("/introspect?realm=a"), **given}
        )
        endpoint = Endpoint(settings.client_id, settings.client_secret)
        endpoint.goes_on.set()
        server.parts["/introspect"] = endpoint.introspect
        clock, metrics = ManualClock(), Metrics()
        breaker = Breaker("idp", faults=FAULTS, open_for=OPEN_FOR, clock=clock)
        asker = Asker(name="idp", timeout=timeout, breaker=breaker, metrics=metrics, clock=clock)
        answers = Answers(
            "idp",
            cache=CACHE,
            negative_cache=NEGATIVE,
            stale_if_error=STALE,
            refuse=asker.refuse,
            clock=clock,
            metrics=metrics,
        )
        authenticator = IntrospectionAuthenticator(
            name="idp",
            settings=settings,
            asker=asker,
            answers=answers,
            clock=clock,
            is_ours=lambda token: token == b"one-of-ours",
        )
        try:
            yield World(server, endpoint, clock, metrics, breaker, authenticator, settings)
        finally:
            await answers.close()
            await asker.close()


ALICE = {"active": True, "sub": "alice", "iss": "https://idp.example"}


# --- the examples of RFC 7662 --------------------------------------------------------------------


async def test_the_rfcs_active_token() -> None:
    async with world(audience=["https://protected.example.net/resource"]) as on:
        on.clock.wall = RFC_ISSUED
        assert await on.identity(RFC_ANSWER) == Identity(
            subject="Z5O3upPC88QrAjx00dis",
            method="introspection:idp",
            username="jdoe",
            scopes=("dolphin", "read", "write"),
            issuer="https://server.example.com/",
            expires_at=RFC_EXPIRES,
        )


@pytest.mark.parametrize(
    ("now", "is_good"), [(RFC_EXPIRES - 0.001, True), (RFC_EXPIRES, False), (NOW, False)]
)
async def test_the_rfcs_active_token_expires(now: float, is_good: bool) -> None:
    async with world() as on:
        on.clock.wall = now
        assert isinstance(await on.says(RFC_ANSWER), Verified) is is_good


async def test_the_rfcs_inactive_token() -> None:
    async with world() as on:
        assert await on.says(b'{\n  "active": false\n}') is None
        assert on.looked_up() == {"miss": 1}


async def test_the_rfcs_request() -> None:
    async with world(**RFC_CLIENT) as on:
        await on.identity(ALICE, RFC_TOKEN)
        (request,) = on.server.received
        assert (request.method, request.target) == ("POST", "/introspect?realm=a")
        assert request.all("accept") == ["application/json"]
        assert request.all("content-type") == ["application/x-www-form-urlencoded"]
        assert request.all("authorization") == [RFC_AUTHORIZATION]
        assert request.body == b"token=mF_9.B5f-4.1JqM&token_type_hint=access_token"


# --- what is asked -------------------------------------------------------------------------------


async def test_a_client_that_says_who_it_is_in_the_form() -> None:
    async with world(client_auth="post", **RFC_CLIENT) as on:
        await on.identity(ALICE)
        (request,) = on.server.received
        assert request.all("authorization") == []
        body = b"token=t&token_type_hint=access_token&client_id=s6BhdRkqt3&client_secret=gX1fBat3bV"
        assert request.body == body


@pytest.mark.parametrize("client_auth", ["basic", "post"])
@pytest.mark.parametrize(
    "word", ["a:b", "a b", "a+b", "a%20b", "a&b=c", "a%3Ab", ":", "%", "é ü", "日本", "a\tb", "~-._*/=\"'"]
)
async def test_whatever_a_clients_id_and_secret_are_made_of(client_auth: str, word: str) -> None:
    async with world(client_auth=client_auth, client_id=f"i{word}", client_secret=f"s{word}") as on:
        assert isinstance(await on.says(ALICE), Verified)


@pytest.mark.parametrize("token", [b"a+b/c==", b"~a_b-c.d", b"a.b.c", b"x" * 60_000])
async def test_whatever_a_token_is_made_of(token: bytes) -> None:
    async with world() as on:
        assert isinstance(await on.says(ALICE, token), Verified)
        assert on.endpoint.seen == [token.decode()]


@pytest.mark.parametrize("token", [b"t", b"sk", b"SK_t", b"a.sk_b"])
async def test_what_is_no_api_key_is_asked_about(token: bytes) -> None:
    async with world() as on:
        await on.ask(token)
        assert on.endpoint.seen == [token.decode()]


@pytest.mark.parametrize("token", [b"sk_", b"sk_AAAA", b"one-of-ours"])
async def test_what_is_ours_stays_here(token: bytes) -> None:
    async with world() as on:
        assert await on.says(ALICE, token) is None
        assert on.asked == 0


async def test_it_reads_bearers_alone() -> None:
    async with world() as on:
        assert on.authenticator.name == "idp"
        assert on.authenticator.forms == {Form.BEARER}
        assert not on.authenticator.cookies


# --- yes -----------------------------------------------------------------------------------------

FULL = {
    **ALICE,
    "username": "al",
    "preferred_username": "not this one",
    "email": "alice@example.com",
    "name": "Alice Liddell",
    "roles": ["b", "a"],
    "permissions": ["p"],
    "scope": "write read",
    "realm_access": {"roles": ["c"]},
    "client_id": "app",
    "uid": 7,
    "exp": NOW + 30,
}


async def test_everything_that_is_said_of_somebody() -> None:
    async with world() as on:
        assert await on.says(FULL) == Verified(
            Identity(
                subject="alice",
                method="introspection:idp",
                username="al",
                email="alice@example.com",
                name="Alice Liddell",
                roles=("a", "b"),
                permissions=("p",),
                scopes=("read", "write"),
                issuer="https://idp.example",
                expires_at=NOW + 30,
            ),
            cacheable=0.0,
        )


async def test_the_claims_that_the_settings_name() -> None:
    claims = {"subject": "uid", "username": "preferred_username", "roles": "realm_access.roles"}
    async with world(claims=claims, subject_prefix="idp|", numeric_subject=True) as on:
        identity = await on.identity(FULL)
        assert (identity.subject, identity.number) == ("idp|7", 7)
        assert (identity.username, identity.roles) == ("not this one", ("c",))


@pytest.mark.parametrize(
    ("exp", "expires_at"),
    [
        pytest.param(NOW + 1, NOW + 1, id="soon"),
        pytest.param(int(NOW) + 1, NOW + 1, id="a whole number"),
        pytest.param(NOW + 0.25, NOW + 0.25, id="a fraction"),
        pytest.param(10**30, 1e30, id="far ahead"),
        pytest.param(1.7e308, 1.7e308, id="the last moment"),
    ],
)
async def test_it_expires_when_they_say(exp: float, expires_at: float) -> None:
    async with world() as on:
        assert (await on.identity({**ALICE, "exp": exp})).expires_at == expires_at


async def test_one_that_does_not_say_when_it_expires() -> None:
    async with world() as on:
        assert (await on.identity(ALICE)).expires_at == inf


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"nbf": NOW + 2}, id="their clock is ahead of ours"),
        pytest.param({"nbf": "soon"}, id="whatever else nbf is"),
        pytest.param(dict.fromkeys(["exp", "nbf", "iss", "aud", "scope", "username"]), id="null is nothing"),
        pytest.param({"token_type": "Bearer"}, id="a bearer"),
        pytest.param({"token_type": "access_token"}, id="an access token"),
        pytest.param({"token_type": None}, id="of no type"),
    ],
)
async def test_what_is_active_is_in_force(more: dict[str, Any]) -> None:
    async with world() as on:
        assert (await on.identity({**ALICE, **more})).subject == "alice"


@pytest.mark.parametrize(
    ("issuer", "said", "expected"),
    [
        pytest.param("", "https://a.example/", "https://a.example/", id="theirs"),
        pytest.param("https://a.example", "https://a.example", "https://a.example", id="as configured"),
        pytest.param("", None, "", id="the endpoint's origin"),
        pytest.param("", "", "", id="none is as good as not said"),
    ],
)
async def test_whose_subjects_they_are(issuer: str, said: str | None, expected: str) -> None:
    async with world(issuer=issuer) as on:
        answer = {"active": True, "sub": "alice"} | ({} if said is None else {"iss": said})
        assert (await on.identity(answer)).issuer == (expected or on.server.url("").rstrip("/"))


@pytest.mark.parametrize(
    "aud", ["a", "b", ["b"], ["x", "a"], ["a", "b"]], ids=["one", "other", "list", "among others", "both"]
)
async def test_one_that_is_for_us(aud: object) -> None:
    async with world(audience=["a", "b"]) as on:
        assert (await on.identity({**ALICE, "aud": aud})).subject == "alice"


@pytest.mark.parametrize("aud", ["x", [], None, 5, {"a": 1}])
async def test_whom_it_is_for_says_nothing_where_nobody_wants_to_know(aud: object) -> None:
    async with world() as on:
        assert (await on.identity({**ALICE, "aud": aud})).subject == "alice"


# --- not known there, or good for nothing here: another may know it ------------------------------

NOBODYS = [
    pytest.param({}, {"active": False}, id="not active"),
    pytest.param({}, {**ALICE, "active": False}, id="not active, with more said of it"),
    pytest.param({}, {"active": False, "exp": "soon", "sub": 5}, id="not active, with garbage"),
    pytest.param({}, {**ALICE, "exp": NOW}, id="exp now"),
    pytest.param({}, {**ALICE, "exp": NOW - 0.001}, id="exp a moment ago"),
    pytest.param({}, {**ALICE, "exp": 0}, id="exp long ago"),
    pytest.param({}, {**ALICE, "exp": -(10**30)}, id="exp before all times"),
    pytest.param({}, {**ALICE, "token_type": "refresh_token"}, id="a refresh token"),
    pytest.param({}, {**ALICE, "token_type": "DPoP"}, id="one that is bound to a key"),
    pytest.param({}, {**ALICE, "token_type": ["Bearer"]}, id="a list for a token_type"),
    pytest.param({"issuer": "https://idp"}, ALICE, id="iss of another"),
    pytest.param({"issuer": "https://idp.example/"}, ALICE, id="iss without the slash"),
    pytest.param({"issuer": "https://IDP.example"}, ALICE, id="iss in another case"),
    pytest.param({"issuer": "a"}, {"active": True, "sub": "alice"}, id="no iss"),
    pytest.param({"issuer": "a"}, {**ALICE, "iss": None}, id="null for an iss"),
    pytest.param({"audience": ["a"]}, ALICE, id="no aud"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": None}, id="null for an aud"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": "b"}, id="aud of another"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": "ab"}, id="aud that begins like ours"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": "b a"}, id="aud with words in it"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": "A"}, id="aud in another case"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": ["b", "c"]}, id="aud of others"),
    pytest.param({"audience": ["a"]}, {**ALICE, "aud": []}, id="aud of nobody"),
    pytest.param({}, {"active": True}, id="nobody"),
    pytest.param({}, {"active": True, "client_id": "app", "username": "al"}, id="a client, no sub"),
    pytest.param({}, {**ALICE, "sub": ""}, id="an empty sub"),
    pytest.param({}, {**ALICE, "sub": None}, id="no sub at all"),
    pytest.param({}, {**ALICE, "sub": ["alice"]}, id="a list for a sub"),
    pytest.param({"claims": {"subject": "uid"}}, ALICE, id="a subject elsewhere"),
]


@pytest.mark.parametrize(("tables", "answer"), NOBODYS)
async def test_another_may_know_it(tables: dict[str, Any], answer: dict[str, Any]) -> None:
    async with world(**tables) as on:
        for number in range(FAULTS):  # whoever has such a token does not make it look like an outage
            assert await on.says(answer, b"t%d" % number) is None
        assert not on.breaker.is_open
        assert await on.ask(b"t0") is None
        assert on.asked == FAULTS
        on.clock.advance(NEGATIVE)
        await on.ask(b"t0")
        assert on.asked == FAULTS + 1


async def test_a_client_is_somebody_where_the_settings_say_so() -> None:
    async with world(claims={"subject": "client_id"}) as on:
        assert (await on.identity({"active": True, "client_id": "app"})).subject == "app"


async def test_why_is_logged(log: io.StringIO) -> None:
    async with world(audience=["a"]) as on:
        assert await on.says({**ALICE, "aud": SECRET}) is None
    (line,) = [json.loads(each) for each in log.getvalue().splitlines() if "token_refused" in each]
    assert (line["level"], line["authenticator"]) == ("debug", "idp")
    assert line["why"] == "it is not for us: its aud is another"


# --- what no such endpoint says is an outage -----------------------------------------------------

NOT_BOOLEAN: list[Any] = ["true", "false", "", 1, 0, None, [], [True], {}]
NO_TIME: list[Any] = [str(NOW + 1), "soon", True, False, [NOW + 1], {}, 10**400, -(10**400)]
NO_ISSUER: list[Any] = [5, True, ["https://idp.example"], {}]
NO_AUDIENCE: list[Any] = [5, True, {"a": "a"}, ["a", 5], ["a", None], [["a"]], [{}]]

GARBAGE = [
    *[pytest.param({}, {**ALICE, "active": each}, id=f"active {json.dumps(each)}") for each in NOT_BOOLEAN],
    pytest.param({}, {"sub": "alice"}, id="no active"),
    pytest.param({}, {"ACTIVE": True, "sub": "alice"}, id="active in capitals"),
    pytest.param({}, {}, id="nothing"),
    *[pytest.param({}, {**ALICE, "exp": each}, id=f"exp {json.dumps(each)[:10]}") for each in NO_TIME],
    pytest.param({}, b'{"active": true, "sub": "a", "exp": 1e999}', id="exp without end"),
    pytest.param({}, b'{"active": true, "sub": "a", "exp": Infinity}', id="exp Infinity"),
    pytest.param({}, b'{"active": true, "sub": "a", "exp": NaN}', id="exp NaN"),
    *[pytest.param({}, {**ALICE, "iss": each}, id=f"iss {json.dumps(each)}") for each in NO_ISSUER],
    *[
        pytest.param({"issuer": "a"}, {**ALICE, "iss": each}, id=f"iss {json.dumps(each)}, of a")
        for each in NO_ISSUER
    ],
    *[
        pytest.param({"audience": ["a"]}, {**ALICE, "aud": each}, id=f"aud {json.dumps(each)}")
        for each in NO_AUDIENCE
    ],
    pytest.param({}, b"", id="no body"),
    pytest.param({}, b"true", id="a word"),
    pytest.param({}, b"[]", id="a list"),
    pytest.param({}, b'[{"active": true, "sub": "alice"}]', id="an object in a list"),
    pytest.param({}, b'"{\\"active\\": true}"', id="a string"),
    pytest.param({}, b"active=true&sub=alice", id="a form"),
    pytest.param({}, b"<html>Sign in</html>", id="a page"),
    pytest.param({}, b"eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.", id="a JWT (RFC 9701)"),
    pytest.param({}, b'{"active": true, "sub": "alice"', id="half an object"),
    pytest.param({}, b'{"active": true, "sub": "alice"}{}', id="an object and more"),
    pytest.param({}, b'{"active": false, "active": true, "sub": "alice"}', id="active twice"),
    pytest.param({}, b'{"active": true, "sub": "mallory", "sub": "alice"}', id="sub twice"),
    pytest.param({}, b'\xef\xbb\xbf{"active": true, "sub": "alice"}', id="a byte-order mark"),
    pytest.param({}, b'{"active": true, "sub": "\xff"}', id="no UTF-8"),
    pytest.param({}, b'{"active": true, "sub": "\\ud800"}', id="half a surrogate pair"),
    pytest.param({}, b'{"active": true, "a": ' + b"[" * 100_000, id="deep"),
]


@pytest.mark.parametrize(("tables", "answer"), GARBAGE)
async def test_garbage_is_an_outage(tables: dict[str, Any], answer: bytes | dict[str, Any]) -> None:
    async with world(**tables) as on:
        for number in range(1, FAULTS + 1):
            assert not on.breaker.is_open
            with pytest.raises(
                UpstreamUnavailable, match=r"^idp: its answer is no introspection: "
            ) as caught:
                await on.says(answer, b"t%d" % number)
            assert "alice" not in str(caught.value)
            assert on.asked == number  # none is remembered
        assert on.breaker.is_open
        with pytest.raises(UpstreamNotAsked):
            await on.ask(b"another")


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
async def test_another_status_of_success_is_an_outage(status: int) -> None:
    async def answer(exchange: Exchange) -> None:
        length = "" if status == 204 else f"Content-Length: {len(dump(ALICE))}\r\n"
        body = b"" if status == 204 else dump(ALICE)
        await exchange.send(f"HTTP/1.1 {status} -\r\n{length}\r\n".encode() + body)

    async with world() as on:
        on.server.parts["/introspect"] = answer
        for number in range(FAULTS):
            with pytest.raises(UpstreamUnavailable, match=f"idp: status {status}"):
                await on.ask(b"t%d" % number)
        assert on.breaker.is_open


async def test_one_token_alone_makes_nothing_look_like_an_outage() -> None:
    async with world() as on:
        for _ in range(2 * FAULTS):
            with pytest.raises(UpstreamUnavailable):
                await on.says(b"{}", b"one of a kind")
        assert not on.breaker.is_open
        assert (await on.identity(ALICE)).subject == "alice"


@pytest.mark.parametrize(
    "part",
    [
        "/status?302",
        "/status?500",
        "/status?503",
        "/garbage",
        "/nothing",
        "/reset",
        "/short",
        "/long",
        "/drip-body",
        "/silent",
        "/huge",
    ],
)
async def test_every_fault_is_an_outage(part: str) -> None:
    async with world(timeout=0.3) as on:
        on.answers_with(part)
        for _ in range(FAULTS):
            async with asyncio.timeout(WATCHDOG):
                with pytest.raises(UpstreamUnavailable, match=r"^idp: "):
                    await on.ask()
        assert on.breaker.is_open
        on.clock.advance(OPEN_FOR)
        on.is_back()
        assert (await on.identity(ALICE)).subject == "alice"
        assert not on.breaker.is_open


async def test_nobody_listens() -> None:
    with refused_port() as port:
        async with world(url=f"http://127.0.0.1:{port}/") as on:
            with pytest.raises(UpstreamUnavailable, match="no connection"):
                await on.ask()


async def test_a_url_that_cannot_be_asked() -> None:
    async with world(url="https://999.1.1.1/introspect") as on:
        with pytest.raises(UpstreamUnavailable):
            await on.ask()


async def test_they_want_to_be_left_alone() -> None:
    async with world() as on:
        on.answers_with("/throttled?120")
        with pytest.raises(UpstreamThrottled) as caught:
            await on.ask()
        assert caught.value.retry_after == 120


# --- they refuse us ------------------------------------------------------------------------------


def logged(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for each in log.getvalue().splitlines() if (line := json.loads(each))["event"] == event]


@pytest.mark.parametrize("client_auth", ["basic", "post"])
@pytest.mark.parametrize("wrong", ["client_id", "client_secret"])
async def test_our_own_credentials_are_wrong(log: io.StringIO, client_auth: str, wrong: str) -> None:
    async with world(client_auth=client_auth) as on:
        setattr(on.endpoint, wrong, SECRET)
        for number in range(FAULTS):
            assert not on.breaker.is_open
            with pytest.raises(
                UpstreamUnavailable, match=r"^idp: status 401: it refuses our client_id and client_secret$"
            ):
                await on.says(ALICE, b"t%d" % number)
        assert on.breaker.is_open
        assert on.asked == FAULTS
    (line,) = logged(log, "upstream_did_not_answer")
    assert (line["level"], line["authenticator"]) == ("warning", "idp")
    assert line["error"] == "idp: status 401: it refuses our client_id and client_secret"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_what_goes_wrong_is_logged_once_a_minute(log: io.StringIO, status: int) -> None:
    async with world() as on:
        for number in range(3):  # they come and go
            on.answers_with(f"/status?{status}")
            with pytest.raises(UpstreamUnavailable, match=f"status {status}"):
                await on.ask(b"t%d" % number)
            on.is_back()
            await on.identity(ALICE, b"u%d" % number)
            on.clock.advance(TOLD_EVERY / 2)
    assert len(logged(log, "upstream_did_not_answer")) == 2


@pytest.mark.parametrize("status", [400, 404, 405, 413, 414, 415, 422, 499])
async def test_a_token_that_they_do_not_take_is_no_reason_to_ask_about_no_other(status: int) -> None:
    async with world() as on:
        on.answers_with(f"/status?{status}")
        for number in range(FAULTS + 1):
            with pytest.raises(UpstreamUnavailable, match=rf"^idp: status {status}: this is no answer"):
                await on.ask(b"t%d" % number)
        assert on.asked == FAULTS + 1
        on.is_back()
        assert (await on.identity(ALICE, b"t0")).subject == "alice"


# --- what is remembered --------------------------------------------------------------------------


async def test_an_answer_is_remembered() -> None:
    async with world() as on:
        first = await on.says(ALICE)
        on.clock.advance(CACHE * 0.7)
        assert await on.says({**ALICE, "sub": "bob"}) == first
        assert on.asked == 1
        on.clock.advance(CACHE)
        assert (await on.identity({**ALICE, "sub": "bob"})).subject == "bob"


async def test_each_token_has_an_answer_of_its_own() -> None:
    async with world() as on:
        tokens = [b"t", b"T", b"t=", b"t.", b"tt", b"t" * 5000, b"t" * 5001]
        for number, token in enumerate(tokens):
            await on.identity({**ALICE, "sub": f"user{number}"}, token)
        for number, token in enumerate(tokens):
            verified = await on.ask(token)
            assert isinstance(verified, Verified)
            assert verified.identity.subject == f"user{number}"
        assert on.asked == len(tokens)


async def test_never_longer_than_exp() -> None:
    async with world() as on:
        assert (await on.identity({**ALICE, "exp": NOW + 3})).expires_at == NOW + 3
        on.clock.advance(2.999)
        assert isinstance(await on.ask(), Verified)
        assert on.asked == 1
        on.clock.advance(0.001)
        assert await on.ask() is None  # they still say so, and it is over
        assert on.asked == 2


async def test_nor_while_they_are_down() -> None:
    async with world() as on:
        await on.identity({**ALICE, "exp": NOW + CACHE + 5})
        on.answers_with("/status?503")
        on.clock.advance(CACHE + 4.999)
        assert isinstance(await on.ask(), Verified)
        on.clock.advance(0.001)
        with pytest.raises(UpstreamUnavailable):
            await on.ask()


async def test_whom_they_knew_goes_on_while_they_are_down() -> None:
    async with world() as on:
        await on.identity(ALICE)
        for part in ("/status?503", "/status?401", "/status?400", "/throttled?5", "/garbage", "/"):
            on.answers_with(part)
            on.clock.advance(CACHE)
            verified = await on.ask()
            assert isinstance(verified, Verified), part
            assert verified.identity.subject == "alice"
        with pytest.raises(UpstreamUnavailable):
            await on.ask(b"unknown")
        on.clock.advance(STALE)
        with pytest.raises(UpstreamUnavailable):
            await on.ask()
        assert on.looked_up()["stale"] == 6


async def test_whom_they_no_longer_know_does_not() -> None:
    async with world() as on:
        await on.identity(ALICE)
        on.clock.advance(CACHE)
        assert await on.says(INACTIVE) is None
        on.answers_with("/status?503")
        on.clock.advance(NEGATIVE)
        with pytest.raises(UpstreamUnavailable):
            await on.ask()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(ALICE, Verified, id="yes"),
        pytest.param({"active": False}, type(None), id="no"),
        pytest.param({"active": 1}, UpstreamUnavailable, id="garbage"),
    ],
)
async def test_a_hundred_at_once_ask_once(answer: dict[str, Any], kind: type) -> None:
    async with world() as on:
        on.endpoint.goes_on.clear()
        calls = [asyncio.create_task(on.says(answer)) for _ in range(100)]
        await on.server.until(lambda: on.asked == 1)
        calls.pop(0).cancel()  # the one who began goes away, and takes nobody along
        on.endpoint.goes_on.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in ended] == [kind] * 99
        assert len({repr(each) for each in ended}) == 1
        assert on.asked == 1


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_auth", ["basic", "post"])
async def test_nothing_secret_is_said(log: io.StringIO, client_auth: str) -> None:
    said = []
    token, secret = b"TOKEN-of-alice", "SECRET-of-ours"
    async with world(timeout=0.3, client_auth=client_auth, client_secret=secret, audience=["a"]) as on:
        for part in ("/status?401", "/status?400", "/status?503", "/garbage", "/silent", "/short", "/cookie"):
            on.answers_with(part)
            try:
                await on.ask(token)
            except SidecarError as error:
                said += [repr(error), *traceback.format_exception(error)]
                structlog.get_logger().warning("failed", exc_info=error)
            on.clock.advance(OPEN_FOR)
        on.is_back()
        for answer in (ALICE, {**ALICE, "aud": "a", "exp": 0}, {**ALICE, "aud": "a"}):
            said.append(repr(await on.says({**answer, "token": token.decode()}, token)))
            on.clock.advance(CACHE)
        for garbage in ({**ALICE, "active": token.decode()}, {**ALICE, "exp": token.decode()}):
            with suppress(UpstreamUnavailable):
                said.append(repr(await on.says(garbage, token)))
        said += [repr(on.authenticator), repr(on.settings), on.text()]
        assert {token.decode()} == set(on.endpoint.seen)
    logs = log.getvalue()
    assert "upstream_did_not_answer" in logs
    assert "token_refused" in logs
    authorization = base64.b64encode(f"sidecar:{secret}".encode()).decode()
    for text in (*said, logs):
        for hidden in (token.decode(), secret, authorization):
            assert hidden not in text
