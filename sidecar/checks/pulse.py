"""Pulse CRM: `GET /auth/session`, and the `POST /auth/login` that comes before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from pydantic import ConfigDict, Field

from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question, Wire, admitted, phrase
from sidecar.credentials import id_of_secret, in_authorization, in_cookie
from sidecar.errors import InvalidValue, QuestionRefused
from sidecar.model import Credential, Form, Headers, Rejected
from sidecar.records import Account, User, primary_account
from sidecar.visits import Visitor, Visits

_MESSAGES = {401: "Not authenticated"}
_WRONG_LOGIN = "The credentials are wrong"


class UserAccount(Wire):
    """An account that the user has access to."""

    account_id: str
    account_name: str
    users_primary_account: bool
    account_admin: bool


class UserSession(Wire):
    """The current user."""

    id: int = Field(description="User ID")
    email: str = Field(description="User's email address; empty where the user has none")
    created_by: str = Field(description="Who created this user")
    updated_by: str = Field(description="Who last updated this user")
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    updated_at: str = Field(json_schema_extra={"format": "date-time"})
    primary_account: UserAccount | None = Field(
        None, description="The account that X-Account-ID selects, else the primary one; absent without any"
    )
    accounts: tuple[UserAccount, ...] = Field(description="List of accounts the user has access to")
    flat_roles_list: tuple[str, ...] = Field(description="List of user roles")
    flat_permissions_list: tuple[str, ...] = Field(description="List of user permissions")
    token: str = Field(description="JWT session token for authentication, or the API key that was presented")


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

    email: str = Field(default_factory=str)
    password: str = Field(default_factory=str)
    api_key: str = Field(default_factory=str)
    api_secret: str = Field(default_factory=str)


class Error(Wire):
    """Error response object."""

    error: str = Field(description="Error message")
    status: int = Field(description="HTTP status code")
    message: str = Field(description="Detailed error message")


class Pulse(Dialect):
    """Answers as Pulse."""

    name = "pulse"
    below = ("/auth/",)
    error = Error

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
        message = refusal.message or _MESSAGES.get(status) or phrase(status)
        return Answer(Error(error=phrase(status), status=status, message=message), status)

    async def _session(self, question: Question) -> Answer:
        credential = self._presented(question.headers)
        if credential is None:
            raise QuestionRefused(401)
        visitor = admitted(await self._visits.of(credential, question.client))
        return await self._answer(visitor, question.headers.optional(b"x-account-id"))

    async def _login(self, question: Question) -> Answer:
        login = question.read(Login)
        match sorted(login.model_fields_set):
            case ["email", "password"]:
                return await self._by_password(login.email, login.password, question)
            case ["api_key", "api_secret"]:
                return await self._by_api_key(login.api_key, login.api_secret, question)
            case _:
                raise InvalidValue("it has neither email and password alone nor apiKey and apiSecret alone")

    async def _by_password(self, email: str, password: str, question: Question) -> Answer:
        before = await self._visits.in_browser(question.headers)
        entered = await self._visits.begin(email, password, question.client, before)
        if isinstance(entered, Rejected):
            raise QuestionRefused(401, _WRONG_LOGIN)
        token = await self._visits.sessions.token(entered.begun.session, entered.user)
        session = _user_session(entered.user, token.text, primary_account(entered.user.accounts))
        return Answer(session, cookies=(entered.cookie,))

    async def _by_api_key(self, key_id: str, key: str, question: Question) -> Answer:
        self._visits.sign_in.count_attempt(question.client)
        credential = Credential(Form.API_KEY, key.encode("utf-8"))
        if id_of_secret(credential.value) != key_id:
            raise QuestionRefused(401, _WRONG_LOGIN)
        visitor = await self._visits.of(credential, question.client)
        if isinstance(visitor, Rejected):
            raise QuestionRefused(401, _WRONG_LOGIN)
        return await self._answer(visitor)

    async def _answer(self, visitor: Visitor, account: bytes | None = None) -> Answer:
        """Who it is, with the token that a client may go on with."""
        user, token = visitor.verified.user, await self._visits.token(visitor)
        session = _user_session(user, token, _selected(user.accounts, account))
        return Answer(session, cookies=await self._visits.note(visitor))

    def _presented(self, headers: Headers) -> Credential | None:
        return in_authorization(headers, frozenset({Form.BEARER})) or in_cookie(
            headers, self._visits.cookie.name
        )


def _selected(accounts: Sequence[Account], wanted: bytes | None) -> Account | None:
    """The account that was asked for, else the primary one. Raises QuestionRefused where it is not there."""
    if not wanted:
        return primary_account(accounts)
    account = next((each for each in accounts if each.id.encode("utf-8") == wanted), None)
    if account is None:
        raise QuestionRefused(401, "No access to this account")
    return account


def _user_session(user: User, token: str, selected: Account | None) -> UserSession:
    return UserSession(
        id=user.id,
        email=user.email,
        created_by=user.created_by,
        updated_by=user.updated_by,
        created_at=_iso(user.created_at),
        updated_at=_iso(user.updated_at),
        primary_account=None if selected is None else _account(selected),
        accounts=tuple(map(_account, user.accounts)),
        flat_roles_list=user.roles,
        flat_permissions_list=user.permissions,
        token=token,
    )


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
