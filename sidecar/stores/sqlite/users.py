"""The `users` table and those around it as a UserStore."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from itertools import chain, groupby
from operator import itemgetter

from sidecar.errors import Conflict, InvalidValue, NotFound
from sidecar.names import sign_in_key
from sidecar.records import Account, NewUser, Role, User, UserChange
from sidecar.stores.sqlite import changes
from sidecar.stores.sqlite.columns import decoded, encoded
from sidecar.stores.sqlite.database import Database, Row
from sidecar.stores.sqlite.records import run

# One row for each role of a user, and one row for a user without. Always one statement: one snapshot.
_SELECT = """
    SELECT users.id, username, emails, phone, users.name, external_id, accounts, disabled,
        created_at, created_by, updated_at, updated_by, user_roles.role, roles.permissions
    FROM users LEFT JOIN user_roles ON user_id = users.id LEFT JOIN roles ON roles.name = role"""
_ORDER = "ORDER BY users.id, role"

_CLAIMS = {
    "phone": "SELECT id FROM users WHERE phone = ? AND phone <> ''",
    "external_id": "SELECT id FROM users WHERE external_id = ? AND external_id <> ''",
}


def _whose_id_is(expression: str) -> str:
    return f"{_SELECT} WHERE users.id = ({expression}) {_ORDER}"


_BY_ID = _whose_id_is("?")
_BY_SIGN_IN_NAME = _whose_id_is("SELECT user_id FROM sign_in_names WHERE key = ?")


class SqliteUsers:
    """Users, their passwords and roles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user: NewUser, *, now: float, by: str) -> User:
        """Raises Conflict where a name, phone or external id is taken."""
        return await self._database.write("users.add", _add, user, now, by)

    async def find(self, user_id: int) -> User | None:
        """The user with this id."""
        return self._one("users.find", _BY_ID, user_id)

    async def find_by_sign_in_name(self, name: str) -> User | None:
        """The user with this user name or e-mail address, in any spelling."""
        return self._one("users.find_by_sign_in_name", _BY_SIGN_IN_NAME, sign_in_key(name))

    async def find_by(self, field: str, value: str) -> User | None:
        """The user with this `username`, `email`, `phone` or `external_id`."""
        if field in _CLAIMS:
            return self._one("users.find_by", _whose_id_is(_CLAIMS[field]), value)
        if field not in {"username", "email"}:
            raise InvalidValue(f"users are not found by {field!r}")
        user = self._one("users.find_by", _BY_SIGN_IN_NAME, sign_in_key(value))
        if user is None:
            return None
        names = user.emails if field == "email" else (user.username,)
        return user if sign_in_key(value) in map(sign_in_key, names) else None

    async def list(self) -> Sequence[User]:
        """All users, by id. Unbounded, and so for the command line alone."""
        return _users(self._database.rows("users.list", f"{_SELECT} {_ORDER}"))

    async def change(self, user_id: int, change: UserChange, *, now: float, by: str) -> User:
        """Raises NotFound, and Conflict as `add` does."""
        return await self._database.write("users.change", _change, user_id, change, now, by)

    async def remove(self, user_id: int) -> None:
        """Removes the user with their API keys. Raises NotFound."""
        await self._database.write("users.remove", _remove, user_id)

    async def password_hash(self, user_id: int) -> str:
        """Empty where the user has no password or does not exist."""
        sql = "SELECT password_hash FROM users WHERE id = ?"
        rows = self._database.rows("users.password_hash", sql, (user_id,))
        return str(rows[0][0]) if rows else ""

    async def set_password_hash(self, user_id: int, password_hash: str, *, now: float, by: str) -> None:
        """A changed password. Raises NotFound."""
        values = {"hash": password_hash, "now": now, "by": by}
        await self._database.write("users.set_password_hash", _set_password_hash, user_id, values)

    async def rehash_password(self, user_id: int, old: str, new: str) -> None:
        """The same password under other parameters; nothing where the hash is no longer `old`."""
        update = "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?"
        await self._database.write("users.rehash_password", run, update, (new, user_id, old))

    async def set_role(self, role: Role) -> None:
        """Replaces the role's permissions."""
        await self._database.write("users.set_role", _set_role, role)

    async def roles(self) -> Sequence[Role]:
        """Every role that was set or that a user has, by name."""
        sql = """
            SELECT name, permissions FROM roles
            UNION SELECT role, '[]' FROM user_roles WHERE role NOT IN (SELECT name FROM roles)
            ORDER BY 1"""
        rows = self._database.rows("users.roles", sql)
        return [Role(name, tuple(decoded(permissions))) for name, permissions in rows]

    def _one(self, operation: str, sql: str, value: object) -> User | None:
        rows = self._database.rows(operation, sql, (value,))
        return _user(rows) if rows else None


# --- rows ----------------------------------------------------------------------------------------


