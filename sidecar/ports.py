"""What the parts need of one another, as protocols. The parts know these, never each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sidecar.model import (
    Asked,
    CheckRequest,
    CheckResponse,
    Credential,
    Decision,
    Form,
    IPAddress,
    OriginalRequest,
    Question,
    Rejected,
    UrlPlace,
    Verified,
)
from sidecar.records import (
    AccessKey,
    ApiKey,
    App,
    Changes,
    Counter,
    NewUser,
    Role,
    Session,
    SigningKey,
    User,
    UserChange,
)


class Clock(Protocol):
    """The one source of time."""

    def now(self) -> float:
        """Seconds since the epoch. Never goes backwards within a process."""

    def monotonic(self) -> float:
        """Seconds since some moment, for durations."""


class Gateway(Protocol):
    """One proxy's way to ask, and the answers that it understands."""

    name: str
    takes_targets: bool
    """Whether what was asked for stands behind the endpoint's own path, in the same line."""
    reads: frozenset[bytes]
    """The names of the header lines that `parse` reads."""
    url: UrlPlace

    def question(self, asked: Asked) -> Question:
        """How this proxy asks about a client's request; `parse` reads it back."""

    def parse(self, request: CheckRequest, client_ip_hops: int) -> OriginalRequest:
        """The proxied request. Raises RequestRefused where it can be read in no way or in two."""

    def render(self, decision: Decision) -> CheckResponse:
        """The answer to a decision."""


class Authenticator(Protocol):
    """Says who stands behind a credential."""

    name: str
    forms: frozenset[Form]
    cookies: tuple[bytes, ...]
    """Names of another system's cookies, which together are one credential. Our own session's needs none."""

    async def authenticate(self, credential: Credential, client: IPAddress) -> Verified | Rejected | None:
        """None: not mine. `client` is where it comes from, for limits.

        Raises StoreUnavailable, UpstreamUnavailable, Overloaded, Throttled, UpstreamThrottled.
        """


class CookieReader(Protocol):
    """Says whose session a cookie is, wherever it comes from."""

    async def of_cookie(self, secret: bytes) -> Verified | Rejected:
        """Raises StoreUnavailable."""


class ById(Protocol):
    """Says whose credential has this id, which opens nothing itself."""

    async def by_id(self, credential_id: str) -> Verified | Rejected:
        """Raises StoreUnavailable."""


# --- stores --------------------------------------------------------------------------------------
#
# Every method may raise StoreUnavailable. What changes a user, a role, an app or a key, or ends a
# session, also appears in `ChangeFeed.since`, in the same transaction.


class ChangeFeed(Protocol):
    """What changed, in order; how caches learn of a revocation."""

    async def since(self, position: int) -> Changes:
        """The changes after `position` (a `Changes.latest`); 0 for the first look."""


class Users(Protocol):
    """Where a user is found by id."""

    async def find(self, user_id: int) -> User | None: ...


class UserStore(Users, Protocol):
    """Users, their passwords, and the roles that they may have.

    A username and an e-mail address are compared without regard to case, and no two users share one:
    what somebody types into a sign-in form names one user at most.
    """

    async def add(self, user: NewUser, *, now: float, by: str) -> User:
        """Raises Conflict where the username, an e-mail, phone or external id is taken."""

    async def find_by_sign_in_name(self, name: str) -> User | None:
        """The user with this username or e-mail address."""

    async def find_by(self, field: str, value: str) -> User | None:
        """The user with this `username`, `email`, `phone` or `external_id`."""

    async def list(self) -> Sequence[User]: ...

    async def change(self, user_id: int, change: UserChange, *, now: float, by: str) -> User:
        """Raises NotFound, Conflict."""

    async def remove(self, user_id: int) -> None:
        """Also removes the user's API keys. Raises NotFound."""

    async def password_hash(self, user_id: int) -> str:
        """Empty where the user has no password or does not exist."""

    async def set_password_hash(self, user_id: int, password_hash: str, *, now: float, by: str) -> None:
        """A changed password, and so a revocation. Raises NotFound."""

    async def rehash_password(self, user_id: int, old: str, new: str) -> None:
        """The same password under other parameters; nothing where the hash is no longer `old`."""

    async def set_role(self, role: Role) -> None:
        """Replaces the role's permissions."""

    async def roles(self) -> Sequence[Role]:
        """Every role that was set or that a user has."""


