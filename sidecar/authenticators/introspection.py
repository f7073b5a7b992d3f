"""Tokens that say nothing to us, by asking whoever issued them (RFC 7662)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from math import inf
from typing import Any
from urllib.parse import quote_plus, urlencode

import structlog

from sidecar.answers import Answers
from sidecar.asking import Asker, Reply, blames_the_question
from sidecar.claims import ClaimsReader
from sidecar.credentials import API_KEY_PREFIX
from sidecar.errors import InvalidToken, InvalidValue, UpstreamUnavailable
from sidecar.hosts import origin_of
from sidecar.model import Credential, Form, Identity, IPAddress, Rejected, Verified
from sidecar.ports import Clock
from sidecar.settings import IntrospectionSettings
from sidecar.strict_json import read_object

_HEADERS = [(b"accept", b"application/json"), (b"content-type", b"application/x-www-form-urlencoded")]
_FORM = {"token_type_hint": "access_token"}

_BEARERS = {"bearer", "access_token"}
"""The token_type of what may be presented as it is: not of a refresh token, nor of one that is bound to a key
(RFC 9449)."""

_OUR_CLIENT_IS_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

log = structlog.get_logger(__name__)


class IntrospectionAuthenticator:
    """Whoever one introspection endpoint names for a token.

    It is asked about every bearer but API keys: an opaque token does not say whose it is. A token that is
    not active there, not meant for us, or names nobody is None, since another authenticator may know it.
    An answer that no such endpoint gives is an outage, whatever it says besides.

    `answers` are this authenticator's own: a token is all that tells its questions apart.
    """

    forms = frozenset({Form.BEARER})
    cookies: tuple[bytes, ...] = ()

    def __init__(
        self,
        *,
        name: str,
        settings: IntrospectionSettings,
        asker: Asker,
        answers: Answers,
        clock: Clock,
        is_ours: Callable[[bytes], bool],
    ) -> None:
        self.name = name
        self._settings = settings
        self._origin = origin_of(settings.url)
        self._reader = ClaimsReader(settings, name)
        self._asker = asker
        self._answers = answers
        self._clock = clock
        self._is_ours = is_ours
        self._headers, self._form = list(_HEADERS), dict(_FORM)
        if settings.client_auth == "basic":
            self._headers.append((b"authorization", _basic(settings.client_id, settings.client_secret)))
        else:
            self._form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}

    async def authenticate(self, credential: Credential, _client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate. Raises UpstreamUnavailable, UpstreamThrottled; never Rejected."""
        if credential.value.startswith(API_KEY_PREFIX.encode("ascii")):
            return None
        return await self._answers.get(credential.value, partial(self._ask, credential.value))

    async def _ask(self, token: bytes) -> Verified | None:
        if self._is_ours(token):  # here, since a token takes longer to read than an answer to be remembered
            return None
        content = urlencode({"token": token, **self._form}).encode("ascii")
        try:
            return await self._asker.ask_for(
                self._read,
                "POST",
                self._settings.url,
                headers=self._headers,
                content=content,
                about=token,
            )
        except InvalidValue as error:
            raise UpstreamUnavailable(str(error)) from None

    def _read(self, reply: Reply) -> Verified | None:
        """What the answer says (2.2). Raises UpstreamUnavailable; InvalidValue as `_check_status`."""
        self._check_status(reply.status)
        try:
            claims = _present(read_object(reply.body))
            return Verified(self._identity(claims)) if _is_active(claims) else None
        except InvalidToken as error:
            log.debug("token_refused", authenticator=self.name, why=str(error))
            return None
        except InvalidValue as error:
            raise UpstreamUnavailable(f"{self.name}: its answer is no introspection: {error}") from None

    def _check_status(self, status: int) -> None:
        """Raises UpstreamUnavailable, and InvalidValue where this question alone may be to blame.

        Some answer a token that they cannot read with 400: nobody who sends such tokens may have us stop
        asking about everybody else's. That our client is refused (2.3) is no token's doing.
        """
        if status == HTTPStatus.OK:
            return
        refused = status in _OUR_CLIENT_IS_REFUSED
        why = "it refuses our client_id and client_secret" if refused else "this is no answer to the question"
        fault = InvalidValue if blames_the_question(status) and not refused else UpstreamUnavailable
        raise fault(f"{self.name}: status {status}: {why}")

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        """Who it is. Raises InvalidToken where it is not for us, not now or nobody's; InvalidValue."""
        if str(claims.get("token_type", "bearer")).lower() not in _BEARERS:
            raise InvalidToken("its token_type is for another use")
        expires_at = _moment(claims, "exp", absent=inf)
        if self._clock.now() >= expires_at:
            raise InvalidToken("it has expired")
        # Whether it is in force yet, the server has said: by its own clock, which may be ahead of ours.
        issuer = _text(claims.get("iss", ""), "iss")
        if self._settings.issuer and issuer != self._settings.issuer:
            raise InvalidToken("its iss is another")
        if self._settings.audience and _audience(claims).isdisjoint(self._settings.audience):
            raise InvalidToken("it is not for us: its aud is another")
        # A client's own token names no user, and its client_id is never taken for one: a client that may
        # choose it could choose somebody's (RFC 9700, 4.15). Whoever means clients sets claims.subject.
        return self._reader.identity(claims, issuer or self._origin, expires_at)


def _basic(client_id: str, secret: str) -> bytes:
    """RFC 6749, 2.3.1: both are encoded as in a form first, so that neither has a colon."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return b"Basic " + base64.b64encode(pair.encode("ascii"))


def _present(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The members that say something: some servers write all, and null for those that they do not have."""
    return {name: value for name, value in claims.items() if value is not None}


def _is_active(claims: Mapping[str, Any]) -> bool:
    """Raises InvalidValue for what is no boolean: nobody knows what it means."""
    active = claims.get("active")
    if not isinstance(active, bool):
        raise InvalidValue("its active is no boolean")
    return active


def _moment(claims: Mapping[str, Any], name: str, *, absent: float) -> float:
    """Seconds since the epoch. Raises InvalidValue."""
    value = claims.get(name, absent)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"its {name} is no number")
    try:
        return float(value)
    except OverflowError:
        raise InvalidValue(f"its {name} is no time") from None


def _audience(claims: Mapping[str, Any]) -> set[str]:
    """One or several (RFC 7519, 4.1.3). Raises InvalidValue."""
    audience = claims.get("aud", [])
    return {_text(each, "aud") for each in (audience if isinstance(audience, list) else [audience])}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"its {name} is no text")
    return value
