"""What others need to verify the sidecar's tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidecar.keys import KeyRing

_KEPT_FOR = 300
"""Seconds that a verifier may keep the keys; a rotated key verifies for longer than that."""


def token_routes(keys: KeyRing) -> list[Route]:
    """`/.well-known/jwks.json` (RFC 7517)."""

    async def jwks(_request: Request) -> Response:
        headers = {"Cache-Control": f"public, max-age={_KEPT_FOR}"}
        return JSONResponse(await keys.jwks(), headers=headers, media_type="application/jwk-set+json")

    return [Route("/.well-known/jwks.json", jwks, methods=["GET"])]
