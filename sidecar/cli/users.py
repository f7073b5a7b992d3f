"""`sidecar users`: local users."""

from __future__ import annotations

import sys
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, TypeVar

import click

from sidecar.cli.output import Moment, Record, count, json_option, print_list, print_one, remark
from sidecar.cli.running import BY, administering, administering_new_store, with_services
from sidecar.cli.values import ACCOUNT_METAVAR, account, find_user
from sidecar.errors import InvalidValue
from sidecar.names import check_user
from sidecar.records import Account, NewUser, User, UserChange

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sidecar.app import Services

C = TypeVar("C", bound="Callable[..., Any]")
T = TypeVar("T")

_FIELDS = (
    click.option("--email", "emails", multiple=True, help="May sign in by it. Repeat it for more."),
    click.option("--name", help="As people read it."),
    click.option("--phone", help="A phone number that no other user has."),
    click.option("--external-id", help="The user's id in another system."),
    click.option("--role", "roles", multiple=True, help="Repeat it for more."),
    click.option(
        "--account",
        "accounts",
        type=account,
        multiple=True,
        metavar=ACCOUNT_METAVAR,
        help="An account (tenant) that the user belongs to. Repeat it for more.",
    ),
)

_password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input: one line."
)
_name_argument = click.argument("name", metavar="NAME")


def _field_options(command: C) -> C:
    for option in reversed(_FIELDS):
        command = option(command)
    return command


@click.group()
def users() -> None:
    """Local users. NAME is a user's id, user name or e-mail address."""


# --- add, list, show -----------------------------------------------------------------------------


