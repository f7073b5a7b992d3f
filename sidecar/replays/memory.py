"""The memory itself: what is found in it, what it learns, and what it drops when it is full."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from sidecar.model import Grounds
from sidecar.ports import Clock, Gateway
from sidecar.replays.heads import IF_HARMLESS, LONGEST_TARGET, Head, ReadHead, Ways
from sidecar.replays.kept import (
    NO_TABLE,
    NOWHERE,
    Answer,
    Layout,
    Owner,
    Reading,
    Rest,
    Table,
    Url,
    layout_of,
)
from sidecar.replays.second_chance import SecondChance
from sidecar.revocation import Revocations
from sidecar.telemetry import Metrics, Tally

MOST_URL_BYTES = 8 * 1024 * 1024
"""For the URLs whose rule is known, of all users together."""

ANONYMOUS = 1 / 32
"""What heads without a credential may have, as a part of what those with one may have, and beside it."""

MOST_READINGS = 20
"""Of one credential; one more drops its oldest."""

MOST_HEADS = 4
"""Of one reading: a browser's for a page, a script, an image and what a script fetches."""

LONGEST_HEAD = 8192
"""Bytes; a longer one is read every time."""

MOST_ANSWERS = 1024
"""Of one reading: one for each rule that it meets. Most have the same bytes, which are kept once."""


class Replayable(NamedTuple):
    """What the application says of an answer that may be given again."""

    replays: Replays
    grounds: Grounds
    tally: Tally


class Replays:
    """What the answers of one application leave behind. It ends with the application: `close`.

    `reads`: the names of the header lines that decide about a check of each gateway. A request of more than
    `longest` bytes is not answered here. `most_bytes` is for all heads with a credential.
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
        self._longest = min(longest, LONGEST_TARGET)
        self._ways = Ways(reads)
        self._revocations = revocations
        self._ticks = clock.monotonic
        self._requests = metrics.cache_requests
        self._is_closed = False
        self._tables: dict[Layout, Table] = {}
        self._latest = NO_TABLE
        self._readings: dict[bytes, Reading] = {}
        self._urls: SecondChance[tuple[bytes, bytes], Url] = SecondChance(
            "replay_url", MOST_URL_BYTES, metrics
        )
        self._known, self._anonymous = (
            SecondChance[Hashable, Owner]("replay", most, metrics, self._drop)
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
        for pool in (self._known, self._anonymous):
            for owner in pool.entries.values():
                owner.readings.clear()
            pool.clear()

    # --- finding ---------------------------------------------------------------------------------

    def look(self, peer: str, data: bytes) -> tuple[Table, Answer | None]:
        """The answer to the first request of a connection, and where others like it are."""
        latest = self._latest
        answer = latest.find(data) if latest.layout.peer == peer else None
        if answer is None:
            self._latest = latest = self._table(peer, data)
            answer = latest.find(data)
        return latest, answer

    def _table(self, peer: str, data: bytes) -> Table:
        """Where heads like the one of this request are, if there are any."""
        way = self._ways.of(data)
        return self._tables.get(layout_of(peer, way, data), NO_TABLE) if way else NO_TABLE

    def read(self, head: Head) -> ReadHead | None:
        """The head as a check reads it; None where it is no check's, or more than a head belongs to it."""
        return self._ways.read(head)

    def find(self, read: ReadHead) -> tuple[Reading, Answer] | None:
        """What is known of a head that is read like this, and the answer to it.

        Where nothing is, the caller has it decided: it is the one that looks, where that is due.
        """
        reading = self._readings.get(read.key)
        answer = None if reading is None else self.answer(reading, read.url)
        if reading is None or answer is None:
            self._requests.inc(("replay", "miss"))
            # What has no credential may be a preflight, which is decided without a look.
            if reading is not None and reading.owner.pool is self._known:
                self._revocations.one_goes_to_look()
            return None
        return reading, answer

    def answer(self, reading: Reading, url: bytes) -> Answer | None:
        """The answer to a head of this meaning with this URL, where it is known and still true."""
        path, _, query = url.partition(b"?")
        if query.translate(IF_HARMLESS) != query:
            return None
        known = self._urls.entries.get((reading.prefix, path), NOWHERE)
        answer = reading.answers.get(known.target)
        if answer is None:
            return None
        revocations = self._revocations
        # What ends before the next look is not given again: it takes no other clock to be exact.
        if self._ticks() >= revocations.relied_on_until or answer.until < revocations.relied_on_until_date:
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

    def learn(self, read: ReadHead, grounds: Grounds, answer: Answer, data: bytes) -> None:
        """Remembers the answer to a head that is read like this, and the head byte for byte (`data`)."""
        if self._is_closed:
            return
        reading = self._readings.get(read.key) or self._begin(read, grounds)
        self._lead((reading.prefix, read.url.partition(b"?")[0]), grounds.target)
        reading.answers.pop(grounds.target, None)
        if len(reading.answers) >= MOST_ANSWERS:
            del reading.answers[next(iter(reading.answers))]
        latest = next(reversed(reading.answers.values()), answer)
        if latest.data == answer.data:
            answer.data = latest.data
        reading.answers[grounds.target] = answer
        self._add_head(reading, read, data)
        reading.owner.resize(reading, reading.measure())

    def remember(self, reading: Reading, read: ReadHead, data: bytes) -> None:
        """Remembers this head byte for byte, which is read like that."""
        if self._add_head(reading, read, data):
            reading.owner.resize(reading, reading.measure())

    def _begin(self, read: ReadHead, grounds: Grounds) -> Reading:
        credential = grounds.credential
        pool = self._known if credential else self._anonymous
        owner = pool.entries.get(credential or read.key)
        if owner is None:
            owner = Owner(pool)
            pool.put(credential or read.key, owner)
        reading = Reading(read.key, self._ways.by_name[read.gateway].prefix(grounds), owner)
        self._readings[read.key] = reading
        owner.readings.append(reading)
        if len(owner.readings) > MOST_READINGS:
            oldest = owner.readings.pop(0)
            self._forget(oldest)
            owner.resize(oldest, 0)
        return reading

    def _lead(self, url: tuple[bytes, bytes], target: Hashable) -> None:
        known = self._urls.entries.get(url)
        if known is None:
            self._urls.put(url, Url(url, target))
        else:
            known.target = target

    def _add_head(self, reading: Reading, read: ReadHead, data: bytes) -> bool:
        """Whether it can be found again, and could not before."""
        if len(data) > LONGEST_HEAD:
            return False
        layout = layout_of(read.peer, self._ways.by_name[read.gateway], data)
        table = self._tables.get(layout) or Table(layout, self._longest, self.answer)
        rest, url = table.cut(data)
        if not rest[-1] or url != read.url or rest in table.readings:
            return False
        self._tables[layout] = table
        table.readings[rest] = reading
        reading.heads.append((table, rest))
        if len(reading.heads) > MOST_HEADS:
            self._forget_head(*reading.heads.pop(0))
        return True

    # --- forgetting ------------------------------------------------------------------------------

    def _drop(self, owner: Owner) -> None:
        for reading in owner.readings:
            self._forget(reading)
        owner.readings.clear()  # which know their owner: nothing else would end such a circle soon

    def _forget(self, reading: Reading) -> None:
        self._readings.pop(reading.key, None)
        for table, rest in reading.heads:
            self._forget_head(table, rest)

    def _forget_head(self, table: Table, rest: Rest) -> None:
        table.readings.pop(rest, None)
        if not table.readings:
            self._tables.pop(table.layout, None)
