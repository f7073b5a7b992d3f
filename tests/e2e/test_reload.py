"""SIGHUP: good settings follow the old ones without a request lost, bad ones change nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import (
    API,
    PASSWORD,
    TIMEOUT,
    Answer,
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
from tests.issuer import jwk, jwks

CHECK: Lines = (("X-Original-Method", "GET"), ("X-Original-URL", "http://localhost/page"), *API)
CLIENTS = 8
PLANTED = "PLANTED-secret"

OLD = """
[identity_headers]
X-Old-User = "username"
X-Old-Method = "method"
"""
NEW = """
[identity_headers]
X-New-User = "username"

[[rules]]
access = "public"
"""
BAD = """
[session]
lifetime = "PLANTED-secret"
[login]
nothing = "PLANTED-secret"
[[rules]]
access = "authenticated"
roles = ["PLANTED-secret"]
[[rules]]
acces = "PLANTED-secret"
"""
FAULTS = ["login.nothing", "rules[1].acces", "session.lifetime"]


ONE_PROCESS = pytest.mark.parametrize("workers", ["1"], indirect=True)
"""For what each process counts or asks by itself."""

TWO_WORKERS = pytest.mark.parametrize("workers", ["2"], indirect=True)


@dataclass
class Reloading:
    """A server, and the file that it reads."""

    sidecar: Sidecar
    installation: Installation
    session: Session

    @property
    def file(self) -> Path:
        return self.installation.config

    def events(self) -> list[dict[str, Any]]:
        """What was logged since the server began; the last line may not be whole."""
        lines = self.sidecar.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events() if each["event"] == event]

    def hang_up(self) -> None:
        self.sidecar.process.send_signal(signal.SIGHUP)

    def reload(self, text: str, event: str = "reloaded") -> None:
        """Writes the file, and returns when the log says what came of it, and every worker knows."""
        before, asked_at = len(self._outcomes()), time.time()
        self.file.write_text(text)
        self.hang_up()
        eventually(lambda: len(self._outcomes()) > before)
        assert self._outcomes()[-1] == event, self.named("config_fault")
        if event == "reloaded":
            eventually(lambda: self.loaded_at() >= asked_at)
        else:
            eventually(lambda: not self.is_good())

    def _outcomes(self) -> list[str]:
        return [each["event"] for each in self.events() if each["event"] in {"reloaded", "reload_failed"}]

    def check(self, *lines: tuple[str, str]) -> Answer:
        request = head("GET", "/check/nginx", "sidecar", (*CHECK, *lines))
        return ask(self.sidecar.listen, request)

    def metric(self, name: str) -> float | None:
        scraped = ask(self.sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", scraped, re.MULTILINE)
        return float(found[1]) if found else None

    def is_good(self) -> bool:
        """Whether the settings were, that were read last."""
        return self.metric("sidecar_config_last_reload_successful") == 1

    def loaded_at(self) -> float:
        """When good settings were last read: of several workers, by the last of them."""
        moment = self.metric("sidecar_config_last_reload_success_timestamp_seconds")
        assert moment is not None
        return moment

    def is_old(self) -> bool:
        return kind(self.check(self.session.line)) == "old" and self.check().status == 401


@pytest.fixture(params=["1", "2"], ids=["one process", "two workers"])
def workers(request: pytest.FixtureRequest) -> str:
    """How many there are."""
    return str(request.param)


@pytest.fixture
def reloading(installation: Installation, ann: Session, tmp_path: Path, workers: str) -> Iterator[Reloading]:
    file = tmp_path / "settings.toml"
    file.write_text(OLD)
    made = installation.copied(file, tmp_path, {"log__format": "json"})
    with made.serving(server__workers=workers) as sidecar:
        yield Reloading(sidecar, made, ann)
    assert PLANTED not in sidecar.log.read_text()


def kind(answer: Answer) -> str:
    """Under which settings an answer to a live session was made; both, where it is of half of each."""
    names = {name.lower() for name, _ in answer.lines if name.lower().startswith(("x-old-", "x-new-"))}
    match answer.status, sorted(names):
        case 200, ["x-old-method", "x-old-user"]:
            return "old"
        case 200, ["x-new-user"]:
            return "new"
        case _:
            return f"both: {answer.status} {sorted(names)}"


# --- good settings -------------------------------------------------------------------------------


@dataclass
class Client(threading.Thread):
    """Asks on one connection until it is stopped: with a session, and without one."""

    address: str
    session: Session
    answers: list[str] = field(default_factory=list)
    lost: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        known = head("GET", "/check/nginx", "sidecar", (*CHECK, self.session.line))
        nobody = head("GET", "/check/nginx", "sidecar", CHECK)
        try:
            with connected(self.address) as connection:
                while not self.stopped.is_set():
                    connection.sendall(known)
                    self.answers.append(kind(read_answer(connection)))
                    connection.sendall(nobody)
                    self.answers.append(self._without_session(read_answer(connection)))
        except OSError as error:
            self.lost = repr(error)

    @staticmethod
    def _without_session(answer: Answer) -> str:
        """The old rule refuses and sets no header; the new one is public and sets its own, empty."""
        return "old" if answer.status == 401 and not answer.all("X-New-User") else kind(answer)


def test_good_settings_follow_under_load(reloading: Reloading) -> None:
    clients = [Client(reloading.sidecar.listen, reloading.session) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    eventually(lambda: all(len(client.answers) > 50 for client in clients))
    reloading.reload(NEW)
    told = [len(client.answers) for client in clients]
    eventually(lambda: all(len(client.answers) > told[0] + 500 for client in clients))
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join()

    assert [client.lost for client in clients] == [""] * CLIENTS
    for client, number in zip(clients, told, strict=True):
        assert client.answers == sorted(client.answers, key=["old", "new"].index)
        assert client.answers[0] == "old"
        assert set(client.answers[number + 1 :]) == {"new"}


def test_it_is_said_what_has_changed_by_key_alone(reloading: Reloading) -> None:
    reloading.reload(NEW)
    changed = ["identity_headers", "rules[0].name", "rules[0].access"]
    assert reloading.named("reloaded")[-1]["changed"] == changed
    eventually(lambda: bool(reloading.named("administered")))
    (line,) = reloading.named("administered")
    assert (line["by"], line["what"], line["result"]) == ("SIGHUP", "reload", "done")
    assert line["arguments"] == " ".join(changed)


def test_a_request_that_is_under_way_ends_as_it_began(reloading: Reloading) -> None:
    """A sign-in whose body is not whole yet belongs to the settings of its head."""
    body = json.dumps({"userName": "ann", "password": PASSWORD}).encode()
    lines = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    request = head("POST", "/api/v1/login", "sidecar", lines)
    with connected(reloading.sidecar.listen) as connection:
        connection.sendall(request + body[:-1])
        eventually(lambda: reloading.metric("sidecar_requests_in_flight") == 1)
        reloading.reload(OLD + "[checks.virola]\nenabled = false\n")
        assert reloading.metric("sidecar_requests_in_flight") == 1
        connection.sendall(body[-1:])
        assert read_answer(connection, "POST").status == 200
        connection.sendall(request + body)
        assert read_answer(connection, "POST").status == 404


def test_what_cannot_change_is_said_and_the_rest_takes_effect(reloading: Reloading) -> None:
    fixed = (
        '[server]\nheader_limit = "1MiB"\nmax_connections = 9\nhttp = "plain"\ndrain = "3s"\n'
        '[audit]\nfile = "/nowhere/a"\n'
    )
    for _ in range(2):  # said again, as long as it is not so
        reloading.reload(fixed + NEW)
        assert kind(reloading.check(reloading.session.line)) == "new"
    warned = [each["path"] for each in reloading.named("config_not_applied")]
    fixed_server = ["drain", "header_limit", "http", "max_connections"]
    assert warned == ["audit.file", *(f"server.{key}" for key in fixed_server)] * 2
    assert reloading.named("reloaded")[-1]["changed"] == []


def test_the_log_changes_too(reloading: Reloading) -> None:
    reloading.reload(OLD + '[log]\nlevel = "debug"\n')
    reloading.check()
    eventually(lambda: bool(reloading.named("check")))


# --- bad settings --------------------------------------------------------------------------------


def test_bad_settings_change_nothing_and_every_fault_is_said(reloading: Reloading) -> None:
    reloading.reload(BAD, "reload_failed")
    assert sorted(each["path"] for each in reloading.named("config_fault")) == FAULTS
    assert reloading.is_old()
    eventually(lambda: [each["result"] for each in reloading.named("administered")] == ["failed"])

    reloading.reload(NEW)
    assert reloading.is_good()
    assert kind(reloading.check()) == "new"


def test_a_file_that_has_vanished_is_no_file_of_defaults(reloading: Reloading) -> None:
    reloading.file.unlink()
    reloading.hang_up()
    eventually(lambda: bool(reloading.named("reload_failed")))
    (fault,) = reloading.named("config_fault")
    assert "cannot be read: No such file" in fault["message"]
    eventually(lambda: not reloading.is_good())
    assert reloading.is_old()


@TWO_WORKERS
def test_who_begins_later_begins_under_the_settings_in_force(reloading: Reloading) -> None:
    parent = reloading.sidecar.process.pid
    reloading.reload(NEW)
    reloading.reload(BAD, "reload_failed")
    for number, pid in enumerate(children(parent), 1):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(reloading.named("worker_serves_again")) == number)  # noqa: B023 - done at once
    for pid in children(parent):
        with paused(pid):
            assert kind(reloading.check(reloading.session.line)) == "new"
    eventually(lambda: not reloading.is_good())


# --- signals -------------------------------------------------------------------------------------


def test_signals_at_once_end_in_the_newest_settings(reloading: Reloading) -> None:
    for text in (BAD, OLD, NEW):
        reloading.file.write_text(text)
        reloading.hang_up()
        reloading.hang_up()
    eventually(lambda: kind(reloading.check(reloading.session.line)) == "new")
    assert reloading.sidecar.process.poll() is None


def test_a_signal_during_the_drain_disturbs_nothing(reloading: Reloading) -> None:
    with connected(reloading.sidecar.listen) as connection:
        connection.sendall(head("POST", "/api/v1/login", "sidecar", (("Content-Length", "2"),)) + b"{")
        eventually(lambda: reloading.metric("sidecar_requests_in_flight") == 1)
        reloading.sidecar.process.terminate()
        eventually(lambda: bool(reloading.named("draining")))
        reloading.file.write_text(NEW)
        reloading.hang_up()
        connection.sendall(b"}")
        assert read_answer(connection, "POST").status in {400, 401, 422}
        assert reloading.sidecar.process.wait(TIMEOUT) == 0
    assert not reloading.named("reloaded")


# --- what lives on -------------------------------------------------------------------------------


def test_sessions_and_bans_live_on(reloading: Reloading) -> None:
    body = json.dumps({"userName": "ann", "password": "wrong"}).encode()
    lines = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    sign_in = head("POST", "/api/v1/login", "sidecar", lines) + body
    statuses = [ask(reloading.sidecar.listen, sign_in).status for _ in range(6)]
    assert statuses[-1] == 429
    reloading.reload(NEW)
    assert ask(reloading.sidecar.listen, sign_in).status == 429
    assert reloading.check(reloading.session.line).one("X-New-User") == "ann"


@ONE_PROCESS
def test_what_is_counted_in_memory_is_not_forgotten(reloading: Reloading) -> None:
    limited = OLD + '[limits]\nchecks = "3/hour"\n'
    status = head("GET", "/api/v1/status", "sidecar")
    reloading.reload(limited)
    assert [ask(reloading.sidecar.listen, status).status for _ in range(4)] == [401, 401, 401, 429]
    reloading.reload(limited + '[traffic_guard]\ndeny_user_agents = ["nobody"]\n')
    assert ask(reloading.sidecar.listen, status).status == 429


def test_fifty_reloads_leave_nothing_behind(reloading: Reloading) -> None:
    def resident() -> int:
        pid = reloading.sidecar.process.pid
        statuses = [Path(f"/proc/{each}/status").read_text() for each in (pid, *children(pid))]
        return sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses)

    for number in range(20):
        reloading.reload((OLD, NEW)[number % 2])
    settled = resident()
    for number in range(50):
        reloading.reload((OLD, NEW)[number % 2])
    assert resident() - settled < 8 * 1024


# --- other systems -------------------------------------------------------------------------------


class _Recording(BaseHTTPRequestHandler):
    server: _System
    protocol_version = "HTTP/1.1"

    def finish(self) -> None:
        """Whoever was connected has gone."""
        super().finish()
        self.server.left += 1

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        assert self.server.release.wait(TIMEOUT)
        body = jwks(jwk("ES256", "k"))
        self.send_response(200 if self.path == "/jwks" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _System(ThreadingHTTPServer):
    """Publishes keys, refuses every session, and counts who asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recording)
        self.asked: list[str] = []
        self.left = 0
        self.release = threading.Event()
        self.release.set()


