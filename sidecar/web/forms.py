"""Forms that only our own pages can send: read within bounds, and proven to come from them."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from sidecar.credentials import cookie_values
from sidecar.errors import InvalidValue
from sidecar.hosts import DEFAULT_PORTS, read_host
from sidecar.model import Headers
from sidecar.settings import SessionSettings

LONGEST_FORM = 64 * 1024
PATIENCE = 10.0
"""Seconds within which a form has to arrive."""

_MOST_FIELDS = 16
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_TOKEN_BYTES = 32


async def read_form(request: Request, patience: float = PATIENCE) -> Mapping[str, str]:
    """The fields of a form. Raises InvalidValue where it is too long, too slow, or cannot be read."""
    try:
        async with asyncio.timeout(patience):
            body = await _read_body(request)
    except TimeoutError:
        raise InvalidValue("The form did not arrive in time.") from None
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise InvalidValue("The form cannot be read.") from None
    return dict(pairs)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise InvalidValue("The form is too long.")
    return bytes(body)


class CrossSiteGuard:
    """Refuses forms that another site sent.

    The browser says where a form comes from (Sec-Fetch-Site, else Origin). Besides, the form repeats a
    random cookie of ours, which another site can neither read nor choose. The cookie stays the same
    while the browser is open, so that any number of tabs can be used in any order.
    """

    def __init__(self, session: SessionSettings, public_url: str) -> None:
        self._cookie = f"{session.cookie}-csrf"
        self._attributes = f"; Path=/; HttpOnly{'; Secure' if session.cookie_secure else ''}; SameSite=Lax"
        self._origin = _origin(public_url)

    def token(self, headers: Headers) -> str:
        """The token for a form: the browser's own where it has one."""
        return self._held(headers) or secrets.token_urlsafe(_TOKEN_BYTES)

    def set_cookie(self, token: str) -> str:
        """Makes the browser keep the token until it is closed."""
        return f"{self._cookie}={token}{self._attributes}"

    def admits(self, headers: Headers, form: Mapping[str, str]) -> bool:
        """Whether one of our own pages sent this form."""
        held = self._held(headers)
        sent = form.get("csrf", "")
        return self._is_same_site(headers) and bool(held) and secrets.compare_digest(held, _ascii(sent))

    def _is_same_site(self, headers: Headers) -> bool:
        """With neither header it is no browser of this decade, and the token alone decides."""
        if sites := headers.all(b"sec-fetch-site"):
            return set(sites) <= {b"same-origin", b"none"}
        return all(origin.decode("latin-1") == self._origin for origin in headers.all(b"origin"))

    def _held(self, headers: Headers) -> str:
        values = {value.decode("latin-1") for value in cookie_values(headers, self._cookie.encode("ascii"))}
        if len(values) != 1 or not _TOKEN.fullmatch(value := values.pop()):
            return ""
        return value


def _origin(url: str) -> str:
    """As browsers write it (RFC 6454, 6.2): in lower case, without the default port."""
    parts = urlsplit(url)
    host = read_host(parts.netloc.encode("ascii"), parts.scheme)
    port = "" if host.port == DEFAULT_PORTS[parts.scheme] else f":{host.port}"
    return f"{parts.scheme}://{host.name}{port}"


def _ascii(text: str) -> str:
    """compare_digest takes ASCII only; anything else equals no token."""
    return text if text.isascii() else ""
