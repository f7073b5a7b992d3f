"""Settings that are read again reach every worker, or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.errors import Fault, SettingsError
from sidecar.server.channel import Channel, Follow
from sidecar.server.in_force import InForce
from sidecar.server.workers import Worker
from sidecar.settings import Settings, parse

OLD = parse({"session": {"lifetime": "1h"}})
NEW = parse({"session": {"lifetime": "2h"}})
NEWER = parse({"session": {"lifetime": "3h"}})


class Parent:
    """What has two workers, whose ends of the channels are here."""

    def __init__(self) -> None:
        self.file: Settings | None = NEW
        self.read = 0
        self.workers = [Worker(slot, SystemClock()) for slot in range(2)]
        self.ends: list[Channel] = []
        self.in_force = InForce(OLD, self._read, self.workers)
        for worker in self.workers:
            worker.settings = OLD
            worker.channel, end = Channel.pair()
            worker.is_serving = True
            self.ends.append(end)

    def _read(self) -> Settings:
        self.read += 1
        if self.file is None:
            raise SettingsError([Fault("session.lifetime", "bad")])
        return self.file

    def reload(self, settings: Settings | None) -> None:
        """The file is this now, None: a bad one; and somebody asks."""
        self.file = settings
        self.in_force.ask()
        self.in_force.read_where_asked()

    def told(self, slot: int) -> list[tuple[Any, bool]]:
        """What a worker has been told since the last time."""
        worker = self.workers[slot]
        assert worker.channel is not None
        worker.channel.send("no more")
        told = []
        while isinstance(message := self.ends[slot].receive(), Follow):
            told.append((message.settings, message.tells))
        return told

    def close(self) -> None:
        for worker, end in zip(self.workers, self.ends, strict=True):
            end.close()
            if worker.channel is not None:
                worker.channel.close()


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    yield made
    made.close()


def test_the_others_follow_the_first(parent: Parent) -> None:
    parent.reload(NEW)
    assert (parent.told(0), parent.told(1), parent.in_force.settings) == ([(NEW, True)], [], OLD)
    parent.in_force.followed(parent.workers[0], is_done=True)
    assert (parent.told(0), parent.told(1), parent.in_force.settings) == ([], [(NEW, False)], NEW)


@pytest.mark.parametrize("given", [NEW, None], ids=["good ones that it cannot serve under", "bad ones"])
def test_where_the_first_does_not_follow_nobody_does(parent: Parent, given: Settings | None) -> None:
    parent.reload(given)
    assert (parent.told(0), parent.told(1)) == ([(given, True)], [])
    parent.in_force.followed(parent.workers[0], is_done=False)
    assert (parent.told(0), parent.told(1), parent.in_force.settings) == ([], [(None, False)], OLD)


def test_where_the_first_dies_of_it_nobody_follows(parent: Parent) -> None:
    parent.reload(NEW)
    first, other = parent.workers
    parent.in_force.died(other, -9)
    assert parent.told(1) == []
    first.is_serving = False
    with capture_logs() as logged:
        parent.in_force.died(first, -9)
    assert logged == [
        {"event": "reload_failed", "log_level": "error", "faults": 0, "worker": 0, "status": -9}
    ]
    assert (parent.told(1), parent.in_force.settings) == ([(None, False)], OLD)


@pytest.mark.parametrize("answers_too_late", [False, True])
def test_where_the_first_leaves_another_one_is(parent: Parent, answers_too_late: bool) -> None:
    parent.reload(NEW)
    first, other = parent.workers
    first.is_serving = False
    parent.in_force.left(first)
    parent.in_force.read_where_asked()
    if answers_too_late:
        parent.in_force.followed(first, is_done=False)
    assert parent.told(1) == [(NEW, True)]
    parent.in_force.followed(other, is_done=True)
    assert (parent.told(1), parent.in_force.settings) == ([], NEW)


def test_where_another_one_leaves_nothing_is_read_again(parent: Parent) -> None:
    parent.reload(NEW)
    first, other = parent.workers
    parent.in_force.left(other)
    parent.in_force.followed(first, is_done=True)
    parent.in_force.read_where_asked()
    assert (parent.read, parent.in_force.settings) == (1, NEW)


def test_who_asks_meanwhile_has_them_read_once_more_afterwards(parent: Parent) -> None:
    parent.reload(NEW)
    parent.reload(NEWER)
    parent.reload(NEWER)
    assert parent.read == 1
    parent.in_force.followed(parent.workers[0], is_done=True)
    parent.in_force.read_where_asked()
    parent.in_force.followed(parent.workers[0], is_done=True)
    parent.in_force.read_where_asked()
    assert (parent.told(0), parent.read) == ([(NEW, True), (NEWER, True)], 2)
    assert parent.in_force.settings == NEWER


def test_they_are_read_when_somebody_serves(parent: Parent) -> None:
    first, other = parent.workers
    first.is_serving = other.is_serving = False
    parent.reload(NEW)
    assert parent.read == 0
    other.is_serving = True
    parent.in_force.read_where_asked()
    assert parent.told(1) == [(NEW, True)]


def test_who_began_under_older_ones_catches_up(parent: Parent) -> None:
    late = parent.workers[1]
    late.is_serving = False
    for given, is_done in ((NEW, True), (None, False)):
        parent.reload(given)
        parent.in_force.followed(parent.workers[0], is_done=is_done)
    assert parent.told(1) == []
    late.is_serving = True
    parent.in_force.bring_up_to_date(late)
    assert parent.told(1) == [(NEW, False), (None, False)]


def test_what_cannot_change_is_as_it_was(parent: Parent) -> None:
    parent.reload(parse({"server": {"workers": 5}, "session": {"lifetime": "2h"}}))
    parent.in_force.followed(parent.workers[0], is_done=True)
    assert parent.in_force.settings == NEW
