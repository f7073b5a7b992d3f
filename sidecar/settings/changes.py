"""What differs between two settings, by key path: never by value, which may be a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sidecar.settings.model import Settings

FIXED = (
    "server.listen",
    "server.admin_listen",
    "server.workers",
    "server.header_limit",
    "server.max_connections",
    "server.http",
    "server.drain",
    "audit.file",
    "store.url",
)
"""What a process has bound or opened when it starts, and keeps to its end."""


def changes(before: Settings, after: Settings) -> tuple[str, ...]:
    """The keys with another value, as in a fault: `session.lifetime`, `rules[0].roles`.

    A list of tables whose length differs is one change: whose position moved is not told from what is new.
    """
    return tuple(_changes("", before, after))


def with_fixed(settings: Settings, running: Settings) -> Settings:
    """The settings, with what cannot change while a process runs as that one has it."""
    kept: dict[str, dict[str, Any]] = {}
    for section, key in (path.split(".") for path in FIXED):
        kept.setdefault(section, {})[key] = getattr(getattr(running, section), key)
    sections = {name: getattr(settings, name).model_copy(update=values) for name, values in kept.items()}
    return settings.model_copy(update=sections)


def _changes(path: str, before: object, after: object) -> Iterator[str]:
    match before, after:
        case _ if before == after:
            return
        case BaseModel(), BaseModel() if type(before) is type(after):
            yield from _of_tables(path, dict(before), dict(after))
        case [BaseModel(), *_], [BaseModel(), *_] if _are_as_long(before, after):
            for position, pair in enumerate(zip(before, after, strict=True)):
                yield from _changes(f"{path}[{position}]", *pair)
        case _:
            yield path


def _of_tables(path: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for key in {**before, **after}:
        inner = f"{path}.{key}" if path else key
        yield from _changes(inner, before.get(key), after.get(key))


def _are_as_long(before: Sequence[object], after: Sequence[object]) -> bool:
    return len(before) == len(after)
