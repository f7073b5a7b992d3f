"""The servers that are measured, each a process of its own on one core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.data import SECRET, url
from bench.heads import nginx
from bench.machine import CannotMeasure, on_cores
from demo.stack import (
    EXAMPLES,
    adapted,
    free_port,
    nginx_command,
    nginx_settings,
    running,
    sidecar_environment,
)

_STARTS_WITHIN = 30.0
_PLAIN = ("--http", "plain")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# One process without a master: what it uses is what nginx uses.
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ {lines} return 204; }}
    }}
}}
"""

# Requests are counted, and never too many. The sessions' use was noted when the store was built, and is not
# noted again while the bench runs: that is one write a minute and session, however many checks there are.
# The audit of a million refusals would fill a disk.
_SIDECAR = """
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
[store]
url = "{store}"
[session]
cookie_name = "__Host-sidecar"
touch_interval = "50m"
[limits]
checks = "{checks}"
[audit]
file = "/dev/null"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A process that has answered a request. `started_in` is how many seconds that took."""

    port: int
    pid: int
    started_in: float

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        # The name in parentheses may have spaces in it: fields are counted after it.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


class Servers:
    """Starts servers on these cores, with their files in one folder. `nginx`: where that program is."""

    def __init__(self, folder: Path, cores: Iterable[int], nginx: str) -> None:
        self._folder = folder
        self._cores = tuple(cores)
        self._nginx = nginx

    @contextmanager
    def nginx(self, name: str = "ceiling", lines: Iterable[tuple[str, str]] = ()) -> Iterator[Server]:
        """nginx with one worker that answers 204 to everything, with these header lines: the ceiling."""
        port = free_port()
        config = self._folder / f"{name}.conf"
        added = " ".join(f'add_header {header} "{value}";' for header, value in lines)
        config.write_text(_NGINX.format(folder=self._folder, port=port, lines=added), encoding="utf-8")
        command = [self._nginx, "-e", "stderr", "-p", str(self._folder), "-c", str(config)]
        with self._running(name, command, port) as server:
            yield server

    @contextmanager
    def asking_nginx(self, name: str, auth: Server, head: str) -> Iterator[Server]:
        """nginx with examples/nginx/nginx.conf, which asks `auth` and answers itself what that allows.

        `head`: what is asked to see that it has started.
        """
        port, folder = free_port(), self._folder / name
        folder.mkdir()
        changes = nginx_settings(
            folder, port=port, sidecar=f"127.0.0.1:{auth.port}", app=f"127.0.0.1:{auth.port}"
        )
        text = adapted((EXAMPLES / "nginx/nginx.conf").read_text(encoding="utf-8"), changes)
        ours = {
            f"access_log {folder}/access.log checked;": "access_log off;",
            "proxy_pass http://app;": "empty_gif;",
        }
        config = folder / "nginx.conf"
        config.write_text(adapted(text, ours), encoding="utf-8")
        with self._running(name, nginx_command(folder, config), port, head) as server:
            yield server

    @contextmanager
    def program(self, module: str, *arguments: str) -> Iterator[Server]:
        """One of ours (see programs/)."""
        port = free_port()
        with self._running(module, [sys.executable, "-m", module, str(port), *arguments], port) as server:
            yield server

    @contextmanager
    def sidecar(
        self,
        name: str,
        store: Path,
        more_settings: str = "",
        *,
        checks: str = "1000000000/hour",
        plain: bool = False,
        module: str = "sidecar",
    ) -> Iterator[Server]:
        """The product. `checks`: the limit on requests. `plain`: every answer is decided anew.

        `module`: what stands for `python -m sidecar`.
        """
        port = free_port()
        config = self._folder / f"{name}.toml"
        settings = _SIDECAR.format(port=port, admin_port=free_port(), store=url(store), checks=checks)
        config.write_text(settings + more_settings, encoding="utf-8")
        options = _PLAIN if plain else ()
        command = [sys.executable, "-m", module, "serve", "--config", str(config), *options]
        with self._running(name, command, port) as server:
            yield server

    def uncached(
        self, name: str, store: Path, more_settings: str = "", *, module: str = "bench.programs.uncached"
    ) -> AbstractContextManager[Server]:
        """The product, remembering next to nothing."""
        return self.sidecar(name, store, more_settings, plain=True, module=module)

    @contextmanager
    def _running(self, name: str, command: list[str], port: int, head: str | None = None) -> Iterator[Server]:
        log = self._folder / f"{name}.log"
        started_at = time.perf_counter()
        with ExitStack() as stack:
            with on_cores(self._cores):
                process = stack.enter_context(running(command, log, sidecar_environment()))
            _wait_for(process, port, head or nginx(), log)
            yield Server(port, process.pid, time.perf_counter() - started_at)


def _wait_for(process: subprocess.Popen[bytes], port: int, head: str, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while not _is_allowed(port, head):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace")
            raise CannotMeasure(f"{log.stem} did not start to answer; it said:\n{said}")
        time.sleep(0.002)


def _is_allowed(port: int, head: str) -> bool:
    """Whether this is answered 200 with a live session; False where nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(head.format(path=1, n=1, client=1, credential=SECRET % 1).encode("ascii"))
            return connection.recv(4096).startswith(b"HTTP/1.1 2")
    except OSError:
        return False
