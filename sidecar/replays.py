"""Answers that are given again without being decided again, for as long as what they rest on holds.

The pipeline decides; this only remembers, and only what the pipeline gave grounds for. Nothing in here reads
HTTP or judges a request. What is kept is a sum and no product: a request's URL leads to its rule, the rest
of its head to what the head means, and the two together to the bytes of an answer.

A head is found in two ways. Byte for byte, but for the URL in it: the same bytes mean the same thing. Or,
when the parser has read it, by those of its lines that a check reads at all.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from sidecar.model import Grounds, HeaderLines, UrlPlace
from sidecar.ports import Clock, Gateway
from sidecar.revocation import Revocations
from sidecar.second_chance import SecondChance
from sidecar.telemetry import Metrics, Tally

MOST_URL_BYTES = 8 * 1024 * 1024
"""For the URLs whose rule is known, of all users together."""

ANONYMOUS = 0.125
"""What heads without a credential may have, as a part of what those with one may have, and beside it."""

MOST_READINGS = 32
"""Of one credential; one more drops its oldest."""

MOST_HEADS = 4
"""Of one reading: a browser's for a page, a script, an image and what a script fetches."""

LONGEST_HEAD = 8192
"""Bytes; a longer one is read every time."""

MOST_ANSWERS = 64
"""Of one reading; a user meets few rules."""

_HARMLESS = bytes(code for code in range(0x21, 0x7F) if code != ord("#"))
"""What a query may be made of: no parser and no rule sees anything else in it."""

_NAMES = (b"\r\nX-Request-Id: ", b"\r\nx-request-id: ")
"""Gateways give each request a name, for the log."""

_CHECK = re.compile(rb"[A-Z]+ /check/([a-z]+)")
_BEYOND_A_HEAD = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect"})
_NO_BODY = (b"content-length", b"0")

# Bytes that Python needs beside those that an entry is for.
_URL_ENTRY = 256
_HEAD_ENTRY = 192
_READING_ENTRY = 640
_ANSWER_ENTRY = 256


class Head(NamedTuple):
    """A request's head as the parser has read it, names in lower case; `peer` is who asks."""

    peer: str
    method: bytes
    target: bytes
    headers: HeaderLines
    keeps_alive: bool


class Read(NamedTuple):
    """A head as a check reads it: who asks, all of it but the URL in one form, and the URL."""

    peer: str
    gateway: str
    key: bytes
    url: bytes


class Replayable(NamedTuple):
    """What the application says of an answer that may be given again."""

    replays: Replays
    grounds: Grounds
    tally: Tally


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


class _Url:
    """Where a URL leads."""

    __slots__ = ("size", "target", "used")

    def __init__(self, url: bytes, target: Hashable) -> None:
        self.target = target
        self.size = _URL_ENTRY + len(url)
        self.used = False

    def take_chance(self) -> bool:
        """See Entry.take_chance."""
        used, self.used = self.used, False
        return used


_NOWHERE = _Url(b"", object())


class Reading:
    """What a head means but for its URL: the answers to it, by where the URL leads."""

    __slots__ = ("answers", "heads", "key", "owner", "prefix", "size", "used")

    def __init__(self, key: bytes, prefix: bytes, owner: _Owner) -> None:
        self.key = key
        self.prefix = prefix
        self.owner = owner
        self.answers: dict[Hashable, Answer] = {}
        self.heads: deque[tuple[Table, _Rest]] = deque()
        self.size = 0
        self.used = False

    def measure(self) -> int:
        """Its size in bytes, as it is now."""
        heads = sum(_HEAD_ENTRY + sum(map(len, rest)) for _, rest in self.heads)
        answers = sum(_ANSWER_ENTRY + len(answer.data) for answer in self.answers.values())
        return _READING_ENTRY + len(self.key) + len(self.prefix) + heads + answers


class _Owner:
    """Whose readings these are: they compete with each other first, and as one with all others' then."""

    __slots__ = ("pool", "readings", "size")

    def __init__(self, pool: SecondChance[Hashable, _Owner]) -> None:
        self.pool = pool
        self.readings: deque[Reading] = deque()
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


class Place(NamedTuple):
    """Who sends heads of one kind, and between what stands that which is different in each of them.

    `first` and `last` are what stands before and behind it: the URL, and the name that the gateway gave the
    request, in the order in which they come. Where there is no name, `last` is empty.
    """

    peer: str
    gateway: str
    first: tuple[bytes, bytes]
    last: tuple[bytes, bytes] | None
    url_is_first: bool


_Rest = tuple[bytes, ...]


