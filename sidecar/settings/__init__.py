"""Settings: read once, checked whole, frozen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sidecar.errors import SettingsError
from sidecar.settings.changes import FIXED, changes, with_fixed
from sidecar.settings.contradictions import contradictions
from sidecar.settings.external import (
    AskingSettings,
    ExternalSettings,
    IntrospectionSettings,
    JwtSettings,
    UpstreamSettings,
)
from sidecar.settings.model import (
    IDENTITY_FIELDS,
    AuditSettings,
    Ban,
    Checks,
    Limits,
    RuleSettings,
    SessionSettings,
    Settings,
    Tokens,
    TrafficGuard,
)
from sidecar.settings.reading import read
from sidecar.settings.section import Contradiction
from sidecar.settings.sources import find_file, read_environment, read_file, with_environment
from sidecar.settings.surprises import warnings
from sidecar.settings.types import Rate

__all__ = [
    "FIXED",
    "IDENTITY_FIELDS",
    "AskingSettings",
    "AuditSettings",
    "Ban",
    "Checks",
    "Contradiction",
    "Examine",
    "ExternalSettings",
    "IntrospectionSettings",
    "JwtSettings",
    "Limits",
    "Rate",
    "RuleSettings",
    "SessionSettings",
    "Settings",
    "Tokens",
    "TrafficGuard",
    "UpstreamSettings",
    "changes",
    "find_file",
    "load",
    "parse",
    "warnings",
    "with_fixed",
]

Examine = Callable[[Settings], Iterable[Contradiction]]
"""Finds what only those know who work with the settings."""


def load(file: Path | None, examine: Examine | None = None) -> Settings:
    """The settings of this file (None: the defaults), with the environment over them.

    Raises SettingsError with every fault at once, those among them that `examine` finds.
    """
    return parse(read_file(file) if file else {}, examine)


def parse(tables: dict[str, Any], examine: Examine | None = None) -> Settings:
    """The same, from a file that has been read."""
    reading = read(with_environment(tables))
    found = [*contradictions(reading.settings), *(examine(reading.settings) if examine else ())]
    faults = [*reading.faults, *reading.told(found), *read_environment(os.environ)[1]]
    if faults:
        raise SettingsError(faults)
    return reading.settings
