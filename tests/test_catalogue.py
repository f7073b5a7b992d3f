"""Each of the hundred cases has a test that is named after it, and docs/security.md says where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs/security.md"
CASES = range(1, 101)

_TEST = re.compile(r"def test_((?:[a-i]\d{2,3}_(?:to_)?)+)")
_NUMBER = re.compile(r"[a-i](\d+)_(to_)?")
_ROW = re.compile(r"^\| (\d+) \| (.+) \| `(tests/\w+\.py)` \|$", re.MULTILINE)


def numbers(prefix: str) -> Iterator[int]:
    """The cases in the beginning of a test's name: `a06_a08_` is two, `b17_to_b33_` all from 17 to 33."""
    found = [(int(number), bool(to)) for number, to in _NUMBER.findall(prefix)]
    yield from (number for number, _ in found)
    for (first, to), (last, _) in pairwise(found):
        if to:
            yield from range(first, last)


def files() -> dict[int, set[str]]:
    """In which files each case has a test."""
    held: dict[int, set[str]] = {case: set() for case in CASES}
    for file in TESTS.glob("test_security_[a-i]_*.py"):
        for prefix in _TEST.findall(file.read_text()):
            for number in numbers(prefix):
                held[number].add(f"tests/{file.name}")
    return held


def test_every_case_has_a_test() -> None:
    assert [case for case, where in files().items() if not where] == []


def test_the_table_names_every_case_once_and_the_file_that_holds_it() -> None:
    rows = _ROW.findall(TABLE.read_text())
    assert [int(number) for number, _, _ in rows] == list(CASES)
    held = files()
    assert [number for number, _, file in rows if file not in held[int(number)]] == []
