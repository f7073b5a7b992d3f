"""`sidecar config`, and where settings come from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.settings import Settings, load
from sidecar.settings.reference import reference
from tests.cli.commands import Cli

BAD = '[server]\nlisten = "nowhere"\ncolour = "red"\n[session]\nlifetime = "5x"\n'
WARNED = '[server]\ntrusted_proxies = []\n[login]\nallowed_redirects = ["other.example"]\n'


@pytest.fixture
def bad(tmp_path: Path) -> Cli:
    (tmp_path / "bad.toml").write_text(BAD)
    return Cli(tmp_path / "bad.toml")


def test_every_fault_is_said_at_once(bad: Cli) -> None:
    result = bad.run("config", "check")
    paths = [line.removeprefix("Error: ").split(":")[0] for line in result.stderr.splitlines()]

    assert (result.exit_code, result.stdout) == (1, "")
    assert sorted(paths) == ["server.colour", "server.listen", "session.lifetime"]


@pytest.mark.parametrize("command", ["config show", "users list", "health", "serve"])
def test_every_command_says_the_faults(bad: Cli, command: str) -> None:
    result = bad.run(*command.split())

    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 3)


@pytest.mark.parametrize("command", [["config", "check"], ["serve"]], ids=" ".join)
def test_files_that_are_of_no_use_are_told_before_anything_is_begun(
    cli: Cli, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "rubbish").write_text("PLANTED")
    issuer = 'type = "jwt"\nissuer = "https://a.com"\naudience = "b"\nalgorithms = "RS256"\n'
    tables = [
        f'[authenticators.{key.replace("_", "-")}]\n{issuer}{key} = "{tmp_path / "rubbish"}"\n'
        for key in ("jwks_file", "public_key_file", "ca_file")
    ]
    cli.config.write_text("".join(tables))
    result = cli.run(*command)

    paths = [line.removeprefix("Error: ").split(":")[0] for line in result.stderr.splitlines()]
    assert (result.exit_code, result.stdout) == (1, "")
    assert sorted(paths) == [
        "authenticators.ca-file.ca_file",
        "authenticators.jwks-file.jwks_file",
        "authenticators.public-key-file.public_key_file",
    ]
    assert "PLANTED" not in result.stderr


def test_warnings_change_nothing(cli: Cli) -> None:
    cli.config.write_text(WARNED)
    result = cli.ok("config", "check")

    assert result.stdout == f"{cli.config} is good\n"
    assert "Warning: server.trusted_proxies: " in result.stderr
    assert "Warning: login.allowed_redirects[0]: " in result.stderr


def test_good_settings_are_good(cli: Cli) -> None:
    result = cli.ok("config", "check")

    assert (result.stdout, result.stderr) == (f"{cli.config} is good\n", "")


def test_without_a_file_the_default_is_good() -> None:
    assert CliRunner().invoke(main, ["config", "check"]).stdout == "the built-in default is good\n"


def test_the_file_may_be_named_in_the_environment(cli: Cli) -> None:
    result = CliRunner().invoke(main, ["config", "check"], env={"SIDECAR_CONFIG": str(cli.config)})

    assert result.stdout == f"{cli.config} is good\n"


def test_sidecar_toml_is_found_where_the_command_runs(tmp_path: Path) -> None:
    (tmp_path / "sidecar.toml").touch()

    assert CliRunner().invoke(main, ["config", "check"]).stdout == "sidecar.toml is good\n"


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert "cannot be read" in Cli(tmp_path / "missing.toml").refused("config", "check")


def test_the_settings_in_force_are_toml_that_means_the_same(cli: Cli, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(cli.ok("config", "show").stdout)

    assert load(shown).store == load(cli.config).store
    assert tomllib.loads(shown.read_text())["session"]["cookie_name"] == "__Host-sidecar"


def test_the_schema_knows_every_section(cli: Cli) -> None:
    schema = json.loads(cli.ok("config", "schema").stdout)

    assert set(schema["properties"]) == set(Settings.model_fields)


@pytest.mark.parametrize("args", [["new.toml"], ["--config", "new.toml"]], ids=" ".join)
def test_a_starter_file_is_written_where(tmp_path: Path, args: list[str]) -> None:
    result = CliRunner().invoke(main, ["config", "init", *args])

    assert (result.exit_code, result.stdout) == (0, "")
    assert load(tmp_path / "new.toml") == load(None)


def test_by_default_the_starter_file_is_sidecar_toml(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["config", "init"])

    assert (tmp_path / "sidecar.toml").read_text() == reference()


def test_the_starter_file_can_be_printed(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["config", "init", "-"]).stdout == reference()
    assert list(tmp_path.iterdir()) == []


def test_a_starter_file_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "sidecar.toml").write_text("# mine")
    result = CliRunner().invoke(main, ["config", "init"])

    assert (result.exit_code, "exists already" in result.stderr) == (1, True)
    assert (tmp_path / "sidecar.toml").read_text() == "# mine"


@pytest.mark.parametrize(
    ("args", "status"),
    [(["nowhere/new.toml"], 1), (["a.toml", "--config", "b.toml"], 2)],
    ids=["no folder", "twice"],
)
def test_a_starter_file_is_refused(tmp_path: Path, args: list[str], status: int) -> None:
    assert CliRunner().invoke(main, ["config", "init", *args]).exit_code == status
    assert list(tmp_path.iterdir()) == []