def _users(rows: Sequence[Row]) -> Sequence[User]:
    return [_user(list(of_one)) for _, of_one in groupby(rows, key=itemgetter(0))]


def _user(rows: Sequence[Row]) -> User:
    """The user in all of their rows; a role that was never set has no permissions."""
    user_id, username, emails, phone, name, external_id, accounts, disabled, *recorded, _, _ = rows[0]
    return User(
        user_id,
        username,
        tuple(decoded(emails)),
        phone,
        name,
        external_id,
        tuple(row[-2] for row in rows if row[-2] is not None),
        tuple(sorted(set(chain.from_iterable(decoded(row[-1]) for row in rows if row[-1] is not None)))),
        tuple(Account(*account) for account in json.loads(accounts)),
        bool(disabled),
        *recorded,
    )


# --- within a transaction ------------------------------------------------------------------------


def _add(connection: sqlite3.Connection, new: NewUser, now: float, by: str) -> User:
    insert = "INSERT INTO users VALUES (NULL, '', '[]', '', '', '', '[]', 0, ?, ?, ?, ?, ?)"
    user_id = connection.execute(insert, (new.password_hash, now, by, now, by)).lastrowid
    user = replace(
        _found(connection, user_id),
        username=new.username,
        emails=new.emails,
        phone=new.phone,
        name=new.name,
        external_id=new.external_id,
        roles=new.roles,
        accounts=new.accounts,
    )
    return _save(connection, user)


def _change(connection: sqlite3.Connection, user_id: int, change: UserChange, now: float, by: str) -> User:
    user = _found(connection, user_id)
    given = {
        field.name: value for field in fields(change) if (value := getattr(change, field.name)) is not None
    }
    changes.record(connection, [user_id])
    return _save(connection, replace(user, **given, updated_at=now, updated_by=by))


def _remove(connection: sqlite3.Connection, user_id: int) -> None:
    if not run(connection, "DELETE FROM users WHERE id = ?", (user_id,)):
        raise _unknown(user_id)
    changes.record(connection, [user_id])


def _set_password_hash(connection: sqlite3.Connection, user_id: int, values: dict[str, object]) -> None:
    update = "UPDATE users SET password_hash = :hash, updated_at = :now, updated_by = :by WHERE id = :id"
    if not run(connection, update, {**values, "id": user_id}):
        raise _unknown(user_id)
    changes.record(connection, [user_id])


def _set_role(connection: sqlite3.Connection, role: Role) -> None:
    upsert = "INSERT INTO roles VALUES (?, ?) ON CONFLICT DO UPDATE SET permissions = excluded.permissions"
    run(connection, upsert, (role.name, encoded(sorted(set(role.permissions)))))
    changes.record(connection, [changes.EVERYBODY])


def _found(connection: sqlite3.Connection, user_id: int | None) -> User:
    rows = connection.execute(_BY_ID, (user_id,)).fetchall()
    if not rows:
        raise _unknown(user_id)
    return _user(rows)


def _unknown(user_id: int | None) -> NotFound:
    return NotFound(f"there is no user {user_id}")


def _save(connection: sqlite3.Connection, user: User) -> User:
    """Writes all of the user but the password; the user as it then reads."""
    _claim(connection, user)
    _claim_sign_in_names(connection, user)
    update = """
        UPDATE users SET username = ?, emails = ?, phone = ?, name = ?, external_id = ?, accounts = ?,
            disabled = ?, updated_at = ?, updated_by = ? WHERE id = ?"""
    named = user.username, encoded(user.emails), user.phone, user.name, user.external_id
    accounts = json.dumps([astuple(account) for account in user.accounts])
    run(connection, update, (*named, accounts, user.disabled, user.updated_at, user.updated_by, user.id))
    run(connection, "DELETE FROM user_roles WHERE user_id = ?", (user.id,))
    roles = [(user.id, role) for role in set(user.roles)]
    connection.executemany("INSERT INTO user_roles VALUES (?, ?)", roles)
    return _found(connection, user.id)


def _claim(connection: sqlite3.Connection, user: User) -> None:
    """Asks instead of waiting for the index to object: the message then says what is taken."""
    for field, select in _CLAIMS.items():
        value = getattr(user, field)
        if connection.execute(f"{select} AND id <> ?", (value, user.id)).fetchone():
            raise Conflict(f"the {field.replace('_', ' ')} {value!r} belongs to another user")


def _claim_sign_in_names(connection: sqlite3.Connection, user: User) -> None:
    run(connection, "DELETE FROM sign_in_names WHERE user_id = ?", (user.id,))
    claim = "INSERT INTO sign_in_names VALUES (?, ?) ON CONFLICT DO NOTHING"
    names = {sign_in_key(name): name for name in (user.username, *user.emails)}
    for key, name in names.items():
        if not run(connection, claim, (key, user.id)):
            raise Conflict(f"{name!r} is another user's name or e-mail address")
