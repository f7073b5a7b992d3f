"""Running commands: in this process for most, in one of their own for what only a process shows."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner, Result

from sidecar.app import Services, services
from sidecar.cli import main
from sidecar.settings import load
from sidecar.stores import open_store

T = TypeVar("T")

PASSWORD = "correct horse battery staple"
PATIENCE = 30


@dataclass(frozen=True)
class Cli:
    """`sidecar … --config FILE` on a store of its own."""

    config: Path

    def run(self, *args: str, stdin: str | bytes | None = None) -> Result:
        """Whatever becomes of it; an exception that is not an exit is the test's failure."""
        command = [*args, "--config", str(self.config)]
        return CliRunner().invoke(main, command, input=stdin, catch_exceptions=False)

    def ok(self, *args: str, stdin: str | bytes | None = None) -> Result:
        """It succeeds."""
        result = self.run(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    def json(self, *args: str, stdin: str | bytes | None = None) -> Any:
        """The one document that it prints."""
        return json.loads(self.ok(*args, "--json", stdin=stdin).stdout)

    def refused(self, *args: str, stdin: str | bytes | None = None) -> str:
        """It exits with 1 and prints one line, which is returned, and nothing else."""
        result = self.run(*args, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        return line.removeprefix("Error: ")

    def misused(self, *args: str) -> str:
        """It exits with 2; what it says."""
        result = self.run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr

    def look(self, question: Callable[[Services], Awaitable[T]]) -> T:
        """What the services say about the same store."""

        async def answer() -> T:
            async with services(load(self.config)) as parts:
                return await question(parts)

        return asyncio.run(answer())


def make_store(path: Path) -> None:
    """An empty store in this file."""
    asyncio.run(open_store(f"sqlite:///{path}").close())


def run_process(*args: str, cwd: Path, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """`python -m sidecar …` from start to end; `under` is a command that runs it."""
    return subprocess.run(
        [*under, *process_command(*args)],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def process_command(*args: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "sidecar", *args]


def clean_environment() -> dict[str, str]:
    """This process's environment without settings in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}


def free_address() -> str:
    """An address on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
