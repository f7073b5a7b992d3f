"""Settings of authenticators that trust somebody else: what others issued, or say of what they issued."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from sidecar.hosts import is_loopback
from sidecar.settings.section import Table
from sidecar.settings.types import (
    Duration,
    Name,
    Names,
    ReadableFile,
    Secret,
    WebUrl,
    header_name,
    one_or_more,
    read_json,
    read_list,
)

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""What an authenticator may be called: it appears in metrics, in `X-Auth-Method` and in the environment."""

HEADER_CLAIM = "header:"
"""What a claim begins with that is in a header of an answer, instead of its body."""

_SYMMETRIC = {"HS256": 32, "HS384": 48, "HS512": 64}
"""And the bytes that their secrets have at least (RFC 7518, 3.2)."""
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_REFUSALS = frozenset(range(400, 500)) - {429}


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
    paths = [getattr(claims, field) for field in Claims.model_fields]
    return [path for path in paths if path.startswith(HEADER_CLAIM)]


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
    ca_file: ReadableFile = Field(
        "", description="A PEM bundle to verify their TLS with, instead of the system's."
    )
    allow_http: bool = Field(default=False, description="Ask them over plain http beyond this machine.")

    def urls(self) -> Iterator[tuple[str, str]]:
        """The keys and values of the addresses that are asked."""
        yield from ()

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        for key, url in self.urls():
            parts = urlsplit(url)
            if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.allow_http:
                raise ValueError(f"{key}: whoever is on the way can answer: use https, or set allow_http")
        return self


