"""Settings: read once, checked whole, frozen."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sidecar.errors import Fault, SettingsError
from sidecar.settings.checks import faults, warnings
from sidecar.settings.external import (
    AskingSettings,
    ExternalSettings,
    IntrospectionSettings,
    JwtSettings,
    UpstreamSettings,
)
from sidecar.settings.model import (
    IDENTITY_FIELDS,
    Ban,
    Checks,
    Limits,
    RuleSettings,
    SessionSettings,
    Settings,
    Tokens,
    TrafficGuard,
)
from sidecar.settings.sources import find_file, read_environment, read_file
from sidecar.settings.types import Rate

__all__ = [
    "IDENTITY_FIELDS",
    "AskingSettings",
    "Ban",
    "Checks",
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
    "find_file",
    "load",
    "parse",
    "warnings",
]

_TYPES = {("jwt",), ("introspection",), ("upstream",)}
_NO_TYPE = {"union_tag_not_found", "union_tag_invalid", "model_attributes_type"}
_KEY_IN_MESSAGE = re.compile(r"([a-z_]+): (.*)", re.DOTALL)


def load(file: Path | None) -> Settings:
    """The settings of this file (None: the defaults), with the environment over them.

    Raises SettingsError with every fault at once.
    """
    return parse(read_file(file) if file else {})


def parse(tables: dict[str, Any]) -> Settings:
    """The same, from a file that has been read."""
    # pydantic-settings takes keywords of its own (`_env_file`, `_cli_parse_args`): no file may say them.
    known = {name: table for name, table in tables.items() if name in Settings.model_fields}
    found = [Fault(name, "there is no such key") for name in tables if name not in known]
    found += read_environment(os.environ)[1]
    try:
        settings = Settings(**known)
    except ValidationError as error:
        found = [*(_fault(dict(each)) for each in error.errors(include_url=False)), *found]
    else:
        found = [*faults(settings), *found]
    if found:
        raise SettingsError(found)
    return settings


def _fault(error: dict[str, Any]) -> Fault:
    where = error["loc"]
    if where[0] == "authenticators" and where[2:3] in _TYPES:  # the union's own name for what was meant
        where = (*where[:2], *where[3:])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return Fault(path, "there is no such key")
    if where[0] == "authenticators" and error["type"] in _NO_TYPE:
        return Fault(f"{path}.type", 'it is one of "jwt", "introspection" and "upstream"')
    # A check over several keys of a section names the one at fault first.
    if error["type"] == "value_error" and (named := _KEY_IN_MESSAGE.fullmatch(message)):
        return Fault(f"{path}.{named[1]}", named[2])
    return Fault(path, message)
