"""The session checks of products, at their documented endpoints."""

from __future__ import annotations

from contextlib import ExitStack

from bench.data import url
from bench.heads import documented
from bench.parts.cached import BARE
from bench.report import Figure, Part, Row, cpu
from bench.workbench import CACHED, Arm, Workbench

SIGNING = "bare ASGI app that signs a token"
VIROLA = "Virola's status"
UNCOUNTED = "Virola's status, without `[limits] checks`"
PULSE = "Pulse's session"
CARGO_EXTRA = "CargoExtra's check, a new token each time"


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    status = bench.by_session(documented("/api/v1/status"))
    with ExitStack() as running:
        start = running.enter_context
        sidecar = start(bench.servers.sidecar("products", bench.few))
        uncounted = start(bench.servers.sidecar("uncounted", bench.few, checks=""))
        signing = start(bench.servers.program("bench.programs.signing", url(bench.few)))
        rows = bench.measure(
            [
                Arm(BARE, start(bench.servers.program("bench.programs.bare")), bench.by_session()),
                Arm(SIGNING, signing, bench.by_session()),
                Arm(VIROLA, sidecar, status),
                Arm(UNCOUNTED, uncounted, status),
                Arm(PULSE, sidecar, bench.by_session(documented("/auth/session"))),
                Arm(CARGO_EXTRA, sidecar, bench.by_session(documented("/api/v1/user/check"))),
            ]
        )
    return Part(f"Documented endpoints: {CACHED} sessions in use", rows, _figures(rows))


def _figures(rows: list[Row]) -> list[Figure]:
    used = cpu(rows)
    signing = used[SIGNING] - used[BARE]
    return [
        Figure("Virola ÷ bare", used[VIROLA] / used[BARE], 4),
        Figure("Virola ÷ the same without `[limits] checks`", used[VIROLA] / used[UNCOUNTED], 1.1),
        Figure("Pulse ÷ bare", used[PULSE] / used[BARE], 4),
        Figure("(CargoExtra less signing) ÷ bare", (used[CARGO_EXTRA] - signing) / used[BARE], 4),
    ]
