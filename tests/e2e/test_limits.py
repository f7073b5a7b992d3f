"""What real processes have counted, when they end in one way or another."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import PASSWORD, TIMEOUT, Answer, Installation, Lines, Sidecar, ask, head

CONFIG = """
[authenticators.basic]
enabled = true
cache = "1s"
[limits]
login = "6/hour"
checks = "20/hour"
ban = { failures = 3, window = "10m", duration = "10m" }
"""
ELSEWHERE: Lines = (("X-Forwarded-For", "198.51.100.1"),)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A store of its own with Ann in it."""
    config = tmp_path / "sidecar.toml"
    config.write_text(CONFIG, encoding="utf-8")
    made = Installation(config, tmp_path)
    made.add_user("ann", "--email", "ann@example.com")
    return made


def sign_in(sidecar: Sidecar, name: str, password: str, lines: Lines = ()) -> Answer:
    """At Pulse: no form is in the way."""
    body = json.dumps({"email": name, "password": password}).encode()
    length = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    return ask(sidecar.listen, head("POST", "/auth/login", "sidecar", (*length, *lines)) + body)


def by_basic(sidecar: Sidecar, lines: Lines = ()) -> Answer:
    """A check with the right password, behind nginx."""
    credential = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    asked = (("X-Original-URL", "http://localhost/"), ("X-Original-Method", "GET"))
    return ask(
        sidecar.listen,
        head("GET", "/check/nginx", "sidecar", (*asked, ("Authorization", f"Basic {credential}"), *lines)),
    )


def assert_banned(sidecar: Sidecar, lines: Lines = ()) -> None:
    """Ann is, at a product and by Basic, for the rest of the ten minutes."""
    refused = sign_in(sidecar, "ann", PASSWORD, lines)
    assert refused.status == 429
    assert 500 < int(refused.one("Retry-After")) <= 600
    checked = by_basic(sidecar, lines)
    assert (checked.status, checked.one("X-Auth-Reason")) == (403, "banned")


def end(sidecar: Sidecar, how: signal.Signals) -> None:
    sidecar.process.send_signal(how)
    assert sidecar.process.wait(TIMEOUT) == (0 if how is signal.SIGTERM else -how)


each_end = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)


@each_end
def test_who_was_banned_is_banned_after_a_restart(installation: Installation, how: signal.Signals) -> None:
    with installation.serving() as sidecar:
        for name in ("ann", "ANN", "ann@example.com"):
            assert sign_in(sidecar, name, "wrong").status == 401
        assert_banned(sidecar, ELSEWHERE)
        end(sidecar, how)
    with installation.serving() as sidecar:
        assert_banned(sidecar, ELSEWHERE)
        assert_banned(sidecar)


@each_end
def test_failures_and_sign_ins_count_after_a_restart(installation: Installation, how: signal.Signals) -> None:
    with installation.serving() as sidecar:
        for _ in range(2):
            assert sign_in(sidecar, "ann", "wrong").status == 401
        end(sidecar, how)
    with installation.serving() as sidecar:
        assert sign_in(sidecar, "ann", "wrong").status == 401
        assert_banned(sidecar, ELSEWHERE)
        for _ in range(2):
            assert sign_in(sidecar, "bob", "wrong").status == 429  # the client is banned
        refused = sign_in(sidecar, "bob", "wrong")
        assert refused.status == 429
        assert int(refused.one("Retry-After")) <= 600
    installation.cli("bans", "lift", "127.0.0.1")
    with installation.serving() as sidecar:
        refused = sign_in(sidecar, "bob", "wrong")
        assert refused.status == 429  # the sixth was let in before: this client has signed in too often
        assert int(refused.one("Retry-After")) > 600


def test_requests_count_after_an_orderly_restart(installation: Installation) -> None:
    def asked(sidecar: Sidecar) -> int:
        return ask(sidecar.listen, head("GET", "/api/v1/status", "sidecar")).status

    with installation.serving() as sidecar:
        assert [asked(sidecar) for _ in range(15)] == [401] * 15
        end(sidecar, signal.SIGTERM)
    with installation.serving() as sidecar:
        assert [asked(sidecar) for _ in range(7)] == [401] * 5 + [429] * 2


def test_two_processes_ban_together_and_a_lifted_ban_is_none_at_once(installation: Installation) -> None:
    with installation.serving() as one, installation.serving() as other:
        for number, sidecar in enumerate((one, other, one)):
            client = (("X-Forwarded-For", f"192.0.2.{number}"),)
            assert sign_in(sidecar, "ann", "wrong", client).status == 401
        assert_banned(one, ELSEWHERE)
        assert_banned(other, ELSEWHERE)
        (ban,) = json.loads(installation.cli("bans", "list", "--json"))
        assert ban["user"] == "ann"
        installation.cli("bans", "lift", "ann")
        assert [sign_in(each, "ann", PASSWORD, ELSEWHERE).status for each in (one, other)] == [200, 200]
        assert [by_basic(each, ELSEWHERE).status for each in (one, other)] == [200, 200]
