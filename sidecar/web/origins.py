"""Other sites: which of them may change something here, and which may read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.middleware.cors import CORSMiddleware

from sidecar.hosts import origin_of
from sidecar.model import Headers
from sidecar.web.entrance import ASGIApp


class OwnOrigins:
    """The sites whose requests may change something: our own, and front ends that the operator named."""

    def __init__(self, public_url: str, others: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode("ascii") for origin in (origin_of(public_url), *others))

    def admit(self, headers: Headers) -> bool:
        """Whether one of them sent this, or no browser did.

        A browser says where a request comes from in Sec-Fetch-Site, an older one in Origin alone.
        """
        origins = headers.all(b"origin")
        if origins and self._origins.issuperset(origins):
            return True
        if sites := headers.all(b"sec-fetch-site"):
            return {b"same-origin", b"none"}.issuperset(sites)
        return not origins


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Lets front ends at these origins ask from a browser, with cookies; or nobody's."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_credentials=True,
        allow_methods=("GET", "POST"),
        allow_headers=("Authorization", "Content-Type", "X-Account-ID"),
        expose_headers=("Retry-After",),
    )
