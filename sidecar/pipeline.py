"""One check, from the question to the decision.

trust → original request → rule → credential → authenticator → what the rule demands → identity headers.
Each step may end it. It knows ports and pure parts only: no web framework, no store, no gateway's ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from sidecar.apps import DisabledApps
from sidecar.assertions import Assertions
from sidecar.audit import Audit, Event
from sidecar.authentication import Authentication
from sidecar.caching import Known
from sidecar.cookies import SessionCookie
from sidecar.credentials import presented
from sidecar.errors import (
    CredentialRefused,
    Overloaded,
    RequestRefused,
    StoreUnavailable,
    Throttled,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from sidecar.model import (
    Allow,
    Challenge,
    CheckRequest,
    Credential,
    Decision,
    Deny,
    Form,
    Grounds,
    HeaderLines,
    Headers,
    Limited,
    Malformed,
    OriginalRequest,
    Reason,
    Rejected,
    Unavailable,
    Verified,
    reason_of,
)
from sidecar.policy import Policy, Rule
from sidecar.ports import Clock, Gateway
from sidecar.redirects import Redirects
from sidecar.revocation import Revocations
from sidecar.trust import TrustedProxies
from sidecar.usage import UsageRecorder

_NOT_RECORDED = frozenset({Reason.NO_CREDENTIAL, Reason.WRONG_PASSWORD})
"""Challenges that are not recorded here: nothing was refused, or whoever checks passwords has done so."""

READS = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"origin",
        b"access-control-request-method",
    }
)
"""The header lines that decide whether a request may pass, beside those that the gateway reads."""

READS_OF_THE_REFUSED = frozenset({b"accept", b"sec-fetch-mode", b"x-requested-with"})
"""Those that decide how it is told that it may not."""

_CHALLENGES = {Form.BEARER: "Bearer", Form.BASIC: "Basic"}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Decides checks."""

    trusted: TrustedProxies
    client_ip_hops: int
    policy: Policy
    authentication: Authentication
    disabled_apps: DisabledApps
    revocations: Revocations
    usage: UsageRecorder
    audit: Audit
    clock: Clock
    assertions: Assertions | None
    anonymous: HeaderLines
    """The headers of a public rule's answer where nobody is signed in."""
    redirects: Redirects
    cookie: SessionCookie

    async def check(self, request: CheckRequest, gateway: Gateway) -> Decision:
        """The decision on one request. Never raises for what a client, a proxy or a store does.

        The request needs no other header lines than those of READS, READS_OF_THE_REFUSED and the gateway.
        """
        if not self.trusted.admits(request.peer):
            return Deny(Reason.UNTRUSTED_PROXY)
        try:
            request.headers.only(b"host")
            original = gateway.parse(request, self.client_ip_hops)
            rule = self.policy.select(original)
        except RequestRefused as refused:
            return Malformed(refused.reason, refused.why)
        if rule is None:
            return Deny(Reason.NO_RULE)
        if rule.access == "deny":
            return Deny(Reason.RULE_DENIES)
        if rule.allow_preflight and _is_preflight(request.headers, original):
            return self._open(Reason.PREFLIGHT, original, rule)
        decision = await self._judged(request, original, rule)
        return decision if isinstance(decision, Allow) else self._refused(decision, original, rule)

    def _refused(self, decision: Decision, original: OriginalRequest, rule: Rule) -> Decision:
        """What becomes of a refusal: on a public rule it is none."""
        if rule.access == "public":
            is_anonymous = isinstance(decision, Challenge) and decision.reason is Reason.NO_CREDENTIAL
            public = self._open(Reason.PUBLIC, original, rule)
            return public if is_anonymous else public._replace(grounds=None)
        if isinstance(decision, Challenge) and decision.reason not in _NOT_RECORDED:
            self.audit.record(
                Event.CREDENTIAL_REFUSED, decision.reason, client=original.client, rule=rule.name
            )
        return decision

    def _open(self, reason: Reason, original: OriginalRequest, rule: Rule) -> Allow:
        """What anybody may pass. It rests on the rule alone."""
        grounds = Grounds(original, self.policy.class_of(original.client), rule, self.revocations.generation)
        return Allow(reason, None, self.anonymous, grounds=grounds)

    async def _judged(self, request: CheckRequest, original: OriginalRequest, rule: Rule) -> Decision:
        try:
            # First of all: while the store does not answer, nobody is told to sign in again.
            await self.revocations.look()
            now = self.clock.now()
            own_cookie = self.cookie.name if rule.own_cookie else b""
            credential = presented(request.headers, rule.forms, own_cookie, rule.others_cookies)
            if credential is None:
                return self._challenge(Reason.NO_CREDENTIAL, request, original, rule)
            among = rule.authenticators
            answer = self.authentication.remembered(credential, among, now)
            if answer is None:
                answer = await self.authentication.identify(credential, among, original.client, now)
            if isinstance(answer, Rejected):
                return self._challenge(answer.reason, request, original, rule)
            return await self._authorised(answer, credential, original, rule, now)
        except CredentialRefused as refused:
            return self._challenge(refused.reason, request, original, rule)
        except (Throttled, UpstreamThrottled) as throttled:
            return Limited(reason_of(throttled), throttled.retry_after)
        except (StoreUnavailable, UpstreamUnavailable, Overloaded) as outage:
            return Unavailable(reason_of(outage), str(outage))

    async def _authorised(
        self, known: Known, credential: Credential, original: OriginalRequest, rule: Rule, now: float
    ) -> Decision:
        identity, others_cookies = known.verified.identity, known.verified.cookies
        refusal = rule.refusal(identity)
        if refusal is not None:
            return Deny(refusal, others_cookies)
        if rule.app and await self.disabled_apps.holds(rule.app):
            return Deny(Reason.APP_DISABLED, others_cookies)
        headers, audience, renewed_from = known.headers, "", inf
        if headers is not None and self.assertions is not None:
            headers, audience, renewed_from = await self.assertions.beside(headers, identity, original, now)
        if headers is None:
            return Deny(Reason.IDENTITY_TOO_LARGE, others_cookies)
        cookies, settled_until = await self._used(known.verified, credential, rule, now)
        grounds = Grounds(
            original,
            self.policy.class_of(original.client),
            (rule, audience) if audience else rule,
            known.generation,
            min(known.true_until, renewed_from, settled_until),
            identity.user_id,
            credential,
        )
        return Allow(Reason.AUTHENTICATED, identity, headers, cookies, None if cookies else grounds)

    async def _used(
        self, verified: Verified, credential: Credential, rule: Rule, now: float
    ) -> tuple[tuple[bytes, ...], float]:
        """Notes the use; the cookie where it is to be refreshed, and until when nothing is to be noted."""
        usage = verified.usage
        if usage is None:
            return verified.cookies, inf
        if self.usage.is_settled(usage, rule.app, now):
            return verified.cookies, self.usage.settled_until(usage)
        by_cookie = credential.form is Form.COOKIE
        if not await self.usage.note(usage, rule.app, now, by_cookie=by_cookie):
            return verified.cookies, now
        return (self.cookie.keep(credential.value, verified.identity.expires_at, now),), now

    def _challenge(
        self, reason: Reason, request: CheckRequest, original: OriginalRequest, rule: Rule
    ) -> Challenge:
        schemes = tuple(scheme for form, scheme in _CHALLENGES.items() if form in rule.forms)
        if Form.COOKIE not in rule.forms or not _is_navigation(request.headers, original):
            return Challenge(reason, schemes=schemes or ("Bearer",))
        return Challenge(reason, login_url=self.redirects.sign_in_at(original.url, rule.login_url))


def _is_preflight(headers: Headers, original: OriginalRequest) -> bool:
    """Whether a browser asks, before a request to another site, whether it may send it (Fetch, 3.2.2)."""
    return (
        original.method == "OPTIONS"
        and bool(headers.all(b"origin"))
        and bool(headers.all(b"access-control-request-method"))
    )


def _is_navigation(headers: Headers, original: OriginalRequest) -> bool:
    """Whether a person is looking at a page that a redirect would lead somewhere."""
    return (
        original.method in {"GET", "HEAD"}
        and b"text/html" in b",".join(headers.all(b"accept"))
        and b"xmlhttprequest" not in [value.lower() for value in headers.all(b"x-requested-with")]
        and set(headers.all(b"sec-fetch-mode")) <= {b"navigate"}
    )
