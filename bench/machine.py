"""The machine that is measured on: its cores, and what is installed."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_DESCRIPTORS = 2048
"""That a load generator with 1,000 connections needs, and the server that it asks, with much to spare."""


class CannotMeasure(Exception):
    """Something is missing or went wrong: there are no figures. The message says what to do."""


def cores() -> list[int]:
    """The cores that we may use: at least two. Raises CannotMeasure."""
    found = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(found) < 2:
        raise CannotMeasure("two cores of a Linux machine are needed: one for the server, one for the load")
    return found


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """What is started within stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def programs(*names: str) -> list[str]:
    """Where these programs are. Raises CannotMeasure, which names all that are missing."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    found = {name: shutil.which(name, path=path) for name in names}
    missing = " and ".join(name for name, where in found.items() if where is None)
    if missing:
        raise CannotMeasure(f"not installed: {missing}; on Debian: apt-get install nginx wrk")
    return [where for where in found.values() if where]


def raise_descriptors() -> None:
    """Lets this process, and what it starts, open enough files. Raises CannotMeasure."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        raise CannotMeasure(f"{_DESCRIPTORS} open files are needed (ulimit -Hn), and {hard} may be open")
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
