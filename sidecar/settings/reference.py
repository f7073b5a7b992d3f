"""Settings written as TOML: the commented reference, and the ones in force."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.settings.model import Settings
from sidecar.settings.section import Table

_WIDTH = 110

_PREFACE = """\
Sidecar's settings, every key at its default. Keep what you change and delete the rest.

Each key can also be set as SIDECAR_SECTION__KEY in the environment, which wins over this file. A section's
name with nothing behind it (SIDECAR_RULES__, SIDECAR_IDENTITY_HEADERS__) sets the whole section, as JSON. A
key that may hold a secret can be given as KEY_file instead: the path of a file that holds it."""


def reference() -> str:
    """The commented starter file. Loading it gives the defaults."""
    parts = ["\n".join(_comment(_PREFACE))]
    for name, field in Settings.model_fields.items():
        parts.append("\n".join(_section(name, field)))
    return "\n\n".join(parts) + "\n"


def effective(settings: Settings) -> str:
    """The settings in force as TOML, with secrets masked."""
    values = settings.model_dump(mode="json")
    values["session"]["cookie_name"] = settings.session.cookie
    rules = values.pop("rules")
    tables = ["\n".join(_mapping(name, value)) for name, value in values.items()]
    tables += ["\n".join(["[[rules]]", *_lines(rule)]) for rule in rules]
    return "\n\n".join(tables) + "\n"


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    default = field.get_default()
    if name == "rules":
        yield from _comment(field.description or "")
        yield from _documented("[rules]", default[0])
    else:
        yield from _comment(field.description or type(default).__doc__ or "")
        yield from _documented(name, default) if isinstance(default, BaseModel) else _mapping(name, default)


def _mapping(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    yield from _lines(values)


def _documented(name: str, section: BaseModel) -> Iterator[str]:
    """The section's own keys, and then the tables within it."""
    fields = type(section).model_fields.items()
    values = section.model_dump(mode="json")
    tables = [key for key, _ in fields if isinstance(getattr(section, key), Table)]
    if len(tables) < len(values):
        yield f"[{name}]"
    for key, field in fields:
        if key not in tables:
            yield from _comment(field.description or "")
            yield f"{key} = {_value(values[key])}"
    for key in tables:
        yield ""
        yield from _comment(getattr(section, key).__doc__ or "")
        yield from _documented(f"{name}.{key}", getattr(section, key))


def _comment(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield "#"
        for line in textwrap.wrap(paragraph, _WIDTH - 2):
            yield f"# {line}"


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.islower() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_lines(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)
