"""Many connections at once, kept open, against few."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bench.load import CONNECTIONS
from bench.report import Figure, Part, cpu
from bench.workbench import Arm, Workbench

MANY_CONNECTIONS = 1_000


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    few, many = (f"/check/nginx, {count:,} connections" for count in (CONNECTIONS, MANY_CONNECTIONS))
    ceiling = f"nginx `return 204`, {MANY_CONNECTIONS:,} connections"
    question = bench.by_session()
    from_many = replace(question, connections=MANY_CONNECTIONS)
    with ExitStack() as running:
        start = running.enter_context
        sidecar = start(bench.servers.sidecar("connections", bench.few))
        rows = bench.measure(
            [
                Arm(ceiling, start(bench.servers.nginx()), from_many),
                Arm(few, sidecar, question),
                Arm(many, sidecar, from_many),
            ]
        )
    used = cpu(rows)
    ratio = Figure(f"{MANY_CONNECTIONS:,} connections ÷ {CONNECTIONS}", used[many] / used[few], 1.2)
    return Part("Many connections at once", rows, [ratio])
