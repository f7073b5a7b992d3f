"""Forms that only our own pages can send: read within bounds, and proven to come from them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from starlette.requests import Request

from sidecar.credentials import cookie_values
from sidecar.errors import InvalidValue
from sidecar.form_fields import read_fields
from sidecar.model import Headers
from sidecar.settings import SessionSettings
from sidecar.web.bodies import read_body
from sidecar.web.origins import OwnOrigins

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_TOKEN_BYTES = 32


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form. Raises InvalidValue where it is too long, too slow, or cannot be read."""
    try:
        return read_fields(await read_body(request.receive))
    except InvalidValue as error:
        raise InvalidValue(f"The form cannot be read: {error}.") from None


class CrossSiteGuard:
    """Refuses forms that another site sent.

    The browser says where a form comes from. Besides, the form repeats a random cookie of ours, which
    another site can neither read nor choose. The cookie stays the same while the browser is open, so that
    any number of tabs can be used in any order.
    """

    def __init__(self, session: SessionSettings, origins: OwnOrigins) -> None:
        self._cookie = f"{session.cookie}-csrf"
        self._attributes = f"; Path=/; HttpOnly{'; Secure' if session.cookie_secure else ''}; SameSite=Lax"
        self._origins = origins

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
        return self._origins.admit(headers) and bool(held) and secrets.compare_digest(held, _ascii(sent))

    def _held(self, headers: Headers) -> str:
        values = {value.decode("latin-1") for value in cookie_values(headers, self._cookie.encode("ascii"))}
        if len(values) != 1 or not _TOKEN.fullmatch(value := values.pop()):
            return ""
        return value


def _ascii(text: str) -> str:
    """compare_digest takes ASCII only; anything else equals no token."""
    return text if text.isascii() else ""
