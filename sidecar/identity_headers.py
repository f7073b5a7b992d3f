"""Identity headers: every configured one, exactly once, empty where the identity has nothing.

A header that were left out would let the client's own through at some gateways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

from sidecar.errors import IdentityTooLarge
from sidecar.model import HeaderLines, Identity

LIMIT = 8192
"""Bytes of identity headers, names and separators included, that an answer may have. A proxy gives an
answer's head 8 or 16 KiB; an identity that does not fit is refused, never cut."""

_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_SAFE_IN_LIST = _SAFE.replace(",", "")
_PLAIN = re.compile(r"[\x21-\x24\x26-\x7e]*")
_PLAIN_IN_LIST = re.compile(r"[\x21-\x24\x26-\x2b\x2d-\x7e]*")


class IdentityHeaders:
    """Renders an identity by the configured `header = field`."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = tuple((name.encode("ascii"), field) for name, field in fields.items())
        self.anonymous: HeaderLines = tuple((name, b"") for name, _ in self._fields)

    def render(self, identity: Identity) -> HeaderLines:
        """The complete headers. Raises IdentityTooLarge."""
        lines = tuple((name, _value(getattr(identity, field))) for name, field in self._fields)
        if sum(len(name) + len(value) + len(": \r\n") for name, value in lines) > LIMIT:
            raise IdentityTooLarge
        return lines


def _value(value: str | tuple[str, ...]) -> bytes:
    if isinstance(value, tuple):
        return b",".join([escaped(item, _SAFE_IN_LIST, _PLAIN_IN_LIST) for item in value])
    return escaped(value)


def escaped(text: str, safe: str = _SAFE, plain: re.Pattern[str] = _PLAIN) -> bytes:
    """Percent-encoded UTF-8 for what is not in `safe`, and for a space at either end; reversible.

    What matches `plain` needs none of it.
    """
    if plain.fullmatch(text):
        return text.encode("ascii")
    inner = text.strip(" ")
    before = "%20" * (len(text) - len(text.lstrip(" ")))
    after = "%20" * (len(text) - len(inner) - len(before) // 3)
    return (before + quote_from_bytes(inner.encode("utf-8"), safe) + after).encode("ascii")
