"""What the end-to-end tests share. Where a server is not installed, they are skipped and name its package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stack import EXAMPLES
from tests.e2e.harness import Installation, RecordingApp, Session, Stack, application
from tests.e2e.proxies import PROXIES

FAST = {
    "session__touch_interval": "1s",
    "limits__login": "1000/minute",
    "log__format": "json",
}
"""So that tests need not wait, and may sign in as often as they like."""


@pytest.fixture(scope="session")
def promtool() -> str:
    """Debian's `promtool`."""
    return _installed("promtool", "prometheus")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium."""
    return _installed("chromium", "chromium")


@pytest.fixture(scope="session")
def curl() -> str:
    """Debian's `curl`."""
    return _installed("curl", "curl")


@pytest.fixture(scope="session")
def need_nginx() -> None:
    """Skips where nginx is not installed."""
    PROXIES["nginx"].need()


@pytest.fixture(scope="session")
def app() -> Iterator[RecordingApp]:
    """The application behind the gateways."""
    with application() as running:
        yield running


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A store with Ann, who has everything, and Bob, who has nothing; the settings of examples/nginx."""
    directory = tmp_path_factory.mktemp("installation")
    made = Installation(EXAMPLES / "nginx/sidecar.toml", directory, FAST)
    made.cli("roles", "set", "admin", "--permission", "users:write", "--permission", "users:read")
    made.add_user(
        "ann",
        *("--name", "Ann Ünal, 100%", "--email", "ann@example.com", "--role", "admin", "--role", "a,b"),
        *("--account", "t-1:Team one:primary"),
    )
    made.add_user("bob")
    return made


@pytest.fixture(scope="session")
def ann(installation: Installation) -> Session:
    """A session of Ann's."""
    return installation.session("ann")


@pytest.fixture(scope="session")
def bob(installation: Installation) -> Session:
    """A session of Bob's."""
    return installation.session("bob")


@pytest.fixture(scope="session", params=["tcp", "unix"])
def stack(
    request: pytest.FixtureRequest,
    need_nginx: None,
    tmp_path_factory: pytest.TempPathFactory,
    installation: Installation,
    app: RecordingApp,
) -> Iterator[Stack]:
    """nginx with the very file of examples/nginx; the sidecar on a port, and on a unix socket."""
    directory = tmp_path_factory.mktemp(request.param)
    listen = f"unix:{directory}/sidecar.sock" if request.param == "unix" else ""
    with PROXIES["nginx"].standing(directory, installation, app, listen) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh_app(app: RecordingApp) -> None:
    """The application has forgotten what it was told to do."""
    app.status, app.sets_cookie = 200, ""
    app.taken()


def _installed(command: str, package: str) -> str:
    path: Path | str | None = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed (Debian package: {package})")
    return str(path)
