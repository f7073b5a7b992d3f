"""What docs/ has to paste, pasted into a shell beside a fresh server, gives the answers that it shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.stack import (
    ROOT,
    free_port,
    nginx_settings,
    running,
    sidecar_command,
    sidecar_environment,
    wait_for,
)
from tests.e2e.harness import API, TIMEOUT, Installation, RecordingApp, Session, Sidecar, ask, head, nginx

TEXT = (ROOT / "docs/checks.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:9000"
"""Where the text says that the server listens. Here it is another port, in the commands as in the server."""

A_TIME = 1_000_000_000
"""Larger numbers are seconds since the epoch."""


@dataclass(frozen=True)
class Shown:
    """An HTTP answer: a line and a JSON object. Of the header lines, the text shows those that matter."""

    status: str
    lines: list[str]
    body: Any


def shown(text: str) -> list[Shown]:
    """The answers in the text, whatever else is around them."""
    return [_read(each) for each in text.replace("\r", "").split("HTTP/1.1 ")[1:]]


def _read(answer: str) -> Shown:
    top, _, body = answer.partition("\n\n")
    status, *lines = top.splitlines()
    return Shown(status, lines, json.JSONDecoder().raw_decode(body.lstrip())[0])


@dataclass(frozen=True)
class Example:
    """What is pasted, and what the text shows below it."""

    section: str
    commands: str
    answers: str


def examples(text: str) -> Iterator[Example]:
    """Every block of shell commands."""
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        for (language, commands), (_, answers) in pairwise([*blocks, ("", "")]):
            if language == "sh":
                yield Example(section.partition("\n")[0], commands, answers)


EXAMPLES = list(examples(TEXT))
OF_IDENTITY = list(examples((ROOT / "docs/identity.md").read_text(encoding="utf-8")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sidecar]:
    """What `make run` starts in a fresh checkout: default settings, but for the ports."""
    # The commands call it `.venv/bin/sidecar`.
    (tmp_path / ".venv").symlink_to(sys.prefix)
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = sidecar_command("serve", "--listen", listen, "--admin-listen", admin)
    log = tmp_path / "log"
    with running(["env", f"--chdir={tmp_path}", *command], log, sidecar_environment()) as process:
        sidecar = Sidecar(listen, admin, process, log)
        wait_for(sidecar.is_ready, process, log)
        yield sidecar


def paste(commands: str, directory: Path) -> str:
    """What a shell prints. None of the commands may fail."""
    return subprocess.run(
        ["sh", "-ec", commands],
        cwd=directory,
        env=sidecar_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    ).stdout


def assert_as_shown(example: Example, server: Sidecar, directory: Path) -> None:
    """Pastes the commands, and compares."""
    printed = paste(example.commands.replace(ADDRESS, server.listen), directory)
    assert printed.endswith("\n")  # or the shell's prompt would stick to the answer
    answers, wanted = shown(printed), shown(example.answers)
    assert wanted

    assert [answer.status for answer in answers] == [answer.status for answer in wanted]
    for answer, as_documented in zip(answers, wanted, strict=True):
        assert as_shown(answer.body, as_documented.body) == as_documented.body
        for line in as_documented.lines:
            assert line in [as_shown(each, line) for each in answer.lines]


def as_shown(value: Any, wanted: Any) -> Any:
    """The value, with what fits replaced by what it fits: `…` is any text, a time is any time."""
    match value, wanted:
        case dict(), dict():
            return {name: as_shown(each, wanted.get(name)) for name, each in value.items()}
        case list(), list() if len(value) == len(wanted):
            return [as_shown(*pair) for pair in zip(value, wanted, strict=True)]
        case str(), str():
            pattern = ".+".join(map(re.escape, wanted.split("…")))
            return wanted if re.fullmatch(pattern, value, re.DOTALL) else value
        case int(), int() if min(value, wanted) > A_TIME:
            return wanted
        case _:
            return value


@pytest.mark.parametrize("example", [*EXAMPLES, *OF_IDENTITY], ids=lambda example: example.section)
def test_commands_work_as_pasted(example: Example, server: Sidecar, tmp_path: Path) -> None:
    assert_as_shown(example, server, tmp_path)


def test_they_work_one_after_the_other(server: Sidecar, tmp_path: Path) -> None:
    for example in EXAMPLES:
        assert_as_shown(example, server, tmp_path)


def test_every_product_has_an_example() -> None:
    products = re.findall(r"^\| \[([^]]+)\]\(#", TEXT, re.MULTILINE)
    assert [example.section for example in EXAMPLES] == products
    assert [example.section for example in OF_IDENTITY] == ["Userinfo", "Introspection"]


def test_the_location_for_nginx_leads_there(
    need_nginx: None, tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    (location,) = re.findall(r"^```nginx\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    address = f"127.0.0.1:{free_port()}"
    with installation.serving() as sidecar:
        port = int(address.rpartition(":")[2])
        changes = nginx_settings(tmp_path, port=port, sidecar=sidecar.listen, app=app.address)
        with nginx(tmp_path, {**changes, "location @signin {": f"{location}location @signin {{"}, address):
            host = f"localhost:{port}"
            status = ask(address, head("GET", "/api/v1/status", host, (*API, ann.line)))
            elsewhere = ask(address, head("GET", "/api/v1/else", host, API))

    assert (status.status, json.loads(status.body)["userId"]) == (200, 1)
    assert elsewhere.status == 401
    assert app.taken() == []
