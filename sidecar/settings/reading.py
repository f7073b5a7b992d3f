"""Reads the settings as far as they can be read, so that no fault hides another one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sidecar.errors import Fault
from sidecar.settings.external import KINDS
from sidecar.settings.model import Settings
from sidecar.settings.section import Contradiction

_MISSING = "missing"
_NO_TYPE = {"union_tag_not_found", "union_tag_invalid", "model_attributes_type"}

_Error = dict[str, Any]
_Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """`settings` with what could be read, and something else at the keys that are `unread`."""

    settings: Settings
    faults: tuple[Fault, ...]
    unread: frozenset[str]

    def told(self, contradictions: Iterable[Contradiction]) -> Iterator[Fault]:
        """Those of the contradictions whose keys could all be read."""
        for keys, message in contradictions:
            if not any(_is_below(key, self.unread) for key in keys):
                yield Fault(keys[0], message)


def read(tables: dict[str, Any]) -> Reading:
    """Reads these tables, again and again, until what is at fault has been replaced."""
    rest = deepcopy(tables)
    faults: list[Fault] = []
    unread: set[str] = set()
    while True:
        try:
            return Reading(Settings.model_validate(rest), tuple(faults), frozenset(unread))
        except ValidationError as error:
            errors = [dict(each) for each in error.errors(include_url=False)]
        faults += [_fault(each) for each in errors if not _is_below(_path(_where(each)), unread)]
        replaced: set[str] = set()
        for each in errors:
            if not _is_below(_path(_where(each)), replaced):
                replaced.add(_path(_replace(rest, _where(each), each)))
        unread |= replaced


def _is_below(path: str, others: Iterable[str]) -> bool:
    """Whether it is one of the others, or within one."""
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in others)


def _where(error: _Error) -> _Where:
    where: _Where = error["loc"]
    match where:
        case ("authenticators", name, kind, *rest) if kind in KINDS:  # how the union calls what was meant
            return ("authenticators", name, *rest)
        case _:
            return where


def _path(where: _Where) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")


def _fault(error: _Error) -> Fault:
    where = _where(error)
    path = _path(where)
    if error["type"] == "extra_forbidden":
        return Fault(path, "there is no such key")
    if error["type"] == _MISSING:
        return Fault(path, f"it is missing: write it like {where[-1]} = {json.dumps(_example(error))}")
    if where[0] == "authenticators" and error["type"] in _NO_TYPE:
        return Fault(f"{path}.type", f"it is one of {', '.join(map(json.dumps, KINDS))}")
    return Fault(path, error["msg"].removeprefix("Value error, "))


def _example(error: _Error) -> Any:
    """Of a key that is missing: only tables of authenticators have keys that have to be set."""
    *_, kind, key = error["loc"]
    return next(iter(KINDS[kind].model_fields[key].examples or []))


def _replace(table: Any, where: _Where, error: _Error) -> _Where:
    """Puts the default, or an example, in the place of what is at fault; returns where that was.

    It is the innermost key on the way there: all of a list of values, one key of one in a list of tables.
    """
    key, *rest = where
    inner = table.get(key) if isinstance(table, dict) else table[key]
    if _leads_on(inner, rest, error):
        return (key, *_replace(inner, tuple(rest), error))
    if error["type"] == _MISSING and not rest:
        table[key] = _example(error)
    else:
        del table[key if key in table else f"{key}_file"]
    return (key,)


def _leads_on(inner: object, rest: list[str | int], error: _Error) -> bool:
    match inner, rest:
        case dict(), [key, *more]:
            is_to_be_set = error["type"] == _MISSING and not more
            return is_to_be_set or key in inner or f"{key}_file" in inner
        case list(), [int(position), _, *_]:
            return isinstance(inner[position], dict)
        case _:
            return False
