"""What the operator sees: metrics of bounded labels, and log events without secrets."""

from __future__ import annotations

import logging
import platform
import re
import sys
from contextvars import ContextVar
from typing import TextIO
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidecar import __version__

_SHORT_TIMES = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)


_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestId:
    """Names a request in the log: what a proxy called it in X-Request-Id, else a name of our own."""

    __slots__ = ("_given", "_id")

    def __init__(self, given: bytes | None = None) -> None:
        self._given = given
        self._id = ""

    def __str__(self) -> str:
        if not self._id:
            given = self._given
            self._id = given.decode("ascii") if given and _REQUEST_ID.fullmatch(given) else uuid4().hex
        return self._id


CURRENT_REQUEST: ContextVar[RequestId | None] = ContextVar("current_request", default=None)
"""Set for every request; its name is made when something is logged."""


class Metrics:
    """Every metric, in a registry of its own. Labels never carry what a client chose."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.decisions = Counter(
            "sidecar_decisions_total",
            "Checks decided.",
            ["gateway", "outcome", "reason", "authenticator"],
            registry=registry,
        )
        self.decision_duration = Histogram(
            "sidecar_decision_duration_seconds",
            "Time from a check's arrival to its decision.",
            ["gateway", "outcome"],
            buckets=_SHORT_TIMES,
            registry=registry,
        )
        self.http_requests = Counter(
            "sidecar_http_requests_total",
            "HTTP requests answered.",
            ["route", "method", "code"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "sidecar_requests_in_flight", "HTTP requests that are being answered.", registry=registry
        )
        self.cache_requests = Counter(
            "sidecar_cache_requests_total", "Look-ups in caches.", ["cache", "result"], registry=registry
        )
        self.cache_entries = Gauge(
            "sidecar_cache_entries", "Entries that caches hold.", ["cache"], registry=registry
        )
        self.cache_evictions = Counter(
            "sidecar_cache_evictions_total",
            "Entries that caches dropped for want of room.",
            ["cache"],
            registry=registry,
        )
        self.store_operations = Counter(
            "sidecar_store_operations_total",
            "Operations on the store.",
            ["backend", "operation", "result"],
            registry=registry,
        )
        self.store_operation_duration = Histogram(
            "sidecar_store_operation_duration_seconds",
            "Time that operations on the store took.",
            ["backend", "operation"],
            buckets=_SHORT_TIMES,
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
        self.config_loaded = Gauge(
            "sidecar_config_last_reload_successful",
            "Whether the settings were good when they were last read.",
            registry=registry,
        )
        self.config_loaded_at = Gauge(
            "sidecar_config_last_reload_success_timestamp_seconds",
            "When good settings were last read.",
            registry=registry,
        )
        Gauge("sidecar_build_info", "Always 1.", ["version", "python"], registry=registry).labels(
            __version__, platform.python_version()
        ).set(1)

    def store_observer(self, backend: str) -> StoreObserver:
        """What a store reports its operations to."""
        return StoreObserver(self, backend)


class StoreObserver:
    """Counts and times the operations of one store. Looks its label sets up once."""

    def __init__(self, metrics: Metrics, backend: str) -> None:
        self._metrics = metrics
        self._backend = backend
        self._counts: dict[tuple[str, str], Counter] = {}
        self._durations: dict[str, Histogram] = {}

    def __call__(self, operation: str, result: str, seconds: float) -> None:
        """Notes one operation; `result` is ok or error."""
        count = self._counts.get((operation, result))
        if count is None:
            count = self._metrics.store_operations.labels(self._backend, operation, result)
            self._counts[operation, result] = count
        duration = self._durations.get(operation)
        if duration is None:
            duration = self._metrics.store_operation_duration.labels(self._backend, operation)
            self._durations[operation] = duration
        count.inc()
        duration.observe(seconds)


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
        colors=stream.isatty(), repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
    )


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
