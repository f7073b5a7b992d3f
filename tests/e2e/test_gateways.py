"""What every gateway holds: a client, the real proxy with its example's files, the sidecar, the application.

What is particular to one of them is in a file of its own.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from demo.app import IDENTITY_HEADERS
from demo.stack import EXAMPLES, stop
from sidecar.settings import Settings
from tests.e2e.harness import (
    ACCEPTED,
    API,
    BROWSER,
    OVERRIDES,
    PASSWORD,
    TIMEOUT,
    WEBSOCKET,
    Answer,
    Case,
    Installation,
    Lines,
    RecordingApp,
    Session,
    Stack,
    eventually,
    fields,
    head,
    read_answer,
)
from tests.e2e.proxies import PROXIES, Proxy

SPELLINGS = [
    "as it is",
    "in small letters",
    "in capitals",
    "with underscores",
    "with one underscore",
    "with another underscore",
    "with dots",
    "with one dot",
    "twice",
]


@pytest.fixture(scope="module", params=PROXIES)
def gateway(request: pytest.FixtureRequest) -> Proxy:
    """Each in turn; skipped where it is not installed."""
    proxy = PROXIES[request.param]
    proxy.need()
    return proxy


@pytest.fixture(scope="module")
def stack(
    gateway: Proxy, tmp_path_factory: pytest.TempPathFactory, installation: Installation, app: RecordingApp
) -> Iterator[Stack]:
    """The gateway's own example."""
    with gateway.standing(tmp_path_factory.mktemp(gateway.name), installation, app) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(gateway: Proxy, ann: Session, bob: Session) -> dict[str, Lines]:
    """The cookies of Ann and Bob, and nobody's."""
    return {"": (), "ann": (gateway.session(ann),), "bob": (gateway.session(bob),)}


# --- one request, one answer ---------------------------------------------------------------------

UNREADABLE = 400
"""nginx, which understands no 400 from a check, answers 403 where it is not the one who refuses."""


