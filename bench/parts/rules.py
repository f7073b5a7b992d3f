"""Many rules against one, with requests for all of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bench.data import FEW
from bench.report import Figure, Part, cpu
from bench.workbench import Arm, Workbench

RULES = 1_000
SESSIONS = 10
"""In use: each is to have been let pass by every rule before it is measured."""


def rules(count: int) -> str:
    """The settings that have so many rules, each for a path of its own, the last for all that are left."""
    paths = [*(f"/projects/{number}/**" for number in range(1, count)), "/projects/**"]
    return "".join(f'[[rules]]\npaths = ["{path}"]\n' for path in paths)


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    cached = replace(bench.by_session(most=SESSIONS), paths=RULES)
    uncached = replace(bench.by_session(most=FEW), paths=RULES)
    with ExitStack() as running:
        arms = []
        for count in (1, RULES):
            name, settings = f"rules-{count}", rules(count)
            remembering = running.enter_context(bench.servers.sidecar(name, bench.few, settings))
            forgetting = running.enter_context(bench.servers.uncached(f"{name}-un", bench.few, settings))
            arms += [
                Arm(_name(count), remembering, cached, warm_up=6),
                Arm(_name(count, "un"), forgetting, uncached),
            ]
        rows = bench.measure(arms)
    used = cpu(rows)
    return Part(
        f"Many rules: {RULES:,} paths, {SESSIONS} sessions in use where they are cached",
        rows,
        [
            Figure(f"{RULES:,} rules ÷ 1, {un}cached", used[_name(RULES, un)] / used[_name(1, un)], limit)
            for un, limit in (("", 1.05), ("un", 1.5))
        ],
    )


def _name(count: int, un: str = "") -> str:
    return f"/check/nginx, {un}cached, rules: {count:,}"
