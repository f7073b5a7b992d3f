"""Authing's own Python client, unmodified, against a server process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from authing import ManagementClient
from authing.AuthingException import AuthingException

from sidecar.access_keys import ROOT, access_key_secret
from sidecar.app import Services
from sidecar.records import AccessKey, App, NewUser
from tests.cli.commands import Cli
from tests.e2e.harness import Installation, Sidecar, ask, head

SETTINGS = """
[store]
url = "sqlite:///{directory}/sidecar.db"

[limits]
login = "1000/minute"  # each client here fetches a token of its own

[[rules]]
app = "app1"
"""

FETCHED = 'sidecar_http_requests_total{code="200",method="POST",route="/api/v3/get-management-token"}'


@dataclass(frozen=True)
class Made:
    """What is in the store before the server starts."""

    keys: dict[str, str]
    """The secrets of two access keys, by their ids."""

    anns_session: str
    bobs_cookie: str


@dataclass(frozen=True)
class Served:
    """A server, and what its store has in it."""

    store: Cli
    sidecar: Sidecar
    made: Made

    def client(self, key_id: str = "ak_1", *, secret: str = "", path: str = "") -> ManagementClient:
        """As an application makes it; `path` is what its host setting has behind the port."""
        secret = secret or self.made.keys[key_id]
        return ManagementClient(key_id, secret, host=f"http://{self.sidecar.listen}{path}")

    def tokens_fetched(self) -> float:
        """How often a management token was given or refused, as the server counts."""
        metrics = ask(self.sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
        (line,) = [line for line in metrics.splitlines() if line.startswith(FETCHED)]
        return float(line.rpartition(" ")[2])


async def make(parts: Services) -> Made:
    """Ann has sessions in app1 and in app2, Bob one that was used nowhere, and two backends have keys."""
    store, now = parts.store, parts.clock.now()
    await store.apps.add(App("app2", "", disabled=False, created_at=now))
    new = NewUser("ann", ("ann@example.com",), external_id="6229ffaxxxxxxxxcade3e3d9")
    ann = await store.users.add(new, now=now, by="test")
    bob = await store.users.add(NewUser("bob"), now=now, by="test")
    in_app1, _ = [await parts.sessions.begin(ann, app=app) for app in ("app1", "app2")]
    bobs = await parts.sessions.begin(bob)
    keys = {}
    for key_id in ("ak_1", "ak_2"):
        await store.access_keys.add(AccessKey(key_id, "backend", now))
        keys[key_id] = access_key_secret(await store.secret(ROOT), key_id)
    return Made(keys, in_app1.session.id, f"{parts.settings.session.cookie}={bobs.secret}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server process with settings of its own."""
    directory = tmp_path_factory.mktemp("served")
    config = directory / "sidecar.toml"
    config.write_text(SETTINGS.format(directory=directory))
    store = Cli(config)
    made = store.look(make)
    with Installation(config, directory).serving() as sidecar:
        yield Served(store, sidecar, made)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would ask a proxy that the environment names."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_user_is_active_until_the_session_ends(served: Served) -> None:
    client = served.client()
    signed_in = client.check_session_status("app1", "ann")
    assert signed_in["data"] == {"active": True}
    assert (signed_in["statusCode"], signed_in["message"], "apiCode" in signed_in) == (200, "Success", False)
    served.store.look(lambda parts: parts.store.sessions.revoke([served.made.anns_session]))
    assert client.check_session_status("app1", "ann")["data"] == {"active": False}


def test_a_user_who_came_through_the_gateway_is_active(served: Served) -> None:
    client = served.client()
    assert client.check_session_status("app1", "bob")["data"] == {"active": False}
    cookie = ("Cookie", served.made.bobs_cookie)
    lines = (("X-Original-Method", "GET"), ("X-Original-URL", "http://localhost/page"), cookie)
    assert ask(served.sidecar.listen, head("GET", "/check/nginx", "sidecar", lines)).status == 200
    assert client.check_session_status("app1", "bob")["data"] == {"active": True}
    assert client.check_session_status("app2", "bob")["data"] == {"active": False}


@pytest.mark.parametrize("user", ["1", "ANN", "ann@example.com", "6229ffaxxxxxxxxcade3e3d9"])
def test_a_user_is_known_by_several_names(served: Served, user: str) -> None:
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
    client = served.client("ak_2")
    assert client.check_session_status("app1", "ann")["statusCode"] == 200
    served.store.look(lambda parts: parts.store.access_keys.revoke(["ak_2"]))
    answer = client.check_session_status("app1", "ann")
    assert (answer["statusCode"], answer["apiCode"]) == (401, 2020)
