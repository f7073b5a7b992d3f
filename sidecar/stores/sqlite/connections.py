"""Connections to a database file, and what holds for each of them."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

_READ_PATIENCE = 0.05
"""A reader waits for nobody but a process that recovers the journal of a crashed one."""

_PRAGMAS = (
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cache_size = -8192",  # 8 MiB at most, however large the file
    "mmap_size = 0",  # a mapped file that somebody truncates ends the process with SIGBUS
)


def reading(opened: ExitStack, path: Path) -> sqlite3.Connection:
    """A connection that cannot write, and that `opened` closes."""
    return _connected(opened, path, "ro", _READ_PATIENCE)


def writing(opened: ExitStack, path: Path, *, patience: float) -> sqlite3.Connection:
    """A connection that waits `patience` seconds for other writers, and that `opened` closes."""
    return _connected(opened, path, "rw", patience)


def _connected(
    opened: ExitStack, path: Path, mode: Literal["ro", "rw"], patience: float
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",  # neither mode creates the file
        uri=True,
        timeout=patience,
        isolation_level=None,  # transactions begin and end where we say so
        check_same_thread=False,  # it is made by one thread, and then used by one other
    )
    opened.callback(connection.close)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection
