"""What a process needs after it has seen a million different things. All at once, since nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench import heads
from bench.load import Load, Question
from bench.report import Figure, Part
from bench.servers import Server
from bench.workbench import Workbench, say

REQUESTS = 1_000_000
SESSIONS = 100_000
_BAD = (
    "Cookie: __Host-sidecar=bad-bench-session-{n}",
    "Authorization: Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6InNlc3Npb24rand0In0.e30.{n}",
    "X-Api-Key: sk_bad-bench-key-{n}",
)
_AT_ONCE = 5
"""Seconds after which it is looked how many there were."""


@dataclass(frozen=True, slots=True)
class _Flood:
    """What a process of its own is asked, how often at least, and by how many MiB it may grow."""

    name: str
    store: Path
    question: Question
    requests: int = REQUESTS
    limit: float | None = 32


@dataclass(slots=True)
class _Flooded:
    """The process: what it needed before, and how often it was asked."""

    by: _Flood
    server: Server
    idle: float
    seen: int = 0

    def growth(self) -> Figure:
        """Since it was idle."""
        grown = self.server.resident_mib() - self.idle
        return Figure(f"growth after {self.by.name}", grown, self.by.limit, " MiB")


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    with ExitStack() as running:
        flooded = []
        for number, flood in enumerate(_floods(bench)):
            server = running.enter_context(bench.anywhere.sidecar(f"memory-{number}", flood.store))
            flooded.append(_Flooded(flood, server, server.resident_mib()))
        while unfinished := [each for each in flooded if each.seen < each.by.requests]:
            say(f"A million of everything: {min(each.seen for each in unfinished):,} so far")
            _ask(bench.load, unfinished)
        return Part("Memory", figures=[each.growth() for each in flooded])


def _floods(bench: Workbench) -> list[_Flood]:
    bad = replace(bench.by_session(*map(heads.nginx, _BAD)), refused=True)
    new = {
        "bad tokens": bad,
        "hosts": bench.by_session(heads.nginx(host="h{n}.example.com")),
        "paths": bench.by_session(heads.nginx(uri="/projects/{n}/board?view=week")),
        "client addresses": bench.by_session(heads.nginx(client="2001:{a}:{b}:{c}::1")),
    }
    live = bench.by_session(most=SESSIONS)
    return [
        *(_Flood(f"{REQUESTS:,} {what}", bench.few, question) for what, question in new.items()),
        _Flood(f"{SESSIONS:,} live sessions", bench.many, live, requests=3 * SESSIONS, limit=None),
    ]


def _ask(load: Load, flooded: Sequence[_Flooded]) -> None:
    """All of them at once, for a while."""
    with ExitStack() as running:
        started = [
            running.enter_context(load.started(each.server.port, each.by.question, _AT_ONCE))
            for each in flooded
        ]
        for each, wrk in zip(flooded, started, strict=True):
            each.seen += load.seen(wrk, each.by.question, _AT_ONCE).requests
