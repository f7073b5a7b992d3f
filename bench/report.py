"""The figures: a table to read, and results.json to compare."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).with_name("results.json")


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


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that has a limit."""

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it is within the limit."""
        return self.value <= self.limit

    def __str__(self) -> str:
        mark = "✓ met" if self.is_met else "✗ missed"
        return f"| {self.name} | {self.value:.2f}{self.unit} | ≤ {self.limit:g}{self.unit} | {mark} |"


def printed(rows: Sequence[Row], figures: Sequence[Figure]) -> str:
    """Both tables, in Markdown."""
    lines = [
        "| server | CPU µs a request | requests/s | p50 µs | p99 µs | memory MiB |",
        "|---|--:|--:|--:|--:|--:|",
        *(_line(row.name, row.median) for row in rows),
        "",
        "| figure | measured | limit | |",
        "|---|--:|--:|---|",
        *map(str, figures),
    ]
    return "\n".join(lines)


def _line(name: str, run: Run) -> str:
    return (
        f"| {name} | {run.cpu_us:.1f} | {run.per_second:,.0f} | {run.p50_us:.0f} | {run.p99_us:.0f}"
        f" | {run.resident_mib:.0f} |"
    )


def write(rows: Sequence[Row], figures: Sequence[Figure]) -> None:
    """Writes results.json."""
    results = {
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "rows": [asdict(row) for row in rows],
        "figures": [{**asdict(figure), "is_met": figure.is_met} for figure in figures],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
