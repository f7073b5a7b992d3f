"""OAuth's ways to ask who somebody is: `POST /oauth2/introspect` for backends, `GET /userinfo` for people."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any
from urllib.parse import unquote_plus

from pydantic import ConfigDict

from sidecar.assertions import AssertionReader
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, visitor_of
from sidecar.credentials import in_authorization, name_and_password, presented, read_credential
from sidecar.errors import CredentialRefused, QuestionRefused
from sidecar.identity_claims import identity_claims
from sidecar.keys import ASSERTION
from sidecar.management import ManagementClients
from sidecar.model import Form, Identity, Reason, Rejected
from sidecar.records import AccessKey
from sidecar.settings import Tokens
from sidecar.visits import Visits

_FORM = b"application/x-www-form-urlencoded"
_TAKEN = frozenset({Form.BEARER, Form.API_KEY, Form.COOKIE})

_ERRORS = {
    401: "invalid_token",
    403: "access_denied",
    429: "slow_down",
    500: "server_error",
    503: "temporarily_unavailable",
}
_MESSAGES = {401: "The credential is missing, or not good (any more)"}


class _InvalidClient(QuestionRefused):
    """Whoever asks is no management client."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(401, "The access key or management token is missing or not valid", reason=reason)


class _Claims(Wire):
    model_config = ConfigDict(alias_generator=None)


class Account(_Claims):
    """An account that the user belongs to."""

    id: str
    name: str
    admin: bool
    primary: bool


class UserInfo(_Claims):
    """Who it is (OpenID Connect Core 1.0, 5.3.2): what is not known is absent."""

    sub: str
    preferred_username: str | None = None
    name: str | None = None
    email: str | None = None
    roles: list[str]
    permissions: list[str]
    account: str | None = None
    accounts: list[Account] | None = None
    scope: str | None = None
    sid: str | None = None
    key_id: str | None = None
    user_id: int | None = None
    method: str


class TokenInfo(UserInfo):
    """A token that is good, and whose (RFC 7662, 2.2)."""

    active: bool = True
    token_type: str | None = None
    username: str | None = None
    iss: str
    aud: str | None = None
    iat: int | None = None
    exp: int | None = None
    jti: str | None = None


class Inactive(_Claims):
    """A token that is not good, whatever the reason."""

    active: bool = False


class Error(_Claims):
    """What went wrong (RFC 6749, 5.2)."""

    error: str
    error_description: str


class IntrospectionRequest(_Claims):
    """A token, and what it is taken for."""

    token: str
    token_type_hint: str | None = None


class OAuth(Dialect):
    """Answers as an authorization server would."""

    name = "oauth"
    below = "/oauth2/introspect/"
    error = Error
    words = _MESSAGES

    def __init__(
        self, visits: Visits, clients: ManagementClients, assertions: AssertionReader, tokens: Tokens
    ) -> None:
        self._visits = visits
        self._clients = clients
        self._assertions = assertions
        self._issuer = tokens.issuer
        self._audience = tokens.audience
        self.endpoints = (
            Endpoint(
                "POST",
                "/oauth2/introspect",
                "Tell whether a token is good, and whose it is",
                self._introspect,
                TokenInfo,
                IntrospectionRequest,
                from_own_sites=True,
            ),
            Endpoint("GET", "/userinfo", "Tell who is asking", self._userinfo, UserInfo),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        return Answer(Error(error=_code(refusal), error_description=self.message(refusal)), refusal.status)

    def challenge(self, refusal: QuestionRefused) -> str:
        """See Dialect.challenge. Who presented something bad is told so (RFC 6750, 3.1)."""
        if isinstance(refusal, _InvalidClient):
            return 'Basic realm="sidecar", Bearer realm="sidecar"'
        why = "" if refusal.reason == Reason.NO_CREDENTIAL else ', error="invalid_token"'
        return f'Bearer realm="sidecar"{why}'

    # --- userinfo --------------------------------------------------------------------------------

    async def _userinfo(self, question: Question) -> Answer:
        credential = presented(question.headers, _TAKEN, self._visits.cookie.name)
        visitor = await visitor_of(self._visits, credential, question.client)
        cookies = await self._visits.note(visitor, question.headers)
        return Answer(UserInfo(**_claims(visitor.identity)), cookies=cookies)

    # --- introspection ---------------------------------------------------------------------------

    async def _introspect(self, question: Question) -> Answer:
        fields = _fields(question)
        if await self._client(question, fields) is None:
            raise _InvalidClient
        token = fields.get("token", "")
        if not token:
            raise QuestionRefused(400, "There is no token", reason="no_token")
        is_assertion = fields.get("token_type_hint") == ASSERTION
        found = self._asserted(token) if is_assertion else self._presented(token, question)
        return Answer(await found or Inactive())

    async def _client(self, question: Question, fields: Mapping[str, str]) -> AccessKey | None:
        """Who asks (RFC 6749, 2.3.1), or by a management token. Raises QuestionRefused, Throttled."""
        try:
            given = in_authorization(question.headers, frozenset({Form.BASIC, Form.BEARER}))
        except CredentialRefused as refused:
            raise _InvalidClient(refused.reason) from None
        in_form = fields.get("client_secret", "")
        if given and in_form:
            raise QuestionRefused(400, "The client authenticates in two ways", reason="two_clients")
        if given and given.form is Form.BEARER:
            return await self._clients.by_token(given.value, question.client)
        key_id, secret = fields.get("client_id", ""), in_form
        if given:
            key_id, secret = map(unquote_plus, name_and_password(given.value))
        return await self._clients.by_secret(key_id, secret, question.client) if secret else None

    async def _presented(self, token: str, question: Question) -> TokenInfo | None:
        """Whose bearer this is: what is one at the products is one here."""
        try:
            credential = read_credential(Form.BEARER, token.encode("utf-8"))
        except CredentialRefused:
            return None
        visitor = await self._visits.of(credential, question.client)
        if isinstance(visitor, Rejected):
            return None
        await self._visits.note(visitor, question.headers)
        identity, is_ours = visitor.identity, visitor.verified.user is not None
        return TokenInfo(
            **_claims(identity),
            token_type="Bearer",
            username=identity.username or None,
            iss=self._issuer if is_ours else identity.issuer,
            aud=self._audience if is_ours else None,
            exp=None if identity.expires_at == inf else int(identity.expires_at),
        )

    async def _asserted(self, token: str) -> TokenInfo | None:
        """What an assertion says, to who takes it for one: nobody else's bearer is ever an assertion."""
        claims = await self._assertions.read(token.encode("utf-8"))
        return None if claims is None else TokenInfo(**claims, username=claims.get("preferred_username"))


def _fields(question: Question) -> Mapping[str, str]:
    """The form. Raises BodyRefused, and QuestionRefused where it says that it is something else."""
    types = [value.partition(b";")[0].strip().lower() for value in question.headers.all(b"content-type")]
    if types != [_FORM]:
        raise QuestionRefused(415, f"Send {_FORM.decode('ascii')}", reason="no_form")
    return question.fields()


def _claims(identity: Identity) -> dict[str, Any]:
    accounts = [
        Account(id=each.id, name=each.name, admin=each.admin, primary=each.primary)
        for each in identity.accounts
    ]
    return {**identity_claims(identity), "accounts": accounts}


def _code(refusal: QuestionRefused) -> str:
    """The error that RFC 6749 (4.1.2.1, 5.2), RFC 6750 (3.1) and RFC 8628 (3.5) have for it."""
    if isinstance(refusal, _InvalidClient):
        return "invalid_client"
    return _ERRORS.get(refusal.status, "invalid_request")