class SessionStore(Protocol):
    """Live sessions, by id."""

    async def add(self, session: Session) -> None: ...

    async def find(self, session_id: str) -> Session | None: ...

    async def list(self, user_id: int | None = None) -> Sequence[Session]: ...

    async def touch(self, session_id: str, *, now: float, unused_since: float, app: str = "") -> bool:
        """Notes a use: `last_used_at` where it is `unused_since` or before, and the first use of `app`.

        True where `last_used_at` was written: of several callers at once, one gets True. A write that
        may be lost when the power fails. Never waits long for another writer: StoreUnavailable.
        """

    async def revoke(self, session_ids: Iterable[str]) -> int:
        """The number of sessions that were ended; ids that do not exist are passed over."""

    async def revoke_user(self, user_id: int) -> int: ...

    async def revoke_all(self) -> int: ...

    async def purge(self, *, now: float, unused_since: float) -> int:
        """Deletes what expired by `now`, or was last used at `unused_since` or before."""


class ApiKeyStore(Protocol):
    """Keys of users, by id."""

    async def add(self, key: ApiKey) -> None:
        """Raises NotFound where the user does not exist."""

    async def find(self, key_id: str) -> ApiKey | None: ...

    async def list(self, user_id: int | None = None) -> Sequence[ApiKey]: ...

    async def touch(self, key_id: str, *, now: float, unused_since: float) -> bool:
        """As SessionStore.touch."""

    async def revoke(self, key_ids: Iterable[str]) -> int: ...

    async def purge(self, *, now: float) -> int: ...


class AccessKeyStore(Protocol):
    """Keys of management clients, by id."""

    async def add(self, key: AccessKey) -> None: ...

    async def find(self, key_id: str) -> AccessKey | None: ...

    async def list(self) -> Sequence[AccessKey]: ...

    async def touch(self, key_id: str, *, now: float, unused_since: float) -> bool:
        """As SessionStore.touch."""

    async def revoke(self, key_ids: Iterable[str]) -> int: ...

    async def purge(self, *, now: float) -> int: ...


class AppStore(Protocol):
    """Applications that rules name."""

    async def add(self, app: App) -> None:
        """Raises Conflict where the id is taken."""

    async def find(self, app_id: str) -> App | None: ...

    async def list(self) -> Sequence[App]: ...

    async def set_disabled(self, app_id: str, disabled: bool) -> None:
        """Raises NotFound."""


class SigningKeyStore(Protocol):
    """Keys that tokens are signed with."""

    async def list(self, *, now: float) -> Sequence[SigningKey]:
        """Those that still verify at `now`, the signing one first."""

    async def add_first(self, key: SigningKey) -> None:
        """Adds the key unless there is a signing one already, whoever was first."""

    async def rotate(self, key: SigningKey, *, verifies_until: float) -> None:
        """Makes `key` the signing one; the one before verifies until then."""

    async def purge(self, *, now: float) -> int: ...


class NonceStore(Protocol):
    """Marks on what may be used once. All processes share them, and they outlive every process."""

    async def use(self, nonce: str, *, now: float, expires_at: float) -> bool:
        """Marks the nonce until `expires_at`; False where it has a mark that did not expire by `now`.

        `expires_at` is the first moment at which what carries the nonce is refused anyway. Of several callers
        at once, one gets True. Never waits long for another writer: StoreUnavailable, and then nobody knows
        whether there is a mark. One may be lost when the power fails.
        """

    async def purge(self, *, now: float) -> int:
        """Deletes what expired by `now`."""


class CounterStore(Protocol):
    """Counts in windows of time. All processes share them, and they outlive every process.

    No method waits long for another writer: StoreUnavailable, and then nothing was written. A count may be
    lost when the power fails.
    """

    async def add(self, key: str, *, now: float, ends_at: float, amount: int = 1) -> Counter:
        """Counts in the key's window, and says what is then in it.

        A window that is over by `now` begins anew. It ends at `ends_at`, or earlier where it has begun
        before: a clock that was ahead leaves no window that is longer than others.
        """

    async def find(self, key: str, *, now: float) -> Counter | None:
        """The key's window, where it is not over by `now`."""

    async def list(self, prefix: str, *, now: float) -> Sequence[Counter]:
        """Those of all keys that begin like this, in the order of their ends. Reads all that there is."""

    async def put(self, counters: Iterable[Counter]) -> None:
        """Replaces what there is of these keys."""

    async def clear(self, keys: Iterable[str]) -> int:
        """Forgets these keys; how many there were."""

    async def purge(self, *, now: float) -> int:
        """Deletes what is over by `now`."""


class Store(Protocol):
    """All that one database keeps."""

    users: UserStore
    sessions: SessionStore
    api_keys: ApiKeyStore
    access_keys: AccessKeyStore
    apps: AppStore
    signing_keys: SigningKeyStore
    nonces: NonceStore
    counters: CounterStore
    changes: ChangeFeed

    async def check(self) -> None:
        """Returns where the store can be read; else raises StoreUnavailable."""

    async def secret(self, name: str) -> bytes:
        """The 256 random bits kept under this name; made at the first call, the same for all callers."""

    async def backup(self, target: str) -> None:
        """Writes a consistent copy to a new file of mode 0600. Raises InvalidValue where it exists."""

    async def close(self) -> None: ...
