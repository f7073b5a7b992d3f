"""The X-Forwarded family: Traefik, Caddy and others tell what was asked in four headers."""

from __future__ import annotations

from sidecar.gateways.reading import Statuses, answer, read_original
from sidecar.model import (
    Asked,
    CheckRequest,
    CheckResponse,
    Decision,
    OriginalRequest,
    Question,
    UrlPlace,
)
from sidecar.trust import CLIENT_HEADER

_STATUSES = Statuses()


class ForwardedGateway:
    """Reads X-Forwarded-Method, -Proto, -Host and -Uri; each must be there, once."""

    takes_targets = False
    reads = frozenset(
        {b"x-forwarded-method", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-uri", CLIENT_HEADER}
    )
    url = UrlPlace(
        b"x-forwarded-uri", (b"\r\nX-Forwarded-Uri: ", b"\r\nx-forwarded-uri: "), b"\r\n", names_host=False
    )

    def __init__(self, name: str) -> None:
        self.name = name

    def question(self, asked: Asked) -> Question:
        """See Gateway.question."""
        lines = (
            (b"x-forwarded-method", asked.method),
            (b"x-forwarded-proto", asked.scheme),
            (b"x-forwarded-host", asked.host),
            (b"x-forwarded-uri", asked.target),
        )
        return Question(f"/check/{self.name}".encode("ascii"), lines)

    def parse(self, request: CheckRequest, client_ip_hops: int) -> OriginalRequest:
        """See Gateway.parse."""
        only = request.headers.only
        return read_original(
            request,
            client_ip_hops,
            method=only(b"x-forwarded-method"),
            scheme=only(b"x-forwarded-proto"),
            host=only(b"x-forwarded-host"),
            target=only(b"x-forwarded-uri"),
        )

    def render(self, decision: Decision) -> CheckResponse:
        """See Gateway.render."""
        return answer(decision, _STATUSES)
