"""Several workers as one server: what they show together, and that they live and die in order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.stack import accepts
from tests.e2e.harness import (
    API,
    TIMEOUT,
    Installation,
    Lines,
    Session,
    Sidecar,
    ask,
    children,
    connected,
    eventually,
    head,
    paused,
    read_answer,
)

CLIENT = ("X-Forwarded-For", "192.0.2.1")
"""On a unix socket nothing else says who asks."""

CHECK: Lines = (
    CLIENT,
    ("X-Original-Method", "GET"),
    ("X-Original-URL", "http://localhost/page"),
    *API,
)
UNFINISHED = head("POST", "/api/v1/login", "sidecar", (CLIENT, ("Content-Length", "2"))) + b"{"
SHOWN = {
    "decisions_total": 5,
    "decision_duration_seconds_count": 5,
    "requests_in_flight": 0,
    'cache_entries{cache="user"}': 2,  # each remembers her
    "config_last_reload_successful": 1,
    "build_info": 1,
}


class Workers:
    """A server with two workers. What the one does is seen while the other one is stopped."""

    def __init__(self, sidecar: Sidecar, session: Session) -> None:
        self.sidecar = sidecar
        self.session = session
        self.parent = sidecar.process.pid
        self._log_begins = sidecar.log.stat().st_size

    @property
    def pids(self) -> list[int]:
        return sorted(children(self.parent))

    @contextmanager
    def alone(self, pid: int) -> Iterator[None]:
        """Only this worker answers."""
        (other,) = set(self.pids) - {pid}
        with paused(other):
            yield

    @property
    def request(self) -> bytes:
        """A check of the session."""
        return head("GET", "/check/nginx", "sidecar", (*CHECK, self.session.line))

    def check(self) -> int:
        """Over a connection of its own."""
        return ask(self.sidecar.listen, self.request).status

    @contextmanager
    def kept_open(self, pid: int) -> Iterator[socket.socket]:
        """A connection to this worker, on which a check has been allowed."""
        with ExitStack() as stack:
            with self.alone(pid):
                connection = stack.enter_context(connected(self.sidecar.listen))
                connection.sendall(self.request)
                assert read_answer(connection).status == 200
            yield connection

    def check_at(self, pid: int) -> int:
        with self.alone(pid):
            return self.check()

    def metric(self, name: str) -> float:
        """The sum of all samples of a metric."""
        scraped = ask(self.sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
        return sum(map(float, re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", scraped, re.MULTILINE)))

    def metric_at(self, pid: int, name: str) -> float:
        """As this worker shows it."""
        with self.alone(pid):
            return self.metric(name)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged since it serves."""
        lines = self.sidecar.log.read_bytes()[self._log_begins :].splitlines(keepends=True)
        return [
            event
            for event in (json.loads(line) for line in lines if line.endswith(b"\n"))
            if event["event"] == name
        ]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] != "Z"


@pytest.fixture(params=["tcp", "unix"])
def workers(
    request: pytest.FixtureRequest, tmp_path: Path, installation: Installation, ann: Session
) -> Iterator[Workers]:
    listen = f"unix:{tmp_path}/sidecar.sock" if request.param == "unix" else ""
    with installation.serving(listen, server__workers="2") as sidecar:
        made = Workers(sidecar, ann)
        pids = made.pids
        yield made
    eventually(lambda: not any(map(is_alive, pids)))


# --- as one --------------------------------------------------------------------------------------


def test_whichever_is_asked_shows_the_sums(workers: Workers) -> None:
    one, other = workers.pids
    assert [workers.check_at(pid) for pid in (one, one, one, other, other)] == [200] * 5

    for pid in (one, other):
        eventually(lambda: workers.metric_at(pid, "sidecar_decisions_total") == 5)  # noqa: B023 - done at once
        shown = {name: workers.metric_at(pid, f"sidecar_{name}") for name in SHOWN}
        assert shown == SHOWN


def test_what_is_revoked_is_refused_by_all(workers: Workers, installation: Installation) -> None:
    session = workers.session = installation.session("bob")
    one, other = workers.pids
    assert [workers.check_at(pid) for pid in (one, other)] == [200, 200]
    installation.cli("sessions", "revoke", session.id)
    for pid in (one, other):
        eventually(lambda: workers.check_at(pid) == 401, 1)  # noqa: B023 - done at once


