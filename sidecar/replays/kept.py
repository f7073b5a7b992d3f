"""What is kept: answers, what heads mean, and the heads byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from sidecar.model import Grounds
from sidecar.replays.heads import IF_HARMLESS, NAMES, Way
from sidecar.replays.second_chance import SecondChance
from sidecar.telemetry import Tally

# Bytes that Python needs beside those that an entry is for.
_URL_ENTRY = 320
_HEAD_ENTRY = 320
_READING_ENTRY = 1024
_ANSWER_ENTRY = 256


class Answer:
    """The bytes of an answer, and what they rest on. `closes`: the connection ends with it."""

    __slots__ = ("closes", "data", "generation", "tally", "until", "user_id")

    def __init__(self, data: bytes, grounds: Grounds, tally: Tally, *, closes: bool) -> None:
        self.data = data
        self.closes = closes
        self.until = grounds.until
        self.user_id = grounds.user_id
        self.generation = grounds.generation
        self.tally = tally


class Url:
    """Where a URL leads."""

    __slots__ = ("size", "target", "used")

    def __init__(self, url: Iterable[bytes], target: Hashable) -> None:
        self.target = target
        self.size = _URL_ENTRY + sum(map(len, url))
        self.used = False

    def take_chance(self) -> bool:
        """See Entry.take_chance."""
        used, self.used = self.used, False
        return used


NOWHERE = Url((), object())


class Reading:
    """What a head means but for its URL: the answers to it, by where the URL leads."""

    __slots__ = ("answers", "heads", "key", "owner", "prefix", "size", "used")

    def __init__(self, key: bytes, prefix: bytes, owner: Owner) -> None:
        self.key = key
        self.prefix = prefix
        self.owner = owner
        self.answers: dict[Hashable, Answer] = {}
        self.heads: list[tuple[Table, Rest]] = []
        self.size = 0
        self.used = False

    def measure(self) -> int:
        """Its size in bytes, as it is now."""
        heads = sum(_HEAD_ENTRY + sum(map(len, rest)) for _, rest in self.heads)
        answers = _ANSWER_ENTRY * len(self.answers) + sum(
            map(len, {each.data for each in self.answers.values()})
        )
        return _READING_ENTRY + len(self.key) + len(self.prefix) + heads + answers


class Owner:
    """Whose readings these are: they compete with each other first, and as one with all others' then."""

    __slots__ = ("pool", "readings", "size")

    def __init__(self, pool: SecondChance[Hashable, Owner]) -> None:
        self.pool = pool
        self.readings: list[Reading] = []
        self.size = 0

    def take_chance(self) -> bool:
        """See Entry.take_chance."""
        used = any(reading.used for reading in self.readings)
        for reading in self.readings:
            reading.used = False
        return used

    def resize(self, reading: Reading, size: int) -> None:
        """One of its readings has another size now. May be the end of all of them: the last thing to do."""
        grown, reading.size = size - reading.size, size
        self.size += grown
        self.pool.grow(grown)


class Layout(NamedTuple):
    """Who sends heads of one kind, and between what stands that which is different in each of them.

    `first` and `last` are what stands before and behind it: the URL, and the name that the gateway gave the
    request, in the order in which they come. Where there is no name, `last` is empty.
    """

    peer: str
    gateway: str
    first: tuple[bytes, bytes]
    last: tuple[bytes, bytes] | None
    url_is_first: bool


Rest = tuple[bytes, ...]


class Table:
    """Heads byte for byte: what one means, by what is left of it without the URL and the request's name."""

    def __init__(
        self, layout: Layout, longest: int, answer: Callable[[Reading, bytes], Answer | None]
    ) -> None:
        self.readings: dict[Rest, Reading] = {}
        self.layout = layout
        self._first, self._first_ends = layout.first
        self._last, self._last_ends = layout.last or (b"", b"")
        self._url_is_first = layout.url_is_first
        self._longest = longest
        self._answer = answer

    def find(self, data: bytes) -> Answer | None:
        """The answer to these bytes, where they are one request whose head is known."""
        rest, url = self.cut(data)
        reading = self.readings.get(rest)
        if reading is None or len(data) > self._longest:
            return None
        return self._answer(reading, url)

    def cut(self, data: bytes) -> tuple[Rest, bytes]:
        """What is left of a head, and its URL. What is not cut in all its places leaves nothing at the end.

        A name is of no account if it is harmless: then no line begins in it, and no parser stumbles over it.
        """
        before, _, after = data.partition(self._first)
        url, _, after = after.partition(self._first_ends)
        if not self._last:
            return (before, after), url
        between, _, after = after.partition(self._last)
        name, _, after = after.partition(self._last_ends)
        if not self._url_is_first:
            url, name = name, url
        return (before, between, after if name.translate(IF_HARMLESS) == name else b""), url


_NEVER = (b"\0", b"\0")
NO_TABLE = Table(Layout("", "", _NEVER, None, url_is_first=True), 0, lambda _reading, _url: None)
"""Where no head is known."""


def layout_of(peer: str, way: Way, data: bytes) -> Layout:
    """That of heads like this one. What is in none of the known spellings is nowhere in it."""
    url = next(((each, way.url.ends) for each in way.url.begins if each in data), _NEVER)
    name = next(((each, b"\r\n") for each in NAMES if each in data), None)
    if name is None or data.find(url[0]) < data.find(name[0]):
        return Layout(peer, way.name, url, name, url_is_first=True)
    return Layout(peer, way.name, name, url, url_is_first=False)
