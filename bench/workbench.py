"""What the parts have in common: the servers' cores and the load's, the stores, and rounds of measuring."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench import heads
from bench.credentials import Credentials
from bench.data import FEW, MANY, build_few, build_many
from bench.load import Load, Question
from bench.machine import cores, programs, raise_descriptors
from bench.report import Row, Run
from bench.servers import Server, Servers

CACHED = 500
"""Sessions in use at once where all of them are remembered."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A server, and what it is asked. `warm_up`: seconds until it has seen all that it is asked for.

    `measured`: the server whose time is measured, where that is one behind it.
    """

    name: str
    server: Server
    question: Question
    warm_up: int = 1
    measured: Server | None = None


class Workbench:
    """Everything that is measured with, in one folder. Raises CannotMeasure, here and when it is used.

    `servers` is the core of what is measured, `beside_load` that of wrk, and `anywhere` all of them, for what
    is not timed.
    """

    def __init__(self, folder: Path, rounds: int, seconds: int) -> None:
        server_core, load_core, *_ = cores()
        nginx, wrk = programs("nginx", "wrk")
        raise_descriptors()
        self.servers = Servers(folder, [server_core], nginx)
        self.beside_load = Servers(folder, [load_core], nginx)
        self.anywhere = Servers(folder, cores(), nginx)
        self.load = Load([load_core], wrk)
        self._folder = folder
        self._rounds = rounds
        self._seconds = seconds

    @cached_property
    def few(self) -> Path:
        """The file of a store with few sessions."""
        say(f"Building a store with {FEW:,} sessions")
        return build_few(self._folder)

    @cached_property
    def many(self) -> Path:
        """The file of the same store with many."""
        say(f"Building a store with {MANY:,} sessions")
        return build_many(self._folder, self.few)

    @cached_property
    def credentials(self) -> Credentials:
        """What opens both stores."""
        return Credentials(self._folder, self.few)

    def by_session(self, *asked: str, most: int = CACHED) -> Question:
        """Sessions that ask with these heads; by default as nginx does."""
        return Question(asked or (heads.nginx(),), self.credentials.sessions, most)

    def measure(self, arms: Sequence[Arm], rounds: int | None = None) -> list[Row]:
        """Asks them in turns, so that whatever else the machine does meets all of them."""
        runs: dict[str, list[Run]] = {arm.name: [] for arm in arms}
        for arm in arms:
            say(f"Warming up: {arm.name}")
            self.load.run(arm.server.port, arm.question, arm.warm_up)
        total = rounds or self._rounds
        for turn in range(1, total + 1):
            for arm in arms:
                say(f"Round {turn} of {total}: {arm.name}")
                runs[arm.name].append(self.run(arm))
        return [Row.of(name, each) for name, each in runs.items()]

    def run(self, arm: Arm) -> Run:
        """One arm, once."""
        server = arm.measured or arm.server
        before = server.cpu_seconds()
        seen = self.load.run(arm.server.port, arm.question, self._seconds)
        return Run(
            cpu_us=(server.cpu_seconds() - before) / seen.requests * 1e6,
            per_second=seen.per_second,
            p50_us=seen.p50_us,
            p99_us=seen.p99_us,
            resident_mib=server.resident_mib(),
        )


def say(text: str) -> None:
    """How far it is, on standard error."""
    print(f"{text} …", file=sys.stderr, flush=True)
