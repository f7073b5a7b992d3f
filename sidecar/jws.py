"""Compact JSON Web Signatures (RFC 7515, 7.1), read strictly and not verified."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sidecar.errors import InvalidToken, InvalidValue
from sidecar.strict_json import read_object

LONGEST = 16 * 1024
"""Bytes of a token that is read. Those with all the groups of a large company have half of it."""

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


class Jws(NamedTuple):
    """What is written in a token. Nobody has proven any of it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "<Jws>"


@lru_cache(maxsize=32)
def read_jws(token: bytes) -> Jws:
    """The parts of a token. Raises InvalidToken where it is no JWS, or can be read in more than one way.

    The last few are remembered: each authenticator looks at a token in turn.
    """
    parts = _COMPACT.fullmatch(token) if len(token) <= LONGEST else None
    if parts is None:
        raise InvalidToken("it is not three parts of unpadded base64url")
    header, claims, signature = parts.groups()
    return Jws(_members(header), _members(claims), token[: parts.end(2)], _decoded(signature))


def _members(part: bytes) -> dict[str, Any]:
    try:
        return read_object(_decoded(part))
    except InvalidValue:
        raise InvalidToken("a part of it is not a JSON object") from None


def _decoded(part: bytes) -> bytes:
    """Raises InvalidToken also for what nobody writes: no token has two spellings."""
    try:
        decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        raise InvalidToken("a part of it is no base64url") from None
    last = len(part) % 4
    if last and base64.urlsafe_b64encode(decoded[1 - last :]).rstrip(b"=") != part[-last:]:
        raise InvalidToken("a part of it has bits left over")
    return decoded
