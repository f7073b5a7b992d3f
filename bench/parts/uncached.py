"""What is not remembered: every credential is looked up or verified at every check."""

from __future__ import annotations

from contextlib import ExitStack

from bench import heads
from bench.data import FEW, MANY
from bench.load import Question
from bench.parts.cached import BARE, COOKIE, questions
from bench.report import Figure, Part, Row, cpu
from bench.workbench import Arm, Workbench

DECODING = "bare ASGI app that decodes a token"
TOKEN = "/check/nginx, RS256 token of another issuer"
OF_MANY = f"{COOKIE}, {MANY:,} sessions stored"
USER_TOO = f"{OF_MANY}, its user uncached too"


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    issuer = bench.credentials.issuer
    of_many = bench.by_session(most=MANY)
    with ExitStack() as running:
        start = running.enter_context
        uncached = start(bench.servers.uncached("uncached", bench.few, issuer.trust()))
        many = start(bench.servers.uncached("many", bench.many))
        forgetful = start(bench.servers.uncached("forgetful", bench.many, module="bench.programs.forgetful"))
        decoding = start(bench.servers.program("bench.programs.decoding", str(issuer.public)))
        by_token = Question((heads.nginx(heads.BEARER),), bench.credentials.issued_tokens, FEW)
        rows = bench.measure(
            [
                Arm(BARE, start(bench.servers.program("bench.programs.bare")), bench.by_session()),
                Arm(DECODING, decoding, by_token),
                *(Arm(name, uncached, question) for name, question in questions(bench, FEW).items()),
                Arm(OF_MANY, many, of_many),
                Arm(USER_TOO, forgetful, of_many),
            ]
        )
    return Part(f"Uncached: {FEW:,} credentials stored", rows, _figures(rows))


def _figures(rows: list[Row]) -> list[Figure]:
    used = cpu(rows)
    return [
        Figure(f"{COOKIE} ÷ bare", used[COOKIE] / used[BARE], 5),
        Figure(f"{TOKEN}, less decoding it", used[TOKEN] - used[DECODING], 40, " µs"),
        Figure(f"{MANY:,} ÷ {FEW:,} sessions stored", used[OF_MANY] / used[COOKIE], 1.3),
    ]
