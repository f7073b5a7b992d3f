"""An explanation as `sidecar explain` prints it: the verdict, the steps that led there, and the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sidecar.cli.output import Record

if TYPE_CHECKING:
    from sidecar.errors import SidecarError
    from sidecar.explaining import Answered, Demand, Explanation, PassedOver, Sent
    from sidecar.model import CheckResponse, Decision, OriginalRequest, Rejected, Verified
    from sidecar.reasons import Step

_WIDTH = 12
_ANY_OF = ("roles", "permissions", "accounts")


# --- for programs --------------------------------------------------------------------------------


def record_of(gateway: str, sent: Sent, explained: Explanation) -> Record:
    """The whole of it. What a step did not come to is null, or an empty list."""
    from sidecar.reasons import MEANINGS

    decision = explained.decision
    meaning = MEANINGS[decision.reason]
    credential = explained.answers[0].credential if explained.answers else None
    return {
        "gateway": gateway,
        "peer": sent.peer,
        "request": _request(explained.original) if explained.original else None,
        "passed_over": [{**each._asdict(), "rule": each.rule.name} for each in explained.passed_over],
        "rule": explained.rule.name if explained.rule else None,
        "reads": explained.reads,
        "credential": credential.form if credential else None,
        "authenticators": [_answered(each) for each in explained.answers],
        "demands": [demand._asdict() for demand in explained.demands],
        "decision": _kind(decision),
        "reason": decision.reason,
        "step": meaning.step,
        "meaning": meaning.sentence,
        "why": _why(decision),
        "use_is_due": explained.use_is_due,
        "response": _response(explained.response),
    }


def _request(original: OriginalRequest) -> Record:
    return {
        "method": original.method,
        "url": original.url,
        "scheme": original.scheme,
        "host": original.host.name,
        "port": original.host.port,
        "path": original.path.text,
        "path_if_split": original.path.split,
        "client": str(original.client),
    }


def _response(response: CheckResponse) -> Record:
    return {
        "status": response.status,
        "headers": [[each.decode("latin-1") for each in line] for line in response.headers],
        "body": response.body.decode("utf-8"),
    }


def _answered(answered: Answered) -> Record:
    answer, reason, subject, username = _said(answered.said)
    return {
        "name": answered.authenticator,
        "answer": answer,
        "reason": reason,
        "subject": subject,
        "username": username,
        "why": answered.why,
    }


def _said(
    said: Verified | Rejected | Exception | None,
) -> tuple[str, str | None, str | None, str | None]:
    """The kind of the answer, the reason of a bad one, and subject and username of a good one."""
    from sidecar.errors import Throttled, UpstreamThrottled
    from sidecar.model import Rejected, Verified

    match said:
        case None:
            return "not mine", None, None, None
        case Verified(identity=identity):
            return "mine", None, identity.subject, identity.username
        case Rejected(reason=reason):
            return "mine but bad", reason, None, None
        case Throttled() | UpstreamThrottled():
            return "wait", None, None, None
        case Exception():
            return "outage", None, None, None


def _why(decision: Decision) -> str:
    """What is wrong in particular, where that can be said."""
    from sidecar.model import Malformed, Unavailable

    return decision.why if isinstance(decision, Malformed | Unavailable) else ""


def _kind(decision: Decision) -> str:
    return type(decision).__name__.lower()


# --- for people ----------------------------------------------------------------------------------

_VERDICTS = {
    "allow": "ALLOWED",
    "challenge": "NOT SIGNED IN",
    "deny": "REFUSED",
    "malformed": "CANNOT BE READ",
    "limited": "HAS TO WAIT",
    "unavailable": "OUTAGE",
}


def lines_of(gateway: str, sent: Sent, explained: Explanation) -> Iterator[str]:
    """The same, for eyes: `>` marks the line that decides."""
    return map(_visible, _lines(gateway, sent, explained))


def _lines(gateway: str, sent: Sent, explained: Explanation) -> Iterator[str]:
    from sidecar.reasons import MEANINGS

    decision, response = explained.decision, explained.response
    meaning = MEANINGS[decision.reason]
    yield f"{_VERDICTS[_kind(decision)]}, {decision.reason}: {meaning.sentence}"
    yield ""
    for step, texts in _steps(gateway, sent, explained).items():
        decides = step is meaning.step
        told = texts or (["it went no further"] if decides else [])
        deciding = _deciding(step, explained) % len(told) if decides else None
        for number, text in enumerate(told):
            mark = ">" if number == deciding else " "
            yield f"{mark} {'' if number else step:{_WIDTH}}{text}"
    if explained.use_is_due:
        yield "  A live check also notes this use, which is not done here."
    yield ""
    yield f"HTTP {response.status}"
    for name, value in response.headers:
        yield f"{name.decode('latin-1')}: {value.decode('latin-1')}".rstrip()
    yield ""
    yield from response.body.decode("utf-8").splitlines()


def _steps(gateway: str, sent: Sent, explained: Explanation) -> dict[Step, list[str]]:
    """What is to be said of each step that it came to."""
    from sidecar.reasons import Step

    return {
        Step.PEER: [f"{sent.peer} asks /check/{gateway}"],
        Step.REQUEST: list(_request_texts(sent, explained)),
        Step.RULE: list(_rule_texts(explained)),
        Step.CREDENTIAL: list(_credential_texts(explained)),
        Step.IDENTITY: list(_identity_texts(explained)),
        Step.DEMANDS: list(_demand_texts(explained)),
        Step.ANSWER: [],
    }


def _deciding(step: Step, explained: Explanation) -> int:
    """Which line of the step that decides does so; as a rule the last one."""
    from sidecar.reasons import Step

    reason = explained.decision.reason
    each_reason: list[str] = []
    if step is Step.IDENTITY:
        each_reason = _reasons(explained)
    elif step is Step.DEMANDS:
        each_reason = [f"missing_{demand.kind.removesuffix('s')}" for demand in explained.demands]
    return each_reason.index(reason) if reason in each_reason else -1


def _reasons(explained: Explanation) -> list[str]:
    return [_reason(each.said) for each in explained.answers]


def _reason(said: Verified | Rejected | SidecarError | None) -> str:
    """The reason of the check, where this answer decides it; empty where it cannot refuse anybody."""
    from sidecar.errors import Overloaded, StoreUnavailable, Throttled, UpstreamThrottled, UpstreamUnavailable
    from sidecar.model import Rejected, reason_of

    match said:
        case Rejected(reason=reason):
            return reason
        case Throttled() | UpstreamThrottled() | StoreUnavailable() | UpstreamUnavailable() | Overloaded():
            return reason_of(said)
        case _:
            return ""


def _request_texts(sent: Sent, explained: Explanation) -> Iterator[str]:
    yield from _read_texts(sent, explained.original)
    if _kind(explained.decision) == "malformed":
        yield f"cannot be read: {_why(explained.decision)}"


def _read_texts(sent: Sent, original: OriginalRequest | None) -> Iterator[str]:
    from sidecar.settings.types import mask_password

    if original is None:
        method, scheme, host, target = (part.decode("utf-8", "replace") for part in sent.asked)
        yield f"{method} {mask_password(f'{scheme}://{host}{target}')}"
        return
    yield f"{original.method} {original.url}"
    yield f"path {original.path.text} from {original.client}"
    if original.path.split is not None:
        yield f"or, where the encoded slash separates, path {original.path.split}"


def _rule_texts(explained: Explanation) -> Iterator[str]:
    yield from (_passed_over_text(each) for each in explained.passed_over)
    if explained.decision.reason == "no_rule":
        yield "no rule selects it"
    if explained.rule:
        yield f"{explained.rule.name} selects it: {explained.rule.access}"


def _passed_over_text(passed_over: PassedOver) -> str:
    configured = ", ".join(passed_over.configured)
    why = f"{passed_over.selector} {configured}, not {passed_over.actual}"
    return f"{passed_over.rule.name} is passed over: {why}"


def _credential_texts(explained: Explanation) -> Iterator[str]:
    if explained.answers:
        credential = explained.answers[0].credential
        yield f"{credential.form} {credential.names.decode('ascii')}".rstrip()
    elif explained.reads:
        yield f"the rule reads {', '.join(explained.reads)}"


def _identity_texts(explained: Explanation) -> Iterator[str]:
    yield from (_answered_text(each) for each in explained.answers)
    decision = explained.decision
    if decision.reason == "unknown_credential":
        yield "nobody knows it"
    elif _kind(decision) == "unavailable" and decision.reason not in _reasons(explained) and _why(decision):
        yield _why(decision)


def _answered_text(answered: Answered) -> str:
    answer, reason, subject, name = _said(answered.said)
    details = ", ".join(detail for detail in (reason, subject, name, answered.why) if detail)
    return f"{answered.authenticator}: {answer}" + (f" ({details})" if details else "")


def _demand_texts(explained: Explanation) -> Iterator[str]:
    """Nothing is demanded of somebody whom nobody knows."""
    rule = explained.rule
    if rule is None or not any(_said(each.said)[2] for each in explained.answers):
        return
    yield from (_demand_text(demand) for demand in explained.demands)
    if rule.app:
        yield f"the app {rule.app} must not be disabled"
    if not explained.demands and not rule.app:
        yield "none"
    if explained.decision.reason == "identity_too_large":
        yield "the identity headers have to be short enough"


def _demand_text(demand: Demand) -> str:
    which = "any of" if demand.kind in _ANY_OF else "all of"
    return f"{which} the {demand.kind} {', '.join(demand.wanted)}; has {', '.join(demand.has) or 'none'}"


def _visible(text: str) -> str:
    """Nothing in it moves the terminal's cursor: a path may have been decoded to anything."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
