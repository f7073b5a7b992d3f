"""Requests that Authing's Node client signs with its access key, instead of fetching a token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sidecar.errors import RequestRefused
from sidecar.management import Signature
from sidecar.model import Headers

_AUTHORIZATION = re.compile(rb"authing ([^\s:]+):([A-Za-z0-9+/]{27}=)")
_NONCE = re.compile(rb"[!-~]{1,128}")
"""Without whitespace: what is signed does not tell one whitespace from another, or from none at the ends."""

_DATE = "%a, %d %b %Y %H:%M:%S GMT"
_OWN_HEADERS = b"x-authing-"
_METHOD, _VERSION = b"HMAC-SHA1", b"1.0"


def read_signature(headers: Headers, path: str, body: Mapping[str, Any]) -> Signature | None:
    """What the headers of a POST say about its signature; None where it cannot be verified."""
    try:
        return _read(headers, path, body)
    except RequestRefused:  # a header is missing, or there twice
        return None


def _read(headers: Headers, path: str, body: Mapping[str, Any]) -> Signature | None:
    only = headers.only
    found = _AUTHORIZATION.fullmatch(only(b"authorization"))
    method, version = only(b"x-authing-signature-method"), only(b"x-authing-signature-version")
    nonce, signed_at = only(b"x-authing-signature-nonce"), _date(only(b"date"))
    if found is None or not _NONCE.fullmatch(nonce) or signed_at is None:
        return None
    if (method, version) != (_METHOD, _VERSION):
        return None
    return Signature(
        key_id=found[1].decode("latin-1"),
        digest=base64.b64decode(found[2]),
        text=signed_text(headers, path, body),
        nonce=nonce,
        signed_at=signed_at,
    )


def signed_text(headers: Headers, path: str, body: Mapping[str, Any]) -> bytes:
    """What the client signs: the method, its own headers and the date by name, and the body as a query.

    Nothing in it is URL-encoded, and the path is the endpoint's own, wherever a proxy has put it. Raises
    RequestRefused where one of the headers is there twice.
    """
    names = sorted({name for name, _ in headers.lines if name == b"date" or name.startswith(_OWN_HEADERS)})
    lines = [f"{name.decode('latin-1')}:{_header_text(headers, name)}\n" for name in names]
    # JavaScript sorts by UTF-16 code units.
    keys = sorted(body, key=lambda key: key.encode("utf-16-be"))
    query = "&".join(f"{key}={_value_text(body[key])}" for key in keys)
    return f"POST\n{''.join(lines)}{path}{'?' if keys else ''}{query}".encode()


def _header_text(headers: Headers, name: bytes) -> str:
    value = headers.optional(name) or b""
    return value.decode("latin-1").replace("\t", " ").strip()


def _value_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _date(value: bytes) -> float | None:
    """Seconds since the epoch of a date in the form in which HTTP writes them (RFC 9110, 5.6.7)."""
    try:
        return datetime.strptime(value.decode("latin-1"), _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
