"""What the operator sees: metrics of bounded labels, and log events without secrets."""

from __future__ import annotations

import logging
import platform
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from itertools import accumulate
from typing import Any, TextIO
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sidecar import __version__

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class CurrentRequest:
    """The request that is being answered (ASGI's scope), as the log and the audit name it.

    Its `str` is what a proxy called it in X-Request-Id, else a name of our own. Most requests log nothing:
    the header is looked for when something is logged.
    """

    __slots__ = ("_id", "_scope")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        self._id = ""

    @property
    def route(self) -> str:
        """The pattern of the route that answers, never the path that a client chose."""
        return str(getattr(self._scope.get("route"), "path", "none"))

    def __str__(self) -> str:
        if not self._id:
            given = dict(self._scope["headers"]).get(b"x-request-id", b"")
            self._id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else uuid4().hex
        return self._id


CURRENT_REQUEST: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)
"""Set for every request; its name is made when something is logged."""


Labels = tuple[str, ...]

Merge = Callable[[Iterable[float]], float]
"""What becomes of the values that several processes have of one gauge."""


class PlainCounter(Collector):
    """A counter for what happens at every check: the event loop alone writes it, so it takes no lock."""

    def __init__(self, name: str, documentation: str, labels: list[str], registry: CollectorRegistry) -> None:
        self._described = (name, documentation, labels)
        self._values: dict[Labels, int] = {}
        registry.register(self)

    def inc(self, labels: Labels, amount: int = 1) -> None:
        """Counts one, or so many."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def describe(self) -> Iterable[Metric]:
        """What it will collect."""
        name, documentation, labels = self._described
        return [CounterMetricFamily(name, documentation, labels=labels)]

    def collect(self) -> Iterable[Metric]:
        """The values, for a scrape."""
        name, documentation, labels = self._described
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._values.items():
            family.add_metric(values, count)
        return [family]


class PlainHistogram(Collector):
    """A histogram of seconds, as PlainCounter."""

    BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)

    def __init__(self, name: str, documentation: str, labels: list[str], registry: CollectorRegistry) -> None:
        self._described = (name, documentation, labels)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        registry.register(self)

    def observe(self, labels: Labels, seconds: float, times: int = 1) -> None:
        """Notes one duration, or the same so many times."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self.BOUNDS) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self.BOUNDS, seconds)] += times
        self._sums[labels] += seconds * times

    def describe(self) -> Iterable[Metric]:
        """What it will collect."""
        name, documentation, labels = self._described
        return [HistogramMetricFamily(name, documentation, labels=labels)]

    def collect(self) -> Iterable[Metric]:
        """The values, for a scrape."""
        name, documentation, labels = self._described
        family = HistogramMetricFamily(name, documentation, labels=labels)
        bounds = [*map(floatToGoString, self.BOUNDS), "+Inf"]
        for values, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric(values, buckets, self._sums[values])
        return [family]


