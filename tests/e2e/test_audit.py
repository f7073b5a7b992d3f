"""The audit of real processes: it stops no check, and nothing of it is lost at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from demo.stack import free_port, sidecar_command
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
BAD: Lines = (*CHECK, ("Cookie", "__Host-sidecar=unknown"))
MANY = 12_000
"""More lines than a pipe and the queue hold."""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A store of its own with Ann in it."""
    config = tmp_path / "sidecar.toml"
    config.write_text("", encoding="utf-8")
    made = Installation(config, tmp_path)
    made.add_user("ann")
    return made


def dropped(sidecar: Sidecar) -> int:
    """As the metric has it."""
    text = ask(sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
    return int(float(re.findall(r"^sidecar_audit_dropped_total (.+)$", text, re.MULTILINE)[0]))


def refused_often(sidecar: Sidecar, times: int) -> None:
    """On one connection, one after the other."""
    with connected(sidecar.listen) as connection:
        for _ in range(times):
            connection.sendall(head("GET", "/check/nginx", "sidecar", BAD))
            assert read_answer(connection).status == 401


def assert_allowed(sidecar: Sidecar, session: Session) -> None:
    asked = head("GET", "/check/nginx", "sidecar", (*CHECK, session.line))
    assert ask(sidecar.listen, asked).status == 200


def lines_of(written: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines()]


def test_everything_is_written_before_the_process_ends(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "audit"
    with installation.serving(audit__file=str(file)) as sidecar:
        refused_often(sidecar, 500)
        sidecar.process.terminate()
        assert sidecar.process.wait(TIMEOUT) == 0
    lines = lines_of(file.read_bytes())
    assert [line["result"] for line in lines] == ["unknown_session"] * 500
    assert len({line["request_id"] for line in lines}) == 500


def test_a_pipe_that_nobody_empties_stops_no_check(installation: Installation, tmp_path: Path) -> None:
    ann, pipe = installation.session("ann"), tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with installation.serving(audit__file=str(pipe)) as sidecar:
        refused_often(sidecar, MANY)
        assert_allowed(sidecar, ann)
        lost = dropped(sidecar)
        assert lost > 0
        written = bytearray()

        def is_empty() -> bool:
            with suppress(BlockingIOError):
                written.extend(os.read(reader, 1 << 20))
            return written.count(b"\n") >= MANY - lost

        eventually(is_empty)
        refused_often(sidecar, 1)
        eventually(lambda: is_empty() and written.count(b"\n") == MANY - lost + 1)
        assert dropped(sidecar) == lost
    os.close(reader)
    assert sum(line.get("lost", 0) for line in lines_of(bytes(written))) == lost


def test_a_pipe_that_hangs_does_not_keep_the_process_from_ending(
    installation: Installation, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with installation.serving(audit__file=str(pipe)) as sidecar:
        refused_often(sidecar, MANY)
        sidecar.process.terminate()
        assert sidecar.process.wait(TIMEOUT) == 0
        assert "audit_not_finished" in sidecar.log.read_text()
    os.close(reader)


def test_a_standard_error_that_nobody_reads_stops_no_check(installation: Installation) -> None:
    ann = installation.session("ann")
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    env = installation.environment(server__listen=listen, server__admin_listen=admin)
    command = sidecar_command("serve", "--config", str(installation.config))
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
        try:
            sidecar = Sidecar(listen, admin, process, Path())
            eventually(sidecar.is_ready, TIMEOUT)
            refused_often(sidecar, MANY)
            assert_allowed(sidecar, ann)
            assert dropped(sidecar) > 0
        finally:
            process.kill()


def test_a_file_that_cannot_be_opened_is_said_at_the_start(
    installation: Installation, tmp_path: Path
) -> None:
    env = installation.environment(audit__file=str(tmp_path), server__listen=f"unix:{tmp_path}/a")
    command = sidecar_command("serve", "--config", str(installation.config))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: the audit cannot be written to {tmp_path}: Is a directory\n"


def test_what_the_first_start_makes_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    without = Installation(tmp_path / "none", tmp_path)
    admin = f"127.0.0.1:{free_port()}"
    env = without.environment(
        audit__file=str(file), server__listen=f"unix:{tmp_path}/a", server__admin_listen=admin
    )
    with subprocess.Popen(
        sidecar_command("serve"), env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: file.exists() and file.read_bytes().count(b"\n") == 2, TIMEOUT)
        finally:
            process.terminate()
            printed = process.communicate(timeout=TIMEOUT)[0].decode()
    made = [(line["what"], line["arguments"], line["user_id"]) for line in lines_of(file.read_bytes())]
    assert made == [("users add", "admin", 1), ("sessions create", "--user=admin", 1)]
    password = printed.partition("with the password ")[2].partition("\n")[0]
    assert password
    assert password not in file.read_text()
