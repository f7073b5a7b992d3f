"""Two sidecars: one answers as a product does, the other asks it as it asks that product.

The one that answers is a process of its own, with people who sign in there. The one that asks is in this
process, and its clock is the test's: it knows of no time that passes there.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import PASSWORD, Answer, Installation, Lines, Session, Sidecar, ask, head
from tests.running import Line, Running, bearer, running

TIMEOUT, CACHE, NEGATIVE, STALE = 2.0, 10.0, 2.0, 60.0
CHECK = "/api/v1/user/check"
STATUS = "/api/v3/check-session-status"

SETTINGS = """
[store]
url = "sqlite:///{directory}/sidecar.db"

[tokens]
issuer = "https://there.example.com"

[limits]
login = "1000/minute"

[[rules]]
app = "app1"
"""


# --- there ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class There:
    """The sidecar that answers."""

    installation: Installation
    sidecar: Sidecar

    def url(self, path: str) -> str:
        return f"http://{self.sidecar.listen}{path}"

    def post(self, path: str, value: object, lines: Lines = ()) -> Answer:
        body = json.dumps(value).encode()
        length = ("Content-Length", str(len(body)))
        return ask(self.sidecar.listen, head("POST", path, "there", (*lines, length)) + body)

    def session(self, *options: str) -> Session:
        """A new session of Ann's, who has signed in somewhere."""
        printed = self.installation.cli("sessions", "create", "--user", "ann", "--json", *options)
        return Session(**json.loads(printed))

    def access_key(self) -> tuple[str, str]:
        """The id and the secret of a new access key."""
        made = json.loads(self.installation.cli("access-keys", "create", "--name", "here", "--json"))
        return made["id"], made["secret"]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While it accepts connections, and answers nobody."""
        os.kill(self.sidecar.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.sidecar.process.pid, signal.SIGCONT)


@contextmanager
def a_sidecar(directory: Path) -> Iterator[There]:
    """One with Ann, who has everything and the id 1, and Bob, who has nothing."""
    config = directory / "there.toml"
    config.write_text(SETTINGS.format(directory=directory))
    made = Installation(config, directory)
    made.cli("roles", "set", "admin", "--permission", "users:write", "--permission", "users:read")
    made.add_user(
        "ann",
        *("--name", "Ann Ünal", "--email", "ann@example.com", "--role", "admin", "--role", "a,b"),
    )
    made.add_user("bob")
    with made.serving() as sidecar:
        yield There(made, sidecar)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    """One that all tests may ask; whoever stops it lets it go on."""
    with a_sidecar(tmp_path_factory.mktemp("there")) as started:
        yield started


# --- the products --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ticket:
    """What somebody has who has signed in there, and what ends it."""

    line: Line
    session_id: str


def by_token(there: There) -> Ticket:
    session = there.session()
    return Ticket(bearer(session.token), session.id)


def by_customer_cookie(there: There) -> Ticket:
    session = there.session()
    return Ticket((b"cookie", b"other=1; customerToken=" + session.token.encode()), session.id)


def by_pulse_login(there: There) -> Ticket:
    answer = there.post("/auth/login", {"email": "ann@example.com", "password": PASSWORD})
    token = json.loads(answer.body)["token"]
    return Ticket(bearer(token), session_of(there, token))


def session_of(there: There, token: str) -> str:
    answer = ask(
        there.sidecar.listen, head("GET", "/api/v1/status", "there", (("Authorization", f"Bearer {token}"),))
    )
    return str(json.loads(answer.body)["userSessionId"])


def by_virola_login(there: There) -> Ticket:
    answer = there.post("/api/v1/login", {"userName": "ann", "password": PASSWORD})
    cookie = f"VirolaUserSessionId={answer.cookies()['VirolaUserSessionId']}"
    return Ticket((b"cookie", f"other=1; {cookie}".encode()), json.loads(answer.body)["userSessionId"])


@dataclass(frozen=True)
class Product:
    """How one is signed in to and asked, and what it says of Ann."""

    path: str
    enters: Callable[[There], Ticket]
    unknown: Line
    ann: dict[str, str]
    settings: dict[str, Any]


FORGED = b"e30.eyJpc3MiOiAiaHR0cHM6Ly90aGVyZS5leGFtcGxlLmNvbSJ9.AAAA"
"""A token that names the issuer there."""

EMAIL, ROLES = {"X-Auth-Email": "ann@example.com"}, {"X-Auth-Roles": "a%2Cb,admin"}
NAMES = {"X-Auth-User": "ann", "X-Auth-Name": "Ann %C3%9Cnal"}
PERMISSIONS = {"X-Auth-Permissions": "users:read,users:write"}

PRODUCTS = {
    "cargo-extra": Product(CHECK, by_token, bearer(FORGED), {**NAMES, **EMAIL, **ROLES}, {}),
    "cargo-extra by its cookie": Product(
        CHECK,
        by_customer_cookie,
        (b"cookie", b"customerToken=" + FORGED),
        {**NAMES, **EMAIL, **ROLES},
        {"forward_cookies": ["customerToken"]},
    ),
    "compass": Product(
        "/auth/validate-session",
        by_token,
        bearer(FORGED),
        {**EMAIL, "X-Auth-Roles": "a%2Cb"},
        {"forward_headers": ["Authorization"]},
    ),
    "pulse": Product("/auth/session", by_pulse_login, bearer(FORGED), {**EMAIL, **ROLES, **PERMISSIONS}, {}),
    "virola": Product("/api/v1/status", by_virola_login, (b"cookie", b"VirolaUserSessionId=nobodys"), {}, {}),
    "generic": Product(
        "/auth/session",
        by_token,
        bearer(FORGED),
        {**EMAIL, **ROLES},
        {
            "forward_headers": ["Authorization"],
            "claims": {"subject": "id", "roles": "flatRolesList"},
        },
    ),
}

Here = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """The sidecar that asks, with these settings of the authenticator `legacy`."""

    @asynccontextmanager
    async def started(**table: Any) -> AsyncIterator[Running]:
        legacy = {"type": "upstream", "numeric_subject": True, **table}
        also = {"checks": {"authenticators": ["session", "legacy"]}}
        async with running(tmp_path, {"authenticators": {"legacy": legacy}, **also}) as sidecar:
            yield sidecar

    return started


def tables(dialect: str, there: There) -> dict[str, Any]:
    product = PRODUCTS[dialect]
    return {"dialect": dialect.split(" ", maxsplit=1)[0], "url": there.url(product.path), **product.settings}


each_product = pytest.mark.parametrize("dialect", PRODUCTS)


# --- round trips ---------------------------------------------------------------------------------


@each_product
async def test_who_signed_in_there_passes_here(dialect: str, there: There, here: Here) -> None:
    product = PRODUCTS[dialect]
    async with here(**tables(dialect, there)) as sidecar:
        ticket = product.enters(there)
        answer = await sidecar.check("nginx", [ticket.line])
        assert answer.status == 200
        named = {name: answer.one(name) for name in sidecar.parts.settings.identity_headers}
        absent = dict.fromkeys(named, "")
        assert named == {**absent, **product.ann, "X-Auth-User-Id": "1", "X-Auth-Method": "upstream:legacy"}
        assert answer.all("Set-Cookie") == []


@each_product
async def test_who_signed_out_there_is_refused_here_in_a_while(
    dialect: str, there: There, here: Here
) -> None:
    product = PRODUCTS[dialect]
    async with here(**tables(dialect, there)) as sidecar:
        ticket = product.enters(there)
        assert (await sidecar.check("nginx", [ticket.line])).status == 200
        there.installation.cli("sessions", "revoke", ticket.session_id)
        sidecar.clock.advance(0.5 * CACHE)
        assert (await sidecar.check("nginx", [ticket.line])).status == 200
        sidecar.clock.advance(0.5 * CACHE)
        refused = await sidecar.check("nginx", [ticket.line])
        assert (refused.status, refused.reason) == (401, "unknown_credential")


@each_product
async def test_whom_nobody_knows_there_is_refused_here(dialect: str, there: There, here: Here) -> None:
    async with here(**tables(dialect, there)) as sidecar:
        refused = await sidecar.check("nginx", [PRODUCTS[dialect].unknown])
        assert (refused.status, refused.reason) == (401, "unknown_credential")


@each_product
async def test_while_it_is_stopped_who_was_seen_goes_on_and_nobody_else(
    dialect: str, there: There, here: Here
) -> None:
    product = PRODUCTS[dialect]
    async with here(**tables(dialect, there), timeout="500ms") as sidecar:
        ticket = product.enters(there)
        before = await sidecar.check("nginx", [ticket.line])
        with there.stopped():
            sidecar.clock.advance(CACHE)
            after = await sidecar.check("nginx", [ticket.line])
            assert (after.status, after.lines) == (200, before.lines)
            assert 'sidecar_cache_requests_total{cache="legacy",result="stale"} 1' in await sidecar.metrics()
            started = time.monotonic()
            unknown = await sidecar.check("nginx", [product.unknown])
            assert time.monotonic() - started < 0.5 + 0.5
            assert (unknown.status, unknown.reason) == (503, "upstream_unavailable")
            assert unknown.all("Set-Cookie") == []
            sidecar.clock.advance(STALE)
            assert (await sidecar.check("nginx", [ticket.line])).status == 503
        assert (await sidecar.check("nginx", [ticket.line])).status == 200


async def test_when_it_is_gone_who_was_seen_goes_on_for_a_while(tmp_path: Path, here: Here) -> None:
    directory = tmp_path / "there"
    directory.mkdir()
    with a_sidecar(directory) as gone:
        async with here(**tables("virola", gone)) as sidecar:
            ticket = by_virola_login(gone)
            assert (await sidecar.check("nginx", [ticket.line])).status == 200
            gone.sidecar.process.kill()
            gone.sidecar.process.wait()
            sidecar.clock.advance(CACHE + STALE - 1)
            assert (await sidecar.check("nginx", [ticket.line])).status == 200
            assert (await sidecar.check("nginx", [PRODUCTS["virola"].unknown])).status == 503
            sidecar.clock.advance(1)
            assert (await sidecar.check("nginx", [ticket.line])).status == 503


async def test_a_numeric_id_of_there_is_nobodys_here_unless_the_settings_say_so(
    there: There, here: Here
) -> None:
    for numeric in (False, True):
        async with here(**tables("pulse", there), numeric_subject=numeric) as sidecar:
            answer = await sidecar.ask("GET", "/api/v1/status", [by_token(there).line])
            assert answer.status == 200
            assert (answer.json["userId"] == 1) is numeric
            assert answer.json["userId"] == 1 or answer.json["userId"] >= 2**52


async def test_a_refreshed_cookie_reaches_the_client_and_is_good(there: There, here: Here) -> None:
    asked = {**tables("cargo-extra by its cookie", there), "pass_cookies": ["customerToken"]}
    async with here(**asked) as sidecar:
        ticket = by_customer_cookie(there)
        first = await sidecar.check("nginx", [ticket.line])
        token = first.cookies()["customerToken"]
        assert first.cookies() == {"customerToken": token}
        assert token.encode() not in ticket.line[1]
        assert (await sidecar.check("nginx", [ticket.line])).all("Set-Cookie") == []
        again = await sidecar.check("nginx", [(b"cookie", f"customerToken={token}".encode())])
        assert (again.status, again.one("X-Auth-User")) == (200, "ann")


# --- authing -------------------------------------------------------------------------------------


@pytest.fixture
async def by_authing(there: There, here: Here) -> AsyncIterator[Running]:
    """One with people of its own, who pass while they have a session in app1 there."""
    key_id, secret = there.access_key()
    table = {
        "dialect": "authing",
        "url": there.url(STATUS),
        "over": "session",
        "app_id": "app1",
        "access_key_id": key_id,
        "access_key_secret": secret,
        "numeric_subject": False,
        "timeout": "500ms",
    }
    async with here(**table) as sidecar:
        yield sidecar


@pytest.fixture
def only_by_authing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session alone is not enough."""
    monkeypatch.setenv("SIDECAR_RULES__", json.dumps([{"authenticators": ["legacy"]}]))


