"""Traefik's forwardAuth: its requests, byte for byte as Traefik 3 sends them, to its example's sidecar.

Where a Traefik is on PATH it takes part in test_gateways.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from demo.app import IDENTITY_HEADERS
from demo.stack import EXAMPLES
from sidecar.settings import Settings
from tests.e2e.conftest import FAST
from tests.e2e.harness import (
    BROWSER,
    OVERRIDES,
    Answer,
    Case,
    Installation,
    Lines,
    RecordingApp,
    Session,
    Sidecar,
    ask,
    eventually,
    head,
)
from tests.e2e.proxies import PROXIES

APP = "app.example.com"
DYNAMIC = (EXAMPLES / "traefik/dynamic.yml").read_text()
REMOVED = re.findall(r'^ {10}(\S+): ""$', DYNAMIC, re.MULTILINE)


CASES = [
    Case("a user reaches the application", 200, "ann"),
    Case("a user with the role reaches the admin pages", 200, "ann", "/admin/users"),
    Case("a user without the role is refused", 403, "bob", "/admin/users"),
    Case("an escaped letter leads to the same rule", 403, "bob", "/%61dmin/users"),
    Case("HEAD is answered like GET", 200, "ann", method="HEAD"),
    Case("a POST is checked by a GET that says so", 200, "ann", method="POST"),
    Case("an API client that is not signed in gets 401", 401),
    Case("a browser that is not signed in is sent to the sign-in page", 302, lines=BROWSER),
    Case("a browser's POST is not redirected", 401, method="POST", lines=BROWSER),
    Case(
        "an XMLHttpRequest is not redirected", 401, lines=(*BROWSER, ("X-Requested-With", "XMLHttpRequest"))
    ),
    Case("a cookie that nobody was given gets 401", 401, lines=(("Cookie", "sidecar=x"),)),
    Case("an encoded slash is refused", 400, "ann", "/admin%2Fusers"),
    Case("a path parameter is refused", 400, "ann", "/page;x=1"),
    Case("a doubly encoded dot segment is refused", 400, "ann", "/x/%252e%252e/admin"),
    Case(
        "a client's own X-Forwarded-Uri is not read", 403, "bob", "/admin/", lines=(("X-Forwarded-Uri", "/"),)
    ),
    Case(
        "a client's own X-Forwarded-Host is not read",
        200,
        "ann",
        lines=(("X-Forwarded-Host", "evil.example"),),
    ),
    Case("a client's own X-Forwarded-For is not read", 200, "ann", lines=(("X-Forwarded-For", "junk"),)),
    Case(
        "a client's own X-Original-URL is not read",
        200,
        "ann",
        lines=(("X-Original-URL", "http://evil.example/"),),
    ),
]


def check_answer(case: Case, answer: Answer) -> None:
    """What a client of Traefik's can see: it passes on any answer but a 2xx as it is."""
    assert answer.status == case.status
    if case.status == 302:
        page = urlsplit(answer.one("Location"))
        assert (page.scheme, page.netloc, page.path) == ("https", "sso.example.com", "/login")
        assert parse_qs(page.query) == {"rd": [f"https://{case.host}{case.target}"]}
    else:
        assert not answer.all("Location")
    assert bool(answer.all("WWW-Authenticate")) == (case.status == 401)


def listed(key: str) -> list[str]:
    """The items of a list in dynamic.yml."""
    items = re.search(rf"^ +{key}:.*\n((?: +- .*\n)+)", DYNAMIC, re.MULTILINE)
    assert items is not None
    return [line.strip().removeprefix("- ") for line in items[1].splitlines()]


# --- Traefik's questions, sent by ourselves ------------------------------------------------------


def forward_auth(case: Case, credential: Lines, *, has_port: bool) -> bytes:
    """What Traefik asks about this request: its own headers over the client's that the example lists.

    Go's HTTP client writes Host and User-Agent first, then the headers in the order of their names, and
    Accept-Encoding, which its transport adds, last. Since 3.6.14 X-Forwarded-Port is there too.
    """
    admitted = set(listed("authRequestHeaders"))
    headers = [(name, value) for name, value in (*case.lines, *credential) if name in admitted]
    headers += [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Host", case.host),
        ("X-Forwarded-Method", case.method),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", case.target),
    ]
    if has_port:
        headers.append(("X-Forwarded-Port", "443"))
    ordered = sorted(headers, key=lambda line: line[0])
    first: Lines = (("User-Agent", "Go-http-client/1.1"),)
    return head("GET", "/check/traefik", "127.0.0.1:9000", (*first, *ordered, ("Accept-Encoding", "gzip")))


