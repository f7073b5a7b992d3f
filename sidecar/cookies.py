"""The session's cookie, as a browser is told to keep and to forget it."""

from __future__ import annotations

from sidecar.settings import SessionSettings


class SessionCookie:
    """Builds Set-Cookie values."""

    def __init__(self, settings: SessionSettings) -> None:
        self.name = settings.cookie.encode("ascii")
        domain = f"; Domain={settings.cookie_domain}" if settings.cookie_domain else ""
        secure = "; Secure" if settings.cookie_secure else ""
        same_site = settings.cookie_same_site.capitalize()
        self._idle_timeout = settings.idle_timeout
        self._attributes = f"; Path=/{domain}; HttpOnly{secure}; SameSite={same_site}".encode("ascii")

    def keep(self, secret: bytes, expires_at: float, now: float) -> bytes:
        """Keeps a session that is used now for as long as it lives unless it is used again."""
        return self._set(secret, int(min(self._idle_timeout, expires_at - now)))

    def forget(self) -> bytes:
        """Removes it."""
        return self._set(b"", 0)

    def _set(self, value: bytes, max_age: int) -> bytes:
        return b"%b=%b; Max-Age=%d%b" % (self.name, value, max_age, self._attributes)
