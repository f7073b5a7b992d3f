"""What may be a name, and that what is refused changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.errors import InvalidValue
from sidecar.names import (
    LONGEST,
    check_email,
    check_label,
    check_name,
    check_phone,
    check_user,
    check_username,
)
from sidecar.records import Account, NewUser, UserChange

Check = Callable[[str], None]


def check_role(value: str) -> None:
    check_label(value, "a role")


CHECKS: dict[str, Check] = {
    "user name": check_username,
    "e-mail": check_email,
    "phone": check_phone,
    "name": check_name,
    "role": check_role,
}

GOOD = [
    ("user name", "ann"),
    ("user name", "Änn Öl-Müller, Jr. 100%"),
    ("user name", "ann@example.com"),
    ("user name", "7of9"),
    ("user name", "a" * LONGEST),
    ("e-mail", "ann@example.com"),
    ("e-mail", "o'hara+tag@bücher.example"),
    ("phone", "+49 (0)30 123-45/6."),
    ("name", "Ann, née 山田"),
    ("role", "admin:write, all"),
    ("role", " "),
]

ON_ALL = {
    "nothing": "",
    "a line feed": "a\nb",
    "a carriage return": "a\rb",
    "a NUL": "a\0b",
    "an escape": "a\x1b[31m",
    "a C1 control": "a\x85b",
    "a line separator": "a\u2028b",
    "a lone surrogate": "a\udcffb",
    "too many characters": "a" * (LONGEST + 1),
}
BAD = [(kind, what, value) for kind in CHECKS for what, value in ON_ALL.items()] + [
    ("user name", "a space before it", " ann"),
    ("user name", "a no-break space behind it", "ann\u00a0"),
    ("user name", "digits alone", "17"),
    ("user name", "digits of another script alone", "٣"),
    ("name", "a space behind it", "Ann "),
    ("e-mail", "no @", "ann"),
    ("e-mail", "two @", "a@b@c"),
    ("e-mail", "nothing before the @", "@example.com"),
    ("e-mail", "nothing behind the @", "ann@"),
    ("e-mail", "a space", "ann @example.com"),
    ("phone", "letters", "call me"),
]


@pytest.mark.parametrize(("kind", "value"), GOOD, ids=[f"{kind}: {value[:30]}" for kind, value in GOOD])
def test_it_is_good(kind: str, value: str) -> None:
    CHECKS[kind](value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(kind, value) for kind, _, value in BAD],
    ids=[f"{kind}: {what}" for kind, what, _ in BAD],
)
def test_it_is_refused_in_one_printable_line(kind: str, value: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        CHECKS[kind](value)

    assert str(refused.value).isprintable()


PRIMARY = (Account("a", "A", primary=True), Account("b", "B", primary=True))
USERS = {
    "a bad user name": (NewUser(""), "user name"),
    "a bad new user name": (UserChange(username=" "), "user name"),
    "a bad address": (NewUser("ann", ("ann",)), "e-mail"),
    "an address in two spellings": (NewUser("ann", ("a@x.com", "A@x.com")), "twice"),
    "a bad name": (NewUser("ann", name="a\n"), "a name"),
    "a bad phone": (NewUser("ann", phone="x"), "phone"),
    "a bad external id": (NewUser("ann", external_id="\0"), "external id"),
    "a bad role": (NewUser("ann", roles=("",)), "a role"),
    "an account without an id": (NewUser("ann", accounts=(Account("", "A"),)), "account's id"),
    "an account without a name": (NewUser("ann", accounts=(Account("a", ""),)), "account's name"),
    "an account twice": (NewUser("ann", accounts=(Account("a", "A"), Account("a", "B"))), "twice"),
    "two primary accounts": (NewUser("ann", accounts=PRIMARY), "primary"),
}


@pytest.mark.parametrize(("user", "message"), USERS.values(), ids=USERS)
def test_a_user_is_refused_with(user: NewUser | UserChange, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        check_user(user)


@pytest.mark.parametrize(
    "user", [NewUser("ann"), UserChange(), UserChange(phone="", name="", external_id="")]
)
def test_what_a_user_need_not_have_may_be_empty(user: NewUser | UserChange) -> None:
    check_user(user)
