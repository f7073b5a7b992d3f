"""`sidecar users`, `roles`."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from sidecar.app import Services
from sidecar.records import Account, User
from tests.cli.commands import PASSWORD, PATIENCE, Cli, clean_environment, process_command

EVERYTHING = (
    *("--email", "ann@x.com", "--email", "ann@y.com", "--name", "Ann É", "--phone", "+1 23"),
    *("--external-id", "e-1", "--role", "dev", "--role", "admin"),
)
TWO_PRIMARY = ("--account", "a:Acme:primary", "--account", "b:Bee:primary:admin")


def find(cli: Cli, user_id: int) -> User | None:
    return cli.look(lambda services: services.store.users.find(user_id))


def known(cli: Cli, user_id: int) -> User:
    user = find(cli, user_id)
    assert user is not None
    return user


def has_password(cli: Cli, user_id: int, password: str) -> bool:
    async def verified(services: Services) -> bool:
        return await services.passwords.verify(await services.store.users.password_hash(user_id), password)

    return cli.look(verified)


# --- add -----------------------------------------------------------------------------------------


def test_a_user_is_added_with_everything(cli: Cli) -> None:
    accounts = ("--account", "a:Acme: West:primary", "--account", "b:Bee:admin")
    added = cli.json("users", "add", "ann", *EVERYTHING, *accounts)
    user = known(cli, added["id"])

    assert (added["username"], added["roles"], added["created_by"]) == ("ann", ["admin", "dev"], "cli")
    assert added["accounts"][1] == {"id": "b", "name": "Bee", "admin": True, "primary": False}
    assert (user.emails, user.phone, user.name) == (("ann@x.com", "ann@y.com"), "+1 23", "Ann É")
    assert user.accounts == (Account("a", "Acme: West", primary=True), Account("b", "Bee", admin=True))


def test_without_a_terminal_and_a_password_a_user_has_none(cli: Cli) -> None:
    result = cli.ok("users", "add", "ann")

    assert "ann has no password" in result.stderr
    assert not has_password(cli, 1, "")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["no newline", "a newline", "a Windows newline"])
def test_a_password_on_standard_input_ends_with(cli: Cli, end: str) -> None:
    cli.ok("users", "add", "ann", "--password-stdin", stdin=f"{PASSWORD}{end}")

    assert has_password(cli, 1, PASSWORD)


PASSWORDS = {
    "nothing": (b"", "no password"),
    "a short one": (b"short\n", "at least 8"),
    "a long one": (b"x" * 257, "at most 256"),
    "two lines": (b"correct horse\nbattery staple\n", "more than one line"),
    "no UTF-8": (b"\xff" * 10, "not UTF-8"),
}


@pytest.mark.parametrize("command", ["add", "passwd"])
@pytest.mark.parametrize(("stdin", "message"), PASSWORDS.values(), ids=PASSWORDS)
def test_a_password_is_refused_and_nothing_changed(
    cli: Cli, ann: int, command: str, stdin: bytes, message: str
) -> None:
    name = {"add": "bob", "passwd": "ann"}[command]

    assert message in cli.refused("users", command, name, "--password-stdin", stdin=stdin)
    assert len(cli.json("users", "list")) == 1
    assert cli.look(lambda services: services.store.users.password_hash(ann)) == ""


REFUSED = {
    "digits": (["17"], "'17'"),
    "a line break": (["a\nb"], "line breaks"),
    "a name that is taken": (["ANN"], "another user"),
    "an address that is taken": (["bob", "--email", "ann@example.com"], "another user"),
    "an empty role": (["bob", "--role", ""], "a role must not be empty"),
    "two primary accounts": (["bob", *TWO_PRIMARY], "at most one account"),
}


@pytest.mark.parametrize(("args", "message"), REFUSED.values(), ids=REFUSED)
def test_a_user_is_not_added_with(cli: Cli, ann: int, args: list[str], message: str) -> None:
    assert message in cli.refused("users", "add", *args)
    assert [user["username"] for user in cli.json("users", "list")] == ["ann"]


def test_an_account_needs_a_name(cli: Cli) -> None:
    assert "ID:NAME" in cli.misused("users", "add", "ann", "--account", "acme")


# --- show, list ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1", "ann", "ANN", "ann@example.com"])
def test_a_user_is_named_by(cli: Cli, ann: int, name: str) -> None:
    assert cli.json("users", "show", name)["id"] == ann


@pytest.mark.parametrize("name", ["2", "bob", "", "9" * 5000, "\u0661", "\udcff"])
def test_nobody_is_named_by(cli: Cli, ann: int, name: str) -> None:
    assert "there is no user" in cli.refused("users", "show", name)


def test_the_table_is_readable(cli: Cli, ann: int) -> None:
    headings, _, row = cli.ok("users", "list").stdout.splitlines()

    assert headings.split() == ["id", "username", "emails", "name", "roles", "disabled", "created"]
    assert row.split()[:5] == ["1", "ann", "ann@example.com", "dev", "no"]
    assert row.endswith("Z")


def test_nobody_is_an_empty_list(cli: Cli) -> None:
    assert cli.json("users", "list") == []


# --- set, disable, enable, remove ----------------------------------------------------------------


def test_what_is_given_replaces_what_was_there(cli: Cli, ann: int) -> None:
    cli.ok("users", "set", "ann", "--username", "anna", "--email", "a@x.com", "--role", "ops")
    user = known(cli, ann)

    assert (user.username, user.emails, user.roles) == ("anna", ("a@x.com",), ("ops",))


def test_what_is_not_given_stays(cli: Cli) -> None:
    cli.ok("users", "add", "ann", *EVERYTHING)
    before = known(cli, 1)
    cli.ok("users", "set", "ann", "--name", "Ann")
    after = known(cli, 1)

    assert (after.name, after.emails, after.roles) == ("Ann", before.emails, before.roles)


def test_everything_optional_can_be_removed(cli: Cli) -> None:
    cli.ok("users", "add", "ann", *EVERYTHING, "--account", "a:Acme")
    empty = ("--name", "", "--phone", "", "--external-id", "")
    cli.ok("users", "set", "ann", *empty, "--clear-emails", "--clear-roles", "--clear-accounts")
    user = known(cli, 1)

    assert (user.name, user.phone, user.external_id) == ("", "", "")
    assert (user.emails, user.roles, user.accounts) == ((), (), ())


@pytest.mark.parametrize(
    "args", [[], ["--role", "a", "--clear-roles"], ["--email", "a@x.com", "--clear-emails"]], ids=" ".join
)
def test_a_change_makes_no_sense(cli: Cli, ann: int, args: list[str]) -> None:
    cli.misused("users", "set", "ann", *args)


def test_a_change_that_is_refused_changes_nothing(cli: Cli, ann: int) -> None:
    before = known(cli, ann)

    assert "e-mail" in cli.refused("users", "set", "ann", "--name", "Ann", "--email", "nowhere")
    assert known(cli, ann) == before


def test_a_user_is_disabled_and_enabled(cli: Cli, ann: int) -> None:
    cli.ok("users", "disable", "ann")
    assert known(cli, ann).disabled
    cli.ok("users", "enable", "ann")
    assert not known(cli, ann).disabled


def test_a_removed_user_leaves_nothing(cli: Cli, ann: int) -> None:
    cli.ok("sessions", "create", "--user", "ann")
    cli.ok("api-keys", "create", "--user", "ann", "--name", "ci")

    assert "1 session revoked" in cli.ok("users", "remove", "ann").stderr
    assert find(cli, ann) is None
    assert (cli.json("sessions", "list"), cli.json("api-keys", "list")) == ([], [])


# --- passwords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "left"), [([], 0), (["--keep-sessions"], 1)], ids=["by default", "kept"])
def test_a_new_password_revokes_the_users_sessions(cli: Cli, ann: int, options: list[str], left: int) -> None:
    cli.ok("users", "add", "bob")
    for name in ("ann", "bob"):
        cli.ok("sessions", "create", "--user", name)
    cli.ok("users", "passwd", "ann", "--password-stdin", *options, stdin=PASSWORD)

    assert has_password(cli, ann, PASSWORD)
    assert len(cli.json("sessions", "list", "--user", "ann")) == left
    assert len(cli.json("sessions", "list", "--user", "bob")) == 1


def test_without_a_terminal_a_new_password_comes_from_standard_input(cli: Cli, ann: int) -> None:
    assert "--password-stdin" in cli.misused("users", "passwd", "ann")


def on_a_terminal(cli: Cli, *args: str, typed: dict[str, str]) -> tuple[int, str]:
    """Runs a command whose standard input is a terminal; `typed` are the answers by their questions.

    What is typed before a hidden question is thrown away by it, so each is waited for. Returns the exit
    status, and all that was printed.
    """
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        process_command(*args, "--config", str(cli.config)),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # it has no other terminal to ask on
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        printed = ""
        for question, answer in typed.items():
            while question not in printed and (more := os.read(process.stdout.fileno(), 1000)):
                printed += more.decode()
            os.write(keyboard, answer.encode() + b"\n")
        rest, _ = process.communicate(timeout=PATIENCE)
        os.close(terminal)
        os.close(keyboard)
        return process.returncode, printed + rest.decode()


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_on_a_terminal_a_removal_is_asked_about(cli: Cli, ann: int, answer: str, status: int) -> None:
    result = on_a_terminal(cli, "users", "remove", "ann", typed={"Remove ann (id 1)? [y/N]:": answer})

    assert result[0] == status
    assert (find(cli, ann) is None) is (status == 0)


def test_on_a_terminal_a_removal_that_is_sure_is_not_asked_about(cli: Cli, ann: int) -> None:
    status, printed = on_a_terminal(cli, "users", "remove", "ann", "--yes", typed={})

    assert (status, "?" in printed) == (0, False)
    assert find(cli, ann) is None


@pytest.mark.parametrize(
    ("args", "question"),
    [(["add", "bob"], "Password (empty: none): "), (["passwd", "ann"], "Password: ")],
    ids=["add", "passwd"],
)
def test_on_a_terminal_a_password_is_typed_twice(cli: Cli, ann: int, args: list[str], question: str) -> None:
    typed = {question: PASSWORD, "Repeat for confirmation: ": PASSWORD}
    status, printed = on_a_terminal(cli, "users", *args, typed=typed)

    assert (status, PASSWORD in printed) == (0, False)
    assert has_password(cli, 2 if args[0] == "add" else ann, PASSWORD)


def test_on_a_terminal_a_user_may_be_added_without_a_password(cli: Cli) -> None:
    typed = {"Password (empty: none): ": "", "Repeat for confirmation: ": ""}
    status, printed = on_a_terminal(cli, "users", "add", "ann", typed=typed)

    assert (status, "ann has no password" in printed) == (0, True)


# --- roles ---------------------------------------------------------------------------------------


def test_a_role_gives_exactly_the_permissions_that_were_set(cli: Cli, ann: int) -> None:
    cli.ok("roles", "set", "dev", "--permission", "old")
    assert cli.json("roles", "set", "dev", "--permission", "write", "--permission", "read") == {
        "name": "dev",
        "permissions": ["read", "write"],
    }

    assert known(cli, ann).permissions == ("read", "write")


def test_a_role_that_was_never_set_is_listed_too(cli: Cli, ann: int) -> None:
    assert cli.json("roles", "list") == [{"name": "dev", "permissions": []}]


@pytest.mark.parametrize(
    "args", [["", "--permission", "a"], ["dev", "--permission", "a\n"]], ids=["role", "permission"]
)
def test_a_role_is_refused_for_its(cli: Cli, args: list[str]) -> None:
    cli.refused("roles", "set", *args)

    assert cli.json("roles", "list") == []
