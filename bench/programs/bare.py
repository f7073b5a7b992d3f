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
IDENTITY = (
    ("X-Auth-User", "user123"),
    ("X-Auth-User-Id", "124"),
    ("X-Auth-Email", "user123@example.com"),
    ("X-Auth-Name", "User Number 123"),
    ("X-Auth-Roles", "staff"),
    ("X-Auth-Permissions", "read,write"),
    ("X-Auth-Account", "a23"),
    ("X-Auth-Method", "session"),
)
_HEADERS = [
    *((name.encode("ascii"), value.encode("ascii")) for name, value in IDENTITY),
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