CASES = [
    Case("a user reaches the application", 200, "ann"),
    Case("a user without roles reaches a page that demands none", 200, "bob"),
    Case("a user with the role reaches the admin pages", 200, "ann", "/admin/users"),
    Case("HEAD is answered like GET", 200, "ann", method="HEAD"),
    Case("OPTIONS is checked like GET", 200, "ann", method="OPTIONS"),
    Case("DELETE reaches the application", 200, "ann", method="DELETE"),
    Case("a POST without a body reaches it", 200, "ann", method="POST", lines=(("Content-Length", "0"),)),
    Case("an API client that is not signed in gets 401", 401),
    Case("the same for HEAD", 401, method="HEAD"),
    Case("the same for OPTIONS", 401, method="OPTIONS"),
    Case("the same for a POST", 401, method="POST", lines=(("Content-Length", "0"),)),
    Case("the same for the admin pages", 401, target="/admin/"),
    Case("a bearer token that nobody signed gets 401", 401, lines=(("Authorization", "Bearer a.b.c"),)),
    Case("an API key that nobody was given gets 401", 401, lines=(("X-Api-Key", "sk_x"),)),
    Case(
        "a bad bearer token beside a good cookie gets 401", 401, "ann", lines=(("Authorization", "Bearer x"),)
    ),
    Case("a script of a page gets 401", 401, lines=(("Accept", "text/html"), ("Sec-Fetch-Mode", "cors"))),
    Case("an XMLHttpRequest gets 401", 401, lines=(*BROWSER, ("X-Requested-With", "XMLHttpRequest"))),
    Case("a browser's POST gets 401", 401, method="POST", lines=(*BROWSER, ("Content-Length", "0"))),
    Case("a WebSocket without a credential gets 401", 401, lines=WEBSOCKET),
    Case("a WebSocket below a page that demands a role gets 403", 403, "bob", "/admin/ws", lines=WEBSOCKET),
    Case("a browser that is not signed in is sent to the sign-in page", 302, lines=BROWSER),
    Case("a user without the role is refused", 403, "bob", "/admin/users"),
    Case("the same in a browser", 403, "bob", "/admin/users", lines=BROWSER),
    Case("a user without the role is refused at the root of the admin pages", 403, "bob", "/admin"),
    Case("an escaped letter leads to the same rule", 403, "bob", "/%61dmin/users"),
    Case("dot segments lead to the same rule", 403, "bob", "/x/../admin/users"),
    Case("slashes in a row lead to the same rule", 403, "bob", "//admin//users"),
    Case("a query leads to no other rule", 403, "bob", "/admin/users?/page"),
    Case("an encoded slash is refused", UNREADABLE, "ann", "/admin%2Fusers"),
    Case("a doubly encoded dot segment is refused", UNREADABLE, "ann", "/x/%252e%252e/admin"),
    Case("a path parameter is refused", UNREADABLE, "ann", "/page;x=1"),
    Case("an encoded backslash is refused", UNREADABLE, "ann", "/x%5C..%5Cadmin"),
    Case("bytes outside ASCII are refused", UNREADABLE, "ann", "/caf\xe9"),
    Case("a path above the root is refused", UNREADABLE, "ann", "/../admin"),
    Case("the check's own address is the application's", 401, target="/check/{gateway}"),
    Case("the application's check is asked as a page like any other", 200, "ann", "/check/{gateway}"),
    *[
        Case(f"a client's own {name} is not read", 403, "bob", "/admin/", lines=((name, value),))
        for name, value in [
            ("X-Forwarded-Uri", "/"),
            ("X-Forwarded-Method", "TRACE"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "ftp"),
            ("X-Forwarded-For", "junk"),
            ("X-Forwarded-Prefix", "/page"),
            ("Forwarded", "host=evil.example"),
            ("X-Original-URL", "http://localhost/"),
            ("X-Original-Method", "bad"),
            ("X-Envoy-Original-Path", "/"),
            ("X-Http-Method-Override", "bad"),
        ]
    ],
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_one_request(case: Case, gateway: Proxy, stack: Stack, cookies: dict[str, Lines]) -> None:
    target = case.target.format(gateway=gateway.name)
    answer = stack.ask(case.method, target, (*case.lines, *cookies[case.user]))
    received = stack.app.taken()
    if (case.status, gateway.name) == (UNREADABLE, "nginx"):
        assert answer.status in {400, 403}
    else:
        assert answer.status == case.status
    assert [each.method for each in received] == ([case.method] if case.status == 200 else [])
    assert bool(answer.all("WWW-Authenticate")) == (case.status == 401)
    assert bool(answer.all("Location")) == (case.status == 302)
    assert not has_identity(answer)


def has_identity(answer: Answer) -> bool:
    """Whether the client is told what is the application's to know."""
    return any(answer.all(name) for name in IDENTITY_HEADERS)


def test_a_request_for_no_path_is_refused(stack: Stack, cookies: dict[str, Lines]) -> None:
    for method, target in (("OPTIONS", "*"), ("CONNECT", stack.host)):
        stack.ask(method, target, cookies["ann"])
        assert not stack.app.taken()


def test_a_cookie_that_nobody_was_given_gets_401(gateway: Proxy, stack: Stack) -> None:
    assert stack.ask("GET", "/", (("Cookie", f"{gateway.cookie}=x"),)).status == 401


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_a_session_is_found_in_either_of_two_cookie_lines(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines], is_first: bool
) -> None:
    lines = [*cookies["bob"], ("Cookie", "own=1")]
    answer = stack.ask("GET", "/", tuple(lines if is_first else reversed(lines)))
    # Envoy makes one line of them, with a comma, which no cookies have between them.
    assert answer.status == (401 if gateway.name == "envoy" else 200)


def test_two_credentials_are_refused(stack: Stack, bob: Session) -> None:
    lines: Lines = (("Authorization", f"Bearer {bob.token}"), ("Authorization", "Basic eDp5"))
    for sent in (lines, lines[::-1]):
        assert stack.ask("GET", "/", sent).status in {400, 401}
        assert not stack.app.taken()


def test_a_refusal_reaches_the_client_with_its_reason(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines]
) -> None:
    if gateway.name == "nginx":
        pytest.skip("nginx has nothing but the status of a refusal; its log has the reason")
    assert stack.ask("GET", "/").one("X-Auth-Reason") == "no_credential"
    assert stack.ask("GET", "/", BROWSER).one("X-Auth-Reason") == "no_credential"
    assert stack.ask("GET", "/admin/", cookies["bob"]).one("X-Auth-Reason") == "missing_role"
    refused = stack.ask("GET", "/a;b", cookies["bob"])
    assert refused.one("X-Auth-Reason") == "ambiguous_path"
    assert refused.one("Cache-Control") == "no-store"


