"""The gateways that may ask, one file each over one flow. A new one is one file and one line here."""

from __future__ import annotations

from sidecar.gateways.caddy import CADDY
from sidecar.gateways.envoy import ENVOY
from sidecar.gateways.haproxy import HAPROXY
from sidecar.gateways.nginx import NGINX
from sidecar.gateways.traefik import TRAEFIK
from sidecar.ports import Gateway

GATEWAYS: dict[str, Gateway] = {gateway.name: gateway for gateway in (NGINX, TRAEFIK, CADDY, HAPROXY, ENVOY)}
"""By name: `/check/<name>` is the endpoint."""
