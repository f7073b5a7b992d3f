"""The files of examples/nginx, run where there is room: on other ports, in a directory of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class StartError(Exception):
    """Something did not start; the message says why."""


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """The text with each key replaced by its value. A key that is not in it is an error."""
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"{old!r} is not in the file that is adapted")
        text = text.replace(old, new)
    return text


def nginx_settings(directory: Path, *, port: int, sidecar: str, app: str) -> dict[str, str]:
    """What has to change in examples/nginx/nginx.conf to run it in this directory, on these addresses."""
    temporary = "".join(f"    {name}_temp_path {directory}/{name};\n" for name in _TEMPORARY)
    return {
        "listen 8080 default_server;": f"listen 127.0.0.1:{port} default_server;",
        "listen 8080; ": f"listen 127.0.0.1:{port}; ",
        "server 127.0.0.1:9000;": f"server {sidecar};",
        "server 127.0.0.1:8000;": f"server {app};",
        "/var/log/nginx/access.log": f"{directory}/access.log",
        "\nhttp {\n": f"\nhttp {{\n{temporary}",
    }


_PORTS = range(10_000, 32_000)
"""Below those that systems give to outgoing connections: one could take it before it is listened on."""


def free_port() -> int:
    """A port of this machine that nobody listens on now. Raises StartError where there is none."""
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise StartError("no port is free")


def sidecar_environment(**settings: str) -> dict[str, str]:
    """This process's environment, with these settings (`server__listen`) and no others of the sidecar's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    return inherited | {f"SIDECAR_{name.upper()}": value for name, value in settings.items()}


def sidecar_command(*arguments: str) -> list[str]:
    """The command line that runs `sidecar` with this Python."""
    return [sys.executable, "-m", "sidecar", *arguments]


def nginx_command(directory: Path, conf: Path) -> list[str]:
    """The command line that runs nginx in the foreground, with everything that it writes in `directory`."""
    assert NGINX is not None  # noqa: S101 - callers look first
    # As root it would give its work to a user who cannot read the directory.
    user = "user root; " if os.geteuid() == 0 else ""
    main = f"daemon off; {user}pid {directory}/nginx.pid;"
    return [NGINX, "-e", "stderr", "-p", str(directory), "-c", str(conf), "-g", main]


@contextmanager
def running(
    command: list[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to `log`, and is gone afterwards, with all that it started."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands of this module
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C in the terminal is for whoever started this to pass on
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end; makes it end where it does not."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def wait_for(
    what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 20
) -> None:
    """Returns when `what` is true. Raises StartError where the process ended, or the time is over."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not what():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"It did not start:\n{log.read_text().strip()}")
        pause.wait(0.02)


def accepts(address: str) -> bool:
    """Whether somebody listens at `host:port` or `unix:/path`."""
    path = address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    family = socket.AF_INET if path == address else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((host, int(port)) if path == address else path) == 0
