"""The load: wrk with a script of ours, asking what nginx's `auth_request` would ask."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.data import SECRET, USERS
from bench.machine import CannotMeasure, on_core, program

CONNECTIONS = 32
PATHS = 200

_SCRIPT = Path(__file__).with_name("check.lua")

# As `%` and Lua's `format` both read them: a path, a query that is new each time, the client, the session.
_ASKED = (
    "GET /check/nginx HTTP/1.1",
    "Host: sidecar.internal:9000",
    "X-Original-URL: https://app.example.com/projects/%d/board?view=week&n=%d",
    "X-Original-Method: GET",
)
_CLIENT = "X-Forwarded-For: 10.20.30.%d"
_COOKIE = f"Cookie: theme=dark; _ga=GA1.2.1234567890.1700000000; __Host-sidecar={SECRET}"
_REST = (
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Mode: navigate",
    "",
    "",
)
CHECK = "\r\n".join((*_ASKED, _CLIENT, _COOKIE, *_REST))
TOKEN_CHECK = "\r\n".join((*_ASKED, _CLIENT, "Authorization: Bearer %s", *_REST))
"""The same with a token, of a file of them, for the session."""


def documented(path: str) -> str:
    """A request to a product's endpoint with the same session; the query means nothing there."""
    line = f"GET {path}?project=%d&n=%d HTTP/1.1"
    return "\r\n".join((line, "Host: sidecar.internal:9000", _CLIENT, _COOKIE, *_REST))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw in one run."""

    requests: int
    per_second: float
    p50_us: float
    p99_us: float


class Load:
    """Runs wrk on one core. No two runs send the same requests."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._wrk = program("wrk")
        self._runs = 0

    def run(
        self,
        port: int,
        head: str,
        *,
        sessions: int,
        seconds: int,
        tokens: Path | None = None,
        refused: bool = False,
    ) -> Seen:
        """Sends this head for so long, for `sessions` sessions in random order. Raises CannotMeasure.

        `tokens`: a file with one for each session, a line each, for a head that wants one. `refused`: whether
        all of them are to be refused, not allowed.
        """
        self._runs += 1
        options = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", "--timeout=10s"]
        script = [f"--script={_SCRIPT}", f"http://127.0.0.1:{port}", "--"]
        arguments = [head, sessions, USERS, PATHS, self._runs, *([tokens] if tokens else [])]
        with on_core(self._core):
            finished = subprocess.run(
                [self._wrk, *options, *script, *map(str, arguments)],
                capture_output=True,
                text=True,
                timeout=seconds + 30,
                check=False,
            )
        if finished.returncode:
            raise CannotMeasure(f"wrk failed: {finished.stdout}{finished.stderr}")
        return _seen(finished.stdout, refused=refused)


def _seen(output: str, *, refused: bool) -> Seen:
    """From the line that our script prints last."""
    result = json.loads(output.splitlines()[-1])
    expected = result["requests"] if refused else 0
    if result["failed"] or not result["requests"] or result["refused"] != expected:
        wanted = "refused" if refused else "allowed"
        raise CannotMeasure(f"not every request was {wanted}, so nothing was measured:\n{output}")
    return Seen(
        requests=result["requests"],
        per_second=result["requests"] / result["seconds"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
    )


def is_allowed(port: int) -> bool:
    """Whether a check with a live session is answered 200; False where nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall((CHECK % (1, 1, 1, 1)).encode("ascii"))
            return connection.recv(4096).startswith(b"HTTP/1.1 2")
    except OSError:
        return False