@pytest.mark.parametrize(
    "target",
    [
        "/_sidecar/check/{gateway}",
        "/_sidecar/check/{gateway}/x",
        "/_sidecar/check",
        "/_sidecar/userinfo",
        "/_sidecar/.well-known/jwks.json",
        "/_sidecar/metrics",
        "/_sidecar/api/v1/status",
    ],
)
def test_nothing_of_the_sidecar_is_there_but_its_pages(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines], target: str
) -> None:
    if gateway.name == "traefik":
        pytest.skip("its pages have a host of their own: see test_traefik.py")
    assert stack.ask("GET", target.format(gateway=gateway.name), cookies["ann"]).status == 404
    assert not stack.app.taken()


@pytest.mark.parametrize("check", ["/check/{gateway}", "/check/envoy/x", "/check/nginx"])
@pytest.mark.parametrize(
    "way",
    [
        "/_sidecar/..{check}",
        "/_sidecar/x/../..{check}",
        "/_sidecar/%2e%2e{check}",
        "/_sidecar/..%2F.{check}",
        "/_sidecar/{check}",
        "/_sidecar/\\..{check}",
        "{check}/../../_sidecar/login",
        "{check}/../../../_sidecar/login",
        "{check}/%2e%2e/%2e%2e/_sidecar/login",
        "{check}/..%2F..%2F_sidecar/login",
    ],
)
def test_no_way_round_leads_to_a_check(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines], check: str, way: str
) -> None:
    """With a credential the check would answer with who it is."""
    target = way.format(check=check.format(gateway=gateway.name))
    assert not has_identity(stack.ask("GET", target, cookies["ann"]))


# --- what the application receives ---------------------------------------------------------------


def test_every_identity_header_is_true_at_the_application(stack: Stack, cookies: dict[str, Lines]) -> None:
    stack.ask("GET", "/", cookies["ann"])
    received = stack.app.only()
    identity = {name: received.all(name) for name in IDENTITY_HEADERS}
    user_id = identity.pop("X-Auth-User-Id")
    assert len(user_id) == 1
    assert user_id[0].isdecimal()
    assert identity == {
        "X-Auth-User": ["ann"],
        "X-Auth-Email": ["ann@example.com"],
        "X-Auth-Name": [quote("Ann Ünal, 100%", safe=" ,")],
        "X-Auth-Roles": ["a%2Cb,admin"],
        "X-Auth-Permissions": ["users:read,users:write"],
        "X-Auth-Account": ["t-1"],
        "X-Auth-Method": ["session"],
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", IDENTITY_HEADERS)
def test_a_client_cannot_send_identity_headers(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines], name: str, spelling: str
) -> None:
    if gateway.name == "traefik" and "dot" in spelling:
        pytest.skip("its list of spellings has underscores alone, and says so")
    own: dict[str, Lines] = {
        "as it is": ((name, "admin"),),
        "in small letters": ((name.lower(), "admin"),),
        "in capitals": ((name.upper(), "admin"),),
        "with underscores": ((name.replace("-", "_"), "admin"),),
        "with one underscore": ((name.replace("-", "_", 1), "admin"),),
        "with another underscore": (("_".join(name.rsplit("-", 1)), "admin"),),
        "with dots": ((name.replace("-", "."), "admin"),),
        "with one dot": ((name.replace("-", ".").replace(".", "-", 1), "admin"),),
        "twice": ((name, "admin"), (name, "admin")),
    }
    stack.ask("GET", "/", (*own[spelling], *cookies["bob"]))
    received = stack.app.only()
    assert received.all("X-Auth-User") == ["bob"]
    assert "admin" not in [value for _, value in received.lines]


TOLD = ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]
"""Those that a gateway says itself."""


def test_no_header_says_that_something_else_was_asked(stack: Stack, cookies: dict[str, Lines]) -> None:
    own = tuple((name, "evil.example") for name in (*OVERRIDES, *TOLD))
    assert stack.ask("GET", "/", (*own, *cookies["bob"])).status == 200
    assert "evil" not in str(stack.app.only().lines)


