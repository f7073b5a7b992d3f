"""What every reason means, and which step of a check gives it: for whoever asks why."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from sidecar.model import Reason


class Step(StrEnum):
    """The steps of a check, in their order."""

    PEER = "peer"
    REQUEST = "request"
    RULE = "rule"
    CREDENTIAL = "credential"
    IDENTITY = "identity"
    DEMANDS = "demands"
    ANSWER = "answer"


class Meaning(NamedTuple):
    """The step that ends the check, and why in one sentence."""

    step: Step
    sentence: str


MEANINGS: Mapping[Reason, Meaning] = {
    Reason.AUTHENTICATED: Meaning(Step.DEMANDS, "They are signed in, and have all that the rule demands."),
    Reason.PUBLIC: Meaning(Step.RULE, "The rule is public: nobody needs to be signed in."),
    Reason.PREFLIGHT: Meaning(Step.RULE, "The rule lets CORS preflights through, which have no credential."),
    Reason.UNTRUSTED_PROXY: Meaning(
        Step.PEER, "Whoever asked is not one of [server] trusted_proxies; where that is empty, nobody is."
    ),
    Reason.MISSING_METADATA: Meaning(Step.REQUEST, "The proxy left out a part of what the client asked."),
    Reason.REPEATED_METADATA: Meaning(Step.REQUEST, "The proxy says a part of what the client asked twice."),
    Reason.BAD_METHOD: Meaning(Step.REQUEST, "The method is CONNECT, or not written in capital letters."),
    Reason.BAD_SCHEME: Meaning(Step.REQUEST, "The scheme is neither http nor https, ws nor wss."),
    Reason.BAD_HOST: Meaning(Step.REQUEST, "The host is none that a URL may have."),
    Reason.BAD_URL: Meaning(
        Step.REQUEST, "The URL is not a whole one, or its path does not begin with a slash."
    ),
    Reason.AMBIGUOUS_PATH: Meaning(Step.REQUEST, "Two programs could read the path differently."),
    Reason.BAD_CLIENT_ADDRESS: Meaning(
        Step.REQUEST, "X-Forwarded-For has no address where [server] client_ip_hops says that it stands."
    ),
    Reason.NO_RULE: Meaning(Step.RULE, "No rule selects this request."),
    Reason.RULE_DENIES: Meaning(Step.RULE, "The rule denies everybody."),
    Reason.NO_CREDENTIAL: Meaning(Step.CREDENTIAL, "There is no credential of a form that the rule reads."),
    Reason.MALFORMED_CREDENTIAL: Meaning(
        Step.CREDENTIAL, "The credential is empty, is there twice, or cannot be one of its form."
    ),
    Reason.UNKNOWN_CREDENTIAL: Meaning(Step.IDENTITY, "Nobody who was asked knows the credential."),
    Reason.INVALID_TOKEN: Meaning(Step.IDENTITY, "The token does not verify, or is not in force."),
    Reason.UNKNOWN_SESSION: Meaning(Step.IDENTITY, "There is no such session: it was ended, or never began."),
    Reason.SESSION_EXPIRED: Meaning(Step.IDENTITY, "The session is over, or was not used for too long."),
    Reason.UNKNOWN_KEY: Meaning(Step.IDENTITY, "There is no such API key: it was revoked, or never made."),
    Reason.KEY_EXPIRED: Meaning(Step.IDENTITY, "The API key has expired."),
    Reason.USER_DISABLED: Meaning(Step.IDENTITY, "The user is disabled, or was removed."),
    Reason.WRONG_PASSWORD: Meaning(Step.IDENTITY, "No user has this name and this password."),
    Reason.APP_DISABLED: Meaning(Step.DEMANDS, "The app that the rule protects is disabled."),
    Reason.MISSING_ROLE: Meaning(Step.DEMANDS, "They have none of the roles that the rule demands."),
    Reason.MISSING_PERMISSION: Meaning(
        Step.DEMANDS, "They have none of the permissions that the rule demands."
    ),
    Reason.MISSING_ACCOUNT: Meaning(Step.DEMANDS, "They have none of the accounts that the rule demands."),
    Reason.MISSING_SCOPE: Meaning(Step.DEMANDS, "The credential lacks a scope that the rule demands."),
    Reason.IDENTITY_TOO_LARGE: Meaning(
        Step.DEMANDS, "The identity headers would be longer than proxies take."
    ),
    Reason.RATE_LIMITED: Meaning(Step.IDENTITY, "There were too many attempts: it has to wait."),
    Reason.BANNED: Meaning(Step.IDENTITY, "There were too many wrong passwords of this user or client."),
    Reason.STORE_UNAVAILABLE: Meaning(Step.IDENTITY, "The store does not answer, so nobody knows."),
    Reason.UPSTREAM_UNAVAILABLE: Meaning(Step.IDENTITY, "Another system does not answer, so nobody knows."),
    Reason.OVERLOADED: Meaning(Step.IDENTITY, "Too many passwords are waiting to be checked."),
    Reason.INTERNAL_ERROR: Meaning(Step.ANSWER, "A fault of the sidecar itself; the log has its traceback."),
}
"""Every reason has one."""
