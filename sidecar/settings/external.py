"""Settings of authenticators that trust somebody else: what others issued, or say of what they issued."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from sidecar.hosts import is_loopback
from sidecar.settings.section import Contradiction, Table
from sidecar.settings.types import (
    CertificatesFile,
    Duration,
    DurationOrNone,
    Name,
    Names,
    Secret,
    WebUrl,
    header_name,
    one_or_more,
    read_json,
    read_list,
    web_url,
)

HEADER_CLAIM = "header:"
"""What a claim begins with that is in a header of an answer, instead of its body."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_KEYS = ("jwks_url", "jwks_file", "public_key_file", "secret")
_SYMMETRIC = {"HS256": 32, "HS384": 48, "HS512": 64}
"""And the bytes that their secrets have at least (RFC 7518, 3.2)."""
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_REFUSALS = frozenset(range(400, 500)) - {429}


def authenticator_name(name: str) -> str:
    """What an authenticator may be called, also in metrics, in `X-Auth-Method` and in the environment."""
    if not _NAME.fullmatch(name):
        raise ValueError("that is no name: it has small letters, digits, _ and -, and begins with a letter")
    return name


class Claims(Table):
    """Which claim each field of an identity comes from: dotted paths (`realm_access.roles`), "" for none.

    A list may also be written as words with spaces between them.
    """

    subject: Name = "sub"
    username: str = "preferred_username"
    email: str = "email"
    name: str = "name"
    roles: str = "roles"
    permissions: str = "permissions"
    scopes: str = "scope"


def header_claims(claims: Claims) -> list[str]:
    """Those of the paths that are in a header."""
    return list(_header_fields(claims).values())


def _header_fields(claims: Claims) -> dict[str, str]:
    paths = {field: getattr(claims, field) for field in Claims.model_fields}
    return {field: path for field, path in paths.items() if path.startswith(HEADER_CLAIM)}


class IntrospectionClaims(Claims):
    """The same; RFC 7662 has a name of its own for the user."""

    username: str = "username"


class External(Table):
    """What all of them have in common."""

    enabled: bool = True
    claims: Claims = Claims()
    subject_prefix: str = Field("", description="Put before every subject: keeps several sources apart.")
    numeric_subject: bool = Field(
        default=False,
        description="A decimal subject is itself the numeric id that products' endpoints want of a user.",
    )
    ca_file: CertificatesFile = Field(
        "", description="A PEM bundle to verify their TLS with, instead of the system's."
    )
    allow_http: bool = Field(default=False, description="Ask them over plain http beyond this machine.")

    def _over_http(self, key: str, *about: str) -> Iterator[Contradiction]:
        """Where this key is an address that is asked; which depends on what it is `about`."""
        parts = urlsplit(getattr(self, key))
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.allow_http:
            yield Contradiction(
                (key, "allow_http", *about), "whoever is on the way can answer: use https, or set allow_http"
            )


class JwtSettings(External):
    """JWTs of an OpenID provider, or of anybody who signs them (RFC 7519)."""

    type: Literal["jwt"]
    issuer: Name = Field(examples=["https://login.example.com"], description="Their iss, letter by letter.")
    audience: Annotated[tuple[Name, ...], BeforeValidator(one_or_more)] = Field(
        examples=["orders"], description="Who we are to them: their aud names any one of these."
    )
    algorithms: Annotated[
        tuple[
            Literal[
                "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
                "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
            ],
            ...,
        ],
        BeforeValidator(one_or_more),
    ] = Field(examples=["RS256"], description="Those that they sign with, and no others.")  # fmt: skip
    jwks_url: WebUrl = Field("", description="Their keys. Without any key they are discovered at the issuer.")
    jwks_file: str = ""
    public_key_file: str = Field("", description="One key, in PEM.")
    secret: Secret = Field("", repr=False, description="For HS256 and its kind: 32 bytes or more.")
    leeway: Duration = Field(
        30.0, description="How far their clock may be ahead of ours (nbf, iat); for exp there is none."
    )
    typ: str = Field("", description='The typ that their tokens must have: "at+jwt". Empty: any.')

    @property
    def is_discovered(self) -> bool:
        """Whether the keys are found by the issuer's own metadata."""
        return not any(getattr(self, key) for key in _KEYS)

    def contradictions(self) -> Iterator[Contradiction]:
        """See Section.contradictions."""
        given = [key for key in _KEYS if getattr(self, key)]
        for key in given[1:]:
            yield Contradiction((key, given[0]), f"{given[0]} has the keys already")
        yield from self._misfit_algorithms()
        if self.is_discovered:
            yield from self._undiscoverable()
        yield from self._over_http("jwks_url")

    def _misfit_algorithms(self) -> Iterator[Contradiction]:
        symmetric = _SYMMETRIC.keys() & set(self.algorithms)
        if symmetric and not self.secret:
            yield Contradiction(
                ("algorithms", "secret"), f"{min(symmetric)} is for a secret, and no public key is one"
            )
        if self.secret and symmetric != set(self.algorithms):
            yield Contradiction(("algorithms", "secret"), "a secret is for HS256, HS384 and HS512 alone")
        needed = max((_SYMMETRIC[algorithm] for algorithm in symmetric), default=0)
        if self.secret and len(self.secret.encode()) < needed:
            yield Contradiction(
                ("secret", "algorithms"),
                f"it has fewer than {needed} bytes: whoever has one token can guess it",
            )

    def _undiscoverable(self) -> Iterator[Contradiction]:
        """Metadata are below the issuer's address (OpenID Connect Discovery 1.0, 4)."""
        if _is_plain_address(self.issuer):
            yield from self._over_http("issuer", *_KEYS)
        else:
            yield Contradiction(
                ("issuer", *_KEYS),
                "its keys would be discovered there: write an address without query and fragment, such as "
                '"https://login.example.com", or set jwks_url',
            )