def test_the_application_is_told_what_was_asked(stack: Stack, cookies: dict[str, Lines]) -> None:
    own = tuple((name, "evil.example") for name in TOLD)
    stack.ask("GET", "/", (*own, *cookies["bob"]))
    received = stack.app.only()
    told = {name: received.all(name) for name in TOLD}
    assert len(told.pop("X-Forwarded-For")) == 1
    assert told == {"X-Forwarded-Host": [stack.host], "X-Forwarded-Proto": [stack.url.partition(":")[0]]}


def test_what_is_not_known_of_a_user_is_empty_or_absent_at_the_application(
    stack: Stack, cookies: dict[str, Lines]
) -> None:
    stack.ask("GET", "/", (*[(name, "admin") for name in IDENTITY_HEADERS], *cookies["bob"]))
    received = stack.app.only()
    for name in ("X-Auth-Email", "X-Auth-Name", "X-Auth-Roles", "X-Auth-Permissions", "X-Auth-Account"):
        assert "".join(received.all(name)) == ""


def test_a_connection_header_takes_no_identity_header_away(stack: Stack, cookies: dict[str, Lines]) -> None:
    hop: Lines = (("Connection", "close, X-Auth-User"), ("X-Auth-User", "admin"))
    answer = stack.ask("GET", "/", (*hop, *cookies["bob"]))
    received = [each.all("X-Auth-User") for each in stack.app.taken()]
    assert (answer.status, received) in [(200, [["bob"]]), (400, [])]


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-User",
        "x-auth-roles",
        "X_Auth_User",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-For",
        "X-Forwarded-Uri",
        "X-Own",
    ],
)
def test_no_further_hop_is_told_to_take_headers_away(
    stack: Stack, cookies: dict[str, Lines], name: str
) -> None:
    answer = stack.ask("GET", "/", (("Connection", f"keep-alive, {name}"), *cookies["bob"]))
    received = stack.app.taken()
    assert answer.status == (200 if received else 400)
    assert not any(name.lower() in value.lower() for each in received for value in each.all("Connection"))


@pytest.mark.parametrize("own", [0, 6_000, 14_000, 24_000, 40_000], ids=lambda size: f"{size} bytes")
def test_an_identity_of_8_kib_passes_whole_or_not_at_all(
    gateway: Proxy, stack: Stack, installation: Installation, own: int
) -> None:
    """Whatever room the client's own headers take."""
    roles = [f"{number:03}-{'r' * 56}" for number in range(124)]
    name = f"many-{secrets.token_hex(4)}"
    installation.add_user(name, *(option for role in roles for option in ("--role", role)))
    session = gateway.session(installation.session(name))
    lines = tuple((f"X-Own-{start}", "x" * 2_000) for start in range(0, own, 2_000))
    answer = stack.ask("GET", "/", (*lines, session))
    received = stack.app.taken()
    assert answer.status == 200 or (own > 20_000 and answer.status >= 400 and not received)
    for each in received:
        assert each.all("X-Auth-Roles") == [",".join(roles)]
        assert each.all("X-Auth-User") == [name]
        assert each.all("X-Auth-Method") == ["session"]


@pytest.mark.parametrize("size", [1, 16_384, 300_000])
def test_a_body_arrives_as_it_was_sent(stack: Stack, cookies: dict[str, Lines], size: int) -> None:
    body = secrets.token_bytes(size)
    assert stack.ask("POST", "/upload", cookies["ann"], body).status == 200
    received = stack.app.only()
    assert (received.method, received.body) == ("POST", body)


def test_a_bearer_token_of_a_session_opens_the_application(stack: Stack, ann: Session) -> None:
    assert stack.ask("GET", "/", (("Authorization", f"Bearer {ann.token}"),)).status == 200
    assert stack.app.only().all("X-Auth-Method") == ["token"]


