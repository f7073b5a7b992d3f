"""The values that a check is made of, from the bytes of a request to the bytes of an answer.

All of them are frozen; what is made anew for every check is a NamedTuple, which is made in a third of a
frozen dataclass's time. Times are seconds since the epoch (UTC), as floats. Whatever holds a secret keeps it
out of its `repr`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import Literal, NamedTuple

from sidecar.errors import (
    Overloaded,
    RequestRefused,
    StoreUnavailable,
    Throttled,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from sidecar.records import Account, ApiKey, Session, User, primary_account

IPAddress = IPv4Address | IPv6Address
HeaderLines = Sequence[tuple[bytes, bytes]]

UNIX_PEER = "unix"
"""The peer of a connection over a unix socket, which has no address."""


class Reason(StrEnum):
    """Why a check was decided as it was: the log field, the metric label and `X-Auth-Reason`."""

    AUTHENTICATED = "authenticated"
    PUBLIC = "public"
    PREFLIGHT = "preflight"

    UNTRUSTED_PROXY = "untrusted_proxy"
    MISSING_METADATA = "missing_metadata"
    REPEATED_METADATA = "repeated_metadata"
    BAD_METHOD = "bad_method"
    BAD_SCHEME = "bad_scheme"
    BAD_HOST = "bad_host"
    BAD_URL = "bad_url"
    AMBIGUOUS_PATH = "ambiguous_path"
    BAD_CLIENT_ADDRESS = "bad_client_address"

    NO_RULE = "no_rule"
    RULE_DENIES = "rule_denies"

    NO_CREDENTIAL = "no_credential"
    MALFORMED_CREDENTIAL = "malformed_credential"
    UNKNOWN_CREDENTIAL = "unknown_credential"
    INVALID_TOKEN = "invalid_token"
    UNKNOWN_SESSION = "unknown_session"
    SESSION_EXPIRED = "session_expired"
    UNKNOWN_KEY = "unknown_key"
    KEY_EXPIRED = "key_expired"
    USER_DISABLED = "user_disabled"
    WRONG_PASSWORD = "wrong_password"

    APP_DISABLED = "app_disabled"
    MISSING_ROLE = "missing_role"
    MISSING_PERMISSION = "missing_permission"
    MISSING_ACCOUNT = "missing_account"
    MISSING_SCOPE = "missing_scope"
    IDENTITY_TOO_LARGE = "identity_too_large"

    RATE_LIMITED = "rate_limited"
    BANNED = "banned"
    STORE_UNAVAILABLE = "store_unavailable"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


Outage = StoreUnavailable | UpstreamUnavailable | Overloaded


def reason_of(error: Outage | Throttled | UpstreamThrottled) -> Reason:
    """Why nobody knows, or why somebody has to wait."""
    match error:
        case Throttled(reason=reason):
            return reason
        case StoreUnavailable():
            return Reason.STORE_UNAVAILABLE
        case UpstreamUnavailable():
            return Reason.UPSTREAM_UNAVAILABLE
        case UpstreamThrottled():
            return Reason.RATE_LIMITED
        case Overloaded():
            return Reason.OVERLOADED


# --- the request ---------------------------------------------------------------------------------


class Headers:
    """Header lines as they came, names in lower case. Looking one up never picks one of two."""

    __slots__ = ("_by_name", "lines")

    def __init__(self, lines: HeaderLines) -> None:
        self.lines = lines
        self._by_name = dict(lines)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of this header, in the order of its lines."""
        if name not in self._by_name:
            return []
        if len(self._by_name) == len(self.lines):
            return [self._by_name[name]]
        return [value for each, value in self.lines if each == name]

    def optional(self, name: bytes) -> bytes | None:
        """The value, or None where there is no such line. Raises RequestRefused on two lines."""
        if name not in self._by_name:
            return None
        if len(self._by_name) != len(self.lines) and len(self.all(name)) > 1:
            raise RequestRefused(Reason.REPEATED_METADATA, f"{name.decode('ascii')} is there twice")
        return self._by_name[name]

    def only(self, name: bytes) -> bytes:
        """The value of a header that must be there once, with a value; else RequestRefused."""
        value = self.optional(name)
        if not value:
            raise RequestRefused(Reason.MISSING_METADATA, f"{name.decode('ascii')} is missing, or empty")
        return value


