"""nginx's `auth_request` (ngx_http_auth_request_module).

The subrequest says what was asked in two headers that the configuration sets. nginx understands 2xx,
401 and 403; it turns everything else into a 500 without headers. So what is 400 or 429 elsewhere is 403
here, and the sign-in page's address travels on the 401, for `error_page` to redirect to.
"""

from __future__ import annotations

import re

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

_URL = re.compile(rb"(?P<scheme>[a-z]+)://(?P<host>[^/?#]*)(?P<target>.*)", re.DOTALL)
_STATUSES = Statuses(malformed=403, limited=403, redirects=False)


class Nginx:
    """Reads X-Original-URL (absolute) and X-Original-Method."""

    name = "nginx"
    takes_targets = False
    reads = frozenset({b"x-original-url", b"x-original-method", CLIENT_HEADER})
    url = UrlPlace(
        b"x-original-url", (b"\r\nX-Original-URL: ", b"\r\nx-original-url: "), b"\r\n", names_host=True
    )

    def question(self, asked: Asked) -> Question:
        """See Gateway.question."""
        url = asked.scheme + b"://" + asked.host + asked.target
        return Question(b"/check/nginx", ((b"x-original-url", url), (b"x-original-method", asked.method)))

    def parse(self, request: CheckRequest, client_ip_hops: int) -> OriginalRequest:
        """See Gateway.parse."""
        url = _URL.fullmatch(request.headers.only(b"x-original-url"))
        method = request.headers.only(b"x-original-method")
        if url is None:
            raise RequestRefused(Reason.BAD_URL, "X-Original-URL is no whole address")
        return read_original(
            request,
            client_ip_hops,
            method=method,
            scheme=url["scheme"],
            host=url["host"],
            target=url["target"],
        )

    def render(self, decision: Decision) -> CheckResponse:
        """See Gateway.render."""
        return answer(decision, _STATUSES)


NGINX = Nginx()
