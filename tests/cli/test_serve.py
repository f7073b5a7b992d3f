"""`sidecar serve` and `sidecar health`, as processes."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import which

import pytest

from sidecar.app import Services
from tests.cli.commands import PATIENCE, Cli, clean_environment, free_address, process_command, run_process

WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])

FIRST_START = 1 + 3 * 2
"""Lines: the password, and three commands with what each shows."""


class Serving:
    """A server in a process of its own."""

    def __init__(self, directory: Path, listen: str, admin: str, options: Sequence[str]) -> None:
        self.directory = directory
        self.listen = listen
        self.admin = admin
        self.process = subprocess.Popen(
            process_command("serve", "--listen", listen, "--admin-listen", admin, *options),
            cwd=directory,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""

    def lines(self, number: int) -> list[str]:
        """So many lines of standard output."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(number)]

    def wait_for_log(self, event: str) -> None:
        """Until the log says it."""
        assert self.process.stderr is not None
        while event not in self.log:
            line = self.process.stderr.readline()
            assert line, f"it ended without {event}: {self.log}"
            self.log += line

    def stop(self) -> int:
        """SIGTERM, and the exit status; what is left of its output is read."""
        self.process.send_signal(signal.SIGTERM)
        self.rest, log = self.process.communicate(timeout=PATIENCE)
        self.log += log
        return self.process.returncode

    def health(self) -> subprocess.CompletedProcess[str]:
        """`sidecar health` against it."""
        config = self.directory / "health.toml"
        config.write_text(f'[server]\nadmin_listen = "{self.admin}"\n')
        return run_process("health", "--config", str(config), cwd=self.directory)


@contextmanager
def serving(directory: Path, *options: str, unix: bool = False) -> Iterator[Serving]:
    """A server on free addresses, ended whatever happens."""
    listen, admin = (f"unix:{directory}/{name}" if unix else free_address() for name in ("auth", "admin"))
    server = Serving(directory, listen, admin, options)
    watchdog = threading.Timer(PATIENCE, server.process.kill)
    watchdog.start()
    try:
        yield server
    finally:
        watchdog.cancel()
        server.process.kill()
        server.process.communicate()


