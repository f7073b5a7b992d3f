"""docs/identity.md: what it has for applications, as pasted, verifies an assertion of a real server's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from demo.stack import ROOT, wait_for
from tests.e2e.harness import Answer, Installation, Lines, RecordingApp, Session, Sidecar, ask, head
from tests.e2e.proxies import PROXIES, Changes, Place, Proxy

TEXT = (ROOT / "docs/identity.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:9000"
DECODING, VERIFYING = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

SETTINGS = """
[store]
url = "sqlite:///{directory}/sidecar.db"
"""


@dataclass(frozen=True)
class Protected:
    """An application behind a server that signs assertions."""

    installation: Installation
    sidecar: Sidecar

    def checked(self, host: str = "app.example.com") -> Answer:
        """An allowed check of a request to this host: the application gets its headers."""
        session = self.installation.session("ann")
        asked: Lines = (
            ("X-Original-URL", f"https://{host}/"),
            ("X-Original-Method", "GET"),
            session.line,
        )
        answer = ask(self.sidecar.listen, head("GET", "/check/nginx", "sidecar", asked))
        assert answer.status == 200
        return answer

    def run(self, snippet: str) -> dict[str, Any]:
        """The names that the snippet defines."""
        names: dict[str, Any] = {}
        # The issuer is a name, and stays; the keys are where this server listens.
        exec(snippet.replace(f"{ADDRESS}/.well", f"{self.sidecar.listen}/.well"), names)
        return names


ROWS = dict(
    re.findall(r"^\| (\w+) \|[^|]+\| (`.+`) \|$", TEXT.partition("add:")[2].partition("###")[0], re.MULTILINE)
)
"""By gateway: the lines that hand on the assertion."""

PLACES = {
    "nginx": ("nginx.conf", ["$upstream_http_x_auth_method;", "X-Auth-Method      $auth_method;"]),
    "Traefik": ("dynamic.yml", ["          - X-Auth-Method"]),
    "Caddy": ("Caddyfile", ["copy_headers X-Auth-Roles X-Auth-Permissions X-Auth-Account X-Auth-Method"]),
    "HAProxy": ("sidecar.lua", ['"x-auth-method",']),
    "Envoy": ("envoy.yaml", ["                              - { exact: x-auth-method }"]),
}
"""By gateway: a file of its example, and behind what in it each of them belongs."""


def handing_on_assertions(gateway: str) -> Proxy:
    """The gateway's example, with what is documented."""
    proxy, (file, places) = PROXIES[gateway.lower()], PLACES[gateway]
    lines = re.findall("`(.+?)`", ROWS[gateway])
    more = {
        place: f"{place}\n{' ' * (len(place) - len(place.lstrip()))}{line}"
        for place, line in zip(places, lines, strict=True)
    }

    def changes(place: Place) -> Changes:
        usual = proxy.changes(place)
        return {**usual, file: {**usual[file], **more}}

    return replace(proxy, changes=changes)


@pytest.mark.parametrize("gateway", PLACES)
def test_a_gateway_hands_on_the_assertion_as_shown(
    gateway: str, tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    proxy = handing_on_assertions(gateway)
    proxy.need()
    on = {"identity_assertion__enabled": "true"}
    with proxy.standing(tmp_path, installation, app, **on) as stack:
        own = (("X-Auth-Assertion", "forged"), ("X_Auth_Assertion", "forged"))
        assert stack.ask("GET", "/", (*own, proxy.session(ann))).status == 200
        received = app.only()
    (assertion,) = received.all("X-Auth-Assertion")
    claims = jwt.decode(assertion, options={"verify_signature": False})
    assert (claims["aud"], claims["preferred_username"]) == (stack.host, "ann")
    assert "forged" not in str(received.lines)


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """One with Ann in it."""
    directory = tmp_path_factory.mktemp("identity")
    config = directory / "sidecar.toml"
    config.write_text(SETTINGS.format(directory=directory))
    made = Installation(config, directory)
    made.add_user("ann", "--name", "Ann Ünal, 100%", "--role", "a,b", "--role", "c")
    with made.serving(identity_assertion__enabled="true") as sidecar:
        yield Protected(made, sidecar)


def test_headers_are_decoded_as_shown(protected: Protected) -> None:
    names, answer = protected.run(DECODING), protected.checked()
    assert names["text"](answer.one("X-Auth-Name")) == "Ann Ünal, 100%"
    assert names["items"](answer.one("X-Auth-Roles")) == ["a,b", "c"]
    assert names["items"](answer.one("X-Auth-Permissions")) == []


def test_an_assertion_is_verified_as_shown(protected: Protected) -> None:
    who_asks, answer = protected.run(VERIFYING)["who_asks"], protected.checked()
    claims = who_asks(answer.one("X-Auth-Assertion"))
    assert (claims["sub"], claims["name"], claims["roles"]) == ("1", "Ann Ünal, 100%", ["a,b", "c"])


def test_what_proves_nothing_is_refused_as_shown(protected: Protected) -> None:
    who_asks = protected.run(VERIFYING)["who_asks"]
    for_another = protected.checked("other.example.com").one("X-Auth-Assertion")
    session_token = protected.installation.session("ann").token
    header, claims, _ = protected.checked().one("X-Auth-Assertion").split(".")
    for forged in ("", for_another, session_token, f"{header}.{claims}.", f"{header}.{claims}.AAAA"):
        with pytest.raises(jwt.PyJWTError):
            who_asks(forged)


def test_around_a_rotation_the_published_keys_verify_old_and_new(protected: Protected) -> None:
    old = protected.checked().one("X-Auth-Assertion")
    protected.installation.cli("keys", "rotate")

    def new() -> str:
        return protected.checked().one("X-Auth-Assertion")

    def is_signed_by_another() -> bool:
        kids = {jwt.get_unverified_header(each)["kid"] for each in (old, new())}
        return len(kids) == 2

    wait_for(is_signed_by_another, protected.sidecar.process, protected.sidecar.log)
    who_asks = protected.run(VERIFYING)["who_asks"]
    assert [who_asks(each)["sub"] for each in (old, new())] == ["1", "1"]
