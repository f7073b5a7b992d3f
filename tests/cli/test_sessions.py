"""`sidecar sessions`."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.credentials import id_of_secret
from sidecar.keys import SESSION_TOKEN
from sidecar.records import Session
from tests.cli.commands import Cli


def create(cli: Cli, *args: str) -> dict[str, Any]:
    document: dict[str, Any] = cli.json("sessions", "create", "--user", "ann", *args)
    return document


def stored(cli: Cli, session_id: str) -> Session:
    session = cli.look(lambda services: services.store.sessions.find(session_id))
    assert session is not None
    return session


def test_the_cookie_and_the_token_open_the_session(cli: Cli, ann: int) -> None:
    created = create(cli)
    name, _, secret = created["cookie"].partition("=")
    claims = cli.look(lambda services: services.keys.verify(created["token"].encode(), SESSION_TOKEN))

    assert set(created) == {"id", "cookie", "token"}
    assert (name, id_of_secret(secret.encode())) == ("__Host-sidecar", created["id"])
    assert (claims["sub"], claims["sid"]) == (str(ann), created["id"])
    assert stored(cli, created["id"]).user_id == ann


def test_it_lives_as_long_as_was_asked_and_begins_in_the_app(cli: Cli, ann: int) -> None:
    session = stored(cli, create(cli, "--ttl", "90s", "--app", "shop")["id"])

    assert session.expires_at - session.created_at == pytest.approx(90)
    assert session.apps == {"shop"}


def test_by_default_it_lives_as_long_as_the_settings_say(cli: Cli, ann: int) -> None:
    session = stored(cli, create(cli)["id"])

    assert session.expires_at - session.created_at == pytest.approx(12 * 3600)


def test_for_people_its_secrets_come_with_a_remark(cli: Cli, ann: int) -> None:
    result = cli.ok("sessions", "create", "--user", "ann")

    assert "__Host-sidecar=" in result.stdout
    assert "Neither is shown again" in result.stderr


REFUSED = {
    "a user who does not exist": ["--user", "bob"],
    "a disabled user": ["--user", "ann"],
    "an app's id with a line break": ["--user", "eve", "--app", "a\nb"],
}


@pytest.mark.parametrize("args", REFUSED.values(), ids=REFUSED)
def test_no_session_for(cli: Cli, ann: int, args: list[str]) -> None:
    cli.ok("users", "disable", "ann")
    cli.ok("users", "add", "eve")

    cli.refused("sessions", "create", *args)
    assert cli.look(lambda services: services.store.sessions.list()) == []


@pytest.mark.parametrize("ttl", ["", "5", "5x", "-5s", "0s", "1.5h", "9" * 400 + "d"])
def test_a_ttl_is_a_duration(cli: Cli, ann: int, ttl: str) -> None:
    assert "--ttl" in cli.misused("sessions", "create", "--user", "ann", "--ttl", ttl)


def test_the_list_shows_no_secret(cli: Cli, ann: int) -> None:
    created = create(cli, "--app", "shop", "--ttl", "999999999d")
    _, _, secret = created["cookie"].partition("=")
    (listed,) = cli.json("sessions", "list")
    table = cli.ok("sessions", "list").stdout

    assert (listed["id"], listed["user_id"], listed["user"]) == (created["id"], ann, "ann")
    assert (listed["apps"], listed["expires_at"]) == (["shop"], "9999-12-31T23:59:59Z")
    assert secret not in table + str(listed)
    assert created["id"] in table


def test_the_list_has_only_sessions_that_open_something(cli: Cli, ann: int) -> None:
    live = create(cli)

    async def add_dead(services: Any) -> None:
        now = services.clock.now()
        await services.store.sessions.add(Session("expired", ann, now - 9, now - 9, now - 1))
        await services.store.sessions.add(Session("idle", ann, now - 7200, now - 3601, now + 7200))

    cli.look(add_dead)

    assert [session["id"] for session in cli.json("sessions", "list")] == [live["id"]]


@pytest.mark.parametrize("command", [["list"], ["revoke"]], ids=" ".join)
def test_an_empty_name_is_nobody_and_not_everybody(cli: Cli, ann: int, command: list[str]) -> None:
    create(cli)

    assert "there is no user ''" in cli.refused("sessions", *command, "--user", "")
    assert len(cli.json("sessions", "list")) == 1


@pytest.mark.parametrize(
    ("options", "left"), [(["--user", "ann"], ["bob"]), (["--all"], [])], ids=["a user's", "all"]
)
def test_sessions_are_revoked(cli: Cli, ann: int, options: list[str], left: list[str]) -> None:
    cli.ok("users", "add", "bob")
    for name in ("ann", "ann", "bob"):
        cli.ok("sessions", "create", "--user", name)
    revoked = 3 - len(left)

    assert f"{revoked} sessions revoked" in cli.ok("sessions", "revoke", *options).stderr
    assert [session["user"] for session in cli.json("sessions", "list")] == left


def test_sessions_are_revoked_by_id_and_unknown_ids_passed_over(cli: Cli, ann: int) -> None:
    gone, kept = create(cli)["id"], create(cli)["id"]

    assert "1 session revoked" in cli.ok("sessions", "revoke", gone, "unknown").stderr
    assert [session["id"] for session in cli.json("sessions", "list")] == [kept]


def test_ids_of_which_none_exists_are_a_fault(cli: Cli, ann: int) -> None:
    assert "no such session" in cli.refused("sessions", "revoke", "unknown")


@pytest.mark.parametrize(
    "args", [[], ["x", "--all"], ["x", "--user", "ann"], ["--user", "ann", "--all"]], ids=" ".join
)
def test_what_to_revoke_is_said_in_one_way(cli: Cli, ann: int, args: list[str]) -> None:
    cli.misused("sessions", "revoke", *args)
