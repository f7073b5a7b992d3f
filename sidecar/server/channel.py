"""What the parent and one of its workers say to each other: whole values, over a pair of sockets."""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass
from typing import Any, Self

from sidecar.settings import Settings

_LENGTH_BYTES = 4
_PATIENCE = 5.0
"""Seconds for the rest of a message that has begun, on either side."""


@dataclass(frozen=True, slots=True)
class Follow:
    """To a worker: settings to serve under. None: those that were read are bad, and the old ones stay.

    Whoever `tells` has the log and the audit say what came of it, and answers Followed.
    """

    settings: Settings | None
    tells: bool


@dataclass(frozen=True, slots=True)
class Followed:
    """From a worker: whether it serves under the settings that it was given."""

    is_done: bool


@dataclass(frozen=True, slots=True)
class Serving:
    """From a worker: both its listeners accept."""


@dataclass(frozen=True, slots=True)
class Ending:
    """From a worker that serves: it drains from now on, and follows no more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker, as its last words: why it cannot serve, an error a line."""

    message: str


class Channel:
    """One end. Whoever has the other one is this process's parent or child, and believed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(_PATIENCE)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Both ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Readable when there is something to receive."""
        return self._end.fileno()

    def send(self, message: object) -> None:
        """Raises OSError where the other end is closed, or takes nothing for too long."""
        content = pickle.dumps(message)
        self._end.sendall(len(content).to_bytes(_LENGTH_BYTES, "big") + content)

    def receive(self) -> Any:
        """The next message. Raises EOFError where none comes any more; OSError where it does not end."""
        length = int.from_bytes(self._read(_LENGTH_BYTES), "big")
        return pickle.loads(self._read(length))  # noqa: S301 - see the class

    def close(self) -> None:
        """Nothing is sent or received any more."""
        self._end.close()

    def _read(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            piece = self._end.recv(length - len(content))
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)
