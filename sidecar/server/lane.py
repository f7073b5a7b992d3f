"""The express lane: an answer that is known is written before anybody makes a request of the bytes.

A thin protocol stands in front of uvicorn's own, which it makes when it first has to step aside for it. It
gives the answers again that `sidecar.replays` has. All other bytes go the ordinary way, which is where it
learns from: what uvicorn wrote is what it repeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sidecar.model import UNIX_PEER
from sidecar.replays import Answer, Head, ReadHead, Reading, Replayable, Replays, Table
from sidecar.server.protocol import LimitedProtocol
from sidecar.server.ticking import TICKS

ReplaysInForce = Callable[[], Replays]
"""The replays of the application in force."""

_END_OF_HEAD = b"\r\n\r\n"


class Lane(asyncio.Protocol):
    """One connection: answers what is known while nothing else is under way on it, and steps aside else."""

    # Of all connections of a listener.
    current: ReplaysInForce
    ordinary: type[OrdinaryWay]
    config: Config
    server_state: ServerState
    app_state: dict[str, Any]

    # As each begins. A new connection sets nothing that it need not: that is most of what it costs.
    _behind: OrdinaryWay | None = None
    _is_free = True
    _table: Table | None = None
    _silent_for = 0

    # --- what is known ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer, as asyncio hands them over."""
        self._silent_for = 0
        if self._is_free:
            answer = self._table.find(data) if self._table else self._find(data)
            if answer is not None:
                answer.tally.count += 1
                self._write(answer.data)
                if answer.closes:
                    self.transport.close()
                return
        self._step_aside(data)

    def _find(self, data: bytes) -> Answer | None:
        self._table, answer = self.current().look(self._peer, data)
        return answer

    # --- the ordinary way ------------------------------------------------------------------------

    def _step_aside(self, data: bytes) -> None:
        self._table = None  # there may be one when this has been answered
        behind = self._behind or self._make_way()
        behind.take(data)
        self._is_free = behind.is_idle

    def _make_way(self) -> OrdinaryWay:
        made_of = (self.config, self.server_state, self.app_state)
        self._behind = behind = self.ordinary(self._peer, self._go_on, self.current, *made_of)
        behind.connection_made(self.transport)
        return behind

    def _go_on(self) -> None:
        """The ordinary way has come to the end of something."""
        self._silent_for = 0
        self._is_free = self._behind is not None and self._behind.is_idle

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as asyncio has it
        """Nothing is made that the first request may not need."""
        self.transport = transport
        self._write = transport.write
        self._peer = _peer_of(transport)
        connections: set[Any] = self.server_state.connections
        connections.add(self)
        self.ordinary.ticking.start(connections)
        if len(connections) > self.ordinary.most_connections:
            self._make_way().turn_away()
            self._is_free = False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        connections: set[Any] = self.server_state.connections
        connections.discard(self)
        if self._behind is not None:
            self._behind.connection_lost(exc)

    def eof_received(self) -> bool:
        """The client has sent its last byte: whether the connection stays open, for answers that are owed."""
        return self._behind is not None and self._behind.eof_received()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        behind = self._behind or self._make_way()
        behind.pause_writing()
        self._is_free = False

    def resume_writing(self) -> None:
        """It does again."""
        if self._behind is not None:
            self._behind.resume_writing()
            self._go_on()

    def shutdown(self) -> None:
        """The server ends: so does the connection, with the answer that is owed."""
        if self._behind is None:
            self.transport.close()
        else:
            self._behind.shutdown()

    def tick(self) -> None:
        """A tick of time has passed. Ends the connection where it was silent for too long."""
        if self._behind is not None and not self._is_free:
            self._behind.tick()
            return
        self._silent_for += 1
        is_closing = self.transport.is_closing()
        is_new = self._table is None and self._behind is None
        if self._silent_for <= (TICKS if is_closing or is_new else self._keep_alive()):
            return
        if is_closing:
            self.transport.abort()
        else:
            self._silent_for = 0
            self.transport.close()

    def _keep_alive(self) -> float:
        return self.config.timeout_keep_alive / self.ordinary.ticking.seconds


