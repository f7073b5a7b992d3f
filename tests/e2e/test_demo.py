"""`make demo`, as somebody sees it who tries it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.__main__ import HOST, PORT
from demo.stack import ROOT, accepts, running, wait_for
from tests.e2e.harness import BROWSER, TIMEOUT, ask, head

ADDRESS = f"{HOST}:{PORT}"
COMMAND = [sys.executable, "-m", "demo"]


@pytest.fixture
def demo(need_nginx: None, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The running demo, and what it says."""
    if accepts(ADDRESS):
        pytest.skip(f"port {PORT} is in use: the demo has no other")
    said = tmp_path / "said"
    with running(COMMAND, said) as process:
        wait_for(lambda: "Password" in said.read_text(), process, said)
        yield process, said


def test_it_says_what_to_open_and_leaves_nothing(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, said = demo
    lines = dict(line.split(maxsplit=1) for line in said.read_text().splitlines()[:3])
    assert lines["Open"] == f"http://{ADDRESS}/"
    assert lines["Name"] == "demo"
    refused = ask(ADDRESS, head("GET", "/", ADDRESS, BROWSER))
    assert refused.status == 302
    assert refused.one("Location").startswith(f"http://{ADDRESS}/_sidecar/login?")
    (directory,) = [Path(word) for word in said.read_text().split() if "sidecar-demo-" in word]
    assert directory.is_dir()
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0
    assert not directory.exists()
    assert not accepts(ADDRESS)


def test_a_taken_port_is_said_in_one_line(demo: tuple[subprocess.Popen[bytes], Path]) -> None:
    second = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (second.returncode, second.stdout) == (1, "")
    assert (
        second.stderr == f"Port {PORT} of this machine is in use: stop what listens there, then try again.\n"
    )


def test_without_nginx_it_says_what_to_install() -> None:
    hidden = (
        "import demo.stack, runpy; demo.stack.NGINX = None; runpy.run_module('demo', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 1
    assert "apt-get install nginx" in done.stderr
