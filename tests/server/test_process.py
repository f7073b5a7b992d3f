"""What one process does in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.app import services
from sidecar.server import process
from sidecar.server.reloading import Current
from sidecar.settings import parse


async def test_a_fault_in_the_purge_is_logged_and_there_is_a_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_TIDY_EVERY", 0)
    again = asyncio.Event()
    faults = iter([ZeroDivisionError()])

    async def purge() -> None:
        for fault in faults:
            raise fault
        again.set()

    settings = parse({"store": {"url": f"sqlite:///{tmp_path}/sidecar.db"}})
    async with services(settings) as parts:
        current = Current(parts)
        monkeypatch.setattr(current.application, "purge", purge)
        with capture_logs() as logs:
            tidying = asyncio.create_task(process._tidy_now_and_then(current))
            await asyncio.wait_for(again.wait(), 30)
        tidying.cancel()
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("tidying_failed", True)]
