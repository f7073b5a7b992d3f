"""What the audit has taken, for tests in which nobody writes it."""

from __future__ import annotations

from queue import Empty
from typing import Any

from sidecar.audit import Audit, _readable
from sidecar.settings import AuditSettings
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock


def audit(file: object = "", clock: ManualClock | None = None, metrics: Metrics | None = None) -> Audit:
    """An audit that is written when it is used as a context."""
    return Audit(AuditSettings(file=str(file)), clock or ManualClock(), metrics or Metrics())


def taken(audit: Audit) -> list[dict[str, Any]]:
    """The lines that nobody has written, as they would be written; they are gone then."""
    lines: list[dict[str, Any]] = []
    while True:
        try:
            line = audit._queue.get_nowait()
        except Empty:
            return lines
        assert line is not None
        lines.append(dict(_readable(line)))
