"""Logs: one line an event, whatever a client sent, and nothing secret in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from sidecar.telemetry import CURRENT_REQUEST, CurrentRequest, Metrics, configure_logging
from tests.logs import logging_as_it_was

HOSTILE = 'a\r\nfake="line"\x1b[31m\x00\u2028'


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with logging_as_it_was():
        yield


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    stream = io.StringIO()
    configure_logging("debug", request.param, stream)
    return stream


def test_i100_what_a_client_sent_never_begins_a_line_or_colours_one(stream: io.StringIO) -> None:
    structlog.get_logger().info("event", value=HOSTILE)
    logging.getLogger("uvicorn.error").warning("library %s", HOSTILE.replace("\0", ""))
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert not any(character in stream.getvalue() for character in "\r\x1b\0")


def test_i100_an_exception_that_quotes_a_client_never_begins_a_line(stream: io.StringIO) -> None:
    for logger in (structlog.get_logger(), logging.getLogger("uvicorn.error")):
        try:
            refuse("x\n2026-01-01T00:00:00Z [info     ] forged\x1b[31m")
        except RuntimeError:
            logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert "forged" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def refuse(quoted: str) -> None:
    raise RuntimeError(quoted)


def fail(credential: str) -> None:
    raise RuntimeError(f"{len(credential)} characters")


def test_i100_a_traceback_has_no_local_variables(stream: io.StringIO) -> None:
    planted = "PLANTED-secret"
    try:
        fail(planted)
    except RuntimeError:
        structlog.get_logger().exception("failed")
        logging.getLogger("uvicorn.error").exception("library failed")
    assert "RuntimeError" in stream.getvalue()
    assert "PLANTED" not in stream.getvalue()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"req-1.a:b_c", True),
        (b"", False),
        (b"a b", False),
        (b"x" * 129, False),
        (b"a\r\nb", False),
        (None, False),
    ],
)
def test_a_request_is_called_what_the_proxy_called_it_where_that_is_a_name(
    given: bytes | None, kept: bool
) -> None:
    name = CurrentRequest({"headers": [(b"x-request-id", given)] if given is not None else []})
    assert {str(name) for _ in range(2)} == {str(name)}
    assert (given is not None and str(name) == given.decode()) is kept
    assert str(name).isprintable()
    assert str(name)


def test_every_event_of_a_request_carries_its_name() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    reset = CURRENT_REQUEST.set(CurrentRequest({"headers": [(b"x-request-id", b"abc")]}))
    structlog.get_logger().info("one")
    structlog.get_logger().debug("below the level")
    CURRENT_REQUEST.reset(reset)
    (event,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (event["event"], event["level"], event["request_id"]) == ("one", "info", "abc")


def test_a_duration_is_counted_in_its_bucket() -> None:
    metrics = Metrics()
    for seconds in (0.00001, 0.0003, 0.0003, 99.0):
        metrics.decision_duration.observe(("nginx", "allow"), seconds)
    text = generate_latest(metrics.registry).decode()
    line = 'sidecar_decision_duration_seconds_bucket{{gateway="nginx",le="{}",outcome="allow"}} {}'
    for bound, count in [("5e-05", 1.0), ("0.00025", 1.0), ("0.0005", 3.0), ("5.0", 3.0), ("+Inf", 4.0)]:
        assert line.format(bound, count) in text
    assert 'sidecar_decision_duration_seconds_count{gateway="nginx",outcome="allow"} 4.0' in text
