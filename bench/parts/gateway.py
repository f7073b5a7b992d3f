"""The whole way: nginx with examples/nginx asks the sidecar, or an nginx that answers 204.

The nginx that asks shares wrk's core; whoever is asked has the other one.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench import heads
from bench.programs.bare import IDENTITY
from bench.report import Figure, Part
from bench.workbench import CACHED, Arm, Workbench

SIDECAR = "nginx → `auth_request` → sidecar"
CEILING = "nginx → `auth_request` → nginx `return 204`"
AS_MANY_LINES = "nginx → `auth_request` → nginx `return 204` with the sidecar's header lines"


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    page = heads.page()
    question = bench.by_session(page)
    with ExitStack() as running:
        start = running.enter_context
        asked = {
            CEILING: start(bench.servers.nginx()),
            AS_MANY_LINES: start(bench.servers.nginx("as-many-lines", IDENTITY)),
            SIDECAR: start(bench.servers.sidecar("asked", bench.few)),
        }
        arms = [
            Arm(
                name,
                start(bench.beside_load.asking_nginx(f"asking-{auth.port}", auth, page)),
                question,
                measured=auth,
            )
            for name, auth in asked.items()
        ]
        rows = bench.measure(arms)
    rate = {row.name: row.median.per_second for row in rows}
    return Part(
        f"Behind nginx: {CACHED} sessions in use; CPU and memory are those of who is asked",
        rows,
        [
            Figure(
                f"throughput with the sidecar ÷ with {what}", rate[SIDECAR] / rate[other], 0.97, at_least=True
            )
            for what, other in {
                "nginx": CEILING,
                "nginx that answers as many lines": AS_MANY_LINES,
            }.items()
        ],
    )