class OrdinaryWay(LimitedProtocol):
    """uvicorn's protocol, behind a lane: what it reads and writes is learned where it may be repeated.

    When the parser has read a head, it looks once more: most heads of one client differ in lines that no
    check reads.
    """

    def __init__(self, peer: str, go_on: Callable[[], None], current: ReplaysInForce, *made_of: Any) -> None:
        super().__init__(*made_of)
        self._peer = peer
        self._go_on = go_on
        self._current = current
        self._note: _Note | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for the first byte of a request, and for nothing else."""
        return (
            self._awaits_head
            and not self._unfinished
            and not self._stopped
            and not self.flow.write_paused
            and self._pending() is None
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The lane is the connection: it is counted and waited for there."""
        HttpToolsProtocol.connection_made(self, transport)
        self.connections.discard(self)

    def take(self, data: bytes) -> None:
        """Bytes that the lane has no answer to."""
        is_one_head = data.find(_END_OF_HEAD) == len(data) - len(_END_OF_HEAD) > 0
        if is_one_head and self.is_idle:
            self._note = note = _Note(data)
            self.data_received(data)
            self._note = None
            if note.found is not None and note.read is not None:
                self._current().remember(note.found[0], note.read, note.data)
        else:
            self.data_received(data)

    def _begin(self) -> None:
        note, replays = self._note, self._current()
        if note is not None:
            note.head = self._head()
            note.read = replays.read(note.head)
        if note is None or note.read is None:
            super()._begin()
            return
        note.found = replays.find(note.read)
        if note.found is None:
            super()._begin()
            self._listen(note)
        else:
            self._expects_head = False

    def _head(self) -> Head:
        keeps_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        return Head(self._peer, self.parser.get_method(), self.url, self.headers, keeps_alive)

    def on_message_complete(self) -> None:
        """The parser has seen the end of a request."""
        if self._note is None or self._note.found is None:
            super().on_message_complete()
            return
        self._unfinished = 0
        answer = self._note.found[1]
        answer.tally.count += 1
        self.transport.write(answer.data)
        if answer.closes:
            self._stopped = True
            self.transport.close()

    def _listen(self, note: _Note) -> None:
        """What uvicorn writes for this request is heard, and learned at its end."""
        cycle: RequestResponseCycle = self.cycle
        recorder = _Recorder(self.transport)
        cycle.transport = recorder  # type: ignore[assignment]  # it is all of a transport that a cycle uses
        cycle.on_response = partial(self._learn, note, cycle, recorder)

    def _learn(self, note: _Note, cycle: RequestResponseCycle, recorder: _Recorder) -> None:
        replayable = cast("Replayable | None", cycle.scope.get("replayable"))
        # Else somebody decided meanwhile that this answer is the last one, for a reason of that moment.
        is_as_asked = cycle.keep_alive == note.head.keeps_alive
        if replayable is not None and note.read is not None and is_as_asked:
            replays, grounds, tally = replayable
            answer = Answer(recorder.written, grounds, tally, closes=not note.head.keeps_alive)
            replays.learn(note.read, grounds, answer, note.data)
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        self._go_on()


class _Note:
    """A head that came alone, while nothing else was under way: its bytes, and what became of it."""

    __slots__ = ("data", "found", "head", "read")

    head: Head

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read: ReadHead | None = None
        self.found: tuple[Reading, Answer] | None = None


class _Recorder:
    """A transport, as an answer uses it, that keeps what was written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.close = transport.close
        self.is_closing = transport.is_closing
        self.written = b""

    def write(self, data: bytes) -> None:
        """Writes it."""
        self.written += data
        self._transport.write(data)


def _peer_of(transport: asyncio.BaseTransport) -> str:
    """As `peer_of` in web/entrance.py tells it from a request."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return str(peer[0])
    return UNIX_PEER if isinstance(transport.get_extra_info("sockname"), str) else ""


class Lanes:
    """Makes the connections of a listener, with this protocol behind each.

    `current` tells the replays of the application in force. uvicorn hands the same things to every connection
    that it has made: they are kept once.
    """

    def __init__(self, current: ReplaysInForce, ordinary: type[OrdinaryWay]) -> None:
        self.ordinary = ordinary
        of_all = {"current": staticmethod(current), "ordinary": ordinary}
        self._lane: type[Lane] = type("OneListenersLane", (Lane,), of_all)
        self._is_ready = False

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Lane:
        """As uvicorn makes a protocol."""
        if not self._is_ready:
            self._is_ready = True
            self._lane.config, self._lane.server_state, self._lane.app_state = config, server_state, app_state
        return self._lane()
