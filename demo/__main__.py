"""`python -m demo`: nginx on 127.0.0.1:8080 with the files of examples/nginx, until Ctrl-C."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from demo.app import PageApp
from demo.stack import (
    EXAMPLES,
    NGINX,
    StartError,
    accepts,
    adapted,
    free_port,
    nginx_command,
    nginx_settings,
    running,
    sidecar_command,
    sidecar_environment,
    wait_for,
)

HOST = "127.0.0.1"
PORT = 8080
NAME = "demo"


def main() -> int:
    """Returns the exit status."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-demo-")))
            processes = _start(stack, directory)
            while not stopping.wait(0.2):
                _check(processes, directory)
            _say("\nStopping.")
    except StartError as error:
        _say(str(error), sys.stderr)
        return 1
    return 0


def _start(stack: ExitStack, directory: Path) -> dict[str, subprocess.Popen[bytes]]:
    if NGINX is None:
        raise StartError("The demo needs nginx: install it with `apt-get install nginx`, then try again.")
    if accepts(f"{HOST}:{PORT}"):
        raise StartError(f"Port {PORT} of this machine is in use: stop what listens there, then try again.")

    app = stack.enter_context(PageApp((HOST, 0)))
    threading.Thread(target=app.serve_forever, daemon=True).start()
    stack.callback(app.shutdown)

    listen = f"{HOST}:{free_port()}"
    config = directory / "sidecar.toml"
    config.write_text(adapted((EXAMPLES / "nginx/sidecar.toml").read_text(), {"localhost": HOST}))
    environment = sidecar_environment(
        server__listen=listen,
        server__admin_listen=f"{HOST}:{free_port()}",
        store__url=f"sqlite:///{directory}/sidecar.db",
        session__cookie_secure="false",  # not every browser keeps a Secure cookie over http, even from here
    )
    password = _add_user(config, environment)
    serve = sidecar_command("serve", "--config", str(config))
    sidecar = stack.enter_context(running(serve, directory / "sidecar", env=environment))

    changes = nginx_settings(directory, port=PORT, sidecar=listen, app=f"{HOST}:{app.server_port}")
    conf = directory / "nginx.conf"
    conf.write_text(adapted((EXAMPLES / "nginx/nginx.conf").read_text(), {"localhost": HOST, **changes}))
    nginx = stack.enter_context(running(nginx_command(directory, conf), directory / "nginx"))

    wait_for(lambda: accepts(listen), sidecar, directory / "sidecar")
    wait_for(lambda: accepts(f"{HOST}:{PORT}"), nginx, directory / "nginx")
    _say(
        f"Open      http://{HOST}:{PORT}/\n"
        f"Name      {NAME}\n"
        f"Password  {password}\n\n"
        "The page behind nginx shows the identity headers that it received.\n"
        f"Files and logs are in {directory} until Ctrl-C ends it all."
    )
    return {"sidecar": sidecar, "nginx": nginx}


def _check(processes: dict[str, subprocess.Popen[bytes]], directory: Path) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise StartError(f"{name} ended by itself:\n{(directory / name).read_text().strip()}")


def _add_user(config: Path, environment: dict[str, str]) -> str:
    """Adds the user; returns the password."""
    password = secrets.token_urlsafe(9)
    options = ("--name", "Dana Demo", "--email", "dana@example.com", "--role", "reader", "--role", "writer")
    added = subprocess.run(  # noqa: S603 - our own command
        sidecar_command("users", "add", NAME, *options, "--password-stdin", "--config", str(config)),
        env=environment,
        input=password.encode(),
        capture_output=True,
        check=False,
    )
    if added.returncode != 0:
        raise StartError(added.stderr.decode(errors="replace").strip())
    return password


def _say(line: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{line}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
