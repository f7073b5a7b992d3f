"""What is HAProxy's own: the check is an action of ours, written in Lua."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.harness import Installation, RecordingApp, Session
from tests.e2e.proxies import PROXIES, Place

HAPROXY = PROXIES["haproxy"]
ASKS = "local answer = "


@pytest.mark.parametrize("before", ['error("a fault") ', "if txn then return end "], ids=["fails", "forgets"])
def test_closed_where_the_script_does_not_do_its_work(
    tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session, before: str
) -> None:
    HAPROXY.need()

    def broken(place: Place) -> dict[str, Mapping[str, str]]:
        changes = HAPROXY.changes(place)
        return {**changes, "sidecar.lua": {**changes["sidecar.lua"], ASKS: f"{before}{ASKS}"}}

    with replace(HAPROXY, changes=broken).standing(tmp_path, installation, app) as stack:
        assert stack.ask("GET", "/", (ann.line,)).status == 503
        assert stack.ask("GET", "/_sidecar/login").status == 200
        assert not app.taken()
