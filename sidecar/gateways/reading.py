"""What every gateway does: read a request's metadata strictly, and answer a decision."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from sidecar.errors import RequestRefused
from sidecar.hosts import read_host
from sidecar.model import (
    Allow,
    Challenge,
    CheckRequest,
    CheckResponse,
    Decision,
    Deny,
    HeaderLines,
    Limited,
    Malformed,
    OriginalRequest,
    Reason,
    Unavailable,
)
from sidecar.paths import read_path
from sidecar.settings.types import METHOD
from sidecar.trust import client_address

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_SENTENCES = {
    401: b"You are not signed in.\n",
    403: b"You may not do this.\n",
    400: b"This request cannot be checked.\n",
    429: b"Too many attempts. Try again later.\n",
    503: b"The sign-in service cannot answer now. Try again later.\n",
}


def read_original(
    request: CheckRequest, hops: int, *, method: bytes, scheme: bytes, host: bytes, target: bytes
) -> OriginalRequest:
    """The proxied request from its raw parts. Raises RequestRefused."""
    read_method = method.decode("latin-1")
    if read_method == "CONNECT" or not METHOD.fullmatch(read_method):
        raise RequestRefused(Reason.BAD_METHOD, "it is CONNECT, or not one word in capitals")
    read_scheme = _SCHEMES.get(scheme)
    if read_scheme is None:
        raise RequestRefused(Reason.BAD_SCHEME, "it is not one of http, https, ws and wss")
    if b"#" in target:
        raise RequestRefused(Reason.AMBIGUOUS_PATH, "# is in it")
    return OriginalRequest(
        method=read_method,
        scheme=read_scheme,
        host=read_host(host, read_scheme),
        path=read_path(target.partition(b"?")[0]),
        client=client_address(request.headers, request.peer, hops),
        url=f"{read_scheme}://{host.decode('ascii')}{target.decode('latin-1')}",
    )


@dataclass(frozen=True, slots=True)
class Statuses:
    """The statuses that a gateway passes on; a gateway that cannot pass one on gets another."""

    malformed: int = 400
    limited: int = 429
    redirects: bool = True


def answer(decision: Decision, statuses: Statuses) -> CheckResponse:
    """The answer as the gateway understands it. Only an allowed request has identity headers."""
    match decision:
        case Allow(headers=headers, cookies=cookies):
            return CheckResponse(200, (*headers, *_set_cookies(cookies)) if cookies else headers)
        case Challenge(reason=reason, login_url=str(login_url)):
            return _sign_in(reason, login_url, statuses)
        case Challenge(reason=reason, schemes=schemes):
            challenges = ", ".join(f'{scheme} realm="sidecar"' for scheme in schemes)
            return _refusal(401, reason, ((b"WWW-Authenticate", challenges.encode("ascii")),))
        case Deny(reason=reason, cookies=cookies):
            return _refusal(403, reason, _set_cookies(cookies))
        case Malformed(reason=reason):
            return _refusal(statuses.malformed, reason)
        case Limited(reason=reason, retry_after=seconds):
            return _refusal(statuses.limited, reason, ((b"Retry-After", b"%d" % ceil(seconds)),))
        case Unavailable(reason=reason):
            return _refusal(503, reason)


def _set_cookies(cookies: tuple[bytes, ...]) -> HeaderLines:
    return [(b"Set-Cookie", cookie) for cookie in cookies]


def _sign_in(reason: Reason, login_url: str, statuses: Statuses) -> CheckResponse:
    if statuses.redirects:
        return _refusal(302, reason, ((b"Location", login_url.encode("ascii")),))
    return _refusal(401, reason, ((b"X-Auth-Login-URL", login_url.encode("ascii")),))


def _refusal(status: int, reason: Reason, headers: HeaderLines = ()) -> CheckResponse:
    return CheckResponse(
        status,
        (
            (b"X-Auth-Reason", reason.encode("ascii")),
            *headers,
            (b"Cache-Control", b"no-store"),
            (b"Content-Type", b"text/plain; charset=utf-8"),
        ),
        _SENTENCES.get(status, b""),
    )
