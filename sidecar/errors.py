"""Every error the product raises on purpose.

SidecarError
├── SettingsError            the settings have faults; carries all of them
├── StoreError
│   ├── StoreUnavailable     it cannot be asked now: locked, full, read-only, corrupt, replaced
│   ├── StoreUnusable        it must not be used at all: not our file, a newer schema, no such directory
│   ├── NotFound             the named thing does not exist
│   └── Conflict             the name is taken
├── InvalidValue             a name, key or value that is refused; nothing was changed
│   └── BodyRefused          a request's body that cannot be read
│       └── BodyTooLarge     it is longer than anything that is read
├── RequestRefused           a check that cannot be read; carries the Reason
│   └── CredentialRefused    a credential that cannot be read; carries the Reason
│       └── EmptyCredential  a credential's place is there, and nothing in it
├── QuestionRefused          a question at a product's endpoint; carries the HTTP status
│   └── SignInRefused        a sign-in there, which the audit has already
├── InvalidToken             a token that does not verify
├── UpstreamUnavailable      another system cannot be asked now, or its answer cannot be read
│   ├── UpstreamTimeout      its whole answer was not there in time
│   └── UpstreamNotAsked     it failed a moment ago, or too many are waiting for it
├── UpstreamThrottled        another system wants to be left alone; carries the seconds to wait
├── Overloaded               the bounded queue of a costly job is full
├── Throttled                too many attempts; carries the seconds to wait
├── ListenerError            an address that cannot be listened on
├── WorkerFailed             a worker ended before it served anybody
└── AuditUnusable            a file that the audit cannot be written to

An outage (`StoreUnavailable`, `UpstreamUnavailable`, `Overloaded`) is never turned into a refusal, nor the
other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.model import Reason


class SidecarError(Exception):
    """The root: the command line prints it in one line and exits with 1."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in the settings, and where: `session.lifetime`, `rules[0].paths[1]`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SettingsError(SidecarError):
    """The settings have faults; all of them, never only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class StoreError(SidecarError):
    """Something about the store."""


class StoreUnavailable(StoreError):
    """The store cannot be read or written now. An outage: 503, never 401."""


class StoreUnusable(StoreError):
    """The store must not be used: starting with it would lose or misread data."""


class NotFound(StoreError):
    """What was named does not exist."""


class Conflict(StoreError):
    """The name, e-mail, phone or id belongs to somebody else."""


class InvalidValue(SidecarError, ValueError):
    """A value that is refused; the message says which and why, and nothing was changed."""


class BodyRefused(InvalidValue):
    """A request's body cannot be read; the message quotes nothing of it."""


class BodyTooLarge(BodyRefused):
    """A request's body is longer than anything that is read."""


class RequestRefused(SidecarError):
    """The check cannot be read one way only: the proxied request stays unknown and is refused.

    `why` is for the operator alone: what is wrong, with nothing of a credential or a query in it.
    """

    def __init__(self, reason: Reason, why: str = "") -> None:
        super().__init__(why or reason.value)
        self.reason = reason
        self.why = why


class CredentialRefused(RequestRefused):
    """A credential is there, but cannot be one."""


class EmptyCredential(CredentialRefused):
    """A credential's header or cookie is there, with nothing in it."""


class QuestionRefused(SidecarError):
    """A product's endpoint refuses, in that product's own form.

    `status` is the HTTP status that says what kind of refusal it is, also where the product answers
    everything with 200. `message` is for the caller; empty: the product's usual words for this status.
    `reason` is for the log alone. `retry_after` is in seconds; `cookies` are Set-Cookie values.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        reason: str = "",
        retry_after: float = 0.0,
        cookies: Sequence[bytes] = (),
    ) -> None:
        super().__init__(f"{status} {message}".strip())
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.cookies = cookies


class SignInRefused(QuestionRefused):
    """Somebody could not sign in at a product's endpoint (401). Whoever judged that has recorded it."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(401, message, reason=reason)


class InvalidToken(SidecarError):
    """A token that does not verify. The message names the rule that it breaks, never the token."""


class UpstreamUnavailable(SidecarError):
    """Another system cannot be asked now, or its answer cannot be read. An outage: 503, never 401.

    The message names the system and the kind of fault, and nothing of what was sent or received.
    """


class UpstreamTimeout(UpstreamUnavailable):
    """Its whole answer was not there in time."""


class UpstreamNotAsked(UpstreamUnavailable):
    """It was not asked: it failed a moment ago, or too many are waiting for it."""


class IssuerUnavailable(UpstreamUnavailable):
    """The keys of the issuer that a token names cannot be had. Nobody else has a say about that token."""


class UpstreamThrottled(SidecarError):
    """Another system wants to be left alone: wait `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(SidecarError):
    """The queue in front of a costly job is full. An outage: 503."""


class Throttled(SidecarError):
    """Too many attempts: wait `retry_after` seconds."""

    def __init__(self, reason: Reason, retry_after: float) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.retry_after = retry_after


class ListenerError(SidecarError):
    """An address that cannot be listened on."""


class WorkerFailed(SidecarError):
    """A worker ended before it served anybody; the message is its own, where it had one."""


class AuditUnusable(SidecarError):
    """A file that the audit cannot be written to: nothing begins without."""
