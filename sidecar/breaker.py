"""Stops asking a system that fails, so that nobody waits for it in vain."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import structlog

from sidecar.errors import UpstreamNotAsked, UpstreamThrottled, UpstreamUnavailable
from sidecar.ports import Clock

log = structlog.get_logger(__name__)


class Breaker:
    """Closed: everybody asks. Open: nobody does. After `open_for` seconds one at a time tries.

    `faults` in a row open it. The one who tries closes it by an answer, and by a fault leaves it open for
    as long again. What was begun before it opened or closed says nothing about it afterwards.

    It logs when it opens and when it closes, never for a call.
    """

    def __init__(self, name: str, *, faults: int, open_for: float, clock: Clock) -> None:
        self._name = name
        self._most = faults
        self._open_for = open_for
        self._clock = clock
        self._in_a_row = 0
        self._opens = 0
        self._try_at: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer to close it, also while somebody tries."""
        return self._try_at is not None

    def refuse(self) -> None:
        """Raises UpstreamNotAsked where nobody may ask now."""
        if self._try_at is not None and (self._trying or self._clock.monotonic() < self._try_at):
            raise UpstreamNotAsked(f"{self._name}: not asked, it failed a moment ago")

    def begin(self) -> Attempt:
        """One call, to be used as a context: how that ends is how the call ended.

        UpstreamUnavailable is a fault. An end without an error is an answer, and so is UpstreamThrottled.
        Any other end, as of a caller who goes away, says nothing. Raises UpstreamNotAsked.
        """
        self.refuse()
        self._trying = self.is_open
        return Attempt(self, self._opens)

    def ended(self, opens: int, error: BaseException | None, *, counts: bool) -> None:
        """How a call ended that was begun when it had opened so many times; and whether a fault `counts`."""
        if opens != self._opens:
            return
        if error is None or isinstance(error, UpstreamThrottled):
            self._answered()
        elif counts and isinstance(error, UpstreamUnavailable):
            self._failed(error)
        self._trying = False

    def _answered(self) -> None:
        self._in_a_row = 0
        if self._try_at is not None:
            self._try_at = None
            log.info("upstream_available_again", upstream=self._name)

    def _failed(self, fault: UpstreamUnavailable) -> None:
        self._in_a_row += 1
        if self._try_at is None:
            if self._in_a_row < self._most:
                return
            self._opens += 1
            log.warning("upstream_unavailable", upstream=self._name, faults=self._in_a_row, last=str(fault))
        self._try_at = self._clock.monotonic() + self._open_for


class Attempt:
    """One call that a breaker let through."""

    __slots__ = ("_breaker", "_counts", "_opens")

    def __init__(self, breaker: Breaker, opens: int) -> None:
        self._breaker = breaker
        self._opens = opens
        self._counts = True

    def excuse(self) -> None:
        """A fault of this one does not count."""
        self._counts = False

    def __enter__(self) -> Self:
        """It is under way since it was begun."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._breaker.ended(self._opens, error, counts=self._counts)
