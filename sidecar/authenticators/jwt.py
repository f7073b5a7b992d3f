"""Tokens that another issuer signed (RFC 7519), judged by RFC 8725."""

from __future__ import annotations

import base64
import re
from typing import Any, NamedTuple

import structlog

from sidecar.claims import ClaimsReader
from sidecar.errors import InvalidToken
from sidecar.jwks import KeySet
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Clock
from sidecar.settings import JwtSettings
from sidecar.strict_json import read_object

LONGEST = 16 * 1024
"""Bytes of a token that is read. Those with all the groups of a large company have half of it."""

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_LAST_DATE = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch: no later time is a date."""

log = structlog.get_logger(__name__)


class _Token(NamedTuple):
    """What is written in a token, unverified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


class JwtAuthenticator:
    """Whoever one issuer vouches for. A token that names another issuer, letter by letter, is not its own.

    The times are judged by our clock. `leeway` is for what has just been issued by a clock that is ahead of
    ours (`nbf`, `iat`). There is none for `exp`: nobody is let in later than the issuer meant.
    """

    forms = frozenset({Form.BEARER})
    cookies: tuple[bytes, ...] = ()

    def __init__(self, settings: JwtSettings, name: str, *, keys: KeySet, clock: Clock) -> None:
        self.name = name
        self._settings = settings
        self._typ = _media_type(settings.typ)
        self._reader = ClaimsReader(settings, name)
        self._keys = keys
        self._clock = clock

    async def authenticate(self, credential: Credential, _client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate. Raises UpstreamUnavailable where the keys are not to be had."""
        token = _read(credential.value)
        if token is None or token.claims.get("iss") != self._settings.issuer:
            return None
        try:
            identity = self._identity(token.claims)
            await self._verify(token)
        except InvalidToken as error:
            log.debug("token_refused", authenticator=self.name, why=str(error))
            return Rejected(Reason.INVALID_TOKEN)
        return Verified(identity)

    async def _verify(self, token: _Token) -> None:
        """Raises InvalidToken, before any key is looked for where the header says enough."""
        header = token.header
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise InvalidToken("its alg is not configured")
        # No extension is understood here (RFC 7515, 4.1.11), RFC 7797's b64 among them.
        if "crit" in header or "b64" in header:
            raise InvalidToken("it wants an extension to be understood")
        if self._typ and _media_type(header.get("typ")) != self._typ:
            raise InvalidToken("its typ is another")
        if "kid" in header and not isinstance(kid, str):
            raise InvalidToken("its kid is no string")
        # Keys that a token brings along or points to (jwk, jku, x5c, x5u) are nobody's.
        key = await self._keys.find(kid, algorithm)
        if not key.verifies(algorithm, token.signed, token.signature):
            raise InvalidToken("its signature is not its issuer's")

    def _identity(self, claims: dict[str, Any]) -> Identity:
        """What is claimed, if this is the time and the place for it. Raises InvalidToken."""
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if not any(each in named for each in self._settings.audience):
            raise InvalidToken("it is not for us: its aud is another")
        now = self._clock.now()
        expires_at = _date(claims.get("exp"))
        if now >= expires_at:
            raise InvalidToken("it has expired")
        for name in ("nbf", "iat"):
            if name in claims and _date(claims[name]) > now + self._settings.leeway:
                raise InvalidToken(f"it is not in force yet: its {name} is to come")
        return self._reader.identity(claims, self._settings.issuer, expires_at)


def _read(token: bytes) -> _Token | None:
    """None where it is no compact JWS (RFC 7515, 7.1), or one that can be read in no one way."""
    if len(token) > LONGEST:
        return None
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        return None
    header, claims, signature = parts.groups()
    try:
        return _Token(
            read_object(_decoded(header)),
            read_object(_decoded(claims)),
            token[: parts.end(2)],
            _decoded(signature),
        )
    except ValueError:
        return None


def _decoded(part: bytes) -> bytes:
    """Raises ValueError where it is no base64url, or some that nobody writes: no token has two spellings."""
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise ValueError("there are bits left over")
    return decoded


def _media_type(value: object) -> str:
    """A typ as it is compared (RFC 7515, 4.1.9): `application/` may be left out, and case says nothing."""
    return value.lower().removeprefix("application/") if isinstance(value, str) else ""


def _date(value: object) -> float:
    """A NumericDate (RFC 7519, 2), in seconds since the epoch. Raises InvalidToken."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_DATE:
        raise InvalidToken("a time in it is no date, or missing")
    return float(value)
