"""How long a worker that dies again and again is waited for."""

from __future__ import annotations

import pytest

from sidecar.server.workers import LONG_ENOUGH, Backoff


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        pytest.param([0] * 8, [0.5, 1, 2, 4, 8, 16, 30, 30], id="twice as long each time, up to a bound"),
        pytest.param([0, 0, LONG_ENOUGH, 0], [0.5, 1, 0.5, 1], id="from the beginning after a long life"),
        pytest.param([0, 0, LONG_ENOUGH - 1], [0.5, 1, 2], id="not after a shorter one"),
    ],
)
def test_the_pause_after_a_death(lives: list[float], pauses: list[float]) -> None:
    backoff = Backoff()
    assert [backoff.pause_after(lived) for lived in lives] == pauses