class Client:
    """Asks on one connection as fast as it can, until it is stopped."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.answers: list[tuple[int, float]] = []
        self.stopped = threading.Event()
        self._connection = connection
        self._request = request

    def ask(self) -> None:
        while not self.stopped.is_set():
            self._connection.sendall(self._request)
            self.answers.append((read_answer(self._connection).status, time.monotonic()))

    def refusals(self) -> int:
        return [status for status, _ in self.answers].count(401)


def test_what_is_revoked_under_load_is_refused_by_all(workers: Workers, installation: Installation) -> None:
    session = workers.session = installation.session("bob")
    with ExitStack() as stack:
        clients = [
            Client(stack.enter_context(workers.kept_open(pid)), workers.request)
            for pid in workers.pids
            for _ in range(2)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        for client in clients:
            stack.callback(client.stopped.set)
        asking = [pool.submit(client.ask) for client in clients]
        eventually(lambda: all(len(client.answers) > 50 for client in clients))
        installation.cli("sessions", "revoke", session.id)
        revoked_at = time.monotonic()
        eventually(lambda: all(client.refusals() > 200 for client in clients), TIMEOUT)
    for each in asking:
        each.result()

    for client in clients:
        statuses = [status for status, _ in client.answers]
        assert statuses == sorted(statuses)  # once refused, never allowed again
        assert set(statuses) == {200, 401}
        # Within a second, if the machine is not busy.
        assert max(moment for status, moment in client.answers if status == 200) < revoked_at + 10


# --- lives and deaths ----------------------------------------------------------------------------


def test_a_worker_that_is_killed_comes_back_and_no_sum_falls(workers: Workers) -> None:
    one, other = workers.pids
    assert [workers.check_at(pid) for pid in (one, one, other)] == [200] * 3
    eventually(lambda: workers.metric_at(other, "sidecar_decisions_total") == 3)

    with workers.alone(one):
        connection = connected(workers.sidecar.listen)
        connection.sendall(UNFINISHED)
        eventually(lambda: workers.metric("sidecar_requests_in_flight") == 1)
    os.kill(one, signal.SIGKILL)
    with connection:
        assert connection.recv(1) == b""
    sums = [3.0]
    while not workers.events("worker_serves_again"):
        assert workers.check() == 200
        sums.append(workers.metric("sidecar_decisions_total"))
    (ended,) = workers.events("worker_ended")
    (back,) = workers.events("worker_serves_again")

    assert sums == sorted(sums)
    assert (ended["status"], ended["worker"]) == (-signal.SIGKILL, back["worker"])
    assert workers.pids == sorted([other, back["pid"]])
    assert workers.check_at(back["pid"]) == 200
    asked = len(sums) - 1 + 4
    eventually(lambda: workers.metric_at(back["pid"], "sidecar_decisions_total") == asked)
    assert workers.metric_at(back["pid"], "sidecar_requests_in_flight") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_them_ends_them_in_order(workers: Workers, number: signal.Signals) -> None:
    """As systemd sends it, and a terminal."""
    with connected(workers.sidecar.listen) as connection:
        connection.sendall(UNFINISHED)
        eventually(lambda: workers.metric("sidecar_requests_in_flight") == 1)
        os.killpg(workers.parent, number)
        eventually(lambda: not accepts(workers.sidecar.listen))
        connection.sendall(b"}")
        assert read_answer(connection, "POST").status == 400
    assert workers.sidecar.process.wait(TIMEOUT) == 0
    assert workers.events("worker_ended") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_does_a_worker_no_harm(workers: Workers, number: signal.Signals) -> None:
    for pid in workers.pids:
        os.kill(pid, number)
    assert [workers.check_at(pid) for pid in workers.pids] == [200, 200]
    workers.sidecar.process.terminate()
    assert workers.sidecar.process.wait(TIMEOUT) == 0
    assert workers.events("worker_ended") == workers.events("reloaded") == []


def test_while_a_worker_drains_the_other_one_follows(workers: Workers) -> None:
    draining, other = workers.pids
    with workers.alone(draining), connected(workers.sidecar.listen) as connection:
        connection.sendall(UNFINISHED)
        eventually(lambda: workers.metric("sidecar_requests_in_flight") == 1)
        os.kill(draining, signal.SIGTERM)
        eventually(lambda: len(workers.events("draining")) == 1)
        os.kill(other, signal.SIGCONT)
        os.kill(workers.parent, signal.SIGHUP)
        eventually(lambda: len(workers.events("reloaded")) == 1)
        connection.sendall(b"}")
        assert read_answer(connection, "POST").status == 400
    eventually(lambda: len(workers.events("worker_serves_again")) == 1)
    (drained,) = workers.events("worker_drained")
    (back,) = workers.events("worker_serves_again")
    assert (drained["level"], drained["worker"]) == ("info", back["worker"])
    assert workers.events("worker_ended") == workers.events("reload_failed") == []


def test_orphans_finish_what_they_have_accepted_and_end(workers: Workers) -> None:
    first, second = workers.pids
    with workers.alone(first), connected(workers.sidecar.listen) as connection:
        connection.sendall(UNFINISHED)
        eventually(lambda: workers.metric("sidecar_requests_in_flight") == 1)
        workers.sidecar.process.kill()
        eventually(lambda: len(workers.events("parent_gone")) == 1)
        connection.sendall(b"}")
        assert read_answer(connection, "POST").status == 400
        eventually(lambda: not is_alive(first))
    eventually(lambda: not is_alive(second))


def test_one_that_hangs_is_killed_in_the_end(installation: Installation, ann: Session) -> None:
    with installation.serving(server__workers="2", server__drain="1s") as sidecar:
        workers = Workers(sidecar, ann)
        hanging, other = workers.pids
        with paused(hanging):
            sidecar.process.terminate()
            assert sidecar.process.wait(TIMEOUT) == 1
    assert [event["pid"] for event in workers.events("worker_killed")] == [hanging]
    assert not is_alive(other)
