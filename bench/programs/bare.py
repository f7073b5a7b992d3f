"""The floor: an ASGI application that answers every request at once, on the product's uvicorn settings.

`python -m bench.programs.bare PORT`
"""

from __future__ import annotations

import sys

import uvicorn
import uvloop

from sidecar.server.descriptors import MOST
from sidecar.server.listeners import listening
from sidecar.server.process import server_config
from sidecar.settings import Settings
from sidecar.web.entrance import ASGIApp, Receive, Scope, Send

# As many headers, and as long ones, as a check's answer has.
_HEADERS = [
    (b"X-Auth-User", b"user123"),
    (b"X-Auth-User-Id", b"124"),
    (b"X-Auth-Email", b"user123@example.com"),
    (b"X-Auth-Name", b"User Number 123"),
    (b"X-Auth-Roles", b"staff"),
    (b"X-Auth-Permissions", b"read,write"),
    (b"X-Auth-Account", b"a23"),
    (b"X-Auth-Method", b"session"),
    (b"content-length", b"0"),
]


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b""})


async def serve(app: ASGIApp, port: str) -> None:
    """Serves the application until SIGTERM."""
    with listening(f"127.0.0.1:{port}") as listener:
        await uvicorn.Server(server_config(app, Settings(), MOST)).serve([listener])


if __name__ == "__main__":
    uvloop.run(serve(answer, sys.argv[1]))