def _is_plain_address(text: str) -> bool:
    try:
        return {"?", "#"}.isdisjoint(web_url(text))
    except ValueError:
        return False


class Breaker(Table):
    """After so many faults in a row nobody is asked for a while."""

    faults: int = Field(5, ge=1)
    open: Duration = 5.0


class AskingSettings(External):
    """What those have in common that are asked about each credential."""

    url: WebUrl = Field(
        min_length=1,
        examples=["https://login.example.com/check"],
        description="The endpoint's whole address.",
    )
    timeout: Duration = Field(2.0, description="For a whole call.")
    cache: DurationOrNone = Field(10.0, description="How long an answer is good.")
    negative_cache: DurationOrNone = Field(2.0, description="How long a refusal is.")
    stale_if_error: DurationOrNone = Field(
        60.0, description="How much longer an identity goes on while they cannot be asked."
    )
    breaker: Breaker = Breaker()

    def contradictions(self) -> Iterator[Contradiction]:
        """See Section.contradictions."""
        yield from self._over_http("url")


class IntrospectionSettings(AskingSettings):
    """Opaque tokens, by introspection (RFC 7662)."""

    type: Literal["introspection"]
    claims: IntrospectionClaims = IntrospectionClaims()
    client_id: Name = Field(examples=["sidecar"])
    client_secret: Secret = Field(repr=False, min_length=1, examples=["CHANGE"])
    client_auth: Literal["basic", "post"] = Field(
        "basic", description="Whether the client's credentials go into a header, or into the form."
    )
    issuer: str = Field("", description="The iss that an answer must have. Empty: any, or none.")
    audience: Names = Field(
        (), description="Any one of these must be in the answer's aud. Empty: any, or none."
    )


def _cookie_name(value: str) -> str:
    if not _COOKIE_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a cookie's name")
    return value


def _refusal(status: int) -> int:
    if status not in _REFUSALS:
        raise ValueError(f"{status} never means no: a refusal has a status from 400 to 499, but for 429")
    return status


_OF_AUTHING = ("over", "app_id", "access_key_id", "access_key_secret")

CookieNames = Annotated[tuple[Annotated[str, AfterValidator(_cookie_name)], ...], BeforeValidator(read_list)]
HeaderNames = Annotated[tuple[Literal["Authorization", "X-Api-Key"], ...], BeforeValidator(read_list)]
Refusals = Annotated[tuple[Annotated[int, AfterValidator(_refusal)], ...], BeforeValidator(one_or_more)]


