"""Measures the whole of it in one run: about two minutes, on this machine alone, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from bench.data import FEW, MANY, build_stores, url
from bench.load import CHECK, TOKEN_CHECK, Load, Seen, documented
from bench.machine import CannotMeasure, two_cores
from bench.report import RESULTS, Figure, Row, Run, printed, write
from bench.servers import Server, Servers
from bench.tokens import ASKED_EVERY, CACHED_FOR, introspecting, make_issuer, make_opaque
from bench.tokens import settings as trusting

ROUNDS = 3
WARM_UP = 1
SECONDS = 4
COLD_STARTS = 5
BUSY = 0.7
"""The load average above which others take part of the two cores."""
CACHED = 500
"""Sessions in use at once where all of them are remembered."""

NGINX = "nginx `return 204`"
BARE = "bare ASGI app"
SIGNING = "bare ASGI app that signs a token"
CACHED_CHECK = f"check, cached ({CACHED} sessions)"
VIROLA = "Virola's status, cached"
UNCOUNTED = "Virola's status, cached, without `[limits] checks`"
PULSE = "Pulse's session, cached"
CARGO_EXTRA = "CargoExtra's check, a new token each time"
DECODING = "bare ASGI app that decodes a token"
TOKEN_CACHED = "check, another issuer's RS256 token, cached"
TOKEN_UNCACHED = f"check, another issuer's RS256 token, uncached, {FEW:,} tokens"
UNCACHED_FEW = f"check, uncached, {FEW:,} sessions stored"
UNCACHED_MANY = f"check, uncached, {MANY:,} sessions stored"
UNCACHED_USER = f"check, its user uncached too, {MANY:,} sessions stored"


@dataclass(frozen=True, slots=True)
class Arm:
    """A server, and for how many sessions it is asked."""

    name: str
    server: Server
    sessions: int
    head: str = CHECK
    tokens: Path | None = None
    refused: bool = False


def main() -> None:
    """Prints the tables and writes results.json; exit status 1 where it could not measure."""
    # A default SIGTERM would leave the servers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        rows, figures = measure()
    except CannotMeasure as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(printed(rows, figures))
    write(rows, figures)
    print(f"\nWritten to {RESULTS}")


def measure() -> tuple[list[Row], list[Figure]]:
    """The rows, and the figures that have limits. Raises CannotMeasure."""
    server_core, load_core = two_cores()
    if os.getloadavg()[0] > BUSY:
        say("This machine is busy with something else, which makes all figures worse")
    load = Load(load_core)
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name:
        folder = Path(name)
        servers = Servers(folder, server_core)
        say(f"Building the stores: {FEW:,} and {MANY:,} sessions")
        few, many = build_stores(folder)
        starts, memory = cold_starts(servers, few)
        rows = loaded(servers, few, many, load)
        others = asking_another(servers, few, load)
    return rows, [
        *ratios(rows),
        *others,
        Figure("cold start to the first 200", starts, 0.9, " s"),
        Figure("resident memory, idle", memory, 70, " MiB"),
    ]


def cold_starts(servers: Servers, store: Path) -> tuple[float, float]:
    """Seconds from the start to the first 200, and MiB resident then."""
    say(f"Starting {COLD_STARTS} times")
    seconds, memory = [], []
    for _ in range(COLD_STARTS):
        with servers.sidecar("cold", store) as server:
            seconds.append(server.started_in)
            memory.append(server.resident_mib())
    return median(seconds), median(memory)


def loaded(servers: Servers, few: Path, many: Path, load: Load) -> list[Row]:
    """All servers run from the beginning to the end; they are asked in turns."""
    public, tokens = make_issuer(few.parent, FEW)
    trust = trusting(public)
    with ExitStack() as running:
        start = running.enter_context
        cached = start(servers.sidecar("cached", few))
        arms = [
            Arm(NGINX, start(servers.nginx()), CACHED),
            Arm(BARE, start(servers.bare()), CACHED),
            Arm(SIGNING, start(servers.bare("bench.signing", url(few))), CACHED),
            Arm(CACHED_CHECK, cached, CACHED),
            Arm(VIROLA, cached, CACHED, documented("/api/v1/status")),
            Arm(
                UNCOUNTED,
                start(servers.sidecar("uncounted", few, checks="")),
                CACHED,
                documented("/api/v1/status"),
            ),
            Arm(PULSE, cached, CACHED, documented("/auth/session")),
            Arm(CARGO_EXTRA, cached, CACHED, documented("/api/v1/user/check")),
            Arm(DECODING, start(servers.bare("bench.decoding", str(public))), FEW, TOKEN_CHECK, tokens),
            Arm(
                TOKEN_CACHED,
                start(servers.sidecar("tokens", few, more_settings=trust)),
                CACHED,
                TOKEN_CHECK,
                tokens,
            ),
            Arm(
                TOKEN_UNCACHED,
                start(servers.sidecar("each-token", few, "bench.uncached", trust)),
                FEW,
                TOKEN_CHECK,
                tokens,
            ),
            Arm(UNCACHED_FEW, start(servers.sidecar("few", few, "bench.uncached")), FEW),
            Arm(UNCACHED_MANY, start(servers.sidecar("many", many, "bench.uncached")), MANY),
            Arm(UNCACHED_USER, start(servers.sidecar("user", many, "bench.forgetful")), MANY),
        ]
        runs: dict[str, list[Run]] = {arm.name: [] for arm in arms}
        for turn in range(1, ROUNDS + 1):
            for arm in arms:
                say(f"Round {turn} of {ROUNDS}: {arm.name}")
                runs[arm.name].append(run(arm, load))
    return [Row.of(name, each) for name, each in runs.items()]


def asking_another(servers: Servers, store: Path, load: Load) -> list[Figure]:
    """How often another system is asked about tokens in use; and what a check costs while it stands still."""
    say("Asking another system, and going on without it")
    tokens, unknown = (make_opaque(store.parent, name, FEW) for name in ("known", "unknown"))
    with servers.bare("bench.upstream") as upstream, servers.sidecar("refusing", store) as refusing:
        refused = run(Arm("refusing", refusing, FEW, TOKEN_CHECK, unknown, refused=True), load)
        settings = introspecting(upstream.port)
        with servers.sidecar("asking", store, more_settings=settings) as server:
            arm = Arm("asking", server, FEW, TOKEN_CHECK, tokens)
            remembered = run(arm, load)
            before = count(upstream)
            whole_rounds = 3 * ASKED_EVERY  # any other time has more of one part of a round than of the rest
            seen = load.run(server.port, TOKEN_CHECK, sessions=FEW, seconds=whole_rounds, tokens=tokens)
            asked = (count(upstream) - before) / (seen.requests / seen.per_second)
            os.kill(upstream.pid, signal.SIGSTOP)
            try:
                load.run(server.port, TOKEN_CHECK, sessions=FEW, seconds=2 * CACHED_FOR, tokens=tokens)
                gone_on = run(arm, load)
                not_asked = run(Arm("not asking", server, FEW, TOKEN_CHECK, unknown, refused=True), load)
            finally:
                os.kill(upstream.pid, signal.SIGCONT)
    return [
        Figure(f"questions to another system, {FEW:,} tokens in use", asked, 125, "/s"),
        Figure(
            "a token seen recently while it stands still ÷ cached", gone_on.cpu_us / remembered.cpu_us, 1.1
        ),
        Figure("an unknown one then ÷ one that is refused", not_asked.cpu_us / refused.cpu_us, 1.25),
    ]


def count(upstream: Server) -> int:
    """How often it was asked so far."""
    return int(httpx.get(f"http://127.0.0.1:{upstream.port}/", trust_env=False).text)


def run(arm: Arm, load: Load) -> Run:
    """One server under load, when it has warmed up."""

    def arm_load(seconds: int) -> Seen:
        return load.run(
            arm.server.port,
            arm.head,
            sessions=arm.sessions,
            seconds=seconds,
            tokens=arm.tokens,
            refused=arm.refused,
        )

    arm_load(WARM_UP)
    before = arm.server.cpu_seconds()
    seen = arm_load(SECONDS)
    cpu = arm.server.cpu_seconds() - before
    return Run(
        cpu_us=cpu / seen.requests * 1e6,
        per_second=seen.per_second,
        p50_us=seen.p50_us,
        p99_us=seen.p99_us,
        resident_mib=arm.server.resident_mib(),
    )


def ratios(rows: list[Row]) -> list[Figure]:
    """What costs how many times as much as what."""
    cpu = {row.name: row.median.cpu_us for row in rows}
    signing = cpu[SIGNING] - cpu[BARE]
    return [
        Figure("cached ÷ bare", cpu[CACHED_CHECK] / cpu[BARE], 2.5),
        Figure("Virola ÷ bare", cpu[VIROLA] / cpu[BARE], 4),
        Figure("Virola ÷ the same without `[limits] checks`", cpu[VIROLA] / cpu[UNCOUNTED], 1.1),
        Figure("Pulse ÷ bare", cpu[PULSE] / cpu[BARE], 4),
        Figure("(CargoExtra less signing) ÷ bare", (cpu[CARGO_EXTRA] - signing) / cpu[BARE], 4),
        Figure("another issuer's token, cached ÷ session cookie", cpu[TOKEN_CACHED] / cpu[CACHED_CHECK], 1.1),
        Figure("the same uncached less decoding it", cpu[TOKEN_UNCACHED] - cpu[DECODING], 40, " µs"),
        Figure(f"uncached ({FEW:,}) ÷ bare", cpu[UNCACHED_FEW] / cpu[BARE], 5),
        Figure(f"uncached, {MANY:,} ÷ {FEW:,} sessions", cpu[UNCACHED_MANY] / cpu[UNCACHED_FEW], 1.3),
    ]


def say(text: str) -> None:
    """How far it is, on standard error."""
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