def test_a_websocket_passes(stack: Stack, cookies: dict[str, Lines]) -> None:
    with stack.connected() as connection:
        connection.sendall(head("GET", "/ws?x=1", stack.host, (*WEBSOCKET, *cookies["ann"])))
        switched = _read_head(connection)
        assert switched.startswith(b"HTTP/1.1 101 ")
        assert f"sec-websocket-accept: {ACCEPTED}\r\n".lower().encode() in switched.lower()
        for said in (b"\x81\x85\x01\x02\x03\x04" + b"hello", b"\x00\xff" * 40_000):
            connection.sendall(said)
            assert _read(connection, len(said)) == said
    received = stack.app.only()
    assert (received.path, received.all("X-Auth-User")) == ("/ws?x=1", ["ann"])


UPGRADES: dict[str, Lines] = {
    "HTTP/2": (
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ),
    "HTTP/2 without its settings": (("Connection", "Upgrade"), ("Upgrade", "h2c")),
    "HTTP/2 in capitals": (("Connection", "upgrade"), ("Upgrade", "H2C")),
    "HTTP/2 or a WebSocket": (("Connection", "Upgrade"), ("Upgrade", "h2c, websocket")),
    "a WebSocket or HTTP/2": (("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")),
    "HTTP/2, and then a WebSocket": (("Connection", "Upgrade"), ("Upgrade", "h2c"), ("Upgrade", "websocket")),
    "a WebSocket, and then HTTP/2": (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")),
    "what begins like a WebSocket": (("Connection", "Upgrade"), ("Upgrade", "websocket/13")),
    "what ends like a WebSocket": (("Connection", "Upgrade"), ("Upgrade", "websockets")),
    "TLS": (("Connection", "Upgrade"), ("Upgrade", "TLS/1.0")),
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
def test_no_other_upgrade_passes(stack: Stack, cookies: dict[str, Lines], lines: Lines) -> None:
    """Nobody checks what is said behind an application's 101."""
    handshake = WEBSOCKET[2:]
    stack.app.taken()
    with stack.connected() as connection:
        connection.sendall(head("GET", "/page", stack.host, (*lines, *handshake, *cookies["bob"])))
        answered = _read_head(connection).lower()
    upgrades = [value for received in stack.app.taken() for value in received.all("Upgrade")]
    assert upgrades in ([], ["websocket"])
    assert answered.startswith(b"http/1.1 101 ") == (upgrades == ["websocket"])


def _read_head(connection: socket.socket) -> bytes:
    """Up to the empty line, and not a byte of what follows."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += _read(connection, 1)
    return got


def _read(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = connection.recv(size - len(got))
        assert piece, got
        got += piece
    return got


def test_over_http_2_the_same_is_checked_and_removed(
    gateway: Proxy, stack: Stack, cookies: dict[str, Lines], curl: str
) -> None:
    if gateway.name not in {"haproxy", "envoy"}:
        pytest.skip("its example speaks HTTP/2 over TLS alone, or not at all")
    own = (("x-auth-user", "admin"), ("x_auth_roles", "admin"), ("x-forwarded-host", "admin"))
    lines = [option for line in (*own, *cookies["bob"]) for option in ("-H", ": ".join(line))]
    command = [curl, "--silent", "--http2-prior-knowledge", "--output", os.devnull, *lines]
    for path, status in (("/page", "200"), ("/admin/", "403")):
        stack.app.taken()
        told = [*command, "--write-out", "%{http_version} %{http_code}", f"{stack.url}{path}"]
        done = subprocess.run(told, capture_output=True, text=True, check=True, timeout=TIMEOUT)
        assert done.stdout == f"2 {status}"
        for received in stack.app.taken():
            assert received.all("X-Auth-User") == ["bob"]
            assert received.all("X-Forwarded-Host") == [stack.host]
            assert "admin" not in [value for _, value in received.lines]


def test_connections_are_kept_over_refusals_too(stack: Stack, cookies: dict[str, Lines]) -> None:
    with stack.connected() as connection:
        for user, status in [("ann", 200), ("", 401), ("bob", 200)]:
            connection.sendall(head("GET", "/", stack.host, (*API, *cookies[user])))
            assert read_answer(connection).status == status


# --- signing in and out --------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """Somebody at a browser."""

    gateway: Proxy
    stack: Stack

    def opens(self, url: str, lines: Lines = (), body: bytes = b"", method: str = "GET") -> Answer:
        """One request for this address, with what a browser says beside."""
        page = urlsplit(url)
        target = f"{page.path}?{page.query}" if page.query else page.path
        length: Lines = (("Content-Length", str(len(body))),) if body else ()
        return self.stack.send(head(method, target, page.netloc, (*BROWSER, *lines, *length)) + body)

    def sends(self, url: str, shown: Answer, cookies: Lines = (), **values: str) -> Answer:
        """The form of the page that this address has shown."""
        page = urlsplit(url)
        form = fields(shown.body) | values
        body = "&".join(f"{key}={quote(value, safe='')}" for key, value in form.items()).encode()
        pairs = [value for _, value in cookies] + [f"{key}={value}" for key, value in shown.cookies().items()]
        lines: Lines = (
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Origin", f"{page.scheme}://{page.netloc}"),
            ("Cookie", "; ".join(pairs)),
        )
        return self.opens(f"{page.scheme}://{page.netloc}{page.path}", lines, body, "POST")

    def signs_in(self, name: str, target: str) -> tuple[str, Lines]:
        """Asks for a page and signs in; where that leads, and the session's cookie."""
        refused = self.opens(f"{self.stack.url}{target}")
        assert refused.status == 302
        assert refused.one("Cache-Control") == "no-store"
        page = refused.one("Location")
        assert parse_qs(urlsplit(page).query) == {"rd": [f"{self.stack.url}{target}"]}
        signed_in = self.sends(page, self.opens(page), username=name, password=PASSWORD)
        assert signed_in.status == 303, signed_in.body
        cookie = f"{self.gateway.cookie}={signed_in.cookies()[self.gateway.cookie]}"
        return signed_in.one("Location"), (("Cookie", cookie),)


@pytest.fixture
def person(gateway: Proxy, stack: Stack) -> Person:
    """Somebody who is not signed in."""
    return Person(gateway, stack)


@pytest.mark.parametrize("target", ["/page?x=1&y=%20z&z=%2F", "/a%20b/", "/x?next=http://evil.example/"])
def test_a_browser_signs_in_and_is_back_at_the_very_page(person: Person, target: str) -> None:
    back, cookie = person.signs_in("bob", target)
    assert back == f"{person.stack.url}{target}"
    assert person.opens(back, cookie).status == 200
    received = person.stack.app.only()
    assert received.path == target
    assert received.all("X-Auth-User") == ["bob"]


def test_somebody_who_signed_out_is_refused(person: Person) -> None:
    _, cookie = person.signs_in("bob", "/")
    sign_in = urlsplit(person.opens(f"{person.stack.url}/").one("Location"))
    page = f"{sign_in.scheme}://{sign_in.netloc}{sign_in.path.removesuffix('login')}logout"
    signed_out = person.sends(page, person.opens(page, cookie), cookie)
    assert signed_out.status == 303
    assert signed_out.cookies()[person.gateway.cookie] == ""
    assert person.stack.ask("GET", "/", (*API, *cookie)).status == 401


@pytest.mark.parametrize(
    "lie",
    [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Uri", "//evil.example/"),
        ("X-Original-URL", "http://evil.example/"),
        ("Forwarded", "host=evil.example;proto=ftp"),
    ],
    ids=lambda line: line[0],
)
def test_the_way_back_is_no_lie_of_the_clients(person: Person, lie: tuple[str, str]) -> None:
    page = person.opens(f"{person.stack.url}/page", (lie,)).one("Location")
    assert parse_qs(urlsplit(page).query) == {"rd": [f"{person.stack.url}/page"]}


# --- which site is judged ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/page", "evil.example"),
        ("http://evil.example/page", "{host}"),
        ("/page", "evil.example,{host}"),
        ("/page", "{host},evil.example"),
        ("/page", "evil.example:1,{host}"),
        ("/page", "{host} ,evil.example"),
    ],
)
def test_a_site_that_nobody_serves_is_not_the_applications(
    stack: Stack, cookies: dict[str, Lines], target: str, host: str
) -> None:
    try:
        name = stack.host.partition(":")[0]
        answer = stack.send(head("GET", target, host.format(host=name), cookies["ann"]))
        assert not answer.body or answer.status >= 400
    except ConnectionError:
        pass  # without a word
    assert not stack.app.taken()


