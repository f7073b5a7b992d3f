"""Caddy's `forward_auth` directive: a GET with X-Forwarded-Method and -Uri, and the reverse proxy's own
X-Forwarded-Proto, -Host and -For. A 2xx lets the request pass with the headers that `copy_headers`
names; any other answer goes to the client as it is.
"""

from __future__ import annotations

from sidecar.gateways.forwarded import ForwardedGateway

CADDY = ForwardedGateway("caddy")
