"""The credential of a request: which one is presented, and what stands for a secret at rest."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256

from sidecar.errors import CredentialRefused
from sidecar.model import Credential, Form, Headers, Reason

API_KEY_PREFIX = "sk_"

_SECRET_BYTES = 32
_ID_DIGITS = 32
_AUTHORIZATION_FORMS = {b"bearer": Form.BEARER, b"basic": Form.BASIC}
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")


def new_secret() -> str:
    """256 random bits, as a cookie and a header can carry them."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def new_api_key() -> str:
    """An API key, recognisable by its prefix."""
    return API_KEY_PREFIX + new_secret()


def id_of_secret(secret: bytes) -> str:
    """What stands for a secret at rest, and names it in lists: half of its SHA-256, in hexadecimal.

    Nobody can find a secret for a given id: 128 bits of a digest of 256 random ones.
    """
    return sha256(secret).hexdigest()[:_ID_DIGITS]


def presented(headers: Headers, forms: frozenset[Form], cookie_name: bytes) -> Credential | None:
    """The one credential that decides: Authorization, then X-Api-Key, then the session's cookie.

    What has none of `forms` is passed over: it is meant for the application. Raises CredentialRefused
    where one is there that cannot be read one way: it is never skipped for the next.
    """
    return (
        _from_authorization(headers, forms)
        or (_from_api_key(headers) if Form.API_KEY in forms else None)
        or (_from_cookies(headers, cookie_name) if Form.COOKIE in forms else None)
    )


def _from_authorization(headers: Headers, forms: frozenset[Form]) -> Credential | None:
    values = headers.all(b"authorization")
    if not values or forms.isdisjoint(_AUTHORIZATION_FORMS.values()):
        return None
    if len(values) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    scheme, *value = values[0].split(maxsplit=1) or (b"",)
    form = _AUTHORIZATION_FORMS.get(scheme.lower())
    if form is None or form not in forms:
        return None
    return _token(form, b"".join(value).rstrip())


def _from_api_key(headers: Headers) -> Credential | None:
    values = headers.all(b"x-api-key")
    if not values:
        return None
    if len(values) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return _token(Form.API_KEY, values[0])


def _token(form: Form, value: bytes) -> Credential:
    if not _TOKEN.fullmatch(value):
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return Credential(form, value)


def _from_cookies(headers: Headers, name: bytes) -> Credential | None:
    values = cookie_values(headers, name)
    if not values:
        return None
    if len(set(values)) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return Credential(Form.COOKIE, values[0])


def cookie_values(headers: Headers, name: bytes) -> list[bytes]:
    """The values of this cookie, byte for byte: nothing is unquoted, and no other cookie matters."""
    lines = headers.all(b"cookie")
    if not lines:
        return []
    values = []
    for pair in b";".join(lines).split(b";"):
        each, separator, value = pair.strip(b" \t").partition(b"=")
        if each == name and separator:
            values.append(value)
    return values
