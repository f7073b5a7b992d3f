"""Everything on the auth listener that is not a check, as one Starlette application."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.errors import InvalidValue, Overloaded, StoreUnavailable
from sidecar.web.pages import Pages

log = structlog.get_logger(__name__)

_TITLES = {404: "There is nothing here", 405: "This cannot be done here"}


def site(routes: Iterable[Route], pages: Pages) -> Starlette:
    """The application, with a page for whatever goes wrong."""

    async def outage(_request: Request, error: Exception) -> Response:
        log.error("page_unavailable", error=str(error))
        return pages.error(
            503,
            "Signing in does not work now",
            "Nothing is wrong with your password or your session. Try again in a moment.",
            {"Retry-After": "5"},
        )

    async def refused(_request: Request, error: Exception) -> Response:
        return pages.error(400, "This request cannot be read", str(error))

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - Starlette's promise to its handlers
        title = _TITLES.get(error.status_code, "This does not work")
        message = "If a link led you here, the link is wrong."
        return pages.error(error.status_code, title, message, error.headers)

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    app = Starlette(routes=list(routes))
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(StoreUnavailable, outage)
    app.add_exception_handler(Overloaded, outage)
    app.add_exception_handler(InvalidValue, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.router.redirect_slashes = False
    return app
