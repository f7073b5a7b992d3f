"""Asking other applications about credentials: real sockets, and a server that answers what a test wants."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from sidecar.answers import Answers
from sidecar.asking import Asker
from sidecar.authenticators.upstream import SessionElsewhereAuthenticator, UpstreamAuthenticator
from sidecar.breaker import Breaker
from sidecar.checks.asking_dialect import AskingDialect
from sidecar.checks.authing_asking import AskingAuthing
from sidecar.checks.cargo_extra import AskingCargoExtra
from sidecar.checks.compass import AskingCompass
from sidecar.checks.generic import AskingGeneric
from sidecar.checks.pulse import AskingPulse
from sidecar.checks.virola import AskingVirola
from sidecar.errors import SettingsError, UpstreamThrottled, UpstreamTimeout, UpstreamUnavailable
from sidecar.hosts import origin_of
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Authenticator
from sidecar.settings import UpstreamSettings, parse
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock
from tests.hostile import PARTS, SECRET, Exchange, Hostile, Received, hostile, refused_port

CLIENT = ip_address("192.0.2.1")
CACHE, NEGATIVE, STALE, OPEN_FOR, FAULTS = 10.0, 2.0, 60.0, 5.0, 5

ASKING: dict[str, type[AskingDialect]] = {
    "cargo-extra": AskingCargoExtra,
    "compass": AskingCompass,
    "pulse": AskingPulse,
    "virola": AskingVirola,
    "generic": AskingGeneric,
}

IDP = {
    "type": "jwt",
    "issuer": "https://idp.example.com",
    "audience": "gateway",
    "algorithms": "ES256",
    "jwks_url": "https://idp.example.com/keys",
}
BEARER = Credential(Form.BEARER, b"opaque-1")
API_KEY = Credential(Form.API_KEY, b"key-1")


def cookies(names: bytes, value: bytes) -> Credential:
    """Cookies of another application, as they are read from a request."""
    return Credential(Form.COOKIE, value, names)


VIROLA = cookies(b"VirolaUserSessionId", b"VirolaUserSessionId=v-1")


# --- the scene -----------------------------------------------------------------------------------


@dataclass
class Says:
    """What the application answers, whoever asks; held while a test wants that."""

    body: bytes = b"{}"
    status: str = "200 OK"
    lines: tuple[str, ...] = ()
    lets_go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.lets_go.set()

    async def part(self, exchange: Exchange) -> None:
        await self.lets_go.wait()
        if self.status.startswith("204") or exchange.request.method == "HEAD":  # neither has a body
            head = "\r\n".join([f"HTTP/1.1 {self.status}", *self.lines])
            await exchange.send(head.encode("latin-1") + b"\r\n\r\n")
        else:
            await exchange.answer(self.body, *self.lines, status=self.status)


@dataclass
class Scene:
    """An application, and an authenticator that asks it."""

    server: Hostile
    says: Says
    authenticator: Authenticator
    answers: Answers
    breaker: Breaker
    metrics: Metrics
    clock: ManualClock

    async def ask(self, credential: Credential = BEARER) -> Verified | Rejected | None:
        return await self.authenticator.authenticate(credential, CLIENT)

    async def identity(self, credential: Credential = BEARER) -> Identity:
        """Who it is; it has to be somebody."""
        answer = await self.ask(credential)
        assert isinstance(answer, Verified)
        return answer.identity

    async def set_cookies(self, credential: Credential = BEARER) -> tuple[bytes, ...]:
        """What the client is told to keep."""
        answer = await self.ask(credential)
        assert isinstance(answer, Verified)
        return answer.cookies

    async def fails(self, credential: Credential = BEARER) -> str:
        """Why nobody knows."""
        with pytest.raises(UpstreamUnavailable) as caught:
            await self.ask(credential)
        return str(caught.value)

    async def landed(self) -> None:
        """Returns when nothing is being asked any more, not even for nobody."""
        await asyncio.gather(*self.answers._flights._flights.values())

    def answer(self, value: object, *lines: str, status: str = "200 OK") -> None:
        """From now on it answers this: bytes as they are, all else as JSON."""
        self.says.body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.says.lines, self.says.status = lines, status

    def only(self) -> Received:
        """The one request that came."""
        (received,) = self.server.received
        return received

    def counted(self, metric: str) -> dict[str, int]:
        """What the metrics say, by result."""
        text = generate_latest(self.metrics.registry).decode()
        found = re.findall(rf'^sidecar_{metric}_total\{{.*result="(\w+)".*\}} (\d+)', text, re.MULTILINE)
        return {result: int(count) for result, count in found}


def settings_of(dialect: str = "generic", url: str = "http://127.0.0.1:1/", **more: Any) -> UpstreamSettings:
    """As they are in a file."""
    table = {"type": "upstream", "dialect": dialect, "url": url, **more}
    settings = parse({"authenticators": {"idp": IDP, "app": table}}).authenticators.external["app"]
    assert isinstance(settings, UpstreamSettings)
    return settings


@asynccontextmanager
async def scene(
    dialect: str = "generic", *, over: Authenticator | None = None, **more: Any
) -> AsyncIterator[Scene]:
    """An application at `/`, asked in this dialect."""
    if dialect == "generic":
        more = {"forward_headers": ["Authorization"], **more}
    if dialect == "authing":
        more = {**AUTHING, **more}
    clock, metrics, says = ManualClock(), Metrics(), Says()
    async with hostile() as server:
        server.parts["/"] = says.part
        url = more.pop("url", "")
        settings = settings_of(dialect, server.url(url or "/"), **more)
        breaker = Breaker("app", faults=FAULTS, open_for=OPEN_FOR, clock=clock)
        asker = Asker(name="app", timeout=settings.timeout, breaker=breaker, metrics=metrics, clock=clock)
        answers = Answers(
            "app",
            cache=settings.cache,
            negative_cache=settings.negative_cache,
            stale_if_error=settings.stale_if_error,
            refuse=asker.refuse,
            clock=clock,
            metrics=metrics,
        )
        authing = None
        authenticator: Authenticator
        if over is not None:
            authing = AskingAuthing(settings, "app", asker, clock)
            authenticator = SessionElsewhereAuthenticator(
                name="app", over=over, prefix="kc:", asking=authing, answers=answers
            )
        else:
            authenticator = UpstreamAuthenticator(
                name="app",
                settings=settings,
                asking=ASKING[dialect](settings),
                asker=asker,
                answers=answers,
                clock=clock,
                is_ours=lambda token: token == b"one-of-ours",
            )
        try:
            yield Scene(server, says, authenticator, answers, breaker, metrics, clock)
        finally:
            says.lets_go.set()
            await answers.close()
            if authing:
                await authing.close()
            await asker.close()


# --- the products --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """One product: what is presented to it, what it says of a good credential, and who that is."""

    credential: Credential
    good: dict[str, Any]
    identity: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


CARGO_EXTRA = {
    "key_0": 15823,
    "key_1": "e30.e30.x",
    "key_2": 1686472000,
    "key_3": "John Doe",
    "key_4": True,
    "token": "e30.e30.x",
    "userId": 15823,
    "name": "John Doe",
    "email": "john@example.com",
    "username": "john",
    "roles": ["dispatcher", "admin"],
    "iat": 1686472000,
    "exp": 1686475600,
}
COMPASS = {
    "data": {"user": {"_id": "64b7f1a2e4b0a5d3f9c12345", "emails": "ann@example.com", "role": "super user"}}
}
PULSE = {
    "id": 7,
    "email": "ann@example.com",
    "createdBy": "root@example.com",
    "accounts": [{"accountId": "t-1"}],
    "flatRolesList": ["user"],
    "flatPermissionsList": ["contacts:write", "contacts:read"],
    "token": "e30.e30.x",
}
STATUS = {"httpStatusCode": 200, "userId": 352, "userSessionId": "f1017fac"}
ANN = {
    "sub": "u-1",
    "preferred_username": "ann",
    "email": "ann@example.com",
    "name": "Ann",
    "roles": ["a", "b"],
}

PRODUCTS = {
    "cargo-extra": Product(
        BEARER,
        CARGO_EXTRA,
        {
            "subject": "15823",
            "username": "john",
            "email": "john@example.com",
            "name": "John Doe",
            "roles": ("admin", "dispatcher"),
        },
    ),
    "compass": Product(
        BEARER,
        COMPASS,
        {"subject": "64b7f1a2e4b0a5d3f9c12345", "email": "ann@example.com", "roles": ("super user",)},
        {"forward_headers": ["Authorization"]},
    ),
    "pulse": Product(
        BEARER,
        PULSE,
        {
            "subject": "7",
            "email": "ann@example.com",
            "roles": ("user",),
            "permissions": ("contacts:read", "contacts:write"),
        },
    ),
    "virola": Product(VIROLA, STATUS, {"subject": "352"}),
    "generic": Product(
        BEARER,
        ANN,
        {"subject": "u-1", "username": "ann", "email": "ann@example.com", "name": "Ann", "roles": ("a", "b")},
    ),
}


@asynccontextmanager
async def asked(dialect: str, **more: Any) -> AsyncIterator[Scene]:
    """One that knows the credential."""
    product = PRODUCTS[dialect]
    async with scene(dialect, **{**product.settings, **more}) as told:
        told.answer(product.good)
        yield told


each_product = pytest.mark.parametrize("dialect", PRODUCTS)


@each_product
async def test_who_is_known_there_is_who_the_answer_says(dialect: str) -> None:
    product = PRODUCTS[dialect]
    async with asked(dialect) as told:
        issuer = origin_of(told.server.url())
        expected = Identity(method="upstream:app", issuer=issuer, **product.identity)
        assert await told.identity(product.credential) == expected


@each_product
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_what_is_refused_there_may_be_somebody_elses(dialect: str, status: str) -> None:
    async with asked(dialect) as told:
        told.answer(b"<html>no</html>", status=status)
        assert await told.ask(PRODUCTS[dialect].credential) is None


@each_product
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"<html>signed in</html>",
        b"[]",
        b"null",
        b"{}",
        b'"ann"',
        b'{"active": true}',
        b'{"active": "true"}',
        b'{"sub": "a", "sub": "b"}',
        b'{"sub": "a", "userId": 1, "id": 1, "x": NaN}',
        b'\xef\xbb\xbf{"sub": "a", "userId": 1, "id": 1}',
        b'{"sub": ["a"], "userId": [1], "id": [1], "data": [1]}',
        b'{"sub": "", "userId": "", "id": "", "data": {"user": {"_id": ""}}}',
        b'{"sub": true, "userId": true, "id": true, "data": {"user": {"_id": true}}}',
        b'{"sub": 1.0, "userId": 1.0, "id": 1.0, "data": {"user": {"_id": 1.0}}}',
    ],
)
async def test_an_answer_that_is_none_is_an_outage(dialect: str, body: bytes) -> None:
    async with asked(dialect) as told:
        told.answer(body)
        assert "its answer cannot be read" in await told.fails(PRODUCTS[dialect].credential)
        assert told.counted("upstream_requests") == {"error": 1}


WRONG_TYPES: list[tuple[str, dict[str, Any]]] = [
    ("cargo-extra", {"userId": "15823"}),
    ("cargo-extra", {"key_4": "true"}),
    ("cargo-extra", {"key_4": 1}),
    ("cargo-extra", {"name": 1}),
    ("cargo-extra", {"email": None}),
    ("cargo-extra", {"roles": "admin"}),
    ("cargo-extra", {"roles": [1]}),
    ("compass", {"data": {"user": {"_id": 7}}}),
    ("compass", {"data": {"user": {"_id": "7", "role": ["admin"]}}}),
    ("compass", {"data": {"user": {"_id": "7", "emails": ["a@example.com"]}}}),
    ("compass", {"data": {"user": {}}}),
    ("compass", {"data": {}}),
    ("compass", {"data": COMPASS}),
    ("pulse", {"id": "7"}),
    ("pulse", {"email": 1}),
    ("pulse", {"flatRolesList": "admin"}),
    ("pulse", {"flatRolesList": {"admin": True}}),
    ("pulse", {"flatPermissionsList": [["a"]]}),
    ("virola", {"userId": "352"}),
    ("virola", {"httpStatusCode": "200"}),
    ("virola", {"httpStatusCode": [401]}),
    ("virola", {"httpStatusCode": 500}),
    ("virola", {"httpStatusCode": 201}),
]


@pytest.mark.parametrize(("dialect", "wrong"), WRONG_TYPES, ids=str)
async def test_a_member_of_another_type_is_an_outage(dialect: str, wrong: dict[str, Any]) -> None:
    async with asked(dialect) as told:
        told.answer(PRODUCTS[dialect].good | wrong)
        assert "its answer cannot be read" in await told.fails(PRODUCTS[dialect].credential)


@each_product
@pytest.mark.parametrize("status", ["302 Found", "304 Not Modified", "500 -", "502 -", "503 -", "599 -"])
async def test_redirects_and_faults_are_outages(dialect: str, status: str) -> None:
    async with asked(dialect) as told:
        told.answer(PRODUCTS[dialect].good, f"Location: {told.server.url('/login')}", status=status)
        await told.fails(PRODUCTS[dialect].credential)
        assert told.only().target == "/"


@pytest.mark.parametrize("dialect", [name for name in PRODUCTS if name != "generic"])
@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "204 No Content", "206 Partial Content"])
async def test_a_product_says_yes_with_200_alone(dialect: str, status: str) -> None:
    async with asked(dialect) as told:
        told.answer(PRODUCTS[dialect].good, status=status)
        assert f"status {status[:3]}" in await told.fails(PRODUCTS[dialect].credential)


@each_product
@pytest.mark.parametrize("status", [400, 404, 405, 413, 418, 431])
async def test_another_4xx_is_an_outage_that_one_client_cannot_make_everybodys(
    dialect: str, status: int
) -> None:
    product = PRODUCTS[dialect]
    async with asked(dialect) as told:
        told.answer(product.good, status=f"{status} -")
        with capture_logs() as logs:
            for _ in range(2 * FAULTS):
                assert f"status {status}" in await told.fails(product.credential)
        assert not told.breaker.is_open
        assert [each["event"] for each in logs] == ["upstream_did_not_answer"]
        assert f"status {status}" in logs[0]["error"]
        told.answer(product.good)
        assert (await told.identity(product.credential)).subject == product.identity["subject"]


@each_product
async def test_garbage_opens_the_circuit(dialect: str) -> None:
    async with asked(dialect) as told:
        told.answer(b'{"active": "true"}')
        credential = PRODUCTS[dialect].credential
        for number in range(FAULTS + 3):
            await told.fails(credential._replace(value=b"%b%d" % (credential.value, number)))
        assert told.breaker.is_open
        assert len(told.server.received) == FAULTS


@each_product
async def test_one_credential_alone_opens_no_circuit(dialect: str) -> None:
    async with asked(dialect) as told:
        told.answer(b'{"active": "true"}')
        for _ in range(2 * FAULTS):
            await told.fails(PRODUCTS[dialect].credential)
        assert not told.breaker.is_open


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("sub", b'{"sub": null}'),
        ("user.id", b'{"user": null}'),
        ("user.id", b'{"user": {"id": null, "name": "nobody"}}'),
        ("a.b.c", b'{"a.b": {"c": null}}'),
    ],
)
async def test_a_subject_that_is_null_is_nobodys(subject: str, body: bytes) -> None:
    async with asked("generic", claims={"subject": subject}) as told:
        told.answer(body)
        assert await told.ask(PRODUCTS["generic"].credential) is None
        assert told.counted("upstream_requests") == {"ok": 1}


@each_product
async def test_who_wants_to_be_left_alone_says_for_how_long(dialect: str) -> None:
    async with asked(dialect) as told:
        told.answer(PRODUCTS[dialect].good, "Retry-After: 120", status="429 Too Many Requests")
        with pytest.raises(UpstreamThrottled) as caught:
            await told.ask(PRODUCTS[dialect].credential)
        assert caught.value.retry_after == 120


async def test_nobody_there_is_an_outage() -> None:
    async with scene() as told:
        with refused_port() as port:
            told.authenticator._url = f"http://127.0.0.1:{port}/"  # type: ignore[attr-defined]
            assert "no connection" in await told.fails()


FAULTY = ["/drip-body", "/drip-head", "/silent", "/garbage", "/short", "/bomb", "/huge", "/reset", "/brotli"]


@pytest.mark.parametrize("part", FAULTY)
async def test_every_fault_is_an_outage_in_time(part: str) -> None:
    async with asked("generic", timeout="300ms") as told:
        told.server.parts["/"] = PARTS[part]
        async with asyncio.timeout(10 * (0.3 + 0.5)):
            why = await told.fails()
        assert SECRET not in why


async def test_a_product_may_say_no_in_its_body() -> None:
    async with asked("virola") as told:
        for number, status in enumerate((401, 403)):
            told.answer({"errorText": "Wrong Bearer", "httpStatusCode": status})
            told.clock.advance(NEGATIVE)
            assert await told.ask(VIROLA) is None, number
    async with asked("cargo-extra") as told:
        told.answer(CARGO_EXTRA | {"key_4": False})
        assert await told.ask() is None


async def test_what_a_product_need_not_say_may_be_missing() -> None:
    async with asked("cargo-extra") as told:
        told.answer({name: CARGO_EXTRA[name] for name in ("key_0", "key_1", "key_2", "key_3", "key_4")})
        identity = await told.identity()
        assert (identity.subject, identity.name, identity.roles) == ("15823", "John Doe", ())
    async with asked("cargo-extra") as told:
        told.answer({"userId": 7, "token": "x"})
        assert (await told.identity()).subject == "7"
    async with asked("pulse") as told:
        told.answer(
            {"id": 7, "email": "a@example.com", "token": "x", "primaryAccount": {}, "createdAt": None}
        )
        assert (await told.identity()).subject == "7"
    async with asked("compass") as told:
        told.answer({"data": {"user": {"_id": "x"}}})
        assert (await told.identity()).roles == ()
    async with asked("virola") as told:
        told.answer({"userId": 352})
        assert (await told.identity(VIROLA)).subject == "352"


async def test_who_it_is_by_name_counts_more_than_by_position() -> None:
    async with asked("cargo-extra") as told:
        told.answer({"key_0": 1, "userId": 2, "key_3": "one", "name": "two"})
        identity = await told.identity()
        assert (identity.subject, identity.name) == ("2", "two")


@each_product
async def test_what_else_is_said_is_ignored(dialect: str) -> None:
    product = PRODUCTS[dialect]
    async with asked(dialect) as told:
        told.answer(product.good | {"expires": 0, "userid": "x", "nested": {"deep": [1, None]}})
        assert (await told.identity(product.credential)).subject == product.identity["subject"]


# --- what is sent --------------------------------------------------------------------------------

OURS = [("Accept-Encoding", "identity"), ("User-Agent", "sidecar/.+")]
ACCEPT = ("Accept", "application/json")
TOKEN = ("Authorization", "Bearer opaque-1")
TWO = cookies(b"sid; sid.sig", b"sid=1; sid.sig=x/y=")

SENT: list[tuple[str, dict[str, Any], Credential, str, list[tuple[str, str]], bytes]] = [
    ("cargo-extra", {}, BEARER, "GET", [ACCEPT, TOKEN], b""),
    (
        "cargo-extra",
        {"forward_cookies": ["customerToken"]},
        cookies(b"customerToken", b"customerToken=c-1"),
        "GET",
        [ACCEPT, ("Cookie", "customerToken=c-1")],
        b"",
    ),
    (
        "compass",
        {},
        BEARER,
        "POST",
        [ACCEPT, ("Content-Type", "application/json"), TOKEN, ("Content-Length", "20")],
        b'{"token":"opaque-1"}',
    ),
    ("pulse", {}, BEARER, "GET", [ACCEPT, TOKEN], b""),
    ("virola", {}, VIROLA, "GET", [ACCEPT, ("Cookie", "VirolaUserSessionId=v-1")], b""),
    ("virola", {"forward_headers": ["Authorization"]}, BEARER, "GET", [ACCEPT, TOKEN], b""),
    ("generic", {}, BEARER, "GET", [ACCEPT, TOKEN], b""),
    ("generic", {"method": "POST"}, BEARER, "POST", [ACCEPT, TOKEN, ("Content-Length", "0")], b""),
    (
        "generic",
        {"forward_headers": ["X-Api-Key"]},
        API_KEY,
        "GET",
        [ACCEPT, ("X-Api-Key", "key-1")],
        b"",
    ),
    (
        "generic",
        {"forward_cookies": ["sid", "sid.sig"]},
        TWO,
        "GET",
        [ACCEPT, ("Cookie", "sid=1; sid\\.sig=x/y=")],
        b"",
    ),
    (
        "generic",
        {"claims": {"subject": "header:X-User"}},
        BEARER,
        "GET",
        [TOKEN],
        b"",
    ),
]


@pytest.mark.parametrize(("dialect", "more", "credential", "method", "lines", "body"), SENT, ids=str)
async def test_only_the_credential_is_sent(
    dialect: str,
    more: dict[str, Any],
    credential: Credential,
    method: str,
    lines: list[tuple[str, str]],
    body: bytes,
) -> None:
    async with asked(dialect, url="/?realm=a", **more) as told:
        told.says.lines = ("X-User: ann",)
        assert isinstance(await told.ask(credential), Verified)
        received = told.only()
        assert (received.method, received.target, received.body) == (method, "/?realm=a", body)
        expected = {name.lower(): value for name, value in [*lines, *OURS, ("Host", "127.0.0.1:[0-9]+")]}
        assert {name.lower() for name, _ in received.lines} == expected.keys()
        assert len(received.lines) == len(expected)
        for name, value in received.lines:
            assert re.fullmatch(expected[name.lower()], value), (name, value)


LEFT_ALONE = [
    pytest.param({}, Credential(Form.BEARER, b"sk_one-of-our-api-keys"), id="our API key as a bearer"),
    pytest.param(
        {"forward_headers": ["X-Api-Key"]}, Credential(Form.API_KEY, b"sk_one-of-ours"), id="our API key"
    ),
    pytest.param({}, Credential(Form.BEARER, b"one-of-ours"), id="our token"),
    pytest.param({"forward_cookies": ["sid"]}, Credential(Form.COOKIE, b"s-1"), id="our session's cookie"),
    pytest.param({"forward_cookies": ["sid"]}, cookies(b"other", b"other=1"), id="another one's cookie"),
    pytest.param(
        {"forward_cookies": ["a", "b"]}, cookies(b"a", b"a=1"), id="another one's like-named cookie"
    ),
    pytest.param({"forward_cookies": ["sid"]}, cookies(b"sid", b"sid=\x01"), id="what cannot be sent"),
    pytest.param({"forward_cookies": ["sid"]}, cookies(b"sid", b"sid=a\r\nX: y"), id="a header in a cookie"),
    pytest.param({}, API_KEY, id="a form that is not forwarded"),
    pytest.param({}, Credential(Form.BASIC, b"YTpi"), id="Basic"),
    pytest.param(
        {"forward_cookies": ["sid"], "forward_headers": []}, BEARER, id="a bearer where cookies are"
    ),
]


@pytest.mark.parametrize(("more", "credential"), LEFT_ALONE)
async def test_what_is_not_its_own_never_leaves(more: dict[str, Any], credential: Credential) -> None:
    async with asked("generic", **more) as told:
        assert await told.ask(credential) is None
        assert not told.server.received


@pytest.mark.parametrize(
    ("dialect", "more", "forms", "names"),
    [
        ("cargo-extra", {}, {Form.BEARER}, ()),
        ("cargo-extra", {"forward_cookies": ["userToken"]}, {Form.COOKIE}, (b"userToken",)),
        ("compass", {"forward_headers": ["Authorization"]}, {Form.BEARER}, ()),
        ("pulse", {}, {Form.BEARER}, ()),
        ("virola", {}, {Form.COOKIE}, (b"VirolaUserSessionId",)),
        ("virola", {"forward_headers": ["Authorization"]}, {Form.BEARER}, ()),
        (
            "generic",
            {"forward_cookies": ["b", "a"], "forward_headers": ["X-Api-Key", "Authorization"]},
            {Form.COOKIE, Form.BEARER, Form.API_KEY},
            (b"b", b"a"),
        ),
    ],
)
async def test_the_settings_say_what_it_takes(
    dialect: str, more: dict[str, Any], forms: set[Form], names: tuple[bytes, ...]
) -> None:
    async with scene(dialect, **more) as told:
        assert told.authenticator.name == "app"
        assert told.authenticator.forms == frozenset(forms)
        assert told.authenticator.cookies == names


async def test_bytes_of_a_cookie_go_as_they_came() -> None:
    async with asked("generic", forward_cookies=["sid"]) as told:
        await told.identity(cookies(b"sid", 'sid=é"x\\'.encode()))
        assert told.only().all("cookie") == ['sid=é"x\\'.encode().decode("latin-1")]


async def test_secrets_are_in_no_repr() -> None:
    request = AskingPulse(settings_of("pulse")).request(BEARER)
    assert "opaque" not in repr(request)


# --- generic -------------------------------------------------------------------------------------


async def test_claims_are_where_the_settings_say() -> None:
    claims = {
        "subject": "data.user.id",
        "username": "data.user.login",
        "email": "mail",
        "name": "",
        "roles": "data.groups",
        "permissions": "may",
        "scopes": "scope",
    }
    async with scene(claims=claims) as told:
        user = {"id": 7, "login": "ann"}
        told.answer(
            {"data": {"user": user, "groups": ["b", "a", ""]}, "mail": "a@b", "may": "x y", "scope": "r w"}
        )
        identity = await told.identity()
    assert identity._replace(issuer="") == Identity(
        "7",
        "upstream:app",
        username="ann",
        email="a@b",
        roles=("a", "b"),
        permissions=("x", "y"),
        scopes=("r", "w"),
    )


HEADERS = {
    "subject": "header:X-User",
    "email": "header:x-mail",
    "name": "header:X-Name",
    "roles": "header:X-Roles",
    "permissions": "header:X-Permissions",
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "202 Accepted"])
async def test_claims_may_be_in_headers(method: str, status: str) -> None:
    async with scene(method=method, claims=HEADERS) as told:
        told.answer(
            b"<html>",
            *("x-user: ann", "X-Mail: ann@example.com", f"X-Name: {'Ann Ünal'.encode().decode('latin-1')}"),
            *("X-Roles: super user, admin,,", "X-Roles: dev", "X-Permissions: read"),
            status=status,
        )
        identity = await told.identity()
        assert told.only().method == method
    assert identity._replace(issuer="") == Identity(
        "ann",
        "upstream:app",
        email="ann@example.com",
        name="Ann Ünal",
        roles=("admin", "dev", "super user"),
        permissions=("read",),
    )


@pytest.mark.parametrize(
    "lines", [(), ("X-User:",), ("X-User: ann", "X-User: bob"), ("X-User: ann", "x-user: ann")], ids=str
)
async def test_a_subject_is_in_one_header(lines: tuple[str, ...]) -> None:
    async with scene(claims=HEADERS) as told:
        told.answer({"header:X-User": "mallory", "sub": "mallory"}, *lines)
        assert "its answer cannot be read" in await told.fails()


async def test_a_body_and_headers_go_together() -> None:
    async with scene(claims={"roles": "header:X-Roles", "name": "header:X-Name"}) as told:
        told.answer({"sub": "u-1", "header:X-Roles": ["root"], "header:X-Name": "Root"}, "X-Roles: dev")
        identity = await told.identity()
    assert (identity.subject, identity.name, identity.roles) == ("u-1", "", ("dev",))


async def test_a_header_may_be_older_than_utf_8() -> None:
    async with scene(claims=HEADERS) as told:
        told.answer(b"", "X-User: ann", "X-Name: Ann Ünal")  # in Latin-1
        assert (await told.identity()).name == "Ann Ünal"


async def test_the_settings_say_what_means_no() -> None:
    async with scene(refused_statuses=[401, 404]) as told:
        told.answer(ANN, status="404 Not Found")
        assert await told.ask() is None
        told.clock.advance(NEGATIVE)
        told.answer(ANN, status="403 Forbidden")
        assert "status 403" in await told.fails()


@pytest.mark.parametrize(("numeric", "number"), [(False, None), (True, 7)])
async def test_subjects_are_kept_apart_and_are_never_local_users(numeric: bool, number: int | None) -> None:
    async with asked("pulse", subject_prefix="p:", numeric_subject=numeric) as told:
        identity = await told.identity()
        assert (identity.subject, identity.user_id, identity.number) == ("p:7", None, number)
        assert identity.numeric_id == 7 if numeric else identity.numeric_id >= 2**52
        assert identity.issuer == f"http://127.0.0.1:{told.server.port}"


# --- what is remembered --------------------------------------------------------------------------


async def test_an_answer_is_good_for_a_while() -> None:
    async with asked("generic") as told:
        for _ in range(3):
            assert (await told.identity()).subject == "u-1"
        assert len(told.server.received) == 1
        told.clock.advance(CACHE)
        assert (await told.identity()).subject == "u-1"
        assert len(told.server.received) == 2


async def test_what_is_remembered_is_remembered_by_nobody_else() -> None:
    async with asked("generic") as told:
        answer = await told.ask()
        assert isinstance(answer, Verified)
        assert answer.cacheable == 0


async def test_a_refusal_is_good_for_a_moment() -> None:
    async with asked("generic") as told:
        told.answer(b"", status="401 -")
        assert [await told.ask(), await told.ask()] == [None, None]
        assert len(told.server.received) == 1
        told.clock.advance(NEGATIVE)
        told.answer(ANN)
        assert (await told.identity()).subject == "u-1"


DIFFERENT = [
    Credential(Form.BEARER, b"a"),
    Credential(Form.BEARER, b"b"),
    Credential(Form.API_KEY, b"a"),
    cookies(b"x; y", b"x=1"),
    cookies(b"x; y", b"y=1"),
    cookies(b"x; y", b"x=1; y=1"),
    cookies(b"x; y", b"x=2; y=1"),
]


async def test_no_two_credentials_share_an_answer() -> None:
    both = ["Authorization", "X-Api-Key"]
    async with scene(forward_cookies=["x", "y"], forward_headers=both) as told:
        subjects = []
        for number, credential in enumerate(DIFFERENT):
            told.answer({"sub": f"u-{number}"})
            subjects.append((await told.identity(credential)).subject)
        assert subjects == [f"u-{number}" for number in range(len(DIFFERENT))]
        assert [(await told.identity(each)).subject for each in DIFFERENT] == subjects


@each_product
@pytest.mark.parametrize("status", ["503 -", "429 -", "302 -", "404 -"])
async def test_who_was_seen_recently_goes_on_while_it_fails(dialect: str, status: str) -> None:
    product = PRODUCTS[dialect]
    async with asked(dialect) as told:
        known = await told.identity(product.credential)
        told.answer(b"", status=status)
        told.clock.advance(CACHE + STALE - 1)
        assert await told.identity(product.credential) == known
        assert told.counted("cache_requests")["stale"] == 1
        told.clock.advance(1)
        with pytest.raises((UpstreamUnavailable, UpstreamThrottled)):
            await told.ask(product.credential)


async def test_nobody_goes_on_after_a_refusal() -> None:
    async with asked("generic") as told:
        await told.identity()
        told.clock.advance(CACHE)
        told.answer(b"", status="401 -")
        assert await told.ask() is None
        told.clock.advance(NEGATIVE)
        told.answer(b"", status="503 -")
        await told.fails()


async def test_a_thousand_at_once_ask_once_and_who_leaves_stops_nobody() -> None:
    async with asked("generic", timeout="30s") as told:
        told.says.lets_go.clear()
        waiting = [asyncio.create_task(told.ask()) for _ in range(1000)]
        await told.server.until(lambda: len(told.server.received) == 1)
        for leaving in waiting[::2]:
            leaving.cancel()
        told.says.lets_go.set()
        answers = await asyncio.gather(*waiting[1::2])
        assert {each.identity.subject for each in answers if isinstance(each, Verified)} == {"u-1"}
        assert None not in answers
        assert len(told.server.received) == 1


async def test_who_is_stopped_while_asking_knows_nothing() -> None:
    async with asked("generic", timeout="30s") as told:
        told.says.lets_go.clear()
        waiting = asyncio.create_task(told.ask())
        await told.server.until(lambda: bool(told.server.received))
        await told.answers.close()
        with pytest.raises(UpstreamUnavailable):
            await waiting


# --- cookies that the application sets -----------------------------------------------------------

TAKEN = "sid=new; Path=/; HttpOnly; Secure"
PASSES: dict[str, Any] = {"forward_cookies": ["sid"], "pass_cookies": ["sid", "csrf"]}
SID = cookies(b"sid", b"sid=old")


async def test_only_the_named_cookies_reach_the_client() -> None:
    async with asked("generic", **PASSES) as told:
        told.says.lines = (
            f"Set-Cookie: {TAKEN}",
            "Set-Cookie: tracker=1",
            "Set-Cookie: SID=1",
            "Set-Cookie: sidx=1",
            "set-cookie: csrf=2; Path=/",
            "Set-Cookie: =sid",
            "Set-Cookie: sid=\xe9",
            "Set-Cookie: sid=a\x01b",
            "X-Sid: sid=3",
        )
        assert await told.set_cookies(SID) == (TAKEN.encode(), b"csrf=2; Path=/")


async def test_without_being_told_to_none_reaches_the_client() -> None:
    async with asked("generic", forward_cookies=["sid"]) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        assert await told.set_cookies(SID) == ()


async def test_a_cookie_reaches_the_client_once() -> None:
    async with asked("generic", **PASSES) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        assert [await told.set_cookies(SID) for _ in range(3)] == [(TAKEN.encode(),), (), ()]


async def test_a_cookie_reaches_the_client_where_no_answer_is_remembered() -> None:
    async with asked("generic", cache="0s", stale_if_error="0s", **PASSES) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        assert [await told.set_cookies(SID) for _ in range(3)] == [(TAKEN.encode(),)] * 3


async def test_of_many_at_once_one_gets_the_cookie() -> None:
    async with asked("generic", timeout="30s", **PASSES) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        told.says.lets_go.clear()
        waiting = [asyncio.create_task(told.set_cookies(SID)) for _ in range(20)]
        await told.server.until(lambda: len(told.server.received) == 1)
        told.says.lets_go.set()
        assert sorted(await asyncio.gather(*waiting)) == [()] * 19 + [(TAKEN.encode(),)]


async def test_nobody_else_gets_it() -> None:
    async with asked("generic", timeout="30s", **PASSES) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        told.says.lets_go.clear()
        leaves = asyncio.create_task(told.set_cookies(SID))
        await told.server.until(lambda: len(told.server.received) == 1)
        leaves.cancel()
        told.says.lets_go.set()
        await told.landed()
        told.says.lines = ()
        assert await told.set_cookies(cookies(b"sid", b"sid=another")) == ()
        assert await told.set_cookies(SID) == (TAKEN.encode(),)


async def test_a_cookie_that_came_with_a_refresh_is_sent_with_the_next_answer() -> None:
    async with asked("generic", **PASSES) as told:
        await told.identity(SID)
        told.clock.advance(0.9 * CACHE)
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        assert await told.set_cookies(SID) == ()
        await told.landed()
        assert [await told.set_cookies(SID) for _ in range(2)] == [(TAKEN.encode(),), ()]


async def test_a_cookie_is_not_older_than_the_last_answer() -> None:
    async with asked("generic", **PASSES) as told:
        await told.identity(SID)
        told.clock.advance(0.9 * CACHE)
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        await told.set_cookies(SID)
        await told.landed()
        told.clock.advance(CACHE)
        told.says.lines = ()
        assert await told.set_cookies(SID) == ()


async def test_stale_answers_set_no_cookie() -> None:
    async with asked("generic", **PASSES) as told:
        told.says.lines = (f"Set-Cookie: {TAKEN}",)
        await told.set_cookies(SID)
        told.clock.advance(CACHE)
        told.says.status = "503 -"
        assert await told.set_cookies(SID) == ()


async def test_a_refusal_sets_no_cookie() -> None:
    async with asked("generic", **PASSES) as told:
        told.answer(ANN, f"Set-Cookie: {TAKEN}", status="401 -")
        assert await told.ask(SID) is None
        assert not told.authenticator._unsent  # type: ignore[attr-defined]


# --- authing -------------------------------------------------------------------------------------

AUTHING: dict[str, Any] = {
    "over": "session",
    "app_id": "app1",
    "access_key_id": "ak_1",
    "access_key_secret": "the-access-key's-secret",
    "url": "/api/v3/check-session-status",
}
STATUS_PATH, TOKEN_PATH = "/api/v3/check-session-status", "/api/v3/get-management-token"
POOL_TOKEN = "e30.eyJzY29wZWRfdXNlcnBvb2xfaWQiOiAicG9vbC0xIn0.x"
"""Its payload is {"scoped_userpool_id": "pool-1"}."""

VOUCHED = Verified(
    Identity("kc:u-1", "jwt:idp", username="ann", roles=("dev",), issuer="https://idp.example.com", number=7)
)


@dataclass
class Idp:
    """Another authenticator, which says what it is told to."""

    says: Verified | Rejected | Exception | None = VOUCHED
    name: str = "idp"
    forms: frozenset[Form] = frozenset({Form.BEARER, Form.COOKIE})
    cookies: tuple[bytes, ...] = (b"idp",)
    seen: list[tuple[Credential, IPAddress]] = field(default_factory=list)

    async def authenticate(self, credential: Credential, client: IPAddress) -> Verified | Rejected | None:
        self.seen.append((credential, client))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def token_answer(token: object = POOL_TOKEN, expires_in: object = 7200) -> dict[str, Any]:
    return {
        "statusCode": 200,
        "message": "Success",
        "data": {"access_token": token, "expires_in": expires_in},
    }


def active(value: object) -> dict[str, Any]:
    return {"statusCode": 200, "message": "Success", "requestId": "r", "data": {"active": value}}


def refusal(status: int, api_code: int | None = None) -> dict[str, Any]:
    return {"statusCode": status, "message": SECRET} | ({} if api_code is None else {"apiCode": api_code})


@dataclass
class Vendor:
    """The two endpoints."""

    scene: Scene
    idp: Idp
    token: Says
    status: Says

    def gives(self, answer: object) -> None:
        self.token.body = json.dumps(answer).encode()

    def says(self, answer: object) -> None:
        self.status.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def asked(self, path: str) -> list[Received]:
        return [each for each in self.scene.server.received if each.target == path]

    def targets(self) -> list[str]:
        return [each.target for each in self.scene.server.received]


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """One that knows somebody with a session."""
    idp = Idp()
    async with scene("authing", over=idp) as told:
        made = Vendor(told, idp, Says(), Says())
        made.gives(token_answer())
        made.says(active(value=True))
        told.server.parts[TOKEN_PATH] = made.token.part
        told.server.parts[STATUS_PATH] = made.status.part
        yield made
        made.token.lets_go.set()
        made.status.lets_go.set()


async def test_authing_asks_about_whom_another_vouches_for(vendor: Vendor) -> None:
    told = vendor.scene
    assert (told.authenticator.forms, told.authenticator.cookies) == (vendor.idp.forms, vendor.idp.cookies)
    answer = await told.ask()
    expected = VOUCHED._replace(identity=VOUCHED.identity._replace(method="upstream:app"), cacheable=0.0)
    assert answer == expected
    assert vendor.idp.seen == [(BEARER, CLIENT)]
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH]


async def test_authing_gets_the_access_key_and_then_the_user_and_nothing_else(vendor: Vendor) -> None:
    await vendor.scene.ask()
    token, status = vendor.scene.server.received
    assert json.loads(token.body) == {"accessKeyId": "ak_1", "accessKeySecret": "the-access-key's-secret"}
    assert json.loads(status.body) == {"appId": "app1", "userId": "u-1"}
    assert {token.method, status.method} == {"POST"}
    assert token.all("authorization") == []
    assert status.all("authorization") == [f"Bearer {POOL_TOKEN}"]
    assert status.all("x-authing-userpool-id") == ["pool-1"]
    for received in (token, status):
        assert received.all("content-type") == ["application/json"]
        assert b"opaque-1" not in received.body
        assert received.all("cookie") == []
        assert not any("opaque-1" in value for _, value in received.lines)


@pytest.mark.parametrize(
    "answer",
    [active(value=False), refusal(404, 2004)],
    ids=["no session", "unknown user"],
)
async def test_who_has_no_session_there_is_refused(vendor: Vendor, answer: dict[str, Any]) -> None:
    vendor.says(answer)
    assert await vendor.scene.ask() == Rejected(Reason.UNKNOWN_SESSION)
    assert await vendor.scene.ask() == Rejected(Reason.UNKNOWN_SESSION)
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH]


@pytest.mark.parametrize("says", [None, Rejected(Reason.INVALID_TOKEN)])
async def test_for_whom_nobody_vouches_nobody_is_asked(vendor: Vendor, says: Rejected | None) -> None:
    vendor.idp.says = says
    assert await vendor.scene.ask() == says
    assert not vendor.targets()


async def test_the_outage_of_who_vouches_is_an_outage(vendor: Vendor) -> None:
    vendor.idp.says = UpstreamUnavailable("idp: no keys")
    assert await vendor.scene.fails() == "idp: no keys"


GARBAGE: list[object] = [
    b"",
    b"[]",
    b"<html>",
    b'{"active": true}',
    {"statusCode": 200},
    {"statusCode": "200", "data": {"active": True}},
    {"statusCode": 200, "data": {}},
    {"statusCode": 200, "data": []},
    active("true"),
    active(1),
    active(None),
    refusal(500),
    refusal(503),
    refusal(302),
    refusal(0),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=str)
async def test_an_answer_of_authing_that_is_none_is_an_outage(vendor: Vendor, answer: object) -> None:
    vendor.says(answer)
    for number in range(FAULTS):
        vendor.idp.says = another(number)
        why = await vendor.scene.fails()
        assert SECRET not in why
    assert vendor.scene.breaker.is_open


@pytest.mark.parametrize(
    "answer",
    [refusal(400, 2231), refusal(403), refusal(404), refusal(404, 2011), refusal(404, 4041), refusal(413)],
    ids=str,
)
async def test_a_question_that_authing_refuses_is_an_outage_of_nobody_else(
    vendor: Vendor, answer: dict[str, Any]
) -> None:
    vendor.says(answer)
    for number in range(2 * FAULTS):
        vendor.idp.says = another(number)
        assert f"statusCode is {answer['statusCode']}" in await vendor.scene.fails()
    assert not vendor.scene.breaker.is_open


@pytest.mark.parametrize("status", ["401 -", "403 -", "404 -", "500 -", "302 -", "201 -"])
async def test_authing_answers_with_200_alone(vendor: Vendor, status: str) -> None:
    vendor.status.status = status
    await vendor.scene.fails()


@pytest.mark.parametrize("endpoint", ["token", "status"])
@pytest.mark.parametrize(
    ("lines", "seconds"), [((), 1.0), (("Retry-After: 9",), 9.0), (("Retry-After: 99999",), 3600.0)]
)
async def test_authing_says_in_its_body_that_it_wants_to_be_left_alone(
    vendor: Vendor, endpoint: str, lines: tuple[str, ...], seconds: float
) -> None:
    told: Says = getattr(vendor, endpoint)
    told.body, told.lines = json.dumps(refusal(429)).encode(), lines
    with pytest.raises(UpstreamThrottled) as caught:
        await vendor.scene.ask()
    assert caught.value.retry_after == seconds
    assert vendor.scene.counted("upstream_requests")["throttled"] == 1


def another(number: int) -> Verified:
    return Verified(Identity(f"u-{number}", "jwt:idp"))


async def test_a_management_token_is_used_until_shortly_before_its_end(vendor: Vendor) -> None:
    vendor.gives(token_answer(expires_in=100))
    told = vendor.scene
    for number in range(3):
        vendor.idp.says = another(number)
        await told.identity()
    assert len(vendor.asked(TOKEN_PATH)) == 1
    told.clock.advance(89.9)
    vendor.idp.says = another(3)
    await told.identity()
    assert len(vendor.asked(TOKEN_PATH)) == 1
    told.clock.advance(0.2)
    vendor.idp.says = another(4)
    await told.identity()
    assert len(vendor.asked(TOKEN_PATH)) == 2


async def test_a_token_that_never_ends_is_replaced_all_the_same(vendor: Vendor) -> None:
    vendor.gives(token_answer(expires_in=10**400))
    await vendor.scene.identity()
    vendor.scene.clock.advance(24 * 3600)
    await vendor.scene.identity()
    assert len(vendor.asked(TOKEN_PATH)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        refusal(401, 2020),
        refusal(500),
        token_answer(expires_in="7200"),
        token_answer(token=""),
        token_answer(token="a\r\nb"),
        token_answer(token="é"),
        token_answer(token=None),
        {"statusCode": 200},
        {"statusCode": 200, "data": {"access_token": "x"}},
        [],
    ],
    ids=str,
)
async def test_without_a_management_token_nobody_knows(vendor: Vendor, answer: object) -> None:
    vendor.gives(answer)
    assert "app: " in await vendor.scene.fails()
    assert vendor.targets() == [TOKEN_PATH]


async def test_a_management_token_that_is_refused_is_replaced_once(vendor: Vendor) -> None:
    told = vendor.scene
    await told.identity()
    answers = [refusal(401, 2020), active(value=True)]

    async def revoked(exchange: Exchange) -> None:
        await exchange.answer(json.dumps(answers.pop(0)).encode())

    told.server.parts[STATUS_PATH] = revoked
    vendor.gives(token_answer("second.e30.x"))
    told.clock.advance(CACHE)
    await told.identity()
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH, STATUS_PATH, TOKEN_PATH, STATUS_PATH]
    assert vendor.asked(STATUS_PATH)[-1].all("authorization") == ["Bearer second.e30.x"]
    assert vendor.asked(STATUS_PATH)[-1].all("x-authing-userpool-id") == []


async def test_who_refuses_every_management_token_knows_nothing(vendor: Vendor) -> None:
    vendor.says(refusal(401, 2020))
    assert "refuses the management token" in await vendor.scene.fails()
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH] * 2


async def test_many_who_need_a_management_token_fetch_one(vendor: Vendor) -> None:
    told = vendor.scene
    vendor.token.lets_go.clear()

    async def ask(number: int) -> Verified | Rejected | None:
        vendor.idp.says = another(number)
        return await told.ask()

    waiting = [asyncio.create_task(ask(number)) for number in range(10)]
    await told.server.until(lambda: len(vendor.asked(TOKEN_PATH)) == 1)
    vendor.token.lets_go.set()
    answers = await asyncio.gather(*waiting)
    assert all(isinstance(each, Verified) for each in answers)
    assert len(vendor.asked(TOKEN_PATH)) == 1
    assert {json.loads(each.body)["userId"] for each in vendor.asked(STATUS_PATH)} == {
        f"u-{number}" for number in range(10)
    }


async def test_a_thousand_of_one_user_ask_once(vendor: Vendor) -> None:
    await asyncio.gather(*(vendor.scene.ask() for _ in range(1000)))
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH]


async def test_whoever_vouches_is_asked_every_time_and_authing_only_now_and_then(vendor: Vendor) -> None:
    await vendor.scene.identity()
    vendor.idp.says = VOUCHED._replace(identity=VOUCHED.identity._replace(roles=("admin",)))
    assert (await vendor.scene.identity()).roles == ("admin",)
    vendor.idp.says = Rejected(Reason.INVALID_TOKEN)
    assert await vendor.scene.ask() == Rejected(Reason.INVALID_TOKEN)
    assert vendor.targets() == [TOKEN_PATH, STATUS_PATH]


async def test_who_had_a_session_goes_on_while_authing_fails(vendor: Vendor) -> None:
    await vendor.scene.identity()
    vendor.says(refusal(503))
    vendor.scene.clock.advance(CACHE + STALE - 1)
    assert (await vendor.scene.identity()).subject == "kc:u-1"
    vendor.scene.clock.advance(1)
    await vendor.scene.fails()


async def test_authing_that_does_not_answer_is_an_outage_in_time() -> None:
    async with scene("authing", over=Idp(), timeout="200ms") as told:
        told.server.parts[TOKEN_PATH] = PARTS["/silent"]
        with pytest.raises(UpstreamTimeout):
            await told.ask()


# --- settings ------------------------------------------------------------------------------------

BASE = {"type": "upstream", "url": "https://app.example.com/check"}
BY_AUTHING = {**BASE, "dialect": "authing", **{name: AUTHING[name] for name in AUTHING if name != "url"}}
FORWARDS = {"forward_headers": ["Authorization"]}


def faults_of(table: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse({"authenticators": {"idp": IDP, "app": table}})
    return [str(fault).removeprefix("authenticators.app.") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        (BASE, ["forward_headers: nothing is forwarded"]),
        ({**BASE, "dialect": "generic", "forward_cookies": []}, ["forward_headers: nothing is forwarded"]),
        ({**BASE, "dialect": "compass"}, ["forward_headers: compass is asked about a bearer"]),
        ({**BASE, "dialect": "compass", "forward_cookies": ["a"]}, ["forward_headers: compass is asked"]),
        (
            {**BASE, "dialect": "compass", **FORWARDS, "forward_cookies": ["a"]},
            ["forward_headers: compass is asked"],
        ),
        (
            {**BASE, "dialect": "compass", "forward_headers": ["Authorization", "X-Api-Key"]},
            ["forward_headers: compass is asked"],
        ),
        ({**BASE, "forward_headers": ["Cookie"]}, ["forward_headers[0]: Input should be"]),
        ({**BASE, "forward_cookies": ["a b"]}, ["forward_cookies[0]: 'a b' is not a cookie's name"]),
        ({**BASE, "forward_cookies": ["a;b", "é"]}, ["forward_cookies[0]: ", "forward_cookies[1]: "]),
        ({**BASE, **FORWARDS, "pass_cookies": ["a="]}, ["pass_cookies[0]: 'a=' is not a cookie's name"]),
        ({**BASE, **FORWARDS, "refused_statuses": []}, ["refused_statuses: it is empty: name one or more"]),
        (
            {**BASE, **FORWARDS, "refused_statuses": [302, 401, 429, 200]},
            [
                "refused_statuses[0]: 302 never means no",
                "refused_statuses[2]: 429",
                "refused_statuses[3]: 200",
            ],
        ),
        ({**BASE, **FORWARDS, "method": "HEAD"}, ["method: an answer to HEAD has no body"]),
        ({**BASE, **FORWARDS, "method": "DELETE"}, ["method: Input should be"]),
        (
            {**BASE, **FORWARDS, "claims": {"subject": "header:"}},
            ["claims.subject: '' is not a header's name"],
        ),
        (
            {**BASE, **FORWARDS, "claims": {"roles": "header:X_Roles"}},
            ["claims.roles: 'X_Roles' is not a header's name"],
        ),
        (
            {**BASE, "dialect": "pulse", "claims": {"roles": "header:X-Roles"}},
            ["claims.roles: pulse says everything in its body: a header is for generic"],
        ),
        ({**BASE, "dialect": "pulse", "method": "POST"}, ["method: pulse says that itself"]),
        (
            {**BASE, "dialect": "pulse", "refused_statuses": [400]},
            ["refused_statuses: pulse says that itself"],
        ),
        (
            {**BASE, "dialect": "virola", "over": "idp", "app_id": "a"},
            ["over: virola knows nothing of it", "app_id: virola knows nothing of it"],
        ),
        ({**BASE, **FORWARDS, "access_key_secret": "x"}, ["access_key_secret: generic knows nothing of it"]),
        (
            {**BASE, "dialect": "authing"},
            [
                f"{name}: authing needs it"
                for name in ("over", "app_id", "access_key_id", "access_key_secret")
            ],
        ),
        (
            {**BY_AUTHING, **FORWARDS, "forward_cookies": ["a"], "pass_cookies": ["b"]},
            [
                "forward_cookies: authing is asked about a user",
                "forward_headers: authing is asked about a user",
                "pass_cookies: authing is asked about a user",
            ],
        ),
        (
            {**BY_AUTHING, "claims": {"roles": "header:x"}, "subject_prefix": "x:", "numeric_subject": True},
            [
                f"{name}: authing does not say who it is: leave it to the one that it is over"
                for name in ("claims", "subject_prefix", "numeric_subject")
            ],
        ),
        (
            {**BY_AUTHING, "method": "POST", "refused_statuses": 404},
            ["method: authing says that itself", "refused_statuses: authing says that itself"],
        ),
        ({"type": "upstream", **FORWARDS}, ['url: it is missing: write it like url = "https://']),
        ({**BASE, **FORWARDS, "url": "http://app.example.com/"}, ["url: whoever is on the way can answer"]),
        ({**BASE, **FORWARDS, "dialect": "pulsar"}, ["dialect: Input should be"]),
        # What one fault hides is not guessed at, and what it does not hide is told beside it.
        ({**BASE, "dialect": "pulsar", "over": "idp", "method": "HEAD"}, ["dialect: Input should be"]),
        ({**BASE, "claims": 5, **FORWARDS, "method": "HEAD"}, ["claims: Input should be a valid dictionary"]),
        (
            {**BASE, "url": "http://app.example.com/", "method": "HEAD", "leeway": "1s", "timeout": "soon"},
            [
                "timeout: a duration is written like",
                "leeway: there is no such key",
                "url: whoever is on the way can answer",
                "forward_headers: nothing is forwarded",
                "method: an answer to HEAD has no body",
            ],
        ),
        (
            {**BASE, "dialect": "compass", "method": "POST", "over": "idp", "claims": {"name": "header:x"}},
            [
                "method: compass says that itself",
                "claims.name: compass says everything in its body",
                "over: compass knows nothing of it",
                "forward_headers: compass is asked about a bearer",
            ],
        ),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_told_at_the_start(table: dict[str, Any], faults: list[str]) -> None:
    found = faults_of(table)
    assert len(found) == len(faults), found
    for fault, expected in zip(found, faults, strict=True):
        assert fault.startswith(expected)


def test_no_fault_tells_a_secret() -> None:
    told = faults_of({**BASE, **FORWARDS, "access_key_secret": SECRET})
    assert SECRET not in str(told)
    assert SECRET not in repr(settings_of(**{**BY_AUTHING, "access_key_secret": SECRET}))


@pytest.mark.parametrize(
    "table",
    [
        {**BASE, **FORWARDS},
        {**BASE, "forward_cookies": ["__Host-sid", "a.b"]},
        {**BASE, "dialect": "cargo-extra"},
        {**BASE, "dialect": "compass", **FORWARDS},
        {**BASE, "dialect": "pulse", "forward_cookies": "session"},
        {**BASE, "dialect": "virola"},
        {**BASE, **FORWARDS, "method": "HEAD", "claims": {"subject": "header:X-User"}},
        {**BASE, **FORWARDS, "refused_statuses": "401,404"},
        {**BASE, **FORWARDS, "refused_statuses": 404},
        {**BASE, **FORWARDS, "cache": "0s", "negative_cache": "0s", "stale_if_error": "0s"},
        BY_AUTHING,
    ],
    ids=str,
)
def test_what_is_enough_is_accepted(table: dict[str, Any]) -> None:
    assert parse({"authenticators": {"idp": IDP, "app": table}}).authenticators.enabled()[-1] == "app"


Forwarded = Callable[[UpstreamSettings], tuple[tuple[str, ...], tuple[str, ...]]]


@pytest.mark.parametrize(
    ("dialect", "more", "expected"),
    [
        ("cargo-extra", {}, ((), ("Authorization",))),
        ("pulse", {}, ((), ("Authorization",))),
        ("pulse", {"forward_cookies": ["a"]}, (("a",), ())),
        ("virola", {}, (("VirolaUserSessionId",), ())),
        ("virola", FORWARDS, ((), ("Authorization",))),
        ("virola", {"forward_cookies": ["v"], **FORWARDS}, (("v",), ("Authorization",))),
        ("generic", {"forward_cookies": ["v"]}, (("v",), ())),
    ],
    ids=str,
)
def test_a_product_has_a_credential_of_its_own(
    dialect: str, more: dict[str, Any], expected: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    settings = settings_of(dialect, **more)
    assert (settings.forwarded_cookies, settings.forwarded_headers) == expected