async def test_authing_who_has_a_session_there_passes_here(
    there: There, only_by_authing: None, by_authing: Running
) -> None:
    ann, bob, carol = [await by_authing.add_user(name) for name in ("anna", "bobby", "carol")]
    session = there.session("--app", "app1")
    answer = await by_authing.check("nginx", [await by_authing.session(ann)])
    assert answer.status == 200
    assert [answer.one(name) for name in ("X-Auth-User", "X-Auth-User-Id", "X-Auth-Method")] == [
        "anna",
        "1",
        "upstream:legacy",
    ]
    for other in (bob, carol):  # no session there; not known there
        refused = await by_authing.check("nginx", [await by_authing.session(other)])
        assert (refused.status, refused.reason) == (401, "unknown_session")
    there.installation.cli("sessions", "revoke", session.id)
    line = await by_authing.session(ann)
    assert (await by_authing.check("nginx", [line])).status == 200
    by_authing.clock.advance(CACHE)
    assert (await by_authing.check("nginx", [line])).status == 401


async def test_authing_while_it_is_stopped_who_was_seen_goes_on(
    there: There, only_by_authing: None, by_authing: Running
) -> None:
    ann, bob = [await by_authing.add_user(name) for name in ("anna", "bobby")]
    there.session("--app", "app1")
    seen, unseen = await by_authing.session(ann), await by_authing.session(bob)
    assert (await by_authing.check("nginx", [seen])).status == 200
    with there.stopped():
        by_authing.clock.advance(CACHE)
        assert (await by_authing.check("nginx", [seen])).status == 200
        refused = await by_authing.check("nginx", [unseen])
        assert (refused.status, refused.reason) == (503, "upstream_unavailable")


