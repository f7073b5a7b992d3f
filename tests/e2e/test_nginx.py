"""A client, the real nginx with examples/nginx/nginx.conf, the sidecar, an application."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from demo.app import IDENTITY_HEADERS
from demo.stack import EXAMPLES, stop
from sidecar.settings import Settings
from tests.e2e.harness import (
    API,
    BROWSER,
    PASSWORD,
    Installation,
    Lines,
    RecordingApp,
    Session,
    Stack,
    eventually,
    fields,
    head,
    nginx_stack,
)

COOKIE = "__Host-sidecar"


# --- one request, one answer ---------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is asked, and what comes back."""

    sentence: str
    status: int
    user: str = ""
    target: str = "/page?x=1"
    method: str = "GET"
    lines: Lines = API


CASES = [
    Case("a user reaches the application", 200, "ann"),
    Case("a user without roles reaches a page that demands none", 200, "bob"),
    Case("a user with the role reaches the admin pages", 200, "ann", "/admin/users"),
    Case("HEAD is answered like GET", 200, "ann", method="HEAD"),
    Case("DELETE reaches the application", 200, "ann", method="DELETE"),
    Case("an API client that is not signed in gets 401", 401),
    Case("the same for the admin pages", 401, target="/admin/"),
    Case("a cookie that nobody was given gets 401", 401, lines=(("Cookie", f"{COOKIE}=x"),)),
    Case("a bearer token that nobody signed gets 401", 401, lines=(("Authorization", "Bearer a.b.c"),)),
    Case("an API key that nobody was given gets 401", 401, lines=(("X-Api-Key", "sk_x"),)),
    Case(
        "a bad bearer token beside a good cookie gets 401", 401, "ann", lines=(("Authorization", "Bearer x"),)
    ),
    Case("a script of a page gets 401", 401, lines=(("Accept", "text/html"), ("Sec-Fetch-Mode", "cors"))),
    Case("an XMLHttpRequest gets 401", 401, lines=(*BROWSER, ("X-Requested-With", "XMLHttpRequest"))),
    Case("a browser's POST gets 401", 401, method="POST", lines=(*BROWSER, ("Content-Length", "0"))),
    Case("a user without the role is refused", 403, "bob", "/admin/users"),
    Case("a user without the role is refused at the root of the admin pages", 403, "bob", "/admin"),
    Case("an escaped letter leads to the same rule", 403, "bob", "/%61dmin/users"),
    Case("dot segments lead to the same rule", 403, "bob", "/x/../admin/users"),
    Case("slashes in a row lead to the same rule", 403, "bob", "//admin//users"),
    Case("a query leads to no other rule", 403, "bob", "/admin/users?/page"),
    Case("an encoded slash is refused", 403, "ann", "/admin%2Fusers"),
    Case("a doubly encoded dot segment is refused", 403, "ann", "/x/%252e%252e/admin"),
    Case("a path parameter is refused", 403, "ann", "/page;x=1"),
    Case("a backslash is refused", 403, "ann", "/x\\..\\admin"),
    Case("bytes outside ASCII are refused", 403, "ann", "/caf\xe9"),
    Case(
        "a client's own X-Original-URL is overwritten",
        403,
        "bob",
        "/admin/",
        lines=(("X-Original-URL", "http://localhost/"),),
    ),
    Case(
        "a client's own X-Original-Method is overwritten", 200, "ann", lines=(("X-Original-Method", "bad"),)
    ),
    Case("a client's own X-Forwarded-For is overwritten", 200, "ann", lines=(("X-Forwarded-For", "junk"),)),
    Case(
        "a client's own X-Forwarded-Uri is not read", 403, "bob", "/admin/", lines=(("X-Forwarded-Uri", "/"),)
    ),
    Case("the check is not there from outside", 404, "ann", "/_sidecar/check"),
    Case("the check is not there by its own name below the pages", 404, "ann", "/_sidecar/check/nginx"),
    Case("the check's own address is the application's", 401, target="/check/nginx"),
    Case("the application's check is asked as a page like any other", 200, "ann", "/check/nginx"),
    Case(
        "dot segments from the pages lead to the application, not to the sidecar",
        401,
        target="/_sidecar/x/../../check/nginx",
    ),
    Case("the keys are not there below the pages", 404, target="/_sidecar/.well-known/jwks.json"),
    Case("the metrics are not there below the pages", 404, target="/_sidecar/metrics"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_one_request(case: Case, stack: Stack, ann: Session, bob: Session) -> None:
    users: dict[str, Lines] = {"ann": (ann.line,), "bob": (bob.line,), "": ()}
    answer = stack.ask(case.method, case.target, (*case.lines, *users[case.user]))
    received = stack.app.taken()
    assert answer.status == case.status
    assert len(received) == (1 if case.status == 200 else 0)
    assert not answer.all("Location")
    if case.status == 401:
        assert answer.one("WWW-Authenticate").startswith("Bearer")
    else:
        assert not answer.all("WWW-Authenticate")


def test_every_identity_header_is_true_at_the_application(stack: Stack, ann: Session) -> None:
    stack.ask("GET", "/", (ann.line,))
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


@pytest.mark.parametrize("name", IDENTITY_HEADERS)
@pytest.mark.parametrize("spelling", ["as it is", "in small letters", "with underscores", "twice"])
def test_a_client_cannot_send_identity_headers(stack: Stack, bob: Session, name: str, spelling: str) -> None:
    own: dict[str, Lines] = {
        "as it is": ((name, "admin"),),
        "in small letters": ((name.lower(), "admin"),),
        "with underscores": ((name.replace("-", "_"), "admin"),),
        "twice": ((name, "admin"), (name, "admin")),
    }
    stack.ask("GET", "/", (*own[spelling], bob.line))
    received = stack.app.only()
    assert received.all("X-Auth-User") == ["bob"]
    assert "admin" not in [value for _, value in received.lines]


def test_an_identity_of_8_kib_passes_whole(stack: Stack, installation: Installation) -> None:
    roles = [f"{number:03}-{'r' * 56}" for number in range(124)]
    name = f"many-{secrets.token_hex(4)}"
    installation.add_user(name, *(option for role in roles for option in ("--role", role)))
    session = installation.session(name)
    assert stack.ask("GET", "/", (session.line,)).status == 200
    (sent,) = stack.app.only().all("X-Auth-Roles")
    assert sent.split(",") == roles


def test_a_body_arrives_as_it_was_sent(stack: Stack, ann: Session) -> None:
    body = secrets.token_bytes(300_000)
    assert stack.ask("POST", "/upload", (ann.line,), body).status == 200
    received = stack.app.only()
    assert (received.method, received.body) == ("POST", body)


def test_a_bearer_token_of_a_session_opens_the_application(stack: Stack, ann: Session) -> None:
    assert stack.ask("GET", "/", (("Authorization", f"Bearer {ann.token}"),)).status == 200
    assert stack.app.only().all("X-Auth-Method") == ["token"]


# --- which site is judged ------------------------------------------------------------------------


def test_the_request_line_says_which_site_is_judged(stack: Stack, ann: Session) -> None:
    request = head("GET", f"http://{stack.host}/page", "evil.example", (ann.line,))
    assert stack.send(request).status == 200
    assert stack.app.only().all("Host") == ["localhost"]


def test_the_return_address_is_of_the_site_that_is_served(stack: Stack) -> None:
    answer = stack.send(head("GET", f"http://{stack.host}/page", f"evil.example:{stack.host[-5:]}", BROWSER))
    assert answer.status == 302
    assert "evil" not in answer.one("Location")


@pytest.mark.parametrize("target", ["/page", "http://evil.example/page"])
def test_a_site_that_nobody_serves_gets_no_answer(stack: Stack, ann: Session, target: str) -> None:
    host = stack.host if target.startswith("http") else "evil.example"
    with pytest.raises(RemoteDisconnected):
        stack.send(head("GET", target, host, (ann.line,)))
    assert not stack.app.taken()


# --- signing in and out --------------------------------------------------------------------------


def sign_in(stack: Stack, name: str, target: str) -> tuple[str, str]:
    """Asks for a page as a browser does, signs in; returns where that leads, and the Cookie value."""
    refused = stack.ask("GET", target, BROWSER)
    assert refused.status == 302
    page = urlsplit(refused.one("Location"))
    assert f"{page.scheme}://{page.netloc}{page.path}" == f"{stack.url}/_sidecar/login"
    shown = stack.ask("GET", f"{page.path}?{page.query}", BROWSER)
    form = fields(shown.body) | {"username": name, "password": PASSWORD}
    body = "&".join(f"{key}={quote(value, safe='')}" for key, value in form.items()).encode()
    lines: Lines = (
        *BROWSER,
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Origin", stack.url),
        *(("Cookie", f"{key}={value}") for key, value in shown.cookies().items()),
    )
    signed_in = stack.ask("POST", page.path, lines, body)
    assert signed_in.status == 303, signed_in.body
    return signed_in.one("Location"), f"{COOKIE}={signed_in.cookies()[COOKIE]}"


def test_a_browser_signs_in_and_is_back_at_the_very_page(stack: Stack) -> None:
    target = "/page?x=1&y=%20z&z=%2F"
    back, cookie = sign_in(stack, "bob", target)
    assert back == f"{stack.url}{target}"
    assert stack.ask("GET", target, (*BROWSER, ("Cookie", cookie))).status == 200
    received = stack.app.only()
    assert received.path == target
    assert received.all("X-Auth-User") == ["bob"]


def test_the_redirect_is_kept_by_nobody(stack: Stack) -> None:
    answer = stack.ask("GET", "/page", BROWSER)
    assert answer.one("Cache-Control") == "no-store"
    assert parse_qs(urlsplit(answer.one("Location")).query) == {"rd": [f"{stack.url}/page"]}


def test_somebody_who_signed_out_is_refused(stack: Stack) -> None:
    _, cookie = sign_in(stack, "bob", "/")
    page = stack.ask("GET", "/_sidecar/logout", (*BROWSER, ("Cookie", cookie)))
    csrf = "; ".join(f"{key}={value}" for key, value in page.cookies().items())
    lines: Lines = (("Cookie", f"{cookie}; {csrf}"), ("Content-Type", "application/x-www-form-urlencoded"))
    body = f"csrf={fields(page.body)['csrf']}".encode()
    signed_out = stack.ask("POST", "/_sidecar/logout", (*lines, ("Origin", stack.url)), body)
    assert signed_out.status == 303
    assert signed_out.cookies()[COOKIE] == ""
    assert stack.ask("GET", "/", (*API, ("Cookie", cookie))).status == 401


# --- changes while it runs -----------------------------------------------------------------------


def test_a_revoked_session_is_refused_soon(stack: Stack, installation: Installation) -> None:
    session = installation.session("bob")
    assert stack.ask("GET", "/", (session.line,)).status == 200
    installation.cli("sessions", "revoke", session.id)
    eventually(lambda: stack.ask("GET", "/", (session.line,)).status == 401)


def test_a_disabled_user_is_refused_soon(stack: Stack, installation: Installation) -> None:
    name = f"eve-{secrets.token_hex(4)}"
    installation.add_user(name)
    session = installation.session(name)
    assert stack.ask("GET", "/", (session.line,)).status == 200
    installation.cli("users", "disable", name)
    eventually(lambda: stack.ask("GET", "/", (session.line,)).status == 401)


@pytest.mark.parametrize("status", [200, 500])
def test_a_session_in_use_is_refreshed_beside_the_applications_own_cookie(
    stack: Stack, installation: Installation, status: int
) -> None:
    session = installation.session("bob")
    stack.app.status, stack.app.sets_cookie = status, "own=1"
    answers = [stack.ask("GET", "/", (session.line,))]

    def is_refreshed() -> bool:
        answers.append(stack.ask("GET", "/", (session.line,)))
        return len(answers[-1].cookies()) > 1

    eventually(is_refreshed)
    assert answers[-1].status == status
    name, _, value = session.cookie.partition("=")
    assert answers[-1].cookies() == {name: value, "own": "1"}


def test_without_the_sidecar_nobody_passes(
    need_nginx: None, tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    with nginx_stack(tmp_path, installation, app) as stack:
        assert stack.ask("GET", "/", (ann.line,)).status == 200
        stop(stack.sidecar.process)
        for lines in (API, BROWSER, (ann.line,)):
            assert stack.ask("GET", "/", lines).status == 500
            assert not stack.app.taken()
        assert stack.ask("GET", "/_sidecar/login", BROWSER).status == 502


# --- the file itself -----------------------------------------------------------------------------


def test_the_example_passes_on_every_identity_header() -> None:
    conf = " ".join((EXAMPLES / "nginx/nginx.conf").read_text().split())
    for name in Settings().identity_headers:
        variable = name.lower().replace("-", "_")
        assert f"$upstream_http_{variable};" in conf
        assert f"proxy_set_header {name} ${variable.removeprefix('x_')};" in conf
    assert set(Settings().identity_headers) == set(IDENTITY_HEADERS)