class Table:
    """Heads byte for byte: what one means, by what is left of it without the URL and the request's name."""

    def __init__(self, place: Place, longest: int, answer: Callable[[Reading, bytes], Answer | None]) -> None:
        self.readings: dict[_Rest, Reading] = {}
        self.place = place
        self._first, self._first_ends = place.first
        self._last, self._last_ends = place.last or (b"", b"")
        self._url_is_first = place.url_is_first
        self._longest = longest
        self._answer = answer

    def find(self, data: bytes) -> Answer | None:
        """The answer to these bytes, where they are one request whose head is known."""
        rest, url = self.cut(data)
        reading = self.readings.get(rest)
        if reading is None or len(data) > self._longest:
            return None
        return self._answer(reading, url)

    def cut(self, data: bytes) -> tuple[_Rest, bytes]:
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
        return (before, between, b"" if name.translate(None, _HARMLESS) else after), url


_NEVER = (b"\0", b"\0")
NO_TABLE = Table(Place("", "", _NEVER, None, url_is_first=True), 0, lambda _reading, _url: None)
"""Where no head is known."""


class _Way(NamedTuple):
    """How a gateway asks: its check's path, where the URL is, and the lines that a check of it reads."""

    name: str
    path: bytes
    url: UrlPlace
    reads: frozenset[bytes]


