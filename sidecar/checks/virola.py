"""Virola: `GET /api/v1/status`, `POST /api/v1/login`, `POST /api/v1/logout`.

The session's cookie is VirolaUserSessionId. `userSessionId` in an answer names the session and opens nothing:
the vendor's document promises that there is nothing sensitive in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from pydantic import Field

from sidecar.asking import Reply
from sidecar.checks.asking_dialect import AskingDialect, read_answer
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, visitor_of
from sidecar.cookies import Cookie
from sidecar.credentials import id_of_secret, in_authorization, in_cookie
from sidecar.errors import CredentialRefused, InvalidValue, QuestionRefused, SignInRefused
from sidecar.model import Credential, Form, Headers, Rejected
from sidecar.visits import Visitor, Visits

COOKIE = "VirolaUserSessionId"
"""It holds the secret of the session, as the session's own cookie does."""

_TEXTS = {401: "Wrong Bearer, please renew Web API Access Token"}
_WRONG_PASSWORD = "The username or password is invalid."
_NO_SESSION = "The Authorization HTTP-header or VirolaUserSessionId cookie expected"


class Login(Wire):
    """A sign-in."""

    user_name: str
    password: str


class Empty(Wire):
    """Nothing: any JSON object."""


class Status(Wire):
    """Who is signed in. Where one is read, only the user's id has to be there."""

    http_status_code: int = 200
    user_id: int = Field(description="The unique ID of the authenticated user")
    user_session_id: str = Field(
        "", description="The identifier for the active user session; it opens nothing"
    )


class Done(Wire):
    """Something was done."""

    http_status_code: int = 200


class Error(Wire):
    """Something was not done."""

    error_text: str
    http_status_code: int


class Virola(Dialect):
    """Answers as a Virola server."""

    name = "virola"
    below = "/api/v1/"
    error = Error
    words = _TEXTS
    security: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "virola": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }

    def __init__(self, visits: Visits, cookie: Cookie) -> None:
        self._visits = visits
        self._cookie = cookie
        credentials = ("virola", "session", "bearer")
        self.endpoints = (
            Endpoint(
                "GET",
                "/api/v1/status",
                "Checks whether the current user is logged in",
                self._status,
                Status,
                credentials=credentials,
                refusals=(401,),
            ),
            Endpoint(
                "POST",
                "/api/v1/login",
                "Login with username and password",
                self._login,
                Status,
                Login,
                refusals=(401,),
                from_own_sites=True,
            ),
            Endpoint(
                "POST",
                "/api/v1/logout",
                "Logout the current user",
                self._logout,
                Done,
                Empty,
                credentials=credentials,
                refusals=(401,),
                from_own_sites=True,
            ),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        text = self.message(refusal)
        return Answer(Error(error_text=text, http_status_code=refusal.status), refusal.status)

    async def _status(self, question: Question) -> Answer:
        visitor = await self._visitor(question)
        cookies = await self._visits.note(visitor, question.headers)
        # An API key has an id as well, and no session.
        session_id = visitor.identity.session_id or id_of_secret(visitor.credential.value)
        status = Status(user_id=visitor.identity.numeric_id, user_session_id=session_id)
        return Answer(status, cookies=cookies)

    async def _login(self, question: Question) -> Answer:
        login = question.read(Login)
        entered = await self._visits.begin(login.user_name, login.password, question.client, question.headers)
        if isinstance(entered, Rejected):
            raise SignInRefused(_WRONG_PASSWORD, entered.reason)
        identity, secret = entered.visitor.identity, entered.visitor.credential.value
        # It is refreshed nowhere: the browser keeps it for as long as the session can live.
        cookie = self._cookie.set(secret, entered.lifetime)
        status = Status(user_id=identity.numeric_id, user_session_id=identity.session_id)
        return Answer(status, cookies=(entered.cookie, cookie))

    async def _logout(self, question: Question) -> Answer:
        question.read(Empty)
        visitor = await self._visitor(question, _NO_SESSION)
        if not visitor.identity.session_id:
            raise QuestionRefused(401, _NO_SESSION)
        await self._visits.end(visitor, question.client)
        return Answer(Done(), cookies=await self._visits.leave(question.headers, question.client))

    async def _visitor(self, question: Question, text: str = "") -> Visitor:
        """Who asks. Raises QuestionRefused (401) with this text."""
        try:
            own = in_cookie(question.headers, self._cookie.name)
            credential = own or self._other(question.headers)
        except CredentialRefused as refused:
            raise QuestionRefused(401, text, reason=refused.reason) from None
        stale = self._cookie if own else None
        return await visitor_of(self._visits, credential, question.client, text, stale)

    def _other(self, headers: Headers) -> Credential | None:
        return in_cookie(headers, self._visits.cookie.name) or in_authorization(
            headers, frozenset({Form.BEARER})
        )


class AskingVirola(AskingDialect):
    """Asks a Virola server, whose status in the body counts as much as HTTP's."""

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """See AskingDialect.claims."""
        outcome = read_answer(reply, Done).http_status_code
        if outcome in self.refused_statuses:
            return None
        if outcome != HTTPStatus.OK:
            raise InvalidValue("its httpStatusCode is not 200")
        return {"sub": str(read_answer(reply, Status).user_id)}