async def test_authing_a_key_that_is_revoked_there_is_an_outage(
    there: There, only_by_authing: None, by_authing: Running
) -> None:
    ann = await by_authing.add_user("anna")
    there.session("--app", "app1")
    line = await by_authing.session(ann)
    assert (await by_authing.check("nginx", [line])).status == 200
    for key in json.loads(there.installation.cli("access-keys", "list", "--json")):
        there.installation.cli("access-keys", "revoke", key["id"])
    by_authing.clock.advance(CACHE + STALE)
    refused = await by_authing.check("nginx", [line])
    assert (refused.status, refused.reason) == (503, "upstream_unavailable")


# --- introspection -------------------------------------------------------------------------------


@asynccontextmanager
async def introspecting(there: There, directory: Path, **table: Any) -> AsyncIterator[Running]:
    """One that asks; its time begins now, since it is told when tokens of there expire."""
    key_id, secret = there.access_key()
    asked = {
        "type": "introspection",
        "url": there.url("/oauth2/introspect"),
        "client_id": key_id,
        "client_secret": secret,
        "issuer": "https://there.example.com",
        "audience": "sidecar",
        "subject_prefix": "there:",
        "timeout": "500ms",
    }
    async with running(directory, {"authenticators": {"there": {**asked, **table}}}) as sidecar:
        sidecar.clock.wall = time.time()
        yield sidecar


