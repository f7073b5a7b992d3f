"""Identity assertions: short-lived tokens that tell one application who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.caching import Counted
from sidecar.errors import CredentialRefused, InvalidToken
from sidecar.hosts import authority_of
from sidecar.identity_claims import identity_claims
from sidecar.identity_headers import fit
from sidecar.keys import ASSERTION, KeyRing
from sidecar.model import HeaderLines, Identity, OriginalRequest, Reason, Rejected, Verified
from sidecar.ports import ById, Users
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics

MOST_BYTES = 32 * 1024 * 1024
"""Of remembered assertions, with what is kept beside each."""

_BESIDE_EACH = 1024

_REGISTERED = frozenset({"iss", "aud", "iat", "exp", "jti"})
"""What an assertion says of itself; the rest is of the identity."""

_Key = tuple[str, str, str, str, str]


class _Entry(NamedTuple):
    identity: Identity
    lines: HeaderLines | None
    renewed_from: float
    generation: int
    size: int


class Asserted(NamedTuple):
    """Identity headers with an assertion for this audience; None where no gateway would take all of them."""

    lines: HeaderLines | None
    audience: str
    renewed_from: float


class Assertions:
    """Signs one for each identity and protected host, and repeats it for half of its life.

    `header` is the name of the header that it is in.
    """

    def __init__(self, header: str, keys: KeyRing, revocations: Revocations, metrics: Metrics) -> None:
        self.header = header.encode("ascii")
        self._keys = keys
        self._revocations = revocations
        self._entries: Counted[_Key, _Entry] = Counted(
            "assertion", MOST_BYTES, metrics, size_of=lambda entry: entry.size
        )
        self.anonymous: HeaderLines = ((self.header, b""),)

    async def beside(
        self, headers: HeaderLines, identity: Identity, original: OriginalRequest, now: float
    ) -> Asserted:
        """The identity's headers, with the assertion for the protected host.

        It goes by the revocations' last look. Raises StoreUnavailable, and CredentialRefused where the
        identity ends within this second: an assertion, whose times are whole seconds, has expired by then.
        """
        audience = authority_of(original.host, original.scheme)
        key = (identity.subject, identity.method, identity.session_id, identity.key_id, audience)
        entry = self._entries.get(key)
        if entry is not None and now < entry.renewed_from and self._is_true(entry, identity):
            self._entries.hit()
            return Asserted(entry.lines, audience, entry.renewed_from)
        self._entries.missed(key)
        return await self._signed(key, headers, identity, audience)

    def _is_true(self, entry: _Entry, identity: Identity) -> bool:
        """Whether it says what this identity is now, with a key that signs now."""
        # The generation changes with every key that is rotated.
        return entry.identity == identity and self._revocations.is_current(identity.user_id, entry.generation)

    async def _signed(self, key: _Key, headers: HeaderLines, identity: Identity, audience: str) -> Asserted:
        generation = self._revocations.generation
        token = await self._keys.sign(
            ASSERTION, identity_claims(identity), not_after=identity.expires_at, audience=audience
        )
        if token.expires_at <= token.issued_at:
            raise CredentialRefused(_ended(identity))
        all_lines = (*headers, (self.header, token.text.encode("ascii")))
        lines = all_lines if fit(all_lines) else None
        renewed_from = (token.issued_at + token.expires_at) / 2
        size = len(token.text) + _BESIDE_EACH
        self._entries[key] = _Entry(identity, lines, renewed_from, generation, size)
        return Asserted(lines, audience, renewed_from)


def _ended(identity: Identity) -> Reason:
    """Why an identity is refused that has come to its end."""
    if identity.session_id:
        return Reason.SESSION_EXPIRED
    return Reason.KEY_EXPIRED if identity.key_id else Reason.INVALID_TOKEN


class AssertionReader:
    """Says whether an assertion is true still: it ends with what it was made from."""

    def __init__(self, keys: KeyRing, sessions: ById, api_keys: ById, users: Users) -> None:
        self._keys = keys
        self._sessions = sessions
        self._api_keys = api_keys
        self._users = users

    async def read(self, token: bytes) -> Mapping[str, Any] | None:
        """Its claims; None where it is none of ours, has expired, or says what is no longer so.

        Whom it is for is the caller's to judge, by its `aud`. Raises StoreUnavailable.
        """
        try:
            claims = await self._keys.verify(token, ASSERTION)
        except InvalidToken:
            return None
        said = {name: value for name, value in claims.items() if name not in _REGISTERED}
        return claims if await self._as_now(said) == said else None

    async def _as_now(self, said: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What would be said now; of another system's people no more is known here than then."""
        match said:
            case {"sid": str(session_id)}:
                answer = await self._sessions.by_id(session_id)
            case {"key_id": str(key_id)}:
                answer = await self._api_keys.by_id(key_id)
            case {"user_id": int(user_id)}:
                answer = await self._of_user(user_id)
            case _:
                return said
        if isinstance(answer, Rejected):
            return None
        return identity_claims(answer.identity._replace(method=said["method"]))

    async def _of_user(self, user_id: int) -> Verified | Rejected:
        user = await self._users.find(user_id)
        if user is None or user.disabled:
            return Rejected(Reason.USER_DISABLED)
        return Verified(Identity.of_user(user, ""))