class JwtSettings(External):
    """JWTs of an OpenID provider, or of anybody who signs them (RFC 7519)."""

    type: Literal["jwt"]
    issuer: Name = Field(description="Their iss, letter by letter.")
    audience: Annotated[tuple[Name, ...], BeforeValidator(one_or_more)] = Field(
        min_length=1, description="Who we are to them: their aud names any one of these."
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
    ] = Field(min_length=1, description="Those that they sign with, and no others.")  # fmt: skip
    jwks_url: WebUrl = Field("", description="Their keys. Without any key they are discovered at the issuer.")
    jwks_file: ReadableFile = ""
    public_key_file: ReadableFile = Field("", description="One key, in PEM.")
    secret: Secret = Field("", repr=False, description="For HS256 and its kind: 32 bytes or more.")
    leeway: Duration = Field(
        30.0, description="How far their clock may be ahead of ours (nbf, iat); for exp there is none."
    )
    typ: str = Field("", description='The typ that their tokens must have: "at+jwt". Empty: any.')

    def urls(self) -> Iterator[tuple[str, str]]:
        """See External.urls."""
        if self.jwks_url:
            yield "jwks_url", self.jwks_url
        elif self.is_discovered:
            yield "issuer", self.issuer

    @property
    def is_discovered(self) -> bool:
        """Whether the keys are found by the issuer's own metadata."""
        return not any((self.jwks_url, self.jwks_file, self.public_key_file, self.secret))

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        given = [key for key in ("jwks_url", "jwks_file", "public_key_file", "secret") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: {given[0]} has the keys already")
        symmetric = _SYMMETRIC.keys() & set(self.algorithms)
        if symmetric and not self.secret:
            raise ValueError(f"algorithms: {min(symmetric)} is for a secret, and no public key is one")
        if self.secret and symmetric != set(self.algorithms):
            raise ValueError("algorithms: a secret is for HS256, HS384 and HS512 alone")
        needed = max((_SYMMETRIC[algorithm] for algorithm in symmetric), default=0)
        if len(self.secret.encode()) < needed:
            raise ValueError(f"secret: it has fewer than {needed} bytes: whoever has one token can guess it")
        if self.is_discovered and urlsplit(self.issuer).scheme not in {"http", "https"}:
            raise ValueError("issuer: it is no URL, so its keys cannot be discovered: set jwks_url")
        return self


class Breaker(Table):
    """After so many faults in a row nobody is asked for a while."""

    faults: int = Field(5, ge=1)
    open: Duration = 5.0


class AskingSettings(External):
    """What those have in common that are asked about each credential."""

    url: WebUrl = Field(min_length=1, description="The endpoint's whole address.")
    timeout: Duration = Field(2.0, description="For a whole call.")
    cache: Duration = Field(10.0, description="How long an answer is good.")
    negative_cache: Duration = Field(2.0, description="How long a refusal is.")
    stale_if_error: Duration = Field(
        60.0, description="How much longer an identity goes on while they cannot be asked."
    )
    breaker: Breaker = Breaker()

    def urls(self) -> Iterator[tuple[str, str]]:
        """See External.urls."""
        yield "url", self.url


class IntrospectionSettings(AskingSettings):
    """Opaque tokens, by introspection (RFC 7662)."""

    type: Literal["introspection"]
    claims: IntrospectionClaims = IntrospectionClaims()
    client_id: Name
    client_secret: Secret = Field(repr=False, min_length=1)
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


CookieNames = Annotated[tuple[Annotated[str, AfterValidator(_cookie_name)], ...], BeforeValidator(read_list)]
HeaderNames = Annotated[tuple[Literal["Authorization", "X-Api-Key"], ...], BeforeValidator(read_list)]
Refusals = Annotated[tuple[Annotated[int, AfterValidator(_refusal)], ...], BeforeValidator(read_list)]


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
        validate_default=True,
        description='Which headers are: "Authorization" (a bearer token), "X-Api-Key". No others are. With '
        "neither cookies nor headers: Authorization to cargo-extra and pulse, VirolaUserSessionId to virola.",
    )
    pass_cookies: CookieNames = Field((), description="Which cookies that they set reach the client.")
    method: Literal["GET", "POST", "HEAD"] = Field("GET", description="generic: how it is asked.")
    refused_statuses: Refusals = Field((401, 403), min_length=1, description="generic: what means no.")
    over: str = Field(
        "", validate_default=True, description="authing: the authenticator that says who it is."
    )
    app_id: str = Field(
        "", validate_default=True, description="authing: the app in which they must have a session."
    )
    access_key_id: str = Field("", validate_default=True, description="authing.")
    access_key_secret: Secret = Field("", repr=False, validate_default=True, description="authing.")

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

    @field_validator("claims")
    @classmethod
    def _headers_of_claims(cls, claims: Claims) -> Claims:
        for path in header_claims(claims):
            header_name(path.removeprefix(HEADER_CLAIM))
        return claims

    @field_validator("dialect")
    @classmethod
    def _claims_fit(cls, dialect: str, info: ValidationInfo) -> str:
        says_who = [info.data.get(name) for name in ("subject_prefix", "numeric_subject")]
        claims = info.data.get("claims")
        if dialect == "authing" and (any(says_who) or claims not in {None, Claims()}):
            raise ValueError(
                "authing does not say who it is: leave claims, subject_prefix and numeric_subject to the one "
                "that it is over"
            )
        for path in header_claims(claims) if claims else ():
            if dialect != "generic":
                raise ValueError(f"{dialect} says everything in its body: {path} is for generic")
        return dialect

    @field_validator("forward_headers")
    @classmethod
    def _something_is_forwarded(cls, headers: HeaderNames, info: ValidationInfo) -> HeaderNames:
        dialect, cookies = info.data.get("dialect"), info.data.get("forward_cookies", ("unknown",))
        if dialect == "compass" and (headers != ("Authorization",) or info.data.get("forward_cookies")):
            raise ValueError('compass is asked about a bearer: it is ["Authorization"], and no cookies')
        if dialect == "generic" and not headers and not cookies:
            raise ValueError("nothing is forwarded: say which cookies or headers are the credential")
        return headers

    @field_validator("forward_cookies", "forward_headers", "pass_cookies")
    @classmethod
    def _nothing_to_authing(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and info.data.get("dialect") == "authing":
            raise ValueError(
                "authing is asked about a user: no credential reaches it, and no cookie comes back"
            )
        return names

    @field_validator("method", "refused_statuses")
    @classmethod
    def _generic_alone(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if info.data.get("dialect", "generic") != "generic" and value != field.default:
            raise ValueError(f"{info.data['dialect']} says that itself: it is for generic")
        return value

    @field_validator("method")
    @classmethod
    def _without_a_body(cls, method: str, info: ValidationInfo) -> str:
        claims = info.data.get("claims")
        if method == "HEAD" and claims and not claims.subject.startswith(HEADER_CLAIM):
            raise ValueError(
                'an answer to HEAD has no body: claims.subject has to be in a header ("header:X-User")'
            )
        return method

    @field_validator("over", "app_id", "access_key_id", "access_key_secret")
    @classmethod
    def _authing_alone(cls, value: str, info: ValidationInfo) -> str:
        dialect = info.data.get("dialect")
        if dialect == "authing" and not value:
            raise ValueError("authing needs it")
        if dialect not in {"authing", None} and value:
            raise ValueError(f"{dialect} knows nothing of it: it is for authing")
        return value


ExternalSettings = JwtSettings | IntrospectionSettings | UpstreamSettings
AnyExternalSettings = Annotated[ExternalSettings, Field(discriminator="type"), BeforeValidator(read_json)]
