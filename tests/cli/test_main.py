"""The frame around all commands: help, version, exit statuses, one document with --json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sidecar import __version__
from sidecar.cli import main
from tests.cli.commands import Cli, make_store, run_process


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command with all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


ALL = {" ".join(("sidecar", *path)): (path, command) for path, command in walk(main)}
LEAVES = {name: each for name, each in ALL.items() if not isinstance(each[1], click.Group)}


@pytest.mark.parametrize(("path", "command"), ALL.values(), ids=ALL)
def test_help_is_there(path: tuple[str, ...], command: click.Command) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert command.help
    assert "..." not in result.stdout.partition("Commands:")[2], "a summary is cut off"


@pytest.mark.parametrize(("path", "command"), LEAVES.values(), ids=LEAVES)
def test_every_command_takes_the_settings_file(path: tuple[str, ...], command: click.Command) -> None:
    assert "--config" in [name for parameter in command.params for name in parameter.opts]


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
from sidecar.cli import main
main(["--help"], standalone_mode=False)
heavy = {"pydantic", "cryptography", "starlette", "structlog", "httpx", "sidecar.app"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert result.stderr == "[]\n"


def test_the_version_is_said(tmp_path: Path) -> None:
    assert run_process("--version", cwd=tmp_path).stdout == f"sidecar {__version__}\n"


STATUSES = {
    "done": (["users", "list"], 0),
    "refused": (["users", "add", "17"], 1),
    "not found": (["users", "show", "nobody"], 1),
    "bad settings": (["users", "list", "--config", "missing.toml"], 1),
    "an unknown command": (["nonsense"], 2),
    "an unknown option": (["users", "list", "--nonsense"], 2),
    "a missing argument": (["users", "add"], 2),
    "a bad value": (["sessions", "create", "--user", "ann", "--ttl", "soon"], 2),
}


@pytest.mark.parametrize(("args", "status"), STATUSES.values(), ids=STATUSES)
def test_the_exit_status_says_whether_it_worked(tmp_path: Path, args: list[str], status: int) -> None:
    make_store(tmp_path / "var" / "sidecar.db")
    result = run_process(*args, cwd=tmp_path)

    assert result.returncode == status
    assert "Traceback" not in result.stderr
    assert bool(result.stderr) is (status != 0)
    assert bool(result.stdout) is (status == 0)


DOCUMENTS = (
    ("users", "add", "ann"),
    ("users", "list"),
    ("users", "show", "ann"),
    ("roles", "set", "dev"),
    ("roles", "list"),
    ("sessions", "create", "--user", "ann"),
    ("sessions", "list"),
    ("api-keys", "create", "--user", "ann", "--name", "ci"),
    ("api-keys", "list"),
    ("access-keys", "create", "--name", "backend"),
    ("access-keys", "list"),
    ("apps", "add", "shop"),
    ("apps", "list"),
    ("bans", "list"),
    ("keys", "rotate"),
    ("keys", "list"),
    ("explain", "--gateway", "nginx", "--url", "https://app.example.com/"),
)


def test_with_json_there_is_one_document_and_nothing_else(cli: Cli) -> None:
    takers = {path for path, command in ALL.values() if any("--json" in each.opts for each in command.params)}
    assert takers == {args[: 1 + (args[0] != "explain")] for args in DOCUMENTS}

    for args in DOCUMENTS:
        assert isinstance(cli.json(*args), list if args[1] == "list" else dict), args


def test_with_json_the_document_is_all_that_a_process_prints(tmp_path: Path) -> None:
    created = run_process("users", "add", "Änn", "--json", cwd=tmp_path)

    assert json.loads(created.stdout)["username"] == "Änn"
    assert created.stdout.isascii()


# --- the store -----------------------------------------------------------------------------------

WITHOUT_STORE = ("serve", "config", "health")
MAKE_A_STORE = {"users add", "roles set", "apps add", "access-keys create"}
ON_A_STORE = {
    " ".join(path): (path, command) for path, command in LEAVES.values() if path[0] not in WITHOUT_STORE
}


ARGUMENTS = {"--gateway": "nginx", "--url": "https://app.example.com/"}
"""What stands for itself; anything will do for the others."""


def least(command: click.Command) -> list[str]:
    """The arguments that it cannot do without."""
    needed = [parameter for parameter in command.params if parameter.required]
    named = [
        [each.opts[0], ARGUMENTS.get(each.opts[0], "x")] if isinstance(each, click.Option) else ["x"]
        for each in needed
    ]
    return [part for parts in named for part in parts]


@pytest.mark.parametrize(("path", "command"), ON_A_STORE.values(), ids=ON_A_STORE)
def test_a_store_is_made_by_what_adds_to_it_and_by_nothing_else(
    tmp_path: Path, path: tuple[str, ...], command: click.Command
) -> None:
    result = CliRunner().invoke(main, [*path, *least(command)])

    if " ".join(path) in MAKE_A_STORE:
        assert (result.exit_code, (tmp_path / "var" / "sidecar.db").exists()) == (0, True)
    else:
        assert (result.exit_code, result.stdout, list(tmp_path.iterdir())) == (1, "", [])
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"Error: there is no store at {tmp_path}/var/sidecar.db: start the sidecar")


NOT_OURS = {"a text": b"nothing of yours, and longer than a header " * 9, "an empty folder": None}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS)
def test_a_store_that_is_not_ours_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    store = tmp_path / "var" / "sidecar.db"
    store.parent.mkdir()
    store.mkdir() if content is None else store.write_bytes(content)
    result = run_process("users", "list", cwd=tmp_path)

    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert str(store) in result.stderr
    assert store.is_dir() if content is None else store.read_bytes() == content
