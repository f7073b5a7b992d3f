"""How long checks take while the server has about half of what it can do to do."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from bench.report import Figure, Part
from bench.workbench import Arm, Workbench

_PAUSE_MS = 10
_ROUND_TRIP_MS = 1
"""What comes on top of a pause: the check, and wrk's clock, which ticks in milliseconds."""


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    question = bench.by_session()
    with bench.servers.sidecar("latency", bench.few) as sidecar:
        (busy,) = bench.measure([Arm("/check/nginx, as fast as it can", sidecar, question)])
        wanted = busy.median.per_second / 2
        connections = ceil(wanted * (_PAUSE_MS + _ROUND_TRIP_MS) / 1000)
        paced = replace(question, connections=connections, pause_ms=_PAUSE_MS)
        (half,) = bench.measure([Arm("/check/nginx, half as fast", sidecar, paced)])
    share = half.median.per_second / busy.median.per_second
    return Part(
        "Half as much as it can do",
        [busy, half],
        [
            Figure("share of the maximum rate", share),
            Figure("p99 at that rate", half.median.p99_us / 1000, 2, " ms"),
        ],
    )