def test_the_host_that_is_judged_is_the_one_that_the_application_is_told(
    stack: Stack, cookies: dict[str, Lines]
) -> None:
    """A request line and a Host that differ are refused, or the request line counts for both."""
    for lines in ((), (("Host", stack.host),)):
        answer = stack.send(head("GET", f"{stack.url}/page", "evil.example", (*lines, *cookies["ann"])))
        for received in stack.app.taken():
            assert answer.status == 200
            assert received.path == "/page"
            assert received.all("Host")[0].partition(":")[0] == stack.host.partition(":")[0]


# --- while it runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
def test_a_session_in_use_is_refreshed_beside_the_applications_own_cookie(
    gateway: Proxy, stack: Stack, installation: Installation, status: int
) -> None:
    line = gateway.session(installation.session("bob"))
    stack.app.status, stack.app.sets_cookie = status, "own=1"
    answers = [stack.ask("GET", "/", (line,))]

    def is_refreshed() -> bool:
        answers.append(stack.ask("GET", "/", (line,)))
        assert answers[-1].cookies().keys() <= {"own", gateway.cookie}
        return len(answers[-1].cookies()) > 1

    eventually(is_refreshed)
    assert answers[-1].status == status
    name, _, value = line[1].partition("=")
    assert answers[-1].cookies() == {name: value, "own": "1"}
    assert not any("Set-Cookie".lower() == name.lower() for name, _ in stack.app.taken()[-1].lines)


