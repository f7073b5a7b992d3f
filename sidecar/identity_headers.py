"""Identity headers: every configured one, exactly once, empty where the identity has nothing.

A header that were left out would let the client's own through at some gateways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote_from_bytes

from sidecar.model import HeaderLines, Identity

LIMIT = 8192
"""Bytes of identity headers, names and separators included, that an answer may have. A proxy gives an
answer's head 8 or 16 KiB; an identity that does not fit is refused, never cut."""

_KEPT = 4096

Value = str | tuple[str, ...]

_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_SAFE_IN_LIST = _SAFE.replace(",", "")
_PLAIN = re.compile(r"[\x21-\x24\x26-\x7e]*")  # what needs no escaping anywhere, but for a comma in a list


class IdentityHeaders:
    """Renders an identity by the configured `header = field`."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._names = tuple(name.encode("ascii") for name in fields)
        self._fields = tuple(fields.values())
        self.anonymous: HeaderLines = tuple((name, b"") for name in self._names)
        # A user has many sessions and tokens, and one set of headers.
        self._lines = lru_cache(maxsize=_KEPT)(self._rendered)

    def render(self, identity: Identity) -> HeaderLines | None:
        """The complete headers; None where they are longer than a gateway would take."""
        values = tuple([getattr(identity, field) for field in self._fields])
        try:
            return self._lines(values)
        except _TooLong:
            return None

    def _rendered(self, values: tuple[Value, ...]) -> HeaderLines:
        lines = tuple(zip(self._names, map(_escaped_value, values), strict=True))
        if not fit(lines):
            raise _TooLong
        return lines


class _TooLong(Exception):
    """What is too long may be of any length: an error is not remembered."""


def fit(lines: HeaderLines) -> bool:
    """Whether an answer may have all of these: `LIMIT`."""
    return sum(len(name) + len(": \r\n") + len(value) for name, value in lines) <= LIMIT


def _escaped_value(value: Value) -> bytes:
    if isinstance(value, tuple):
        return b",".join([escaped(item, _SAFE_IN_LIST) for item in value])
    return escaped(value)


def escaped(text: str, safe: str = _SAFE) -> bytes:
    """Percent-encoded UTF-8 for what is not in `safe`, and for a space at either end; reversible."""
    if _PLAIN.fullmatch(text) and (safe is _SAFE or "," not in text):
        return text.encode("ascii")
    inner = text.strip(" ")
    before = "%20" * (len(text) - len(text.lstrip(" ")))
    after = "%20" * (len(text) - len(inner) - len(before) // 3)
    return (before + quote_from_bytes(inner.encode("utf-8"), safe) + after).encode("ascii")