class Tally:
    """Answers that were given again, as a plain number: nothing is cheaper to count with."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Metrics:
    """Every metric, in a registry of its own. Labels never carry what a client chose.

    `merged_by` says of gauges by their names what several processes show together; all else is summed.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[Labels, str], Tally] = {}
        self.registry = registry = CollectorRegistry()
        self.merged_by: dict[str, Merge] = {}
        self.decisions = PlainCounter(
            "sidecar_decisions_total",
            "Checks decided.",
            ["gateway", "outcome", "reason", "authenticator"],
            registry=registry,
        )
        self.decision_duration = PlainHistogram(
            "sidecar_decision_duration_seconds",
            "Time from a check's arrival to its decision.",
            ["gateway", "outcome"],
            registry=registry,
        )
        self.check_requests = PlainCounter(
            "sidecar_check_requests_total",
            "Requests to the products' endpoints, by outcome.",
            ["dialect", "code"],
            registry=registry,
        )
        self.http_requests = PlainCounter(
            "sidecar_http_requests_total",
            "HTTP requests answered.",
            ["route", "method", "code"],
            registry=registry,
        )
        self.in_flight = 0
        Gauge(
            "sidecar_requests_in_flight", "HTTP requests that are being answered.", registry=registry
        ).set_function(lambda: self.in_flight)
        self.cache_requests = PlainCounter(
            "sidecar_cache_requests_total", "Look-ups in caches.", ["cache", "result"], registry=registry
        )
        self.cache_entries = Gauge(
            "sidecar_cache_entries", "Entries that caches hold.", ["cache"], registry=registry
        )
        self.cache_evictions = PlainCounter(
            "sidecar_cache_evictions_total",
            "Entries that caches dropped for want of room.",
            ["cache"],
            registry=registry,
        )
        self.upstream_requests = PlainCounter(
            "sidecar_upstream_requests_total",
            "Requests to other systems.",
            ["upstream", "result"],
            registry=registry,
        )
        self.upstream_request_duration = PlainHistogram(
            "sidecar_upstream_request_duration_seconds",
            "Time that requests to other systems took.",
            ["upstream"],
            registry=registry,
        )
        self.upstream_open = self._gauge(
            "sidecar_upstream_open",
            "Whether another system is not asked because it failed.",
            ["upstream"],
            merged_by=max,
        )
        self.jwks_refreshes = PlainCounter(
            "sidecar_jwks_refreshes_total",
            "Fetches of another issuer's keys.",
            ["authenticator", "result"],
            registry=registry,
        )
        self.jwks_last_success = self._gauge(
            "sidecar_jwks_last_success_timestamp_seconds",
            "When another issuer's keys were last fetched.",
            ["authenticator"],
            merged_by=max,
        )
        self.store_operations = PlainCounter(
            "sidecar_store_operations_total",
            "Operations on the store.",
            ["backend", "operation", "result"],
            registry=registry,
        )
        self.store_operation_duration = PlainHistogram(
            "sidecar_store_operation_duration_seconds",
            "Time that operations on the store took.",
            ["backend", "operation"],
            registry=registry,
        )
        self.sessions_created = Counter(
            "sidecar_sessions_created_total", "Sessions begun.", registry=registry
        )
        self.sessions_revoked = Counter(
            "sidecar_sessions_revoked_total",
            "Sessions ended before their time by this process.",
            ["reason"],
            registry=registry,
        )
        self.logins = Counter(
            "sidecar_logins_total", "Attempts to sign in by password.", ["result"], registry=registry
        )
        self.rate_limited = Counter(
            "sidecar_rate_limited_total",
            "Requests refused by a limit or a ban.",
            ["scope"],
            registry=registry,
        )
        self.forwarded_rejected = Counter(
            "sidecar_forwarded_rejected_total",
            "Checks whose peer is not trusted or whose metadata cannot be read one way.",
            ["reason"],
            registry=registry,
        )
        self.audit_dropped = Counter(
            "sidecar_audit_dropped_total", "Lines of the audit that could not be written.", registry=registry
        )
        # A process that is younger than the last reload has read nothing itself.
        self.config_loaded = self._gauge(
            "sidecar_config_last_reload_successful",
            "Whether the settings were good when they were last read.",
            merged_by=min,
        )
        self.config_loaded_at = self._gauge(
            "sidecar_config_last_reload_success_timestamp_seconds",
            "When good settings were last read.",
            merged_by=min,
        )
        self._gauge("sidecar_build_info", "Always 1.", ["version", "python"], merged_by=max).labels(
            __version__, platform.python_version()
        ).set(1)

    def _gauge(self, name: str, documentation: str, labels: Iterable[str] = (), *, merged_by: Merge) -> Gauge:
        """A gauge of which the sum over several processes says nothing."""
        self.merged_by[name] = merged_by
        return Gauge(name, documentation, labels, registry=self.registry)

    def tally(self, decision: Labels, method: str) -> Tally:
        """What counts the answers to such a decision, asked with this method, that are given again."""
        tally = self._tallies.get((decision, method))
        if tally is None:
            tally = self._tallies[decision, method] = Tally()
        return tally

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it."""
        self.settle()
        return generate_latest(self.registry)

    def settle(self) -> None:
        """Adds up what was tallied. To be called before the registry is read.

        Such an answer takes a few microseconds, which nobody measures: it is in the first bucket of the
        histogram, and nothing in its sum.
        """
        for (decision, method), tally in self._tallies.items():
            count, tally.count = tally.count, 0
            if count:
                gateway, outcome, *_ = decision
                self.decisions.inc(decision, count)
                self.decision_duration.observe((gateway, outcome), 0.0, count)
                self.http_requests.inc((f"/check/{gateway}", method, "200"), count)
                self.cache_requests.inc(("replay", "hit"), count)

    def forget(self, system: str) -> None:
        """Shows no more how another system is: it is asked no more. What was counted stays."""
        self.upstream_open.remove(system)
        self.jwks_last_success.remove(system)
        for cache in (system, f"{system}:refused"):
            self.cache_entries.remove(cache)

    def store_observer(self, backend: str) -> Callable[[str, str, float], None]:
        """What a store reports its operations to: a name, ok or error, and seconds."""

        def observe(operation: str, result: str, seconds: float) -> None:
            self.store_operations.inc((backend, operation, result))
            self.store_operation_duration.observe((backend, operation), seconds)

        return observe


def configure_logging(level: str, format: str, stream: TextIO = sys.stderr) -> None:
    """One event a line on `stream`; what a client sent is quoted, so that it cannot look like a line."""
    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks without local variables, which hold credentials.
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if format == "json"
        else [_escape_message, _console(stream)]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_library_logs(shared, renderer, level, stream)


def _console(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), repr_native_str=True, exception_formatter=_write_traceback
    )


def _write_traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Indented, so that no line of it looks like an event: an exception may quote what a client sent."""
    plain = StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    lines = plain.getvalue().strip().splitlines()
    stream.writelines("\n    " + _CONTROL.sub(_escaped, line) for line in lines)


def _escaped(control: re.Match[str]) -> str:
    return repr(control[0])[1:-1]


def _escape_message(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Our own messages are constants; a library's may quote what a client sent."""
    event["event"] = str(event["event"]).encode("unicode_escape").decode("ascii")
    return event


def _add_request_id(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if request := CURRENT_REQUEST.get():
        event["request_id"] = str(request)
    return event


@contextmanager
def overheard() -> Iterator[list[structlog.typing.EventDict]]:
    """What the parts log meanwhile, from debug up. Of it, only faults of our own go where they always go."""
    events: list[structlog.typing.EventDict] = []

    def note(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        events.append(dict(event))
        if "exc_info" not in event:
            raise structlog.DropEvent
        return event

    before = structlog.get_config()
    structlog.configure(
        processors=[note, *before["processors"]], wrapper_class=structlog.make_filtering_bound_logger("debug")
    )
    try:
        yield events
    finally:
        structlog.configure(**before)


def _adopt_library_logs(
    shared: list[structlog.typing.Processor],
    renderer: list[structlog.typing.Processor],
    level: str,
    stream: TextIO,
) -> None:
    """What libraries log through the standard library appears in the same form, from warnings up."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
