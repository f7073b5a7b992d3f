"""What names and addresses may look like. What passes is stored exactly as given; the rest is refused.

Every check raises InvalidValue, which says what is wrong with which value, and returns nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sidecar.errors import InvalidValue

if TYPE_CHECKING:
    from sidecar.records import Account, NewUser, UserChange

LONGEST = 255

# Line and paragraph separators too: what is listed and logged stays on one line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"[+0-9 ()./-]+")


def sign_in_key(name: str) -> str:
    """What two spellings of one user name or e-mail address have in common."""
    return unicodedata.normalize("NFKC", name).casefold()


def check_username(name: str) -> None:
    """What a user signs in with. Only digits would be taken for a user's id."""
    check_name(name, "a user name")
    if name.isdecimal():
        raise InvalidValue(f"a user name must not be digits alone, which are an id: {name!r}")


def check_email(email: str) -> None:
    """Something on both sides of one @, and no whitespace. Whether it receives mail, nobody knows."""
    check_label(email, "an e-mail address")
    if not _EMAIL.fullmatch(email):
        raise InvalidValue(f"an e-mail address must look like ann@example.com: {email!r}")


def check_phone(phone: str) -> None:
    """Digits, and what people write between them."""
    check_label(phone, "a phone number")
    if not _PHONE.fullmatch(phone):
        raise InvalidValue(f"a phone number must be made of digits, spaces and +()./-: {phone!r}")


def check_name(name: str, what: str = "a name") -> None:
    """A name that people read, of a user, an account, a key or an app. `what` is its name in messages."""
    check_label(name, what)
    if name != name.strip():
        raise InvalidValue(f"{what} must not begin or end with whitespace: {name!r}")


def check_label(label: str, what: str) -> None:
    """A role, a permission, a scope, an id that somebody else gave: anything on one line."""
    if not label:
        raise InvalidValue(f"{what} must not be empty")
    if len(label) > LONGEST:
        raise InvalidValue(f"{what} must have at most {LONGEST} characters, not {len(label)}")
    if _CONTROL.search(label):
        raise InvalidValue(f"{what} must not have control characters or line breaks in it: {label!r}")
    if _SURROGATE.search(label):
        raise InvalidValue(f"{what} must be valid Unicode: {label!r}")


def check_labels(labels: Iterable[str], what: str) -> None:
    """All of them."""
    for label in labels:
        check_label(label, what)


def check_user(user: NewUser | UserChange) -> None:
    """Everything of a new user, or of a change to one. An empty name, phone or external id is none."""
    if user.username is not None:
        check_username(user.username)
    _check_emails(user.emails or ())
    if user.name:
        check_name(user.name)
    if user.phone:
        check_phone(user.phone)
    if user.external_id:
        check_label(user.external_id, "an external id")
    check_labels(user.roles or (), "a role")
    _check_accounts(user.accounts or ())


def _check_emails(emails: tuple[str, ...]) -> None:
    for email in emails:
        check_email(email)
    _refuse_repeated([sign_in_key(email) for email in emails], "an e-mail address")


def _check_accounts(accounts: tuple[Account, ...]) -> None:
    for account in accounts:
        check_label(account.id, "an account's id")
        check_name(account.name, "an account's name")
    _refuse_repeated([account.id for account in accounts], "an account")
    primary = [account.id for account in accounts if account.primary]
    if len(primary) > 1:
        raise InvalidValue(f"at most one account can be primary, not {', '.join(map(repr, primary))}")


def _refuse_repeated(values: list[str], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise InvalidValue(f"{what} is given twice: {value!r}")
