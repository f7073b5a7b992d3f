"""The log as the settings want it, and what in them might surprise."""

from __future__ import annotations

import sys

import structlog

from sidecar.settings import Settings, warnings
from sidecar.telemetry import configure_logging

log = structlog.get_logger(__name__)


def set_up_log(settings: Settings) -> None:
    """Logs from now on as these settings say."""
    configure_logging(settings.log.level, settings.log.format, sys.stderr)


def begin_log(settings: Settings) -> None:
    """The same; their warnings first."""
    set_up_log(settings)
    for warning in warnings(settings):
        log.warning("config_warning", path=warning.path, message=warning.message)
