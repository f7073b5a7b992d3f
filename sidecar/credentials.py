"""The credential of a request: which one is presented, and what stands for a secret at rest."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Sequence
from hashlib import sha256

from sidecar.errors import CredentialRefused, EmptyCredential
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


def presented(
    headers: Headers,
    forms: frozenset[Form],
    own_cookie: bytes,
    others_cookies: Sequence[Sequence[bytes]] = (),
) -> Credential | None:
    """The one credential that decides: Authorization, then X-Api-Key, then a session's cookies.

    `own_cookie` is the name of our own session's, empty where that is not read; `others_cookies` are the
    names of each other system's. What has none of `forms` is passed over: it is meant for the application.
    Raises CredentialRefused where one is there that cannot be read one way: it is never skipped for the next.
    """
    return (
        in_authorization(headers, forms)
        or (_in_api_key(headers) if Form.API_KEY in forms else None)
        or (in_cookie(headers, own_cookie) if own_cookie and Form.COOKIE in forms else None)
        or (_in_cookies(headers, others_cookies) if others_cookies and Form.COOKIE in forms else None)
    )


def in_authorization(headers: Headers, forms: frozenset[Form]) -> Credential | None:
    """The credential of one of these forms in Authorization. Raises CredentialRefused."""
    values = headers.all(b"authorization")
    if not values or forms.isdisjoint(_AUTHORIZATION_FORMS.values()):
        return None
    if len(values) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    if not values[0]:
        raise EmptyCredential(Reason.MALFORMED_CREDENTIAL)
    scheme, *value = values[0].split(maxsplit=1) or (b"",)
    form = _AUTHORIZATION_FORMS.get(scheme.lower())
    if form is None or form not in forms:
        return None
    return read_credential(form, b"".join(value).rstrip())


def _in_api_key(headers: Headers) -> Credential | None:
    values = headers.all(b"x-api-key")
    if not values:
        return None
    if len(values) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return read_credential(Form.API_KEY, values[0])


def in_cookie(headers: Headers, name: bytes, form: Form = Form.COOKIE) -> Credential | None:
    """The credential in the cookie of this name, which holds one of this form. Raises CredentialRefused."""
    values = cookie_values(headers, name)
    if not values:
        return None
    if len(set(values)) > 1:
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return read_credential(form, values[0])


def _in_cookies(headers: Headers, sessions: Sequence[Sequence[bytes]]) -> Credential | None:
    """The first session of which a cookie is there, with all of its cookies."""
    for names in sessions:
        found = [
            (name, each)
            for name in names
            if any(cookie_values(headers, name)) and (each := in_cookie(headers, name))
        ]
        if found:
            value = b"; ".join(b"%b=%b" % (name, each.value) for name, each in found)
            return Credential(Form.COOKIE, value, b"; ".join(names))
    return None


def read_credential(form: Form, value: bytes) -> Credential:
    """Raises CredentialRefused where the value cannot be one of this form."""
    if not value:
        raise EmptyCredential(Reason.MALFORMED_CREDENTIAL)
    # A session's secret is looked up by its hash: whatever else it may be, it is not found.
    if form is not Form.COOKIE and not _TOKEN.fullmatch(value):
        raise CredentialRefused(Reason.MALFORMED_CREDENTIAL)
    return Credential(form, value)


def name_and_password(value: bytes) -> tuple[str, str]:
    """What follows `Basic ` (RFC 7617); both empty where it is not base64 of UTF-8 with a colon in it."""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def cookie_values(headers: Headers, name: bytes) -> list[bytes]:
    """The values of this cookie, byte for byte: nothing is unquoted, and no other cookie matters."""
    line = b";".join(headers.all(b"cookie"))
    if name not in line:  # as it is for most names that are asked for
        return []
    values = []
    for pair in line.split(b";"):
        each, separator, value = pair.strip(b" \t").partition(b"=")
        if each == name and separator:
            values.append(value)
    return values
