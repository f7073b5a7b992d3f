"""How long a start takes, and what an idle process needs."""

from __future__ import annotations

import compileall
from pathlib import Path
from statistics import median

import sidecar
from bench.report import Figure, Part
from bench.workbench import Workbench, say

STARTS = 5


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    # What is installed has its bytecode; a checkout may have none, and environments forbid to write it.
    compileall.compile_dir(str(Path(sidecar.__file__).parent), quiet=1)
    say(f"Starting {STARTS} times")
    seconds, memory = [], []
    for _ in range(STARTS):
        with bench.servers.sidecar("cold", bench.few) as server:
            seconds.append(server.started_in)
            memory.append(server.resident_mib())
    return Part(
        "Start",
        figures=[
            Figure("cold start to the first 200", median(seconds), 0.6, " s"),
            Figure("resident memory, idle", median(memory), 70, " MiB"),
        ],
    )
