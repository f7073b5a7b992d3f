"""The floor for a token that is read: the bare application, which has PyJWT decode it for each request.

`python -m bench.programs.decoding PORT PUBLIC_KEY`
"""

from __future__ import annotations

import sys
from pathlib import Path

import jwt
import uvloop

from bench.issuer import ALGORITHM, AUDIENCE, ISSUER
from bench.programs.bare import answer, serve
from sidecar.web.entrance import Receive, Scope, Send

_BEARER = len(b"Bearer ")


async def main(port: str, public: bytes) -> None:
    """Serves until SIGTERM."""
    key = jwt.get_algorithm_by_name(ALGORITHM).prepare_key(public)

    async def decode_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope["headers"]:
            if name == b"authorization":
                jwt.decode(value[_BEARER:], key, [ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
        await answer(scope, receive, send)

    await serve(decode_and_answer, port)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
