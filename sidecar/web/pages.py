"""How pages are rendered: templates, and the headers that keep them from being misused."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
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
        self._css = (files("sidecar.web") / "static" / "sidecar.css").read_bytes()
        self.stylesheet_path = f"{base}/static/sidecar.css"
        self._stylesheet = f"{self.stylesheet_path}?v={sha256(self._css).hexdigest()[:12]}"

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
            base=self.base, stylesheet=self._stylesheet, **values
        )
        form_action = f"'self' {origin(leads_to)}" if leads_to else "'self'"
        policy = {"Content-Security-Policy": _POLICY.format(form_action=form_action)}
        return HTMLResponse(html, status, {**_HEADERS, **policy, **(headers or {})})

    def error(
        self, status: int, title: str, message: str, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """A page that says in words what is wrong and what to do."""
        return self.page("error.html", {"title": title, "message": message}, status=status, headers=headers)

    def stylesheet(self) -> Response:
        """The stylesheet; its address changes with its content, so that it can be kept for ever."""
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(self._css, media_type="text/css", headers=headers)


def origin(address: str) -> str:
    """Scheme, host and port of an absolute address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
