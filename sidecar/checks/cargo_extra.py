"""CargoExtra's gateway: `GET /api/v1/user/check` validates a token and refreshes it.

The vendor's schema names the members of the answer by their position (`key_0` to `key_4`), its text names
them `token` and "user profile fields": both are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from sidecar.asking import Reply
from sidecar.checks.asking_dialect import AskingDialect, read_answer
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, visitor_of
from sidecar.cookies import Cookie
from sidecar.credentials import in_authorization, in_cookie
from sidecar.errors import EmptyCredential, QuestionRefused
from sidecar.model import Credential, Form, Headers
from sidecar.settings import SessionSettings
from sidecar.visits import Visitor, Visits

_COOKIE = "customerToken"
_OTHER_COOKIE = b"userToken"
_MESSAGES = {
    400: "Missing One or More Required Parameters",
    401: "Unauthorized",
    403: "Access denied",
    429: "Too many requests",
    500: "Unexpected Error",
}


class Profile(Wire):
    """Who it is, and a new token for the same session.

    Where one is read, only the user's id has to be there, by its position or by its name.
    """

    key_0: int = Field(default=0, alias="key_0", description="As userId")
    key_1: str = Field(default="", alias="key_1", description="As token")
    key_2: int = Field(default=0, alias="key_2", description="As iat")
    key_3: str = Field(default="", alias="key_3", description="As name")
    key_4: bool = Field(default=True, alias="key_4", description="Whether the session is valid: always true")
    token: str = Field("", description="Refreshed JWT; an API key that was presented is not replaced")
    user_id: int = Field(validation_alias=AliasChoices("userId", "key_0"))
    name: str = Field("", validation_alias=AliasChoices("name", "key_3"))
    email: str = ""
    username: str = ""
    roles: tuple[str, ...] = ()
    iat: int = Field(0, description="Seconds since the epoch at which the token was issued")
    exp: int = Field(
        0, description="Seconds since the epoch at which it expires; 0: an API key that does not"
    )


class Error(Wire):
    """What went wrong."""

    message: str


class CargoExtra(Dialect):
    """Answers as CargoExtra's gateway."""

    name = "cargo-extra"
    below = "/api/v1/user/"
    error = Error
    words = _MESSAGES
    security: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "customerToken": {"type": "apiKey", "in": "cookie", "name": _COOKIE},
        "userToken": {"type": "apiKey", "in": "cookie", "name": _OTHER_COOKIE.decode()},
    }

    def __init__(self, visits: Visits, settings: SessionSettings) -> None:
        self._visits = visits
        self._cookie = Cookie(_COOKIE, settings)
        self.endpoints = (
            Endpoint(
                "GET",
                "/api/v1/user/check",
                "Validates the current user token and refreshes the user cookie",
                self._check,
                Profile,
                credentials=("bearer", "customerToken", "userToken", "session"),
                refusals=(400, 401),
            ),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        return Answer(Error(message=self.message(refusal)), refusal.status)

    async def _check(self, question: Question) -> Answer:
        visitor = await self._visitor(question)
        token = await self._visits.refreshed(visitor)
        cookies = list(await self._visits.note(visitor, question.headers))
        identity = visitor.identity
        if identity.session_id:
            lifetime = token.expires_at - token.issued_at
            cookies.append(self._cookie.set(token.text.encode("ascii"), lifetime))
        user_id, name = identity.numeric_id, identity.name or identity.username
        profile = Profile(
            key_0=user_id,
            key_1=token.text,
            key_2=token.issued_at,
            key_3=name,
            token=token.text,
            user_id=user_id,
            name=name,
            email=identity.email,
            username=identity.username,
            roles=identity.roles,
            iat=token.issued_at,
            exp=token.expires_at,
        )
        return Answer(profile, cookies=cookies)

    async def _visitor(self, question: Question) -> Visitor:
        """Who asks. Raises QuestionRefused."""
        headers = question.headers
        try:
            bearer = in_authorization(headers, frozenset({Form.BEARER}))
            ours = None if bearer else in_cookie(headers, self._cookie.name, Form.BEARER)
            credential = bearer or ours or self._other(headers)
        except EmptyCredential:
            raise QuestionRefused(400) from None
        stale = self._cookie if ours else None
        return await visitor_of(self._visits, credential, question.client, stale=stale)

    def _other(self, headers: Headers) -> Credential | None:
        return in_cookie(headers, _OTHER_COOKIE, Form.BEARER) or in_cookie(headers, self._visits.cookie.name)


class AskingCargoExtra(AskingDialect):
    """Asks CargoExtra's gateway."""

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """See AskingDialect.claims."""
        profile = read_answer(reply, Profile)
        if not profile.key_4:
            return None
        return {
            "sub": str(profile.user_id),
            "preferred_username": profile.username,
            "email": profile.email,
            "name": profile.name,
            "roles": profile.roles,
        }
