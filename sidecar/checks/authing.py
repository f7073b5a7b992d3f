"""Authing and GenAuth: `POST /api/v3/check-session-status`, and the token or signature that it needs.

Every answer is HTTP 200: clients read the outcome in the body's `statusCode`, and some of them throw before
they read it where the status is another. `apiCode` is the vendor's where it documents one, else the status.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import ClassVar

from sidecar.checks.authing_signature import read_signature
from sidecar.checks.authing_wire import (
    FOUND_BY,
    UNKNOWN_APP,
    UNKNOWN_USER,
    AccessKeyCredentials,
    Error,
    ManagementToken,
    ManagementTokenAnswer,
    SessionAnswer,
    SessionQuestion,
    SessionStatus,
    UserIdType,
)
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question
from sidecar.errors import QuestionRefused
from sidecar.management import ManagementClients
from sidecar.model import Reason
from sidecar.ports import Clock, Store
from sidecar.records import AccessKey, User
from sidecar.sessions import is_live
from sidecar.telemetry import CURRENT_REQUEST
from sidecar.usage import UsageRecorder

_TOKEN_PATH = "/api/v3/get-management-token"
_STATUS_PATH = "/api/v3/check-session-status"

_API_CODES = {400: 2231, 401: 2020}
_MESSAGES = {401: "The management token, or the signature of the request, is missing or not valid"}

_MANAGEMENT_TOKEN = re.compile(rb"(?:bearer +)?(\S+)", re.IGNORECASE)
"""What Authorization holds: some clients leave the scheme out."""

_POOL = "sidecar"
"""The clients want to know their user pool, and repeat its id in a header: here there is one."""

_LONGEST_ID = 18
"""Digits of a user's id; longer numbers do not fit into a column of integers."""


class _Unknown(QuestionRefused):
    def __init__(self, message: str, api_code: int) -> None:
        super().__init__(404, message)
        self.api_code = api_code


class Authing(Dialect):
    """Answers as Authing and GenAuth."""

    name = "authing"
    below = "/api/v3/"
    merges_slashes = True
    error = Error
    words = _MESSAGES
    security: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "managementToken": {"type": "http", "scheme": "bearer", "description": f"From {_TOKEN_PATH}."},
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`authing <accessKeyId>:<base64 of HMAC-SHA1>`, with a date and a nonce, once.",
        },
    }

    def __init__(
        self,
        clients: ManagementClients,
        store: Store,
        usage: UsageRecorder,
        clock: Clock,
        *,
        rule_apps: Collection[str],
        idle_timeout: float,
        hide_unknown: bool,
    ) -> None:
        self._clients = clients
        self._store = store
        self._usage = usage
        self._clock = clock
        self._rule_apps = rule_apps
        self._idle_timeout = idle_timeout
        self._hide_unknown = hide_unknown
        self.endpoints = (
            Endpoint(
                "POST",
                _TOKEN_PATH,
                "Get a management token",
                self._token,
                ManagementTokenAnswer,
                AccessKeyCredentials,
                from_own_sites=True,
            ),
            Endpoint(
                "POST",
                _STATUS_PATH,
                "Check if a user has a session login in the application",
                self._check,
                SessionAnswer,
                SessionQuestion,
                credentials=("managementToken", "signature"),
            ),
        )

    def refuse(self, refusal: QuestionRefused) -> Answer:
        """See Dialect.refuse."""
        status = refusal.status
        api_code = refusal.api_code if isinstance(refusal, _Unknown) else _API_CODES.get(status, status)
        error = Error(
            status_code=status, message=self.message(refusal), api_code=api_code, request_id=_request_id()
        )
        return Answer(error)

    async def _token(self, question: Question) -> Answer:
        given = question.read(AccessKeyCredentials)
        key = await self._clients.sign_in(given.access_key_id, given.access_key_secret, question.client)
        if key is None:
            raise QuestionRefused(401, "The access key is not valid", reason="wrong_access_key")
        token = await self._clients.token(key, {"scoped_userpool_id": _POOL})
        data = ManagementToken(access_token=token.text, expires_in=token.expires_at - token.issued_at)
        return Answer(ManagementTokenAnswer(request_id=_request_id(), data=data))

    async def _check(self, question: Question) -> Answer:
        if await self._caller(question) is None:
            raise QuestionRefused(401, reason="no_management_client")
        asked = question.read(SessionQuestion)
        app = await self._store.apps.find(asked.app_id)
        if app is None and asked.app_id not in self._rule_apps:
            raise _Unknown("There is no such app", UNKNOWN_APP)
        user = await self._find(asked.user_id, asked.options.user_id_type if asked.options else None)
        if user is None and not self._hide_unknown:
            raise _Unknown("There is no such user", UNKNOWN_USER)
        active = False
        if user is not None and not user.disabled and (app is None or not app.disabled):
            active = await self._has_session(user, asked.app_id)
        return Answer(SessionAnswer(request_id=_request_id(), data=SessionStatus(active=active)))

    async def _caller(self, question: Question) -> AccessKey | None:
        """Who asks: by a management token, with or without `Bearer `, or by a signature.

        Raises QuestionRefused where what is there can be neither.
        """
        values = question.headers.all(b"authorization")
        if not values:
            return None
        if values[0].startswith(b"authing "):
            signature = read_signature(question.headers, _STATUS_PATH, question.members())
            if signature is not None:
                return await self._clients.by_signature(signature, question.client)
        elif len(values) == 1 and (found := _MANAGEMENT_TOKEN.fullmatch(values[0])):
            return await self._clients.by_token(found[1], question.client)
        raise QuestionRefused(401, reason=Reason.MALFORMED_CREDENTIAL)

    async def _find(self, given: str, kind: UserIdType | None) -> User | None:
        """The user of whom this is the id, user name, e-mail, phone or external id, in this order."""
        for each in FOUND_BY if kind is None else (kind,):
            user = await self._find_by(each, given)
            if user is not None:
                return user
        return None

    async def _find_by(self, kind: UserIdType, given: str) -> User | None:
        if kind not in FOUND_BY:
            return None
        if kind is not UserIdType.USER_ID:
            return await self._store.users.find_by(kind.value, given)
        is_id = given.isascii() and given.isdecimal() and len(given) <= _LONGEST_ID and given[0] != "0"
        return await self._store.users.find(int(given)) if is_id else None

    async def _has_session(self, user: User, app_id: str) -> bool:
        """Whether a live session of the user was signed in to the app, or used in it."""
        now = self._clock.now()
        for session in await self._store.sessions.list(user.id):
            usage = self._usage.of_session(session)
            if app_id in session.apps and is_live(session, usage.last_used_at, self._idle_timeout, now):
                return True
        return False


def _request_id() -> str:
    return str(CURRENT_REQUEST.get() or "")
