"""Cookies and tokens of another application, by asking it about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Protocol

import structlog
from cachetools import TTLCache

from sidecar.answers import Answers
from sidecar.asking import Asker, Reply, blames_the_question
from sidecar.claims import ClaimsReader
from sidecar.credentials import API_KEY_PREFIX
from sidecar.errors import InvalidToken, InvalidValue, UpstreamUnavailable
from sidecar.hosts import origin_of
from sidecar.model import Credential, Form, HeaderLines, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Authenticator, Clock
from sidecar.settings import UpstreamSettings

MOST_UNSENT = 1024
"""Credentials for which cookies are kept that the application has set and no client has had yet."""

LONGEST_COOKIES = 4096
"""Bytes that those have for one client: as many as browsers keep of one."""

_FORMS = {"Authorization": Form.BEARER, "X-Api-Key": Form.API_KEY}
_OUR_API_KEY = API_KEY_PREFIX.encode("ascii")
_SENDABLE = re.compile(rb"[\t\x20-\x7e\x80-\xff]+")
_COOKIE = re.compile(rb"[\x20-\x7e]+")

log = structlog.get_logger(__name__)


class Asking(Protocol):
    """How one product is asked: what is sent for a credential, and what the answer says of it."""

    refused_statuses: frozenset[int]
    """They say that the credential is not known."""

    def request(self, credential: Credential) -> tuple[str, HeaderLines, bytes]:
        """Method, headers and body."""

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """Who it is; None: not known. Raises InvalidValue for what is no answer of this product."""


class AskingSessions(Protocol):
    """How a product is asked that knows who has a session, and not whose credential something is."""

    async def has_session(self, user_id: str) -> bool:
        """Raises UpstreamUnavailable, UpstreamThrottled."""


class UpstreamAuthenticator:
    """Whoever the application at `url` names for a credential.

    Nothing but the credential that the settings name reaches it. One that it does not know is None, since
    another authenticator may know it. Of the cookies that it sets, those that the settings name reach the
    client, each once: with the next answer to somebody with the same credential.

    `answers` are this authenticator's own: a credential is all that tells its questions apart. `is_ours` says
    which tokens we issued ourselves.
    """

    def __init__(
        self,
        *,
        name: str,
        settings: UpstreamSettings,
        asking: Asking,
        asker: Asker,
        answers: Answers,
        clock: Clock,
        is_ours: Callable[[bytes], bool],
    ) -> None:
        self.name = name
        self.cookies = tuple(cookie.encode("ascii") for cookie in settings.forwarded_cookies)
        forms = {_FORMS[header] for header in settings.forwarded_headers}
        self.forms = frozenset(forms | {Form.COOKIE} if self.cookies else forms)
        self._names = b"; ".join(self.cookies)
        self._url = settings.url
        self._issuer = origin_of(settings.url)
        self._reader = ClaimsReader(settings, name)
        self._asking = asking
        self._asker = asker
        self._answers = answers
        self._is_ours = is_ours
        self._passed = frozenset(cookie.encode("ascii") for cookie in settings.pass_cookies)
        # They are as old as the answer that they came with: older than `cache` nobody is given any. Where no
        # answer is remembered, those who asked for it still are.
        self._unsent: TTLCache[bytes, tuple[bytes, ...]] = TTLCache(
            MOST_UNSENT, settings.cache or settings.timeout, timer=clock.monotonic
        )

    async def authenticate(self, credential: Credential, _client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate. Raises UpstreamUnavailable, UpstreamThrottled; never Rejected."""
        if not self._takes(credential):
            return None
        key = sha256(
            b"\0".join((credential.form.encode("ascii"), credential.names, credential.value))
        ).digest()
        answer = await self._answers.get(key, partial(self._ask, credential, key))
        if not isinstance(answer, Verified):
            return answer
        return answer._replace(cookies=self._unsent.pop(key, ()))

    def _takes(self, credential: Credential) -> bool:
        """Whether it may leave: not what is ours, and not another application's cookies."""
        if credential.form not in self.forms or not _SENDABLE.fullmatch(credential.value):
            return False
        if credential.form is Form.COOKIE:
            return credential.names == self._names
        return not credential.value.startswith(_OUR_API_KEY)

    async def _ask(self, credential: Credential, key: bytes) -> Verified | None:
        # Not in `_takes`: a token takes longer to read than an answer to be remembered.
        if credential.form is Form.BEARER and self._is_ours(credential.value):
            return None
        method, headers, content = self._asking.request(credential)
        try:
            identity, cookies = await self._asker.ask_for(
                self._read, method, self._url, headers=headers, content=content, about=key
            )
        except InvalidValue as error:
            raise UpstreamUnavailable(str(error)) from None
        if identity is None:
            return None
        if cookies:
            self._unsent[key] = cookies
        return Verified(identity)

    def _read(self, reply: Reply) -> tuple[Identity | None, tuple[bytes, ...]]:
        """Who it is, and the cookies that go on to the client.

        Raises UpstreamUnavailable; and InvalidValue where the question may be to blame: nobody who sends what
        the application cannot read may have us stop asking about everybody else.
        """
        if reply.status in self._asking.refused_statuses:
            return None, ()
        if blames_the_question(reply.status):
            raise InvalidValue(f"{self.name}: status {reply.status}")
        try:
            claims = self._asking.claims(reply)
            if claims is None:
                return None, ()
            return self._reader.identity(claims, self._issuer), self._passed_on(reply)
        except (InvalidValue, InvalidToken) as error:
            raise UpstreamUnavailable(f"{self.name}: its answer cannot be read: {error}") from None

    def _passed_on(self, reply: Reply) -> tuple[bytes, ...]:
        """The Set-Cookie values that are meant for the client too, and cannot be taken for two headers.

        As many as a gateway takes beside the identity headers.
        """
        values = (value.encode("latin-1") for value in reply.headers.all("set-cookie"))
        passed = tuple(
            value
            for value in values
            if value.partition(b"=")[0].strip() in self._passed and _COOKIE.fullmatch(value)
        )
        if sum(map(len, passed)) > LONGEST_COOKIES:
            log.warning("cookies_too_long", authenticator=self.name)
            return ()
        return passed


class SessionElsewhereAuthenticator:
    """Whoever another authenticator vouches for, while the application at `url` has a session of theirs.

    It knows them by their subject, without the `prefix` that is put before it here. `answers` are this
    authenticator's own.
    """

    def __init__(
        self,
        *,
        name: str,
        over: Authenticator,
        prefix: str,
        asking: AskingSessions,
        answers: Answers,
    ) -> None:
        self.name = name
        self.forms = over.forms
        self.cookies = over.cookies
        self._over = over
        self._prefix = prefix
        self._method = f"upstream:{name}"
        self._asking = asking
        self._answers = answers

    async def authenticate(self, credential: Credential, client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate. Rejected where they have no session there."""
        vouched = await self._over.authenticate(credential, client)
        if not isinstance(vouched, Verified):
            return vouched
        subject = vouched.identity.subject.removeprefix(self._prefix)
        answer = await self._answers.get(subject.encode("utf-8"), partial(self._ask, subject))
        if not isinstance(answer, Verified):
            return answer
        identity = vouched.identity._replace(method=self._method)
        return vouched._replace(identity=identity, cacheable=0.0)

    async def _ask(self, subject: str) -> Verified | Rejected:
        if not await self._asking.has_session(subject):
            return Rejected(Reason.UNKNOWN_SESSION)
        return Verified(Identity(subject, self._method))
