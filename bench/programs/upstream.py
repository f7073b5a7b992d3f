"""An introspection server that knows every token, and counts how often it is asked.

`python -m bench.programs.upstream PORT`; a GET is answered with the count.
"""

from __future__ import annotations

import json
import sys
from urllib.parse import parse_qs

import uvloop

from bench.programs.bare import serve
from sidecar.web.bodies import read_body
from sidecar.web.entrance import Receive, Scope, Send


async def main(port: str) -> None:
    """Serves until SIGTERM."""
    asked = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        if scope["method"] == "GET":
            body = b"%d" % asked
        else:
            asked += 1
            token = parse_qs((await read_body(receive)).decode("ascii"))["token"][0]
            body = json.dumps({"active": True, "sub": token, "username": token[:12]}).encode("ascii")
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    await serve(answer, port)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