class CheckRequest(NamedTuple):
    """A proxy's question, as it came: the peer's address (or UNIX_PEER), method, target, headers.

    `target` is empty for a gateway that does not tell in it what was asked.
    """

    peer: str
    method: str
    target: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Host:
    """A host as rules compare it: lower case, no trailing dot, the port that is really meant."""

    name: str
    port: int


class RequestPath(NamedTuple):
    """A path decoded once, with `//` merged and dot segments resolved.

    `split` is the second reading, where an encoded slash separates segments; None where the path
    has no encoded slash and can be read one way only.
    """

    text: str
    split: str | None = None


class Asked(NamedTuple):
    """What a client asks a proxy for, byte for byte. `target` is what it puts into the request line."""

    method: bytes
    scheme: bytes
    host: bytes
    target: bytes


class Question(NamedTuple):
    """A check, as a proxy asks it: the request line, Host, and the header lines that say what was asked."""

    target: bytes
    lines: HeaderLines
    method: bytes = b"GET"
    host: bytes = b"sidecar"


class UrlPlace(NamedTuple):
    """Where in the bytes of a check a gateway says which URL was asked for.

    In the line `header`, or, where that is empty, in the target behind the check's own path. `begins` is what
    stands right before it, in each of the spellings that gateways use, and `ends` what stands right behind.
    `names_host`: whether it is absolute.
    """

    header: bytes
    begins: tuple[bytes, ...]
    ends: bytes
    names_host: bool


class OriginalRequest(NamedTuple):
    """What the client asked the proxy for. `url` is the address as the client would repeat it."""

    method: str
    scheme: str
    host: Host
    path: RequestPath
    client: IPAddress
    url: str


# --- the credential ------------------------------------------------------------------------------


class Form(StrEnum):
    """The forms in which a credential arrives; a rule's `credentials` lists these."""

    COOKIE = "cookie"
    BEARER = "bearer"
    BASIC = "basic"
    API_KEY = "api_key"


class Credential(NamedTuple):
    """One credential as presented. `value` is the cookie's value, the token, the key, or what
    follows `Basic `.

    Cookies of another system's session have `names` (`a; b`), and a value as a Cookie header carries them
    (`a=1; b=2`); for our own session's cookie `names` is empty.
    """

    form: Form
    value: bytes
    names: bytes = b""

    def __repr__(self) -> str:
        return f"Credential(form={self.form!r})"


# --- who it is -----------------------------------------------------------------------------------


class Identity(NamedTuple):
    """Who stands behind a credential. An absent field is empty, never a placeholder."""

    subject: str
    method: str
    user_id: int | None = None
    username: str = ""
    email: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    scopes: tuple[str, ...] = ()
    session_id: str = ""
    key_id: str = ""
    issuer: str = ""
    number: int | None = None
    expires_at: float = inf

    @property
    def numeric_id(self) -> int:
        """The id where ids are integers: a local user's own, or what their source says it is.

        Of any other subject 2^52 and the first 52 bits of SHA-256 of issuer, NUL and subject: always the
        same, and never a local user's.
        """
        if self.user_id is not None:
            return self.user_id
        if self.number is not None:
            return self.number
        digest = sha256(f"{self.issuer}\0{self.subject}".encode()).digest()
        return (1 << 52) + (int.from_bytes(digest[:7]) >> 4)

    @property
    def account(self) -> str:
        """The id of the primary account; of the first one where none is primary."""
        account = primary_account(self.accounts)
        return "" if account is None else account.id

    @classmethod
    def of_user(
        cls,
        user: User,
        method: str,
        *,
        scopes: tuple[str, ...] = (),
        session_id: str = "",
        key_id: str = "",
        expires_at: float = inf,
    ) -> Identity:
        """A local user: the subject is the user's id in decimal."""
        return cls(
            subject=str(user.id),
            method=method,
            user_id=user.id,
            username=user.username,
            email=user.email,
            name=user.name,
            roles=user.roles,
            permissions=user.permissions,
            accounts=user.accounts,
            scopes=scopes,
            session_id=session_id,
            key_id=key_id,
            expires_at=expires_at,
        )


