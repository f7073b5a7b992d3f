"""What the store keeps, as its readers see it. Times are seconds since the epoch (UTC), as floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """An account (tenant) that a user belongs to."""

    id: str
    name: str
    admin: bool = False
    primary: bool = False


def primary_account(accounts: Sequence[Account]) -> Account | None:
    """The one that is marked so; else the first, where there is any."""
    return next((account for account in accounts if account.primary), next(iter(accounts), None))


@dataclass(frozen=True, slots=True)
class User:
    """A local user. `roles` and `permissions` are sorted; permissions are the union over the roles.

    `created_by` and `updated_by` name who did it: an e-mail, a user name, or `cli`.
    """

    id: int
    username: str
    emails: tuple[str, ...] = ()
    phone: str = ""
    name: str = ""
    external_id: str = ""
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    disabled: bool = False
    created_at: float = 0.0
    created_by: str = ""
    updated_at: float = 0.0
    updated_by: str = ""

    @property
    def email(self) -> str:
        """The first e-mail address, or nothing."""
        return self.emails[0] if self.emails else ""


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be added; the store gives the id. `password_hash` empty: cannot sign in by password."""

    username: str
    emails: tuple[str, ...] = ()
    phone: str = ""
    name: str = ""
    external_id: str = ""
    roles: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    password_hash: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class UserChange:
    """What to change of a user; None leaves a field as it is."""

    username: str | None = None
    emails: tuple[str, ...] | None = None
    phone: str | None = None
    name: str | None = None
    external_id: str | None = None
    roles: tuple[str, ...] | None = None
    accounts: tuple[Account, ...] | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role and the permissions that it gives."""

    name: str
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser or script. `id` is derived from the secret, and opens nothing."""

    id: str
    user_id: int
    created_at: float
    last_used_at: float
    expires_at: float
    apps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A user's key for scripts. `id` is derived from the key, and opens nothing."""

    id: str
    user_id: int
    name: str
    scopes: tuple[str, ...]
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A management client's key."""

    id: str
    name: str
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class App:
    """An application that rules name and sessions are used in."""

    id: str
    name: str
    disabled: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that tokens are signed with. `private` is PKCS#8 PEM, or the raw secret for HS256.

    The key that signs has `verifies_until` None; a rotated one verifies until then.
    """

    id: str
    algorithm: str
    private: bytes = field(repr=False)
    created_at: float
    verifies_until: float | None = None


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token that the sidecar signed, and the whole seconds between which it is in force."""

    text: str = field(repr=False)
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Counter:
    """What was counted under a key in a window of time, which is over at `ends_at`."""

    key: str
    count: int
    ends_at: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a caller's last look: whose cached identity is no longer true.

    `everybody` where a role, an app or a key changed, or where the caller has fallen too far behind.
    """

    latest: int
    users: frozenset[int] = frozenset()
    everybody: bool = False
