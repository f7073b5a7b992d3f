"""More connections than the process may have: it says so, does not spin, and recovers."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.harness import Installation, Sidecar, ask, connected, eventually, head

TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS = 60
LOGIN = "/_sidecar/login"
ASKED = [("GET", "/check/nginx", 403), ("GET", LOGIN, 200), ("GET", "/api/v1/status", 401)]


def cpu_seconds(sidecar: Sidecar) -> float:
    """What the process has used."""
    fields = Path(f"/proc/{sidecar.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def highest_descriptor(sidecar: Sidecar) -> int:
    return max(int(each.name) for each in Path(f"/proc/{sidecar.process.pid}/fd").iterdir())


@contextmanager
def clients(sidecar: Sidecar) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with ExitStack() as opened:
        yield [opened.enter_context(connected(sidecar.listen)) for _ in range(CLIENTS)]


def last_words(connections: list[socket.socket]) -> list[bytes]:
    """What those were told that the server has closed; they are left open here."""
    told = []
    for connection in connections:
        connection.settimeout(0)
        with suppress(BlockingIOError):
            told.append(connection.recv(4096, socket.MSG_PEEK))
    return told


def answers(sidecar: Sidecar) -> list[int]:
    return [ask(sidecar.listen, head(method, path, "sidecar")).status for method, path, _ in ASKED]


def is_itself_again(sidecar: Sidecar) -> bool:
    try:
        return answers(sidecar) == [status for _, _, status in ASKED]
    except OSError:
        return False


@pytest.mark.parametrize("most", [1, 20])
def test_one_connection_too_many_is_told_so_and_the_others_go_on(
    installation: Installation, most: int
) -> None:
    with installation.serving(server__max_connections=str(most)) as sidecar:
        with connected(sidecar.listen) as first, clients(sidecar) as connections:
            eventually(lambda: len(last_words(connections)) == CLIENTS - (most - 1))
            assert {words[:12] for words in last_words(connections)} == {b"HTTP/1.1 503"}
            first.sendall(head("GET", LOGIN, "sidecar"))
            assert first.recv(12) == b"HTTP/1.1 200"
            used = cpu_seconds(sidecar)
            assert ask(sidecar.admin, head("GET", "/healthz", "admin")).status == 200
            assert answers(sidecar) == [503] * len(ASKED)
            assert cpu_seconds(sidecar) - used < 0.5
        eventually(lambda: is_itself_again(sidecar))
        assert sidecar.log.read_text().count(f'"most": {most}, "event": "connections_full"') == 1


def test_without_descriptors_nobody_waits_nothing_spins_and_it_recovers(installation: Installation) -> None:
    with installation.serving() as sidecar:
        assert is_itself_again(sidecar)
        _, hard = resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE)
        limit = highest_descriptor(sidecar) + 10
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        used = cpu_seconds(sidecar)
        with clients(sidecar) as connections:
            eventually(lambda: len(last_words(connections)) >= CLIENTS - limit)
            assert set(last_words(connections)) == {b""}
            assert cpu_seconds(sidecar) - used < 0.5
        eventually(lambda: is_itself_again(sidecar))
        assert sidecar.process.poll() is None
