"""What arguments mean: durations, accounts, and the names of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.errors import InvalidValue, NotFound
from sidecar.model import Account

if TYPE_CHECKING:
    from sidecar.model import User
    from sidecar.ports import UserStore

_ACCOUNT_FLAGS = ("admin", "primary")
_LONGEST_ID = 18  # digits: as many as any store's integers have


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, from the way that settings write them."""
        from pydantic import TypeAdapter, ValidationError

        from sidecar.settings.types import Duration

        try:
            seconds: float = TypeAdapter(Duration).validate_python(value)
        except ValidationError as error:
            self.fail(error.errors()[0]["msg"].removeprefix("Value error, "), param, ctx)
        return seconds


class _Account(click.ParamType[Account]):
    name = "account"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Account:
        """`ID:NAME[:admin][:primary]`; a name may have colons in it."""
        account_id, separator, rest = str(value).partition(":")
        if not separator:
            self.fail(f"an account is written ID:NAME[:admin][:primary], not {value!r}", param, ctx)
        name, *flags = rest.split(":")
        given = set()
        while flags and flags[-1] in _ACCOUNT_FLAGS:
            given.add(flags.pop())
        return Account(account_id, ":".join([name, *flags]), "admin" in given, "primary" in given)


DURATION = _Duration()
ACCOUNT = _Account()


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
