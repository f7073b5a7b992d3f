"""What commands print: documents and tables on standard output, remarks on standard error.

A record is one thing as a mapping, the same for both: JSON prints it whole, a table chooses columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import click

from sidecar.records import Account

Record = Mapping[str, object]

_END_OF_TIME = datetime.max.replace(tzinfo=UTC, microsecond=0)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else."
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a record; None is never."""

    seconds: float | None

    def iso(self) -> str | None:
        """ISO 8601 in UTC, to the second."""
        return None if self.seconds is None else f"{self._utc(self.seconds):%Y-%m-%dT%H:%M:%SZ}"

    def __str__(self) -> str:
        return "never" if self.seconds is None else f"{self._utc(self.seconds):%Y-%m-%d %H:%MZ}"

    @staticmethod
    def _utc(seconds: float) -> datetime:
        """The last moment that a date can name stands for all that are later."""
        return datetime.fromtimestamp(min(seconds, _END_OF_TIME.timestamp()), UTC)


def print_list(records: Sequence[Record], columns: Sequence[str], *, as_json: bool) -> None:
    """An array of objects, or a table of these columns."""
    if as_json:
        _print_document(records)
        return
    rows = [[cell(record[column]) for column in columns] for record in records]
    _print_table(rows, [_heading(column) for column in columns])


def print_one(record: Record, *, as_json: bool) -> None:
    """One object, or its fields line by line."""
    if as_json:
        _print_document(record)
        return
    _print_table([[_heading(field), cell(value)] for field, value in record.items()])


def remark(message: str) -> None:
    """A message to whoever runs the command."""
    click.echo(message, err=True)


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_document(document: Any) -> None:
    # ASCII, whatever the terminal's encoding: no name that the store holds can make this fail.
    click.echo(json.dumps(document, indent=2, default=_plain))


def _plain(value: object) -> object:
    match value:
        case Moment():
            return value.iso()
        case Account():
            return asdict(value)
        case _:
            raise TypeError(type(value))


def _print_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> None:
    from tabulate import tabulate

    style = "simple" if headings else "plain"
    # Numbers are ids, phones and names here: they stay as they are.
    click.echo(tabulate(rows, headings, tablefmt=style, disable_numparse=True))


def _heading(field: str) -> str:
    """`last_used_at` is "last used"."""
    return field.removesuffix("_at").replace("_", " ")


def cell(value: object) -> str:
    """A value as text, as people read it and as the options take it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(cell, value))
        case Account():
            flags = [flag for flag in ("admin", "primary") if getattr(value, flag)]
            return ":".join([value.id, value.name, *flags])
        case _:
            return str(value)
