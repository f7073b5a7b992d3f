"""Signing in and out: the pages that people see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sidecar.errors import InvalidValue, RequestRefused, Throttled
from sidecar.model import Headers, IPAddress, Reason, Rejected
from sidecar.redirects import Redirects
from sidecar.traffic import TrafficGuard
from sidecar.trust import TrustedProxies, address_of
from sidecar.visits import Visits
from sidecar.web.entrance import peer_of
from sidecar.web.forms import CrossSiteGuard, read_form
from sidecar.web.pages import Pages

_SENTENCES = {
    Reason.WRONG_PASSWORD: "The name or the password is wrong.",
    Reason.USER_DISABLED: "This account is disabled. Ask whoever runs this site.",
    Reason.RATE_LIMITED: "Too many attempts from your network.",
    Reason.BANNED: "Too many wrong passwords.",
    Reason.UNKNOWN_SESSION: "Something about this account was changed at this moment. Sign in again.",
}


@dataclass(frozen=True, slots=True)
class LoginPages:
    """`/login` and `/logout`, below the path of public_url."""

    pages: Pages
    visits: Visits
    guard: CrossSiteGuard
    traffic: TrafficGuard
    redirects: Redirects
    trusted: TrustedProxies
    client_ip_hops: int

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
        visitor = await self.visits.in_browser(_headers(request))
        rd = self.redirects.checked(request.query_params.get("rd", ""))
        if visitor is None:
            return self._form(request, rd)
        identity = visitor.identity
        values = {
            "username": identity.username,
            "name": identity.name,
            "email": identity.email,
            "rd": rd,
            "destination": self._destination(rd),
        }
        return self._with_csrf(request, "signed_in.html", values)

    async def login(self, request: Request) -> Response:
        """Signs in and leads back."""
        form = await read_form(request)
        if not self.guard.admits(_headers(request), form):
            return self._not_ours()
        client = self._client(request)
        if self.traffic.denies(_headers(request), client):
            return self._unwanted()
        rd = self.redirects.checked(form.get("rd", ""))
        name = form.get("username", "")
        try:
            entered = await self.visits.begin(name, form.get("password", ""), client, _headers(request))
        except Throttled as throttled:
            return self._throttled(request, rd, name, throttled)
        if isinstance(entered, Rejected):
            status = 403 if entered.reason is Reason.USER_DISABLED else 401
            return self._form(request, rd, name, _SENTENCES[entered.reason], status)
        response = RedirectResponse(rd, 303, {"Cache-Control": "no-store"})
        response.raw_headers.append((b"set-cookie", entered.cookie))
        return response

    async def show_logout(self, request: Request) -> Response:
        """Asks whether to sign out, so that an application can link here."""
        visitor = await self.visits.in_browser(_headers(request))
        return self._with_csrf(request, "sign_out.html", {"confirm": visitor is not None})

    async def logout(self, request: Request) -> Response:
        """Ends the session, here and everywhere that it is used."""
        if not self.guard.admits(_headers(request), await read_form(request)):
            return self._not_ours()
        cookies = await self.visits.leave(_headers(request), self._known_client(request))
        response = RedirectResponse(f"{self.redirects.public_url}/logout", 303)
        response.raw_headers.extend((b"set-cookie", cookie) for cookie in cookies)
        return response

    def _client(self, request: Request) -> IPAddress:
        client = self._known_client(request)
        if client is None:
            raise InvalidValue("The address of the client cannot be told.")
        return client

    def _known_client(self, request: Request) -> IPAddress | None:
        try:
            return address_of(_headers(request), peer_of(request.scope), self.trusted, self.client_ip_hops)
        except RequestRefused:
            return None

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
        seconds = ceil(throttled.retry_after)
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

    def _unwanted(self) -> Response:
        return self.pages.error(403, "You cannot sign in from here", "Ask whoever runs this site.")

    def _destination(self, rd: str) -> str:
        return "" if rd == self.redirects.default else urlsplit(rd).netloc


def _headers(request: Request) -> Headers:
    return Headers(request.scope["headers"])


def _in_words(seconds: int) -> str:
    if seconds < 90:  # noqa: PLR2004 - from here on, minutes say it better
        return f"in {seconds} seconds"
    return f"in {round(seconds / 60)} minutes"
