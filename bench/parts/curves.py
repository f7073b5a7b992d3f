"""CPU time against what grows: sessions, rules, connections. One round: for the eye, not for a limit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from bench.load import Question
from bench.parts.rules import SESSIONS as SESSIONS_OF_RULES
from bench.parts.rules import rules
from bench.report import Curve, Part, cpu
from bench.servers import Server
from bench.workbench import Arm, Workbench

SESSIONS = (1, 10, 100, 1_000, 10_000, 100_000)
RULES = (1, 10, 100, 1_000)
CONNECTIONS = (1, 10, 100, 1_000)

_IN_A_SECOND = 2_500
"""Different answers, at least, of which hardly one has still to be decided after a second of warming up."""


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    question = bench.by_session()
    for_all_rules = replace(bench.by_session(most=SESSIONS_OF_RULES), paths=max(RULES))
    with ExitStack() as running:
        start = running.enter_context
        nginx = start(bench.servers.nginx())
        sidecar = start(bench.servers.sidecar("curves", bench.many))
        sessions = {n: _Point(sidecar, bench.by_session(most=n), answers=n) for n in SESSIONS}
        by_rules = {
            n: _Point(
                start(bench.servers.sidecar(f"curves-{n}", bench.few, rules(n))),
                for_all_rules,
                answers=n * SESSIONS_OF_RULES,
            )
            for n in RULES
        }
        connections = {
            n: _Point(sidecar, replace(question, connections=n), answers=question.most) for n in CONNECTIONS
        }
        return Part(
            "Curves",
            curves=[
                _curve(bench, "sessions in use", sessions, nginx),
                _curve(bench, "rules", by_rules, nginx),
                _curve(bench, "connections at once", connections, nginx),
            ],
        )


class _Point(NamedTuple):
    """What is asked, and how many different answers there are to that."""

    server: Server
    question: Question
    answers: int


def _curve(bench: Workbench, of: str, points: Mapping[int, _Point], nginx: Server) -> Curve:
    arms = [
        Arm(f"{of}: {n:,}", server, question, warm_up=1 + answers // _IN_A_SECOND)
        for n, (server, question, answers) in points.items()
    ]
    ceilings = [Arm(f"{of}: {n:,}, nginx", nginx, point.question) for n, point in points.items()]
    used = cpu(bench.measure([*arms, *ceilings], rounds=1))
    return Curve(
        of,
        sidecar={n: used[arm.name] for n, arm in zip(points, arms, strict=True)},
        nginx={n: used[arm.name] for n, arm in zip(points, ceilings, strict=True)},
    )
