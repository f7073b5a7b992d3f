"""Fixtures that more than one folder uses."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog
from hypothesis import settings as fuzzing

from sidecar.telemetry import configure_logging
from tests.running import Running, running

Start = Callable[[dict[str, Any]], AbstractAsyncContextManager[Running]]

fuzzing.register_profile("fuzz", print_blob=True)  # `make fuzz`; what it means stands in tests/test_fuzz.py

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where there is such a place: stores that no test needs after a crash wait for no disk."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


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
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
