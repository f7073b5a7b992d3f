"""Traefik's `forwardAuth` middleware.

It asks with a GET that carries the client's own headers and four of its own about the request. A 2xx
lets the request pass with the headers that `authResponseHeaders` names; any other answer goes to the
client as it is, so an unauthenticated browser is redirected by our Location, which is absolute because
Traefik would resolve a relative one against our own address.
"""

from __future__ import annotations

from sidecar.gateways.forwarded import ForwardedGateway

TRAEFIK = ForwardedGateway("traefik")
