"""`/check/<gateway>`: the gateways' questions. Plain ASGI: this is what everything waits for."""

from __future__ import annotations

import structlog

from sidecar.model import (
    Allow,
    Challenge,
    CheckRequest,
    CheckResponse,
    Decision,
    Deny,
    Headers,
    Limited,
    Malformed,
    Reason,
    Unavailable,
)
from sidecar.pipeline import READS, READS_OF_THE_REFUSED, Pipeline
from sidecar.ports import Clock, Gateway
from sidecar.replays import Replayable, Replays
from sidecar.telemetry import Labels, Metrics
from sidecar.web.entrance import Scope, Send, method_label, peer_of

log = structlog.get_logger(__name__)

_IN_OUR_WORDS = (Malformed, Unavailable)


class CheckEndpoint:
    """One gateway's endpoint. It never answers 500: what goes wrong in here is an outage."""

    def __init__(
        self,
        gateway: Gateway,
        pipeline: Pipeline,
        clock: Clock,
        metrics: Metrics,
        replays: Replays | None = None,
    ) -> None:
        self.path = f"/check/{gateway.name}"
        self._gateway = gateway
        self._pipeline = pipeline
        self._shown = gateway.reads | READS | READS_OF_THE_REFUSED
        self._replays = replays
        self._clock = clock
        self._metrics = metrics
        self._log = log.bind(gateway=gateway.name)  # bound once: an unbound logger binds at every call

    async def answer(self, scope: Scope, send: Send) -> int:
        """Answers, and returns the status. A body, if any, is left unread: a check has none.

        With an answer that may be given again, the scope has it as `replayable`.
        """
        started = self._clock.monotonic()
        decision, response = await self._decide(scope)
        outcome, authenticator = _outcome(decision)
        labels = (self._gateway.name, outcome, decision.reason, authenticator)
        if self._replays and isinstance(decision, Allow) and decision.grounds:
            tally = self._metrics.tally(labels, method_label(scope["method"]))
            scope["replayable"] = Replayable(self._replays, decision.grounds, tally)
        body = response.body
        headers = [*response.headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._count(decision, labels, self._clock.monotonic() - started)
        return response.status

    async def _decide(self, scope: Scope) -> tuple[Decision, CheckResponse]:
        try:
            target = _target(scope) if self._gateway.takes_targets else b""
            lines = [line for line in scope["headers"] if line[0] in self._shown]  # no other can matter
            request = CheckRequest(peer_of(scope), scope["method"], target, Headers(lines))
            decision = await self._pipeline.check(request, self._gateway)
            response = self._gateway.render(decision)
        except Exception:  # noqa: BLE001 - fail closed, whatever it is, and say so in the log
            self._log.exception("check_failed")
            decision = Unavailable(Reason.INTERNAL_ERROR)
            response = self._gateway.render(decision)
        if isinstance(decision, _IN_OUR_WORDS):
            self._log.debug("check", reason=f"{decision.reason}", why=decision.why)
        else:
            self._log.debug("check", reason=f"{decision.reason}")
        return decision, response

    def _count(self, decision: Decision, labels: Labels, seconds: float) -> None:
        self._metrics.decisions.inc(labels)
        self._metrics.decision_duration.observe(labels[:2], seconds)
        if isinstance(decision, Malformed) or decision.reason is Reason.UNTRUSTED_PROXY:
            self._metrics.forwarded_rejected.labels(decision.reason).inc()


def _target(scope: Scope) -> bytes:
    """The path and the query as they came; a `?` without a query is lost."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return b"%b?%b" % (path, query) if query else path


def _outcome(decision: Decision) -> tuple[str, str]:
    """The outcome, and how the one who was allowed signed in."""
    match decision:
        case Allow(identity=identity):
            return "allow", identity.method if identity else ""
        case Challenge():
            return "challenge", ""
        case Deny() | Malformed() | Limited():
            return "deny", ""
        case Unavailable():
            return "error", ""
