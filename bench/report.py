"""What was measured: tables to read, results.json to compare, and curves to look at."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).with_name("results.json")
TABLES = Path(__file__).with_name("results.md")


@dataclass(frozen=True, slots=True)
class Run:
    """One server under load, once."""

    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    resident_mib: float


@dataclass(frozen=True, slots=True)
class Row:
    """One server under load: the medians over its runs, and the runs."""

    name: str
    median: Run
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, name: str, runs: Sequence[Run]) -> Row:
        """The row of these runs."""
        columns = zip(*(asdict(run).values() for run in runs), strict=True)
        return cls(name, Run(*map(median, columns)), tuple(runs))

    def __str__(self) -> str:
        run = self.median
        return (
            f"| {self.name} | {run.cpu_us:.1f} | {run.per_second:,.0f} | {run.p50_us:.0f} | {run.p99_us:.0f}"
            f" | {run.resident_mib:.0f} |"
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and what it may be: `limit` at most, or with `at_least` at least; None: anything."""

    name: str
    value: float
    limit: float | None = None
    unit: str = ""
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is within the limit."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        measured = f"| {self.name} | {self.value:.2f}{self.unit} |"
        if self.limit is None:
            return f"{measured} | |"
        sign, mark = "≥" if self.at_least else "≤", "✓ met" if self.is_met else "✗ missed"
        return f"{measured} {sign} {self.limit:g}{self.unit} | {mark} |"


@dataclass(frozen=True, slots=True)
class Curve:
    """CPU µs a check against something that grows, and the same of nginx."""

    of: str
    sidecar: Mapping[int, float]
    nginx: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the whole, measured."""

    title: str
    rows: Sequence[Row] = ()
    figures: Sequence[Figure] = ()
    curves: Sequence[Curve] = ()


def cpu(rows: Sequence[Row]) -> dict[str, float]:
    """CPU µs a check by the rows' names."""
    return {row.name: row.median.cpu_us for row in rows}


def printed(parts: Sequence[Part]) -> str:
    """All tables, in Markdown. A part that is nothing but curves has none."""
    return "\n".join(line for part in parts if part.rows or part.figures for line in _lines(part)).rstrip()


def _lines(part: Part) -> Iterator[str]:
    yield from (f"### {part.title}", "")
    if part.rows:
        yield "| | CPU µs a check | checks/s | p50 µs | p99 µs | memory MiB |"
        yield "|---|--:|--:|--:|--:|--:|"
        yield from (*map(str, part.rows), "")
    if part.figures:
        yield "| figure | measured | limit | |"
        yield "|---|--:|--:|---|"
        yield from (*map(str, part.figures), "")


def write(parts: Sequence[Part]) -> None:
    """Writes results.json, and the tables beside it."""
    results = {
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "rows": [{"part": part.title, **asdict(row)} for part in parts for row in part.rows],
        "figures": [
            {"part": part.title, **asdict(figure), "is_met": figure.is_met}
            for part in parts
            for figure in part.figures
        ],
        "curves": [asdict(curve) for part in parts for curve in part.curves],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    TABLES.write_text(printed(parts) + "\n", encoding="utf-8")


def _processor() -> str:
    """Its name, as Linux tells it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
