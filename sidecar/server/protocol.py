"""HTTP/1.1 as uvicorn speaks it with httptools, within limits, and answers after the last byte."""

from __future__ import annotations

from asyncio import Transport
from collections.abc import Iterable
from math import inf
from types import SimpleNamespace
from typing import Any, TypeVar

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sidecar.server.ticking import PATIENCE, TICKS, Ticking

MOST_HEADERS = 100
"""Header lines of a request. Browsers send about 20, and proxies add about 10."""

_TOO_LARGE = b"The request head is too large.\n"
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
)

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
)

_TOLD_EVERY = 60.0
"""Seconds between two log lines about connections that are turned away."""

_NO_HTTP = "Invalid HTTP request received."  # as uvicorn has it
_VERSIONS = ("1.1", "1.0")
_FRAMING = (b"content-length", b"transfer-encoding")


log = structlog.get_logger(__name__)


class LimitedProtocol(HttpToolsProtocol):
    """Answers 431 to a head over `limit` bytes, without keeping more of it than that, or of too many lines.

    Turns a connection away at once, with 503, when `most_connections` are open already: a descriptor is left
    for whatever else needs one.

    Closes a connection whose head takes longer than PATIENCE seconds, or that takes no answer for as long.
    httptools itself collects the lines
    of a head for as long as they come, and uvicorn waits for them as long.

    Answers a client that has sent its last byte and still listens; uvicorn itself closes at once.

    Reads the body of a request that asks for an upgrade, as Java's HttpClient does of every one; httptools
    itself skips it. Refuses a target with a fragment, which is none (RFC 9112, 3.2); uvicorn itself drops the
    fragment. Leaves the answer to a malformed body to the application; uvicorn itself answers.
    """

    limit: int
    most_connections: int
    ticking: Ticking
    told_at = -_TOLD_EVERY

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaits_head = True
        self._unfinished = 0  # bytes since the parser last had a whole head or a piece of a body
        self._ticks_left: float = TICKS + 1
        self._expects_head = True  # within so many ticks
        self._stuck_for = 0
        self._keeps_alive = True
        self._framing = b""  # header lines: how a body that the parser skips is to be read after all
        self._stopped = False

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """It has to say something soon."""
        super().connection_made(transport)
        self.ticking.start(self.connections)
        if len(self.connections) > self.most_connections:
            self.turn_away()

    def tick(self) -> None:
        """A tick of time has passed. Ends a connection that is silent, or takes nothing, for too long."""
        is_stuck = self.transport.is_closing() or self.flow.write_paused
        self._stuck_for = self._stuck_for + 1 if is_stuck else 0
        self._ticks_left -= 1
        if self._stuck_for > TICKS:
            self.transport.abort()
        elif self._ticks_left <= 0 and not is_stuck:
            self._stop()

    def turn_away(self) -> None:
        """There are too many connections already."""
        protocol, now = type(self), self.loop.time()
        if now - protocol.told_at >= _TOLD_EVERY:
            protocol.told_at = now
            log.warning("connections_full", most=self.most_connections)
        self._stop(_FULL)

    def resume_writing(self) -> None:
        """The client takes again what it is sent: its patience is new, and it has had a first head."""
        super().resume_writing()
        self._stuck_for = 0
        if not self._unfinished:
            self._expects_head = False

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer, as asyncio hands them over."""
        if self._stopped:
            return
        self._unfinished += len(data)
        self._parse(data)
        if self._unfinished and not self._stopped:  # never so where requests come whole
            self._judge_unfinished()

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """The client has sent its last byte: whether the connection stays open, for answers that are owed."""
        pending = self._pending()
        if pending is None:
            return False
        self._end(pending)
        return True

    @staticmethod
    def _end(pending: RequestResponseCycle) -> None:
        """No more is read: the answer is the last one, and a body that is not whole ends in the middle."""
        pending.keep_alive = False
        if pending.more_body:  # `read_body` in web/bodies.py gets an empty piece, which is said to have more
            pending.body = bytearray()
            pending.message_event.set()

    def _judge_unfinished(self) -> None:
        if self._unfinished > self.limit:
            self._refuse()
        elif self._awaits_head and not self._expects_head:
            self._expects_head = True
            self._ticks_left = TICKS + 1

    # --- the parser ------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse_malformed()
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """A client may ask for an upgrade, and a server may go on without (RFC 9110, 7.8).

        Its answer is the last one. The parser takes what follows the head for the other protocol, a body
        too, and would read what comes of that later as a request. So another one reads it, behind a head
        that frames it in the same way and asks for nothing.
        """
        if self._stopped:
            return
        framing, self._framing = self._framing, b""
        if not framing:
            self._stopped = True
            return
        listener = SimpleNamespace(
            on_body=self.on_body, on_message_complete=self._on_message_complete_without_upgrade
        )
        self.parser = httptools.HttpRequestParser(listener)
        self._parse(b"POST / HTTP/1.1\r\n%b\r\n%b" % (framing, rest))

    def _on_message_complete_without_upgrade(self) -> None:
        self.on_message_complete()
        self._stopped = True

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        # What came in one piece with the end of the request before is counted from the next piece on.
        self._unfinished = self._unfinished or 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The parser has seen the whole head."""
        if self._stopped:
            return
        self._unfinished = 0
        if self._length_of_head() > self.limit or len(self.headers) > MOST_HEADERS:
            self._refuse()
            return
        if self._is_no_request():
            self._refuse_malformed()
            return
        self._begin()

    def _begin(self) -> None:
        """The head is a request's, and within the limits: it is answered."""
        super().on_headers_complete()
        self._awaits_head = self._expects_head = False
        self._ticks_left = inf
        # The request keeps its own list: what comes as trailers must not become headers (RFC 9110, 6.5.1).
        self.headers = []
        # An answer before the body has come is the last one: the body would be waited for in vain, or the
        # next request be read as the body that never came.
        self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self.parser.should_upgrade():
            self._keeps_alive = False
            self._framing = b"".join(
                b"%b: %b\r\n" % line for line in self.cycle.scope["headers"] if line[0] in _FRAMING
            )

    def _is_no_request(self) -> bool:
        """What httptools takes for a request, and nobody sends us who means well.

        A target has no fragment (RFC 9112, 3.2): uvicorn drops it, and then another path is judged than is
        meant. There is no tunnel through us, and no HTTP before 1.0.
        """
        return (
            b"#" in self.url
            or self.parser.get_method() == b"CONNECT"
            or self.parser.get_http_version() not in _VERSIONS
        )

    def on_body(self, body: bytes) -> None:
        """The parser has seen a piece of a body."""
        if self._stopped:
            return
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has seen the end of a request, or skips its body."""
        if self._stopped or self._framing:
            return
        self._unfinished = 0
        self._awaits_head = True
        self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def _length_of_head(self) -> int:
        """Counted from what was parsed: one chunk may hold a head, a body and the next head."""
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers])

    def on_response_complete(self) -> None:
        """An answer is out. While requests wait that came behind it, no more of them are read.

        As uvicorn does it, but without a timer of its own for every answer.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._expects_head:
            self._ticks_left = self.timeout_keep_alive / self.ticking.seconds + 1
        if not self.pipeline:
            self.flow.resume_reading()

    # --- the end ---------------------------------------------------------------------------------

    def _refuse(self) -> None:
        """A head that is too large is answered; trailers that are belong to a request, and end it."""
        self._stop(_REFUSAL if self._awaits_head else b"")

    def _stop(self, answer: bytes = b"") -> None:
        """Reads no more, and closes: at once, or after the answer to a request that came whole before."""
        self._stopped = True
        pending = self._pending()
        if pending is not None and self._awaits_head:
            pending.keep_alive = False
            return
        self.transport.write(answer)
        self.transport.close()

    def _refuse_malformed(self) -> None:
        """What came is no HTTP. As with `_stop`, an answer that is owed comes first, and then no other.

        Where it is a body that is none, the application answers: it knows what its clients understand.
        """
        if self._stopped:
            return
        pending = self._pending()
        # Only a chunked body can be malformed. Else it is the coding that the head names, of which httptools
        # complains after the head; a 400 for that must not be taken for the answer to a request before.
        if (
            pending is not None
            and not self._awaits_head
            and (self.pipeline or _is_chunked(pending.scope["headers"]))
        ):
            self._stopped = True
            self._end(pending)
            return
        self.logger.warning(_NO_HTTP)
        if pending is not None and self._awaits_head:
            self._stop()
        else:
            self._stopped = True
            self.send_400_response(_NO_HTTP)

    def _pending(self) -> RequestResponseCycle | None:
        """The last request whose head came whole, where its answer is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle


def _is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    return bool(codings) and codings[-1].rpartition(b",")[2].strip().lower() == b"chunked"


P = TypeVar("P", bound=LimitedProtocol)


def limited(protocol: type[P], limit: int, most_connections: int, patience: float = PATIENCE) -> type[P]:
    """The protocol class for so many connections, and heads of `limit` bytes within `patience` seconds."""
    bounds = {"limit": limit, "most_connections": most_connections, "ticking": Ticking(patience)}
    return type("Limited", (protocol,), bounds)