@dataclass(slots=True)
class Usage:
    """When a session or a key was last used, as this process knows it.

    The one value here that changes: every check of a session shares its usage, so that one of many
    concurrent checks writes it down, and a use that could not be written is not lost.
    """

    id: str
    kind: Literal["session", "api_key", "access_key"]
    last_used_at: float
    apps: frozenset[str] = frozenset()
    apps_not_before: float = 0.0
    """When a first use in an app is tried again, after the store could not write it."""
    owes_cookie: bool = False
    """Whether it was extended by a token's use, and the browser's cookie not refreshed since."""
    notes_under_way: int = 0
    """Notes that are being written: what comes of them, a cookie may be owed by."""


class Verified(NamedTuple):
    """An authenticator's answer: the credential is mine, and good.

    It is true until the identity's `expires_at`, while it is used at least every `idle_timeout`
    seconds, and may be remembered for `cacheable` seconds. Of a local user, `user` is whose it is, as the
    store had them, and `source` what the credential opens. `cookies` are Set-Cookie values that another
    system wants the client to have now.
    """

    identity: Identity
    user: User | None = None
    source: Session | ApiKey | None = None
    usage: Usage | None = None
    idle_timeout: float = inf
    cacheable: float = inf
    cookies: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Verified {self.identity!r}>"


@dataclass(frozen=True, slots=True)
class Rejected:
    """An authenticator's answer: the credential is mine, and it is bad."""

    reason: Reason


# --- the answer ----------------------------------------------------------------------------------


class Grounds(NamedTuple):
    """What an answer rests on, beside the request itself: as long as it holds, the answer is the same.

    Any request has this answer whose URL leads to the same `target` (the rule, and whatever else of the URL
    is in the answer) and that is the same in all else that a check reads. Which target a URL leads to depends
    on what is in `original`, and of the client on `client_class` alone.

    It holds before `until`, and while what was read of this user in this `generation` of the revocations is
    true. `credential` is whose memory it takes.
    """

    original: OriginalRequest
    client_class: str
    target: Hashable
    generation: int
    until: float = inf
    user_id: int | None = None
    credential: Credential | None = None


class Allow(NamedTuple):
    """It may pass. `headers` are the identity headers, complete; `cookies` the Set-Cookie values.

    With `grounds` it may be given again.
    """

    reason: Reason
    identity: Identity | None
    headers: HeaderLines
    cookies: tuple[bytes, ...] = ()
    grounds: Grounds | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """Not signed in. `login_url` is set for a browser's navigation only."""

    reason: Reason
    login_url: str | None = None
    schemes: tuple[str, ...] = ("Bearer",)


@dataclass(frozen=True, slots=True)
class Deny:
    """Signed in, or irrelevant: it may not pass, and signing in again would not help.

    `cookies` are Set-Cookie values that another system wants the client to have all the same.
    """

    reason: Reason
    cookies: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Malformed:
    """The question can be read in no way, or in more than one. `why` is for the operator alone."""

    reason: Reason
    why: str = ""


@dataclass(frozen=True, slots=True)
class Limited:
    """Too many attempts; `retry_after` in seconds."""

    reason: Reason
    retry_after: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody knows: something that must be asked failed. `why` is for the operator alone."""

    reason: Reason
    why: str = ""


Decision = Allow | Challenge | Deny | Malformed | Limited | Unavailable


class CheckResponse(NamedTuple):
    """An answer as the proxy understands it."""

    status: int
    headers: HeaderLines
    body: bytes = b""
