"""The load: wrk with a script of ours, asking what gateways ask."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import CannotMeasure, on_cores

CONNECTIONS = 32
PATHS = 200

_SCRIPT = Path(__file__).with_name("check.lua")
_PATIENCE = 60
"""Seconds that wrk may take to begin and to end, in all."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: heads (see heads.py), one of them at random for each request.

    `credentials`: a file with one a line, of which the first `most` are used, at random. `pause_ms`: how long
    a connection waits before each request, on the average. `refused`: whether all are to be refused.
    """

    heads: tuple[str, ...]
    credentials: Path
    most: int
    paths: int = PATHS
    connections: int = CONNECTIONS
    pause_ms: int = 0
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw in one run."""

    requests: int
    per_second: float
    p50_us: float
    p99_us: float


class Load:
    """Runs wrk on some cores. No two runs send the same requests. `wrk`: where that program is."""

    def __init__(self, cores: Iterable[int], wrk: str) -> None:
        self._cores = tuple(cores)
        self._wrk = wrk
        self._runs = 0

    def run(self, port: int, question: Question, seconds: int) -> Seen:
        """Asks for so long. Raises CannotMeasure."""
        with self.started(port, question, seconds) as wrk:
            return self.seen(wrk, question, seconds)

    @contextmanager
    def started(self, port: int, question: Question, seconds: int) -> Iterator[subprocess.Popen[str]]:
        """wrk while it asks; it is gone afterwards."""
        self._runs += 1
        options = [
            "--threads=1",
            f"--connections={question.connections}",
            f"--duration={seconds}s",
            "--timeout=10s",
            f"--script={_SCRIPT}",
        ]
        arguments = (self._runs, question.paths, question.pause_ms, question.credentials, question.most)
        command = [self._wrk, *options, f"http://127.0.0.1:{port}", "--", *map(str, arguments)]
        with on_cores(self._cores):
            wrk = subprocess.Popen(
                [*command, *question.heads],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        with wrk:
            try:
                yield wrk
            finally:
                wrk.kill()

    @staticmethod
    def seen(wrk: subprocess.Popen[str], question: Question, seconds: int) -> Seen:
        """What it has seen, when it has ended. Raises CannotMeasure."""
        output, _ = wrk.communicate(timeout=seconds + _PATIENCE)
        if wrk.returncode:
            raise CannotMeasure(f"wrk failed: {output}")
        return read(output, refused=question.refused)


def read(output: str, *, refused: bool) -> Seen:
    """From the line that our script prints last. Raises CannotMeasure."""
    result = json.loads(output.splitlines()[-1])
    expected = result["requests"] if refused else 0
    if result["failed"] or not result["requests"] or result["refused"] != expected:
        wanted = "refused" if refused else "allowed"
        raise CannotMeasure(f"not every request was {wanted}, so nothing was measured:\n{output}")
    return Seen(
        requests=result["requests"],
        per_second=result["requests"] / result["seconds"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
    )
