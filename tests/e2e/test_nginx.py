"""What is nginx's own: its locations, its statuses, and the sidecar on a unix socket beside it.

What every gateway has to hold is in test_gateways.py.
"""

from __future__ import annotations

import secrets
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from demo.app import IDENTITY_HEADERS
from demo.stack import EXAMPLES, stop
from sidecar.settings import Settings
from tests.e2e.harness import (
    API,
    BROWSER,
    Installation,
    Lines,
    RecordingApp,
    Session,
    Stack,
    eventually,
    head,
)
from tests.e2e.proxies import PROXIES

# --- one request, one answer ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        pytest.param("/page", API, 200, id="a user reaches the application"),
        pytest.param("/x\\..\\admin", API, 403, id="a backslash is refused"),
        pytest.param("/page", (("X-Original-Method", "bad"),), 200, id="nobody else says the method"),
        pytest.param("/_sidecar/check", API, 404, id="the check is not there from outside"),
        pytest.param("/_sidecar/x/../../check/nginx", API, 200, id="dot segments lead to the application"),
    ],
)
def test_one_request(stack: Stack, ann: Session, target: str, lines: Lines, status: int) -> None:
    assert stack.ask("GET", target, (*lines, ann.line)).status == status
    assert len(stack.app.taken()) == (1 if status == 200 else 0)


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


# --- while it runs -------------------------------------------------------------------------------


def test_a_disabled_user_is_refused_soon(stack: Stack, installation: Installation) -> None:
    name = f"eve-{secrets.token_hex(4)}"
    installation.add_user(name)
    session = installation.session(name)
    assert stack.ask("GET", "/", (session.line,)).status == 200
    installation.cli("users", "disable", name)
    eventually(lambda: stack.ask("GET", "/", (session.line,)).status == 401)


def test_without_the_sidecar_a_check_is_500_and_its_pages_are_502(
    need_nginx: None, tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    with PROXIES["nginx"].standing(tmp_path, installation, app) as stack:
        stop(stack.sidecar.process)
        assert stack.ask("GET", "/", (ann.line,)).status == 500
        assert stack.ask("GET", "/_sidecar/login", BROWSER).status == 502


# --- the file itself -----------------------------------------------------------------------------


def test_the_example_passes_on_every_identity_header() -> None:
    conf = " ".join((EXAMPLES / "nginx/nginx.conf").read_text().split())
    for name in IDENTITY_HEADERS:
        variable = name.lower().replace("-", "_")
        assert f"$upstream_http_{variable};" in conf
        assert f"proxy_set_header {name} ${variable.removeprefix('x_')};" in conf
    assert set(Settings().identity_headers) == set(IDENTITY_HEADERS)
