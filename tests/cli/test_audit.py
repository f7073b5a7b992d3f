"""What commands leave in the audit."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.running import administrator
from tests.cli.commands import PASSWORD, Cli, run_process

BY = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def recorded(cli: Cli) -> list[dict[str, Any]]:
    """The lines without their time."""
    file = cli.config.parent / "audit"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def line(what: str, arguments: str, result: str = "done") -> dict[str, Any]:
    return {"event": "administered", "result": result, "by": BY, "what": what, "arguments": arguments}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["users", "set", "ann", "--role", "a b", "--role", "c"], ("users set", "ann '--role=a b' --role=c")),
        (["users", "set", "ann", "--account", "1:One:admin"], ("users set", "ann --account=1:One:admin")),
        (["users", "disable", "ann"], ("users disable", "ann")),
        (["users", "enable", "ann"], ("users enable", "ann")),
        (["users", "remove", "ann", "--yes"], ("users remove", "ann --yes")),
        (["roles", "set", "dev", "--permission", "p"], ("roles set", "dev --permission=p")),
        (
            ["sessions", "create", "--user", "ann", "--ttl", "1h"],
            ("sessions create", "--user=ann --ttl=3600.0"),
        ),
        (["sessions", "revoke", "--all"], ("sessions revoke", "--all")),
        (["api-keys", "create", "--user", "ann", "--name", "n"], ("api-keys create", "--user=ann --name=n")),
        (["access-keys", "create", "--name", "n"], ("access-keys create", "--name=n")),
        (["users", "set", "ann", "--phone", ""], ("users set", "ann --phone=")),
        (["apps", "add", "shop"], ("apps add", "shop")),
        (["keys", "rotate", "--json"], ("keys rotate", "")),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else each[0],
)
def test_a_change_is_recorded(cli: Cli, ann: int, command: list[str], expected: tuple[str, str]) -> None:
    before = len(recorded(cli))
    cli.ok(*command)
    what, arguments = expected
    left = line(what, arguments)
    if not arguments:
        del left["arguments"]
    assert recorded(cli)[before:] == [left]


@pytest.mark.parametrize(
    "command",
    [
        ["users", "set", "bob", "--name", "B"],
        ["sessions", "revoke", "x"],
        ["api-keys", "revoke", "x"],
        ["access-keys", "revoke", "x"],
        ["apps", "disable", "x"],
        ["bans", "lift", "192.0.2.1"],
        ["backup", "/nowhere/at/all"],
    ],
    ids=" ".join,
)
def test_a_change_that_failed_is_recorded_as_such(cli: Cli, command: list[str]) -> None:
    cli.refused(*command)
    words = 1 if command[0] == "backup" else 2
    (left,) = recorded(cli)
    assert left["result"] == "failed"
    assert left["what"] == " ".join(command[:words])


@pytest.mark.parametrize(
    "command",
    [
        ["users", "list"],
        ["users", "show", "ann"],
        ["roles", "list"],
        ["sessions", "list"],
        ["api-keys", "list"],
        ["access-keys", "list"],
        ["apps", "list"],
        ["bans", "list"],
        ["keys", "list"],
        ["explain", "--gateway", "nginx", "--url", "https://x/", "--cookie", "__Host-sidecar=x"],
    ],
    ids=" ".join,
)
def test_looking_is_no_change(cli: Cli, ann: int, command: list[str]) -> None:
    before = recorded(cli)
    cli.ok(*command)
    assert recorded(cli) == before


def test_what_was_typed_wrongly_is_no_change(cli: Cli, ann: int) -> None:
    before = recorded(cli)
    cli.misused("users", "set", "ann")
    cli.misused("sessions", "revoke")
    assert recorded(cli) == before


def test_no_password_is_recorded(cli: Cli, ann: int) -> None:
    cli.ok("users", "passwd", "ann", "--keep-sessions", "--password-stdin", stdin=PASSWORD)
    cli.ok("users", "add", "bob", "--password-stdin", stdin=PASSWORD)
    assert recorded(cli)[-2:] == [
        line("users passwd", "ann --keep-sessions --password-stdin"),
        line("users add", "bob --password-stdin"),
    ]
    assert PASSWORD not in json.dumps(recorded(cli))


def test_where_the_audit_cannot_be_written_nothing_is_done(cli: Cli, ann: int) -> None:
    file = cli.config.parent / "audit"
    file.unlink()
    file.mkdir()
    assert cli.refused("users", "disable", "ann") == f"the audit cannot be written to {file}: Is a directory"
    assert cli.json("users", "show", "ann")["disabled"] is False


def test_without_a_file_it_is_said_on_standard_error(tmp_path: Path) -> None:
    done = run_process("users", "add", "ann", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["username"] == "ann"
    assert "administered" in done.stderr
    assert "users add" in done.stderr


def test_an_unnamed_user_of_the_machine_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert administrator() == "cli:4000000000"
