"""The server as an operator sees it: its metrics, its health, and how it ends."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.stack import free_port
from tests.e2e.harness import (
    API,
    TIMEOUT,
    Installation,
    Lines,
    Session,
    Sidecar,
    ask,
    connected,
    eventually,
    head,
    read_answer,
)

CHECK: Lines = (("X-Original-Method", "GET"), ("X-Original-URL", "http://localhost/page"), *API)
CLIENTS = 8
WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])


def check(sidecar: Sidecar, *lines: tuple[str, str]) -> int:
    """The status of a check, asked over a connection of its own."""
    return ask(sidecar.listen, head("GET", "/check/nginx", "sidecar", (*CHECK, *lines))).status


def scrape(sidecar: Sidecar) -> bytes:
    return ask(sidecar.admin, head("GET", "/metrics", "admin")).body


@WORKERS
def test_prometheus_accepts_the_metrics(
    promtool: str, installation: Installation, ann: Session, workers: str
) -> None:
    with installation.serving(server__workers=workers) as sidecar:
        assert check(sidecar, ann.line) == 200
        assert check(sidecar) == 401
        eventually(
            lambda: b"sidecar_decisions_total{" in scrape(sidecar)
        )  # what another worker has counted too
        scraped = scrape(sidecar)
    judged = subprocess.run(
        [promtool, "check", "metrics"], input=scraped, capture_output=True, timeout=TIMEOUT, check=False
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, b"", b"")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/openapi.json"])
def test_what_is_the_operators_is_not_on_the_auth_listener(installation: Installation, path: str) -> None:
    with installation.serving() as sidecar:
        assert ask(sidecar.admin, head("GET", path, "admin")).status == 200
        assert ask(sidecar.listen, head("GET", path, "sidecar")).status == 404


def test_health_is_told_by_the_exit_status(installation: Installation) -> None:
    admin = f"127.0.0.1:{free_port()}"
    elsewhere = Installation(
        installation.config, installation.directory, {**installation.settings, "server__admin_listen": admin}
    )
    with pytest.raises(AssertionError):
        elsewhere.cli("health")
    with installation.serving() as sidecar:
        elsewhere.settings["server__admin_listen"] = sidecar.admin
        elsewhere.cli("health")


ANOTHER_UVICORN = """
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# The first transport stays: no other can be put in its place.
RequestResponseCycle.transport = property(
    lambda self: vars(self)["first"], lambda self, transport: vars(self).setdefault("first", transport)
)
"""


@pytest.mark.parametrize("is_another", [False, True], ids=["the one it is tried with", "another one"])
def test_with_another_uvicorn_every_check_is_decided(
    installation: Installation,
    ann: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_another: bool,
) -> None:
    if is_another:
        (tmp_path / "sitecustomize.py").write_text(ANOTHER_UVICORN)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with installation.serving() as sidecar:
        assert [check(sidecar, ann.line) for _ in range(6)] == [200] * 6
        scraped = scrape(sidecar)
    assert (b'{cache="replay",result="hit"}' in scraped) is not is_another
    assert ("lane_does_not_fit" in sidecar.log.read_text()) is is_another


# --- the end -------------------------------------------------------------------------------------


@dataclass
class Client(threading.Thread):
    """Asks on one connection, again and again, until it is told that this answer was the last."""

    sidecar: Sidecar
    request: bytes
    statuses: list[int] = field(default_factory=list)
    lost: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Ends at the last answer, or notes that one did not come."""
        try:
            with connected(self.sidecar.listen) as connection:
                while len(self.statuses) < 100_000:
                    connection.sendall(self.request)
                    answer = read_answer(connection)
                    self.statuses.append(answer.status)
                    if answer.all("Connection") == ["close"]:
                        return
                self.lost = "it went on and on"
        except OSError as error:
            self.lost = repr(error)


@WORKERS
def test_sigterm_under_load_loses_no_request(installation: Installation, ann: Session, workers: str) -> None:
    request = head("GET", "/check/nginx", "sidecar", (*CHECK, ann.line))
    with installation.serving(server__workers=workers) as sidecar:
        clients = [Client(sidecar, request) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        eventually(lambda: all(len(client.statuses) > 20 for client in clients))
        sidecar.process.terminate()
        for client in clients:
            client.join()
        assert sidecar.process.wait(TIMEOUT) == 0
    assert [client.lost for client in clients] == [""] * CLIENTS
    assert {status for client in clients for status in client.statuses} == {200}


@WORKERS
def test_it_is_not_ready_while_it_ends(installation: Installation, workers: str) -> None:
    with (
        installation.serving(server__workers=workers) as sidecar,
        connected(sidecar.admin) as connection,
        connected(sidecar.listen),
        connected(sidecar.listen),
    ):
        connection.sendall(head("GET", "/readyz", "admin"))
        assert read_answer(connection).status == 200
        sidecar.process.terminate()

        def is_draining() -> bool:
            connection.sendall(head("GET", "/readyz", "admin"))
            return read_answer(connection).status == 503

        eventually(is_draining)
        assert sidecar.process.wait(TIMEOUT) == 0
