"""What one process publishes, another one reads whole or not at all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from sidecar.server import scoreboard
from sidecar.server.scoreboard import LONGEST, Scoreboard


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(2)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def break_off(board: Scoreboard, number: int) -> None:
    """As if slot 0 had been killed while it wrote its publication of this number."""
    start = board._start(0, number) + scoreboard._HEAD.size
    board._memory[start : start + 3] = b"..."


@pytest.mark.parametrize(
    "published",
    [
        [],
        [b"one"],
        [b"one", b"two"],
        [b"one", b"", b"three"],
        [b"x" * LONGEST, b"short"],
        [b"x", b"y" * LONGEST],
    ],
    ids=["nothing", "once", "twice", "nothing between", "less than before", "as much as there is room for"],
)
def test_the_last_is_read_from_its_own_slot(board: Scoreboard, published: list[bytes]) -> None:
    for content in published:
        board.publish(0, content)
    assert (board.read(0), board.read(1)) == ([b"", *published][-1], b"")


@pytest.mark.parametrize("whole", [1, 2, 3])
def test_of_one_that_was_killed_while_it_wrote_the_one_before_is_read(board: Scoreboard, whole: int) -> None:
    for number in range(1, whole + 2):
        board.publish(0, b"number %d" % number)
    break_off(board, whole + 1)
    assert board.read(0) == b"number %d" % whole

    board.publish(0, b"its successor")
    assert board.read(0) == b"its successor"


def test_where_nothing_is_whole_there_is_nothing(board: Scoreboard) -> None:
    board.publish(0, b"first")
    break_off(board, 1)
    assert board.read(0) == b""


def test_what_is_too_long_is_refused_and_changes_nothing(board: Scoreboard) -> None:
    board.publish(0, b"before")
    with pytest.raises(ValueError, match="has room for"):
        board.publish(0, b"x" * (LONGEST + 1))
    assert board.read(0) == b"before"


def test_while_one_writes_another_reads_nothing_torn(board: Scoreboard, impatient: None) -> None:
    board.publish(0, b"0" * 1000)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            board.publish(0, str(number % 10).encode() * (number % 5000 + 1))

    writing = threading.Thread(target=write)
    writing.start()
    try:
        read = [board.read(0) for _ in range(3000)]
    finally:
        done.set()
        writing.join()
    assert [len(set(content)) for content in read] == [1] * 3000