@users.command("add")
@click.argument("username", metavar="NAME")
@_field_options
@_password_stdin_option
@json_option
@administering_new_store
async def add(
    services: Services,
    *,
    username: str,
    emails: tuple[str, ...],
    name: str | None,
    phone: str | None,
    external_id: str | None,
    roles: tuple[str, ...],
    accounts: tuple[Account, ...],
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Add a user. On a terminal it asks for the password; empty: the user has none."""
    new = NewUser(username, emails, phone or "", name or "", external_id or "", roles, accounts)
    check_user(new)
    password = _optional_password(from_stdin=password_stdin)
    if password:
        new = replace(new, password_hash=await _hash(services, password))
    added = await services.store.users.add(new, now=services.clock.now(), by=BY)
    print_one(_record(added), as_json=as_json)
    if not password:
        remark(f"{username} has no password: set one with `sidecar users passwd`")


@users.command("list")
@json_option
@with_services
async def list_users(services: Services, *, as_json: bool) -> None:
    """List the users."""
    found = await services.store.users.list()
    columns = ("id", "username", "emails", "name", "roles", "disabled", "created_at")
    print_list([_record(user) for user in found], columns, as_json=as_json)


@users.command("show")
@_name_argument
@json_option
@with_services
async def show(services: Services, *, name: str, as_json: bool) -> None:
    """Show all of a user."""
    print_one(_record(await find_user(services.store.users, name)), as_json=as_json)


def _record(user: User) -> Record:
    return {
        "id": user.id,
        "username": user.username,
        "emails": user.emails,
        "name": user.name,
        "phone": user.phone,
        "external_id": user.external_id,
        "roles": user.roles,
        "permissions": user.permissions,
        "accounts": user.accounts,
        "disabled": user.disabled,
        "created_at": Moment(user.created_at),
        "created_by": user.created_by,
        "updated_at": Moment(user.updated_at),
        "updated_by": user.updated_by,
    }


# --- set, disable, enable, remove ----------------------------------------------------------------


@users.command("set")
@click.argument("user", metavar="NAME")
@click.option("--username", help="A new user name.")
@_field_options
@click.option("--clear-emails", is_flag=True, help="No e-mail addresses any more.")
@click.option("--clear-roles", is_flag=True, help="No roles any more.")
@click.option("--clear-accounts", is_flag=True, help="No accounts any more.")
@administering
async def set_user(
    services: Services,
    *,
    user: str,
    username: str | None,
    emails: tuple[str, ...],
    name: str | None,
    phone: str | None,
    external_id: str | None,
    roles: tuple[str, ...],
    accounts: tuple[Account, ...],
    clear_emails: bool,
    clear_roles: bool,
    clear_accounts: bool,
) -> None:
    """Change a user. What is given replaces what was there, a list as a whole.

    An empty --name, --phone or --external-id removes it.
    """
    change = UserChange(
        username,
        _replacement("email", emails, clear=clear_emails),
        phone,
        name,
        external_id,
        _replacement("role", roles, clear=clear_roles),
        _replacement("account", accounts, clear=clear_accounts),
    )
    if all(value is None for value in astuple(change)):
        raise click.UsageError("Nothing to change: give an option.")
    check_user(change)
    await _change(services, user, change, "changed")


@users.command("disable")
@_name_argument
@administering
async def disable(services: Services, *, name: str) -> None:
    """Disable a user. Their sessions and keys are refused from now on, and their password."""
    await _change(services, name, UserChange(disabled=True), "disabled")


@users.command("enable")
@_name_argument
@administering
async def enable(services: Services, *, name: str) -> None:
    """Enable a user again. Sessions and keys that are still alive work as before."""
    await _change(services, name, UserChange(disabled=False), "enabled")


@users.command("remove")
@_name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@administering
async def remove(services: Services, *, name: str, yes: bool) -> None:
    """Remove a user with their sessions and API keys. On a terminal it asks first."""
    user = await find_user(services.store.users, name)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {user.username} (id {user.id})?", abort=True, err=True)
    await services.store.users.remove(user.id)
    ended = await services.store.sessions.revoke_user(user.id)
    remark(f"{user.username} removed, {count(ended, 'session')} revoked")


def _replacement(option: str, given: tuple[T, ...], *, clear: bool) -> tuple[T, ...] | None:
    """The list to store; None leaves the one that is there."""
    if given and clear:
        raise click.UsageError(f"--{option} and --clear-{option}s contradict each other.")
    return given if given or clear else None


async def _change(services: Services, name: str, change: UserChange, what: str) -> None:
    user = await find_user(services.store.users, name)
    changed = await services.store.users.change(user.id, change, now=services.clock.now(), by=BY)
    remark(f"{changed.username} {what}")


# --- passwords -----------------------------------------------------------------------------------


@users.command("passwd")
@_name_argument
@click.option("--keep-sessions", is_flag=True, help="The user stays signed in elsewhere.")
@_password_stdin_option
@administering
async def passwd(services: Services, *, name: str, keep_sessions: bool, password_stdin: bool) -> None:
    """Set a user's password, and revoke their sessions. On a terminal it asks for the password."""
    user = await find_user(services.store.users, name)
    hashed = await _hash(services, _required_password(from_stdin=password_stdin))
    await services.store.users.set_password_hash(user.id, hashed, now=services.clock.now(), by=BY)
    # Afterwards, so that nobody signs in with the old password in between.
    ended = 0 if keep_sessions else await services.store.sessions.revoke_user(user.id)
    remark(f"{user.username} has a new password, {count(ended, 'session')} revoked")


async def _hash(services: Services, password: str) -> str:
    from sidecar.passwords import check_new_password

    check_new_password(password)
    return await services.passwords.hash(password)


def _optional_password(*, from_stdin: bool) -> str:
    """The password for a new user; empty for none, which standard input cannot say."""
    if not from_stdin and not sys.stdin.isatty():
        return ""
    if not from_stdin:
        return _asked("Password (empty: none)", default="")
    return _required_password(from_stdin=True)


def _required_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return _password_from_stdin()
    if not sys.stdin.isatty():
        raise click.UsageError("Standard input is no terminal to ask on: use --password-stdin.")
    return _asked("Password")


def _asked(prompt: str, default: str | None = None) -> str:
    """What is typed twice, unseen."""
    password: str = click.prompt(
        prompt, default=default, show_default=False, hide_input=True, confirmation_prompt=True, err=True
    )
    return password


def _password_from_stdin() -> str:
    """One line, whatever the terminal's encoding: passwords are UTF-8 in requests too."""
    given = sys.stdin.buffer.read()
    try:
        password = given.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidValue("the password on standard input is not UTF-8 text") from None
    if not password:
        raise InvalidValue("there is no password on standard input")
    if "\n" in password:
        raise InvalidValue("standard input has more than one line: a password is one")
    return password
