"""Fixtures that more than one folder uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, running

Start = Callable[[dict[str, Any]], AbstractAsyncContextManager[Running]]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Running]:
    """The application with default settings."""
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the application with settings of the test's own."""
    return lambda tables: running(tmp_path, tables)
