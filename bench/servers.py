"""The servers that are measured, each a process of its own on one core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.data import url
from bench.load import is_allowed
from bench.machine import CannotMeasure, on_core, program

_STARTS_WITHIN = 30.0
_STOPS_WITHIN = 20.0
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 204; }}
    }}
}}
"""

# Requests are counted, and never too many. The sessions' use was noted when the store was built, and is not
# noted again while the bench runs: that is one write a minute and session, however many checks there are.
_SIDECAR = """
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
[store]
url = "{store}"
[session]
cookie_name = "__Host-sidecar"
touch_interval = "30m"
[limits]
checks = "{checks}"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A process that has answered a check. `started_in` is how many seconds that took."""

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
    """Starts servers on one core, with their files in one folder."""

    def __init__(self, folder: Path, core: int) -> None:
        self._folder = folder
        self._core = core
        self._nginx = program("nginx")

    @contextmanager
    def nginx(self) -> Iterator[Server]:
        """nginx with one worker that answers 204 to everything: the ceiling."""
        port = _free_port()
        config = self._folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=self._folder, port=port), encoding="utf-8")
        command = [self._nginx, "-p", str(self._folder), "-c", str(config)]
        with self._running("nginx", command, port) as server:
            yield server

    @contextmanager
    def bare(self, module: str = "bench.bare", *arguments: str) -> Iterator[Server]:
        """An ASGI application that does nothing, or little, on the product's uvicorn settings."""
        port = _free_port()
        with self._running(module, [sys.executable, "-m", module, str(port), *arguments], port) as server:
            yield server

    @contextmanager
    def sidecar(
        self,
        name: str,
        store: Path,
        module: str = "sidecar",
        more_settings: str = "",
        checks: str = "1000000000/hour",
    ) -> Iterator[Server]:
        """The product. `module`: what stands for `python -m sidecar`; `checks`: the limit on requests."""
        port = _free_port()
        config = self._folder / f"{name}.toml"
        config.write_text(
            _SIDECAR.format(port=port, admin_port=_free_port(), store=url(store), checks=checks)
            + more_settings,
            encoding="utf-8",
        )
        command = [sys.executable, "-m", module, "serve", "--config", str(config)]
        with self._running(name, command, port) as server:
            yield server

    @contextmanager
    def _running(self, name: str, command: list[str], port: int) -> Iterator[Server]:
        log = self._folder / f"{name}.log"
        with log.open("wb") as output, on_core(self._core):
            started_at = time.perf_counter()
            process = subprocess.Popen(command, env=_environment(), stdout=output, stderr=output)
        try:
            _wait_for(process, port, log)
            yield Server(port, process.pid, time.perf_counter() - started_at)
        finally:
            _stop(process)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while not is_allowed(port):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace")
            raise CannotMeasure(f"{log.stem} did not start to answer; it said:\n{said}")
        time.sleep(0.002)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Ours without settings of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
