"""Envoy's `ext_authz` filter over HTTP, with `path_prefix: /check/envoy`.

It asks with the client's own method, Host and request target, the target behind the prefix, and with those
headers that `allowed_headers` names: X-Forwarded-Proto has to be one. A 200 lets the request pass with the
headers that `allowed_upstream_headers` names; any other answer goes to the client as it is.
"""

from __future__ import annotations

from sidecar.errors import RequestRefused
from sidecar.gateways.reading import Statuses, answer, read_original
from sidecar.model import (
    Asked,
    CheckRequest,
    CheckResponse,
    Decision,
    OriginalRequest,
    Question,
    Reason,
    UrlPlace,
)
from sidecar.trust import CLIENT_HEADER

_PREFIX = b"/check/envoy"
_STATUSES = Statuses()


class Envoy:
    """Reads the request line, Host and X-Forwarded-Proto."""

    name = "envoy"
    takes_targets = True
    reads = frozenset({b"host", b"x-forwarded-proto", CLIENT_HEADER})
    url = UrlPlace(b"", (b" " + _PREFIX,), b" HTTP/1.", names_host=False)

    def question(self, asked: Asked) -> Question:
        """See Gateway.question."""
        lines = ((b"x-forwarded-proto", asked.scheme),)
        return Question(_PREFIX + asked.target, lines, asked.method, asked.host)

    def parse(self, request: CheckRequest, client_ip_hops: int) -> OriginalRequest:
        """See Gateway.parse."""
        only = request.headers.only
        if not request.target.startswith(_PREFIX):  # the same with an escape in it is another address
            raise RequestRefused(Reason.BAD_URL, f"the target does not begin with {_PREFIX.decode()}")
        return read_original(
            request,
            client_ip_hops,
            method=request.method.encode("ascii"),
            scheme=only(b"x-forwarded-proto"),
            host=only(b"host"),
            target=request.target.removeprefix(_PREFIX),
        )

    def render(self, decision: Decision) -> CheckResponse:
        """See Gateway.render."""
        return answer(decision, _STATUSES)


ENVOY = Envoy()
