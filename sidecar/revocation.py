"""How a process learns within a second that something it remembers is no longer true."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from sidecar.errors import StoreUnavailable
from sidecar.ports import ChangeFeed, Clock
from sidecar.records import Changes

LOOK_EVERY = 0.25
"""Seconds after which the store is asked again, by the next check that wants to know."""

LONGEST_BLINDNESS = 1.0
"""Seconds without an answer after which nothing remembered is trusted any more."""

_MOST_USERS = 10_000

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Revocations:
    """The change feed as caches need it: is what was read of a user still true?

    `generation` counts the times that something changed, as this process learned it. What was read in a
    generation is true until its user changes in a later one, or everybody does.
    """

    def __init__(self, feed: ChangeFeed, clock: Clock) -> None:
        self._feed = feed
        self._clock = clock
        self._asked_at = float("-inf")
        self._answered_at = float("-inf")
        self._is_readable = True
        self._position = 0
        self._users: dict[int, int] = {}
        self._everybody = 0
        self.generation = 0
        self._fresh_until = float("-inf")
        self.relied_on_until = float("-inf")
        """Until then what is known is not old, and no check need look. By the monotonic clock."""
        self.relied_on_until_date = float("-inf")
        """No earlier moment, by the clock that tells dates, as long as that does not jump."""

    async def look(self) -> None:
        """Makes sure that changes of a second ago are known.

        Raises StoreUnavailable where the store has not answered for that long.
        """
        now = self._clock.monotonic()
        if now < self._fresh_until:
            return
        self._asked_at = now
        self._note_until_when()
        try:
            self._learn(await self._feed.since(self._position))
        except StoreUnavailable as error:
            self._say_whether_readable(error)
            if now - self._answered_at >= LONGEST_BLINDNESS:
                raise
            return
        self._say_whether_readable(None)
        self._answered_at = now
        self._note_until_when()

    def one_goes_to_look(self) -> None:
        """If a look is due, the caller is about to: until it does, others rely on what is known.

        It may take a while in a busy process, and all that ask meanwhile would look with it. Where it does
        not look after all, others have relied on that for one LOOK_EVERY more, and do no longer.
        """
        if self._clock.monotonic() >= self.relied_on_until:
            self._rely_until(min(self._fresh_until + LOOK_EVERY, self._answered_at + LONGEST_BLINDNESS))

    def _note_until_when(self) -> None:
        self._fresh_until = min(self._asked_at + LOOK_EVERY, self._answered_at + LONGEST_BLINDNESS)
        self._rely_until(self._fresh_until)

    def _rely_until(self, moment: float) -> None:
        self.relied_on_until = moment
        self.relied_on_until_date = self._clock.now() + LOOK_EVERY

    def _say_whether_readable(self, error: StoreUnavailable | None) -> None:
        """Once when an outage begins and once when it ends, however many checks there are."""
        if error is not None and self._is_readable:
            log.error("store_not_readable", error=str(error))
        elif error is None and not self._is_readable:
            log.info("store_readable_again")
        self._is_readable = error is None

    def forget(self) -> None:
        """Trusts nothing until the store has been asked: this process has just changed something itself."""
        self._asked_at = self._answered_at = float("-inf")
        self._note_until_when()

    def is_current(self, user_id: int | None, generation: int) -> bool:
        """Whether what was read of this user in this generation is still true."""
        if generation < self._everybody:
            return False
        return user_id is None or generation >= self._users.get(user_id, 0)

    def _learn(self, changes: Changes) -> None:
        self._position = changes.latest
        if not changes.users and not changes.everybody:
            return
        self.generation += 1
        if changes.everybody or len(self._users) + len(changes.users) > _MOST_USERS:
            self._everybody = self.generation
            self._users.clear()
        else:
            self._users.update(dict.fromkeys(changes.users, self.generation))


class Reread(Generic[T]):
    """What concerns everybody: read once, and again when something that does was changed."""

    def __init__(self, revocations: Revocations, read: Callable[[], Awaitable[T]]) -> None:
        self._revocations = revocations
        self._read = read
        self._read_in = -1
        self._value: T

    async def value(self) -> T:
        """As the store had it less than a second ago. Raises StoreUnavailable."""
        await self._revocations.look()
        if not self._revocations.is_current(None, self._read_in):
            generation = self._revocations.generation
            self._value = await self._read()
            self._read_in = generation
        return self._value

    def forget(self) -> None:
        """Reads it again the next time: this process has just changed it itself."""
        self._read_in = -1
