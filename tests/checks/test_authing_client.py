"""Authing's own Python client, unmodified, against a server process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from authing import ManagementClient
from authing.AuthingException import AuthingException

from tests.e2e.harness import Installation, Session, Sidecar, ask, head

SETTINGS = """
[limits]
login = "1000/minute"  # each client here fetches a token of its own

[[rules]]
app = "app1"
"""

FETCHED = 'sidecar_http_requests_total{code="200",method="POST",route="/api/v3/get-management-token"}'


@dataclass(frozen=True)
class Served:
    """A server with Ann and Bob, the app of a rule, and an access key."""

    installation: Installation
    sidecar: Sidecar
    key_id: str
    secret: str

    def client(self, *, secret: str = "", path: str = "") -> ManagementClient:
        """As an application makes it; `path` is what its host setting has behind the port."""
        return ManagementClient(
            self.key_id, secret or self.secret, host=f"http://{self.sidecar.listen}{path}"
        )

    def session(self, user: str, app: str) -> Session:
        """A new session that was first used in the app."""
        return Session(
            **json.loads(self.installation.cli("sessions", "create", "--user", user, "--app", app, "--json"))
        )

    def tokens_fetched(self) -> float:
        """How often a management token was given or refused, as the server counts."""
        metrics = ask(self.sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
        (line,) = [line for line in metrics.splitlines() if line.startswith(FETCHED)]
        return float(line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server process with settings of its own; everything in it was made by the command line."""
    directory = tmp_path_factory.mktemp("served")
    config: Path = directory / "sidecar.toml"
    config.write_text(SETTINGS)
    installation = Installation(config, directory)
    installation.add_user("ann", "--email", "ann@example.com", "--external-id", "6229ffaxxxxxxxxcade3e3d9")
    installation.add_user("bob")
    installation.cli("apps", "add", "app2")
    key = json.loads(installation.cli("access-keys", "create", "--name", "backend", "--json"))
    with installation.serving() as sidecar:
        yield Served(installation, sidecar, key["id"], key["secret"])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would ask a proxy that the environment names."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_user_is_active_until_the_session_ends(served: Served) -> None:
    client = served.client()
    session = served.session("ann", "app1")
    signed_in = client.check_session_status("app1", "ann")
    assert signed_in["data"] == {"active": True}
    assert (signed_in["statusCode"], signed_in["message"], "apiCode" in signed_in) == (200, "Success", False)
    served.installation.cli("sessions", "revoke", session.id)
    assert client.check_session_status("app1", "ann")["data"] == {"active": False}


def test_a_user_who_came_through_the_gateway_is_active(served: Served) -> None:
    client = served.client()
    session = served.installation.session("bob")
    assert client.check_session_status("app1", "bob")["data"] == {"active": False}
    lines = (("X-Original-Method", "GET"), ("X-Original-URL", "http://localhost/page"), session.line)
    assert ask(served.sidecar.listen, head("GET", "/check/nginx", "sidecar", lines)).status == 200
    assert client.check_session_status("app1", "bob")["data"] == {"active": True}
    assert client.check_session_status("app2", "bob")["data"] == {"active": False}


@pytest.mark.parametrize("user", ["1", "ANN", "ann@example.com", "6229ffaxxxxxxxxcade3e3d9"])
def test_a_user_is_known_by_several_names(served: Served, user: str) -> None:
    served.session("ann", "app2")
    assert served.client().check_session_status("app2", user)["data"] == {"active": True}


@pytest.mark.parametrize(
    ("app", "user", "expected"),
    [
        ("app1", "nobody", (404, 2004, "There is no such user")),
        ("nowhere", "ann", (404, 2011, "There is no such app")),
        ("app1", None, (400, 2231, "The body cannot be read: userId: Field required")),
        (None, None, (400, 2231, "The body cannot be read: appId: Field required")),
    ],
)
def test_what_is_wrong_with_the_question_is_in_the_answer(
    served: Served, app: str | None, user: str | None, expected: tuple[int, int, str]
) -> None:
    answer = served.client().check_session_status(app, user)
    assert (answer["statusCode"], answer["apiCode"], answer["message"]) == expected
    assert len(answer["requestId"]) == 32
    assert "data" not in answer


@pytest.mark.parametrize("path", ["/", "//"])
def test_a_host_with_a_slash_at_its_end_works(served: Served, path: str) -> None:
    served.session("ann", "app2")
    assert served.client(path=path).check_session_status("app2", "ann")["data"] == {"active": True}


def test_a_wrong_secret_is_an_exception_of_the_client(served: Served) -> None:
    with pytest.raises(AuthingException) as raised:
        served.client(secret="wrong").check_session_status("app1", "ann")
    assert (raised.value.statusCode, raised.value.apiCode) == (401, 2020)
    assert raised.value.message == "The access key is not valid"


def test_a_token_is_fetched_once_and_again_when_it_has_expired(served: Served) -> None:
    client = served.client()
    provider = client.http_client.token_provider
    client.check_session_status("app1", "ann")
    first, fetched = provider._access_token, served.tokens_fetched()
    client.check_session_status("app1", "ann")
    assert (provider._access_token, served.tokens_fetched()) == (first, fetched)
    provider._expires_at -= 7200
    assert client.check_session_status("app1", "ann")["statusCode"] == 200
    assert served.tokens_fetched() == fetched + 1
    assert provider._access_token != first
    assert provider._userpool_id == "sidecar"


def test_a_token_that_is_refused_is_said_in_the_answer(served: Served) -> None:
    made = json.loads(served.installation.cli("access-keys", "create", "--name", "brief", "--json"))
    client = Served(served.installation, served.sidecar, made["id"], made["secret"]).client()
    assert client.check_session_status("app1", "ann")["statusCode"] == 200
    served.installation.cli("access-keys", "revoke", made["id"])
    answer = client.check_session_status("app1", "ann")
    assert (answer["statusCode"], answer["apiCode"]) == (401, 2020)
