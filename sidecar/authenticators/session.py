"""Sessions of the local store: by their cookie, or by a token that was signed for them."""

from __future__ import annotations

from math import inf

from sidecar.credentials import API_KEY_PREFIX, id_of_secret
from sidecar.errors import InvalidToken
from sidecar.keys import SESSION_TOKEN, KeyRing
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Clock, SessionStore, Users
from sidecar.sessions import is_live
from sidecar.usage import UsageRecorder


class SessionAuthenticator:
    """The user of a live session. A token is good for as long as its session is, and never longer."""

    name = "session"
    forms = frozenset({Form.COOKIE, Form.BEARER})
    cookies: tuple[bytes, ...] = ()

    def __init__(
        self,
        *,
        sessions: SessionStore,
        users: Users,
        keys: KeyRing,
        usage: UsageRecorder,
        clock: Clock,
        idle_timeout: float,
    ) -> None:
        self._sessions = sessions
        self._users = users
        self._keys = keys
        self._usage = usage
        self._clock = clock
        self._idle_timeout = idle_timeout

    async def authenticate(self, credential: Credential, _client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate."""
        if credential.form is Form.COOKIE:
            return None if credential.names else await self.of_cookie(credential.value)
        if credential.value.startswith(API_KEY_PREFIX.encode("ascii")):
            return None
        try:
            claims = await self._keys.verify(credential.value, SESSION_TOKEN)
        except InvalidToken:
            return Rejected(Reason.INVALID_TOKEN) if self._keys.claims_to_be_ours(credential.value) else None
        return await self._verified(str(claims.get("sid")), "token", claims["exp"], claims["sub"])

    async def of_cookie(self, secret: bytes) -> Verified | Rejected:
        """Who is signed in with this cookie."""
        return await self._verified(id_of_secret(secret), "session", inf)

    async def by_id(self, credential_id: str) -> Verified | Rejected:
        """Whose session has this id."""
        return await self._verified(credential_id, "session", inf)

    async def _verified(
        self, session_id: str, method: str, token_expires_at: float, subject: str | None = None
    ) -> Verified | Rejected:
        session = await self._sessions.find(session_id)
        if session is None:
            return Rejected(Reason.UNKNOWN_SESSION)
        if subject is not None and subject != str(session.user_id):
            return Rejected(Reason.INVALID_TOKEN)
        usage = self._usage.of_session(session)
        if not is_live(session, usage.last_used_at, self._idle_timeout, self._clock.now()):
            return Rejected(Reason.SESSION_EXPIRED)
        user = await self._users.find(session.user_id)
        if user is None or user.disabled:
            return Rejected(Reason.USER_DISABLED)
        expires_at = min(session.expires_at, token_expires_at)
        identity = Identity.of_user(user, method, session_id=session.id, expires_at=expires_at)
        return Verified(identity, user, session, usage, self._idle_timeout)
