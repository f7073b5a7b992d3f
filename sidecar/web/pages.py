"""How pages are rendered: templates, and the headers that keep them from being misused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: with it a browser sends `Origin: null` even with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASSETS = (("sidecar.css", "text/css"), ("sidecar.svg", "image/svg+xml"))
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action {form_action}; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """Renders pages below `base`, the path that public_url has."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._templates = Environment(
            loader=PackageLoader("sidecar.web"), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        self.assets = tuple(_Asset.read(base, name, kind) for name, kind in _ASSETS)

    def page(
        self,
        template: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        leads_to: str = "",
    ) -> HTMLResponse:
        """A page. `leads_to`: an address that a form on it may be redirected to, besides our own.

        Browsers apply form-action to the redirect that answers a form as well.
        """
        html = self._templates.get_template(template).render(
            base=self.base, stylesheet=self.assets[0].address, icon=self.assets[1].address, **values
        )
        form_action = f"'self' {origin(leads_to)}" if leads_to else "'self'"
        policy = {"Content-Security-Policy": _POLICY.format(form_action=form_action)}
        return HTMLResponse(html, status, {**_HEADERS, **policy, **(headers or {})})

    def error(
        self, status: int, title: str, message: str, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """A page that says in words what is wrong and what to do."""
        return self.page("error.html", {"title": title, "message": message}, status=status, headers=headers)


@dataclass(frozen=True, slots=True)
class _Asset:
    """A file that pages refer to. Its address changes with its content, so it can be kept for ever."""

    path: str
    address: str
    content: bytes
    media_type: str

    @classmethod
    def read(cls, base: str, name: str, media_type: str) -> _Asset:
        content = (files("sidecar.web") / "static" / name).read_bytes()
        path = f"{base}/static/{name}"
        return cls(path, f"{path}?v={sha256(content).hexdigest()[:12]}", content, media_type)

    async def respond(self, _request: Request) -> Response:
        """The file."""
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(self.content, media_type=self.media_type, headers=headers)


def origin(address: str) -> str:
    """Scheme, host and port of an absolute address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
