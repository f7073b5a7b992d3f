"""Asking Authing and GenAuth whether a user has a session, which is all that they can say."""

from __future__ import annotations

import base64
import re
from functools import partial
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin

from sidecar.asking import Asker, Reply, blames_the_question, retry_after
from sidecar.caching import SingleFlight
from sidecar.checks.asking_dialect import JSON_SENT, JSON_WANTED, read_answer
from sidecar.checks.authing_wire import (
    UNKNOWN_USER,
    AccessKeyCredentials,
    ManagementToken,
    ManagementTokenAnswer,
    Outcome,
    SessionAnswer,
    SessionQuestion,
)
from sidecar.checks.dialect import W, Wire
from sidecar.errors import InvalidValue, UpstreamThrottled, UpstreamUnavailable
from sidecar.model import HeaderLines
from sidecar.ports import Clock
from sidecar.settings import UpstreamSettings
from sidecar.strict_json import read_object

_KEPT = 0.9
"""The part of its life for which a management token is used: it must not end on its way."""

_LONGEST = 24 * 60 * 60
"""Seconds for which one is used, whatever it says."""

_JSON = (JSON_WANTED, JSON_SENT)

_PRINTABLE = re.compile(r"[!-~]+")


class _Token(NamedTuple):
    """A management token, as headers carry it. `until` is by the monotonic clock."""

    headers: HeaderLines
    until: float

    def __repr__(self) -> str:
        return "<_Token>"


class AskingAuthing:
    """Asks with an access key, whose management token is fetched when it is needed, once for all who wait.

    The token's endpoint is beside the one at `url`. `asker` and `clock` are those of `name`, with which every
    message begins.
    """

    def __init__(self, settings: UpstreamSettings, name: str, asker: Asker, clock: Clock) -> None:
        self._name = name
        self._url = settings.url
        self._token_url = urljoin(settings.url, "get-management-token")
        self._app_id = settings.app_id
        self._key = AccessKeyCredentials(
            access_key_id=settings.access_key_id, access_key_secret=settings.access_key_secret
        )
        self._asker = asker
        self._clock = clock
        self._kept: _Token | None = None
        self._flights: SingleFlight[_Token] = SingleFlight()

    async def has_session(self, user_id: str) -> bool:
        """Whether the user has a session in the app; False also for one who is not known there.

        Everything that this takes is within the timeout. Raises UpstreamUnavailable, UpstreamThrottled.
        """
        deadline = self._asker.deadline()
        question = SessionQuestion(app_id=self._app_id, user_id=user_id)
        for _ in range(2):  # a token that has been revoked is replaced, once
            token = await self._token(deadline)
            active = await self._ask_about(question, token, deadline)
            if active is not None:
                return active
            if self._kept is token:
                self._kept = None
        raise UpstreamUnavailable(f"{self._name}: it refuses the management token that it has just given")

    async def close(self) -> None:
        """Stops what is under way. For when nobody asks any more."""
        await self._flights.close()

    async def _token(self, deadline: float) -> _Token:
        if self._kept is not None and self._clock.monotonic() < self._kept.until:
            return self._kept
        return await self._flights.run("token", partial(self._fetch_token, deadline))

    async def _fetch_token(self, deadline: float) -> _Token:
        asked_at = self._clock.monotonic()
        answer = await self._asker.ask_for(
            self._read_token,
            "POST",
            self._token_url,
            headers=_JSON,
            content=_sent(self._key),
            deadline=deadline,
        )
        seconds = min(answer.expires_in, _LONGEST)
        self._kept = _Token(_headers(answer.access_token), asked_at + _KEPT * seconds)
        return self._kept

    async def _ask_about(self, question: SessionQuestion, token: _Token, deadline: float) -> bool | None:
        """Whether there is a session; None where it is the management token that is refused."""
        try:
            return await self._asker.ask_for(
                self._read_session,
                "POST",
                self._url,
                headers=(*_JSON, *token.headers),
                content=_sent(question),
                about=question.user_id.encode("utf-8"),
                deadline=deadline,
            )
        except InvalidValue as error:
            raise UpstreamUnavailable(str(error)) from None

    def _read_session(self, reply: Reply) -> bool | None:
        """See `_ask_about`. Raises InvalidValue where the question may be to blame."""
        outcome = self._outcome(reply)
        if outcome.status_code == HTTPStatus.OK:
            return self._answer(reply, SessionAnswer).data.active
        if outcome.api_code == UNKNOWN_USER:
            return False
        if outcome.status_code == HTTPStatus.UNAUTHORIZED:
            return None
        fault = InvalidValue if blames_the_question(outcome.status_code) else UpstreamUnavailable
        raise fault(f"{self._name}: {_described(outcome)}")

    def _read_token(self, reply: Reply) -> ManagementToken:
        outcome = self._outcome(reply)
        if outcome.status_code != HTTPStatus.OK:
            raise UpstreamUnavailable(
                f"{self._name}: no management token for its access key: {_described(outcome)}"
            )
        token = self._answer(reply, ManagementTokenAnswer).data
        if not _PRINTABLE.fullmatch(token.access_token):
            raise UpstreamUnavailable(f"{self._name}: its management token is none")
        return token

    def _outcome(self, reply: Reply) -> Outcome:
        """Every answer has the status 200; what it is stands in the body."""
        outcome = self._answer(reply, Outcome)
        if outcome.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = retry_after(reply.headers, self._clock.now())
            raise UpstreamThrottled(f"{self._name}: {_described(outcome)}", seconds)
        return outcome

    def _answer(self, reply: Reply, model: type[W]) -> W:
        try:
            return read_answer(reply, model)
        except InvalidValue as error:
            raise UpstreamUnavailable(f"{self._name}: its answer cannot be read: {error}") from None


def _sent(question: Wire) -> bytes:
    return question.model_dump_json(exclude_none=True).encode()


def _described(outcome: Outcome) -> str:
    code = "" if outcome.api_code is None else f", apiCode {outcome.api_code}"
    return f"its statusCode is {outcome.status_code}{code}"


def _headers(token: str) -> HeaderLines:
    """What makes a request the management client's: the token, and the user pool that is named in it."""
    pool = _user_pool(token)
    lines = [(b"authorization", f"Bearer {token}".encode("ascii"))]
    return [*lines, (b"x-authing-userpool-id", pool.encode("ascii"))] if pool else lines


def _user_pool(token: str) -> str:
    """Empty where there is none to be read. Nothing depends on it here: the vendor's clients repeat it."""
    try:
        payload = token.split(".")[1]
        pool = read_object(base64.urlsafe_b64decode(payload + "==")).get("scoped_userpool_id")
    except (IndexError, ValueError):
        return ""
    return pool if isinstance(pool, str) and _PRINTABLE.fullmatch(pool) else ""
