"""What is HAProxy's own: the check is an action of ours, written in Lua."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from demo.app import IDENTITY_HEADERS
from tests.e2e.harness import Installation, RecordingApp, Session
from tests.e2e.proxies import PROXIES, Changes, Place, Proxy

HAPROXY = PROXIES["haproxy"]
ASKS = "local answer = "


def changed(file: str, more: Mapping[str, str]) -> Proxy:
    """Its example, with these changes too."""
    HAPROXY.need()

    def changes(place: Place) -> Changes:
        usual = HAPROXY.changes(place)
        return {**usual, file: {**usual[file], **more}}

    return replace(HAPROXY, changes=changes)


@pytest.mark.parametrize("before", ['error("a fault") ', "if txn then return end "], ids=["fails", "forgets"])
def test_closed_where_the_script_does_not_do_its_work(
    tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session, before: str
) -> None:
    with changed("sidecar.lua", {ASKS: f"{before}{ASKS}"}).standing(tmp_path, installation, app) as stack:
        assert stack.ask("GET", "/", (ann.line,)).status == 503
        assert stack.ask("GET", "/_sidecar/login").status == 200
        assert not app.taken()


def test_closed_where_there_is_no_room_for_every_identity_header(
    tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    """HAProxy sets what has room, and does not say what had none."""
    little = {"tune.maxrewrite 9216": "tune.maxrewrite 64"}
    statuses = set()
    with changed("haproxy.cfg", little).standing(tmp_path, installation, app) as stack:
        for size in range(31_500, 32_700, 25):
            answer = stack.ask("GET", "/", (("X-Own", "x" * size), ann.line))
            statuses.add(answer.status)
            for received in app.taken():
                assert all(received.all(name) for name in IDENTITY_HEADERS)
    assert statuses >= {200, 503}


def test_cookies_of_the_check_keep_their_order(
    tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    keeps = "http-reuse always"
    cookies = "".join(f"\n    http-response add-header Set-Cookie {name}=1" for name in "abc")
    with changed("haproxy.cfg", {keeps: keeps + cookies}).standing(tmp_path, installation, app) as stack:
        for lines, status in (((ann.line,), 200), ((), 401)):
            answer = stack.ask("GET", "/", lines)
            names = [name for name in answer.cookies() if name != HAPROXY.cookie]  # which may be refreshed
            assert (answer.status, names) == (status, ["a", "b", "c"])
