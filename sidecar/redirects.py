"""Where a sign-in may lead back to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from sidecar.errors import RequestRefused
from sidecar.hosts import HostPattern, read_host

# What a browser could read as another address than we do (a backslash, a tab, a user name) is not one.
_ABSOLUTE = re.compile(r"(https?)://([A-Za-z0-9._:\[\]-]+)((?:[/?][!-\[\]-~]*)?)")


class Redirects:
    """Checks return addresses and builds addresses of the sign-in page."""

    def __init__(self, public_url: str, allowed: Iterable[str], login_url: str = "") -> None:
        self.public_url = public_url
        self.default = f"{public_url}/login"
        self._login_url = login_url
        self._allowed = tuple(HostPattern.parse(host) for host in (urlsplit(public_url).netloc, *allowed))

    def checked(self, address: str) -> str:
        """The address where it may be gone back to; the sign-in page itself for any other."""
        return address if self.allows(address) else self.default

    def allows(self, address: str) -> bool:
        """Whether this is an absolute address at a host that is allowed."""
        matched = _ABSOLUTE.fullmatch(address)
        if matched is None:
            return False
        try:
            host = read_host(matched[2].encode("ascii"), matched[1])
        except RequestRefused:
            return False
        return any(pattern.matches(host) for pattern in self._allowed)

    def sign_in_at(self, back_to: str, rule_login_url: str = "") -> str:
        """The sign-in page's address that leads back, where going back there is allowed."""
        allowed = back_to if self.allows(back_to) else ""
        elsewhere = rule_login_url or self._login_url
        if elsewhere:
            return elsewhere.replace("{rd}", quote(allowed, safe=""))
        return f"{self.default}?rd={quote(allowed, safe='')}" if allowed else self.default
