"""Where settings come from: `SIDECAR_SECTION__KEY` in the environment, over one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sidecar.errors import Fault, SettingsError

PREFIX = "SIDECAR_"
DEFAULT_FILE = Path("sidecar.toml")

_Path = tuple[str, ...]


class _Environment(PydanticBaseSettingsSource):
    """This process's."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Part of the base class's interface."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The nested settings that it holds."""
        return read_environment(os.environ)[0]


class _Layers(BaseSettings):
    """Tables, with the environment over them; what is in them is nobody's concern here."""

    model_config = SettingsConfigDict(extra="allow")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first one wins, key by key."""
        return _Environment(settings_cls), init_settings


def with_environment(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of a file, with the environment over them."""
    # The library takes keywords of its own (`_env_file`): a file's keys are none.
    own = {name: table for name, table in tables.items() if name.startswith("_")}
    layers = _Layers(**{name: table for name, table in tables.items() if name not in own})
    return own | (layers.model_extra or {})


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
