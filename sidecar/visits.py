"""People at our pages and at the products' endpoints: who they are, how they come in and how they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from sidecar.audit import Audit, Event, Result
from sidecar.authentication import Authentication
from sidecar.caching import RememberedTokens
from sidecar.cookies import Cookie, SessionCookie
from sidecar.credentials import cookie_values, id_of_secret, in_cookie
from sidecar.errors import CredentialRefused
from sidecar.model import Credential, Form, Headers, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Clock, CookieReader, SessionStore
from sidecar.records import Session, SignedToken, User
from sidecar.revocation import Revocations
from sidecar.sessions import NewSession, Sessions
from sidecar.sign_in import SignIn
from sidecar.telemetry import Metrics
from sidecar.usage import UsageRecorder


class Visitor(NamedTuple):
    """Who presented which credential."""

    verified: Verified
    credential: Credential

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self.verified.identity


class SignedIn(NamedTuple):
    """Somebody who has just signed in. `cookie` is the Set-Cookie value of their session.

    `lifetime`: seconds for which the session lives at most.
    """

    visitor: Visitor
    cookie: bytes
    lifetime: float

    def __repr__(self) -> str:
        return f"<SignedIn {self.visitor.identity.user_id}>"


@dataclass(frozen=True, slots=True)
class Visits:
    """One way in and out for the sign-in page and for every product's endpoints."""

    authentication: Authentication
    vouching: frozenset[str]
    by_session: CookieReader
    sign_in: SignIn
    sessions: Sessions
    session_store: SessionStore
    tokens: RememberedTokens
    revocations: Revocations
    usage: UsageRecorder
    cookie: SessionCookie
    other_cookies: Sequence[Cookie]
    """Products' cookies that hold the same secret as the session's own."""
    audit: Audit
    clock: Clock
    metrics: Metrics

    async def of(self, credential: Credential, client: IPAddress) -> Visitor | Rejected:
        """Who stands behind the credential, if one of the authenticators vouches that may here.

        Raises StoreUnavailable, Overloaded, Throttled.
        """
        await self.revocations.look()
        now = self.clock.now()
        known = self.authentication.remembered(credential, self.vouching, now)
        if known is None:
            known = await self.authentication.identify(credential, self.vouching, client, now)
        return known if isinstance(known, Rejected) else Visitor(known.verified, credential)

    async def in_browser(self, headers: Headers) -> Visitor | None:
        """Who is signed in with the session's cookie, also where no rule may accept it.

        A cookie that cannot be read is nobody's. Raises StoreUnavailable.
        """
        return await self._in(headers, self.cookie)

    async def leave(self, headers: Headers, client: IPAddress | None) -> tuple[bytes, ...]:
        """Ends every session of which the browser has the secret in a cookie; what removes those cookies."""
        cookies = (self.cookie, *self.other_cookies)
        for cookie in cookies:
            visitor = await self._in(headers, cookie)
            if visitor is not None:
                await self.end(visitor, client)
        return tuple(cookie.forget() for cookie in cookies)

    async def _in(self, headers: Headers, cookie: Cookie) -> Visitor | None:
        try:
            credential = in_cookie(headers, cookie.name)
        except CredentialRefused:
            return None
        if credential is None:
            return None
        await self.revocations.look()
        answer = await self.by_session.of_cookie(credential.value)
        return Visitor(answer, credential) if isinstance(answer, Verified) else None

    async def note(self, visitor: Visitor, headers: Headers) -> tuple[bytes, ...]:
        """Notes that the credential was used; the session's cookie where it is to be refreshed.

        It is refreshed where the browser has it: what another cookie holds, which somebody else may have
        put there, never becomes the session of everything.
        """
        usage, now = visitor.verified.usage, self.clock.now()
        if usage is None or self.usage.is_settled(usage, "", now, by_cookie=True):
            return ()
        value = visitor.credential.value
        by_cookie = set(cookie_values(headers, self.cookie.name)) == {value}
        if not await self.usage.note(usage, "", now, by_cookie=by_cookie):
            return ()
        return (self.cookie.keep(value, visitor.identity.expires_at, now),)

    async def begin(
        self, name: str, password: str, client: IPAddress, headers: Headers
    ) -> SignedIn | Rejected:
        """Signs in by name and password, and ends the sessions that the browser had.

        Raises Throttled, Overloaded, StoreUnavailable.
        """
        await self.revocations.look()
        generation = self.revocations.generation
        user = await self.sign_in.attempt(name, password, client)
        if isinstance(user, Rejected):
            return user
        begun = await self.sessions.begin(user)
        # Whoever changed the password since it was checked ended the sessions that there were: not this one.
        self.revocations.forget()
        await self.revocations.look()
        if not self.revocations.is_current(user.id, generation):
            await self.session_store.revoke([begun.session.id])
            self.sign_in.record(Reason.UNKNOWN_SESSION, client, user.id)
            return Rejected(Reason.UNKNOWN_SESSION)
        # Nobody keeps a session id from before the sign-in, least of all one that somebody else chose.
        await self.leave(headers, client)
        self.metrics.sessions_created.inc()
        return self._signed_in(user, begun)

    def _signed_in(self, user: User, begun: NewSession) -> SignedIn:
        session, secret = begun.session, begun.secret.encode("ascii")
        identity = Identity.of_user(user, "session", session_id=session.id, expires_at=session.expires_at)
        verified = Verified(identity, user, session, self.usage.of_session(session))
        cookie = self.cookie.keep(secret, session.expires_at, session.created_at)
        lifetime = session.expires_at - session.created_at
        return SignedIn(Visitor(verified, Credential(Form.COOKIE, secret)), cookie, lifetime)

    async def by_api_key(self, key_id: str, key: str, client: IPAddress) -> Visitor | Rejected:
        """Signs in by an API key and its id, which begins no session. Raises as `begin` does."""
        await self.sign_in.count_attempt(client)
        credential = Credential(Form.API_KEY, key.encode("utf-8"))
        is_its_id = id_of_secret(credential.value) == key_id
        answer = await self.of(credential, client) if is_its_id else Rejected(Reason.UNKNOWN_KEY)
        if isinstance(answer, Rejected):
            self.sign_in.record(answer.reason, client)
        else:
            self.sign_in.record(Reason.AUTHENTICATED, client, answer.identity.user_id, answer.identity.key_id)
        return answer

    async def end(self, visitor: Visitor, client: IPAddress | None) -> None:
        """Ends the visitor's session, here and everywhere that it is used."""
        identity = visitor.identity
        await self.session_store.revoke([identity.session_id])
        self.revocations.forget()
        self.metrics.sessions_revoked.labels("signed_out").inc()
        self.audit.record(
            Event.SIGN_OUT,
            Result.DONE,
            user_id=identity.user_id,
            session_id=identity.session_id,
            client=client,
        )

    async def token(self, visitor: Visitor) -> str:
        """What opens as much as the visitor's credential: a bearer itself; for a cookie, a session token."""
        if visitor.credential.form is not Form.COOKIE:
            return visitor.credential.value.decode("ascii")
        identity = visitor.identity
        token = self.tokens.get(identity.session_id, identity.user_id, self.clock.now())
        if token is None:
            generation = self.revocations.generation
            token = await self.refreshed(visitor)
            self.tokens.put(identity.session_id, token, generation)
        return token.text

    async def refreshed(self, visitor: Visitor) -> SignedToken:
        """A new token of the visitor's session; of others the credential itself, which nothing replaces.

        An API key is in force since it was made, and until 0 where it does not expire; another system's token
        until its end, and since a moment that is not known here: 0.
        """
        source, user, text = visitor.verified.source, visitor.verified.user, visitor.credential.value
        if isinstance(source, Session) and user is not None:
            return await self.sessions.token(source, user)
        expires_at = visitor.identity.expires_at
        since = 0 if source is None else int(source.created_at)
        return SignedToken(text.decode("ascii"), since, 0 if expires_at == inf else int(expires_at))
