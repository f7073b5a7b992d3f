"""Where settings come from: `SIDECAR_SECTION__KEY` in the environment, over one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from sidecar.errors import Fault, SettingsError

PREFIX = "SIDECAR_"
DEFAULT_FILE = Path("sidecar.toml")


class Environment(PydanticBaseSettingsSource):
    """Names with `__` in them, and no others.

    Kubernetes injects `SIDECAR_SERVICE_HOST` and the like beside a Service named sidecar.
    """

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str] | None = None) -> None:
        super().__init__(settings_cls)
        self._environ = os.environ if environ is None else environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Part of the base class's interface."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The nested settings that the environment holds."""
        found: dict[str, Any] = {}
        for name, value in self._environ.items():
            if name.startswith(PREFIX) and "__" in name:
                *sections, key = name.removeprefix(PREFIX).lower().split("__")
                table = found
                for section in sections:
                    table = table.setdefault(section, {})
                table[key] = value
        return found


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
