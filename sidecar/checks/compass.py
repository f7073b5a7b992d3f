"""COMPASS: `POST /auth/validate-session` validates a token together with the user that it is said to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ConfigDict, Field

from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, admitted, phrase
from sidecar.credentials import in_authorization, in_cookie, read_credential
from sidecar.errors import InvalidValue, QuestionRefused
from sidecar.model import Credential, Form, Headers
from sidecar.names import sign_in_key
from sidecar.records import User
from sidecar.visits import Visits

_CODES = {401: "UNAUTHORIZED", 500: "SERVER_ERROR"}
_MESSAGES = {401: "Invalid or expired session token", 500: "Internal server error"}


class ClaimedUser(Wire):
    """The user object to validate: every member that is there must be the token's user's own."""

    id: str = Field(default_factory=str, alias="_id")
    emails: str | list[str] = Field(default_factory=str)
    role: str = Field(default_factory=str)


class Validation(Wire):
    """The user to validate with the bearer; or, from another client of the vendor, the token alone."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["user"]}, {"required": ["token"]}]})

    user: ClaimedUser = Field(default_factory=ClaimedUser)
    token: str = Field(default_factory=str)


class ValidUser(Wire):
    """The token's user, as the store has them."""

    id: str = Field(alias="_id")
    emails: str
    role: str


class Validated(Wire):
    """Whose session it is; and where the token was in the body, a new one for it."""

    user: ValidUser
    token: str | None = None


class Success(Wire):
    """The session is valid."""

    data: Validated


class Problem(Wire):
    """What went wrong."""

    code: str
    message: str


class Error(Wire):
    """The session is not valid, or nobody knows."""

    error: Problem


class Compass(Dialect):
    """Answers as COMPASS."""

    name = "compass"
    below = ("/auth/validate-session/",)
    error = Error

    def __init__(self, visits: Visits, roles: Sequence[str]) -> None:
        self._visits = visits
        self._roles = frozenset(roles)
        self.endpoints = (
            Endpoint(
                "POST",
                "/auth/validate-session",
                "Validate an existing session token and return the user object",
                self._validate,
                Success,
                Validation,
                credentials=("bearer", "session"),
                refusals=(401, 403),
            ),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        status = refusal.status
        code = _CODES.get(status) or phrase(status).upper().replace(" ", "_")
        message = refusal.message or _MESSAGES.get(status) or phrase(status)
        return Answer(Error(error=Problem(code=code, message=message)), status)

    async def _validate(self, question: Question) -> Answer:
        asked = question.read(Validation)
        if not asked.model_fields_set:
            raise InvalidValue("it has neither a user nor a token")
        by_token = "token" in asked.model_fields_set
        credential = self._presented(question.headers, asked.token if by_token else None)
        if credential is None:
            raise QuestionRefused(401)
        visitor = admitted(await self._visits.of(credential, question.client))
        user = visitor.verified.user
        valid = _matching(user, asked.user)
        if valid is None:
            raise QuestionRefused(401)
        if self._roles and self._roles.isdisjoint(user.roles):
            raise QuestionRefused(403, "Requires another role")
        token = None
        if by_token:
            token = (await self._visits.refreshed(visitor)).text
        cookies = await self._visits.note(visitor)
        return Answer(Success(data=Validated(user=valid, token=token)), cookies=cookies)

    def _presented(self, headers: Headers, token: str | None) -> Credential | None:
        """The bearer, else the body's token, else the session's cookie. Two tokens must be one."""
        bearer = in_authorization(headers, frozenset({Form.BEARER}))
        if token is None:
            return bearer or in_cookie(headers, self._visits.cookie.name)
        given = read_credential(Form.BEARER, token.encode("utf-8"))
        if bearer is not None and bearer.value != given.value:
            raise QuestionRefused(401)
        return given


def _matching(user: User, claimed: ClaimedUser) -> ValidUser | None:
    """The user, where what is claimed of them is true.

    Of several addresses and roles, the one that was claimed is answered, as the store has it. Who has none
    has an empty one: what is answered here is true when it is claimed again.
    """
    claims = claimed.model_dump(by_alias=False, exclude_unset=True)
    user_id = _claimed((str(user.id),), claims.get("id"), str)
    email = _claimed(user.emails or ("",), claims.get("emails"), sign_in_key)
    role = _claimed(user.roles or ("",), claims.get("role"), str)
    if user_id is None or email is None or role is None:
        return None
    return ValidUser(id=user_id, emails=email, role=role)


def _claimed(owned: Sequence[str], claim: str | list[str] | None, key: Callable[[str], str]) -> str | None:
    """The first of what the user has that was claimed, or of all where nothing was; None: claimed in vain."""
    claims = owned if claim is None else [claim] if isinstance(claim, str) else claim
    keys = set(map(key, claims))
    return next((each for each in owned if key(each) in keys), None)
