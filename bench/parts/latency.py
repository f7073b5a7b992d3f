"""How long checks take while the server has about half of what it can do to do."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from math import ceil

from bench.report import Figure, Part
from bench.workbench import Arm, Workbench

_PAUSE_MS = 10
_ROUND_TRIP_MS = 1
"""What comes on top of a pause: the check, and wrk's clock, which ticks in milliseconds."""


def measure(bench: Workbench) -> Part:
    """See PARTS. nginx, asked as often, shows what of the time is the machine's and the load's own."""
    question = bench.by_session()
    with ExitStack() as running:
        sidecar = running.enter_context(bench.servers.sidecar("latency", bench.few))
        nginx = running.enter_context(bench.servers.nginx())
        (busy,) = bench.measure([Arm("/check/nginx, as fast as it can", sidecar, question)])
        wanted = busy.median.per_second / 2
        connections = ceil(wanted * (_PAUSE_MS + _ROUND_TRIP_MS) / 1000)
        paced = replace(question, connections=connections, pause_ms=_PAUSE_MS)
        half, ceiling = bench.measure(
            [
                Arm("/check/nginx, half as fast", sidecar, paced),
                Arm("nginx `return 204`, as fast as that", nginx, paced),
            ]
        )
    share = half.median.per_second / busy.median.per_second
    return Part(
        "Half as much as it can do",
        [busy, half, ceiling],
        [
            Figure("share of the maximum rate", share),
            Figure("p99 at that rate", half.median.p99_us / 1000, 2, " ms"),
            Figure("p99 of nginx at that rate", ceiling.median.p99_us / 1000, None, " ms"),
        ],
    )
