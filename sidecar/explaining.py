"""Why a check is decided as it is: the check itself, with its parts noting what they see.

The check's own endpoint decides and answers. Beside it stand noting wrappers around the ports, so that it
knows nothing of being watched, and nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sidecar.authentication import Authentication
from sidecar.errors import SidecarError
from sidecar.model import (
    UNIX_PEER,
    Allow,
    Asked,
    CheckRequest,
    CheckResponse,
    Credential,
    Decision,
    Form,
    HeaderLines,
    Identity,
    IPAddress,
    Malformed,
    OriginalRequest,
    Question,
    Rejected,
    Verified,
)
from sidecar.pipeline import Pipeline
from sidecar.policy import Rule, Selector
from sidecar.ports import Authenticator, Gateway
from sidecar.telemetry import Metrics, overheard
from sidecar.web.check import CheckEndpoint

Events = Sequence[Mapping[str, Any]]


class Sent(NamedTuple):
    """What reaches the sidecar: the peer, what it was asked, and the client's own header lines."""

    peer: str
    asked: Asked
    lines: HeaderLines


class PassedOver(NamedTuple):
    """A rule that does not select the request: the selector, what it names, and what is there instead."""

    rule: Rule
    selector: Selector
    configured: tuple[str, ...]
    actual: str


class Answered(NamedTuple):
    """What an authenticator said of a credential, or raised; `why` in its own words, where it has any."""

    authenticator: str
    credential: Credential
    said: Verified | Rejected | SidecarError | None
    why: str


class Demand(NamedTuple):
    """What the rule demands of one kind, and what they have of it."""

    kind: str
    wanted: tuple[str, ...]
    has: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One check, step by step. What a step did not come to is empty.

    `rule` is the one that selects the request, and `reads` are the credentials that it reads. `response` is
    what a live check answers, with `***` for the values of cookies that it sets, and for an assertion;
    `use_is_due` says that it also notes the use.
    """

    original: OriginalRequest | None
    passed_over: tuple[PassedOver, ...]
    rule: Rule | None
    reads: tuple[str, ...]
    answers: tuple[Answered, ...]
    demands: tuple[Demand, ...]
    decision: Decision
    response: CheckResponse
    use_is_due: bool


async def explain(pipeline: Pipeline, gateway: Gateway, metrics: Metrics, sent: Sent) -> Explanation:
    """Checks as this gateway would have it checked."""
    notes = _Notes()
    scope = _scope(gateway.question(sent.asked), sent)
    with overheard() as events:
        watched = replace(pipeline, authentication=_noting(pipeline.authentication, notes, events))
        endpoint = CheckEndpoint(_NotingGateway(gateway, notes), watched, pipeline.clock, metrics)
        await endpoint.answer(scope, notes.send)
    return _explanation(pipeline, notes)


def forwarded_for(client: bytes | None, peer: str, hops: int) -> bytes:
    """What `hops` proxies of one's own add to X-Forwarded-For, the last of them at `peer`.

    Where `client` is None, it is the peer itself.
    """
    proxy = b"127.0.0.1" if peer == UNIX_PEER else peer.encode("utf-8")
    return b", ".join([client or proxy, *[proxy] * (hops - 1)])


# --- what is noted -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Notes:
    original: OriginalRequest | None = None
    decisions: list[Decision] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    messages: list[Mapping[str, Any]] = field(default_factory=list)

    async def send(self, message: Mapping[str, Any]) -> None:
        """An ASGI application's way to answer."""
        self.messages.append(message)

    def response(self, assertion: bytes) -> CheckResponse:
        """What was sent, without the secrets; `assertion` is the header that one is in."""
        start, body = self.messages
        lines = tuple((name, _masked(name, value, assertion)) for name, value in start["headers"])
        return CheckResponse(start["status"], lines, body["body"])


class _NotingGateway:
    """Notes what is read and what is decided."""

    def __init__(self, gateway: Gateway, notes: _Notes) -> None:
        self.name = gateway.name
        self.takes_targets = gateway.takes_targets
        self.reads = gateway.reads
        self.url = gateway.url
        self._gateway = gateway
        self._notes = notes

    def question(self, asked: Asked) -> Question:
        """See Gateway.question."""
        return self._gateway.question(asked)

    def parse(self, request: CheckRequest, client_ip_hops: int) -> OriginalRequest:
        """See Gateway.parse."""
        self._notes.original = self._gateway.parse(request, client_ip_hops)
        return self._notes.original

    def render(self, decision: Decision) -> CheckResponse:
        """See Gateway.render."""
        self._notes.decisions.append(decision)
        return self._gateway.render(decision)


