"""Forms (`application/x-www-form-urlencoded`) that can be read one way only."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from sidecar.errors import InvalidValue

_MOST_FIELDS = 16


def read_fields(body: bytes) -> Mapping[str, str]:
    """The fields. Raises InvalidValue, also where a name is there twice; the message quotes nothing of it."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise InvalidValue("it is no form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidValue("a field is there twice")
    return fields
