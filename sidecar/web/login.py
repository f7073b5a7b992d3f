"""Signing in and out: the pages that people see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sidecar.authenticators.session import SessionAuthenticator
from sidecar.cookies import SessionCookie
from sidecar.credentials import presented
from sidecar.errors import InvalidValue, RequestRefused, Throttled
from sidecar.model import Form, Headers, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import SessionStore
from sidecar.records import User
from sidecar.redirects import Redirects
from sidecar.revocation import Revocations
from sidecar.sessions import Sessions
from sidecar.sign_in import SignIn
from sidecar.telemetry import Metrics
from sidecar.trust import TrustedProxies, address_of
from sidecar.web.entrance import peer_of
from sidecar.web.forms import CrossSiteGuard, read_form
from sidecar.web.pages import Pages

log = structlog.get_logger(__name__)

_SENTENCES = {
    Reason.WRONG_PASSWORD: "The name or the password is wrong.",
    Reason.USER_DISABLED: "This account is disabled. Ask whoever runs this site.",
    Reason.RATE_LIMITED: "Too many attempts from your network.",
    Reason.BANNED: "Too many wrong passwords.",
}
_CHANGED = "Something about this account was changed at this moment. Sign in again."


@dataclass(frozen=True, slots=True)
class LoginPages:
    """`/login` and `/logout`, below the path of public_url."""

    pages: Pages
    sign_in: SignIn
    sessions: Sessions
    session_store: SessionStore
    authenticator: SessionAuthenticator
    revocations: Revocations
    cookie: SessionCookie
    guard: CrossSiteGuard
    redirects: Redirects
    trusted: TrustedProxies
    client_ip_hops: int
    metrics: Metrics

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        base = self.pages.base
        return [
            Route(f"{base}/login", self.show_login, methods=["GET"]),
            Route(f"{base}/login", self.login, methods=["POST"]),
            Route(f"{base}/logout", self.show_logout, methods=["GET"]),
            Route(f"{base}/logout", self.logout, methods=["POST"]),
            *(Route(asset.path, asset.respond, methods=["GET"]) for asset in self.pages.assets),
        ]

    async def show_login(self, request: Request) -> Response:
        """The form; to somebody who is signed in, who they are."""
        visitor = await self._visitor(request)
        rd = self.redirects.checked(request.query_params.get("rd", ""))
        if visitor is None:
            return self._form(request, rd)
        values = {
            "username": visitor.username,
            "name": visitor.name,
            "email": visitor.email,
            "rd": rd,
            "destination": self._destination(rd),
        }
        return self._with_csrf(request, "signed_in.html", values)

    async def login(self, request: Request) -> Response:
        """Signs in and leads back."""
        form = await read_form(request)
        if not self.guard.admits(_headers(request), form):
            return self._not_ours()
        rd = self.redirects.checked(form.get("rd", ""))
        name = form.get("username", "")
        await self.revocations.look()
        generation = self.revocations.generation
        try:
            user = await self.sign_in.attempt(name, form.get("password", ""), self._client(request))
        except Throttled as throttled:
            return self._throttled(request, rd, name, throttled)
        if isinstance(user, Rejected):
            status = 403 if user.reason is Reason.USER_DISABLED else 401
            return self._form(request, rd, name, _SENTENCES[user.reason], status)
        return await self._signed_in(request, user, rd, generation)

    async def show_logout(self, request: Request) -> Response:
        """Asks whether to sign out, so that an application can link here."""
        visitor = await self._visitor(request)
        return self._with_csrf(request, "sign_out.html", {"confirm": visitor is not None})

    async def logout(self, request: Request) -> Response:
        """Ends the session, here and everywhere that it is used."""
        if not self.guard.admits(_headers(request), await read_form(request)):
            return self._not_ours()
        await self._revoke_presented(request)
        response = RedirectResponse(f"{self.redirects.public_url}/logout", 303)
        response.raw_headers.append((b"set-cookie", self.cookie.forget()))
        return response

    async def _signed_in(self, request: Request, user: User, rd: str, generation: int) -> Response:
        begun = await self.sessions.begin(user)
        # Whoever changed the password since it was checked ended the sessions that there were: not this one.
        self.revocations.forget()
        await self.revocations.look()
        if not self.revocations.is_current(user.id, generation):
            await self.session_store.revoke([begun.session.id])
            return self._form(request, rd, user.username, _CHANGED, 401)
        # Nobody keeps a session id from before the sign-in, least of all one that somebody else chose.
        await self._revoke_presented(request)
        self.metrics.sessions_created.inc()
        response = RedirectResponse(rd, 303, {"Cache-Control": "no-store"})
        session = begun.session
        cookie = self.cookie.keep(begun.secret.encode("ascii"), session.expires_at, session.created_at)
        response.raw_headers.append((b"set-cookie", cookie))
        return response

    async def _revoke_presented(self, request: Request) -> None:
        visitor = await self._visitor(request)
        if visitor is None:
            return
        await self.session_store.revoke([visitor.session_id])
        self.revocations.forget()
        self.metrics.sessions_revoked.labels("signed_out").inc()
        log.info("sign_out", user_id=visitor.user_id)

    async def _visitor(self, request: Request) -> Identity | None:
        """Who is signed in in this browser."""
        try:
            credential = presented(_headers(request), frozenset({Form.COOKIE}), self.cookie.name)
        except RequestRefused:
            return None
        if credential is None:
            return None
        await self.revocations.look()
        answer = await self.authenticator.of_cookie(credential.value)
        return answer.identity if isinstance(answer, Verified) else None

    def _client(self, request: Request) -> IPAddress:
        try:
            return address_of(_headers(request), peer_of(request.scope), self.trusted, self.client_ip_hops)
        except RequestRefused:
            raise InvalidValue("The address of the client cannot be told.") from None

    def _form(
        self,
        request: Request,
        rd: str,
        username: str = "",
        error: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        values = {"rd": rd, "destination": self._destination(rd), "username": username, "error": error}
        return self._with_csrf(request, "sign_in.html", values, status, headers, rd)

    def _throttled(self, request: Request, rd: str, name: str, throttled: Throttled) -> Response:
        seconds = round(throttled.retry_after)
        error = f"{_SENTENCES[throttled.reason]} Try again {_in_words(seconds)}."
        return self._form(request, rd, name, error, 429, {"Retry-After": str(seconds)})

    def _with_csrf(
        self,
        request: Request,
        template: str,
        values: Mapping[str, object],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        leads_to: str = "",
    ) -> Response:
        token = self.guard.token(_headers(request))
        response = self.pages.page(
            template, {**values, "csrf": token}, status=status, headers=headers, leads_to=leads_to
        )
        response.headers.append("Set-Cookie", self.guard.set_cookie(token))
        return response

    def _not_ours(self) -> Response:
        return self.pages.error(
            403,
            "This form cannot be used",
            "It was sent from another site, or cookies are switched off, or the browser was restarted since "
            "the page was opened. Open the page again.",
        )

    def _destination(self, rd: str) -> str:
        return "" if rd == self.redirects.default else urlsplit(rd).netloc


def _headers(request: Request) -> Headers:
    return Headers(request.scope["headers"])


def _in_words(seconds: int) -> str:
    if seconds < 90:  # noqa: PLR2004 - from here on, minutes say it better
        return f"in {seconds} seconds"
    return f"in {round(seconds / 60)} minutes"
