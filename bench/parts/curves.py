"""CPU time against what grows: sessions, rules, connections. One round: for the eye, not for a limit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from bench.load import Question
from bench.parts.rules import rules
from bench.report import Curve, Part, cpu
from bench.servers import Server
from bench.workbench import Arm, Workbench

SESSIONS = (1, 10, 100, 1_000, 10_000, 100_000)
RULES = (1, 10, 100, 1_000)
CONNECTIONS = (1, 10, 100, 1_000)

_IN_A_SECOND = 20_000
"""Sessions, at least, that have asked after a second of warming up."""


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    question = bench.by_session()
    for_all_rules = replace(question, paths=max(RULES))
    with ExitStack() as running:
        start = running.enter_context
        nginx = start(bench.servers.nginx())
        sidecar = start(bench.servers.sidecar("curves", bench.many))
        sessions = {n: (sidecar, bench.by_session(most=n)) for n in SESSIONS}
        by_rules = {
            n: (start(bench.servers.sidecar(f"curves-{n}", bench.few, rules(n))), for_all_rules)
            for n in RULES
        }
        connections = {n: (sidecar, replace(question, connections=n)) for n in CONNECTIONS}
        return Part(
            "Curves",
            curves=[
                _curve(bench, "sessions in use", sessions, nginx),
                _curve(bench, "rules", by_rules, nginx),
                _curve(bench, "connections at once", connections, nginx),
            ],
        )


def _curve(bench: Workbench, of: str, points: Mapping[int, tuple[Server, Question]], nginx: Server) -> Curve:
    arms = [
        Arm(f"{of}: {n:,}", server, question, warm_up=1 + question.most // _IN_A_SECOND)
        for n, (server, question) in points.items()
    ]
    ceilings = [Arm(f"{of}: {n:,}, nginx", nginx, question) for n, (_, question) in points.items()]
    used = cpu(bench.measure([*arms, *ceilings], rounds=1))
    return Curve(
        of,
        sidecar={n: used[arm.name] for n, arm in zip(points, arms, strict=True)},
        nginx={n: used[arm.name] for n, arm in zip(points, ceilings, strict=True)},
    )
