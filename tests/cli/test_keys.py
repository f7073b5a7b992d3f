"""`sidecar api-keys`, `access-keys`, `keys`, `apps`, `backup`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.access_keys import ROOT, access_key_secret
from sidecar.credentials import id_of_secret
from sidecar.stores import open_store
from tests.cli.commands import Cli

# --- api-keys ------------------------------------------------------------------------------------


def test_an_api_key_is_kept_as_its_id(cli: Cli, ann: int) -> None:
    options = ("--ttl", "30d", "--scope", "read", "--scope", "write")
    created = cli.json("api-keys", "create", "--user", "ann", "--name", "ci", *options)
    key = cli.look(lambda services: services.store.api_keys.find(created["id"]))

    assert set(created) == {"id", "key"}
    assert created["id"] == id_of_secret(created["key"].encode())
    assert key is not None
    assert (key.user_id, key.name, key.scopes) == (ann, "ci", ("read", "write"))
    assert key.expires_at == pytest.approx(key.created_at + 30 * 86400)


def test_api_keys_are_listed_without_the_keys(cli: Cli, ann: int) -> None:
    created = cli.json("api-keys", "create", "--user", "ann", "--name", "ci")
    cli.ok("users", "add", "bob")
    (listed,) = cli.json("api-keys", "list", "--user", "ann")
    table = cli.ok("api-keys", "list").stdout

    assert (listed["id"], listed["user"], listed["last_used_at"]) == (created["id"], "ann", None)
    assert table.count("never") == 2
    assert created["key"] not in table + str(listed)
    assert cli.json("api-keys", "list", "--user", "bob") == []


@pytest.mark.parametrize(
    "args",
    [
        ["--user", "eve", "--name", "x"],
        ["--user", "ann", "--name", ""],
        ["--user", "ann", "--name", "x", "--scope", ""],
    ],
    ids=["a user who does not exist", "an empty name", "an empty scope"],
)
def test_no_api_key_for(cli: Cli, ann: int, args: list[str]) -> None:
    cli.refused("api-keys", "create", *args)

    assert cli.json("api-keys", "list") == []


def test_a_disabled_user_gets_no_api_key(cli: Cli, ann: int) -> None:
    cli.ok("users", "disable", "ann")

    assert "disabled" in cli.refused("api-keys", "create", "--user", "ann", "--name", "ci")


# --- access-keys ---------------------------------------------------------------------------------


def test_the_secret_of_an_access_key_follows_from_the_stores_root(cli: Cli) -> None:
    created = cli.json("access-keys", "create", "--name", "backend")
    root = cli.look(lambda services: services.store.secret(ROOT))

    assert set(created) == {"id", "secret"}
    assert re.fullmatch(r"ak_[0-9a-f]{32}", created["id"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", created["secret"])
    assert created["secret"] == access_key_secret(root, created["id"])


def test_no_two_access_keys_share_a_secret(cli: Cli) -> None:
    secrets = {cli.json("access-keys", "create", "--name", "backend")["secret"] for _ in range(2)}

    assert len(secrets) == 2


def test_access_keys_are_listed_without_their_secrets(cli: Cli) -> None:
    created = cli.json("access-keys", "create", "--name", "backend", "--ttl", "12h")
    (listed,) = cli.json("access-keys", "list")

    assert (listed["id"], listed["name"]) == (created["id"], "backend")
    assert listed["expires_at"] > listed["created_at"]
    assert created["secret"] not in cli.ok("access-keys", "list").stdout + str(listed)


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "options"),
    [("api-keys", ["--user", "ann"]), ("access-keys", [])],
    ids=["api-keys", "access-keys"],
)
def test_keys_are_revoked(cli: Cli, ann: int, group: str, options: list[str]) -> None:
    gone, kept = (cli.json(group, "create", "--name", name, *options)["id"] for name in ("gone", "kept"))

    assert "1 " in cli.ok(group, "revoke", gone, "unknown").stderr
    assert [key["id"] for key in cli.json(group, "list")] == [kept]
    assert "there is no such" in cli.refused(group, "revoke", gone)
    cli.misused(group, "revoke")


# --- signing keys --------------------------------------------------------------------------------


def test_a_new_key_signs_and_the_old_one_verifies(cli: Cli) -> None:
    assert cli.json("keys", "list") == []
    old = cli.json("keys", "rotate")
    new = cli.json("keys", "rotate")
    signing, verifying = cli.json("keys", "list")

    assert (old["state"], old["verifies_until"]) == ("signing", None)
    assert (signing, signing["state"]) == (new, "signing")
    assert (verifying["kid"], verifying["state"]) == (old["kid"], "verifying")
    assert datetime.fromisoformat(verifying["verifies_until"]) > datetime.now(UTC)


def test_the_first_rotation_makes_the_first_key(cli: Cli) -> None:
    new = cli.json("keys", "rotate")

    assert cli.json("keys", "list")[0] == new


def test_private_keys_are_never_listed(cli: Cli) -> None:
    text = (
        cli.ok("keys", "rotate").stdout
        + cli.ok("keys", "list").stdout
        + cli.ok("keys", "list", "--json").stdout
    )

    assert "PRIVATE" not in text
    assert "private" not in text


# --- apps ----------------------------------------------------------------------------------------


def test_an_app_is_added_disabled_and_enabled(cli: Cli) -> None:
    added = cli.json("apps", "add", "shop", "--name", "The shop")
    assert (added["id"], added["name"], added["disabled"]) == ("shop", "The shop", False)

    cli.ok("apps", "disable", "shop")
    assert [app["disabled"] for app in cli.json("apps", "list")] == [True]
    cli.ok("apps", "enable", "shop")
    assert cli.json("apps", "list") == [added]


def test_an_app_is_named_by_its_id_unless_it_has_a_name(cli: Cli) -> None:
    assert cli.json("apps", "add", "shop")["name"] == "shop"


@pytest.mark.parametrize(
    "args",
    [["add", "shop"], ["add", ""], ["add", "new", "--name", ""], ["disable", "other"], ["enable", "other"]],
    ids=["taken", "no id", "an empty name", "disabling nothing", "enabling nothing"],
)
def test_an_app_is_refused(cli: Cli, args: list[str]) -> None:
    cli.ok("apps", "add", "shop")

    cli.refused("apps", *args)
    assert [app["id"] for app in cli.json("apps", "list")] == ["shop"]


# --- backup --------------------------------------------------------------------------------------


async def users_of(path: Path) -> list[str]:
    store = open_store(f"sqlite:///{path}")
    try:
        return [user.username for user in await store.users.list()]
    finally:
        await store.close()


def test_a_backup_is_a_store(cli: Cli, ann: int, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    cli.ok("backup", str(copy))

    assert copy.stat().st_mode & 0o777 == 0o600
    assert cli.look(lambda _: users_of(copy)) == ["ann"]


def test_a_backup_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")

    assert "exists already" in cli.refused("backup", "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_backup_needs_a_place(cli: Cli) -> None:
    assert "cannot be made" in cli.refused("backup", "nowhere/copy.db")
