"""COMPASS: `POST /auth/validate-session` validates a token together with the user that it is said to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from sidecar.asking import Reply
from sidecar.checks.asking_dialect import (
    JSON_SENT,
    JSON_WANTED,
    AskingDialect,
    Request,
    forwarded,
    read_answer,
)
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, absent, phrase, visitor_of
from sidecar.credentials import in_authorization, in_cookie, read_credential
from sidecar.errors import BodyRefused, QuestionRefused
from sidecar.model import Credential, Form, Headers, Reason
from sidecar.names import sign_in_key
from sidecar.visits import Visitor, Visits

_CODES = {401: "UNAUTHORIZED", 500: "SERVER_ERROR"}
_MESSAGES = {401: "Invalid or expired session token", 500: "Internal server error"}


class ClaimedUser(Wire):
    """The user object to validate: every member that is there must be the token's user's own."""

    id: str = absent(alias="_id")
    emails: str | list[str] = absent()
    role: str = absent()


class Validation(Wire):
    """The user to validate with the bearer; or, from another client of the vendor, the token alone."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["user"]}, {"required": ["token"]}]})

    user: ClaimedUser = Field(default_factory=ClaimedUser)
    token: str = absent()


class ValidUser(Wire):
    """The token's user, as the store has them. Where one is read, only the id has to be there."""

    id: str = Field(alias="_id")
    emails: str = ""
    role: str = ""


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
    below = "/auth/validate-session/"
    error = Error
    words = _MESSAGES

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
        return Answer(Error(error=Problem(code=code, message=self.message(refusal))), status)

    async def _validate(self, question: Question) -> Answer:
        asked = question.read(Validation)
        given = asked.model_fields_set
        if not given:
            raise BodyRefused("it has neither a user nor a token")
        credential = self._presented(question.headers, asked.token if "token" in given else None)
        visitor = await visitor_of(self._visits, credential, question.client)
        valid = _matching(visitor, asked.user)
        if valid is None:
            raise QuestionRefused(401, reason="another_user")
        if self._roles and self._roles.isdisjoint(visitor.identity.roles):
            raise QuestionRefused(403, "Requires another role", reason=Reason.MISSING_ROLE)
        token = (await self._visits.refreshed(visitor)).text if "token" in given else None
        cookies = await self._visits.note(visitor, question.headers)
        return Answer(Success(data=Validated(user=valid, token=token)), cookies=cookies)

    def _presented(self, headers: Headers, token: str | None) -> Credential | None:
        """The bearer, else the body's token, else the session's cookie. Two tokens must be one."""
        bearer = in_authorization(headers, frozenset({Form.BEARER}))
        if token is None:
            return bearer or in_cookie(headers, self._visits.cookie.name)
        given = read_credential(Form.BEARER, token.encode("utf-8"))
        if bearer is not None and bearer.value != given.value:
            raise QuestionRefused(401, reason="two_tokens")
        return given


class AskingCompass(AskingDialect):
    """Asks COMPASS about a bearer. It is in the header as well: some versions look for it there alone."""

    def request(self, credential: Credential) -> Request:
        """See AskingDialect.request."""
        question = Validation(token=credential.value.decode("ascii"))
        headers = (JSON_WANTED, JSON_SENT, forwarded(credential))
        return Request("POST", headers, question.model_dump_json(exclude_unset=True).encode())

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """See AskingDialect.claims."""
        user = read_answer(reply, Success).data.user
        return {"sub": user.id, "email": user.emails, "roles": [user.role]}


def _matching(visitor: Visitor, claimed: ClaimedUser) -> ValidUser | None:
    """The user, where what is claimed of them is true.

    Of several addresses and roles, the one that was claimed is answered, as the store has it. Who has none
    has an empty one: what is answered here is true when it is claimed again.
    """
    identity, given = visitor.identity, claimed.model_fields_set
    emails = visitor.verified.user.emails if visitor.verified.user else (identity.email,)
    email = _claimed(emails or ("",), claimed.emails if "emails" in given else None, sign_in_key)
    role = _claimed(identity.roles or ("",), claimed.role if "role" in given else None, str)
    if email is None or role is None or ("id" in given and claimed.id != identity.subject):
        return None
    return ValidUser(id=identity.subject, emails=email, role=role)


def _claimed(owned: Sequence[str], claim: str | list[str] | None, key: Callable[[str], str]) -> str | None:
    """The first of what the user has that was claimed, or of all where nothing was; None: claimed in vain."""
    claims = owned if claim is None else [claim] if isinstance(claim, str) else claim
    keys = set(map(key, claims))
    return next((each for each in owned if key(each) in keys), None)