class _NotingAuthenticator:
    """Notes what is answered, and what is logged of it."""

    def __init__(self, name: str, authenticator: Authenticator, notes: _Notes, events: Events) -> None:
        self.name = name
        self.forms = authenticator.forms
        self.cookies = authenticator.cookies
        self._authenticator = authenticator
        self._notes = notes
        self._events = events

    async def authenticate(self, credential: Credential, client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate."""
        try:
            said = await self._authenticator.authenticate(credential, client)
        except SidecarError as error:
            self._note(credential, error, [str(error), *self._heard("error")])
            raise
        self._note(credential, said, self._heard("why"))
        return said

    def _heard(self, what: str) -> list[str]:
        events = [event for event in self._events if event.get("authenticator") == self.name]
        return [str(event[what]) for event in events if what in event]

    def _note(
        self, credential: Credential, said: Verified | Rejected | SidecarError | None, heard: list[str]
    ) -> None:
        """Each once, although an outage is raised and logged, and without the name that stands before it."""
        why = dict.fromkeys(each.removeprefix(f"{self.name}: ") for each in heard)
        self._notes.answers.append(Answered(self.name, credential, said, "; ".join(why)))


def _noting(authentication: Authentication, notes: _Notes, events: Events) -> Authentication:
    noting = {
        name: _NotingAuthenticator(name, each, notes, events)
        for name, each in authentication.authenticators.items()
    }
    return replace(authentication, authenticators=noting)


def _scope(question: Question, sent: Sent) -> dict[str, Any]:
    """The request as our server would hand it on. What the proxy says replaces what the client says."""
    target, _, query = question.target.partition(b"?")
    said = {b"host", *(name for name, _ in question.lines)}
    theirs = [(name, value) for name, value in sent.lines if name not in said]
    over_unix = sent.peer == UNIX_PEER
    return {
        "type": "http",
        "method": question.method.decode("latin-1"),
        "path": target.decode("latin-1"),
        "raw_path": target,
        "query_string": query,
        "headers": [(b"host", question.host), *question.lines, *theirs],
        "client": None if over_unix else (sent.peer, 0),
        "server": ("", None) if over_unix else ("", 0),
    }


def _masked(name: bytes, value: bytes, assertion: bytes) -> bytes:
    if name == assertion and value:
        return b"***"
    if name.lower() != b"set-cookie":
        return value
    cookie, separator, attributes = value.partition(b";")
    return cookie.partition(b"=")[0] + b"=***" + separator + attributes


# --- what follows from it ------------------------------------------------------------------------


def _explanation(pipeline: Pipeline, notes: _Notes) -> Explanation:
    original, decision = notes.original, notes.decisions[-1]
    rule, passed_over = (
        _selecting(pipeline, original) if original and not isinstance(decision, Malformed) else (None, ())
    )
    verified = next((each.said for each in notes.answers if isinstance(each.said, Verified)), None)
    return Explanation(
        original=original,
        passed_over=passed_over,
        rule=rule,
        reads=tuple(_reads(rule, pipeline.cookie.name)) if rule else (),
        answers=tuple(notes.answers),
        demands=tuple(_demands(rule, verified.identity)) if rule and verified else (),
        decision=decision,
        response=notes.response(pipeline.assertions.header if pipeline.assertions else b""),
        use_is_due=_use_is_due(pipeline, rule, verified, decision),
    )


def _selecting(pipeline: Pipeline, request: OriginalRequest) -> tuple[Rule | None, tuple[PassedOver, ...]]:
    """The rule that selects it, and those before that one, or all."""
    passed_over: list[PassedOver] = []
    for rule in pipeline.policy.rules:
        selector = rule.misfit(request, request.path.text)
        if selector is None:
            return rule, tuple(passed_over)
        passed_over.append(PassedOver(rule, selector, *_compared(rule, selector, request)))
    return None, tuple(passed_over)


def _compared(rule: Rule, selector: Selector, request: OriginalRequest) -> tuple[tuple[str, ...], str]:
    """What the selector names, and what the request has."""
    match selector:
        case "hosts":
            return tuple(map(str, rule.hosts)), f"{request.host.name}:{request.host.port}"
        case "paths":
            return tuple(pattern.text for pattern in rule.paths), request.path.text
        case "methods":
            return tuple(sorted(rule.methods)), request.method
        case "networks":
            return tuple(map(str, rule.networks)), str(request.client)


def _reads(rule: Rule, own_cookie: bytes) -> Iterator[str]:
    names = [own_cookie] if rule.own_cookie else []
    for form in Form:
        if form is Form.COOKIE and form in rule.forms:
            yield from (
                f"cookie {b'; '.join(each).decode('ascii')}" for each in [names, *rule.others_cookies] if each
            )
        elif form in rule.forms:
            yield form.value


def _demands(rule: Rule, identity: Identity) -> Iterator[Demand]:
    accounts = tuple(account.id for account in identity.accounts)
    of_each_kind = (
        ("roles", rule.roles, identity.roles),
        ("permissions", rule.permissions, identity.permissions),
        ("accounts", rule.accounts, accounts),
        ("scopes", rule.scopes, identity.scopes),
    )
    for kind, wanted, has in of_each_kind:
        if wanted:
            yield Demand(kind, tuple(sorted(wanted)), tuple(sorted(has)))


def _use_is_due(pipeline: Pipeline, rule: Rule | None, verified: Verified | None, decision: Decision) -> bool:
    if rule is None or verified is None or verified.usage is None or not isinstance(decision, Allow):
        return False
    return not pipeline.usage.is_settled(verified.usage, rule.app, pipeline.clock.now())
