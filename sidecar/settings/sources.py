"""Where settings come from: `SIDECAR_SECTION__KEY` in the environment, over one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.errors import Fault, SettingsError

PREFIX = "SIDECAR_"
DEFAULT_FILE = Path("sidecar.toml")

_Path = tuple[str, ...]


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables, with others over them, key by key."""
    tables = dict(below)
    for key, over in above.items():
        under = tables.get(key)
        are_tables = isinstance(under, dict) and isinstance(over, dict)
        tables[key] = overlaid(tables[key], over) if are_tables else over
    return tables


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Fault]]:
    """The nested settings, and a fault for each name of what another one sets already: it is left out.

    They are names with `__` in them, and no others: Kubernetes injects `SIDECAR_SERVICE_HOST` and the like
    beside a Service named sidecar.
    """
    tables: dict[str, Any] = {}
    faults: list[Fault] = []
    names: dict[_Path, str] = {}
    # A section comes before its keys, so that a name contradicts only names before it.
    for path, name in sorted((_path(name), name) for name in environ if _is_ours(name)):
        if earlier := next((outer for outer in _outer(path) if outer in names), None):
            faults.append(
                Fault(".".join(earlier), f"{names[earlier]} sets all of it: leave it out, or {name}")
            )
            continue
        names[path] = name
        table = tables
        for section in path[:-1]:
            table = table.setdefault(section, {})
        table[path[-1]] = environ[name]
    return tables, faults


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and "__" in name


def _path(name: str) -> _Path:
    """`SIDECAR_SERVER__LISTEN` is server.listen, and `SIDECAR_RULES__` all of rules."""
    return tuple(name.removeprefix(PREFIX).lower().removesuffix("__").split("__"))


def _outer(path: _Path) -> Iterator[_Path]:
    """The sections that the path leads through, and itself."""
    for length in range(1, len(path) + 1):
        yield path[:length]


def find_file(given: Path | None) -> Path | None:
    """`--config`, else `$SIDECAR_CONFIG`, else `./sidecar.toml` where it exists, else none."""
    if given is not None:
        return given
    if named := os.environ.get("SIDECAR_CONFIG"):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_file(path: Path) -> dict[str, Any]:
    """The file's tables. Raises SettingsError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([Fault("", f"{path} cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise SettingsError([Fault("", f"{path} is not UTF-8 text")]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([Fault("", f"{path} is not TOML: {error}")]) from None