def pasted(command: str, cwd: str = "/") -> tuple[int, str]:
    """What a shell in another folder says to it: the status, and the whole answer."""
    answer = subprocess.run(
        command, shell=True, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout
    return int(answer.split()[1]), answer


def settings_file(directory: Path, text: str = "") -> Path:
    file = directory / "settings.toml"
    file.write_text(text)
    return file


# --- first contact -------------------------------------------------------------------------------


@WORKERS
@pytest.mark.parametrize("unix", [False, True], ids=["an address", "a unix socket"])
def test_the_first_start_shows_how_to_begin_on(tmp_path: Path, workers: str, *, unix: bool) -> None:
    with serving(tmp_path, "--workers", workers, unix=unix) as server:
        first, *examples = server.lines(FIRST_START)
        commands = examples[1::2]
        answers = [pasted(command) for command in commands]

        assert first.startswith("The first user is admin, with the password ")
        assert all(command.startswith("curl -si ") for command in commands)
        assert [status for status, _ in answers] == [200, 401, 200]
        assert "x-auth-user: admin" in answers[0][1]
        status = json.loads(answers[2][1].split("\n\n")[1])
        assert (status["httpStatusCode"], status["userId"]) == (200, 1)
        assert server.health().stdout == "healthy\n"
        assert (server.stop(), server.rest) == (0, "")

    assert [each for each in tmp_path.iterdir() if each.is_socket()] == []
    assert server.health().returncode == 1
    assert first.split()[-1] not in server.log


def test_the_password_that_is_shown_is_the_one_that_is_stored(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        password = server.lines(FIRST_START)[0].split()[-1]
        server.stop()

    default = Cli(settings_file(tmp_path))
    (user,) = default.json("users", "list")

    async def is_right(services: Services) -> bool:
        return await services.passwords.verify(await services.store.users.password_hash(user["id"]), password)

    assert (user["username"], default.look(is_right)) == ("admin", True)


def test_a_later_start_shows_new_commands_and_no_password(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = server.lines(FIRST_START)[2]
        server.stop()
    with serving(tmp_path) as server:
        lines = server.lines(FIRST_START - 1)
        after = lines[1]

        assert (pasted(after)[0], after == before) == (200, False)
        assert "password" not in "".join(lines)


USERS = {
    "admin is disabled": (["add", "admin"], ["add", "eve"], ["disable", "admin"]),
    "there is no admin": (["add", "eve"], ["add", "zoe"]),
}


@pytest.mark.parametrize("commands", USERS.values(), ids=USERS)
def test_the_first_enabled_user_is_shown_where(tmp_path: Path, commands: Sequence[list[str]]) -> None:
    for args in commands:
        assert run_process("users", *args, cwd=tmp_path).returncode == 0

    with serving(tmp_path) as server:
        _, command = server.lines(2)
        assert "x-auth-user: eve" in pasted(command)[1]


def test_where_everybody_is_disabled_nothing_is_shown(tmp_path: Path) -> None:
    for args in (["add", "admin"], ["disable", "admin"]):
        run_process("users", *args, cwd=tmp_path)

    with serving(tmp_path) as server:
        server.wait_for_log("no enabled user")
        assert (server.stop(), server.rest) == (0, "")


def test_with_a_settings_file_nobody_is_made_and_nothing_printed(tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    with serving(tmp_path, "--config", str(file)) as server:
        server.wait_for_log("started")
        assert (server.stop(), server.rest) == (0, "")

    assert json.loads(run_process("users", "list", "--json", cwd=tmp_path).stdout) == []


@WORKERS
def test_warnings_are_logged_once(tmp_path: Path, workers: str) -> None:
    file = settings_file(tmp_path, '[server]\ntrusted_proxies = []\n[log]\nformat = "json"\n')
    with serving(tmp_path, "--config", str(file), "--workers", workers) as server:
        server.wait_for_log("started")
        server.stop()

    events = [json.loads(line) for line in server.log.splitlines()]
    (warning,) = [event for event in events if event["event"] == "config_warning"]
    assert (warning["level"], warning["path"]) == ("warning", "server.trusted_proxies")
    assert "every check is refused" in warning["message"]


# --- what cannot start ---------------------------------------------------------------------------


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that it says."""
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("option", ["--listen", "--admin-listen"])
def test_a_port_that_is_taken_is_said(tmp_path: Path, option: str) -> None:
    other = {"--listen": "--admin-listen", "--admin-listen": "--listen"}[option]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run_process("serve", option, address, other, free_address(), cwd=tmp_path)

    assert refused(result) == f"Error: cannot listen on {address}: another process listens there"


@pytest.mark.parametrize("option", ["listen", "admin-listen"])
def test_a_bad_address_is_said_with_its_key(tmp_path: Path, option: str) -> None:
    line = refused(run_process("serve", f"--{option}", "nowhere", cwd=tmp_path))

    assert line.startswith(f"Error: server.{option.replace('-', '_')}: an address is written like")


def test_an_option_wins_over_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = settings_file(tmp_path, '[server]\nlisten = "nowhere"\n')
    with serving(tmp_path, "--config", str(file)) as server:
        server.wait_for_log("started")
        assert server.stop() == 0


def test_garbage_is_collected_again_after_a_start_that_failed(cli: Cli) -> None:
    cli.config.write_text("[nothing]\n")
    assert cli.run("serve").exit_code == 1
    assert gc.isenabled()


@WORKERS
def test_a_store_that_is_not_ours_is_said(tmp_path: Path, workers: str) -> None:
    (tmp_path / "var").mkdir()
    store = tmp_path / "var" / "sidecar.db"
    store.write_text("a diary\n" * 20)
    addresses = ("--listen", free_address(), "--admin-listen", free_address())
    result = run_process("serve", *addresses, "--workers", workers, cwd=tmp_path)

    assert "is not an SQLite database" in refused(result)
    assert store.read_text() == "a diary\n" * 20


@WORKERS
def test_a_store_that_takes_no_session_is_said(tmp_path: Path, workers: str) -> None:
    run_process("users", "add", "ann", cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "var" / "sidecar.db")) as store:
        store.execute("CREATE TRIGGER no BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with serving(tmp_path, "--workers", workers) as server:
        server.process.wait(PATIENCE)
        server.wait_for_log("Error: a value that the store cannot hold")

        assert (server.process.returncode, "Traceback" in server.log) == (1, False)


@pytest.mark.skipif(os.getuid() == 0 and not which("setpriv"), reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    # Root's own rights stay, so that the interpreter can be read wherever it is.
    as_others = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    tmp_path.chmod(0o555)
    addresses = ("--listen", free_address(), "--admin-listen", free_address())
    result = run_process("serve", *addresses, cwd=tmp_path, under=as_others)
    tmp_path.chmod(0o755)

    assert "cannot be opened: this user may not" in refused(result)
    assert list(tmp_path.iterdir()) == []


# --- health --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "http://[", "http://nowhere.invalid/"])
def test_what_does_not_answer_is_not_healthy(tmp_path: Path, url: str) -> None:
    assert refused(run_process("health", "--url", url, cwd=tmp_path)).startswith("Error: not healthy: ")


def test_another_status_is_not_healthy(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.lines(FIRST_START)
        url = f"http://{server.admin}"

        assert run_process("health", "--url", f"{url}/readyz", cwd=tmp_path).returncode == 0
        assert "status 404" in refused(run_process("health", "--url", f"{url}/nothing", cwd=tmp_path))
