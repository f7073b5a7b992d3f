"""What is remembered: every gateway, and every credential, against nginx, which only answers 204."""

from __future__ import annotations

from contextlib import ExitStack

from bench import heads
from bench.load import Question
from bench.report import Figure, Part, Row, cpu
from bench.workbench import CACHED, Arm, Workbench

NGINX = "nginx `return 204`"
BARE = "bare ASGI app"
COOKIE = "/check/nginx, session cookie"
PLAIN = f"{COOKIE}, `--http plain`"
PLAIN_TOKEN = "/check/nginx, RS256 token of another issuer, `--http plain`"


def measure(bench: Workbench) -> Part:
    """See PARTS."""
    trust = bench.credentials.issuer.trust()
    with ExitStack() as running:
        start = running.enter_context
        sidecar = start(bench.servers.sidecar("cached", bench.few, trust))
        plain = start(bench.servers.sidecar("plain", bench.few, trust, plain=True))
        by_token = Question((heads.nginx(heads.BEARER),), bench.credentials.issued_tokens, CACHED)
        rows = bench.measure(
            [
                Arm(NGINX, start(bench.servers.nginx()), bench.by_session()),
                Arm(BARE, start(bench.servers.program("bench.programs.bare")), bench.by_session()),
                *(Arm(name, sidecar, question) for name, question in questions(bench, CACHED).items()),
                *(
                    Arm(f"/check/{gateway}, session cookie", sidecar, bench.by_session(head(heads.COOKIE)))
                    for gateway, head in heads.GATEWAYS.items()
                    if gateway not in {"nginx", "traefik"}
                ),
                Arm(PLAIN, plain, bench.by_session()),
                Arm(PLAIN_TOKEN, plain, by_token),
            ]
        )
    return Part(f"Cached: {CACHED} credentials in use", rows, list(_figures(rows)))


def questions(bench: Workbench, most: int) -> dict[str, Question]:
    """Every credential, at nginx's endpoint and at Traefik's."""
    files = bench.credentials
    credentials = {
        "session cookie": (heads.COOKIE, files.sessions),
        "session token": (heads.BEARER, files.session_tokens),
        "API key": (heads.API_KEY, files.api_keys),
        "RS256 token of another issuer": (heads.BEARER, files.issued_tokens),
    }
    return {
        f"/check/{gateway}, {name}": Question((heads.GATEWAYS[gateway](line),), file, most)
        for gateway in ("nginx", "traefik")
        for name, (line, file) in credentials.items()
    }


def _figures(rows: list[Row]) -> list[Figure]:
    used = cpu(rows)
    others = set(used) - {NGINX, BARE, COOKIE, PLAIN, PLAIN_TOKEN}
    return [
        Figure(f"{COOKIE} ÷ nginx", used[COOKIE] / used[NGINX], 1.25),
        *(Figure(f"{name} ÷ nginx", used[name] / used[NGINX], 1.4) for name in used if name in others),
        Figure(f"{PLAIN} ÷ bare", used[PLAIN] / used[BARE], 2.5),
        Figure(f"{PLAIN_TOKEN} ÷ {PLAIN}", used[PLAIN_TOKEN] / used[PLAIN], 1.1),
    ]