@pytest.mark.parametrize("client_auth", ["basic", "post"])
async def test_introspection_who_signed_in_there_passes_here_until_they_sign_out(
    there: There, tmp_path: Path, client_auth: str
) -> None:
    async with introspecting(there, tmp_path, client_auth=client_auth) as sidecar:
        ticket = by_token(there)
        answer = await sidecar.check("nginx", [ticket.line])
        assert answer.status == 200
        named = {name: answer.one(name) for name in sidecar.parts.settings.identity_headers}
        absent = dict.fromkeys(named, "")
        identity = {"X-Auth-User-Id": "there:1", "X-Auth-Method": "introspection:there"}
        assert named == {**absent, **NAMES, **EMAIL, **ROLES, **PERMISSIONS, **identity}
        there.installation.cli("sessions", "revoke", ticket.session_id)
        sidecar.clock.advance(CACHE)
        refused = await sidecar.check("nginx", [ticket.line])
        assert (refused.status, refused.reason) == (401, "unknown_credential")


async def test_introspection_many_ask_more_often_than_anybody_may_sign_in(
    there: There, tmp_path: Path
) -> None:
    async with introspecting(there, tmp_path) as sidecar:
        for _ in range(12):
            assert (await sidecar.check("nginx", [by_token(there).line])).status == 200


async def test_introspection_while_it_is_stopped_who_was_seen_goes_on_and_nobody_else(
    there: There, tmp_path: Path
) -> None:
    async with introspecting(there, tmp_path) as sidecar:
        seen, unseen = by_token(there), by_token(there)
        assert (await sidecar.check("nginx", [seen.line])).status == 200
        with there.stopped():
            sidecar.clock.advance(CACHE)
            assert (await sidecar.check("nginx", [seen.line])).status == 200
            refused = await sidecar.check("nginx", [unseen.line])
            assert (refused.status, refused.reason) == (503, "upstream_unavailable")


async def test_introspection_a_wrong_secret_is_an_outage_and_no_refusal(there: There, tmp_path: Path) -> None:
    async with introspecting(there, tmp_path, client_secret="wrong") as sidecar:
        refused = await sidecar.check("nginx", [by_token(there).line])
        assert (refused.status, refused.reason) == (503, "upstream_unavailable")
