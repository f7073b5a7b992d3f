"""What arguments mean: durations, accounts, and the names of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.errors import InvalidValue, NotFound
from sidecar.records import Account

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.ports import UserStore
    from sidecar.records import User

NAMING = "the id, name or e-mail address"
ACCOUNT_METAVAR = "ID:NAME[:admin][:primary]"

_ACCOUNT_FLAGS = ("admin", "primary")
_LONGEST_ID = 18  # digits: as many as any store's integers have


def duration(text: str) -> float:
    """Seconds, from the way that settings write them. Raises BadParameter."""
    from pydantic import TypeAdapter, ValidationError

    from sidecar.settings.types import Duration

    try:
        seconds: float = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    return seconds


def account(text: str) -> Account:
    """`ID:NAME[:admin][:primary]`, where the name may have colons in it. Raises BadParameter."""
    account_id, separator, rest = text.partition(":")
    if not separator:
        raise click.BadParameter(f"an account is written {ACCOUNT_METAVAR}, not {text!r}")
    name, *flags = rest.split(":")
    given = set()
    while flags and flags[-1] in _ACCOUNT_FLAGS:
        given.add(flags.pop())
    return Account(account_id, ":".join([name, *flags]), "admin" in given, "primary" in given)


ttl_option = click.option(
    "--ttl", type=duration, metavar="DURATION", help='How long it lives: "90s", "12h", "30d".'
)
name_option = click.option("--name", required=True, help="What it is for; shown in lists.")
owner_option = click.option("--user", required=True, metavar="NAME", help=f"Whose it is: {NAMING}.")
of_user_option = click.option("--user", metavar="NAME", help=f"Only this user's: {NAMING}.")
ids_argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")


def expiry(now: float, ttl: float | None) -> float | None:
    """When something made now ends; None is never."""
    return None if ttl is None else now + ttl


async def find_user(users: UserStore, name: str) -> User:
    """The user with this id, user name or e-mail address. Raises NotFound.

    No user name is made of digits alone, so that nobody's name is another one's id.
    """
    is_id = name.isascii() and name.isdecimal() and len(name) <= _LONGEST_ID
    user = await (users.find(int(name)) if is_id else users.find_by_sign_in_name(name))
    if user is None:
        raise NotFound(f"there is no user {name!r}")
    return user


async def find_enabled_user(users: UserStore, name: str) -> User:
    """The same, for something that a disabled user does not get. Raises NotFound, InvalidValue."""
    user = await find_user(users, name)
    if user.disabled:
        raise InvalidValue(f"the user {user.username!r} is disabled: enable them first")
    return user


async def usernames(users: UserStore, only: User | None) -> Mapping[int, str]:
    """The names of all users by id, or of one: lists say whose something is."""
    return {user.id: user.username for user in ([only] if only else await users.list())}
