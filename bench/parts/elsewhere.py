"""Another system that vouches for tokens: how often it is asked, and what checks cost without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench import heads
from bench.data import FEW
from bench.issuer import ASKED_EVERY, CACHED_FOR, introspecting
from bench.load import Question
from bench.report import Figure, Part
from bench.servers import Server
from bench.workbench import Arm, Workbench, say

_COUNTING = 3 * ASKED_EVERY
"""Seconds: any other time than whole rounds has more of one part of a round than of the rest."""


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    say("Asking another system, and going on without it")
    as_bearer = (heads.nginx(heads.BEARER),)
    known = Question(as_bearer, bench.credentials.opaque("known"), FEW)
    unknown = Question(as_bearer, bench.credentials.opaque("unknown"), FEW, refused=True)
    with (
        bench.servers.program("bench.programs.upstream") as upstream,
        bench.servers.sidecar("refusing", bench.few, plain=True) as refusing,
        bench.servers.sidecar("asking", bench.few, introspecting(upstream.port), plain=True) as asking,
    ):
        in_use = Arm("asking", asking, known)
        bench.load.run(asking.port, known, 1)
        refused, remembered = bench.run(Arm("refusing", refusing, unknown)), bench.run(in_use)
        before = _count(upstream)
        seen = bench.load.run(asking.port, known, _COUNTING)
        asked = (_count(upstream) - before) / (seen.requests / seen.per_second)
        with _standing_still(upstream):
            bench.load.run(asking.port, known, 2 * CACHED_FOR)
            gone_on, not_asked = bench.run(in_use), bench.run(Arm("not asking", asking, unknown))
    return Part(
        "Another system that is asked",
        figures=[
            Figure(f"questions to it, {FEW:,} tokens in use", asked, 125, "/s"),
            Figure(
                "a token seen recently while it stands still ÷ cached",
                gone_on.cpu_us / remembered.cpu_us,
                1.1,
            ),
            Figure("an unknown one then ÷ one that is refused", not_asked.cpu_us / refused.cpu_us, 1.25),
        ],
    )


def _count(upstream: Server) -> int:
    """How often it was asked so far."""
    return int(httpx.get(f"http://127.0.0.1:{upstream.port}/", trust_env=False).text)


@contextmanager
def _standing_still(server: Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)
