"""For the operator alone, on a listener of its own: metrics, health, and what the endpoints are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidecar.errors import StoreUnavailable
from sidecar.ports import Store


def admin_app(
    expose: Callable[[], bytes],
    store: Store,
    is_draining: Callable[[], bool],
    describe: Callable[[], dict[str, Any]],
) -> Starlette:
    """`/metrics`, `/healthz` (it runs), `/readyz` (it runs, the store answers, and it goes on).

    `expose` says all metrics. And `/openapi.json`, which `describe` makes: once, when somebody asks.
    """
    description = cache(describe)

    async def metrics(_request: Request) -> Response:
        return Response(expose(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        if is_draining():
            return JSONResponse({"status": "draining"}, 503)
        try:
            await store.check()
        except StoreUnavailable as error:
            return JSONResponse({"status": "store unavailable", "error": str(error)}, 503)
        return JSONResponse({"status": "ready"})

    async def openapi(_request: Request) -> Response:
        return JSONResponse(description())

    routes = [
        Route("/metrics", metrics, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app
