"""Fixtures that more than one folder uses."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings as fuzzing

from sidecar.telemetry import configure_logging
from tests.logs import logging_as_it_was
from tests.running import MODE, Mode, Running, running

Start = Callable[[dict[str, Any]], AbstractAsyncContextManager[Running]]

fuzzing.register_profile("fuzz", print_blob=True)  # `make fuzz`; what it means stands in tests/test_fuzz.py

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where there is such a place: stores that no test needs after a crash wait for no disk."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


MODES = {"decided every time": Mode("plain"), "on a connection in use": Mode("express", is_warmed=True)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every one of the hundred cases holds however checks are served."""
    if metafunc.module.__name__.rpartition(".")[2].startswith("test_security_"):
        metafunc.fixturenames.insert(0, "mode")
        metafunc.parametrize("mode", list(MODES), indirect=True)


@pytest.fixture
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How checks are served in this test."""
    for field, value in asdict(MODES[request.param]).items():
        monkeypatch.setattr(MODE, field, value)


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Running]:
    """The application with default settings."""
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the application with settings of the test's own."""
    return lambda tables: running(tmp_path, tables)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, from debug up: one JSON object a line."""
    stream = io.StringIO()
    with logging_as_it_was():
        configure_logging("debug", "json", stream)
        yield stream
