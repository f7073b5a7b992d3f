"""Pulse CRM: `GET /auth/session`, and the `POST /auth/login` that comes before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, Field

from sidecar.asking import Reply
from sidecar.checks.asking_dialect import AskingDialect, read_answer
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, absent, phrase, visitor_of
from sidecar.credentials import in_authorization, in_cookie
from sidecar.errors import BodyRefused, QuestionRefused, SignInRefused
from sidecar.model import Form, Reason, Rejected
from sidecar.records import Account, primary_account
from sidecar.visits import Visitor, Visits

_MESSAGES = {401: "Not authenticated"}
_WRONG_LOGIN = "The credentials are wrong"


class UserAccount(Wire):
    """An account that the user has access to."""

    account_id: str = ""
    account_name: str = ""
    users_primary_account: bool = False
    account_admin: bool = False


class UserSession(Wire):
    """The current user. Where one is read, only the id has to be there."""

    id: int = Field(description="User ID")
    email: str = Field("", description="User's email address; empty where the user has none")
    created_by: str | None = Field(
        None, description="Who created this user; absent where that is not known here"
    )
    updated_by: str | None = Field(None, description="Who last updated this user")
    created_at: str | None = Field(None, json_schema_extra={"format": "date-time"})
    updated_at: str | None = Field(None, json_schema_extra={"format": "date-time"})
    primary_account: UserAccount | None = Field(
        None, description="The account that X-Account-ID selects, else the primary one; absent without any"
    )
    accounts: tuple[UserAccount, ...] = Field((), description="List of accounts the user has access to")
    flat_roles_list: tuple[str, ...] = Field((), description="List of user roles")
    flat_permissions_list: tuple[str, ...] = Field((), description="List of user permissions")
    token: str = Field(
        "", description="JWT session token for authentication, or the API key that was presented"
    )


class Login(Wire):
    """A sign-in by email and password, or by an API key's id and the key."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["email", "password"], "properties": {"apiKey": False, "apiSecret": False}},
                {"required": ["apiKey", "apiSecret"], "properties": {"email": False, "password": False}},
            ]
        }
    )

    email: str = absent()
    password: str = absent()
    api_key: str = absent()
    api_secret: str = absent()


class Error(Wire):
    """Error response object."""

    error: str = Field(description="Error message")
    status: int = Field(description="HTTP status code")
    message: str = Field(description="Detailed error message")


class Pulse(Dialect):
    """Answers as Pulse."""

    name = "pulse"
    below = "/auth/"
    error = Error
    words = _MESSAGES

    def __init__(self, visits: Visits) -> None:
        self._visits = visits
        self.endpoints = (
            Endpoint(
                "GET",
                "/auth/session",
                "Get current user session",
                self._session,
                UserSession,
                credentials=("bearer", "session"),
                refusals=(401,),
                headers={"X-Account-ID": "The account to report as primaryAccount"},
            ),
            Endpoint(
                "POST",
                "/auth/login",
                "Sign in",
                self._login,
                UserSession,
                Login,
                refusals=(401,),
                from_own_sites=True,
            ),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        status = refusal.status
        return Answer(Error(error=phrase(status), status=status, message=self.message(refusal)), status)

    async def _session(self, question: Question) -> Answer:
        headers = question.headers
        credential = in_authorization(headers, frozenset({Form.BEARER})) or in_cookie(
            headers, self._visits.cookie.name
        )
        visitor = await visitor_of(self._visits, credential, question.client)
        return await self._answer(visitor, question, headers.optional(b"x-account-id"))

    async def _login(self, question: Question) -> Answer:
        login = question.read(Login)
        match sorted(login.model_fields_set):
            case ["email", "password"]:
                return await self._by_password(login.email, login.password, question)
            case ["api_key", "api_secret"]:
                return await self._by_api_key(login.api_key, login.api_secret, question)
            case _:
                raise BodyRefused("it has neither email and password alone nor apiKey and apiSecret alone")

    async def _by_password(self, email: str, password: str, question: Question) -> Answer:
        entered = await self._visits.begin(email, password, question.client, question.headers)
        if isinstance(entered, Rejected):
            raise SignInRefused(_WRONG_LOGIN, entered.reason)
        answer = await self._answer(entered.visitor, question)
        return answer._replace(cookies=(entered.cookie,))

    async def _by_api_key(self, key_id: str, key: str, question: Question) -> Answer:
        visitor = await self._visits.by_api_key(key_id, key, question.client)
        if isinstance(visitor, Rejected):
            raise SignInRefused(_WRONG_LOGIN, visitor.reason)
        return await self._answer(visitor, question)

    async def _answer(self, visitor: Visitor, question: Question, account: bytes | None = None) -> Answer:
        """Who it is, with the token that a client may go on with."""
        identity, user = visitor.identity, visitor.verified.user
        selected = _selected(identity.accounts, account)
        session = UserSession(
            id=identity.numeric_id,
            email=identity.email,
            created_by=user.created_by if user else None,
            updated_by=user.updated_by if user else None,
            created_at=_iso(user.created_at) if user else None,
            updated_at=_iso(user.updated_at) if user else None,
            primary_account=_account(selected) if selected else None,
            accounts=tuple(map(_account, identity.accounts)),
            flat_roles_list=identity.roles,
            flat_permissions_list=identity.permissions,
            token=await self._visits.token(visitor),
        )
        return Answer(session, cookies=await self._visits.note(visitor, question.headers))


class AskingPulse(AskingDialect):
    """Asks Pulse."""

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """See AskingDialect.claims."""
        session = read_answer(reply, UserSession)
        return {
            "sub": str(session.id),
            "email": session.email,
            "roles": session.flat_roles_list,
            "permissions": session.flat_permissions_list,
        }


def _selected(accounts: Sequence[Account], wanted: bytes | None) -> Account | None:
    """The account that was asked for, else the primary one. Raises QuestionRefused where it is not there."""
    if not wanted:
        return primary_account(accounts)
    account = next((each for each in accounts if each.id.encode("utf-8") == wanted), None)
    if account is None:
        raise QuestionRefused(401, "No access to this account", reason=Reason.MISSING_ACCOUNT)
    return account


@lru_cache(maxsize=1024)
def _account(account: Account) -> UserAccount:
    return UserAccount(
        account_id=account.id,
        account_name=account.name,
        users_primary_account=account.primary,
        account_admin=account.admin,
    )


@lru_cache(maxsize=1024)
def _iso(seconds: float) -> str:
    """ISO 8601 in UTC, as JavaScript's `toISOString` writes it."""
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    )
