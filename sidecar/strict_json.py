"""JSON objects that can be read one way only (RFC 8259, RFC 7493)."""

from __future__ import annotations

import json
from math import isinf
from typing import Any

from sidecar.errors import InvalidValue

DEEPEST = 64
"""Levels of nesting. Whoever works on a value level by level never comes to the end of Python's stack."""


def read_object(text: bytes) -> dict[str, Any]:
    """The object that the text is. Raises InvalidValue, whose message says nothing of what was in it.

    Refused besides what is no object: invalid UTF-8, a byte-order mark, a member that is there twice,
    NaN and what is as good as infinite, half a surrogate pair, and nesting that nobody means.
    """
    try:
        value = _DECODER.decode(text.decode("utf-8"))
        if text.count(b"{") + text.count(b"[") > DEEPEST:
            _refuse_deeper(value, DEEPEST)
        if b"\\u" in text:  # half a surrogate pair cannot be written again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InvalidValue("it is not JSON that can be read one way") from None
    if not isinstance(value, dict):
        raise InvalidValue("it is not a JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is no number")


def _finite(number: str) -> float:
    value = float(number)
    if isinf(value):
        raise ValueError("it is as good as infinite")
    return value


# Made once: a token is two objects, and making this takes as long as reading one.
_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refused, parse_float=_finite)


def _refuse_deeper(value: object, levels: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise ValueError("it is nested too deeply")
    for each in value.values() if isinstance(value, dict) else value:
        _refuse_deeper(each, levels - 1)
