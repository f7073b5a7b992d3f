"""Tokens that another issuer signed (RFC 7519), judged by RFC 8725."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from sidecar.claims import ClaimsReader
from sidecar.errors import InvalidToken
from sidecar.jwks import KeySet
from sidecar.jws import Jws, read_jws
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Clock
from sidecar.settings import JwtSettings

_LAST_DATE = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch: no later time is a date."""

_LONGEST_SHOWN = 200

log = structlog.get_logger(__name__)


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
        """See Authenticator.authenticate. Raises IssuerUnavailable where the keys are not to be had."""
        try:
            token = read_jws(credential.value)
        except InvalidToken:
            return None
        if token.claims.get("iss") != self._settings.issuer:
            log.debug("token_of_another_issuer", authenticator=self.name, iss=_shown(token.claims.get("iss")))
            return None
        try:
            identity = self._identity(token.claims)
            await self._verify(token)
        except InvalidToken as error:
            log.debug("token_refused", authenticator=self.name, why=str(error))
            return Rejected(Reason.INVALID_TOKEN)
        return Verified(identity, cacheable=self._keys.good_for)

    async def _verify(self, token: Jws) -> None:
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

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
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


def _shown(value: object) -> str:
    """For the log, where it is to be compared letter by letter; a token may claim anything."""
    return repr(value)[:_LONGEST_SHOWN]


def _media_type(value: object) -> str:
    """A typ as it is compared (RFC 7515, 4.1.9): `application/` may be left out, and case says nothing."""
    return value.lower().removeprefix("application/") if isinstance(value, str) else ""


def _date(value: object) -> float:
    """A NumericDate (RFC 7519, 2), in seconds since the epoch. Raises InvalidToken."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_DATE:
        raise InvalidToken("a time in it is no date, or missing")
    return float(value)