@contextmanager
def another_system() -> Iterator[_System]:
    with _System() as system:
        thread = threading.Thread(target=system.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield system
        finally:
            system.release.set()
            system.shutdown()
            thread.join()


def asking(system: _System) -> str:
    return f"""
[authenticators.old]
type = "upstream"
dialect = "generic"
url = "http://127.0.0.1:{system.server_port}/who"
forward_cookies = ["theirs"]
"""


def issuing(system: _System) -> str:
    return f"""
[authenticators.new]
type = "jwt"
issuer = "https://idp.example.com"
audience = "app"
algorithms = ["ES256"]
jwks_url = "http://127.0.0.1:{system.server_port}/jwks"
"""


@ONE_PROCESS
def test_a_system_that_is_removed_is_asked_no_more_and_a_new_one_is(reloading: Reloading) -> None:
    theirs = ("Cookie", "theirs=value")
    with another_system() as old, another_system() as new:
        reloading.reload(OLD + asking(old))
        reloading.check(theirs)
        assert old.asked
        assert reloading.metric('sidecar_upstream_open{upstream="old"}') == 0
        reloading.reload(OLD + issuing(new))
        eventually(lambda: new.asked == ["/jwks"])
        eventually(lambda: reloading.metric('sidecar_upstream_open{upstream="old"}') is None)
        assert reloading.metric('sidecar_cache_entries{cache="old"}') is None
        eventually(lambda: old.left == 1)  # the connection that was kept for the next question
        assert reloading.metric('sidecar_upstream_open{upstream="new"}') == 0
        asked = len(old.asked)
        reloading.check(theirs)
        assert len(old.asked) == asked


def test_who_waits_for_a_system_that_is_removed_gets_its_answer(reloading: Reloading) -> None:
    with another_system() as old, connected(reloading.sidecar.listen) as connection:
        reloading.reload(OLD + asking(old))
        old.release.clear()
        connection.sendall(head("GET", "/check/nginx", "sidecar", (*CHECK, ("Cookie", "theirs=value"))))
        eventually(lambda: old.asked == ["/who"])
        reloading.reload(OLD)
        old.release.set()
        assert read_answer(connection).status == 401  # and not 503: nobody was stopped
        eventually(lambda: reloading.metric('sidecar_upstream_open{upstream="old"}') is None)