def test_a_revoked_session_is_refused_soon(gateway: Proxy, stack: Stack, installation: Installation) -> None:
    session = installation.session("bob")
    line = gateway.session(session)
    assert stack.ask("GET", "/", (line,)).status == 200
    installation.cli("sessions", "revoke", session.id)
    eventually(lambda: stack.ask("GET", "/", (line,)).status == 401)


# --- when something is wrong ---------------------------------------------------------------------


@contextmanager
def frozen(process_group: int) -> Iterator[None]:
    """Its connections are open, and nothing comes."""
    os.killpg(process_group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process_group, signal.SIGCONT)


def test_closed_while_the_sidecar_hangs_or_is_gone(
    gateway: Proxy,
    tmp_path: Path,
    installation: Installation,
    app: RecordingApp,
    cookies: dict[str, Lines],
) -> None:
    with gateway.standing(tmp_path, installation, app) as stack:
        assert stack.ask("GET", "/", cookies["ann"]).status == 200
        with frozen(stack.sidecar.process.pid):
            assert stack.ask("GET", "/", cookies["ann"]).status >= 500
            assert not stack.app.taken()
        eventually(lambda: stack.ask("GET", "/", cookies["ann"]).status == 200)
        stop(stack.sidecar.process)
        for lines in (API, BROWSER, WEBSOCKET, cookies["ann"]):
            assert stack.ask("GET", "/", lines).status >= 500
            assert not stack.app.taken()


def test_whoever_is_banned_is_told_for_how_long(
    gateway: Proxy, tmp_path: Path, installation: Installation, app: RecordingApp
) -> None:
    settings = {"authenticators__basic__enabled": "true", "limits__ban": '{"failures": 1}'}
    wrong: Lines = (("Authorization", f"Basic {b64encode(b'nobody:x').decode()}"),)
    alone = replace(installation, directory=tmp_path)  # a ban is kept in the store
    with gateway.standing(tmp_path, alone, app, "", **settings) as stack:
        assert stack.ask("GET", "/", wrong).status == 401
        banned = stack.ask("GET", "/", wrong)
    assert banned.status == (403 if gateway.name == "nginx" else 429)
    assert bool(banned.all("Retry-After")) == (gateway.name != "nginx")
    assert not app.taken()


# --- the files themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROXIES)
def test_the_example_names_every_identity_header(name: str) -> None:
    assert set(Settings().identity_headers) == set(IDENTITY_HEADERS)
    text = "".join(path.read_text() for path in (EXAMPLES / name).iterdir() if path.suffix != ".md").lower()
    for header in IDENTITY_HEADERS:
        assert header.lower() in text


@pytest.mark.parametrize("name", PROXIES)
def test_the_examples_settings_have_no_fault(name: str, installation: Installation) -> None:
    at_example = Installation(EXAMPLES / name / "sidecar.toml", installation.directory)
    assert "warning" not in at_example.cli("config", "check").lower()