class UpstreamSettings(AskingSettings):
    """Cookies and tokens that an application of yours already knows how to check.

    With the dialect `generic`, a claim is a dotted path in the JSON object that the application answers, or
    `header:X-User`, a header of its answer. Where the subject is in a header, no body is read. A list is in
    one header, with commas between its items.
    """

    type: Literal["upstream"]
    dialect: Literal["cargo-extra", "compass", "pulse", "virola", "authing", "generic"] = "generic"
    forward_cookies: CookieNames = Field(
        (), description="Which cookies of the client are passed on. No others are."
    )
    forward_headers: HeaderNames = Field(
        (),
        description='Which headers are: "Authorization" (a bearer token), "X-Api-Key". No others are. With '
        "neither cookies nor headers: Authorization to cargo-extra and pulse, VirolaUserSessionId to virola.",
    )
    pass_cookies: CookieNames = Field((), description="Which cookies that they set reach the client.")
    method: Literal["GET", "POST", "HEAD"] = Field("GET", description="generic: how it is asked.")
    refused_statuses: Refusals = Field((401, 403), description="generic: what means no.")
    over: str = Field("", description="authing: the authenticator that says who it is.")
    app_id: str = Field("", description="authing: the app in which they must have a session.")
    access_key_id: str = Field("", description="authing.")
    access_key_secret: Secret = Field("", repr=False, description="authing.")

    @property
    def forwarded_cookies(self) -> tuple[str, ...]:
        """The cookies that are passed on: those that are set, or the product's own."""
        own = not self.forward_headers and self.dialect == "virola"
        return self.forward_cookies or (("VirolaUserSessionId",) if own else ())

    @property
    def forwarded_headers(self) -> tuple[str, ...]:
        """The headers that are passed on: those that are set, or the product's own."""
        own = not self.forward_cookies and self.dialect in {"cargo-extra", "pulse"}
        return self.forward_headers or (("Authorization",) if own else ())

    def contradictions(self) -> Iterator[Contradiction]:
        """See Section.contradictions."""
        yield from super().contradictions()
        for keys, message in self._against_dialect():
            yield Contradiction((*keys, "dialect"), message)

    def _against_dialect(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Keys that are not as this dialect wants them, as in Contradiction."""
        match self.dialect:
            case "generic":
                yield from self._not_generic()
                yield from self._authing_alone()
            case "authing":
                yield from self._generic_alone()
                yield from self._not_authing()
            case "compass":
                yield from self._not_a_product()
                yield from self._not_compass()
            case _:
                yield from self._not_a_product()

    def _not_generic(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if not self.forward_headers and not self.forward_cookies:
            yield (
                ("forward_headers", "forward_cookies"),
                "nothing is forwarded: say which cookies or headers are the credential",
            )
        for field, path in _header_fields(self.claims).items():
            try:
                header_name(path.removeprefix(HEADER_CLAIM))
            except ValueError as error:
                yield (f"claims.{field}",), str(error)
        if self.method == "HEAD" and not self.claims.subject.startswith(HEADER_CLAIM):
            yield (
                ("method", "claims.subject"),
                'an answer to HEAD has no body: claims.subject has to be in a header ("header:X-User")',
            )

    def _not_a_product(self) -> Iterator[tuple[tuple[str, ...], str]]:
        yield from self._generic_alone()
        for field in _header_fields(self.claims):
            yield (f"claims.{field}",), f"{self.dialect} says everything in its body: a header is for generic"
        yield from self._authing_alone()

    def _not_compass(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.forward_headers != ("Authorization",) or self.forward_cookies:
            yield (
                ("forward_headers", "forward_cookies"),
                'compass is asked about a bearer: it is ["Authorization"], and no cookies',
            )

    def _not_authing(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for key in ("forward_cookies", "forward_headers", "pass_cookies"):
            if getattr(self, key):
                yield (
                    (key,),
                    "authing is asked about a user: no credential reaches it, and no cookie comes back",
                )
        for key in self._changed("claims", "subject_prefix", "numeric_subject"):
            yield (key,), "authing does not say who it is: leave it to the one that it is over"
        for key in _OF_AUTHING:
            if not getattr(self, key):
                yield (key,), "authing needs it"

    def _generic_alone(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for key in self._changed("method", "refused_statuses"):
            yield (key,), f"{self.dialect} says that itself: it is for generic"

    def _authing_alone(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for key in self._changed(*_OF_AUTHING):
            yield (key,), f"{self.dialect} knows nothing of it: it is for authing"

    def _changed(self, *keys: str) -> list[str]:
        """Those of the keys that are not at their defaults."""
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]


KINDS: Mapping[str, type[External]] = {
    "jwt": JwtSettings,
    "introspection": IntrospectionSettings,
    "upstream": UpstreamSettings,
}
"""By the `type` of their tables."""

ExternalSettings = JwtSettings | IntrospectionSettings | UpstreamSettings
AnyExternalSettings = Annotated[ExternalSettings, Field(discriminator="type"), BeforeValidator(read_json)]
