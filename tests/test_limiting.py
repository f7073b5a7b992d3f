"""What counts for itself, whatever else is counted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sidecar import limiting
from sidecar.errors import Throttled
from sidecar.limiting import RequestLimits
from sidecar.model import Reason
from sidecar.settings import parse
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock


def test_a_flood_of_requests_makes_nobody_forget_who_guesses_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limiting, "MOST_KEYS", 100)
    limits = RequestLimits(parse({"limits": {"ban": {"failures": 5}}}).limits, ManualClock(), Metrics())
    guesser = ip_address("192.0.2.1")
    for _ in range(4):
        limits.count_failure(guesser, "alice")
    for number in range(1000):
        limits.count_check(ip_address(number))
        limits.count_attempt(ip_address(number))
    limits.count_failure(ip_address("192.0.2.2"), "alice")
    with pytest.raises(Throttled) as caught:
        limits.refuse_banned(ip_address("192.0.2.3"), "alice")
    assert caught.value.reason is Reason.BANNED
