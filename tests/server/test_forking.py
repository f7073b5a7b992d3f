"""How a worker begins, and what it says where it ends of a fault."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.server.forking import Signals, fork
from sidecar.server.workers import Worker
from sidecar.settings import parse

BEGINNING = """
import os, select, signal
from sidecar.server.channel import Serving
from sidecar.server.forking import Signals, fork
from sidecar.server.scoreboard import Scoreboard
from sidecar.server.supervisor import Supervisor
from sidecar.settings import parse
from sidecar.telemetry import configure_logging

configure_logging("info", "json")
"""

BREAKS = """
def work(channel):
    raise LookupError("a value")

with Signals() as signals:
    pid, channel = fork(work, signals, [])
    print(channel.receive().message)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

CANNOT_BE_REPLACED = """
really_fork, forks = os.fork, []
ours, theirs = os.pipe()

def fork_but_not_the_third_time():
    forks.append(True)
    if len(forks) == 3:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return really_fork()

def work(place, settings, channel):
    channel.send(Serving())
    if place.slot == 1:
        os.write(theirs, b".")
    elif place.is_first:
        select.select([ours, channel], [], [])
        os._exit(3)
    else:
        os.kill(os.getppid(), signal.SIGTERM)
    select.select([channel], [], [])  # until it is ended, or its parent is gone

os.fork = fork_but_not_the_third_time
settings = parse({"server": {"workers": 2}})
Supervisor(settings, lambda: settings, work, Scoreboard(2), []).run()
"""


class Refusing:
    """A system that allows no more processes."""

    def __call__(self) -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", Refusing())


def run(program: str) -> tuple[list[str], list[dict[str, Any]]]:
    """What it prints and logs, in a process of its own: to fork, one has to be without threads."""
    command = [sys.executable, "-c", BEGINNING + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), [json.loads(line) for line in done.stderr.splitlines()]


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_fault_of_our_own_is_logged_and_the_parent_learns_its_name() -> None:
    printed, (event,) = run(BREAKS)
    assert printed == ["LookupError", "1"]
    assert (event["event"], event["level"]) == ("worker_broke", "error")
    assert "LookupError: a value" in event["exception"]


def test_where_there_can_be_no_process_nothing_stays_open(refusing: None) -> None:
    before = descriptors()
    # As long as the exception is there, so is what the function had.
    with pytest.raises(BlockingIOError) as raised:
        fork(lambda _: None, Signals(), [])
    assert (descriptors(), raised.value.errno) == (before, errno.EAGAIN)


def test_a_worker_without_a_process_is_due_again_later_each_time(refusing: None) -> None:
    worker = Worker(0, SystemClock())
    with capture_logs() as logged:
        for _ in range(3):
            worker.start(lambda _: None, parse({}), Signals(), [])
    assert [(each["event"], each["again_in"]) for each in logged] == [
        ("worker_not_started", pause) for pause in (0.5, 1, 2)
    ]
    assert (worker.pid, worker.channel) == (0, None)


def test_one_that_cannot_be_replaced_is_tried_again() -> None:
    _, logged = run(CANNOT_BE_REPLACED)
    assert [each["event"] for each in logged] == [
        "started",
        "worker_ended",
        "worker_not_started",
        "worker_serves_again",
    ]
