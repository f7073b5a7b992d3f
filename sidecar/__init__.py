"""Sidecar: a forward-auth service for nginx, Traefik and Caddy."""

__version__ = "0.1.0"
