"""Sessions: begun at a sign-in, ended by a sign-out, and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.credentials import id_of_secret, new_secret
from sidecar.keys import SESSION_TOKEN, KeyRing
from sidecar.ports import Clock, SessionStore
from sidecar.records import Session, SignedToken, User
from sidecar.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session and its secret, which is shown once and never stored."""

    session: Session
    secret: str = field(repr=False)


def is_live(session: Session, last_used_at: float, idle_timeout: float, now: float) -> bool:
    """Whether it still opens something. The store deletes a session some time after it has ended.

    `last_used_at`: as this process knows it, which may not be written down yet.
    """
    return now < session.expires_at and now < last_used_at + idle_timeout


class Sessions:
    """Begins sessions and signs their tokens."""

    def __init__(self, store: SessionStore, keys: KeyRing, clock: Clock, settings: SessionSettings) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._settings = settings

    async def begin(self, user: User, *, lifetime: float | None = None, app: str = "") -> NewSession:
        """A new session with a new id. `lifetime` in seconds; by default the configured one."""
        now = self._clock.now()
        secret = new_secret()
        session = Session(
            id=id_of_secret(secret.encode("ascii")),
            user_id=user.id,
            created_at=now,
            last_used_at=now,
            expires_at=now + (lifetime or self._settings.lifetime),
            apps=frozenset([app] if app else []),
        )
        await self._store.add(session)
        return NewSession(session, secret)

    async def token(self, session: Session, user: User) -> SignedToken:
        """A JWT for the session. It opens what the session opens, and ends with it at the latest."""
        claims = {
            "sub": str(user.id),
            "sid": session.id,
            "userId": str(user.id),
            "name": user.name or user.username,
        }
        return await self._keys.sign(SESSION_TOKEN, claims, not_after=session.expires_at)