class Replays:
    """What the answers of one application leave behind. It ends with the application: `close`.

    `reads`: the names of the header lines that decide about a check of each gateway. A request of more than
    `longest` bytes is not answered here. `most_bytes` is for all heads with a credential; with 0 nothing is
    remembered.
    """

    def __init__(
        self,
        reads: Mapping[Gateway, frozenset[bytes]],
        revocations: Revocations,
        clock: Clock,
        metrics: Metrics,
        longest: int,
        most_bytes: int,
    ) -> None:
        self._longest = longest
        self._ways = {
            each.name: _Way(each.name, f"/check/{each.name}".encode("ascii"), each.url, names)
            for each, names in reads.items()
        }
        self._revocations = revocations
        self._ticks = clock.monotonic
        self._requests = metrics.cache_requests
        self._is_closed = most_bytes == 0
        self._tables: dict[Place, Table] = {}
        self._latest = NO_TABLE
        self._readings: dict[bytes, Reading] = {}
        self._urls: SecondChance[tuple[bytes, bytes], _Url] = SecondChance(
            "replay_url", MOST_URL_BYTES, metrics
        )
        self._known, self._anonymous = (
            SecondChance[Hashable, _Owner]("replay", most, metrics, self._drop)
            for most in (most_bytes, most_bytes * ANONYMOUS)
        )
        metrics.cache_entries.labels("replay").set_function(lambda: len(self._readings))
        metrics.cache_entries.labels("replay_url").set_function(lambda: len(self._urls.entries))

    def close(self) -> None:
        """Forgets everything, and remembers nothing any more."""
        self._is_closed = True
        for table in self._tables.values():
            table.readings.clear()
        self._tables.clear()
        self._latest = NO_TABLE
        self._readings.clear()
        self._urls.clear()
        self._known.clear()
        self._anonymous.clear()

    # --- finding ---------------------------------------------------------------------------------

    def look(self, peer: str, data: bytes) -> tuple[Table, Answer | None]:
        """The answer to the first request of a connection, and where others like it are."""
        latest = self._latest
        answer = latest.find(data) if latest.place.peer == peer else None
        if answer is None:
            self._latest = latest = self.table(peer, data)
            answer = latest.find(data)
        return latest, answer

    def table(self, peer: str, data: bytes) -> Table:
        """Where heads like the one of this request are, if there are any."""
        found = _CHECK.match(data)
        way = self._ways.get(found[1].decode("ascii")) if found else None
        return self._tables.get(_place(peer, way, data), NO_TABLE) if way else NO_TABLE

    def read(self, head: Head) -> Read | None:
        """The head as a check reads it; None where it is no check's, or more than a head belongs to it."""
        way, url = self._asked(head.target)
        if way is None:
            return None
        pieces = [head.peer.encode("ascii"), head.method, way.path, b"1" if head.keeps_alive else b"0"]
        for line in head.headers:
            name, value = line
            if name == way.url.header:
                if url is not None:
                    return None
                url = value
            elif name in way.reads:
                pieces += line
            elif name in _BEYOND_A_HEAD and line != _NO_BODY:
                return None
        return None if url is None else Read(head.peer, way.name, b"\n".join(pieces), url)

    def _asked(self, target: bytes) -> tuple[_Way | None, bytes | None]:
        """Whose check this target is; and the URL, where the target has it."""
        path, _, query = target.partition(b"?")
        for way in self._ways.values():
            if not way.url.header and path.startswith(way.path + b"/"):
                return way, target.removeprefix(way.path)
            if way.url.header and path == way.path and not query.translate(None, _HARMLESS):
                return way, None
        return None, None

    def find(self, read: Read) -> tuple[Reading, Answer] | None:
        """What is known of a head that is read like this, and the answer to it."""
        reading = self._readings.get(read.key)
        answer = None if reading is None else self.answer(reading, read.url)
        if reading is None or answer is None:
            self._requests.inc(("replay", "miss"))
            return None
        return reading, answer

    def answer(self, reading: Reading, url: bytes) -> Answer | None:
        """The answer to a head of this meaning with this URL, where it is known and still true."""
        path, _, query = url.partition(b"?")
        if query.translate(None, _HARMLESS):
            return None
        known = self._urls.entries.get((reading.prefix, path), _NOWHERE)
        answer = reading.answers.get(known.target)
        if answer is None:
            return None
        revocations = self._revocations
        # What ends before the next look is not given again: it takes no other clock to be exact.
        if self._ticks() >= revocations.fresh_until or answer.until < revocations.looks_again_at:
            return None
        if answer.generation != revocations.generation and not self._is_current(answer):
            return None
        known.used = reading.used = True
        return answer

    def _is_current(self, answer: Answer) -> bool:
        is_current = self._revocations.is_current(answer.user_id, answer.generation)
        if is_current:
            answer.generation = self._revocations.generation
        return is_current

    # --- remembering -----------------------------------------------------------------------------

    def learn(self, read: Read, grounds: Grounds, answer: Answer, data: bytes) -> None:
        """Remembers the answer to a head that is read like this; `data` as in `remember`."""
        if self._is_closed:
            return
        reading = self._readings.get(read.key) or self._begin(read, grounds)
        self._lead((reading.prefix, read.url.partition(b"?")[0]), grounds.target)
        reading.answers.pop(grounds.target, None)
        if len(reading.answers) >= MOST_ANSWERS:
            del reading.answers[next(iter(reading.answers))]
        reading.answers[grounds.target] = answer
        self.remember(reading, read, data)

    def remember(self, reading: Reading, read: Read, data: bytes) -> None:
        """Remembers this head byte for byte, which is read like that; empty where it did not come alone."""
        if data and len(data) <= LONGEST_HEAD:
            self._add_head(reading, read, data)
        reading.owner.resize(reading, reading.measure())

    def _begin(self, read: Read, grounds: Grounds) -> Reading:
        credential = grounds.credential
        pool = self._known if credential else self._anonymous
        owner = pool.entries.get(credential or read.key)
        if owner is None:
            owner = _Owner(pool)
            pool.put(credential or read.key, owner)
        reading = Reading(read.key, _prefix(self._ways[read.gateway], grounds), owner)
        self._readings[read.key] = reading
        owner.readings.append(reading)
        if len(owner.readings) > MOST_READINGS:
            oldest = owner.readings.popleft()
            self._forget(oldest)
            owner.resize(oldest, 0)
        return reading

    def _lead(self, url: tuple[bytes, bytes], target: Hashable) -> None:
        known = self._urls.entries.get(url)
        if known is None:
            self._urls.put(url, _Url(url[1], target))
        else:
            known.target = target

    def _add_head(self, reading: Reading, read: Read, data: bytes) -> None:
        place = _place(read.peer, self._ways[read.gateway], data)
        table = self._tables.get(place) or Table(place, self._longest, self.answer)
        rest, url = table.cut(data)
        if not rest[-1] or url != read.url or rest in table.readings:
            return
        self._tables[place] = table
        table.readings[rest] = reading
        reading.heads.append((table, rest))
        if len(reading.heads) > MOST_HEADS:
            self._forget_head(*reading.heads.popleft())

    # --- forgetting ------------------------------------------------------------------------------

    def _drop(self, owner: _Owner) -> None:
        for reading in owner.readings:
            self._forget(reading)

    def _forget(self, reading: Reading) -> None:
        del self._readings[reading.key]
        for table, rest in reading.heads:
            self._forget_head(table, rest)

    def _forget_head(self, table: Table, rest: _Rest) -> None:
        del table.readings[rest]
        if not table.readings:
            del self._tables[table.place]


def _place(peer: str, way: _Way, data: bytes) -> Place:
    """Where heads like this one are. What is in none of the known spellings is nowhere."""
    url = next(((each, way.url.ends) for each in way.url.begins if each in data), _NEVER)
    name = next(((each, b"\r\n") for each in _NAMES if each in data), None)
    if name is None or data.find(url[0]) < data.find(name[0]):
        return Place(peer, way.name, url, name, url_is_first=True)
    return Place(peer, way.name, name, url, url_is_first=False)


def _prefix(way: _Way, grounds: Grounds) -> bytes:
    """All that selects a rule but for what the URL says."""
    asked, seen_as = grounds.original, grounds.client_class
    host = "" if way.url.names_host else f"{asked.host.name} {asked.host.port}"
    return f"{asked.method} {seen_as} {host} ".encode("ascii")
