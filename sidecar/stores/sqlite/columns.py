"""Several texts in one column, for what is read and written whole: a JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterable

_NONE = "[]"


def encoded(texts: Iterable[str]) -> str:
    """The texts as a column has them."""
    return json.dumps(list(texts))


def decoded(column: str) -> list[str]:
    """The texts in a column."""
    if column == _NONE:  # most are, and parsing would cost a fifth of a look-up
        return []
    texts: list[str] = json.loads(column)
    return texts
