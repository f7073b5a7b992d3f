"""When a system that fails is asked, and when not."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from sidecar.breaker import Breaker
from sidecar.errors import UpstreamNotAsked, UpstreamThrottled, UpstreamTimeout, UpstreamUnavailable
from tests.clocks import ManualClock

FAULTS = 3
OPEN_FOR = 5.0

ENDS: dict[str, BaseException | None] = {
    "an answer": None,
    "a fault": UpstreamUnavailable("idp: no connection"),
    "a timeout": UpstreamTimeout("idp: no answer in time"),
    "throttled": UpstreamThrottled("idp: wants to be left alone for 1 s", 1.0),
    "gone away": asyncio.CancelledError(),
    "our own mistake": ValueError("not the other system's"),
}


class Scene:
    """A breaker, and what happens to it, in words."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker("idp", faults=FAULTS, open_for=OPEN_FOR, clock=self.clock)

    def play(self, *events: str) -> None:
        for event in events:
            if event == "nearly time":
                self.clock.advance(OPEN_FOR - 0.001)
            elif event == "time":
                self.clock.advance(OPEN_FOR)
            else:
                self.call(ENDS[event])

    def call(self, end: BaseException | None) -> None:
        with suppress(*[type(end)] if end else []), self.breaker.begin():
            if end is not None:
                raise end

    @property
    def refuses(self) -> bool:
        try:
            self.breaker.refuse()
        except UpstreamNotAsked:
            return True
        return False


FAILED = ("a fault",) * FAULTS


@pytest.mark.parametrize(
    ("events", "is_open", "refuses"),
    [
        pytest.param((), False, False, id="it begins closed"),
        pytest.param(("a fault",) * (FAULTS - 1), False, False, id="one fault too few"),
        pytest.param(FAILED, True, True, id="enough faults in a row open it"),
        pytest.param(("a timeout",) * FAULTS, True, True, id="a timeout is a fault"),
        pytest.param(("throttled",) * FAULTS, False, False, id="being throttled is none"),
        pytest.param(("gone away",) * FAULTS, False, False, id="nor is a caller who goes away"),
        pytest.param(("our own mistake",) * FAULTS, False, False, id="nor a mistake of ours"),
        pytest.param(("a fault", "a fault", "an answer", "a fault"), False, False, id="an answer between"),
        pytest.param(("a fault", "a fault", "throttled", "a fault"), False, False, id="throttled between"),
        pytest.param(("a fault", "a fault", "gone away", "a fault"), True, True, id="gone away between"),
        pytest.param((*FAILED, "nearly time"), True, True, id="open until the time has come"),
        pytest.param((*FAILED, "time"), True, False, id="then one may try"),
        pytest.param((*FAILED, "time", "an answer"), False, False, id="whose answer closes it"),
        pytest.param((*FAILED, "time", "throttled"), False, False, id="or a 429, which is an answer"),
        pytest.param((*FAILED, "time", "a fault"), True, True, id="whose fault leaves it open"),
        pytest.param((*FAILED, "time", "a fault", "nearly time"), True, True, id="for as long again"),
        pytest.param((*FAILED, "time", "a fault", "time"), True, False, id="until the next may try"),
        pytest.param((*FAILED, "time", "gone away"), True, False, id="one who goes away leaves the place"),
        pytest.param((*FAILED, "time", "our own mistake"), True, False, id="and so does a mistake of ours"),
        pytest.param((*FAILED, "time", "an answer", "a fault"), False, False, id="closed, it counts from 0"),
        pytest.param((*FAILED, "time", "an answer", *FAILED), True, True, id="and opens again"),
    ],
)
def test_the_state_after(events: tuple[str, ...], is_open: bool, refuses: bool) -> None:
    scene = Scene()
    scene.play(*events)
    assert scene.breaker.is_open == is_open
    assert scene.refuses == refuses


def test_a_refused_call_is_not_begun() -> None:
    scene = Scene()
    scene.play(*FAILED)
    with pytest.raises(UpstreamNotAsked, match=r"^idp: "):
        scene.breaker.begin()


def test_one_at_a_time_tries() -> None:
    scene = Scene()
    scene.play(*FAILED, "time")
    with scene.breaker.begin():
        assert scene.refuses
        scene.clock.advance(10 * OPEN_FOR)
        assert scene.refuses
    assert not scene.refuses


@pytest.mark.parametrize("late", ["an answer", "a fault", "gone away"])
def test_who_asked_before_it_opened_says_nothing_about_it(late: str) -> None:
    scene = Scene()
    before = scene.breaker.begin()
    scene.play(*FAILED)
    before.__exit__(None, ENDS[late], None)
    assert scene.refuses
    scene.play("time")
    assert not scene.refuses


@pytest.mark.parametrize("late", ["an answer", "a fault", "gone away"])
def test_who_asked_before_it_opened_does_not_end_the_one_who_tries(late: str) -> None:
    scene = Scene()
    before = scene.breaker.begin()
    scene.play(*FAILED, "time")
    with scene.breaker.begin():
        before.__exit__(None, ENDS[late], None)
        assert scene.breaker.is_open
        assert scene.refuses
    assert not scene.breaker.is_open


def test_it_says_once_that_it_opens_and_once_that_it_closes() -> None:
    scene = Scene()
    with capture_logs() as logs:
        scene.play(*FAILED, "time", *("a fault", "time") * 3)
        for _ in range(3):
            assert not scene.refuses
        scene.play("an answer", "an answer")
    assert logs == [
        {
            "event": "upstream_unavailable",
            "log_level": "warning",
            "upstream": "idp",
            "faults": FAULTS,
            "last": "idp: no connection",
        },
        {"event": "upstream_available_again", "log_level": "info", "upstream": "idp"},
    ]
