"""Memory in which processes of one origin publish something for one another, each in a slot of its own."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from zlib import crc32

_BUFFER = 2 * 1024 * 1024
"""Bytes. Far more than anybody publishes: what is never written takes no memory."""

_NUMBER = struct.Struct("<Q")
_HEAD = struct.Struct("<QII")
"""Which publication of its slot it is, from 1 on; its length, and a checksum of all of that and of itself."""

LONGEST = _BUFFER - _HEAD.size

_LOOKS = 100
"""A reader misses a publication only where two more are written while it looks."""


class Scoreboard:
    """To be made before the processes fork. A slot has one writer at a time, and any number of readers.

    A slot has two buffers, which are written in turn: whoever is killed while it writes leaves what it had
    published before. By the checksum a reader sees that it was written while it was read.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * 2 * _BUFFER)

    def publish(self, slot: int, content: bytes) -> None:
        """In the place of what the slot had published. Raises ValueError where it is longer than LONGEST."""
        if len(content) > LONGEST:
            raise ValueError(f"{len(content)} bytes: a slot has room for {LONGEST}")
        number = 1 + max((number for number, _ in self._whole(slot)), default=0)
        start = self._start(slot, number)
        body = start + _HEAD.size
        self._memory[body : body + len(content)] = content
        self._memory[start:body] = _HEAD.pack(number, len(content), _checksum(number, content))

    def read(self, slot: int) -> bytes:
        """What the slot has published last; empty where that is nothing."""
        for _ in range(_LOOKS):
            found = max(self._whole(slot), default=None)
            if found is not None:
                return found[1]
        return b""

    def _whole(self, slot: int) -> Iterator[tuple[int, bytes]]:
        """The numbers and contents of those buffers in which nothing is half written."""
        for parity in (0, 1):
            start = self._start(slot, parity)
            number, length, checksum = _HEAD.unpack_from(self._memory, start)
            body = start + _HEAD.size
            content = self._memory[body : body + min(length, LONGEST)]
            if number and checksum == _checksum(number, content):
                yield number, content

    @staticmethod
    def _start(slot: int, number: int) -> int:
        return (2 * slot + number % 2) * _BUFFER


def _checksum(number: int, content: bytes) -> int:
    return crc32(content, crc32(_NUMBER.pack(number)))
