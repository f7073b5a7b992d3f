"""The machine that is measured on: its two cores, and what is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager


class CannotMeasure(Exception):
    """Something is missing or went wrong: there are no figures. The message says what to do."""


def two_cores() -> tuple[int, int]:
    """The server's core and the load's. Raises CannotMeasure."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise CannotMeasure("two cores of a Linux machine are needed: one for the server, one for the load")
    return cores[0], cores[1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def program(name: str) -> str:
    """Where the program is. Raises CannotMeasure."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise CannotMeasure(f"{name} is not installed; on Debian: apt-get install nginx wrk")
    return found
