"""Cookies of ours, as a browser is told to keep and to forget them."""

from __future__ import annotations

from sidecar.settings import SessionSettings


class Cookie:
    """Builds the Set-Cookie values of one cookie; its attributes are those of the session's."""

    def __init__(self, name: str, settings: SessionSettings) -> None:
        self.name = name.encode("ascii")
        domain = f"; Domain={settings.cookie_domain}" if settings.cookie_domain else ""
        secure = "; Secure" if settings.cookie_secure else ""
        same_site = settings.cookie_same_site.capitalize()
        self._attributes = f"; Path=/{domain}; HttpOnly{secure}; SameSite={same_site}".encode("ascii")

    def set(self, value: bytes, seconds: float) -> bytes:
        """Keeps the value for so long."""
        return b"%b=%b; Max-Age=%d%b" % (self.name, value, int(seconds), self._attributes)

    def forget(self) -> bytes:
        """Removes it."""
        return self.set(b"", 0)


class SessionCookie(Cookie):
    """The session's own cookie."""

    def __init__(self, settings: SessionSettings) -> None:
        super().__init__(settings.cookie, settings)
        self._idle_timeout = settings.idle_timeout

    def keep(self, secret: bytes, expires_at: float, now: float) -> bytes:
        """Keeps a session that is used now for as long as it lives unless it is used again."""
        return self.set(secret, min(self._idle_timeout, expires_at - now))
