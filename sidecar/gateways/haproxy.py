"""HAProxy with the Lua action of examples/haproxy: a GET with what was asked in X-Forwarded-Method, -Proto,
-Host and -Uri. A 2xx lets the request pass with the headers that the action copies; any other answer goes
to the client as it is.
"""

from __future__ import annotations

from sidecar.gateways.forwarded import ForwardedGateway

HAPROXY = ForwardedGateway("haproxy")
