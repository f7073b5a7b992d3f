"""Whether uvicorn's protocol is what the express lane expects of it: tried once, at the start.

The lane leans on parts of uvicorn that no version promises. Where they have changed, every check is decided
anew, which is slower and never wrong.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

import structlog
import uvicorn
from uvicorn.server import ServerState

from sidecar.clock import SystemClock
from sidecar.gateways.nginx import NGINX
from sidecar.model import Grounds, Host, OriginalRequest, RequestPath
from sidecar.ports import Gateway
from sidecar.records import Changes
from sidecar.replays import Replayable, Replays
from sidecar.revocation import Revocations
from sidecar.server.lane import Lanes, OrdinaryWay
from sidecar.server.protocol import limited
from sidecar.telemetry import Metrics, Tally
from sidecar.web.entrance import Receive, Scope, Send, respond

_PEER = ("192.0.2.1", 1)
_REQUEST = (
    b"GET /check/nginx HTTP/1.1\r\nHost: a\r\nX-Original-Method: GET\r\nX-Original-URL: https://a/?%d\r\n\r\n"
)
_ORIGINAL = OriginalRequest("GET", "https", Host("a", 443), RequestPath("/"), IPv4Address(_PEER[0]), "")

_LONGEST = 2.0
"""Seconds; it takes one thousandth of that."""

log = structlog.get_logger(__name__)


async def lane_fits() -> bool:
    """Whether an answer that was given once is given again, byte for byte. Logs where it is not."""
    try:
        decided, given_again = await _twice()
    except Exception:
        log.warning("lane_does_not_fit", uvicorn=uvicorn.__version__, exc_info=True)
        return False
    if not decided or decided != given_again:
        log.warning("lane_does_not_fit", uvicorn=uvicorn.__version__)
        return False
    return True


async def _twice() -> tuple[bytes, bytes]:
    """What is written to the first request, when it was decided, and at once to the second."""
    revocations = Revocations(_NothingChanges(), SystemClock())
    await revocations.look()
    reads: dict[Gateway, frozenset[bytes]] = {NGINX: NGINX.reads}
    replays = Replays(reads, revocations, SystemClock(), Metrics(), longest=1024, most_bytes=64 * 1024)
    answered = asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        grounds = Grounds(_ORIGINAL, "", "everything", revocations.generation)
        scope["replayable"] = Replayable(replays, grounds, Tally())
        await respond(send, 200, b"")
        answered.set()

    config = uvicorn.Config(
        app, interface="asgi3", ws="none", lifespan="off", log_config=None, access_log=False
    )
    config.load()
    lanes = Lanes(lambda: replays, limited(OrdinaryWay, 1024, 1))
    connection, transport = lanes(config, ServerState(), {}), _Kept()
    connection.connection_made(transport)
    connection.data_received(_REQUEST % 1)
    async with asyncio.timeout(_LONGEST):
        await answered.wait()
    decided = transport.take()
    connection.data_received(_REQUEST % 2)
    given_again = transport.take()
    connection.connection_lost(None)
    return decided, given_again


class _NothingChanges:
    """A store's feed."""

    async def since(self, position: int) -> Changes:
        """See ChangeFeed.since."""
        return Changes(position)


class _Kept(asyncio.Transport):
    """A connection to nobody, which keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": _PEER, "sockname": _PEER})
        self._written = b""

    def take(self) -> bytes:
        """What was written since this was last asked."""
        written, self._written = self._written, b""
        return written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.WriteTransport.write."""
        self._written += data

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport.is_closing."""
        return False

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport.pause_reading."""

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport.resume_reading."""

    def close(self) -> None:
        """See asyncio.BaseTransport.close."""
