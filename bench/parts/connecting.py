"""A new connection for each check: gateways that keep few, such as Traefik, open many."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bench import heads
from bench.parts.cached import BARE, COOKIE, NGINX, questions
from bench.report import Figure, Part, cpu
from bench.workbench import CACHED, Arm, Workbench


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    once = bench.by_session(heads.closing(heads.nginx()))
    trust = bench.credentials.issuer.trust()
    with ExitStack() as running:
        start = running.enter_context
        sidecar = start(bench.servers.sidecar("connecting", bench.few, trust))
        rows = bench.measure(
            [
                Arm(NGINX, start(bench.servers.nginx()), once),
                Arm(BARE, start(bench.servers.program("bench.programs.bare")), once),
                *(
                    Arm(name, sidecar, replace(question, heads=tuple(map(heads.closing, question.heads))))
                    for name, question in questions(bench, CACHED).items()
                ),
            ]
        )
    used = cpu(rows)
    return Part(
        f"A new connection for each check: {CACHED} credentials in use",
        rows,
        [Figure("a check ÷ nginx, a new connection for each", used[COOKIE] / used[NGINX], 1.6)],
    )
