"""The floor for an answer with a new token: the bare application, which signs one for each request.

What it costs more than the bare one is what signing costs in a server: twice as much as in a loop that does
nothing else, since the mathematics drives the rest out of the processor's caches.

`python -m bench.programs.signing PORT STORE`
"""

from __future__ import annotations

import sys

import uvloop

from bench.data import SECRET
from bench.programs.bare import answer, serve
from sidecar.app import services
from sidecar.credentials import id_of_secret
from sidecar.settings import parse
from sidecar.web.entrance import Receive, Scope, Send


async def main() -> None:
    """Serves until SIGTERM."""
    async with services(parse({"store": {"url": sys.argv[2]}})) as parts:
        await parts.keys.start()
        session = await parts.store.sessions.find(id_of_secret((SECRET % 0).encode("ascii")))
        assert session is not None
        user = await parts.store.users.find(session.user_id)
        assert user is not None

        async def sign_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await parts.sessions.token(session, user)
            await answer(scope, receive, send)

        await serve(sign_and_answer, sys.argv[1])


if __name__ == "__main__":
    uvloop.run(main())
