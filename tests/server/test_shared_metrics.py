"""What several processes have counted and how they are, as one exposition."""

from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from structlog.testing import capture_logs

from sidecar.server.scoreboard import LONGEST, Scoreboard
from sidecar.server.shared_metrics import SharedMetrics, retire
from sidecar.telemetry import Metrics


class Process:
    """The metrics of a process in a slot."""

    def __init__(self, board: Scoreboard, slot: int) -> None:
        self.metrics = Metrics()
        self.shared = SharedMetrics(self.metrics, board, slot)

    def shown(self) -> dict[str, float]:
        """What a scrape of it gets."""
        lines = generate_latest(self.shared).decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name.removeprefix("sidecar_"): float(value) for name, _, value in pairs}


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(2)


def test_whichever_is_asked_shows_the_same(board: Scoreboard) -> None:
    processes = [Process(board, 0), Process(board, 1)]
    for number, process in enumerate(processes, 1):
        metrics = process.metrics
        for _ in range(number):
            metrics.logins.labels("ok").inc()
            metrics.decision_duration.observe(("nginx", "allow"), 0.001)
        metrics.check_requests.inc(("pulse", str(number)))
        metrics.in_flight = number
        metrics.cache_entries.labels("user").set(number)
        metrics.upstream_open.labels("idp").set(number - 1)
        metrics.jwks_last_success.labels("idp").set(number)
        metrics.config_loaded.set(number - 1)
        metrics.config_loaded_at.set(number)
        process.shared.publish()

    one, other = (process.shown() for process in processes)
    assert one == other
    expected = {
        'logins_total{result="ok"}': 3,
        'decision_duration_seconds_count{gateway="nginx",outcome="allow"}': 3,
        'decision_duration_seconds_bucket{gateway="nginx",le="0.0005",outcome="allow"}': 0,
        'decision_duration_seconds_bucket{gateway="nginx",le="0.001",outcome="allow"}': 3,
        'check_requests_total{code="1",dialect="pulse"}': 1,
        'check_requests_total{code="2",dialect="pulse"}': 1,
        "requests_in_flight": 3,
        'cache_entries{cache="user"}': 3,
        'upstream_open{upstream="idp"}': 1,
        'jwks_last_success_timestamp_seconds{authenticator="idp"}': 2,
        "config_last_reload_successful": 0,
        "config_last_reload_success_timestamp_seconds": 1,
    }
    assert {name: one[name] for name in expected} == expected
    assert [value for name, value in one.items() if name.startswith("build_info")] == [1]


def test_a_time_is_no_sum(board: Scoreboard) -> None:
    processes = [Process(board, 0), Process(board, 1)]
    for process in processes:
        process.shared.publish()
    (own,) = processes[0].metrics.sessions_created.collect()
    (began,) = [sample.value for sample in own.samples if sample.name.endswith("_created")]
    assert processes[1].shown()["sessions_created_created"] == pytest.approx(began, abs=1e-3)


def test_who_follows_in_a_slot_counts_on_and_is_itself(board: Scoreboard) -> None:
    dead, other = Process(board, 0), Process(board, 1)
    dead.metrics.logins.labels("ok").inc(4)
    dead.metrics.in_flight = 7
    dead.metrics.config_loaded.set(0)
    dead.shared.publish()
    other.metrics.config_loaded.set(1)

    retire(board, 0)
    shown = other.shown()
    assert (shown['logins_total{result="ok"}'], shown["requests_in_flight"]) == (4, 0)
    assert shown["config_last_reload_successful"] == 1

    successor = Process(board, 0)
    successor.metrics.config_loaded.set(1)
    for _ in range(2):  # however often it publishes
        successor.metrics.logins.labels("ok").inc()
        successor.shared.publish()
    shown = other.shown()
    assert (shown['logins_total{result="ok"}'], shown["requests_in_flight"]) == (6, 0)


def test_a_slot_in_which_nobody_has_begun_adds_nothing(board: Scoreboard) -> None:
    retire(board, 1)
    alone = Process(board, 0)
    alone.metrics.in_flight = 2
    assert alone.shown()["requests_in_flight"] == 2


def test_what_cannot_be_published_is_said_once_and_the_last_stays(board: Scoreboard) -> None:
    process, other = Process(board, 0), Process(board, 1)
    too_long = "x" * LONGEST

    def sign_in() -> tuple[float, float]:
        """What both show then."""
        process.metrics.logins.labels("ok").inc()
        process.shared.publish()
        name = 'logins_total{result="ok"}'
        return process.shown()[name], other.shown()[name]

    with capture_logs() as logged:
        assert sign_in() == (1, 1)
        process.metrics.logins.labels(too_long).inc()
        assert [sign_in(), sign_in()] == [(1, 1), (1, 1)]
        process.metrics.logins.remove(too_long)
        assert [sign_in(), sign_in()] == [(4, 4), (5, 5)]
    assert [(each["event"], each["worker"]) for each in logged] == [
        ("metrics_not_published", 0),
        ("metrics_published_again", 0),
    ]
