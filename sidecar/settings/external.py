"""Settings of authenticators that trust somebody else: what others issued, or say of what they issued."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from sidecar.hosts import is_loopback
from sidecar.settings.section import Table
from sidecar.settings.types import Duration, Name, Names, Secret, WebUrl, one_or_more, read_json, read_list

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""What an authenticator may be called: it appears in metrics, in `X-Auth-Method` and in the environment."""

_SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})


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
    ca_file: str = Field("", description="A PEM bundle to verify their TLS with, instead of the system's.")
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
    jwks_file: str = ""
    public_key_file: str = Field("", description="One key, in PEM.")
    secret: Secret = Field("", repr=False, description="For HS256 and its kind: 32 bytes or more.")
    leeway: Duration = Field(30.0, description="How much their clock may differ from ours.")
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
        symmetric = _SYMMETRIC.intersection(self.algorithms)
        if symmetric and not self.secret:
            raise ValueError(f"algorithms: {min(symmetric)} is for a secret, and no public key is one")
        if self.secret and symmetric != set(self.algorithms):
            raise ValueError("algorithms: a secret is for HS256, HS384 and HS512 alone")
        if self.secret and len(self.secret.encode()) < 32:  # noqa: PLR2004 - RFC 7518, 3.2
            raise ValueError("secret: it has fewer than 32 bytes: whoever has one token can guess it")
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


class UpstreamSettings(AskingSettings):
    """Cookies and tokens that an application of yours already knows how to check."""

    type: Literal["upstream"]
    dialect: Literal["cargo-extra", "compass", "pulse", "virola", "authing", "generic"] = "generic"
    forward_cookies: Names = Field(
        (), description="Which cookies of the client are passed on. No others are."
    )
    forward_headers: Annotated[
        tuple[Literal["Authorization", "X-Api-Key"], ...], BeforeValidator(read_list)
    ] = Field((), description='Which headers are: "Authorization", "X-Api-Key". No others are.')
    pass_cookies: Names = Field((), description="Which cookies that they set reach the client.")
    method: Literal["GET", "POST", "HEAD"] = Field("GET", description="generic: how it is asked.")
    refused_statuses: tuple[int, ...] = Field((401, 403), description="generic: what means no.")
    over: str = Field("", description="authing: the authenticator that says who it is.")
    app_id: str = Field("", description="authing: the app in which they must have a session.")
    access_key_id: str = Field("", description="authing.")
    access_key_secret: Secret = Field("", repr=False, description="authing.")


ExternalSettings = JwtSettings | IntrospectionSettings | UpstreamSettings
AnyExternalSettings = Annotated[ExternalSettings, Field(discriminator="type"), BeforeValidator(read_json)]
