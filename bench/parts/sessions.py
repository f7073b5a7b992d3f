"""Many people at once, each with a browser that sends different heads for one session."""

from __future__ import annotations

from contextlib import ExitStack

from bench import heads
from bench.parts.cached import NGINX
from bench.report import Figure, Part, cpu
from bench.workbench import Arm, Workbench

SESSIONS = 10_000
_WARM_UP = 10
"""Seconds: each session has to have asked with each of its heads."""


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    browsers = bench.by_session(*heads.browsing(), most=SESSIONS)
    name = f"/check/nginx, {SESSIONS:,} sessions with {len(browsers.heads)} heads each"
    with ExitStack() as running:
        start = running.enter_context
        rows = bench.measure(
            [
                Arm(NGINX, start(bench.servers.nginx()), browsers),
                Arm(name, start(bench.servers.sidecar("sessions", bench.many)), browsers, _WARM_UP),
            ]
        )
    used = cpu(rows)
    return Part(
        "Many sessions, with a browser's heads",
        rows,
        [Figure(f"{name} ÷ nginx", used[name] / used[NGINX], 1.8)],
    )
