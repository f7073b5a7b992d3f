"""Bodies of requests, read within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from sidecar.errors import BodyRefused, BodyTooLarge

if TYPE_CHECKING:
    from sidecar.web.entrance import Receive

LONGEST = 64 * 1024
"""Bytes; a form or a question is far shorter."""

PATIENCE = 10.0
"""Seconds within which a body has to arrive."""


async def read_body(receive: Receive, patience: float = PATIENCE) -> bytes:
    """The whole body.

    Raises BodyRefused where it does not arrive in time or ends in the middle, BodyTooLarge where it is
    longer than anything we read, ClientDisconnect where the client has gone.
    """
    try:
        async with asyncio.timeout(patience):
            return await _read_whole(receive)
    except TimeoutError:
        raise BodyRefused("it did not arrive in time") from None


async def _read_whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        body += piece
        if len(body) > LONGEST:
            raise BodyTooLarge("it is too long")
        if not message.get("more_body", False):
            return bytes(body)
        if not piece:  # and more to come: so says `eof_received` in server/protocol.py
            raise BodyRefused("it ends in the middle")
