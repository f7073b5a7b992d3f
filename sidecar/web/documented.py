"""The products' endpoints: whatever happens under their paths is answered in the product's own form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import NamedTuple

import structlog
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from sidecar.audit import Audit, Event
from sidecar.checks.dialect import Answer, Dialect, Endpoint, Question
from sidecar.errors import (
    BodyRefused,
    BodyTooLarge,
    CredentialRefused,
    Overloaded,
    QuestionRefused,
    RequestRefused,
    SignInRefused,
    StoreUnavailable,
    Throttled,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from sidecar.limiting import RequestLimits
from sidecar.model import HeaderLines, Headers, Reason, reason_of
from sidecar.reasons import MEANINGS, Step
from sidecar.telemetry import Metrics
from sidecar.traffic import TrafficGuard
from sidecar.trust import TrustedProxies, address_of
from sidecar.web.bodies import read_body
from sidecar.web.entrance import Receive, Scope, Send, peer_of
from sidecar.web.origins import OwnOrigins

log = structlog.get_logger(__name__)

_CROSS_SITE = "This was sent from another site"
_OUTAGE = 5.0
"""Seconds after which it is worth asking again."""

_OF_CREDENTIALS = frozenset(
    reason
    for reason, meaning in MEANINGS.items()
    if meaning.step in {Step.CREDENTIAL, Step.IDENTITY} and reason is not Reason.NO_CREDENTIAL
)
"""Reasons of the steps that judge a credential."""

_COMMON = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class Place(NamedTuple):
    """A path of a product: its methods, none where there is nothing. `path` names it in the metrics."""

    dialect: Dialect
    path: str
    methods: dict[str, Endpoint]


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request has to pass before it is answered."""

    trusted: TrustedProxies
    client_ip_hops: int
    traffic: TrafficGuard
    limits: RequestLimits
    own_origins: OwnOrigins

    async def admit(self, scope: Scope, receive: Receive, place: Place) -> tuple[Endpoint, Question]:
        """The endpoint that is asked, and the question with its body. Raises what `_refusal_of` knows."""
        headers = Headers(scope["headers"])
        if len(headers.all(b"host")) != 1:
            raise QuestionRefused(400, "A request names one host")
        client = address_of(headers, peer_of(scope), self.trusted, self.client_ip_hops)
        if self.traffic.denies(headers, client):
            raise QuestionRefused(403, reason="traffic_guard")
        self.limits.count_check(client)
        endpoint = _endpoint(place, scope["method"])
        if endpoint.from_own_sites and not self.own_origins.admit(headers):
            raise QuestionRefused(403, _CROSS_SITE, reason="another_site")
        body = await read_body(receive) if endpoint.question else b""
        return endpoint, Question(headers, client, body)


def _endpoint(place: Place, method: str) -> Endpoint:
    if not place.methods:
        raise QuestionRefused(404)
    endpoint = place.methods.get("GET" if method == "HEAD" else method)
    if endpoint is None:
        raise QuestionRefused(405)
    return endpoint


class DocumentedChecks:
    """An ASGI application for the paths at which it can `find` a product."""

    def __init__(
        self, dialects: Iterable[Dialect], admission: Admission, audit: Audit, metrics: Metrics
    ) -> None:
        self._admission = admission
        self._audit = audit
        self._answered = metrics.check_requests
        self._places: dict[str, Place] = {}
        self._below: dict[str, Place] = {}
        for dialect in dialects:
            self._below[dialect.below] = Place(dialect, "none", {})
            for endpoint in dialect.endpoints:
                place = self._places.setdefault(endpoint.path, Place(dialect, endpoint.path, {}))
                place.methods[endpoint.method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGIApp. What `find` found is the scope's `route`."""
        place: Place = scope["route"]
        try:
            endpoint, question = await self._admission.admit(scope, receive, place)
            answer, outcome = await self._respond(endpoint, question), 200
            headers: HeaderLines = ()
        except Exception as error:
            refusal = _refusal_of(error)
            if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("check_failed", dialect=place.dialect.name)
            answer, outcome = place.dialect.refuse(refusal), refusal.status
            headers = _headers(refusal, answer, place)
            log.debug("refused", dialect=place.dialect.name, outcome=outcome, reason=refusal.reason)
        self._answered.inc((place.dialect.name, str(outcome)))
        await _send(send, answer, headers)

    async def _respond(self, endpoint: Endpoint, question: Question) -> Answer:
        try:
            return await endpoint.respond(question)
        except (QuestionRefused, CredentialRefused) as refused:
            if refused.reason in _OF_CREDENTIALS and not isinstance(refused, SignInRefused):
                reason = Reason(refused.reason)
                self._audit.record(Event.CREDENTIAL_REFUSED, reason, client=question.client)
            raise

    def find(self, path: str) -> Place | None:
        """The place of an endpoint, or one of those below which a product's clients may ask for more."""
        if path.startswith("//"):
            place = self.find("/" + path.lstrip("/"))
            return place if place is not None and place.dialect.merges_slashes else None
        if path in self._places:
            return self._places[path]
        # The longest prefix: one product's paths may lie below another's.
        prefix = max((each for each in self._below if path.startswith(each)), key=len, default="")
        return self._below.get(prefix)


def _refusal_of(error: Exception) -> QuestionRefused:
    """Which refusal it is: an outage is none of the caller's, and a fault of ours tells nothing of itself."""
    match error:
        case QuestionRefused():
            return error
        case BodyTooLarge():
            return QuestionRefused(413, reason="body_too_large")
        case BodyRefused() | ClientDisconnect():  # who has gone reads no answer
            return QuestionRefused(400, f"The body cannot be read: {error}", reason="bad_body")
        case CredentialRefused(reason=reason):
            return QuestionRefused(401, reason=reason)
        case RequestRefused(reason=reason):
            return QuestionRefused(400, f"The request cannot be read: {reason}", reason=reason)
        case Throttled() | UpstreamThrottled():
            return QuestionRefused(429, reason=reason_of(error), retry_after=error.retry_after)
        case StoreUnavailable() | UpstreamUnavailable() | Overloaded():
            return QuestionRefused(503, reason=reason_of(error), retry_after=_OUTAGE)
        case _:
            return QuestionRefused(500)


def _headers(refusal: QuestionRefused, answer: Answer, place: Place) -> HeaderLines:
    """The refusal's cookies, and what HTTP wants beside it (RFC 9110, 10.2.1, 10.2.3 and 11.6.1)."""
    lines = [(b"set-cookie", cookie) for cookie in refusal.cookies]
    if refusal.retry_after:
        lines.append((b"retry-after", b"%d" % ceil(refusal.retry_after)))
    if answer.status == HTTPStatus.UNAUTHORIZED:
        lines.append((b"www-authenticate", place.dialect.challenge(refusal).encode("ascii")))
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = {*place.methods, *({"HEAD"} if "GET" in place.methods else ())}
        lines.append((b"allow", ", ".join(sorted(methods)).encode("ascii")))
    return lines


async def _send(send: Send, answer: Answer, more: HeaderLines) -> None:
    body = to_json(answer.body, by_alias=True, exclude_none=True)
    length = (b"content-length", b"%d" % len(body))
    cookies = [(b"set-cookie", cookie) for cookie in answer.cookies]
    headers = [*_COMMON, length, *more, *cookies]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