@pytest.fixture(scope="module")
def at_example(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The settings of examples/traefik, with Ann, who is an admin, and Bob."""
    directory = tmp_path_factory.mktemp("traefik-installation")
    made = Installation(EXAMPLES / "traefik/sidecar.toml", directory, FAST)
    made.add_user("ann", "--role", "admin")
    made.add_user("bob")
    return made


@pytest.fixture(scope="module")
def sidecar(at_example: Installation) -> Iterator[Sidecar]:
    """The sidecar of examples/traefik."""
    with at_example.serving() as started:
        yield started


@pytest.fixture(scope="module")
def credentials(at_example: Installation) -> dict[str, Lines]:
    """The cookies of Ann and Bob."""
    return {"": (), **{name: (at_example.session(name).line,) for name in ("ann", "bob")}}


@pytest.mark.parametrize("has_port", [False, True], ids=["before 3.6.14", "since 3.6.14"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_a_question_of_traefiks(
    case: Case, sidecar: Sidecar, credentials: dict[str, Lines], has_port: bool
) -> None:
    answer = ask(sidecar.listen, forward_auth(case, credentials[case.user], has_port=has_port))
    check_answer(case, answer)
    names = {name.lower() for name, _ in answer.lines}
    identity = {name.lower() for name in listed("authResponseHeaders")}
    assert identity & names == (identity if case.status == 200 else set())
    if case.status == 200:
        assert answer.one("X-Auth-User") == case.user


def test_another_host_has_no_rule(sidecar: Sidecar, credentials: dict[str, Lines]) -> None:
    case = Case("", 403, host="other.example.com")
    answer = ask(sidecar.listen, forward_auth(case, credentials["ann"], has_port=True))
    assert (answer.status, answer.one("X-Auth-Reason")) == (403, "no_rule")


def test_a_session_in_use_is_refreshed_for_every_host(sidecar: Sidecar, at_example: Installation) -> None:
    session: Session = at_example.session("bob")
    question = forward_auth(CASES[0], (session.line,), has_port=True)
    answers: list[Answer] = []

    def is_refreshed() -> bool:
        answers.append(ask(sidecar.listen, question))
        return bool(answers[-1].cookies())

    eventually(is_refreshed)
    cookie = answers[-1].one("Set-Cookie")
    assert cookie.startswith(session.cookie)
    assert "Domain=example.com" in cookie.split("; ")
    assert list(answers[-1].cookies()) == listed("addAuthCookiesToResponse")


def test_the_example_passes_on_every_identity_header() -> None:
    assert listed("authResponseHeaders") == list(Settings().identity_headers) == list(IDENTITY_HEADERS)
    removed = [name for name in REMOVED if "Auth" in name]
    spellings = [
        "".join(map("".join, zip(words, (*between, ""), strict=True)))
        for words in (name.split("-") for name in IDENTITY_HEADERS)
        for between in product("-_", repeat=len(words) - 1)
    ]
    assert sorted(removed) == sorted(spellings)


def test_the_example_removes_what_says_that_something_else_was_asked() -> None:
    said_by_traefik = {"X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP"}
    assert set(OVERRIDES) - set(REMOVED) == said_by_traefik


@pytest.mark.parametrize(
    ("upgrade", "is_refused"),
    [
        ("websocket", False),
        ("WebSocket", False),
        ("h2c", True),
        ("", True),
        ("TLS/1.0", True),
        ("h2c, websocket", True),
        ("websocket, h2c", True),
        ("websocket/13", True),
    ],
)
def test_a_wish_for_another_upgrade_finds_no_router(upgrade: str, is_refused: bool) -> None:
    (refused,) = re.findall(r"&& !HeaderRegexp\(`Upgrade`, `(.+?)`\)\"", DYNAMIC)
    assert bool(re.search(refused, upgrade)) is is_refused


# --- Traefik itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/check/traefik", "/check/envoy/", "/metrics", "/userinfo", "/"])
def test_nothing_but_the_pages_is_there_through_traefik(
    tmp_path: Path, installation: Installation, app: RecordingApp, path: str
) -> None:
    PROXIES["traefik"].need()
    with PROXIES["traefik"].standing(tmp_path, installation, app) as stack:
        assert stack.send(head("GET", path, "sso.example.com", BROWSER)).status == 404
